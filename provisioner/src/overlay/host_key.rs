//! The ssh host key of a node: made once, kept in `STATE/ssh-host-keys/NODE-ID` with mode 0600 (its
//! directory 0700).
//!
//! The file is an OpenSSH private key (`PROTOCOL.key` of OpenSSH): ring makes the ed25519 key,
//! the few fields around it are written here, because the sshd of Debian 12 does not read
//! ring's PKCS #8 form.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use api::ids::NodeId;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};

/// A host key.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Private key file, without its last newline.
    pub private: String,
    /// Public key line, without newline.
    pub public: String,
}

impl std::fmt::Debug for HostKey {
    /// Without the private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file of the key directory.
    #[error("cannot {operation} the ssh host key {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no randomness.
    #[error("cannot make an ssh host key: the system has no randomness")]
    Random,
}

/// Where host keys are.
#[derive(Debug, Clone)]
pub struct HostKeys {
    directory: PathBuf,
}

impl HostKeys {
    /// Keys in `STATE/ssh-host-keys`; the directory is made with the first key.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("ssh-host-keys") }
    }

    /// The key of a node, made now if there is none.
    ///
    /// # Errors
    /// See [`HostKeyError`].
    pub fn get(&self, node: NodeId) -> Result<HostKey, HostKeyError> {
        let path = self.directory.join(node.to_string());
        let failed =
            |operation, source| HostKeyError::File { operation, path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let public = public_line(&text);
                let damaged = || {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is no ed25519 key; remove the file",
                    )
                };
                let public = public.ok_or_else(|| failed("read", damaged()))?;
                return Ok(HostKey { private: text.trim_end().to_owned(), public });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", error)),
        }
        let key = generate()?;
        self.write(&path, &key).map_err(|source| failed("write", source))?;
        Ok(key)
    }

    /// Forgets the key of a node that was deleted.
    ///
    /// # Errors
    /// [`HostKeyError::File`].
    pub fn remove(&self, node: NodeId) -> Result<(), HostKeyError> {
        let path = self.directory.join(node.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HostKeyError::File { operation: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Temporary name, sync, rename, sync of the directory: a key that a node has
    /// seen is never lost.
    fn write(&self, path: &Path, key: &HostKey) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(key.private.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(&self.directory)?.sync_all()
    }
}

fn generate() -> Result<HostKey, HostKeyError> {
    let random = SystemRandom::new();
    let (mut seed, mut check) = ([0; 32], [0; 4]);
    random.fill(&mut seed).map_err(|_| HostKeyError::Random)?;
    random.fill(&mut check).map_err(|_| HostKeyError::Random)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| HostKeyError::Random)?;
    let mut public = [0; 32];
    public.copy_from_slice(pair.public_key().as_ref());
    Ok(encode(&seed, &public, check))
}

const KIND: &[u8] = b"ssh-ed25519";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Writes the private key file and the public line.
fn encode(seed: &[u8; 32], public: &[u8; 32], check: [u8; 4]) -> HostKey {
    let blob = [string(KIND), string(public)].concat();
    let pair = [&seed[..], &public[..]].concat();
    let mut private =
        [&check[..], &check[..], &string(KIND), &string(public), &string(&pair), &string(b"")]
            .concat();
    let padding = (1..=8).take(private.len().next_multiple_of(8) - private.len());
    private.extend(padding);
    let whole = [
        MAGIC,
        &string(b"none"),
        &string(b"none"),
        &string(b""),
        &1_u32.to_be_bytes(),
        &string(&blob),
        &string(&private),
    ]
    .concat();
    let encoded = STANDARD.encode(whole);
    let mut text = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (index, character) in encoded.chars().enumerate() {
        if index > 0 && index % 70 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END OPENSSH PRIVATE KEY-----");
    HostKey { private: text, public: format!("ssh-ed25519 {}", STANDARD.encode(blob)) }
}

/// A string of RFC 4251: its length, then its bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// The public line of a private key file: the public blob stands in it in the clear.
fn public_line(private: &str) -> Option<String> {
    let body: String = private.lines().filter(|line| !line.starts_with("-----")).collect();
    let whole = STANDARD.decode(body).ok()?;
    let prefix =
        [MAGIC, &string(b"none"), &string(b"none"), &string(b""), &1_u32.to_be_bytes()].concat();
    let rest = whole.strip_prefix(prefix.as_slice())?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let blob = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    blob.starts_with(&string(KIND)).then(|| format!("ssh-ed25519 {}", STANDARD.encode(blob)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_the_same_and_is_private() {
        let state = tempfile::tempdir().unwrap();
        let keys = HostKeys::new(state.path());
        let id = NodeId(uuid::Uuid::from_u128(1));
        let first = keys.get(id).unwrap();
        assert_eq!(keys.get(id).unwrap(), first);
        assert_ne!(keys.get(NodeId(uuid::Uuid::from_u128(2))).unwrap(), first);
        let path = state.path().join("ssh-host-keys").join(id.to_string());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        keys.remove(id).unwrap();
        assert_ne!(keys.get(id).unwrap(), first);
    }

    #[test]
    fn the_format_is_that_of_openssh() {
        // Read back with `ssh-keygen -y` of OpenSSH 9.2 when this was written.
        let seed = [7; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let key = encode(&seed, pair.public_key().as_ref().try_into().unwrap(), [1, 2, 3, 4]);
        expect_test::expect![[r#"
            -----BEGIN OPENSSH PRIVATE KEY-----
            b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
            QyNTUxOQAAACDqSmxj4pxSCr71UHsTLsX5lUd2rr6+e5JCHuppFEbSLAAAAIgBAgMEAQID
            BAAAAAtzc2gtZWQyNTUxOQAAACDqSmxj4pxSCr71UHsTLsX5lUd2rr6+e5JCHuppFEbSLA
            AAAEAHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHB+pKbGPinFIKvvVQexMuxfmV
            R3auvr57kkIe6mkURtIsAAAAAAECAwQF
            -----END OPENSSH PRIVATE KEY-----
            ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs
        "#]]
        .assert_eq(&format!("{}\n{}\n", key.private, key.public));
        assert_eq!(public_line(&key.private), Some(key.public));
    }
}

//! Why a program that is there cannot be executed: the kernel says "no such file" and means the
//! interpreter of a script (execve(2)) or the dynamic loader of a program (elf(5), `PT_INTERP`).
//!
//! It is asked for by the process that could not become the program, as the user and under the
//! seccomp filter. What it reads is an image's, so every length is bounded.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

/// Bytes of a script that the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: usize = 256;

/// Scripts whose interpreters are scripts, at most, as the kernel has it.
const MAX_DEPTH: u32 = 5;

/// Longest path of a loader, bytes (`PATH_MAX`).
const MAX_LOADER_BYTES: u64 = 4_096;

/// Program headers looked at: a program has about a dozen.
const MAX_HEADERS: u64 = 64;

/// What a program needs and cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingInterpreter {
    /// The interpreter of a script is not there.
    #[error("script {}: its interpreter {} is not in the image{hint}", script.display(), interpreter.display())]
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// As its first line names it.
        interpreter: PathBuf,
        /// What mends it, where that is known.
        hint: &'static str,
    },
    /// The interpreter of a script is there and no program.
    #[error("script {}: its interpreter {} is not executable for the user", script.display(), interpreter.display())]
    NotExecutable {
        /// The script.
        script: PathBuf,
        /// As its first line names it.
        interpreter: PathBuf,
    },
    /// The first line of a script is `#!` alone.
    #[error("script {}: its #! line names no interpreter, such as #!/bin/sh", .0.display())]
    Nameless(PathBuf),
    /// The dynamic loader of a program is not there.
    #[error(
        "program {}: its loader {} is not in the image: it was built for another C library than the image has",
        program.display(), loader.display()
    )]
    NoLoader {
        /// The program.
        program: PathBuf,
        /// As it names it.
        loader: PathBuf,
    },
}

/// The first thing that is missing for `program`, which the kernel did not execute because of
/// `errno`; `None` if that cannot be told.
#[must_use]
pub fn blamed(program: &Path, errno: &io::Error) -> Option<MissingInterpreter> {
    let mut program = program.to_owned();
    for _ in 0..MAX_DEPTH {
        // A pipe would make it wait for somebody who writes.
        let file = program.is_file().then(|| File::open(&program).ok())??;
        let head = read_at(&file, 0, HEAD_BYTES as u64)?;
        let Some(line) = head.strip_prefix(b"#!") else {
            // Of a program that is not executed for another reason the loader was never looked for.
            let is_missing = errno.raw_os_error() == Some(libc::ENOENT);
            let loader = loader(&file, &head).filter(|_| is_missing)?;
            return (!loader.exists()).then_some(MissingInterpreter::NoLoader { program, loader });
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\0'));
        let Some(name) = words.find(|word| !word.is_empty() && *word != b"\r") else {
            return Some(MissingInterpreter::Nameless(program));
        };
        let interpreter = PathBuf::from(OsStr::from_bytes(name));
        let script = program;
        if !interpreter.exists() {
            let (interpreter, hint) = match name.strip_suffix(b"\r") {
                Some(name) => (
                    PathBuf::from(OsStr::from_bytes(name)),
                    " by that name: the line ends with CR LF; save the script with LF alone",
                ),
                None => (interpreter, ""),
            };
            return Some(MissingInterpreter::NoInterpreter { script, interpreter, hint });
        }
        if interpreter.is_dir() || !is_executable(&interpreter) {
            return Some(MissingInterpreter::NotExecutable { script, interpreter });
        }
        program = interpreter;
    }
    None
}

/// As the user that this process is.
pub(super) fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The dynamic loader that a 64-bit little-endian ELF program names.
fn loader(file: &File, head: &[u8]) -> Option<PathBuf> {
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (start, size, count) = (u64_at(head, 32)?, u64::from(u16_at(head, 54)?), u16_at(head, 56)?);
    for number in 0..u64::from(count).min(MAX_HEADERS) {
        let header = read_at(file, start.checked_add(number * size)?, 56)?;
        // PT_INTERP
        if u32_at(&header, 0)? != 3 {
            continue;
        }
        let path = read_at(file, u64_at(&header, 8)?, u64_at(&header, 32)?.min(MAX_LOADER_BYTES))?;
        let path = path.split(|byte| *byte == 0).next()?;
        return (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)));
    }
    None
}

/// Up to so many bytes from a place of a file.
fn read_at(file: &File, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(bytes).ok()?];
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.checked_add(filled as u64)?) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(_) => return None,
        }
    }
    buffer.truncate(filled);
    Some(buffer)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        }

        fn said(&self, name: &str, content: impl AsRef<[u8]>) -> String {
            self.said_of(libc::ENOENT, name, content)
        }

        fn said_of(&self, errno: i32, name: &str, content: impl AsRef<[u8]>) -> String {
            let errno = io::Error::from_raw_os_error(errno);
            let said = blamed(&self.write(name, content), &errno).map(|blamed| blamed.to_string());
            said.unwrap_or_default().replace(&self.0.path().display().to_string(), "")
        }
    }

    #[test]
    fn the_interpreter_of_a_script_is_named() {
        let directory = Directory(tempfile::tempdir().unwrap());
        let is = "script /x: its interpreter /bin/no-such-zsh is not in the image";
        assert_eq!(directory.said("x", "#!/bin/no-such-zsh\necho\n"), is);
        assert_eq!(directory.said("x", "#! /bin/no-such-zsh -e"), is);
        let windows = directory.said("x", "#!/bin/sh\r\necho\r\n");
        assert!(windows.starts_with(
            "script /x: its interpreter /bin/sh is not in the image by that name: the line"
        ));
        assert_eq!(
            directory.said("x", "#!\n"),
            "script /x: its #! line names no interpreter, such as #!/bin/sh"
        );
        assert_eq!(
            directory.said("x", "#!/etc\n"),
            "script /x: its interpreter /etc is not executable for the user"
        );
        // Of an interpreter that is a script itself.
        let inner = directory.write("inner", "#!/bin/no-such-zsh\n");
        assert_eq!(
            directory.said("x", format!("#!{}\n", inner.display())),
            "script /inner: its interpreter /bin/no-such-zsh is not in the image"
        );
        let own = directory.0.path().join("x");
        assert_eq!(directory.said("x", format!("#!{}\n", own.display())), "");
        assert_eq!(directory.said("x", "#!/bin/sh\n"), "");
        assert_eq!(directory.said("x", "text"), "");
        assert_eq!(blamed(Path::new("/no/such"), &io::ErrorKind::NotFound.into()), None);
    }

    /// An ELF file with one program header.
    fn elf(kind: u32, loader: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file[72..80].copy_from_slice(&120_u64.to_le_bytes());
        file[96..104].copy_from_slice(&(loader.len() as u64).to_le_bytes());
        file.extend_from_slice(loader);
        file
    }

    #[test]
    fn the_loader_of_a_program_is_named() {
        let directory = Directory(tempfile::tempdir().unwrap());
        let said = directory.said("x", elf(3, b"/lib/no-such-loader.so\0"));
        assert!(
            said.starts_with("program /x: its loader /lib/no-such-loader.so is not in the image: "),
            "{said}"
        );
        for errno in [libc::EACCES, libc::E2BIG, libc::ENOEXEC] {
            assert_eq!(directory.said_of(errno, "x", elf(3, b"/lib/no-such-loader.so\0")), "");
        }
        for other in [
            elf(1, b"/lib/no-such-loader.so\0"),
            elf(3, b"/\0"),
            elf(3, b""),
            elf(3, b"/x")[..60].to_vec(),
        ] {
            assert_eq!(directory.said("x", other), "");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(mut bytes: Vec<u8>, at in 0..8_usize) {
            let mut file = elf(3, b"/lib/x\0");
            bytes.truncate(100);
            let at = at * 8;
            let end = (at + bytes.len()).min(file.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
            let directory = Directory(tempfile::tempdir().unwrap());
            let _ = directory.said("x", file);
        }
    }
}

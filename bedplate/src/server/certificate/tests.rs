//! Good pairs, and those that change nothing.

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

/// Writes a self-signed certificate for a name, and returns its DER.
fn write(files: &CertificateFiles, name: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

fn files(directory: &TempDir) -> CertificateFiles {
    CertificateFiles {
        certificate: directory.path().join("api.pem"),
        key: directory.path().join("api.key"),
    }
}

fn words(files: &CertificateFiles) -> String {
    rest::causes(&files.load().unwrap_err())
}

#[test]
fn a_pair_is_read_and_what_is_none_is_refused_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory);
    assert!(words(&files).contains("api.pem: No such file"), "{}", words(&files));
    let der = write(&files, "bedplate.example");
    assert_eq!(files.load().unwrap().cert[0].as_ref(), der);

    let other = CertificateFiles { key: directory.path().join("other.key"), ..files.clone() };
    fs::write(&other.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(
        words(&other).contains("other.key is not that of the certificate in"),
        "{}",
        words(&other)
    );
    fs::write(&other.key, "no key").unwrap();
    assert!(words(&other).contains("other.key holds no private key in PEM"), "{}", words(&other));
    let empty =
        CertificateFiles { certificate: directory.path().join("empty.pem"), ..files.clone() };
    fs::write(&empty.certificate, "").unwrap();
    assert!(words(&empty).contains("empty.pem holds no certificate in PEM"), "{}", words(&empty));
    fs::write(&empty.certificate, vec![b'x'; 2 << 20]).unwrap();
    assert!(words(&empty).contains("is it the right file?"), "{}", words(&empty));
}

#[test]
fn a_bad_pair_leaves_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory);
    let first = write(&files, "bedplate.example");
    let own =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let (certificate, _) = SiteCertificate::open(files.clone(), &own).unwrap();
    let present = || certificate.site().cert[0].to_vec();
    assert_eq!(present(), first);

    let before = files.stamp();
    fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_ne!(files.stamp(), before, "a change is seen");
    certificate.reload();
    assert_eq!(present(), first, "the key is another's");
    let second = write(&files, "bedplate.example");
    certificate.reload();
    assert_eq!(present(), second);
    fs::remove_file(&files.certificate).unwrap();
    certificate.reload();
    assert_eq!(present(), second);
}

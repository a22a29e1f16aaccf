//! The site's own certificate on the REST port.

use std::{fs, path::Path, thread, time::Duration};

use reqwest::Certificate;
use tokio::runtime::{Builder, Runtime};

use crate::server::Server;

const NAME: &str = "bedplate.example";

/// Steps of 100 ms in which the server must have read the files again.
const MAX_STEPS: u32 = 100;

/// Writes a pair into a folder. Returns the certificate as PEM.
fn write(folder: &Path) -> String {
    let pair = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(folder.join("api.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.join("api.key"), pair.signing_key.serialize_pem()).unwrap();
    pair.cert.pem()
}

/// Does a client that trusts this certificate alone get an answer from the server by its name?
fn is_trusted(runtime: &Runtime, server: &Server, certificate: &str) -> bool {
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    // Already installed is as good as installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (address, port) = (context.server.host_str().unwrap(), context.server.port().unwrap());
    let http = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(certificate.as_bytes()).unwrap()])
        .resolve(NAME, format!("{address}:{port}").parse().unwrap())
        .build()
        .unwrap();
    let answer = runtime.block_on(http.get(format!("https://{NAME}:{port}/v1/openapi.json")).send());
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[test]
fn it_is_shown_for_its_name_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(folder.path());
    let keys =
        format!(", certificate: {folder}/api.pem, key: {folder}/api.key", folder = folder.path().display());
    let server = Server::start_in(folder, &keys);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    assert!(is_trusted(&runtime, &server, &first));
    // Who dials the address still sees the certificate that context files trust.
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");

    // A key of another pair changes nothing.
    let other = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(server.path("api.key"), other.signing_key.serialize_pem()).unwrap();
    server.hang_up();
    let log = || fs::read_to_string(server.path("log")).unwrap();
    until(|| log().contains("the REST port keeps the certificate that it has"));
    assert!(log().contains("api.key is not that of the certificate in"), "{}", log());
    assert!(is_trusted(&runtime, &server, &first));

    let second = write(&server.path("."));
    server.hang_up();
    until(|| is_trusted(&runtime, &server, &second));
    assert!(!is_trusted(&runtime, &server, &first));
}

fn until(reached: impl Fn() -> bool) {
    for _ in 0..MAX_STEPS {
        if reached() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("not after {MAX_STEPS} steps");
}

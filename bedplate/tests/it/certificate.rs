//! The site's own certificate on the REST port.

use std::{fs, path::Path, thread, time::Duration};

use reqwest::Certificate;
use tokio::runtime::{Builder, Runtime};

use crate::server::Server;

const NAME: &str = "bedplate.example";

/// Steps of 100 ms in which the server must have read the files again.
const MAX_STEPS: u32 = 100;

/// Writes a pair into a directory. Returns the certificate as PEM.
fn write(directory: &Path) -> String {
    let pair = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(directory.join("api.pem"), pair.cert.pem()).unwrap();
    fs::write(directory.join("api.key"), pair.signing_key.serialize_pem()).unwrap();
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
    let answer =
        runtime.block_on(http.get(format!("https://{NAME}:{port}/v1/openapi.json")).send());
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[test]
fn it_is_shown_for_its_name_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let first = write(directory.path());
    let keys = format!(
        ", certificate: {directory}/api.pem, key: {directory}/api.key",
        directory = directory.path().display()
    );
    let server = Server::start_in(directory, &keys);
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

#[test]
fn its_end_is_told_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    fs::write(directory.path().join("api.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(directory.path().join("api.key"), key.serialize_pem()).unwrap();
    let keys = format!(
        ", certificate: {directory}/api.pem, key: {directory}/api.key",
        directory = directory.path().display()
    );
    let server = Server::start_in(directory, &keys);
    let told = "the site certificate has expired on 2020-01-01T00:00:00Z: renew the files of `api.certificate`";
    let alarms = server.run(&["server", "alarms"]).ok();
    assert!(alarms.contains(told), "{alarms}");
    let status = server.run(&["server", "ca", "status"]);
    assert!(status.stderr.starts_with(&format!("alarm: {told}")), "{status:?}");
    let config = server.path("server.yaml").display().to_string();
    let checked = server.run(&["server", "check", "--config", &config]);
    assert!(checked.stderr.contains(&format!("problem: {told}")), "{checked:?}");

    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    // Already installed is as good as installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = Certificate::from_pem(context.ca.as_ref().unwrap().as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let health = runtime.block_on(async {
        let answer = http.get(context.server.join("/v1/health").unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "a warning is no problem");
        answer.text().await.unwrap()
    });
    assert!(
        health.starts_with(r#"{"status":"ok","problems":[],"warnings":["the site certificate"#),
        "{health}"
    );
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

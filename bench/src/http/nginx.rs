//! nginx as sites set it up for this work: sendfile, two workers, connections kept, no access log.

use std::{fs, net::TcpStream, path::Path, time::Duration};

use anyhow::Context as _;

use crate::{network::SERVER, process::Service};

/// Plain HTTP.
pub(super) const PLAIN_PORT: u16 = 8080;

/// TLS.
pub(super) const TLS_PORT: u16 = 8443;

/// TLS for those who show a certificate.
pub(super) const MUTUAL_PORT: u16 = 8444;

const START_LIMIT: Duration = Duration::from_secs(10);

/// Makes the directory with a key and a certificate for [`SERVER`] in it, and the CA of its
/// clients; returns the certificate, PEM.
///
/// # Errors
/// If they cannot be made or written.
pub(super) fn certificate(root: &Path, clients_ca: &str) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new([SERVER.to_string()])?.self_signed(&key)?.pem();
    let tls = root.join("tls");
    fs::create_dir_all(&tls).with_context(|| format!("cannot make {}", tls.display()))?;
    for (name, content) in [
        ("key.pem", key.serialize_pem().as_str()),
        ("certificate.pem", &certificate),
        ("clients.pem", clients_ca),
    ] {
        fs::write(tls.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(certificate)
}

/// Starts it over the files of a directory.
///
/// # Errors
/// If it does not listen in time.
pub(super) fn start(program: &Path, root: &Path) -> anyhow::Result<Service> {
    let config = root.join("tls/nginx.conf");
    fs::write(&config, configuration(root))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let arguments = ["-c".as_ref(), config.as_os_str()];
    let mut service = Service::start("nginx", program, &arguments, &root.join("tls/out"))?;
    service.until("listen", START_LIMIT, || TcpStream::connect((SERVER, MUTUAL_PORT)).is_ok())?;
    Ok(service)
}

fn configuration(root: &Path) -> String {
    let (root, tls) = (root.display(), root.join("tls"));
    let tls = tls.display();
    format!(
        "worker_processes 2; daemon off; user root; error_log {tls}/error.log; pid {tls}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {tls}/1; proxy_temp_path {tls}/2; fastcgi_temp_path {tls}/3; uwsgi_temp_path {tls}/4; scgi_temp_path {tls}/5;
  root {root};
  ssl_certificate {tls}/certificate.pem; ssl_certificate_key {tls}/key.pem; ssl_protocols TLSv1.3;
  server {{ listen {SERVER}:{PLAIN_PORT}; }}
  server {{ listen {SERVER}:{TLS_PORT} ssl; }}
  server {{ listen {SERVER}:{MUTUAL_PORT} ssl; ssl_client_certificate {tls}/clients.pem; ssl_verify_client on; }}
}}
"
    )
}

//! What monitoring asks for, without a token.

use reqwest::Certificate;
use tokio::runtime::Builder;

use crate::server::Server;

#[test]
fn a_server_that_works_says_so_to_everybody() {
    let server = Server::start();
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    // Already installed is as good as installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = Certificate::from_pem(context.ca.as_ref().unwrap().as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |path: &str| {
        let url = context.server.join(path).unwrap();
        runtime.block_on(async {
            let answer = http.get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    assert_eq!(ask("/v1/health"), (200, r#"{"status":"ok","problems":[]}"#.to_owned()));
    assert_eq!(ask("/v1/version").0, 401, "all else still wants a token");
}

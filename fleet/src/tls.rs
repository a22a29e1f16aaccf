//! TLS of the server's listeners: ring only, the fleet's own certificate, client certificates of
//! the fleet's nodes.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};

use crate::authority::{
    Authority, AuthorityError, client_log::Logged, line_budget::LineBudget,
    server_certificate::ServerCertificate,
};

/// A configuration for a listener. With `client_certificates` a client may present one, which must
/// then be good; whether it must present one is decided per route.
pub(crate) fn server_config(
    authority: &Authority,
    certificate: Arc<ServerCertificate>,
    client_certificates: bool,
) -> Result<ServerConfig, AuthorityError> {
    let failed = |why: String| AuthorityError::Tls { why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let builder = if client_certificates {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).map_err(|error| failed(error.to_string()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        builder.with_client_cert_verifier(Arc::new(Logged(verifier, LineBudget::default())))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

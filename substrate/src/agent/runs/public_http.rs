//! The HTTP client of transfers: to anybody's servers, with the certificates of public authorities
//! from the node image. It shows no certificate of the node and follows redirects.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::reach::{Forbidden, Reach};

/// Time to reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Time without a byte after which a transfer is begun again.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Largest file of authorities read, bytes: Debian's is a quarter of a MiB.
const MAX_AUTHORITIES_BYTES: u64 = 16 << 20;

/// Why there is no client for a URL.
#[derive(Debug, thiserror::Error)]
pub enum PublicHttpError {
    /// It is no URL.
    #[error("{url:?} is no URL")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        #[source]
        source: url::ParseError,
    },
    /// A scheme of which nothing is known here.
    #[error("cannot transfer over {0:?}; use http or https")]
    Scheme(String),
    /// No authority can be trusted.
    #[error(
        "cannot verify https servers: no certificates of authorities in {path}; put ca-certificates into the node image"
    )]
    Authorities {
        /// Where they should be.
        path: String,
        /// Why they are not.
        #[source]
        source: io::Error,
    },
    /// The server's own ports, or an address that only the node was meant to reach.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// rustls or the client cannot be set up.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Answers are read, and end after [`READ_TIMEOUT`] without a byte.
    Download,
    /// Bodies are sent. The time without a byte would run from the beginning of the body, so there
    /// is none: that nothing moves any more is the caller's to notice.
    Upload,
}

/// A client that can speak to `url`, and goes nowhere that is out of `reach`.
///
/// # Errors
/// [`PublicHttpError`].
pub fn client(
    url: &str,
    direction: Direction,
    authorities: &Path,
    reach: &Reach,
) -> Result<reqwest::Client, PublicHttpError> {
    let parsed = url::Url::parse(url)
        .map_err(|source| PublicHttpError::Url { url: url.to_owned(), source })?;
    reach.announce(&parsed)?;
    // A redirect from http to https needs them too; without them only that fails.
    let roots = match (parsed.scheme(), roots(authorities)) {
        ("https", roots) => roots.map_err(|source| PublicHttpError::Authorities {
            path: authorities.display().to_string(),
            source,
        })?,
        ("http", roots) => roots.unwrap_or_else(|_| RootCertStore::empty()),
        (other, _) => return Err(PublicHttpError::Scheme(other.to_owned())),
    };
    let failed = |error: &dyn std::fmt::Display| PublicHttpError::Client(error.to_string());
    let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder();
    let builder = match direction {
        Direction::Download => builder.read_timeout(READ_TIMEOUT),
        Direction::Upload => builder,
    };
    builder
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .dns_resolver(Arc::new(reach.clone()))
        .redirect(redirects(reach.clone()))
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("bedplate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failed(&error))
}

/// Follows redirects, none of them to what is out of reach.
fn redirects(reach: Reach) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        match reach.announce(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    })
}

fn roots(path: &Path) -> io::Result<RootCertStore> {
    use io::Read;

    let mut pem = Vec::new();
    std::fs::File::open(path)?.take(MAX_AUTHORITIES_BYTES).read_to_end(&mut pem)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if roots.is_empty() {
        return Err(io::Error::other("it holds no certificate"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_told() {
        let place = tempfile::tempdir().unwrap();
        let empty = place.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let tell = |url, path: &Path| {
            client(
                url,
                Direction::Download,
                path,
                &Reach::new(&["192.0.2.1:9480".parse().unwrap()], &[]),
            )
            .map_or_else(|error| format!("{:#}", anyhow::Error::from(error)), |_| "ok".into())
        };
        assert_eq!(tell("http://server/file", Path::new("/none.pem")), "ok");
        assert_eq!(
            tell("https://server/file", Path::new("/none.pem")),
            "cannot verify https servers: no certificates of authorities in /none.pem; put ca-certificates into \
             the node image: No such file or directory (os error 2)"
        );
        assert!(tell("https://server/file", &empty).ends_with("it holds no certificate"));
        assert_eq!(
            tell("ftp://server/file", &empty),
            "cannot transfer over \"ftp\"; use http or https"
        );
        assert!(tell("http://192.0.2.1:9480/", &empty).contains("no transfer goes there"));
        assert_eq!(tell("file", &empty), "\"file\" is no URL: relative URL without a base");
    }

    /// The clock goes on whenever nothing but the net is waited for.
    #[tokio::test(start_paused = true)]
    async fn an_upload_may_take_longer_than_a_server_may_be_silent() {
        use std::io::{Read as _, Write as _};

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                // The second one has gone by then.
                let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let ask = async |direction| {
            let reach = Reach::new(&[], &["127.0.0.1".parse().unwrap()]);
            let client = client(&url, direction, Path::new("/none.pem"), &reach).unwrap();
            client.put(&url).body("x").send().await
        };
        assert!(ask(Direction::Upload).await.unwrap().status().is_success());
        assert!(ask(Direction::Download).await.unwrap_err().is_timeout());
        server.join().unwrap();
    }
}

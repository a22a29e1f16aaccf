//! What fuzz targets and their replay (`fuzz/`) see of enrolment. Nothing that ships calls it.

use api::ids::Digest;

use crate::authority::Request;

/// Which key a certificate signing request (PKCS #10, PEM) is for; `None` if it is refused.
#[must_use]
pub fn key_of_request(pem: &str) -> Option<Digest> {
    Request::parse(pem).ok().map(|request| request.key())
}

//! Who makes a request: the credential that it shows, looked up.

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header, uri::PathAndQuery},
};

use crate::{
    Access, Principal,
    logins::{BadCredential, Unidentified},
    sessions, tickets,
    token::{self, TokenHash},
    tokens::TokenInUse,
};

/// What a request proved who asks with. In its extensions, for the routes that begin
/// and end sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The token itself.
    Token,
    /// The session of this hash.
    Session(TokenHash),
    /// A ticket; it is used up.
    Ticket,
}

/// Who asks, and by what.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) principal: Principal,
    pub(crate) credential: Credential,
    pub(crate) token: TokenInUse,
}

/// Who asks, by the first credential that the request has. A ticket is taken out of the request.
pub(crate) async fn identify(
    access: &Access,
    request: &mut Request,
) -> Result<Identity, Unidentified> {
    let ticket = take_ticket(request);
    let (credential, found) = if request.headers().contains_key(header::AUTHORIZATION) {
        let hash = bearer(request.headers()).and_then(|bearer| token::hash(token::PREFIX, &bearer));
        let hash = hash.ok_or(Unidentified::Bad(BadCredential::Token))?;
        (Credential::Token, access.show_token(hash, BadCredential::Token).await?)
    } else if let Some(secret) = ticket {
        let path = request.uri().path();
        (Credential::Ticket, access.redeem(&secret, request.method(), path).await?)
    } else {
        let hash = sessions::cookie_hash(request.headers()).ok_or(Unidentified::Nothing)?;
        (Credential::Session(hash), access.show_session(hash).await?)
    };
    let (principal, token) = found;
    Ok(Identity { principal, credential, token })
}

/// Takes the ticket out of the query, so that nothing behind the layer sees or logs it.
fn take_ticket(request: &mut Request) -> Option<String> {
    let uri = request.uri();
    let (secret, others) = tickets::take_parameter(uri.query()?)?;
    let path =
        if others.is_empty() { uri.path().to_owned() } else { format!("{}?{others}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    // The parts of a URI that was read make one again.
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(secret)
}

/// The bearer token of RFC 6750, section 2.1.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, bearer) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| bearer.trim().to_owned())
}

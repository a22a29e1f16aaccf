//! Which protocol versions node and server speak on the HTTP routes of the fleet port: a header of
//! each request and of each answer ([`api::channel::negotiation`]).

use api::channel::negotiation::{HEADER, Versions};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rest::Refusal;

/// Refuses a node that has no version in common with this server, before its request does
/// anything. The answer names the server's versions, whatever it is.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    if let Ok(ours) = HeaderValue::from_str(&Versions::ours().to_string()) {
        response.headers_mut().insert(HeaderName::from_static(HEADER), ours);
    }
    response
}

fn refusal(request: &Request) -> Option<Refusal> {
    const TITLE: &str = "cannot speak with this node";
    // Nodes of version 1 send none.
    let header = request.headers().get(HEADER)?;
    let theirs =
        header.to_str().map_err(drop).and_then(|text| text.parse::<Versions>().map_err(drop));
    let Ok(theirs) = theirs else {
        let why = api::channel::negotiation::UnreadableVersions.to_string();
        return Some(Refusal::new(StatusCode::BAD_REQUEST, TITLE, why));
    };
    let error = Versions::ours().newest_common(&theirs).err()?;
    let why = format!("{error}; boot the node from an image of this server, or upgrade the server");
    Some(Refusal::new(StatusCode::UPGRADE_REQUIRED, TITLE, why))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_nodes_without_a_common_version_are_refused() {
        let status = |header: Option<&str>| {
            let request = header
                .map_or_else(Request::builder, |header| Request::builder().header(HEADER, header));
            let refusal = refusal(&request.body(Body::empty()).unwrap());
            refusal.map(|refusal| refusal.into_response().status().as_u16())
        };
        assert_eq!(status(None), None, "a node of version 1");
        assert_eq!(status(Some("1-2")), None);
        assert_eq!(status(Some("2-9")), None);
        assert_eq!(status(Some("7-9")), Some(426));
        assert_eq!(status(Some("new")), Some(400));
    }
}

//! What every route answers, whatever it is for, put into the OpenAPI document: refusals of
//! the layer in front, of the extractors, and of the pool of work. A route's own `responses`
//! name the others.
//!
//! | status | of which operations |
//! |---|---|
//! | 400 | those with a parameter or a body |
//! | 401, 403, 500, 503 | all |
//! | 404 | those with a parameter in the path |
//! | 412 | those that take `If-Match` |
//! | 413 | those with a body |
//! | 415, 422 | those with a JSON body |
//!
//! 405 is an answer to a method that no operation is for, so no operation has it.

use api::problem::Problem;
use axum::http::StatusCode;
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{
        Content, Header, KnownFormat, Object, OpenApi, Ref, RefOr, Response, SchemaFormat, Type,
        path::{Operation, ParameterIn},
    },
};

use crate::routes::operations;

/// Content type of every refusal (RFC 9457, section 4).
const PROBLEM_TYPE: &str = "application/problem+json";

const JSON_TYPE: &str = "application/json";

/// What is sent as it is. Rust's `Vec<u8>` would be described as a list of numbers.
const BYTES_TYPES: [&str; 2] = ["application/octet-stream", "application/x-tar"];

/// Completes the document of a router: the answers that all routes share,
/// `application/problem+json` for every refusal, bytes as bytes, and path templates as OpenAPI has
/// them: a parameter that takes in slashes is `{path}` there, and `{*path}` to the router.
///
/// What is keyed by the router's own templates must be made of the document before.
pub fn document_answers(document: &mut OpenApi) {
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    let components = document.components.get_or_insert_default();
    for (name, schema) in schemas {
        components.schemas.entry(name).or_insert(schema);
    }
    for (path, mut item) in std::mem::take(&mut document.paths.paths) {
        let path = path.replace("{*", "{");
        for operation in operations(&mut item) {
            complete(&path, operation);
        }
        document.paths.paths.insert(path, item);
    }
}

fn complete(path: &str, operation: &mut Operation) {
    for (status, when) in shared(path, operation) {
        let key = status.as_str().to_owned();
        operation.responses.responses.entry(key).or_insert_with(|| RefOr::T(refusal(when)));
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.iter_mut().for_each(|(kind, content)| describe_bytes(kind, content));
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.content.iter_mut().for_each(|(kind, content)| describe_bytes(kind, content));
        if !status.starts_with(['4', '5']) {
            continue;
        }
        if let Some(content) = response.content.shift_remove(JSON_TYPE) {
            response.content.insert(PROBLEM_TYPE.to_owned(), content);
        }
        if let Some((name, header)) = header_of(status) {
            response.headers.insert(name.to_owned(), RefOr::T(header));
        }
    }
}

fn describe_bytes(kind: &str, content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && BYTES_TYPES.contains(&kind)
    {
        let mut bytes = Object::with_type(Type::String);
        bytes.format = Some(SchemaFormat::KnownFormat(KnownFormat::Binary));
        content.schema = Some(bytes.into());
    }
}

/// The answers of an operation that it shares with others of its kind, and when each is given.
fn shared(path: &str, operation: &Operation) -> Vec<(StatusCode, &'static str)> {
    let mut answers = vec![
        (StatusCode::UNAUTHORIZED, "No credential that is good"),
        (StatusCode::FORBIDDEN, "The caller may not do it"),
        (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests at once, changes in a row, or bad credentials from there",
        ),
        (StatusCode::INTERNAL_SERVER_ERROR, "The server failed; its log says more"),
        (StatusCode::SERVICE_UNAVAILABLE, "Not now; try again later"),
    ];
    let parameters = || operation.parameters.iter().flatten();
    let is_if_match = |parameter: &utoipa::openapi::path::Parameter| {
        parameter.parameter_in == ParameterIn::Header
            && parameter.name.eq_ignore_ascii_case("if-match")
    };
    if parameters().any(|parameter| matches!(parameter, RefOr::T(one) if is_if_match(one))) {
        answers
            .push((StatusCode::PRECONDITION_FAILED, "It has another version than `If-Match` says"));
    }
    if path.contains('{') {
        answers.push((StatusCode::NOT_FOUND, "There is none of that name or number"));
    }
    if parameters().next().is_some() || operation.request_body.is_some() {
        answers.push((StatusCode::BAD_REQUEST, "A part of the request cannot be read"));
    }
    if let Some(RefOr::T(body)) = &operation.request_body {
        answers.push((StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than the route takes"));
        if body.content.contains_key(JSON_TYPE) {
            answers.push((StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not said to be JSON"));
            answers.push((
                StatusCode::UNPROCESSABLE_ENTITY,
                "The body is JSON, and not what is asked for",
            ));
        }
    }
    answers
}

fn refusal(when: &str) -> Response {
    let mut response = Response::new(when);
    let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
    response.content.insert(PROBLEM_TYPE.to_owned(), RefOr::T(content));
    response
}

/// The header that comes with each refusal of a status.
fn header_of(status: &str) -> Option<(&'static str, Header)> {
    let (name, of, why) = match status {
        "401" => ("WWW-Authenticate", Type::String, "`Bearer` (RFC 6750)"),
        "429" => ("Retry-After", Type::Integer, "After how many seconds to try again"),
        "503" => ("Retry-After", Type::Integer, "After how many seconds to try again"),
        _ => return None,
    };
    let mut header = Header::new(Object::with_type(of));
    header.description = Some(why.to_owned());
    Some((name, header))
}

#[cfg(test)]
mod tests {
    use api::rights::Action;
    use serde_json::Value;
    use utoipa_axum::routes;

    use super::*;
    use crate::Routes;

    #[utoipa::path(get, path = "/plain", responses((status = OK, body = String)))]
    async fn plain() {}

    #[utoipa::path(
        put, path = "/things/{name}/files/{*path}", request_body = Object,
        params(("name" = String, Path), ("path" = String, Path), ("If-Match" = Option<u64>, Header)),
        responses((status = NO_CONTENT), (status = CONFLICT, body = Problem, description = "It is in use"),
            (status = NOT_FOUND, body = Problem, description = "No such thing"))
    )]
    async fn put() {}

    #[utoipa::path(
        post, path = "/bytes", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
        responses((status = NO_CONTENT))
    )]
    async fn bytes() {}

    fn statuses(operation: &Value) -> String {
        let mut all: Vec<&str> =
            operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        all.sort_unstable();
        all.join(" ")
    }

    #[test]
    fn every_operation_has_the_answers_of_its_kind() {
        let routes = Routes::new()
            .route(Action::WhoAmI, routes!(plain))
            .route(Action::WhoAmI, routes!(put))
            .route(Action::WhoAmI, routes!(bytes));
        let (_, mut document): (axum::Router, _) = routes.into_parts(OpenApi::default());
        document_answers(&mut document);
        let document: Value = serde_json::from_str(&document.to_json().unwrap()).unwrap();
        let paths = &document["paths"];
        let put = &paths["/things/{name}/files/{path}"]["put"];
        assert_eq!(statuses(&paths["/plain"]["get"]), "200 401 403 429 500 503");
        assert_eq!(statuses(put), "204 400 401 403 404 409 412 413 415 422 429 500 503");
        assert_eq!(statuses(&paths["/bytes"]["post"]), "204 400 401 403 413 429 500 503");
        assert_eq!(
            put["responses"]["404"]["description"], "No such thing",
            "a route's own words stay"
        );
        let problem = "#/components/schemas/Problem";
        for status in ["404", "409", "422"] {
            let content = put["responses"][status]["content"].as_object().unwrap();
            assert_eq!(content.keys().collect::<Vec<_>>(), [PROBLEM_TYPE], "{status}");
            assert_eq!(content[PROBLEM_TYPE]["schema"]["$ref"], problem, "{status}");
        }
        let bytes = &paths["/bytes"]["post"]["requestBody"]["content"]["application/octet-stream"];
        assert_eq!(bytes["schema"], serde_json::json!({"type": "string", "format": "binary"}));
        assert!(
            document["components"]["schemas"]["Mistake"].is_object(),
            "what a problem is made of"
        );
    }
}

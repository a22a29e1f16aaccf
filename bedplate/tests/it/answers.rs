//! Whatever a route answers is in the OpenAPI document. Each route of the document is asked in all
//! the ways in which it refuses; a new one is asked without a line here.

use std::collections::BTreeSet;

use reqwest::{Method, header};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::server::Server;

const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";

/// What axum takes of a body where a route says nothing, bytes.
const USUAL_BODY_BYTES: usize = 2 << 20;

/// A server, its document, and whoever asks.
struct Site {
    server: Server,
    runtime: Runtime,
    http: reqwest::Client,
    context: client::Context,
    document: Value,
}

/// An operation of the document.
struct Operation<'a> {
    method: Method,
    template: &'a str,
    told: &'a Value,
}

/// What is sent beside method and path.
#[derive(Default)]
struct Sent<'a> {
    token: Option<&'a str>,
    kind: Option<&'static str>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// The content type without its parameters.
    kind: Option<String>,
    allow: Option<String>,
    /// A problem document; `null` for all else.
    problem: Value,
}

impl Site {
    fn start() -> Self {
        let server = Server::start();
        let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = context.ca.as_deref().unwrap_or_default();
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        let document = runtime.block_on(client::Client::new(&context).unwrap().openapi()).unwrap();
        Self { server, runtime, http, context, document }
    }

    fn operations(&self) -> Vec<Operation<'_>> {
        let mut all = Vec::new();
        for (template, item) in self.document["paths"].as_object().unwrap() {
            for (method, told) in item.as_object().unwrap() {
                let method = method.to_uppercase().parse().unwrap();
                all.push(Operation { method, template, told });
            }
        }
        assert!(all.len() > 50, "the document describes {} operations", all.len());
        all
    }

    fn ask(&self, method: &Method, path: &str, sent: Sent<'_>) -> Answer {
        let url = self.context.server.join(path).unwrap();
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = sent.token {
            request = request.bearer_auth(token);
        }
        if let Some(kind) = sent.kind {
            request = request.header(header::CONTENT_TYPE, kind).body(sent.body);
        }
        self.runtime.block_on(async {
            let response =
                request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            let text = |name: header::HeaderName| {
                Some(response.headers().get(name)?.to_str().unwrap().to_owned())
            };
            let kind = text(header::CONTENT_TYPE);
            let kind = kind.map(|kind| kind.split(';').next().unwrap().trim().to_owned());
            let (status, allow) = (response.status().as_u16(), text(header::ALLOW));
            // Others may go on for as long as somebody listens.
            let problem = match kind.as_deref() {
                Some(PROBLEM) => response.json().await.unwrap(),
                _ => Value::Null,
            };
            Answer { status, kind, allow, problem }
        })
    }

    fn admin(&self) -> Option<&str> {
        Some(&self.context.token)
    }

    /// Asks an operation, and holds the answer against the document.
    fn hold(&self, operation: &Operation<'_>, path: &str, sent: Sent<'_>) -> Answer {
        let answer = self.ask(&operation.method, path, sent);
        let what = format!("{} {path}: {answer:?}", operation.method);
        let told = &operation.told["responses"][answer.status.to_string()];
        assert!(told.is_object(), "the document does not have this answer: {what}");
        let kinds = told["content"].as_object();
        let is_told = match &answer.kind {
            Some(kind) => kinds.is_some_and(|kinds| kinds.contains_key(kind)),
            None => kinds.is_none_or(|kinds| kinds.is_empty()),
        };
        assert!(is_told, "the document does not have this content type: {what}");
        if answer.status >= 400 {
            assert_problem(&answer, &what);
        }
        answer
    }

    /// The same, where the answer must be this one.
    fn answered(&self, operation: &Operation<'_>, path: &str, sent: Sent<'_>, status: u16) {
        let answer = self.hold(operation, path, sent);
        assert_eq!(answer.status, status, "{} {path}: {answer:?}", operation.method);
    }
}

fn assert_problem(answer: &Answer, what: &str) {
    assert_eq!(answer.kind.as_deref(), Some(PROBLEM), "{what}");
    assert_eq!(answer.problem["status"], answer.status, "{what}");
    for member in ["title", "detail"] {
        assert!(
            answer.problem[member].as_str().is_some_and(|text| !text.is_empty()),
            "no {member}: {what}"
        );
    }
}

impl Operation<'_> {
    fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.told["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|parameter| parameter["in"] == place).collect()
    }

    /// Content type of its body.
    fn body(&self) -> Option<&'static str> {
        let content = self.told["requestBody"]["content"].as_object()?;
        let kind = content.keys().next().unwrap();
        Some([JSON, "application/octet-stream"].into_iter().find(|known| known == kind).unwrap())
    }

    /// Does it want no credential?
    fn is_open(&self) -> bool {
        self.told["security"].is_array()
    }

    /// A path to what is not there, with the least query.
    fn absent(&self) -> String {
        self.path(|parameter| if is_integer(parameter) { "999999" } else { "absent" }, "")
    }

    /// A path with these parameters; `query` replaces or adds one of the query.
    fn path(&self, fill: impl Fn(&Value) -> &'static str, query: &str) -> String {
        let mut path = self.template.to_owned();
        for parameter in self.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            path = path.replace(&format!("{{{name}}}"), fill(parameter));
        }
        let replaced = query.split('=').next().unwrap();
        let required = self.parameters("query").into_iter().filter(|one| one["required"] == true);
        let names =
            required.map(|one| one["name"].as_str().unwrap()).filter(|name| *name != replaced);
        let mut pairs: Vec<String> = names.map(|name| format!("{name}=absent")).collect();
        pairs.extend((!query.is_empty()).then(|| query.to_owned()));
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("{path}{mark}{}", pairs.join("&"))
    }

    /// Largest body that the route takes, bytes.
    fn most_bytes(&self) -> usize {
        match self.template {
            "/v1/apply" => 32 << 20,
            "/v1/workflows" | "/v1/workflows/validate" | "/v1/workflows/render" => {
                2 * api::workflow::MAX_DOCUMENT_BYTES
            }
            "/v1/overlays/{name}/files/{path}" => api::overlay::MAX_FILE_BYTES + 1,
            _ => USUAL_BODY_BYTES,
        }
    }
}

fn is_integer(parameter: &Value) -> bool {
    is_a(parameter, "integer")
}

/// Of one type, or of several with this one among them (JSON Schema 2020-12).
fn is_a(parameter: &Value, kind: &str) -> bool {
    let told = &parameter["schema"]["type"];
    told == kind || told.as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

#[test]
fn the_document_is_whole() {
    let site = Site::start();
    for operation in site.operations() {
        let (method, template) = (&operation.method, operation.template);
        let named: BTreeSet<&str> =
            template.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let told = operation.parameters("path");
        let told: BTreeSet<&str> = told.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(named, told, "{method} {template}");
        for (status, response) in operation.told["responses"].as_object().unwrap() {
            if status.starts_with(['4', '5']) {
                let kinds: Vec<&str> =
                    response["content"].as_object().unwrap().keys().map(String::as_str).collect();
                let wanted =
                    if template == "/v1/health" { vec![JSON, PROBLEM] } else { vec![PROBLEM] };
                assert_eq!(kinds, wanted, "{method} {template} {status}");
            }
        }
    }
    let mut references = Vec::new();
    collect_references(&site.document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(site.document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| collect_references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[test]
fn what_cannot_be_read_is_refused_in_the_words_of_the_document() {
    let site = Site::start();
    for operation in site.operations() {
        let absent = operation.absent();
        let ask = |path: &str, status| {
            let kind = operation.body();
            let sent = Sent { token: site.admin(), kind, body: b"{}".to_vec() };
            site.answered(&operation, path, sent, status);
        };
        if operation.is_open() {
            site.answered(&operation, &absent, Sent::default(), 200);
            continue;
        }
        site.answered(&operation, &absent, Sent::default(), 401);
        if !operation.parameters("path").is_empty() {
            ask(&operation.path(|one| if is_integer(one) { "x" } else { "%FF" }, ""), 400);
        }
        for parameter in operation.parameters("query") {
            if is_integer(parameter) || is_a(parameter, "boolean") {
                let query = format!("{}=x", parameter["name"].as_str().unwrap());
                ask(&operation.path(|_| "1", &query), 400);
            }
        }
        let Some(kind) = operation.body() else { continue };
        let body = |kind, body: &[u8], status| {
            let sent = Sent { token: site.admin(), kind: Some(kind), body: body.to_vec() };
            site.answered(&operation, &absent, sent, status);
        };
        // One byte too many, and JSON as far as it was read.
        let large = [vec![b'"'], vec![b'x'; operation.most_bytes()]].concat();
        body(kind, &large, 413);
        if kind == JSON {
            body("text/plain", b"{}", 415);
            body(JSON, b"{\"", 400);
            // Of what is not there, that is said first; this one makes it.
            let makes =
                (&operation.method, operation.template) == (&Method::PUT, "/v1/profiles/{name}");
            body(
                JSON,
                b"\"x\"",
                if operation.template.contains('{') && !makes { 404 } else { 422 },
            );
        }
    }
}

#[test]
fn what_is_for_everybody_is_these_two() {
    let site = Site::start();
    let operations = site.operations();
    let open = operations.iter().filter(|operation| operation.is_open());
    let open: Vec<(&Method, &str)> = open.map(|one| (&one.method, one.template)).collect();
    assert_eq!(open, [(&Method::GET, "/v1/health"), (&Method::GET, "/v1/openapi.json")]);
}

#[test]
fn every_other_answer_is_in_the_document_too() {
    let site = Site::start();
    site.server.run(&["user", "add", "ann"]).ok();
    let token = site.server.run(&["token", "create", "laptop", "--user", "ann"]).ok();
    let ann = Some(token.trim());
    for token in [ann, site.admin()] {
        for operation in site.operations() {
            let sent = Sent { token, kind: operation.body(), body: b"{}".to_vec() };
            site.hold(&operation, &operation.absent(), sent);
        }
    }
}

#[test]
fn what_is_no_operation_is_a_problem() {
    let site = Site::start();
    let operations = site.operations();
    let methods = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "QUERY"];
    let mut by_path: Vec<(&str, String, BTreeSet<String>)> = Vec::new();
    for operation in &operations {
        let method = operation.method.to_string();
        match by_path.iter_mut().find(|(template, ..)| *template == operation.template) {
            Some((.., there)) => {
                there.insert(method);
            }
            None => {
                by_path.push((operation.template, operation.absent(), BTreeSet::from([method])))
            }
        }
    }
    for (_, path, mut there) in by_path {
        let others: Vec<&str> = methods.into_iter().filter(|one| !there.contains(*one)).collect();
        // HEAD is answered by what answers GET.
        if there.contains("GET") {
            there.insert("HEAD".to_owned());
        }
        for method in others {
            let sent = Sent { token: site.admin(), ..Sent::default() };
            let answer = site.ask(&method.parse().unwrap(), &path, sent);
            let what = format!("{method} {path}: {answer:?}");
            assert_eq!(answer.status, 405, "{what}");
            assert_problem(&answer, &what);
            let allow = answer.allow.clone().unwrap_or_default();
            let allow: BTreeSet<String> =
                allow.split(',').map(|one| one.trim().to_owned()).collect();
            assert_eq!(allow, there, "RFC 9110, section 15.5.6: {what}");
        }
    }
    for path in ["/", "/v1", "/v1/nothing", "/v1/nodes/n1/nothing", "/v1/nodes/"] {
        for (token, status) in [(None, 401), (site.admin(), 404)] {
            let answer = site.ask(&Method::GET, path, Sent { token, ..Sent::default() });
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert_problem(&answer, path);
        }
    }
}

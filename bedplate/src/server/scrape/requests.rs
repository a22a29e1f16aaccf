//! Requests to the REST port: how many, by route, method and class of the status, and how long they
//! took.
//!
//! The routes are those of the OpenAPI document, so that no client can make a label; what is none
//! of them counts as `other`. All of it is made when the server starts, and counting is atomics
//! alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use metrics::{Counters, Exposition, Gauge, Histogram, SECONDS};
use tokio::time::Instant;
use utoipa::openapi::OpenApi;

/// The label of what is no route, and of what no route has as a method.
const OTHER: &str = "other";

/// Classes of statuses; 101 begins a WebSocket.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Answers to one method of one route.
#[derive(Debug)]
struct Answers {
    classes: Counters<5>,
    took: Histogram,
}

impl Default for Answers {
    fn default() -> Self {
        Self { classes: Counters::new(CLASSES), took: Histogram::new(SECONDS) }
    }
}

/// All that was asked.
#[derive(Debug)]
pub(in crate::server) struct Requests {
    /// By the route's template and the method.
    routes: HashMap<String, BTreeMap<&'static str, Answers>>,
    other: Answers,
    running: Gauge,
    refused: Counters<2>,
}

impl Requests {
    /// For the routes of these documents.
    pub(in crate::server) fn new<'a>(documents: impl IntoIterator<Item = &'a OpenApi>) -> Self {
        let mut routes: HashMap<String, BTreeMap<&'static str, Answers>> = HashMap::new();
        for (path, item) in documents.into_iter().flat_map(|document| &document.paths.paths) {
            let methods = [
                ("GET", item.get.is_some()),
                ("PUT", item.put.is_some()),
                ("POST", item.post.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let there = methods.into_iter().filter(|(_, is_there)| *is_there);
            routes.insert(
                path.clone(),
                there.map(|(method, _)| (method, Answers::default())).collect(),
            );
        }
        let refused = Counters::new(["unauthenticated", "forbidden"]);
        Self { routes, other: Answers::default(), running: Gauge::default(), refused }
    }

    fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        // HEAD is answered by what answers GET.
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        let known =
            route.and_then(|route| self.routes.get(route)).and_then(|methods| methods.get(method));
        let answers = known.unwrap_or(&self.other);
        let class = usize::from(status.as_u16() / 100).saturating_sub(1).min(CLASSES.len() - 1);
        answers.classes.inc(CLASSES[class]);
        answers.took.observe(took);
        match status {
            StatusCode::UNAUTHORIZED => self.refused.inc("unauthenticated"),
            StatusCode::FORBIDDEN => self.refused.inc("forbidden"),
            _ => {}
        }
    }

    /// Writes what was asked; nothing of routes that nobody has asked for.
    pub(super) fn expose(&self, out: &mut Exposition) {
        let mut asked: Vec<(&str, &str, &Answers)> = self
            .routes
            .iter()
            .flat_map(|(route, methods)| {
                methods.iter().map(|(method, answers)| (route.as_str(), *method, answers))
            })
            .chain([(OTHER, OTHER, &self.other)])
            .filter(|(.., answers)| answers.took.count() > 0)
            .collect();
        asked.sort_unstable_by_key(|(route, method, _)| (*route, *method));
        out.gauge(
            "bedplate_api_requests_running",
            "Requests of the REST API that are not answered yet.",
        )
        .level(&self.running);
        let help = "Requests of the REST API, by route, method and class of the status.";
        let mut family = out.counter("bedplate_api_requests", help);
        for (route, method, answers) in &asked {
            for (class, count) in answers.classes.get().filter(|(_, count)| *count > 0) {
                family.sample(&[("route", route), ("method", method), ("status", class)], count);
            }
        }
        let help = "How long requests of the REST API took to the head of their answer.";
        let mut family = out.histogram("bedplate_api_request_seconds", help);
        for (route, method, answers) in &asked {
            family.buckets(&[("route", route), ("method", method)], &answers.took);
        }
        let help = "Requests of the REST API that were refused for who asked.";
        out.counter("bedplate_api_refused_requests", help).counts("reason", &self.refused);
    }
}

/// Axum middleware: counts each request once it is answered.
pub(in crate::server) async fn count(
    State(requests): State<Arc<Requests>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let _running = requests.running.enter();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    requests.answered(route, &method, response.status(), begun.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::{
        Info,
        path::{HttpMethod, Operation, PathItem, Paths, PathsBuilder},
    };

    use super::*;

    fn document() -> OpenApi {
        let item = |method| PathItem::new(method, Operation::new());
        let paths: Paths = PathsBuilder::new()
            .path("/v1/nodes/{name}", item(HttpMethod::Get))
            .path("/v1/apply", item(HttpMethod::Post))
            .path("/v1/health", item(HttpMethod::Get))
            .build();
        OpenApi::new(Info::new("test", "1"), paths)
    }

    #[test]
    fn labels_are_routes_and_methods_and_nothing_that_a_client_says() {
        let requests = Requests::new([&document()]);
        let made_up = Method::from_bytes(b"MADE-UP").unwrap();
        let took = Duration::from_millis(3);
        for (route, method, status) in [
            (Some("/v1/nodes/{name}"), &Method::GET, 200),
            (Some("/v1/nodes/{name}"), &Method::HEAD, 200),
            (Some("/v1/nodes/{name}"), &Method::GET, 404),
            (Some("/v1/nodes/{name}"), &Method::DELETE, 405),
            (Some("/v1/apply"), &Method::POST, 403),
            (Some("/v1/health"), &Method::GET, 503),
            (Some("/v1/exec"), &Method::GET, 101),
            (None, &made_up, 401),
        ] {
            requests.answered(route, method, StatusCode::from_u16(status).unwrap(), took);
        }
        let mut out = Exposition::new();
        requests.expose(&mut out);
        let text = out.finish();
        let told: String = text
            .lines()
            .filter(|line| line.starts_with("bedplate_api_re") && !line.contains("_seconds_"))
            .map(|line| format!("{line}\n"))
            .collect();
        expect_test::expect![[r#"
            bedplate_api_requests_running 0
            bedplate_api_requests_total{route="/v1/apply",method="POST",status="4xx"} 1
            bedplate_api_requests_total{route="/v1/health",method="GET",status="5xx"} 1
            bedplate_api_requests_total{route="/v1/nodes/{name}",method="GET",status="2xx"} 2
            bedplate_api_requests_total{route="/v1/nodes/{name}",method="GET",status="4xx"} 1
            bedplate_api_requests_total{route="other",method="other",status="1xx"} 1
            bedplate_api_requests_total{route="other",method="other",status="4xx"} 2
            bedplate_api_refused_requests_total{reason="unauthenticated"} 1
            bedplate_api_refused_requests_total{reason="forbidden"} 1
        "#]]
        .assert_eq(&told);
        let within = "bedplate_api_request_seconds_bucket{route=\"/v1/nodes/{name}\",method=\"GET\",le=\"0.005\"} 3\n";
        assert!(text.contains(within), "{text}");
    }
}

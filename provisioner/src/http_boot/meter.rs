//! What the HTTP boot port tells of itself: connections, answers by what was asked for, bytes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
    response::Response,
};
use metrics::{Counter, Counters, Entered, Exposition, Gauge};
use tower::{Layer, Service};

/// What is asked for: the word, and the route.
const KINDS: [(&str, &str); 5] = [
    ("script", "/boot/{mac}/script"),
    ("initrd", "/boot/{mac}/node.img"),
    ("blob", "/blobs/sha256/{hex}"),
    ("firmware", "/firmware/{file}"),
    // No route.
    ("other", ""),
];

/// Classes of statuses. Nothing is answered with another one.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Instruments of the port.
#[derive(Debug)]
pub(crate) struct Meter {
    connections: Gauge,
    /// By what was asked for, in the order of [`KINDS`].
    answers: [Counters<4>; KINDS.len()],
    sent: Counter,
}

impl Default for Meter {
    fn default() -> Self {
        let (connections, sent) = (Gauge::default(), Counter::default());
        Self { connections, answers: std::array::from_fn(|_| Counters::new(CLASSES)), sent }
    }
}

impl Meter {
    /// A connection is open for as long as what is returned lives.
    pub(super) fn enter(&self) -> Entered {
        self.connections.enter()
    }

    /// Bytes were given to the kernel: those of answers with their heads.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.add(bytes as u64);
    }

    fn answered(&self, kind: usize, status: StatusCode) {
        self.answers[kind].inc(match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        });
    }

    /// Writes what is told of the port.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        out.gauge("bedplate_http_boot_connections", "Open connections of the HTTP boot port.")
            .level(&self.connections);
        let help =
            "Answers of the HTTP boot port, by what was asked for and the class of the status.";
        let mut answers = out.counter("bedplate_http_boot_requests", help);
        for ((kind, _), counters) in KINDS.iter().zip(&self.answers) {
            for (class, count) in counters.get() {
                answers.sample(&[("kind", kind), ("status", class)], count);
            }
        }
        let help = "Bytes that the HTTP boot port has sent, with the heads of answers.";
        out.counter("bedplate_http_boot_sent_bytes", help).count(&self.sent);
    }
}

/// Index of what is asked for in [`KINDS`].
fn kind_of(request: &Request) -> usize {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    KINDS.iter().position(|(_, known)| route == Some(*known)).unwrap_or(KINDS.len() - 1)
}

/// Counts answers as they begin: how they end shows in the bytes. Written by hand, as scripts are
/// answered many thousand times a second and a function as middleware allocates for each.
#[derive(Debug, Clone)]
pub(super) struct Counting(pub(super) Arc<Meter>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, meter: self.0.clone() }
    }
}

/// A service whose answers are counted.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Service<Request> for Counted<S>
where
    S: Service<Request, Response = Response, Future: Unpin>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = CountedAnswer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (kind, meter) = (kind_of(&request), self.meter.clone());
        CountedAnswer { answer: self.inner.call(request), kind, meter }
    }
}

/// An answer that is counted when it begins.
#[derive(Debug)]
pub(super) struct CountedAnswer<F> {
    answer: F,
    kind: usize,
    meter: Arc<Meter>,
}

impl<E, F: Future<Output = Result<Response, E>> + Unpin> Future for CountedAnswer<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        if let Ok(response) = &answer {
            self.meter.answered(self.kind, response.status());
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn answers_are_counted_by_route_and_never_by_what_was_asked_for() {
        let meter = Arc::new(Meter::default());
        let router = Router::new()
            .route("/boot/{mac}/script", get(async || "#!ipxe"))
            .route("/firmware/{file}", get(async || StatusCode::NOT_FOUND))
            .layer(Counting(meter.clone()));
        for path in ["/boot/1/script", "/boot/2/script", "/firmware/x", "/nowhere", "/nowhere/else"]
        {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
        let _open = meter.enter();
        meter.sent(17);
        let mut out = Exposition::new();
        meter.expose(&mut out);
        let text = out.finish();
        let told: String = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"))
            .map(|line| format!("{line}\n"))
            .collect();
        expect_test::expect![[r#"
            bedplate_http_boot_connections 1
            bedplate_http_boot_requests_total{kind="script",status="2xx"} 2
            bedplate_http_boot_requests_total{kind="firmware",status="4xx"} 1
            bedplate_http_boot_requests_total{kind="other",status="4xx"} 2
            bedplate_http_boot_sent_bytes_total 17
        "#]]
        .assert_eq(&told);
    }
}

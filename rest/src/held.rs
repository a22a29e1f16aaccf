//! An answer that holds something until its last part is handed over: a place among those that are
//! counted.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use hyper::body::{Frame, SizeHint};

/// The same answer; `held` is dropped with its body, which is when its last part is handed over or
/// nobody reads it any more.
#[must_use]
pub fn holding<T: Send + Unpin + 'static>(response: Response, held: T) -> Response {
    response.map(|body| Body::new(Holding::new(body, held)))
}

/// The body of an answer that holds something.
pub(crate) struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T> Holding<T> {
    pub(crate) fn new(body: Body, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn it_is_held_until_the_answer_is_read_or_dropped() {
        let held = Arc::new(());
        let answer = holding(Response::new(Body::from("all of it")), held.clone());
        assert_eq!(answer.body().size_hint().exact(), Some(9));
        assert_eq!(Arc::strong_count(&held), 2);
        let (_, mut body) = answer.into_parts();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "all of it");
        assert_eq!(Arc::strong_count(&held), 2, "whoever sends it has it yet");
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

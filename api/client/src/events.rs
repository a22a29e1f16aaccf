//! Server-sent events (HTML standard, section 9.2), as far as the API uses them: `data:` lines, comments, blank lines.

use std::{collections::VecDeque, marker::PhantomData};

use serde::de::DeserializeOwned;

use crate::ClientError;

/// Longest event, bytes: a workflow of the largest document has tens of thousands of stages of some 300 bytes.
const MAX_EVENT_BYTES: usize = 32 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The server had no more to say.
    Closed,
    /// The connection broke; asking again is worth it.
    Broken,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events<T> {
    response: reqwest::Response,
    parser: Parser,
    ready: VecDeque<String>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Events<T> {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, parser: Parser::default(), ready: VecDeque::new(), of: PhantomData }
    }

    /// The next event, or how the stream ended.
    ///
    /// # Errors
    /// [`ClientError::Event`] if an event is not understood.
    pub async fn next(&mut self) -> Result<Result<T, StreamEnd>, ClientError> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return serde_json::from_str(&text).map(Ok).map_err(ClientError::Event);
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => match self.parser.push(&bytes) {
                    Ok(events) => self.ready.extend(events),
                    Err(TooLong) => return Ok(Err(StreamEnd::Broken)),
                },
                Ok(None) => return Ok(Err(StreamEnd::Closed)),
                Err(_) => return Ok(Err(StreamEnd::Broken)),
            }
        }
    }
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: String,
}

/// An event is longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() + self.event.len() > MAX_EVENT_BYTES {
                    return Err(TooLong);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
            self.line.clear();
            if line.is_empty() {
                if !self.event.is_empty() {
                    events.push(std::mem::take(&mut self.event));
                }
            } else if let Some(text) = line.strip_prefix("data:") {
                if !self.event.is_empty() {
                    self.event.push('\n');
                }
                self.event.push_str(text.strip_prefix(' ').unwrap_or(text));
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let bytes =
            b": keep-alive\n\ndata: {\"a\":1}\n\nevent: x\r\ndata:2\r\ndata: 3\r\n\r\ndata: unfinished\n";
        for size in 1..bytes.len() {
            let mut parser = Parser::default();
            let events: Vec<String> =
                bytes.chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(events, ["{\"a\":1}", "2\n3"], "cut every {size} bytes");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(TooLong));
    }
}

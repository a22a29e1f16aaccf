//! Server-sent events (HTML standard, section 9.2), as far as the API uses them: `data:` lines,
//! comments, blank lines; of names only `list`, and of ids that there is one.

use std::{collections::VecDeque, marker::PhantomData};

use serde::de::DeserializeOwned;

use crate::ClientError;

/// Longest event, bytes: a workflow of the largest document has tens of thousands of stages of
/// some 300 bytes.
const MAX_EVENT_BYTES: usize = 32 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The server had no more to say.
    Closed,
    /// The connection broke; asking again is worth it.
    Broken,
}

/// What a stream of the states of objects tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage<T> {
    /// Every object there is follows, until [`WatchMessage::ListEnd`]: what is not
    /// among those is gone.
    ListBegin,
    /// An object as it is now.
    State(T),
    /// All objects have come. What comes from here on are changes.
    ListEnd,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events<T> {
    response: reqwest::Response,
    parser: Parser,
    ready: VecDeque<WatchMessage<String>>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Events<T> {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { response, parser: Parser::default(), ready: VecDeque::new(), of: PhantomData }
    }

    /// The next object, or how the stream ended.
    ///
    /// # Errors
    /// [`ClientError::Event`] if an event is not understood.
    pub async fn next(&mut self) -> Result<Result<T, StreamEnd>, ClientError> {
        loop {
            match self.next_message().await? {
                Ok(WatchMessage::State(state)) => return Ok(Ok(state)),
                Ok(WatchMessage::ListBegin | WatchMessage::ListEnd) => {}
                Err(end) => return Ok(Err(end)),
            }
        }
    }

    /// As [`Self::next`], with the ends of lists: for whoever must know what is gone.
    ///
    /// # Errors
    /// [`ClientError::Event`] if an event is not understood.
    pub async fn next_message(
        &mut self,
    ) -> Result<Result<WatchMessage<T>, StreamEnd>, ClientError> {
        loop {
            match self.ready.pop_front() {
                None => {}
                Some(WatchMessage::ListBegin) => return Ok(Ok(WatchMessage::ListBegin)),
                Some(WatchMessage::ListEnd) => return Ok(Ok(WatchMessage::ListEnd)),
                Some(WatchMessage::State(text)) => {
                    let state = serde_json::from_str(&text);
                    return state
                        .map(|state| Ok(WatchMessage::State(state)))
                        .map_err(ClientError::Event);
                }
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
    /// The event that comes is the head of a list.
    is_list: bool,
    /// It has an id.
    has_id: bool,
    /// The objects of a list come; the first event with an id is the last of it.
    listing: bool,
}

/// An event is longer than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<WatchMessage<String>>, TooLong> {
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
                self.end_event(&mut events);
            } else if let Some(name) = line.strip_prefix("event:") {
                self.is_list = name.trim() == "list";
            } else if line.starts_with("id:") {
                self.has_id = true;
            } else if let Some(text) = line.strip_prefix("data:") {
                if !self.event.is_empty() {
                    self.event.push('\n');
                }
                self.event.push_str(text.strip_prefix(' ').unwrap_or(text));
            }
        }
        Ok(events)
    }

    /// A blank line has come.
    fn end_event(&mut self, events: &mut Vec<WatchMessage<String>>) {
        let text = std::mem::take(&mut self.event);
        let (is_list, has_id) =
            (std::mem::take(&mut self.is_list), std::mem::take(&mut self.has_id));
        if is_list {
            self.listing = true;
            events.push(WatchMessage::ListBegin);
        } else if !text.is_empty() {
            events.push(WatchMessage::State(text));
        }
        if has_id && std::mem::take(&mut self.listing) {
            events.push(WatchMessage::ListEnd);
        }
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
            let events: Vec<WatchMessage<String>> =
                bytes.chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            let state = |text: &str| WatchMessage::State(text.to_owned());
            assert_eq!(events, [state("{\"a\":1}"), state("2\n3")], "cut every {size} bytes");
        }
    }

    #[test]
    fn a_list_ends_with_its_first_id() {
        let told = |text: &str| -> Vec<String> {
            let shown = |told: WatchMessage<String>| match told {
                WatchMessage::ListBegin => "(".to_owned(),
                WatchMessage::State(text) => text,
                WatchMessage::ListEnd => ")".to_owned(),
            };
            Parser::default().push(text.as_bytes()).unwrap().into_iter().map(shown).collect()
        };
        let head = "event: list\ndata: \ndata: \n\n";
        let of_two = format!("{head}data: 1\n\ndata: 2\nid: a-1\n\ndata: 3\nid: a-2\n\n: x\n\n");
        assert_eq!(told(&of_two), ["(", "1", "2", ")", "3"]);
        assert_eq!(told("event: list\ndata: \ndata: \nid: a-1\n\n"), ["(", ")"], "there is none");
        assert_eq!(
            told(&format!("{head}data: 1\n\n{head}data: 1\nid:b\n\n")),
            ["(", "1", "(", "1", ")"]
        );
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(TooLong));
    }
}

//! Host lists in requests.

use api::{
    hostlist::{self, HostListError},
    ids::{InvalidId, NodeName},
};
use axum::http::StatusCode;

use crate::{Refusal, work};

/// Names that are made on the thread that answers: some tens of microseconds.
const MAX_SHORT_LIST: usize = 1_000;

/// Longest list that is read there, bytes.
const MAX_SHORT_LIST_BYTES: usize = 16 << 10;

/// Longest list that the title of a problem quotes, characters.
const MAX_QUOTED_CHARS: usize = 80;

/// Why a list names no nodes.
#[derive(Debug, thiserror::Error)]
enum NamesError {
    #[error(transparent)]
    List(#[from] HostListError),
    #[error(transparent)]
    Name(#[from] InvalidId),
}

/// The names of a host list that a user sent, in its order. A long one is work like any other.
///
/// # Errors
/// Status 400 for what is no list of names, and those of [`work`].
pub async fn node_names(user: &str, title: &str, list: String) -> Result<Vec<NodeName>, Refusal> {
    let is_short = list.len() <= MAX_SHORT_LIST_BYTES
        && hostlist::count(&list).is_ok_and(|count| count <= MAX_SHORT_LIST);
    let names = match is_short {
        true => names_of(&list),
        false => work(title, user, move |_| names_of(&list)).await?,
    };
    names.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, title, error.to_string()))
}

fn names_of(list: &str) -> Result<Vec<NodeName>, NamesError> {
    let names = hostlist::expand(list)?;
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

/// A list as the title of a problem quotes it: cut at 80 characters.
#[must_use]
pub fn quoted(list: &str) -> String {
    match list.char_indices().nth(MAX_QUOTED_CHARS) {
        None => list.to_owned(),
        Some((end, _)) => format!("{}…", &list[..end]),
    }
}

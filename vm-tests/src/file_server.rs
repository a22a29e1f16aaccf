//! A small HTTP server on the bridge: where workflows take files from (GET) and
//! bring them to (PUT).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};

use crate::namespace::SERVER;

/// Where it listens.
const PORT: u16 = 8080;

type Files = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// The server; ends when dropped.
#[derive(Debug)]
pub(crate) struct FileServer {
    files: Files,
    _runtime: tokio::runtime::Runtime,
}

impl FileServer {
    /// Starts it in the namespace of the calling thread.
    ///
    /// # Errors
    /// If the port is taken.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let files = Files::default();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((SERVER, PORT)))
            .with_context(|| format!("cannot listen on {SERVER}:{PORT}"))?;
        let routes = Router::new().route("/{name}", get(take).put(bring)).with_state(files.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { files, _runtime: runtime })
    }

    /// Offers a file.
    pub(crate) fn offer(&self, name: &str, content: &str) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), Bytes::from(content.to_owned()));
    }

    /// A file as it was brought, or offered.
    pub(crate) fn content(&self, name: &str) -> Option<String> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(name).map(|content| String::from_utf8_lossy(content).into_owned())
    }
}

async fn take(State(files): State<Files>, Path(name): Path<String>) -> Result<Bytes, StatusCode> {
    let files = files.lock().unwrap_or_else(PoisonError::into_inner);
    files.get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn bring(State(files): State<Files>, Path(name): Path<String>, content: Bytes) -> StatusCode {
    files.lock().unwrap_or_else(PoisonError::into_inner).insert(name, content);
    StatusCode::CREATED
}

//! The user's own terminal: raw while a program elsewhere has it, its size, its keys.

use std::io::{self, IsTerminal as _, Read as _};

use anyhow::Context as _;
use api::stream::{Control, Size};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Where there is no terminal, a program that wants one gets this size.
const DEFAULT_SIZE: Size = Size { rows: 24, columns: 80 };

/// Pieces of input that wait for the line.
const MAX_PIECES: usize = 4;

/// Bytes of input that are read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Sizes that wait for the line; a later one comes with the next signal.
const MAX_SIZES: usize = 4;

/// The terminal in raw mode (termios(3)), as it was again when this is dropped: at the end, on an
/// error, on a panic.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// `None` if standard input is no terminal.
    pub(super) fn enter() -> anyhow::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin()).context("cannot look at the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("cannot set the terminal")?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Its size.
pub(super) fn size() -> Size {
    match tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Size { rows: size.ws_row, columns: size.ws_col }
        }
        _ => DEFAULT_SIZE,
    }
}

/// A word for each change of its size.
pub(super) fn sizes() -> anyhow::Result<mpsc::Receiver<Control>> {
    let mut changes =
        signal(SignalKind::window_change()).context("cannot watch the size of the terminal")?;
    let (words, sizes) = mpsc::channel(MAX_SIZES);
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            if words.send(Control::Resize { size: size() }).await.is_err() {
                return;
            }
        }
    });
    Ok(sizes)
}

/// Standard input in pieces, read by a thread: a runtime would wait at its end for a key that
/// nobody presses.
pub(super) fn input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, input) = mpsc::channel(MAX_PIECES);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(read) if pieces.blocking_send(buffer[..read].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be read any more has ended.
                Err(_) => return,
            }
        }
    });
    input
}

/// Waits for a signal that ends this program, so that what was changed is put back before.
pub(super) async fn ended_by_signal() -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let number = tokio::select! {
        _ = terminate.recv() => 15,
        _ = hang_up.recv() => 1,
        _ = interrupt.recv() => 2,
    };
    Ok(128 + number)
}

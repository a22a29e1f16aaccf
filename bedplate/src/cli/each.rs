//! The same for several things in turn, such as the deletion of images.

use std::fmt::Display;

use anyhow::bail;
use client::ClientError;

use super::{
    context::Session,
    error,
    output::{Done, print_note},
};

/// Does something to each thing. That one fails does not spare the others: each outcome is shown,
/// also where the server goes away in the middle. `act` gives the word for what it did; `undone`
/// is the word for what was not done.
pub(super) async fn each<N: Display>(
    session: &Session,
    names: &[N],
    undone: &str,
    act: impl AsyncFn(&N) -> Result<&'static str, ClientError>,
) -> anyhow::Result<()> {
    let (mut done, mut failed) = (Done::default(), Vec::new());
    let mut left = names.iter();
    for name in left.by_ref() {
        match act(name).await {
            Ok(action) => done.push(action, name),
            Err(error) => {
                let is_gone = matches!(error, ClientError::Unreachable { .. });
                failed.push((name, error));
                // Each of the others would wait for the server as long.
                if is_gone {
                    break;
                }
            }
        }
    }
    if !done.is_empty() {
        session.out.show(&done, |_| done.text())?;
    }
    if names.len() == 1 {
        return failed.pop().map_or(Ok(()), |(_, error)| Err(error.into()));
    }
    let mut not: Vec<String> = Vec::new();
    for (name, error) in failed {
        not.push(name.to_string());
        print_note(&error::text(&error.into()));
    }
    not.extend(left.map(ToString::to_string));
    if !not.is_empty() {
        bail!("not {undone}: {}", not.join(", "));
    }
    Ok(())
}

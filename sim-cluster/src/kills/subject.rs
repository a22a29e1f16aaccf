//! What a writer changes: how each kind of object is made, changed, deleted and read, through the
//! same client as everybody's.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use api::{
    access::{CreateToken, User},
    ids::{OverlayName, ProfileName},
    machine::{AddNodes, MachineSpec, PatchNodes},
};
use client::{Client, ClientError};
use serde_json::json;

use super::audit::Line;

/// Nodes that are changed by one request: all of them, or none.
const NODES: usize = 5;

/// Objects of each kind.
pub(super) const OBJECTS: usize = 6;

/// The overlay whose files are changed.
const OVERLAY: &str = "kills";

/// What a token has for a value: it is there, or it is not.
const TOKEN: &str = "a token";

/// What an object is: a text that no other change gives it; `None`: it is not there.
pub(super) type Value = Option<String>;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// [`NODES`] nodes at once, by their comments.
    Nodes,
    /// Profiles, by their comments.
    Profiles,
    /// Users, by their comments.
    Users,
    /// Tokens of the admin.
    Tokens,
    /// Files of an overlay, by their contents. They are files of the server's disk too.
    Files,
}

impl Subject {
    pub(super) const ALL: [Self; 5] =
        [Self::Nodes, Self::Profiles, Self::Users, Self::Tokens, Self::Files];

    /// What comes after a value: another one, or the end.
    pub(super) fn next(self, now: &Value, deletes: bool, number: u64) -> Value {
        match (self, now) {
            (_, Some(_)) if deletes => None,
            (Self::Tokens, Some(_)) => None,
            (Self::Tokens, None) => Some(TOKEN.to_owned()),
            _ => Some(format!("value {number}")),
        }
    }

    /// The request that makes one value of another.
    pub(super) fn line(self, name: &str, now: &Value, next: &Value) -> Line {
        let one = |collection: &str| format!("/v1/{collection}/{name}");
        let all = |collection: &str| format!("/v1/{collection}");
        match (self, now, next) {
            (Self::Nodes, None, _) => ("POST", all("nodes")),
            (Self::Nodes, _, Some(_)) => ("PATCH", all("nodes")),
            (Self::Nodes, _, None) => ("DELETE", all("nodes")),
            (Self::Profiles, _, Some(_)) => ("PUT", one("profiles")),
            (Self::Profiles, _, None) => ("DELETE", one("profiles")),
            (Self::Users, None, _) => ("POST", all("users")),
            (Self::Users, _, Some(_)) => ("PUT", one("users")),
            (Self::Users, _, None) => ("DELETE", one("users")),
            (Self::Tokens, None, _) => ("POST", all("tokens")),
            (Self::Tokens, ..) => ("DELETE", one("tokens")),
            (Self::Files, _, Some(_)) => ("PUT", one(&format!("overlays/{OVERLAY}/files/etc"))),
            (Self::Files, _, None) => ("DELETE", one(&format!("overlays/{OVERLAY}/files/etc"))),
        }
    }

    /// Sends that request.
    pub(super) async fn change(
        self,
        client: &Client,
        name: &str,
        now: &Value,
        next: &Value,
    ) -> Result<(), ClientError> {
        let comment = next.clone();
        match self {
            Self::Nodes => {
                let names = format!("{name}x[1-{NODES}]");
                if now.is_none() {
                    let spec = MachineSpec { comment, ..MachineSpec::default() };
                    client.add_nodes(&AddNodes { names, spec }).await.map(drop)
                } else if next.is_some() {
                    let patch = json!({ "comment": comment });
                    client.patch_nodes(&PatchNodes { names, patch }).await.map(drop)
                } else {
                    client.delete_nodes(&names).await
                }
            }
            Self::Profiles => {
                let name = profile(name)?;
                if next.is_none() {
                    return client.delete_profile(&name).await;
                }
                let spec = MachineSpec { comment, ..MachineSpec::default() };
                client.put_profile(&name, &spec).await.map(drop)
            }
            Self::Users => {
                let user = User { name: name.to_owned(), admin: false, account: None, comment };
                if now.is_none() {
                    client.add_user(&user).await.map(drop)
                } else if next.is_some() {
                    client.change_user(&user).await.map(drop)
                } else {
                    client.delete_user(name).await
                }
            }
            Self::Tokens if next.is_some() => client
                .create_token(&CreateToken { name: name.to_owned(), ..CreateToken::default() })
                .await
                .map(drop),
            Self::Tokens => client.delete_token(name).await,
            Self::Files => {
                let (overlay, path) = (overlay()?, file(name));
                match comment {
                    Some(text) => {
                        client
                            .put_overlay_file(&overlay, &path, 0o644, false, text.into_bytes())
                            .await
                    }
                    None => client.delete_overlay_file(&overlay, &path).await,
                }
            }
        }
    }

    /// What the server has of them, by name.
    ///
    /// # Errors
    /// If it does not answer, or has a half of something.
    pub(super) async fn read(self, client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
        match self {
            Self::Nodes => nodes(client).await,
            Self::Profiles => {
                let all = client.profiles().await?.into_iter();
                Ok(ours(
                    all.map(|one| (one.name.to_string(), one.spec.comment.unwrap_or_default())),
                ))
            }
            Self::Users => {
                let all = client.users().await?.into_iter();
                Ok(ours(all.map(|one| (one.name, one.comment.unwrap_or_default()))))
            }
            Self::Tokens => {
                let all = client.tokens().await?.into_iter();
                Ok(ours(all.map(|one| (one.name, TOKEN.to_owned()))))
            }
            Self::Files => files(client).await,
        }
    }
}

/// Name of an object.
pub(super) fn name(number: usize) -> String {
    format!("kill{number}")
}

/// Those that a writer made.
fn ours(all: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let names: Vec<String> = (0..OBJECTS).map(name).collect();
    all.filter(|(name, _)| names.contains(name)).collect()
}

async fn nodes(client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in client.nodes(None).await? {
        if let Some((group, _)) = node.name.as_str().split_once('x') {
            groups.entry(group.to_owned()).or_default().push(node.spec.comment.unwrap_or_default());
        }
    }
    let mut found = BTreeMap::new();
    for (group, mut comments) in groups {
        ensure!(
            comments.len() == NODES && comments.iter().all(|comment| *comment == comments[0]),
            "half of a change of {NODES} nodes: {group} {comments:?}"
        );
        found.extend(comments.pop().map(|comment| (group, comment)));
    }
    Ok(found)
}

async fn files(client: &Client) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for name in (0..OBJECTS).map(name) {
        match client.overlay_file(&overlay()?, &file(&name)).await {
            Ok(bytes) => {
                found.insert(name, String::from_utf8(bytes).context("a file is torn")?);
            }
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn file(name: &str) -> String {
    format!("/etc/{name}")
}

fn overlay() -> Result<OverlayName, ClientError> {
    OVERLAY.parse().map_err(|_| ClientError::Part { part: OVERLAY.to_owned() })
}

fn profile(name: &str) -> Result<ProfileName, ClientError> {
    name.parse().map_err(|_| ClientError::Part { part: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_followed_by_another_or_by_none() {
        let now = Some("value 1".to_owned());
        for subject in Subject::ALL {
            assert_eq!(subject.next(&now, true, 2), None);
            assert!(subject.next(&None, true, 2).is_some());
            assert_ne!(subject.next(&now, false, 2), now);
        }
        let line = Subject::Nodes.line("kill1", &now, &None);
        assert_eq!(line, ("DELETE", "/v1/nodes".to_owned()));
        let line = Subject::Files.line("kill1", &None, &now);
        assert_eq!(line, ("PUT", "/v1/overlays/kills/files/etc/kill1".to_owned()));
    }
}

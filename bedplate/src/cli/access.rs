//! `whoami` and `version`.

use api::{access, rights::Role};
use clap::Args;
use serde::Serialize;

use super::{
    columns,
    context::Session,
    output::{Rows, print_note},
    table::{Style, cells, table},
};

/// Print the user of the context's token.
#[derive(Debug, Args)]
pub(super) struct Whoami {
    /// List what that user may do, and on which things: its own or all.
    #[arg(long)]
    actions: bool,
}

pub(super) async fn whoami(session: &Session, wanted: &Whoami) -> anyhow::Result<()> {
    let whoami = session.client()?.whoami().await?;
    session.out.show(&whoami, |look| {
        let actions = if wanted.actions { action_table(*look, &whoami) } else { String::new() };
        who(&whoami) + &actions
    })
}

/// `ann (user)`, with the groups where there are some.
fn who(whoami: &access::Whoami) -> String {
    let mut roles: Vec<&str> = whoami.roles.iter().copied().map(Role::as_str).collect();
    if roles.is_empty() {
        // A server of before 2026-12 says only whether it is an admin.
        roles.push(if whoami.admin { "admin" } else { "user" });
    }
    let mut line = format!("{} ({})", whoami.name, roles.join(", "));
    if !whoami.groups.is_empty() {
        line += &format!(" in {}", whoami.groups.join(", "));
    }
    line + "\n"
}

fn action_table(look: Style, whoami: &access::Whoami) -> String {
    let row = |permitted: &api::rights::Permitted| {
        cells(
            [permitted.action.as_str(), permitted.on.as_str(), permitted.action.phrase()]
                .map(str::to_owned),
        )
    };
    table(look, &["ACTION", "ON", "WHAT"], whoami.actions.iter().map(row))
}

/// Versions of both sides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Versions {
    /// This program's.
    client: &'static str,
    /// The server's; `None` if it cannot be asked.
    server: Option<String>,
}

impl Rows for Versions {
    const COLUMNS: &'static [&'static str] = columns::VERSIONS;
}

/// The server's version is left out where no server can be asked.
pub(super) async fn version(session: &Session) -> anyhow::Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let server = match session.client() {
        Ok(client) => client.version().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = &server {
        print_note(&format!("the server's version is not known: {error:#}"));
    }
    let server = server.ok().and_then(|answer| answer["version"].as_str().map(str::to_owned));
    let versions = Versions { client: own, server };
    session.out.show(&versions, |_| match &versions.server {
        Some(server) => format!("bedplate {own}\nserver   {server}\n"),
        None => format!("bedplate {own}\n"),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn who_may_do_what() {
        use api::rights::{Action, Extent, Permitted};
        let mut ann = access::Whoami {
            name: "ann".to_owned(),
            admin: false,
            roles: Vec::new(),
            groups: Vec::new(),
            actions: vec![
                Permitted { action: Action::NodeList, on: Extent::All },
                Permitted { action: Action::WorkflowStop, on: Extent::Own },
            ],
            token: None,
            expires: None,
        };
        assert_eq!(who(&ann), "ann (user)\n", "an older server tells no roles");
        ann.roles = vec![Role::User, Role::Admin];
        ann.groups = vec!["lab".to_owned()];
        assert_eq!(who(&ann), "ann (user, admin) in lab\n");
        expect![[r#"
            ACTION         ON   WHAT
            node-list      all  list nodes
            workflow-stop  own  stop the workflow
        "#]]
        .assert_eq(&action_table(Style::PLAIN, &ann));
    }
}

//! `server`: runs the server, or checks its configuration.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::anyhow;
use api::problem::Mistake;
use bedplate::config::{Checked, ConfigError};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    columns,
    context::Session,
    output::{Rows, say},
    words::count,
};

/// Run the server until SIGTERM or SIGINT; it logs on standard error.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
#[command(
    after_help = "The first start writes /var/lib/bedplate/admin.yaml, with which the command line is let in.

Examples:
  bedplate server
  bedplate server check --config ./server.yaml"
)]
pub(super) struct Server {
    /// Configuration [default: /etc/bedplate/server.yaml; without that file, the defaults].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell every mistake of the configuration, and start nothing.
    #[command(
        after_help = "Overlays, nodes, profiles and images that the server cannot read are told as problems: it starts all the same, and
holds the nodes that use them.

Exit status: 0 the server can start, 1 the configuration has mistakes."
    )]
    Check,
}

pub(super) async fn run(session: &Session, server: Server) -> anyhow::Result<()> {
    match server.verb {
        None => {
            session.out.refuse_format("server")?;
            bedplate::server::start(server.config).await.map_err(|error| match error.downcast() {
                Ok(error) => told(error),
                Err(other) => other,
            })
        }
        Some(Verb::Check) => check(session, server.config).await,
    }
}

/// What a check of the configuration found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckedServer {
    /// The server can start.
    starts: bool,
    /// Address of the REST API; `None` if it cannot start.
    api: Option<SocketAddr>,
    /// Addresses for nodes.
    nodes: Vec<SocketAddr>,
    /// What keeps it from starting, in the order of the file.
    mistakes: Vec<Mistake>,
    /// What is hardly as it was meant.
    notes: Vec<Mistake>,
    /// Objects that the server cannot read.
    problems: Vec<String>,
}

impl Rows for CheckedServer {
    const COLUMNS: &'static [&'static str] = columns::FINDING;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let mistakes = self.mistakes.iter().map(|mistake| columns::finding("mistake", mistake));
        let notes = self.notes.iter().map(|note| columns::finding("note", note));
        let problem = |text: &String| Ok(json!({"level": "problem", "message": text}));
        mistakes.chain(notes).chain(self.problems.iter().map(problem)).collect()
    }
}

async fn check(session: &Session, config: Option<PathBuf>) -> anyhow::Result<()> {
    let checked = match Checked::load(config) {
        Ok(checked) => checked,
        Err(error) => {
            if let ConfigError::Mistakes { mistakes, .. } = &error
                && session.out.is_for_programs()
            {
                let (mistakes, nodes) = (mistakes.clone(), Vec::new());
                let (notes, problems) = (Vec::new(), Vec::new());
                let failed = CheckedServer { starts: false, api: None, nodes, mistakes, notes, problems };
                session.out.show(&failed, |_| String::new())?;
            }
            return Err(told(error));
        }
    };
    let checked = CheckedServer {
        starts: true,
        api: Some(checked.api_listen),
        nodes: checked.fleet_listen.clone(),
        mistakes: Vec::new(),
        problems: bedplate::server::problems(&checked).await,
        notes: checked.notes,
    };
    if !session.out.is_for_programs() {
        checked.notes.iter().for_each(|note| say(&format!("note: {note}")));
        checked.problems.iter().for_each(|problem| say(&format!("problem: {problem}")));
    }
    session.out.show(&checked, |_| verdict(&checked))
}

fn verdict(checked: &CheckedServer) -> String {
    let ports: Vec<String> = checked.nodes.iter().map(ToString::to_string).collect();
    let api = checked.api.map(|api| api.to_string()).unwrap_or_default();
    let served = format!("REST API at {api}, nodes at {}", ports.join(" and "));
    match checked.problems.len() {
        0 => format!("good: {served}\n"),
        // The unit runs this before it starts the server, which must not fail for them.
        some => format!("starts, with {}: {served}\n", count(some, "problem")),
    }
}

/// Mistakes go on lines of their own, as compilers write them.
fn told(error: ConfigError) -> anyhow::Error {
    let ConfigError::Mistakes { path, mistakes } = &error else { return error.into() };
    for mistake in mistakes {
        say(&format!("{}:{mistake}", path.display()));
    }
    anyhow!("configuration {} has {}", path.display(), count(mistakes.len(), "mistake"))
}

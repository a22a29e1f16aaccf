//! `server`: runs the server, or checks its configuration.

use std::path::PathBuf;

use anyhow::anyhow;
use bedplate::config::{Checked, ConfigError};
use clap::{Args, Subcommand};

use super::{
    context::Session,
    output::{print, say},
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
    session.out.refuse_format("server")?;
    match server.verb {
        None => bedplate::server::start(server.config).await.map_err(|error| match error.downcast() {
            Ok(error) => told(error),
            Err(other) => other,
        }),
        Some(Verb::Check) => {
            let checked = Checked::load(server.config).map_err(told)?;
            for note in &checked.notes {
                say(&format!("note: {note}"));
            }
            let problems = bedplate::server::problems(&checked).await;
            for problem in &problems {
                say(&format!("problem: {problem}"));
            }
            let ports: Vec<String> = checked.fleet_listen.iter().map(ToString::to_string).collect();
            let served = format!("REST API at {}, nodes at {}", checked.api_listen, ports.join(" and "));
            match problems.len() {
                0 => print(&format!("good: {served}\n")),
                // The unit runs this before it starts the server, which must not fail for them.
                some => print(&format!("starts, with {}: {served}\n", count(some, "problem"))),
            }
        }
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

//! `server`: runs the server, checks its configuration, gives its files to its user, and looks
//! after its certificates and its admin.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::anyhow;
use api::{image::Bar, problem::Diagnostic};
use bedplate::{
    config::{Checked, ConfigError, DEFAULT_PATH},
    server::{Problems, SERVER_USER, ServerUser},
};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    columns,
    context::Session,
    operation::progress::Progress,
    output::{Done, Rows, print, print_note},
    words::count,
};

mod ca;

/// Where the REST port is, if neither the configuration nor an earlier admin.yaml
/// tells: the default.
const DEFAULT_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);

/// Run the server until SIGTERM or SIGINT; it logs to standard error.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
#[command(
    after_help = "The first start writes /var/lib/bedplate/admin.yaml, the credentials of the command line.

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
    /// Report every error in the configuration without starting the server.
    #[command(
        after_help = "Overlays and database rows of nodes, profiles, images and workflows that the server cannot read are
reported as problems: the server starts nevertheless, and holds the nodes that use them. So are files
of images that are missing or have the wrong size. At most 200 problems are reported. Files of the
state directory that belong to another user are a problem too: a server that you start yourself is
refused then; one that runs as that user is not.

--deep reads every file of every image, however long that takes.

Exit status: 0 if the configuration has no errors, otherwise 1."
    )]
    Check {
        /// Also verify the contents of all files of images against their digests.
        #[arg(long)]
        deep: bool,
    },
    /// List what needs an admin's attention: tokens that never expire, tokens and certificates
    /// that expire soon.
    Alarms,
    /// The certificate authority and the certificates of the server.
    #[command(subcommand)]
    Ca(ca::CaVerb),
    /// Create a new admin token on this machine when all others are lost, and write admin.yaml.
    #[command(
        after_help = "Run it as root on the server's machine. The server may be running, and accepts the token at once. The user `admin`
is made an admin if it is not one. The token is named `recovered` and replaces an earlier one of that name.
All other tokens stay: `bedplate token list` shows them. The audit log records it.

Examples:
  bedplate server recover-admin
  bedplate server recover-admin --state-dir /srv/bedplate"
    )]
    RecoverAdmin {
        /// State directory of the server [default: that of the configuration].
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Accept a cut of the audit log whose key was lost, so that its alarm ends. Requires root and
    /// a stopped server.
    #[command(
        after_help = "If `audit.key` is lost after lines of the audit log were removed (audit.keep-days, audit.max-gib), nothing proves
that the server removed them: the alarm audit-log-broken is raised, and no further line is removed. Restore
the key from a backup if one has it. Otherwise find out whether somebody has changed the database, then stop
the server and accept the cut. It is signed again with the present key if the log fits it line by line and
tells of it. The audit log records who accepted it, and which key had signed it.

Examples:
  bedplate server accept-audit-cut 18204"
    )]
    AcceptAuditCut {
        /// The last line that was removed, as the alarm names it.
        #[arg(value_name = "LINE")]
        line: u64,
        /// State directory of the server [default: that of the configuration].
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Change the owner of the server's files to the user that it runs as. Requires root.
    #[command(
        after_help = "All files of root in the state directory and the site's overlays are given to the user; modes are kept,
and links are not followed. The configuration and the secrets that it names are made readable for the
user's group if they are in the configuration's own directory (mode 0640).

The systemd unit does this before each start. It does nothing if no file belongs to root, and can be
repeated after an interruption. Run it by hand after you have created files in an overlay as root; use
--all after you have restored a part of the state directory."
    )]
    Adopt {
        /// The user that the server runs as.
        #[arg(long, value_name = "NAME", default_value = SERVER_USER)]
        user: String,
        /// Check the whole state directory, even if its top belongs to the user already.
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(session: &Session, server: Server) -> anyhow::Result<()> {
    match server.verb {
        None => {
            session.out.refuse_format("server")?;
            bedplate::server::start(server.config).await.map_err(|error| match error.downcast() {
                Ok(error) => with_diagnostics(error),
                Err(other) => other,
            })
        }
        Some(Verb::Check { deep }) => check(session, server.config, deep).await,
        Some(Verb::Alarms) => ca::alarms(session).await,
        Some(Verb::Ca(verb)) => ca::run(session, verb).await,
        Some(Verb::RecoverAdmin { state_dir }) => {
            recover_admin(session, server.config, state_dir).await
        }
        Some(Verb::AcceptAuditCut { line, state_dir }) => {
            accept_audit_cut(session, server.config, (line, state_dir)).await
        }
        Some(Verb::Adopt { user, all }) => {
            session.out.refuse_format("server adopt")?;
            adopt(server.config, &user, all)
        }
    }
}

async fn recover_admin(
    session: &Session,
    config: Option<PathBuf>,
    state_dir: Option<PathBuf>,
) -> anyhow::Result<()> {
    let (state_dir, api) = match state_dir {
        Some(state_dir) => (state_dir, DEFAULT_API),
        None => {
            let checked = Checked::load(config).map_err(with_diagnostics)?;
            (checked.state_dir, checked.api_listen)
        }
    };
    let recovered = bedplate::server::recover_admin(&state_dir, api).await?;
    let file = recovered.file.display().to_string();
    session.out.show(&Done::new("recovered", [recovered.user]), |_| {
        format!("{file} has a new token of {}\n", recovered.user)
    })?;
    match recovered.replaced {
        Some(made) => print_note(&format!(
            "it replaces token {} of {}, made {made}, which is refused from now on; other tokens of before are still \
             good: `bedplate token list` shows them",
            recovered.token, recovered.user
        )),
        None => print_note("tokens of before are still good: `bedplate token list` shows them"),
    }
    Ok(())
}

async fn accept_audit_cut(
    session: &Session,
    config: Option<PathBuf>,
    (line, state_dir): (u64, Option<PathBuf>),
) -> anyhow::Result<()> {
    let (state_dir, head_file) = match state_dir {
        Some(state_dir) => (state_dir, None),
        None => {
            let checked = Checked::load(config).map_err(with_diagnostics)?;
            (checked.state_dir, checked.audit_head_file)
        }
    };
    let key = bedplate::server::accept_audit_cut(&state_dir, head_file, line).await?;
    session.out.show(&Done::new("accepted", [format!("lines up to {line}")]), |_| {
        format!("the cut up to line {line}, which the key {key} had signed, is signed again\n")
    })
}

/// What a check of the configuration found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckedServer {
    /// The server can start, as whoever asks.
    starts: bool,
    /// Address of the REST API; `None` if it cannot start.
    api: Option<SocketAddr>,
    /// Addresses for nodes.
    nodes: Vec<SocketAddr>,
    /// What keeps it from starting, in the order of the file.
    #[serde(rename = "mistakes")]
    diagnostics: Vec<Diagnostic>,
    /// What is hardly as it was meant.
    notes: Vec<Diagnostic>,
    /// Objects that the server cannot read, and files of images that are not whole.
    problems: Vec<String>,
    /// How many more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems_left_out: Option<usize>,
}

impl Rows for CheckedServer {
    const COLUMNS: &'static [&'static str] = columns::FINDING;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let diagnostics =
            self.diagnostics.iter().map(|diagnostic| columns::finding("mistake", diagnostic));
        let notes = self.notes.iter().map(|note| columns::finding("note", note));
        let problem = |text: &String| Ok(json!({"level": "problem", "message": text}));
        diagnostics.chain(notes).chain(self.problems.iter().map(problem)).collect()
    }
}

async fn check(session: &Session, config: Option<PathBuf>, deep: bool) -> anyhow::Result<()> {
    let checked = match Checked::load(config) {
        Ok(checked) => checked,
        Err(error) => {
            if let ConfigError::Diagnostics { diagnostics, .. } = &error
                && session.out.is_for_programs()
            {
                let (diagnostics, nodes) = (diagnostics.clone(), Vec::new());
                let (notes, problems) = (Vec::new(), Vec::new());
                let (starts, api, problems_left_out) = (false, None, None);
                let failed = CheckedServer {
                    starts,
                    api,
                    nodes,
                    diagnostics,
                    notes,
                    problems,
                    problems_left_out,
                };
                session.out.show(&failed, |_| String::new())?;
            }
            return Err(with_diagnostics(error));
        }
    };
    let problems = look(&checked, deep).await;
    let starts = problems.refused.is_none();
    let checked = CheckedServer {
        starts,
        api: Some(checked.api_listen),
        nodes: checked.fleet_listen.clone(),
        diagnostics: Vec::new(),
        problems: problems.refused.into_iter().chain(problems.lines).collect(),
        problems_left_out: Some(problems.left_out).filter(|count| *count > 0),
        notes: checked.notes,
    };
    if !session.out.is_for_programs() {
        checked.notes.iter().for_each(|note| print_note(&format!("note: {note}")));
        checked.problems.iter().for_each(|problem| print_note(&format!("problem: {problem}")));
        if let Some(left_out) = checked.problems_left_out {
            print_note(&format!("and {} more", count(left_out, "problem")));
        }
    }
    session.out.show(&checked, |_| verdict(&checked))
}

/// Gives what is root's to the server's user, and tells what was done.
fn adopt(config: Option<PathBuf>, user: &str, all: bool) -> anyhow::Result<()> {
    let file = config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let checked = Checked::load(config).map_err(with_diagnostics)?;
    let adopted = bedplate::server::adopt(&checked, &file, &ServerUser::named(user)?, all)?;
    adopted.notes.iter().for_each(|note| print_note(&format!("note: {note}")));
    for path in &adopted.readable {
        print(&format!("{}: group {user} may read it now\n", path.display()))?;
    }
    match adopted.given {
        0 => Ok(()),
        1 => print(&format!("1 file or directory of root's belongs to {user} now\n")),
        given => print(&format!("{given} files and directories of root's belong to {user} now\n")),
    }
}

/// Looks for problems. Reading all files has a bar, or a line at each quarter where there is no
/// terminal.
async fn look(checked: &Checked, deep: bool) -> Problems {
    if !deep {
        return bedplate::server::problems(checked, None).await;
    }
    let mut progress = Progress::new();
    let mut drawn = None;
    let mut tell = |done: u64, total: u64| {
        // A bar that is drawn for each piece of a file would cost more than the reading.
        let thousandth = done.saturating_mul(1_000) / total.max(1);
        if drawn.replace(thousandth) != Some(thousandth) {
            progress.draw(&[Bar { label: "files of images".to_owned(), done, total }], None);
        }
    };
    let problems = bedplate::server::problems(checked, Some(&mut tell)).await;
    progress.clear();
    problems
}

fn verdict(checked: &CheckedServer) -> String {
    let ports: Vec<String> = checked.nodes.iter().map(ToString::to_string).collect();
    let api = checked.api.map(|api| api.to_string()).unwrap_or_default();
    let served = format!("REST API at {api}, nodes at {}", ports.join(" and "));
    match checked.problems.len() + checked.problems_left_out.unwrap_or(0) {
        // Who looks need not be the server's user: the configuration is good all the same.
        some if !checked.starts => {
            format!("does not start as this user, {}: {served}\n", count(some, "problem"))
        }
        0 => format!("good: {served}\n"),
        // The unit runs this before it starts the server, which must not fail for them.
        some => format!("starts, with {}: {served}\n", count(some, "problem")),
    }
}

/// Mistakes go on lines of their own, as compilers write them.
fn with_diagnostics(error: ConfigError) -> anyhow::Error {
    let ConfigError::Diagnostics { path, diagnostics } = &error else { return error.into() };
    for diagnostic in diagnostics {
        print_note(&format!("{}:{diagnostic}", path.display()));
    }
    anyhow!("configuration {} has {}", path.display(), count(diagnostics.len(), "mistake"))
}

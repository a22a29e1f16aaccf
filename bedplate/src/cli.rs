//! The command line: what it looks like, and the way from arguments to an exit status.
//!
//! One module a verb. Verbs ask the server through `client` and hand a value and its text to
//! [`Session::show`].

mod access;
mod apply;
mod audit;
mod clock;
mod columns;
pub(crate) mod complete;
mod context;
mod contexts;
mod csv;
mod each;
mod error;
mod image;
mod input;
mod inventory;
mod node;
mod operation;
mod output;
mod overlay;
mod profile;
mod quota;
mod server;
mod spec;
mod stderr;
mod table;
mod token;
mod tree;
mod user;
mod words;
mod workflow;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{
    context::Session,
    output::{Format, Stdout},
};

/// Heading of the options that every verb has.
const EVERYWHERE: &str = "Everywhere";

/// Takes bare metal to running workflows: boots nodes over the network from OCI images, keeps them
/// in step, and runs jobs on them.
#[derive(Debug, Parser)]
#[command(
    name = "bedplate",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "Examples:
  bedplate image import docker://registry.example/debian-node:12
  bedplate node add n1 --image debian-node --mac 52:54:00:12:34:56 --address 10.1.0.11/24
  bedplate node watch --until ready --timeout 10m
  bedplate node inventory n1
  bedplate workflow start hello.yaml --watch

The server's address, its CA and a token stand in a context file: --context FILE,
else BEDPLATE_CONTEXT, else ~/.config/bedplate/context.yaml, else what the server writes at its
first start: /var/lib/bedplate/admin.yaml."
)]
struct Cli {
    /// File with the server's URL, its CA and a token.
    #[arg(
        long,
        global = true,
        env = "BEDPLATE_CONTEXT",
        value_name = "FILE",
        hide_env = true,
        help_heading = EVERYWHERE
    )]
    context: Option<PathBuf>,
    /// Output format: a table for people; json, yaml or csv for programs.
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = EVERYWHERE)]
    output: Option<Format>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value in a process")]
enum Verb {
    /// Run workflows.
    #[command(subcommand)]
    Workflow(workflow::Verb),
    /// Add, change, watch and reboot nodes.
    #[command(subcommand)]
    Node(node::Verb),
    /// Query the hardware of all nodes.
    #[command(subcommand)]
    Inventory(inventory::Verb),
    /// Manage profiles: values that many nodes share.
    #[command(subcommand)]
    Profile(profile::Verb),
    /// Create and change nodes and profiles to match a YAML document.
    Apply(apply::Apply),
    /// Print all nodes and profiles as a document for `apply`.
    Export,
    /// Import and delete OS images.
    #[command(subcommand)]
    Image(image::Verb),
    /// Show, follow and cancel long operations.
    #[command(subcommand)]
    Operation(operation::Verb),
    /// Manage overlays: files and templates for the root file system of nodes.
    #[command(subcommand)]
    Overlay(overlay::Verb),
    /// Print the user of the context's token.
    Whoami(access::Whoami),
    /// Manage users and the UID and GIDs that their jobs run with.
    #[command(subcommand)]
    User(user::Verb),
    /// Manage tokens for people and programs.
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Print and verify the audit log of all changes, newest first.
    Audit(audit::Audit),
    /// Manage contexts: several servers, one of them in use.
    #[command(subcommand)]
    Context(contexts::Verb),
    /// Print the version of this program and of the server.
    Version,
    /// Print the completion script for a shell.
    Completion(complete::Completion),
    /// Run the server, or check its configuration.
    Server(server::Server),
}

/// Reads the arguments of the process and does what they say.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let session = Session::new(cli.context, Stdout::new(cli.output));
    let runtime = if matches!(cli.verb, Verb::Server(_)) { server_runtime() } else { runtime() };
    let done = runtime.and_then(|runtime| runtime.block_on(perform(&session, cli.verb)));
    match done {
        Ok(code) => code,
        Err(error) => error::report(&error),
    }
}

/// The runtime of the verbs that ask the server: one thread does.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The server's: a thread for each processor.
fn server_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn perform(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Workflow(verb) => return workflow::run(session, verb).await,
        Verb::Node(verb) => return node::run(session, verb).await,
        Verb::Inventory(verb) => inventory::run(session, verb).await?,
        Verb::Profile(verb) => profile::run(session, verb).await?,
        Verb::Apply(apply) => apply::apply(session, &apply).await?,
        Verb::Export => apply::export(session).await?,
        Verb::Image(verb) => return image::run(session, verb).await,
        Verb::Operation(verb) => return operation::run(session, verb).await,
        Verb::Overlay(verb) => overlay::run(session, verb).await?,
        Verb::Whoami(whoami) => access::whoami(session, &whoami).await?,
        Verb::User(verb) => user::run(session, verb).await?,
        Verb::Token(verb) => token::run(session, verb).await?,
        Verb::Audit(audit) => audit::audit(session, audit).await?,
        Verb::Context(verb) => contexts::run(session, &verb).await?,
        Verb::Version => access::version(session).await?,
        Verb::Completion(completion) => complete::script(session, &completion)?,
        Verb::Server(server) => server::run(session, server).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;

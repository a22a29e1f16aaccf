//! `workflow list`.

use anyhow::bail;
use api::workflow::{WorkflowSort, WorkflowStatus, WorkflowSummary};
use clap::{Args, builder::PossibleValuesParser};
use client::{Client, WorkflowsOf};

use super::{super::context::Session, show};

/// Workflows that are over, in a list, where nobody says how many.
const LISTED: u32 = 20;

/// List workflows: active ones first, then those that have ended; newest first.
#[derive(Debug, Args)]
#[command(
    after_help = "An admin sees the workflows of all users, anybody else their own. Those that are not over come first,
whatever they are sorted by. A time is 2026-11-30 (its beginning, UTC), 2026-11-30T12:00:00Z, or how long ago: 90s,
10m, 2h, 7d.

Examples:
  bedplate workflow list --mine --state waiting,running
  bedplate workflow list --state failed --since 2h
  bedplate workflow list --name 'nightly-*' --all --sort name -o json"
)]
pub(in crate::cli) struct List {
    /// Only those in this state. Repeat for several, or join them by commas.
    #[arg(long, value_name = "STATE", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(WorkflowStatus::ALL.map(WorkflowStatus::as_str)))]
    state: Vec<String>,
    /// Only those of this user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only your own.
    #[arg(long, conflicts_with = "user")]
    mine: bool,
    /// Only those with this in their name; with * (any characters) or ? (one) in it, only those
    /// whose whole name is like it.
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Only those handed in then or later.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those handed in then or before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Sort key; among equals the newest comes first.
    #[arg(long, value_name = "KEY", default_value = WorkflowSort::Created.as_str(),
        value_parser = PossibleValuesParser::new(WorkflowSort::ALL.map(WorkflowSort::as_str)))]
    sort: String,
    /// The other way round.
    #[arg(long)]
    reverse: bool,
    /// Maximum number of ended workflows.
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    limit: u32,
    /// List all ended workflows that are still kept.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

pub(super) async fn run(session: &Session, client: &Client, list: &List) -> anyhow::Result<()> {
    let user = if list.mine { Some(client.whoami().await?.name) } else { list.user.clone() };
    let of = WorkflowsOf {
        state: (!list.state.is_empty()).then(|| list.state.join(",")),
        user,
        name: list.name.clone(),
        since: list.since.clone(),
        until: list.until.clone(),
        sort: (list.sort != WorkflowSort::Created.as_str()).then(|| list.sort.clone()),
        reverse: list.reverse,
        limit: (!list.all).then_some(list.limit),
    };
    let workflows = client.list_workflows(&of).await?;
    let is_plain = WorkflowsOf { limit: None, ..of } == WorkflowsOf::default();
    if !is_plain && is_of_before(&workflows) {
        bail!(
            "this server is of an earlier release, which neither filters nor sorts workflows: leave out all \
             options but --limit and --all"
        );
    }
    session.out.show(&workflows, |look| {
        if workflows.is_empty() && !is_plain {
            return "no workflow is like that\n".to_owned();
        }
        show::list(*look, &workflows)
    })
}

/// Whether a server of before made this list. It ignored what it did not know.
fn is_of_before(workflows: &[WorkflowSummary]) -> bool {
    workflows.iter().any(|one| one.status.is_none())
}

//! `sim-kills`: the server is killed again and again while several writers change all that can be
//! changed, and each time what it had acknowledged is held against what it says after its restart.
//!
//! In each round writers send one change after the other, each to objects of its own, until the
//! server dies under them. If wanted, what it had not synced is taken back then (`power`). Then:
//!
//! - what was acknowledged is there;
//! - what was under way is there, or is not, but no half of it;
//! - for each change that is there, there is a line of the audit log, and none for another one;
//! - the audit log's chain is whole, and `server check --deep` finds nothing.

mod audit;
mod subject;
mod workflows;
mod writer;

use std::{fmt, time::Duration};

use anyhow::{Context as _, bail, ensure};
use api::access::{Account, User};
use client::{Client, ClientError};
use fastrand::Rng;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use self::{
    audit::{Lines, Marker},
    subject::Subject,
    workflows::Workflows,
    writer::Writer,
};
use crate::{
    chance,
    power::{Power, UnsyncedWrites},
    report::{bar, say},
    site::{Plan, Site},
};

/// No node is switched on.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// How long the server lives from the first request of a round on, milliseconds.
const LIFE_MILLIS: std::ops::RangeInclusive<u64> = 50..=700;

/// Whose the workflows are.
const OWNER: &str = "kills-owner";

/// Mistakes that are told; one cause makes many.
const MAX_TOLD: usize = 20;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Kills.
    pub rounds: u32,
    /// Whether what the server had not synced is lost, in three rounds of four.
    pub drop_unsynced: bool,
    /// Of chance.
    pub seed: u64,
}

/// Kills the server so often.
///
/// # Errors
/// What was lost, came by half, or has no line in the audit log, by object.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.rounds > 0, "there must be a round");
    // Both may run at once.
    let name = if options.drop_unsynced { "kills-unsynced" } else { "kills" };
    let plan =
        Plan { name, nodes: 1, heartbeat: HEARTBEAT, padding: 0, watched: options.drop_unsynced };
    let options = *options;
    Site::simulate(&plan, |site| campaign(site, options))
}

/// What happened up to now.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: u64,
    /// Changes that were under way when the server died, and those of them that it had made.
    under_way: u64,
    done: u64,
    cuts: u64,
    sectors: u64,
    names: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, under_way, done, cuts, sectors, names } = self;
        write!(
            f,
            "{acknowledged} changes acknowledged, all there; {under_way} under way, {done} of them \
             there; the power was cut {cuts} times, with {sectors} sectors and {names} names lost; a \
             line of the audit log for each change, and its chain whole"
        )
    }
}

async fn campaign(mut site: Site, options: Options) -> anyhow::Result<()> {
    let owner = User {
        name: OWNER.to_owned(),
        admin: false,
        account: Some(Account { uid: 1000, gid: 1000, groups: Vec::new() }),
        comment: None,
    };
    site.client.add_user(&owner).await.context("adding the owner of the workflows")?;
    let writer = |(part, subject)| Writer::new(subject, chance(options.seed, part));
    let mut campaign = Campaign {
        rng: chance(options.seed, 0),
        writers: (1..).zip(Subject::ALL).map(writer).collect(),
        workflows: Workflows::new(chance(options.seed, u32::MAX)),
        marker: Marker::default(),
        counts: Counts::default(),
    };
    let bar = bar("killing the server", options.rounds.into());
    for number in 1..=options.rounds {
        let done = campaign.round(&mut site).await;
        done.with_context(|| {
            format!("round {number} of seed {}; {}", options.seed, site.server.log_tail())
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    say(format!(
        "sim-kills: {} kills (seed {}): {}",
        options.rounds, options.seed, campaign.counts
    ));
    Ok(())
}

#[derive(Debug)]
struct Campaign {
    rng: Rng,
    writers: Vec<Writer>,
    workflows: Workflows,
    marker: Marker,
    counts: Counts,
}

impl Campaign {
    async fn round(&mut self, site: &mut Site) -> anyhow::Result<()> {
        let client = site.server.client()?;
        self.marker.set(&client).await?;
        let acknowledged = self.write_and_die(site, &client).await?;
        self.counts.acknowledged += acknowledged;
        if let Some(power) = site.server.power() {
            self.cut(power)?;
        }
        site.server.restart().await?;
        let client = site.server.client()?;
        self.settle(&client).await?;
        site.server.command_line(&["audit", "verify"]).context("the audit log's chain")?;
        let config = site.server.config().display().to_string();
        let check = ["server", "check", "--deep", "--config", &config];
        let verdict = site.server.command_line(&check)?;
        ensure!(verdict.starts_with("good: "), "server check: {verdict}");
        Ok(())
    }

    /// All write until the server is killed. How many changes it acknowledged.
    async fn write_and_die(&mut self, site: &mut Site, client: &Client) -> anyhow::Result<u64> {
        let mut writing = JoinSet::new();
        for writer in self.writers.drain(..) {
            writing.spawn(writer.write(client.clone()));
        }
        let workflows = std::mem::take(&mut self.workflows);
        let (dead, death) = watch::channel(false);
        let starting = tokio::spawn(workflows.write(client.clone(), death));
        sleep(Duration::from_millis(self.rng.u64(LIFE_MILLIS))).await;
        site.server.kill()?;
        dead.send_replace(true);
        while let Some(writer) = writing.join_next().await {
            self.writers.push(writer.context("a writer broke")??);
        }
        self.workflows = starting.await.context("the writer of workflows broke")??;
        let all = self.writers.iter().map(Writer::acknowledged).sum::<u64>();
        Ok(all + self.workflows.acknowledged())
    }

    fn cut(&mut self, power: &Power) -> anyhow::Result<()> {
        let fate = match self.rng.u8(..4) {
            0 => UnsyncedWrites::Kept,
            1 => UnsyncedWrites::Lost,
            _ => UnsyncedWrites::Torn,
        };
        let loss = power.cut(fate, &mut self.rng).context("cutting the power")?;
        self.counts.cuts += u64::from(fate != UnsyncedWrites::Kept);
        self.counts.sectors += loss.sectors;
        self.counts.names += loss.names;
        Ok(())
    }

    /// What the server says now, beside what it acknowledged.
    async fn settle(&mut self, client: &Client) -> anyhow::Result<()> {
        let (mut lines, mut diagnostics) = (Lines::default(), Vec::new());
        for writer in &mut self.writers {
            let settled = writer.settle(client, &mut lines, &mut diagnostics).await?;
            self.counts.under_way += u64::from(settled.is_some());
            self.counts.done += u64::from(settled == Some(true));
        }
        let settled = self.workflows.settle(client, &mut lines, &mut diagnostics).await?;
        self.counts.under_way += u64::from(settled.is_some());
        self.counts.done += u64::from(settled == Some(true));
        self.marker.hold_against(client, &lines, &mut diagnostics).await?;
        // It changes something, so it comes after the look at the audit log.
        self.workflows.start_again(client, &mut diagnostics).await?;
        if diagnostics.is_empty() {
            return Ok(());
        }
        let left_out = diagnostics.len().saturating_sub(MAX_TOLD);
        diagnostics.truncate(MAX_TOLD);
        bail!("{}\nand {left_out} more", diagnostics.join("\n"))
    }
}

/// Whether nobody can tell what came of the request: no answer, half of one, or one that says that
/// something may have come of it.
fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Answer(_))
        || error.status() == Some(503)
}

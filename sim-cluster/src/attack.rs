//! `sim-attack`: clients of each kind that behave, and how long they wait while somebody
//! attacks the server.
//!
//! All of it is in the two network namespaces of the simulation: the attackers have addresses of
//! their own, as other machines would, and a user of their own.

mod attackers;
mod bystanders;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::attackers::Attack;
use self::{attackers::AttackSources, bystanders::Bystander};
use crate::{
    figures::{Sample, seconds},
    pxe::exchange::Exchange,
    report::say,
    site::{Plan, Site},
};

/// Nodes: one for each kind of client that is one, and the attackers' addresses.
const NODES: u32 = 8;

const HEARTBEAT: Duration = Duration::from_secs(20);

/// Noise in kernel and root image, bytes each: an answer that nobody reads must not
/// fit into a socket.
const PADDING: usize = 4 << 20;

/// From the beginning of an attack to the first request that counts.
const RAMP: Duration = Duration::from_secs(2);

/// Between two requests of a client that behaves.
const PAUSE: Duration = Duration::from_millis(20);

/// A client that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the slowest of a hundred requests may take, whoever attacks. For optimised programs.
const BAR: Duration = Duration::from_millis(500);

/// What is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// One after the other; none: all of them.
    pub attacks: Vec<Attack>,
    /// How long each lasts, seconds.
    pub seconds: u64,
    /// Of chance.
    pub seed: u64,
}

/// Attacks the server, and prints how long its clients waited.
///
/// # Errors
/// The attacks under which some client waited too long, or was refused.
pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.seconds > 0, "an attack must last a second at least");
    let plan = Plan {
        name: "attack",
        nodes: NODES,
        heartbeat: HEARTBEAT,
        padding: PADDING,
        watched: false,
    };
    let options = options.clone();
    Site::simulate(&plan, |site| campaign(site, options))
}

async fn campaign(mut site: Site, options: Options) -> anyhow::Result<()> {
    let exchange = Exchange::open()?;
    let ground = AttackSources::prepare(&site, exchange.clone(), options.seed).await?;
    let mut bystanders = bystanders::prepare(&site, &exchange, options.seed).await?;
    let time = Duration::from_secs(options.seconds);
    let mut failed = Vec::new();
    let attacks = if options.attacks.is_empty() { Attack::ALL.to_vec() } else { options.attacks };
    for attack in std::iter::once(None).chain(attacks.into_iter().map(Some)) {
        let name = attack.map_or("nobody attacks", Attack::name);
        let attackers = attack.map(|attack| attack.begin(&ground));
        sleep(RAMP).await;
        let (waits, back) = wait_all(bystanders, time).await.context(name)?;
        bystanders = back;
        drop(attackers);
        site.server.check_alive()?;
        let cost = site.server.cost()?;
        say(format!("{name} ({} s; server: {cost})", options.seconds));
        let mut held = true;
        for (client, Waits { sample, refused, last_error }) in waits {
            held &= refused == 0 && sample.percentile(99) < BAR;
            let refused = match last_error {
                Some(error) => format!("  {refused} failed: {error}"),
                None => String::new(),
            };
            say(format!("  {client:24} {sample}{refused}"));
        }
        let word = if held { "under" } else { "NOT under" };
        say(format!("  {name}: p99 of all clients {word} {}", seconds(BAR)));
        if !held {
            failed.push(name);
        }
    }
    ensure!(
        failed.is_empty(),
        "clients that behave waited too long, or failed: {}",
        failed.join(", ")
    );
    Ok(())
}

/// How long a client waited, for each of its requests.
#[derive(Debug, Default)]
struct Waits {
    sample: Sample,
    /// Requests that failed.
    refused: u64,
    last_error: Option<String>,
}

type AllWaits = Vec<(&'static str, Waits)>;

/// All of them ask, each one request after the other. They come back in their order.
async fn wait_all(
    bystanders: Vec<Bystander>,
    time: Duration,
) -> anyhow::Result<(AllWaits, Vec<Bystander>)> {
    let mut asking = JoinSet::new();
    for (place, mut bystander) in bystanders.into_iter().enumerate() {
        asking.spawn(async move {
            let waits = wait(&mut bystander, time).await;
            (place, bystander, waits)
        });
    }
    let mut asked = Vec::new();
    while let Some(done) = asking.join_next().await {
        asked.push(done.context("a client broke")?);
    }
    asked.sort_by_key(|(place, ..)| *place);
    let (mut waits, mut back) = (Vec::new(), Vec::new());
    for (_, bystander, waited) in asked {
        waits.push((bystander.name, waited));
        back.push(bystander);
    }
    Ok((waits, back))
}

async fn wait(bystander: &mut Bystander, time: Duration) -> Waits {
    let started = substrate::clock::monotonic();
    let mut waits = Waits::default();
    while started.elapsed() < time {
        let asked = substrate::clock::monotonic();
        let error = match timeout(PATIENCE, bystander.ask()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("no answer in {} s", PATIENCE.as_secs())),
        };
        waits.sample.add(asked.elapsed());
        waits.refused += u64::from(error.is_some());
        waits.last_error = error.or(waits.last_error);
        sleep(PAUSE).await;
    }
    waits
}

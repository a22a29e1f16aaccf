//! `sim-boot`: all machines are powered on at once, and the server must make every one of them
//! ready, once, at its own address.
//!
//! The figures: nodes ready per second, each stage of a boot, what was said twice, what
//! the server took.

mod machine;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use api::{
    ids::Timestamp,
    machine::Node,
    status::{NodeEvent, Phase},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use substrate::clock;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use self::machine::{Machine, Powered, Repeats, Stage};
use crate::{
    figures::{Sample, rate, seconds},
    network,
    pxe::exchange::Exchange,
    report::{bar, say},
    server::own_cost,
    site::{Plan, Site},
};

/// Machines are powered on within this time, as by a script over their controllers.
const SPREAD: Duration = Duration::from_secs(2);

/// Short, so that heartbeats are seen before the end.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Noise in kernel and root image, bytes each: the boot moves some, and most of it is said.
const PADDING: usize = 256 << 10;

/// For all boots together, and for what the server has still to write down then.
const LIMIT: Duration = Duration::from_secs(300);
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Requests for histories at once.
const MAX_QUESTIONS: usize = 8;

/// Lines of a node's history that are looked at: a boot has about fifteen.
const HISTORY: u32 = 200;

/// Mistakes that are told; one cause makes many.
const MAX_TOLD: usize = 10;

/// Boots so many machines.
///
/// # Errors
/// What does not add up, with the nodes.
pub fn run(nodes: u32, seed: u64) -> anyhow::Result<()> {
    let plan = Plan { name: "boot", nodes, heartbeat: HEARTBEAT, padding: PADDING, watched: false };
    Site::simulate(&plan, |site| simulation(site, nodes, seed))
}

async fn simulation(mut site: Site, nodes: u32, seed: u64) -> anyhow::Result<()> {
    let (exchange, repeats) = (Exchange::open()?, Arc::new(Repeats::default()));
    let (before, started) = (site.server.cost()?, clock::monotonic());
    let mut booting = JoinSet::new();
    for number in 1..=nodes {
        let mut dice = crate::chance(seed, number);
        let pause = SPREAD.mul_f64(dice.f64());
        let machine =
            Machine::new(site.machine(number)?, number, exchange.clone(), repeats.clone(), dice);
        booting.spawn(async move {
            sleep(pause).await;
            (number, machine.power_on().await)
        });
    }
    let booted = finish(booting, nodes).await;
    site.server.check_alive()?;
    let powered = booted.with_context(|| site.server.log_tail())?;
    site.until_ready(READY_LIMIT).await?;
    let cost = site.server.cost()?;
    // The agents go on for some heartbeats, and must be missed by nobody.
    sleep(2 * HEARTBEAT + Duration::from_secs(1)).await;
    let listed = site.client.nodes(None).await?;
    check(&site, &listed, &powered).await?;
    tell(&listed, &powered, started);
    say(format!("  said again: DHCP {}, {repeats}", exchange.repeated()));
    say(format!(
        "  server: CPU {}, peak memory {} MiB",
        seconds(cost.cpu - before.cpu),
        cost.peak_memory_bytes >> 20
    ));
    say(format!("  simulation: {}", own_cost()?));
    Ok(())
}

/// Waits for all machines; every one must come up.
async fn finish(
    mut booting: JoinSet<(u32, anyhow::Result<Powered>)>,
    nodes: u32,
) -> anyhow::Result<Vec<Powered>> {
    let bar = bar("nodes connected", nodes.into());
    let (mut powered, mut diagnostics) = (Vec::new(), Vec::new());
    let all = async {
        while let Some(ended) = booting.join_next().await {
            match ended.context("a machine's task broke")? {
                (_, Ok(machine)) => powered.push(machine),
                (number, Err(error)) => {
                    diagnostics.push(format!("{}: {error:#}", crate::site::name(number)?))
                }
            }
            bar.inc(1);
        }
        anyhow::Ok(())
    };
    let in_time = timeout(LIMIT, all).await;
    bar.finish_and_clear();
    if in_time.is_err() {
        diagnostics.push(format!(
            "{} machines are still booting after {} s",
            booting.len(),
            LIMIT.as_secs()
        ));
    } else {
        in_time.unwrap_or(Ok(()))?;
    }
    refuse(diagnostics)?;
    powered.sort_by_key(|machine| machine.number);
    Ok(powered)
}

/// Fails with the first of what is wrong.
fn refuse(diagnostics: Vec<String>) -> anyhow::Result<()> {
    if diagnostics.is_empty() {
        return Ok(());
    }
    let more = diagnostics.len().saturating_sub(MAX_TOLD);
    let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
    let first: Vec<String> = diagnostics.into_iter().take(MAX_TOLD).collect();
    bail!("{}{more}", first.join("\n"))
}

/// Holds the server's own list against what was done: each node ready once, at its own address,
/// heard of just now.
async fn check(site: &Site, listed: &[Node], powered: &[Powered]) -> anyhow::Result<()> {
    ensure!(
        listed.len() == powered.len(),
        "{} nodes are listed, {} booted",
        listed.len(),
        powered.len()
    );
    let now = clock::now();
    let mut diagnostics = Vec::new();
    let mut addresses = BTreeSet::new();
    for machine in powered {
        let name = crate::site::name(machine.number)?;
        let Some(node) = listed.iter().find(|node| node.name == name) else {
            diagnostics.push(format!("{name} is not listed"));
            continue;
        };
        let own = IpAddr::V4(network::address(machine.number));
        if node.status.phase != Phase::Ready {
            diagnostics
                .push(format!("{name} is {} after its heartbeats", node.status.phase.as_str()));
        }
        if node.status.address != Some(own) || !addresses.insert(own) {
            diagnostics
                .push(format!("{name} is at {:?} and not at {own} alone", node.status.address));
        }
        let heard = node.status.last_seen.map(|seen| now.seconds_since(seen));
        if heard.is_none_or(|ago| ago > 2.0 * HEARTBEAT.as_secs_f64()) {
            diagnostics.push(format!("{name} was heard of {heard:?} s ago"));
        }
    }
    let asked = stream::iter(listed).map(|node| async move {
        let events = site.client.history(&node.name, HISTORY).await?;
        anyhow::Ok((node, times_ready(&events)))
    });
    let counted: Vec<_> = asked.buffer_unordered(MAX_QUESTIONS).try_collect().await?;
    let wrong = counted.into_iter().filter(|(_, times)| *times != 1);
    diagnostics
        .extend(wrong.map(|(node, times)| format!("{} became ready {times} times", node.name)));
    refuse(diagnostics)
}

fn times_ready(events: &[NodeEvent]) -> usize {
    events
        .iter()
        .filter(|event| event.phase == Phase::Ready && event.message.starts_with("ready"))
        .count()
}

fn tell(listed: &[Node], powered: &[Powered], started: Instant) {
    let since = |machine: &Powered| {
        let name = crate::site::name(machine.number).ok()?;
        listed.iter().find(|node| node.name == name).map(|node| node.status.since)
    };
    let between = |from: Timestamp, to: Timestamp| {
        Duration::from_micros(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
    };
    let mut whole = Sample::default();
    for machine in powered {
        if let Some(ready) = since(machine) {
            whole.add(between(machine.on, ready));
        }
    }
    let first = powered.iter().map(|machine| machine.on).min().unwrap_or(Timestamp(0));
    let last = powered.iter().filter_map(since).max().unwrap_or(first);
    let time = between(first, last);
    say(format!(
        "sim-boot: {} nodes, each ready once at its own address, in {} ({:.1} ready/s; with the check {})",
        powered.len(),
        seconds(time),
        rate(powered.len() as u64, time),
        seconds(started.elapsed()),
    ));
    say(format!("  {:24} {whole}", "power-on to ready"));
    for stage in Stage::ALL {
        let mut sample = Sample::default();
        powered
            .iter()
            .filter_map(|machine| machine.laps.get(&stage))
            .for_each(|lap| sample.add(*lap));
        say(format!("  {:24} {sample}", stage.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use api::status::Severity;

    use super::*;

    #[test]
    fn a_node_that_came_back_was_not_ready_twice() {
        let event = |phase, message: &str| NodeEvent {
            id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
            name: "n00001".parse().unwrap(),
            at: Timestamp(0),
            phase,
            severity: Severity::Info,
            message: message.to_owned(),
        };
        let mut events = vec![
            event(Phase::Ready, "ready 12.3 s after its first request"),
            event(Phase::Ready, "the agent is back"),
            event(Phase::Enrolled, "agent simulated connected"),
        ];
        assert_eq!(times_ready(&events), 1);
        events.push(event(Phase::Ready, "ready"));
        assert_eq!(times_ready(&events), 2);
    }

    #[test]
    fn of_many_diagnostics_some_are_told() {
        assert!(refuse(Vec::new()).is_ok());
        let told =
            refuse((0..12).map(|number| format!("n{number}")).collect()).unwrap_err().to_string();
        assert!(told.starts_with("n0\nn1\n") && told.ends_with("n9\n… and 2 more"), "{told}");
    }
}

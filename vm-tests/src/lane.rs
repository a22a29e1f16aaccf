//! `cargo xtask test vm`: one boot of the cluster, many checks.
//!
//! Each check is a function that returns a result. What one check breaks, the later ones that need
//! it report; those that need a node which does not become ready are not run and count as failed,
//! at once if it was waited for before. A machine that the emulator held up was powered on again
//! ([`crate::boot_watch`]); the end says how many.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use api::status::Phase;

use crate::{
    check::{Check, Memory},
    checks, clock,
    cluster::Cluster,
    report::say,
};

/// How long a node may take to be ready again after the check before: an agent that has just
/// started measures first.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// Boots and checks; true if all passed. With words, only the checks with one in their names, and
/// what they stand on.
///
/// # Errors
/// If there is no cluster to check.
pub(crate) fn lane(only: &[&str]) -> anyhow::Result<bool> {
    let start = clock::now();
    let mut cluster = Cluster::start()?;
    let mut memory = Memory::default();
    let (mut passed, mut failed) = (0, 0);
    let mut missing = None;
    for check in wanted(only) {
        let began = clock::now();
        let result = has_ground(missing)
            .and_then(|()| ready(&mut cluster, check.needs))
            .and_then(|()| (check.run)(&mut cluster, &mut memory));
        let seconds = began.elapsed().as_secs();
        match result {
            Ok(()) => {
                passed += 1;
                say(format!("ok {} ({seconds} s)", check.name));
            }
            Err(error) => {
                failed += 1;
                missing = missing.or_else(|| carries_all(check).then_some(check.name));
                say(format!(
                    "FAIL {} ({seconds} s): {error:#}{}",
                    check.name,
                    cluster.complaints()
                ));
            }
        }
    }
    let stalls = cluster.stalls();
    drop(cluster);
    say(stalls);
    say(format!("vm lane: {} s", start.elapsed().as_secs()));
    say(format!("{passed} passed, {failed} failed"));
    Ok(failed == 0)
}

fn wanted(only: &[&str]) -> Vec<&'static Check> {
    let is_named = |check: &Check| only.iter().any(|word| check.name.contains(word));
    let needed: Vec<&str> = checks::ALL
        .iter()
        .filter(|check| is_named(check))
        .flat_map(|check| check.needs)
        .copied()
        .collect();
    let is_ground = |check: &Check| {
        let mut ground = checks::GROUNDWORK.iter();
        ground.any(|(name, node)| {
            *name == check.name && node.is_none_or(|node| needed.contains(&node))
        })
    };
    let is_wanted = |check: &&Check| only.is_empty() || is_named(check) || is_ground(check);
    checks::ALL.iter().filter(is_wanted).collect()
}

/// Whether everything that comes later stands on this check.
fn carries_all(check: &Check) -> bool {
    checks::GROUNDWORK.iter().any(|(name, node)| *name == check.name && node.is_none())
}

fn has_ground(missing: Option<&str>) -> anyhow::Result<()> {
    missing.map_or(Ok(()), |name| Err(anyhow!("not run: {name} failed")))
}

/// Waits for the nodes that a check needs. One that an earlier check waited for in vain is looked
/// at once: it would hold up every check of the lane.
fn ready(cluster: &mut Cluster, nodes: &[&'static str]) -> anyhow::Result<()> {
    for name in nodes {
        if cluster.has_given_up(name) {
            let phase = cluster.node(name)?.status.phase;
            ensure!(
                phase == Phase::Ready,
                "not run: {name} did not become ready before, and is {}",
                phase.as_str()
            );
        }
        let waited = cluster.wait_for_node(name, "be ready", SETTLE_LIMIT, |node| {
            node.status.phase == Phase::Ready
        });
        cluster.note_ready(name, waited.is_ok());
        waited.context("not run")?;
    }
    Ok(())
}

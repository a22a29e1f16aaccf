//! `vm-tests bench container`: the program `guest` measures in a small machine. Called by `cargo xtask bench`, after a release
//! build.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;

use crate::{report::say, small_machine};

/// Rounds after the warm-up, unless somebody wants to see less sooner.
const ROUNDS: &str = "200";

/// How long the machine may take, where the processor itself runs it.
const LIMIT: Duration = Duration::from_secs(300);

/// The median time from a request to the end of a container, beside crun and runc.
///
/// # Errors
/// If the machine cannot be made, or something fails inside it; its last lines are in the message.
pub(crate) fn container(rounds: Option<&str>) -> anyhow::Result<()> {
    let rounds = rounds.unwrap_or(ROUNDS);
    say(format!("the machine runs: {rounds} rounds of four, then 1000 containers, then 500 at once"));
    report(&small_machine::alone("bench", LIMIT, &format!("guest.bench={rounds}"))?)
}

/// Prints what the machine measured.
fn report(text: &str) -> anyhow::Result<()> {
    let mut medians: BTreeMap<&str, f64> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["result", name, median, least, most] => {
                let millis = |micros: &str| micros.parse::<f64>().map(|micros| micros / 1_000.0);
                let (median, least, most) = (millis(median)?, millis(least)?, millis(most)?);
                say(format!("{name:6} median {median:8.2} ms  (least {least:.2}, most {most:.2})"));
                medians.insert(name, median);
            }
            ["thousand", millis, "left", left @ ..] => say(format!(
                "1000 containers, eight at once: {millis} ms; left behind: {} processes, mounts, control groups",
                left.join(", ")
            )),
            ["init-private-dirty-kib", median, most] => say(format!(
                "500 containers at once: Private_Dirty of a container init {median} KiB (most {most} KiB)"
            )),
            ["agent-kib", "idle", idle, own_idle, "with", jobs, "jobs", busy, own_busy] => say(format!(
                "the agent with {jobs} running jobs: {busy} KiB resident, {own_busy} KiB of its own; idle: {idle} and {own_idle}"
            )),
            _ => {}
        }
    }
    let of = |name: &str| medians.get(name).copied().with_context(|| format!("{name} was not measured"));
    let (ours, floor) = (of("ours")?, of("floor")?);
    let (peer, theirs) =
        if of("crun")? < of("runc")? { ("crun", of("crun")?) } else { ("runc", of("runc")?) };
    say(format!("the kernel alone takes {floor:.2} ms: ours is {:.1} times that", ours / floor));
    say(format!("container: ratio {:.1} (ours {ours:.2} ms, {peer} {theirs:.2} ms)", theirs / ours));
    Ok(())
}

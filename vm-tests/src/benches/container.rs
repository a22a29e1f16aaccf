//! `vm-tests bench container`: the program `guest` measures in a small machine.

use std::time::Duration;

use anyhow::Context as _;
use bench::outcome::{Better, Outcome, Row, Spread};

use super::Extent;
use crate::{report::say, small_machine};

/// Rounds after the warm-up.
const ROUNDS: u32 = 200;
const QUICK_ROUNDS: u32 = 30;

/// How long the machine may take, where the processor itself runs it.
const LIMIT: Duration = Duration::from_secs(300);

/// The time from a request to the end of a container, beside crun and runc.
///
/// # Errors
/// If the machine cannot be made, or something fails inside it; its last lines are in the message.
pub(super) fn run(extent: Extent) -> anyhow::Result<Outcome> {
    let rounds = match extent {
        Extent::Full => ROUNDS,
        Extent::Quick => QUICK_ROUNDS,
    };
    say(format!(
        "the machine runs: {rounds} rounds of four, then 1000 containers, then 500 at once"
    ));
    outcome(&small_machine::alone("bench", LIMIT, &format!("guest.bench={rounds}"))?)
}

/// What the machine measured, from what it said.
fn outcome(text: &str) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("container");
    let mut times = Row::new("request to end of /bin/true", "ms", Better::Lower).headline();
    let mut more = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["result", name, micros @ ..] => {
                let millis: Result<Vec<f64>, _> = micros
                    .iter()
                    .map(|text| text.parse::<f64>().map(|micros| micros / 1e3))
                    .collect();
                let millis = millis.with_context(|| format!("the times of {name}"))?;
                match *name {
                    "ours" => times.ours = millis,
                    "floor" => outcome.note(floor(&millis)?),
                    peer => millis.into_iter().for_each(|sample| times.peer(peer, sample)),
                }
            }
            ["thousand", millis, "left", left @ ..] => {
                more.push(alone("1,000 containers, eight at once", "s", millis, 1e3)?);
                outcome.note(format!(
                    "1,000 containers left behind: {} processes, mounts, cgroups",
                    left.join(", ")
                ));
            }
            ["init-private-dirty-kib", median, _] => {
                more.push(alone(
                    "500 containers at once: Private_Dirty of a container init",
                    "KiB",
                    median,
                    1.0,
                )?);
            }
            ["agent-kib", "idle", idle, _, "with", jobs, "jobs", busy, _] => {
                more.push(alone("the idle agent, resident", "KiB", idle, 1.0)?);
                more.push(alone(
                    &format!("the agent with {jobs} running jobs, resident"),
                    "KiB",
                    busy,
                    1.0,
                )?);
            }
            _ => {}
        }
    }
    outcome.rows.push(times);
    outcome.rows.extend(more);
    outcome.note(
        "crun and runc make the same container: limits, device and seccomp filters, mounts, namespaces",
    );
    Ok(outcome)
}

fn floor(millis: &[f64]) -> anyhow::Result<String> {
    let floor = Spread::of(millis).context("the kernel alone was not measured")?;
    Ok(format!("the kernel alone takes {floor} ms for the namespaces, the root and the program"))
}

/// A quantity that has no peer.
fn alone(what: &str, unit: &str, text: &str, divisor: f64) -> anyhow::Result<Row> {
    let mut row = Row::new(what, unit, Better::Lower);
    row.ours(text.parse::<f64>().with_context(|| format!("{what}: {text}"))? / divisor);
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_says_is_an_outcome() {
        let said = "guest: noise
result crun 30000 20000 25000
result floor 5000
result ours 10000 11000 9000
thousand 12345 left 0 0 0
init-private-dirty-kib 120 140
agent-kib idle 9000 4000 with 500 jobs 20000 15000
";
        let outcome = outcome(said).unwrap();
        assert_eq!(outcome.last_line(), "container: ratio 2.50 (ours 10.0 ms, crun 25.0 ms)");
        assert_eq!(outcome.rows.len(), 5);
        assert_eq!(outcome.rows[1].ours, [12.345]);
    }
}

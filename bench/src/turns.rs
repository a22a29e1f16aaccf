//! Rounds: each side has its turn in each, and the order rotates, so that no side always comes
//! first or after the same other.

use bench::outcome::Outcome;
use indicatif::{ProgressBar, ProgressStyle};

/// The name of our own side.
pub(crate) const OURS: &str = "ours";

/// What a side measured in its turn: the `what` of a row, and the figure.
pub(crate) type Samples = Vec<(String, f64)>;

/// One of those compared.
pub(crate) struct Side<'a> {
    name: &'a str,
    turn: Box<dyn FnMut(u32) -> anyhow::Result<Samples> + 'a>,
}

impl<'a> Side<'a> {
    /// A side whose turns are given the number of the round, from 0.
    pub(crate) fn new(
        name: &'a str,
        turn: impl FnMut(u32) -> anyhow::Result<Samples> + 'a,
    ) -> Self {
        Self { name, turn: Box::new(turn) }
    }
}

impl std::fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Side({})", self.name)
    }
}

/// Lets all sides have their turns and puts what they measure into the rows of `outcome`, which
/// must be there. A side that fails is left out from then on, and the outcome says so.
pub(crate) fn take(outcome: &mut Outcome, rounds: u32, sides: Vec<Side<'_>>) {
    let bar = progress(&outcome.name, rounds, &sides);
    let mut sides: Vec<Option<Side<'_>>> = sides.into_iter().map(Some).collect();
    for round in 0..rounds {
        for place in order(sides.len(), round) {
            let Some(side) = &mut sides[place] else { continue };
            bar.set_message(format!("round {} of {rounds}: {}", round + 1, side.name));
            let name = side.name;
            match (side.turn)(round) {
                Ok(samples) => {
                    for (what, figure) in samples {
                        add(outcome, name, &what, figure);
                    }
                }
                Err(error) => {
                    outcome.missing(format!("{name}, round {}", round + 1), format!("{error:#}"));
                    sides[place] = None;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
}

fn add(outcome: &mut Outcome, side: &str, what: &str, figure: f64) {
    let row = outcome.rows.iter_mut().find(|row| row.what == what);
    match row {
        Some(row) if side == OURS => row.ours(figure),
        Some(row) => row.peer(side, figure),
        None => outcome.missing(format!("{side}: {what}"), "the benchmark has no row of this name"),
    }
}

/// Whose turn it is, one after the other.
fn order(sides: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).unwrap_or_default();
    (0..sides).map(move |place| (place + first) % sides)
}

fn progress(name: &str, rounds: u32, sides: &[Side<'_>]) -> ProgressBar {
    let turns = u64::from(rounds) * u64::try_from(sides.len()).unwrap_or_default();
    let bar = ProgressBar::new(turns).with_prefix(name.to_owned());
    // Without the template there is the library's own.
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{elapsed_precise}] {bar:24} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_secs(1));
    bar
}

#[cfg(test)]
mod tests {
    use bench::outcome::{Better, Row};

    use super::*;

    #[test]
    fn the_order_rotates() {
        let orders: Vec<Vec<usize>> = (0..4).map(|round| order(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_side_that_fails_is_left_out_and_told_of() {
        let mut outcome = Outcome::new("x");
        outcome.rows.push(Row::new("time", "s", Better::Lower).headline());
        let ours = Side::new(OURS, |round| Ok(vec![("time".to_owned(), f64::from(round))]));
        let peer = Side::new("peer", |round| {
            anyhow::ensure!(round == 0, "it has ended");
            Ok(vec![("time".to_owned(), 5.0)])
        });
        take(&mut outcome, 3, vec![ours, peer]);
        assert_eq!(outcome.rows[0].ours, [0.0, 1.0, 2.0]);
        assert_eq!(outcome.rows[0].peers[0].samples, [5.0]);
        let missing: Vec<_> =
            outcome.unmeasured.iter().map(|m| (m.what.as_str(), m.why.as_str())).collect();
        assert_eq!(missing, [("peer, round 2", "it has ended")]);
    }
}

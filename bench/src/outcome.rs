//! What a benchmark found, as it lies in the file of `--json` and `--out`, and how it reads.
//!
//! A row is one quantity, sampled once per round on each side, or several times. All
//! figures shown are medians with least and most. A ratio over 1 says that ours is ahead,
//! whichever way is better.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

mod table;

pub use table::{markdown, number, plain};

/// All that one benchmark found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of the benchmark: `dhcp`, `boot`.
    pub name: String,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// What differs between the sides, and what a reader must know to judge.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What could not be measured.
    #[serde(default)]
    pub unmeasured: Vec<Unmeasured>,
}

/// One quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Such as `16 clients, 1 MiB each`.
    pub what: String,
    /// Of every sample: `MB/s`, `ms`, `ACKs/s`.
    pub unit: String,
    /// Which way is ahead.
    pub better: Better,
    /// Our samples.
    pub ours: Vec<f64>,
    /// Those of each peer; none where there is no peer.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Whether this row is the benchmark's last line. At most one is.
    #[serde(default)]
    pub headline: bool,
}

/// Which way is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and sizes.
    Lower,
}

/// Another's samples of the same quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Such as `dnsmasq`.
    pub name: String,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
}

/// What could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmeasured {
    /// The row, the peer, or both: `1 MiB: atftpd`.
    pub what: String,
    /// As the failure said it.
    pub why: String,
}

/// Median, least and most of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean of the middle two where their number is even.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Outcome {
    /// Of a benchmark that has not found anything yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds what a reader must know to judge.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds what could not be measured.
    pub fn missing(&mut self, what: impl Into<String>, why: impl Display) {
        self.unmeasured.push(Unmeasured { what: what.into(), why: format!("{why:#}") });
    }

    /// The row that is the last line.
    #[must_use]
    pub fn headline(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.headline)
    }

    /// The last line: `NAME: ratio R (ours A unit, PEER B unit)`; or what is missing of it.
    #[must_use]
    pub fn last_line(&self) -> String {
        let name = &self.name;
        let Some((row, ours)) = self.headline().and_then(|row| Some((row, Spread::of(&row.ours)?)))
        else {
            return format!("{name}: not measured");
        };
        let (ours, unit) = (number(ours.median), &row.unit);
        match (row.best_peer(), row.ratio()) {
            (Some((peer, theirs)), Some(ratio)) => {
                let theirs = number(theirs.median);
                format!("{name}: ratio {ratio:.2} (ours {ours} {unit}, {peer} {theirs} {unit})")
            }
            _ => format!("{name}: no peer (ours {ours} {unit})"),
        }
    }
}

impl Row {
    /// Without samples.
    #[must_use]
    pub fn new(what: impl Into<String>, unit: &str, better: Better) -> Self {
        let (what, unit) = (what.into(), unit.to_owned());
        Self { what, unit, better, ours: Vec::new(), peers: Vec::new(), headline: false }
    }

    /// The same as the benchmark's last line.
    #[must_use]
    pub fn headline(mut self) -> Self {
        self.headline = true;
        self
    }

    /// Adds a sample of ours.
    pub fn ours(&mut self, sample: f64) {
        self.ours.push(sample);
    }

    /// Adds a sample of a peer, and the peer where it is new.
    pub fn peer(&mut self, name: &str, sample: f64) {
        match self.peers.iter_mut().find(|peer| peer.name == name) {
            Some(peer) => peer.samples.push(sample),
            None => self.peers.push(Peer { name: name.to_owned(), samples: vec![sample] }),
        }
    }

    /// The peer whose median is furthest ahead.
    #[must_use]
    pub fn best_peer(&self) -> Option<(&str, Spread)> {
        let measured = self
            .peers
            .iter()
            .filter_map(|peer| Some((peer.name.as_str(), Spread::of(&peer.samples)?)));
        measured.max_by(|(_, one), (_, other)| match self.better {
            Better::Higher => one.median.total_cmp(&other.median),
            Better::Lower => other.median.total_cmp(&one.median),
        })
    }

    /// How far ours is ahead of the best peer: over 1 is ahead. None without samples of both, or
    /// with a median of 0.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ours = Spread::of(&self.ours)?.median;
        let theirs = self.best_peer()?.1.median;
        let (above, below) = match self.better {
            Better::Higher => (ours, theirs),
            Better::Lower => (theirs, ours),
        };
        (below > 0.0).then_some(above / below)
    }
}

impl Spread {
    /// None of no samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, least, most })
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, least, most) = (number(self.median), number(self.least), number(self.most));
        if least == most { f.write_str(&median) } else { write!(f, "{median} ({least}–{most})") }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn times(what: &str, ours: &[f64], theirs: &[f64]) -> Row {
        let mut row = Row::new(what, "s", Better::Lower).headline();
        ours.iter().for_each(|&sample| row.ours(sample));
        theirs.iter().for_each(|&sample| row.peer("slow", sample));
        row
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(
            Spread::of(&[3.0, 1.0, 2.0]),
            Some(Spread { median: 2.0, least: 1.0, most: 3.0 })
        );
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_ratio_over_one_is_ahead_whichever_way_is_better() {
        assert_eq!(times("x", &[2.0], &[6.0]).ratio(), Some(3.0));
        let mut rate = Row::new("x", "1/s", Better::Higher);
        rate.ours(2.0);
        assert_eq!(rate.ratio(), None);
        rate.peer("fast", 8.0);
        rate.peer("slow", 1.0);
        assert_eq!(rate.ratio(), Some(0.25));
        assert_eq!(rate.best_peer().map(|(name, _)| name), Some("fast"));
    }

    #[test]
    fn the_last_line_says_what_is_missing() {
        let mut outcome = Outcome::new("boot");
        assert_eq!(outcome.last_line(), "boot: not measured");
        outcome.rows.push(times("boot", &[1234.6], &[]));
        assert_eq!(outcome.last_line(), "boot: no peer (ours 1,235 s)");
        outcome.rows[0].peer("slow", 617.0);
        assert_eq!(outcome.last_line(), "boot: ratio 0.50 (ours 1,235 s, slow 617 s)");
    }

    #[test]
    fn it_reads_as_tables_and_comes_back_from_json() {
        let mut outcome = Outcome::new("boot");
        outcome.rows.push(times("power-on to ready", &[27.0, 26.0, 29.5], &[32.25]));
        outcome.note("both boot the same tree");
        outcome.missing("arm64", "no firmware");
        let json = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
        expect![[r"
            | what | unit | ours | slow | ratio |
            |---|---|---|---|---|
            | **power-on to ready** | s | 27.0 (26.0–29.5) | 32.2 | **1.19** |

            - both boot the same tree
            - not measured: arm64: no firmware
        "]]
        .assert_eq(&markdown(&outcome));
        assert!(plain(&outcome).ends_with("boot: ratio 1.19 (ours 27.0 s, slow 32.2 s)"));
    }
}

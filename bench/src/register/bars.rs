//! What an act on the register may take at most, and whether it does. The bars are absolute, so
//! they are notes beside the rows, and no ratio.

use bench::outcome::{Better, Outcome, Row, Spread, number};

use crate::turns::Samples;

/// Edits in a row, each of another node: enough for a p99.
pub(super) const EDITS: u32 = 100;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Threshold {
    /// The row that it is for.
    what: String,
    /// Of row and limit.
    unit: &'static str,
    /// The figure must be below it.
    limit: f64,
}

/// The acts that have bars, by the names of their rows.
#[derive(Debug, Clone)]
pub(super) struct Acts {
    /// How many nodes are deleted and declared at once.
    pub(super) some: u32,
    edit_p50: String,
    edit_p99: String,
    list: &'static str,
    apply: String,
    delete: String,
}

impl Acts {
    /// On a register of so many nodes; `list` is the row of listing all of them.
    pub(super) fn of(nodes: u32, list: &'static str) -> Self {
        let some = nodes / 10 * 6;
        Self {
            some,
            edit_p50: format!("edit one node, {EDITS} in a row: p50"),
            edit_p99: format!("edit one node, {EDITS} in a row: p99"),
            list,
            apply: format!("apply {some} nodes"),
            delete: format!("delete {some} nodes"),
        }
    }

    /// Rows for those that have none yet.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |what: &String, unit| Row::new(what, unit, Better::Lower);
        vec![
            row(&self.edit_p50, "ms"),
            row(&self.edit_p99, "ms"),
            row(&self.delete, "s"),
            row(&self.apply, "s"),
        ]
    }

    /// Samples of one round; all in seconds.
    pub(super) fn samples(&self, edits: &[f64], delete: f64, apply: f64) -> Samples {
        let of_edits = |share| percentile(edits, share).map(|seconds| seconds * 1e3);
        let edits = [(&self.edit_p50, of_edits(0.5)), (&self.edit_p99, of_edits(0.99))];
        let all = [(&self.delete, Some(delete)), (&self.apply, Some(apply))];
        let measured =
            edits.into_iter().chain(all).filter_map(|(what, figure)| Some((what.clone(), figure?)));
        measured.collect()
    }

    /// One edit below 50 ms, a list below 300 ms, many nodes at once below 2 s.
    fn bars(&self) -> [Threshold; 4] {
        let bar = |what: &str, unit, limit| Threshold { what: what.to_owned(), unit, limit };
        [
            bar(&self.edit_p99, "ms", 50.0),
            bar(self.list, "s", 0.3),
            bar(&self.apply, "s", 2.0),
            bar(&self.delete, "s", 2.0),
        ]
    }

    /// Says of each bar whether it is held: by the median of the rounds, with the worst beside it.
    pub(super) fn judge(&self, outcome: &mut Outcome, nodes: u32) {
        for bar in self.bars() {
            let ours =
                outcome.rows.iter().find(|row| row.what == bar.what).map(|row| row.ours.as_slice());
            let verdict = bar.verdict(ours.unwrap_or_default());
            outcome.note(format!("bar of {nodes} nodes: {verdict}"));
        }
    }
}

impl Threshold {
    fn verdict(&self, ours: &[f64]) -> String {
        let Self { what, unit, limit } = self;
        let head = format!("{what} < {limit} {unit}");
        let Some(Spread { median, most, .. }) = Spread::of(ours) else {
            return format!("{head}: not measured");
        };
        let word = if median < *limit { "held" } else { "not held" };
        format!("{head}: {word} (median {} {unit}, most {} {unit})", number(median), number(most))
    }
}

/// The least of the samples that so large a share of all is not above (nearest rank).
fn percentile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "some hundred samples")]
    let count = sorted.len() as f64;
    let below = |index: usize| {
        #[expect(clippy::cast_precision_loss, reason = "some hundred samples")]
        let rank = (index + 1) as f64;
        rank >= share * count
    };
    (0..sorted.len()).find(|index| below(*index)).map(|index| sorted[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            [0.5, 0.99, 1.0].map(|share| percentile(&samples, share)),
            [50.0, 99.0, 100.0].map(Some)
        );
        assert_eq!((percentile(&[7.0], 0.99), percentile(&[], 0.5)), (Some(7.0), None));
    }

    #[test]
    fn each_bar_is_held_or_not_or_was_not_measured() {
        let acts = Acts::of(10_000, "list all nodes");
        let mut outcome = Outcome::new("register");
        outcome.rows.push(Row::new("list all nodes", "s", Better::Lower));
        outcome.rows.extend(acts.rows());
        outcome.rows[0].ours(0.12);
        let mut edits = vec![0.020; 98];
        edits.extend([0.060, 0.500]);
        for (what, figure) in acts.samples(&edits, 1.5, 2.5) {
            outcome.rows.iter_mut().find(|row| row.what == what).unwrap().ours(figure);
        }
        acts.judge(&mut outcome, 10_000);
        expect_test::expect![[r#"
            bar of 10000 nodes: edit one node, 100 in a row: p99 < 50 ms: not held (median 60.0 ms, most 60.0 ms)
            bar of 10000 nodes: list all nodes < 0.3 s: held (median 0.120 s, most 0.120 s)
            bar of 10000 nodes: apply 6000 nodes < 2 s: not held (median 2.50 s, most 2.50 s)
            bar of 10000 nodes: delete 6000 nodes < 2 s: held (median 1.50 s, most 1.50 s)
        "#]]
        .assert_eq(&(outcome.notes.join("\n") + "\n"));
        let mut empty = Outcome::new("register");
        acts.judge(&mut empty, 10_000);
        assert!(
            empty.notes.iter().all(|note| note.ends_with(": not measured")),
            "{:?}",
            empty.notes
        );
    }
}

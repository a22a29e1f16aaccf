//! "Did you mean …": the known word nearest to a mistyped one.

/// The candidate that differs from `word` in at most two letters, or a third of them, if there is one.
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 2);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The hint itself.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swapped neighbours; case and `_`/`-`
/// ignored.
fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> { text.to_lowercase().replace('_', "-").chars().collect() };
    let (left, right) = (fold(left), fold(right));
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=right.len()).collect();
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["kernel", "kernel-args", "image", "interfaces"];
        assert_eq!(nearest("kernel_arg", keys), Some("kernel-args"));
        assert_eq!(nearest("kernelargs", keys), Some("kernel-args"));
        assert_eq!(nearest("imge", keys), Some("image"));
        assert_eq!(nearest("imgae", keys), Some("image"));
        assert_eq!(nearest("x", ["a"]), None);
        assert_eq!(nearest("frobnicate", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}

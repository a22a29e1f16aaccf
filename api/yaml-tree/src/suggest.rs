//! "Did you mean …": the known word nearest to a mistyped one.

/// Longest word that is compared, characters: no word of ours is longer, and no name that people type.
const MAX_WORD_CHARS: usize = 64;

/// Candidates compared with one word. Of more names than these the nearest is not looked for.
const MAX_CANDIDATES: usize = 1_024;

/// Most letters in which a candidate may differ.
const MAX_DISTANCE: usize = 2;

/// The candidate that differs from `word` in at most two letters, or a third of them, if there is one.
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 4 * MAX_WORD_CHARS {
        return None;
    }
    let word = folded(word);
    if word.len() > MAX_WORD_CHARS {
        return None;
    }
    let allowed = (word.len() / 3).clamp(1, MAX_DISTANCE);
    let longest = 4 * (word.len() + allowed);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        // Of bytes, of which a character has at most four: a long one is not even read.
        .filter(|candidate| candidate.len() <= longest)
        .filter_map(|candidate| Some((distance(&word, &folded(candidate), allowed)?, candidate)))
        .filter(|(distance, candidate)| *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// A word as it is compared: case does not count, nor whether it is `_` or `-`.
fn folded(text: &str) -> Vec<char> {
    text.to_lowercase().chars().map(|letter| if letter == '_' { '-' } else { letter }).collect()
}

/// The hint itself.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swapped neighbours;
/// `None` where it is more than `allowed`. Only the cells that can be within it are looked at: at most
/// `2 * allowed + 1` of each row.
fn distance(left: &[char], right: &[char], allowed: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > allowed {
        return None;
    }
    let far = allowed + 1;
    // The row before the last one, the last one, and the one that is made.
    let (mut before, mut above) = (vec![far; right.len() + 1], vec![far; right.len() + 1]);
    for (j, cell) in above.iter_mut().enumerate().take(far) {
        *cell = j;
    }
    for i in 1..=left.len() {
        let mut row = vec![far; right.len() + 1];
        if i <= allowed {
            row[0] = i;
        }
        for j in i.saturating_sub(allowed).max(1)..=(i + allowed).min(right.len()) {
            let substituted = above[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best.min(far);
        }
        if row.iter().all(|cell| *cell > allowed) && above.iter().all(|cell| *cell > allowed) {
            return None;
        }
        before = std::mem::replace(&mut above, row);
    }
    Some(above[right.len()]).filter(|distance| *distance <= allowed)
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

    /// All cells, as the definition has them.
    fn whole(left: &[char], right: &[char]) -> usize {
        let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
        for (i, row) in rows.iter_mut().enumerate() {
            row[0] = i;
        }
        rows[0] = (0..=right.len()).collect();
        for i in 1..=left.len() {
            for j in 1..=right.len() {
                let substituted = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                rows[i][j] = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
                }
            }
        }
        rows[left.len()][right.len()]
    }

    #[test]
    fn the_cells_that_are_left_out_change_nothing() {
        // All words of up to five letters out of two.
        let words: Vec<Vec<char>> = (0..6_u32)
            .flat_map(|length| (0..1_u32 << length).map(move |bits| (length, bits)))
            .map(|(length, bits)| (0..length).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' }).collect())
            .collect();
        for left in &words {
            for right in &words {
                for allowed in 1..=MAX_DISTANCE {
                    let expected = Some(whole(left, right)).filter(|distance| *distance <= allowed);
                    assert_eq!(distance(left, right, allowed), expected, "{left:?} {right:?}");
                }
            }
        }
    }

    #[test]
    fn long_words_and_many_candidates_are_not_compared() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("image", [long.as_str(), "imagf"]), Some("imagf"));
        let names: Vec<String> = (0..=MAX_CANDIDATES).map(|number| format!("node-{number:05}")).collect();
        let names = || names.iter().map(String::as_str);
        assert_eq!(nearest("node-01023", names()), Some("node-01023"));
        assert_ne!(nearest("node-01024", names()), Some("node-01024"));
    }
}

//! "Did you mean …": the known word nearest to a mistyped one.

/// Longest word that is compared, characters: no word of ours is longer, and no name
/// that people type.
const MAX_WORD_CHARS: usize = 64;

/// Candidates that are looked at for one word. Of more names than these the nearest is not looked
/// for.
const MAX_CANDIDATES: usize = 1_024;

/// Work for one word: the product of the lengths of the words that are compared, characters. Names
/// of 16 characters are compared with all candidates, those of 64 with the first 64 that are about
/// as long: a document with hundreds of mistakes must not take seconds.
const MAX_WORK: usize = MAX_CANDIDATES * 16 * 16;

/// Most letters in which a candidate may differ.
const MAX_DISTANCE: usize = 2;

/// The candidate that differs from `word` in at most two letters, or a third of them, if there is
/// one. Insertions, deletions, substitutions and swapped neighbours count one each (optimal string
/// alignment).
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 4 * MAX_WORD_CHARS {
        return None;
    }
    let word = folded(word);
    let length = word.chars().count();
    if length > MAX_WORD_CHARS {
        return None;
    }
    let allowed = (length / 3).clamp(1, MAX_DISTANCE);
    let longest = 4 * (length + allowed);
    let mut work = 0;
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        // Of bytes, of which a character has at most four: a long one is not even read.
        .filter(|candidate| candidate.len() <= longest)
        .map(|candidate| (folded(candidate), candidate))
        .filter(|(folded, _)| folded.chars().count().abs_diff(length) <= allowed)
        .take_while(|(folded, _)| {
            work += length * folded.chars().count();
            work <= MAX_WORK
        })
        .map(|(folded, candidate)| (strsim::osa_distance(&word, &folded), candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// A word as it is compared: case does not count, nor whether it is `_` or `-`.
fn folded(text: &str) -> String {
    text.to_lowercase().replace('_', "-")
}

/// The hint itself.
#[must_use]
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
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

    #[test]
    fn work_is_bounded_for_long_words_too() {
        let name = |number: usize| format!("{number:04}{}", "x".repeat(MAX_WORD_CHARS - 4));
        let names: Vec<String> = (0..MAX_CANDIDATES).map(name).collect();
        let names = || names.iter().map(String::as_str);
        let compared = MAX_WORK / (MAX_WORD_CHARS * MAX_WORD_CHARS);
        for (number, is_found) in [(0, true), (compared - 1, true), (compared, false)] {
            let word = name(number);
            assert_eq!(nearest(&word, names()) == Some(word.as_str()), is_found, "{number}");
        }
        // Those of another length cost nothing.
        let short = ["a"; MAX_CANDIDATES - 1].into_iter();
        let long = name(7);
        assert_eq!(
            nearest(&name(7).replace('7', "8"), short.chain([long.as_str()])),
            Some(long.as_str())
        );
    }

    #[test]
    fn long_words_and_many_candidates_are_not_compared() {
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("image", [long.as_str(), "imagf"]), Some("imagf"));
        let names: Vec<String> =
            (0..=MAX_CANDIDATES).map(|number| format!("node-{number:05}")).collect();
        let names = || names.iter().map(String::as_str);
        assert_eq!(nearest("node-01023", names()), Some("node-01023"));
        assert_ne!(nearest("node-01024", names()), Some("node-01024"));
    }
}

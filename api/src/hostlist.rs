//! Host lists: `n[0001-1024],login1` expands to names, and names compress to a host list.
//!
//! Grammar: items separated by commas outside brackets; an item is text with any number of bracket
//! groups; a group is numbers and ranges separated by commas. A number that starts with `0` and has
//! more digits fixes the width. Used by the REST routes that take names, the documents of apply and
//! the command line.

use std::collections::BTreeMap;

/// Names that one host list may expand to: larger than any cluster known, small enough to
/// hold and to print.
pub const MAX_NAMES: usize = 65_536;

/// Longest name that a list may make, characters: four times what the name of a node has.
const MAX_NAME_CHARS: usize = 255;

/// Groups of brackets in one item. All names are copied for each.
const MAX_GROUPS: usize = 16;

/// Why a text is not a host list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostListError {
    /// Nothing between two commas, or nothing at all.
    #[error("host list {list:?} has an empty name")]
    EmptyName {
        /// The list.
        list: String,
    },
    /// A bracket without its partner.
    #[error("host list {list:?} has an unmatched bracket")]
    Bracket {
        /// The list.
        list: String,
    },
    /// Not a number or a range of numbers.
    #[error("{range:?} in host list {list:?} is not a number or a range such as 1-16")]
    Range {
        /// The list.
        list: String,
        /// The part between commas.
        range: String,
    },
    /// A range that runs backwards.
    #[error("range {range:?} in host list {list:?} ends before it starts")]
    Backwards {
        /// The list.
        list: String,
        /// The range.
        range: String,
    },
    /// A name that nothing can have.
    #[error(
        "a name in host list {list:?} has more than {MAX_NAME_CHARS} characters or {MAX_GROUPS} groups of \
         brackets"
    )]
    Long {
        /// The list, cut to 80 characters.
        list: String,
    },
    /// Too many names.
    #[error("host list {list:?} names more than {MAX_NAMES} nodes")]
    TooMany {
        /// The list, cut to 80 characters.
        list: String,
    },
}

/// Expands a host list, in the order written. A name that comes twice stays twice.
///
/// # Errors
/// See [`HostListError`].
pub fn expand(list: &str) -> Result<Vec<String>, HostListError> {
    expand_counted(list, &mut 0)
}

/// [`expand`]. `steps`: characters looked at, ranges read and names made are added.
fn expand_counted(list: &str, steps: &mut u64) -> Result<Vec<String>, HostListError> {
    let count = count_counted(list, steps)?;
    if count > MAX_NAMES {
        return Err(HostListError::TooMany { list: cut(list) });
    }
    let mut names = Vec::with_capacity(count);
    for item in split_items(list, steps)? {
        expand_item(list, item, &mut names, steps)?;
    }
    Ok(names)
}

/// How many names a host list has, without making any: `n[1-999999999]` costs what it
/// has characters.
///
/// # Errors
/// See [`HostListError`]; never [`HostListError::TooMany`].
pub fn count(list: &str) -> Result<usize, HostListError> {
    count_counted(list, &mut 0)
}

fn count_counted(list: &str, steps: &mut u64) -> Result<usize, HostListError> {
    let mut names = 0_usize;
    for item in split_items(list, steps)? {
        let (mut of_item, mut rest) = (1_usize, item);
        let (mut characters, mut groups) = (0, 0);
        while let Some((before, after)) = rest.split_once('[') {
            // split_items has matched the brackets.
            let (group, tail) = after.split_once(']').unwrap_or((after, ""));
            let (mut of_group, mut longest) = (0_usize, 0);
            for range in group.split(',') {
                *steps += range.len() as u64 + 1;
                let Range { first, last, width } = Range::read(list, range)?;
                let numbers = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
                of_group = of_group.saturating_add(numbers);
                longest = longest.max(width).max(last.to_string().len());
            }
            of_item = of_item.saturating_mul(of_group);
            characters += before.len() + longest;
            groups += 1;
            rest = tail;
        }
        if characters + rest.len() > MAX_NAME_CHARS || groups > MAX_GROUPS {
            return Err(HostListError::Long { list: cut(list) });
        }
        names = names.saturating_add(of_item);
    }
    Ok(names)
}

/// Compresses names to a host list that expands to the same set. Names are sorted by
/// prefix and number.
pub fn compress<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut plain: Vec<&str> = Vec::new();
    let mut runs: BTreeMap<(&str, &str), Vec<(usize, u64)>> = BTreeMap::new();
    for name in names {
        match split_number(name) {
            Some((prefix, digits, number, suffix)) => {
                runs.entry((prefix, suffix)).or_default().push((digits.len(), number));
            }
            None => plain.push(name),
        }
    }
    plain.sort_unstable();
    plain.dedup();
    let mut items: Vec<String> = plain.into_iter().map(str::to_owned).collect();
    for ((prefix, suffix), numbers) in runs {
        let ranges = compress_numbers(numbers);
        match ranges.as_slice() {
            [only] if !only.contains('-') => items.push(format!("{prefix}{only}{suffix}")),
            _ => items.push(format!("{prefix}[{}]{suffix}", ranges.join(","))),
        }
    }
    items.join(",")
}

/// Cuts at the commas outside brackets.
fn split_items<'a>(list: &'a str, steps: &mut u64) -> Result<Vec<&'a str>, HostListError> {
    let bracket = || HostListError::Bracket { list: cut(list) };
    let (mut items, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, character) in list.char_indices() {
        *steps += 1;
        match (character, inside) {
            ('[', false) => inside = true,
            (']', true) => inside = false,
            ('[', true) | (']', false) => return Err(bracket()),
            (',', false) => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(bracket());
    }
    items.push(list[start..].trim());
    if items.iter().any(|item| item.is_empty()) {
        return Err(HostListError::EmptyName { list: cut(list) });
    }
    Ok(items)
}

/// Expands one item, the leftmost group slowest. It has been counted.
fn expand_item(
    list: &str,
    item: &str,
    names: &mut Vec<String>,
    steps: &mut u64,
) -> Result<(), HostListError> {
    let mut heads = vec![String::new()];
    let mut rest = item;
    while let Some((before, after)) = rest.split_once('[') {
        let (group, tail) = after.split_once(']').unwrap_or((after, ""));
        let numbers = expand_group(list, group)?;
        heads = heads
            .iter()
            .flat_map(|head| numbers.iter().map(move |number| format!("{head}{before}{number}")))
            .collect();
        *steps += (group.len() + heads.len()) as u64;
        rest = tail;
    }
    *steps += heads.len() as u64;
    names.extend(heads.into_iter().map(|head| head + rest));
    Ok(())
}

/// Expands what stands between brackets.
fn expand_group(list: &str, group: &str) -> Result<Vec<String>, HostListError> {
    let mut numbers = Vec::new();
    for range in group.split(',') {
        let Range { first, last, width } = Range::read(list, range)?;
        numbers.extend((first..=last).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// `1-16`, or one number.
struct Range {
    first: u64,
    /// Included.
    last: u64,
    /// Digits at least; 0: as many as a number has.
    width: usize,
}

impl Range {
    fn read(list: &str, range: &str) -> Result<Self, HostListError> {
        let range = range.trim();
        let wrong = || HostListError::Range { list: cut(list), range: cut(range) };
        let parse = |text: &str| -> Result<u64, HostListError> {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            text.parse().map_err(|_| wrong())
        };
        let (first_text, last_text) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (parse(first_text)?, parse(last_text)?);
        if last < first {
            return Err(HostListError::Backwards { list: cut(list), range: cut(range) });
        }
        let width = if first_text.starts_with('0') { first_text.len() } else { 0 };
        Ok(Self { first, last, width })
    }
}

/// Cuts a name at its last run of digits: prefix, digits, their value, suffix.
fn split_number(name: &str) -> Option<(&str, &str, u64, &str)> {
    let end = name.rfind(|character: char| character.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|character: char| !character.is_ascii_digit())
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    let digits = &name[start..end];
    Some((&name[..start], digits, digits.parse().ok()?, &name[end..]))
}

/// Sorted ranges; `numbers` are (digits written, value). Numbers without a leading zero join
/// over digit counts.
fn compress_numbers(mut numbers: Vec<(usize, u64)>) -> Vec<String> {
    let written = |(width, number): (usize, u64)| format!("{number:0width$}");
    numbers.sort_unstable();
    numbers.dedup();
    let mut ranges: Vec<((usize, u64), (usize, u64))> = Vec::new();
    for next in numbers {
        match ranges.last_mut() {
            Some((first, last)) if follows(*first, *last, next) => *last = next,
            _ => ranges.push((next, next)),
        }
    }
    ranges
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                written(first)
            } else {
                format!("{}-{}", written(first), written(last))
            }
        })
        .collect()
}

/// Whether `next` may join the range `first..=last` so that the range expands to the same digits.
fn follows(first: (usize, u64), last: (usize, u64), next: (usize, u64)) -> bool {
    let padded = |(width, number): (usize, u64)| number.to_string().len() < width;
    let same_width = first.0 == next.0;
    let both_plain = !padded(first) && !padded(next) && first.1 != 0;
    last.1.checked_add(1) == Some(next.1) && (same_width || both_plain)
}

fn cut(list: &str) -> String {
    list.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Strategy, prop, proptest};

    use super::*;

    #[test]
    fn expands_what_people_write() {
        let of = |list: &str| expand(list).map(|names| names.join(" "));
        assert_eq!(of("n1"), Ok("n1".into()));
        assert_eq!(of("n[1-3]"), Ok("n1 n2 n3".into()));
        assert_eq!(of("n[08-10],login1"), Ok("n08 n09 n10 login1".into()));
        assert_eq!(of("r[1-2]n[1,3]"), Ok("r1n1 r1n3 r2n1 r2n3".into()));
        assert_eq!(of("a, b"), Ok("a b".into()));
        assert_eq!(of("n[1-2]-ib"), Ok("n1-ib n2-ib".into()));
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |list: &str| expand(list).unwrap_err().to_string();
        assert_eq!(error(""), "host list \"\" has an empty name");
        assert_eq!(error("n1,,n2"), "host list \"n1,,n2\" has an empty name");
        assert_eq!(error("n[1-2"), "host list \"n[1-2\" has an unmatched bracket");
        assert_eq!(error("n1]"), "host list \"n1]\" has an unmatched bracket");
        assert_eq!(
            error("n[a-b]"),
            "\"a-b\" in host list \"n[a-b]\" is not a number or a range such as 1-16"
        );
        assert_eq!(error("n[3-1]"), "range \"3-1\" in host list \"n[3-1]\" ends before it starts");
        assert_eq!(
            error("n[0-999999999]"),
            "host list \"n[0-999999999]\" names more than 65536 nodes"
        );
        assert_eq!(
            error("n[1-300][1-300]"),
            "host list \"n[1-300][1-300]\" names more than 65536 nodes"
        );
    }

    #[test]
    fn names_are_counted_before_they_are_made() {
        assert_eq!(count("n[1-999999999],login"), Ok(1_000_000_000));
        assert_eq!(count("n[1-3,7]r[1-2]"), Ok(8));
        assert_eq!(count(&format!("n[0-{}]", u64::MAX)), Ok(usize::MAX));
        let nested = "[0-9]".repeat(16);
        assert_eq!(count(&nested), Ok(10_000_000_000_000_000));
        assert_eq!(expand(&nested), Err(HostListError::TooMany { list: nested.clone() }));
        assert_eq!(
            expand(&"n1,".repeat(65_536)[..3 * 65_536 - 1]).map(|names| names.len()),
            Ok(65_536)
        );
        assert!(matches!(
            expand(&"n1,".repeat(65_537)[..3 * 65_537 - 1]),
            Err(HostListError::TooMany { .. })
        ));
    }

    #[test]
    fn eight_times_the_list_takes_at_most_ten_times_the_steps() {
        let repeated = |item: &'static str| move |parts: usize| vec![item; parts].join(",");
        let growing: [(&str, &dyn Fn(usize) -> String); 6] = [
            ("names", &repeated("n1")),
            ("ranges, each an item", &repeated("n[1-3]")),
            ("ranges in one item", &|parts| format!("n[{}]", vec!["1-3"; parts].join(","))),
            ("names of a range", &|parts| format!("n[1-{parts}]")),
            ("names of two ranges", &|parts| format!("r[1-{}]n[0-9]", parts / 10)),
            ("ranges without a number", &|parts| {
                format!("{},n[x]", vec!["n[1-3]"; parts].join(","))
            }),
        ];
        for (what, list) in growing {
            let steps = |parts| {
                let mut steps = 0;
                // A list that is wrong takes steps, too.
                let _ = expand_counted(&list(parts), &mut steps);
                steps
            };
            let (small, large) = (steps(1_000), steps(8_000));
            assert!(small >= 1_000, "{what}: {small} steps count next to nothing");
            assert!(large <= 10 * small, "{what}: {small} and {large} steps");
        }
    }

    #[test]
    fn what_no_node_is_called_is_not_made_many_times() {
        for list in [
            format!("{}[1-60000]", "n".repeat(1 << 20)),
            format!("n[{}1-60000]", "0".repeat(1 << 20)),
            format!("n[1-60000]{}", "[1]".repeat(17)),
        ] {
            assert!(matches!(expand(&list), Err(HostListError::Long { .. })), "{}", &list[..40]);
        }
    }

    #[test]
    fn compresses_to_what_people_would_write() {
        assert_eq!(compress(["n3", "n1", "n2", "login"]), "login,n[1-3]");
        assert_eq!(compress(["n08", "n09", "n10", "n11"]), "n[08-11]");
        assert_eq!(compress(["n8", "n9", "n10"]), "n[8-10]");
        assert_eq!(compress(["n1"]), "n1");
        assert_eq!(compress(["n1-ib", "n3-ib"]), "n[1,3]-ib");
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("(n|r1n|gpu-|0|00)[0-9]{0,3}(-ib|)", 1..40)
            .prop_map(|names| names.into_iter().filter(|name| !name.is_empty()).collect())
    }

    proptest! {
        #[test]
        fn round_trip(names in names()) {
            let expanded = expand(&compress(names.iter().map(String::as_str))).unwrap();
            let expected: BTreeSet<String> = names.into_iter().collect();
            let unique: BTreeSet<String> = expanded.iter().cloned().collect();
            assert_eq!(unique, expected);
            assert_eq!(expanded.len(), unique.len());
        }

        #[test]
        fn never_panics(list in "[n0-9,\\[\\]\\- ä]{0,40}") {
            let _ = expand(&list);
        }
    }
}

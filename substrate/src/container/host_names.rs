//! `/etc/hosts` of a container (hosts(5)). A job on the node's network has the names of the node;
//! an isolated one reaches nobody and has its own alone.

/// Longest `/etc/hosts` taken from the node, bytes: names of some 50,000 nodes.
const MAX_NODE_BYTES: u64 = 4 << 20;

/// The part of what a job may write that it takes at most: it counts as the job's memory.
const PART: u64 = 8;

const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";

/// Longest `/etc/hosts` taken from the node for a job that may write so many bytes.
#[must_use]
pub fn limit(upper_bytes: u64) -> u64 {
    MAX_NODE_BYTES.min(upper_bytes / PART)
}

/// The file for a job of this host name. `of_node` is the node's, empty for an isolated job; what
/// is beyond `limit` bytes is left out. The node's lines come first, unchanged: who asks for
/// another node must not reach the job itself.
#[must_use]
pub fn hosts(of_node: &[u8], host: &str, limit: u64) -> Vec<u8> {
    let (of_node, is_cut) = whole_lines(of_node, limit);
    let mut text = Vec::with_capacity(of_node.len() + 256);
    if !names(of_node).any(|name| name.eq_ignore_ascii_case(b"localhost")) {
        text.extend_from_slice(LOCALHOST.as_bytes());
    }
    text.extend_from_slice(of_node);
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    if is_cut {
        let limit = limit >> 10;
        let words =
            format!("# The node's file is longer than {limit} KiB: the rest is left out.\n");
        text.extend_from_slice(words.as_bytes());
    }
    if !names(of_node).any(|name| name.eq_ignore_ascii_case(host.as_bytes())) {
        text.extend_from_slice(format!("127.0.1.1 {host}\n").as_bytes());
    }
    text
}

/// What fits, to the end of a line, and whether that is not all.
fn whole_lines(text: &[u8], limit: u64) -> (&[u8], bool) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if text.len() <= limit {
        return (text, false);
    }
    let end = text[..limit].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (&text[..end], true)
}

/// Every name of every address.
fn names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').flat_map(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(of_node: &str, host: &str) -> String {
        within(of_node, host, limit(u64::MAX))
    }

    fn within(of_node: &str, host: &str, limit: u64) -> String {
        String::from_utf8(hosts(of_node.as_bytes(), host, limit)).unwrap()
    }

    #[test]
    fn the_names_of_the_node_come_first_and_none_is_there_twice() {
        assert_eq!(of("", "count"), format!("{LOCALHOST}127.0.1.1 count\n"));
        let node = "127.0.0.1 localhost\n127.0.1.1 n7\n10.0.0.1\tn1 n1.site # count";
        assert_eq!(of(node, "count"), format!("{node}\n127.0.1.1 count\n"));
        assert_eq!(of(node, "N1"), format!("{node}\n"));
        assert_eq!(of("10.0.0.1 n1\n", "a"), format!("{LOCALHOST}10.0.0.1 n1\n127.0.1.1 a\n"));
    }

    #[test]
    fn a_file_that_is_too_long_ends_with_a_line_and_says_so() {
        let line = "10.0.0.1 a-node-with-a-name\n";
        let long = line.repeat(usize::try_from(MAX_NODE_BYTES).unwrap() / line.len() + 1);
        let text = of(&long, "job");
        assert!(text.len() < long.len() + 256);
        let tail: Vec<&str> = text.lines().rev().take(3).collect();
        let words = "# The node's file is longer than 4096 KiB: the rest is left out.";
        assert_eq!(tail, ["127.0.1.1 job", words, line.trim_end()]);
        // A job of 16 KiB keeps most of them for itself.
        let small = within(&long, "job", limit(16 << 10));
        assert!(small.len() < (2 << 10) + 256, "{}", small.len());
        assert!(small.contains("longer than 2 KiB: the rest is left out.\n127.0.1.1 job\n"));
        assert!(within(&long, "job", 0).starts_with("127.0.0.1 localhost\n"));
    }
}

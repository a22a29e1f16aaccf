//! Reading logs and serial consoles for people: the last lines, without what only a
//! terminal understands.

use std::{fs, path::Path};

/// The last lines of a file.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = plain(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// What a kernel says when it cannot go on as it should (kernel:
/// `Documentation/admin-guide/lockup-watchdogs.rst`, `Documentation/RCU/stallwarn.rst`).
const COMPLAINTS: [&str; 5] =
    ["BUG: ", "Kernel panic", "Oops: ", "general protection fault", "detected stall on CPU"];

/// The first complaint of the kernel on a console, if there is one.
pub(crate) fn complaint(path: &Path) -> Option<String> {
    first_complaint(&plain(&fs::read(path).ok()?)).map(str::to_owned)
}

fn first_complaint(text: &str) -> Option<&str> {
    text.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
}

/// Text without escape sequences, and of lines that overwrite themselves the last state.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\r' if characters.peek() != Some(&'\n') => {
                let line = plain.rfind('\n').map_or(0, |at| at + 1);
                plain.truncate(line);
            }
            '\n' | '\t' => plain.push(character),
            other if other.is_control() => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Skips what follows an escape character: `[`, parameters and a final letter (ECMA-48),
/// or one character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if characters.next_if_eq(&'[').is_none() {
        characters.next();
        return;
    }
    for character in characters.by_ref() {
        if ('\u{40}'..='\u{7e}').contains(&character) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{first_complaint, plain};

    #[test]
    fn escapes_and_overwritten_states_vanish() {
        assert_eq!(
            plain(b"\x1b[2J\x1b[01;01Hboot\r\n10 %\r20 %\r100 %\nend\x1bc."),
            "boot\n100 %\nend."
        );
    }

    #[test]
    fn a_kernel_that_stands_still_is_heard() {
        let text = "[ 59.1] eth0: link up
n2 login: [   60.260996] rcu: INFO: rcu_preempt self-detected stall on CPU
[   84.932936] watchdog: BUG: soft lockup - CPU#2 stuck for 45s! [tokio-rt-worker:225]
";
        let first = "n2 login: [   60.260996] rcu: INFO: rcu_preempt self-detected stall on CPU";
        assert_eq!(first_complaint(text), Some(first));
        assert_eq!(first_complaint("[ 59.1] eth0: link up\n"), None);
    }
}

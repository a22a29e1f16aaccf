//! Lines of `/etc/passwd` and `/etc/group` for the user of a run, whom the image does not know:
//! many programs ask who they are. What the image has there stays as it is, byte for byte.

use std::collections::BTreeSet;

/// Longest file read, bytes: images have some kilobytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a user is whose own home directory cannot stand in a line.
const NO_HOME: &str = "/";

/// Fields of a line, from 0 (passwd(5), group(5)).
const NAME: usize = 0;
const NUMBER: usize = 2;
const HOME: usize = 5;

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn field(line: &[u8], number: usize) -> Option<&str> {
    std::str::from_utf8(line.split(|byte| *byte == b':').nth(number)?).ok()
}

/// The line of a number; the first one counts.
fn line_of(text: &[u8], number: u32) -> Option<&[u8]> {
    let number = number.to_string();
    lines(text).find(|line| field(line, NUMBER) == Some(number.as_str()))
}

/// A name that nobody has yet: what the image gives to somebody else stays theirs.
fn free_name(text: &[u8], name: &str, number: u32) -> String {
    let is_taken = lines(text).any(|line| field(line, NAME) == Some(name));
    if is_taken { format!("{name}-{number}") } else { name.to_owned() }
}

/// The home directory that `/etc/passwd` gives to a user.
#[must_use]
pub fn home_of(passwd: &[u8], uid: u32) -> Option<String> {
    field(line_of(passwd, uid)?, HOME).map(str::to_owned)
}

/// What `/etc/passwd` calls the user, or will when it has its line.
#[must_use]
pub fn name_of(passwd: &[u8], name: &str, uid: u32) -> String {
    let known = line_of(passwd, uid).and_then(|line| field(line, NAME));
    known.map_or_else(|| free_name(passwd, name, uid), str::to_owned)
}

/// `/etc/passwd` with a line for the user; `None` if it has one for this number already.
#[must_use]
pub fn passwd(text: &[u8], name: &str, uid: u32, gid: u32, home: &str) -> Option<Vec<u8>> {
    if line_of(text, uid).is_some() {
        return None;
    }
    let name = free_name(text, name, uid);
    let home = if home.contains(|c: char| c == ':' || c.is_control()) { NO_HOME } else { home };
    Some(with(text, &format!("{name}:x:{uid}:{gid}::{home}:/bin/sh\n")))
}

/// `/etc/group` with a line for each group that it has none for: that of the user, by the user's
/// name, and the further `groups`, of which the server knows numbers alone, as `g` and the number
/// with the user as `member`. `None` if it has all of them.
#[must_use]
pub fn group(text: &[u8], name: &str, gid: u32, groups: &[u32], member: &str) -> Option<Vec<u8>> {
    let known: BTreeSet<&str> = lines(text).filter_map(|line| field(line, NUMBER)).collect();
    let mut told: BTreeSet<u32> = BTreeSet::new();
    let mut added = String::new();
    for number in [gid].iter().chain(groups) {
        if known.contains(number.to_string().as_str()) || !told.insert(*number) {
            continue;
        }
        let (wanted, member) =
            if *number == gid { (name.to_owned(), "") } else { (format!("g{number}"), member) };
        added += &format!("{}:x:{number}:{member}\n", free_name(text, &wanted, *number));
    }
    (!added.is_empty()).then(|| with(text, &added))
}

/// A text, its last line ended, with more lines.
fn with(text: &[u8], more: &str) -> Vec<u8> {
    let mut whole = text.to_vec();
    if whole.last().is_some_and(|last| *last != b'\n') {
        whole.push(b'\n');
    }
    whole.extend_from_slice(more.as_bytes());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nann:x:5:5:M\xfcller:/home/ann:/bin/sh";

    fn text(bytes: Option<Vec<u8>>) -> String {
        String::from_utf8_lossy(&bytes.unwrap()).into_owned()
    }

    #[test]
    fn who_is_not_known_gets_a_line_and_the_others_stay() {
        assert_eq!(passwd(PASSWD, "bob", 0, 0, "/"), None);
        let added = passwd(PASSWD, "bob", 1001, 100, "/work").unwrap();
        assert_eq!(added, [PASSWD, b"\nbob:x:1001:100::/work:/bin/sh\n"].concat());
        assert!(text(passwd(PASSWD, "ann", 7, 100, "/")).ends_with("\nann-7:x:7:100::/:/bin/sh\n"));
        assert_eq!(text(passwd(b"", "bob", 7, 8, "/x:y\nroot::0")), "bob:x:7:8::/:/bin/sh\n");
        assert_eq!(
            (name_of(PASSWD, "bob", 5), name_of(PASSWD, "bob", 7)),
            ("ann".into(), "bob".into())
        );
        assert_eq!((home_of(PASSWD, 5), home_of(PASSWD, 7)), (Some("/home/ann".into()), None));
    }

    #[test]
    fn every_group_of_the_user_has_a_name() {
        let users: &[u8] = b"users:x:100:\n";
        assert_eq!(group(users, "bob", 100, &[100], "bob"), None);
        assert_eq!(text(group(users, "bob", 7, &[], "bob")), "users:x:100:\nbob:x:7:\n");
        assert_eq!(
            text(group(b"g44:x:9:", "bob", 7, &[100, 44, 7, 44], "ann")),
            "g44:x:9:\nbob:x:7:\ng100:x:100:ann\ng44-44:x:44:ann\n"
        );
    }
}

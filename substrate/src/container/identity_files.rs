//! Lines of `/etc/passwd` and `/etc/group` for a user that the image does not know: many programs ask who they are.

/// Longest file read, bytes: images have some kilobytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// `/etc/passwd` with a line for the user; `None` if it has one for this number already (passwd(5)).
#[must_use]
pub fn passwd(text: &str, name: &str, uid: u32, gid: u32, home: &str) -> Option<String> {
    let number = uid.to_string();
    let is_known = text.lines().any(|line| line.split(':').nth(2) == Some(number.as_str()));
    if is_known {
        return None;
    }
    // A name that the image gives to somebody else stays theirs.
    let is_taken = text.lines().any(|line| line.split(':').next() == Some(name));
    let name = if is_taken { format!("{name}-{uid}") } else { name.to_owned() };
    Some(format!("{}{name}:x:{uid}:{gid}::{home}:/bin/sh\n", ended(text)))
}

/// `/etc/group` with a line for the group; `None` if it has one for this number already (group(5)).
#[must_use]
pub fn group(text: &str, name: &str, gid: u32) -> Option<String> {
    let number = gid.to_string();
    if text.lines().any(|line| line.split(':').nth(2) == Some(number.as_str())) {
        return None;
    }
    let is_taken = text.lines().any(|line| line.split(':').next() == Some(name));
    let name = if is_taken { format!("{name}-{gid}") } else { name.to_owned() };
    Some(format!("{}{name}:x:{gid}:\n", ended(text)))
}

/// A text whose last line is ended.
fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_known_gets_a_line() {
        let text = "root:x:0:0:root:/root:/bin/sh\nann:x:5:5::/:/bin/sh";
        assert_eq!(passwd(text, "bob", 0, 0, "/"), None);
        let added = passwd(text, "bob", 1001, 100, "/work").unwrap();
        assert!(added.ends_with("/bin/sh\nbob:x:1001:100::/work:/bin/sh\n"), "{added}");
        assert!(passwd(text, "ann", 1001, 100, "/").unwrap().ends_with("ann-1001:x:1001:100::/:/bin/sh\n"));
        assert_eq!(passwd("", "bob", 7, 8, "/").unwrap(), "bob:x:7:8::/:/bin/sh\n");
        assert_eq!(group("users:x:100:\n", "bob", 100), None);
        assert_eq!(group("users:x:100:\n", "bob", 7).unwrap(), "users:x:100:\nbob:x:7:\n");
    }
}

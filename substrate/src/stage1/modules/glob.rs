//! Matching of module aliases (`pci:v00008086d*`) as `fnmatch(3)` does it for depmod's files:
//! `*`, `?`, `[a-f]`.

/// `true` if `text` matches `pattern` from end to end.
#[must_use]
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much of the text it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if let Some(&wanted) = pattern.get(p) {
            if wanted == b'*' {
                p += 1;
                star = Some((p, t));
                continue;
            }
            if let Some(&is) = text.get(t)
                && let Some(next) = one(pattern, p, is)
            {
                (p, t) = (next, t + 1);
                continue;
            }
        } else if t == text.len() {
            return true;
        }
        match star {
            Some((after, swallowed)) if swallowed < text.len() => {
                star = Some((after, swallowed + 1));
                (p, t) = (after, swallowed + 1);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on if its one-character element at `p` matches `is`.
fn one(pattern: &[u8], p: usize, is: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => set(pattern, p + 1, is),
        wanted => (same(wanted, is)).then_some(p + 1),
    }
}

/// Module names are written with `-` or `_` alike.
fn same(wanted: u8, is: u8) -> bool {
    wanted == is || (matches!(wanted, b'-' | b'_') && matches!(is, b'-' | b'_'))
}

/// A set that starts after `[` at `p`: characters and ranges up to `]`; `!` or `^` first
/// turns it round.
fn set(pattern: &[u8], p: usize, is: u8) -> Option<usize> {
    let end = p + 1 + pattern.get(p + 1..)?.iter().position(|&c| c == b']')?;
    let members = &pattern[p..end];
    let (turned, members) = match members {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, members),
    };
    let mut found = false;
    let mut rest = members;
    while let [first, tail @ ..] = rest {
        if let [b'-', last, tail @ ..] = tail {
            found |= (*first..=*last).contains(&is);
            rest = tail;
        } else {
            found |= *first == is;
            rest = tail;
        }
    }
    (found != turned).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_every_bus() {
        for (pattern, text, expected) in [
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d0000100Fsv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00",
                false,
            ),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
                true,
            ),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000011v00001AF4", false),
            ("acpi*:PNP0C0A:*", "acpi:PNP0C0A:", true),
            ("acpi*:PNP0C0A:*", "acpi:LNXSYSTM:PNP0C0A:", true),
            ("acpi*:PNP0C0A:*", "acpi:PNP0C0B:", false),
            ("usb:v0BDAp815[0-3]d*", "usb:v0BDAp8152d3000", true),
            ("usb:v0BDAp815[0-3]d*", "usb:v0BDAp8154d3000", false),
            ("dmi*:svn[!A]*:", "dmi:bvnX:svnBochs:", true),
            ("dmi*:svn[!A]*:", "dmi:bvnX:svnAcer:", false),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*0099*",
                "cpu:type:x86,ven0000fam0006mod0055:feature:,0000,0099,",
                true,
            ),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbxbx", false),
            ("fs-nfs", "fs_nfs", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_ends_without_a_panic(pattern in "[a*?\\[\\]!-]{0,24}", text in "[a-c]{0,24}") {
            let _ = matches(&pattern, &text);
        }

        #[test]
        fn a_text_matches_itself_and_stars_around_it(text in "[a-z0-9:_]{0,24}") {
            proptest::prop_assert!(matches(&text, &text));
            let around = format!("*{text}*");
            proptest::prop_assert!(matches(&around, &text));
        }
    }
}

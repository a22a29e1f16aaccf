//! Sources and URLs as they may be stored and shown: without users, passwords and queries,
//! which are often keys (`?X-Amz-Signature=…`). Logins have a place of their own, the
//! server's configuration.
//!
//! ```text
//! docker://user:password@host/repository:1   ->  docker://…@host/repository:1
//! https://host/file?signature=x              ->  https://host/file?…
//! ```

use std::borrow::Cow;

/// What separates the scheme from the rest.
const SCHEME_END: &str = "://";

/// Digests that a reference may end with, behind an `@`.
const DIGESTS: [&str; 2] = ["sha256:", "sha512:"];

/// A source as it may be shown. Directories of the server (`oci:/DIR`) are as they are.
#[must_use]
pub fn shown(source: &str) -> Cow<'_, str> {
    if source.starts_with("oci:/") {
        return Cow::Borrowed(source);
    }
    let (scheme, rest) = match source.find(SCHEME_END) {
        Some(at) => source.split_at(at + SCHEME_END.len()),
        None => ("", source),
    };
    let login = rest.rmatch_indices('@').map(|(at, _)| at).find(|at| !is_digest(&rest[at + 1..]));
    if login.is_some_and(|at| rest[..at].contains(['?', '#'])) {
        // That `@` may be one of a query, and what is behind it a part of a signature.
        return Cow::Owned(format!("{scheme}…@…"));
    }
    let behind = login.map_or(rest, |at| &rest[at + 1..]);
    let query = behind.find(['?', '#']);
    if login.is_none() && query.is_none() {
        return Cow::Borrowed(source);
    }
    let login = if login.is_some() { "…@" } else { "" };
    let (plain, query) = match query {
        Some(at) => (&behind[..at], "?…"),
        None => (behind, ""),
    };
    Cow::Owned(format!("{scheme}{login}{plain}{query}"))
}

/// Whether a source holds what is not shown of it.
#[must_use]
pub fn holds_secret(source: &str) -> bool {
    matches!(shown(source), Cow::Owned(_))
}

/// A text of others with every URL in it as it may be shown.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut public = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME_END) {
        let (before, from) = rest.split_at(at + SCHEME_END.len());
        public += before;
        // A password may hold what ends a URL in a text.
        let word = from.find(char::is_whitespace).unwrap_or(from.len());
        let login = from[..word].rfind('@').map_or(0, |at| at + 1);
        let ends = |c: char| c.is_whitespace() || "\"'`<>)".contains(c);
        let end = from[login..].find(ends).map_or(from.len(), |at| login + at);
        let (url, behind) = from.split_at(end);
        public += &shown(url);
        rest = behind;
    }
    public + rest
}

fn is_digest(text: &str) -> bool {
    DIGESTS.iter().any(|kind| text.starts_with(kind)) && !text.contains(['/', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_queries_are_cut() {
        for (source, expected) in [
            ("docker://user:pw@host/repo:1", "docker://…@host/repo:1"),
            ("docker://user:p@w/x@host:5000/repo", "docker://…@host:5000/repo"),
            ("docker://user:pw@host/repo@sha256:00", "docker://…@host/repo@sha256:00"),
            ("user:pw@host/repo", "…@host/repo"),
            ("https://token@host/x?a=b#c", "https://…@host/x?…"),
            ("https://host/x?a=b", "https://host/x?…"),
            ("https://host/x#key=a@b", "https://…@…"),
            ("https://host/x?user=me@site&signature=s", "https://…@…"),
            ("docker://user:sha256:00@host/x", "docker://…@host/x"),
        ] {
            assert_eq!(shown(source), expected, "{source}");
            assert!(holds_secret(source), "{source}");
        }
        for source in [
            "docker://host:5000/repo:1",
            "docker://host/repo@sha256:00ff",
            "oci:/srv/a@b?c:1",
            "debian:12",
            "",
        ] {
            assert_eq!(shown(source), source);
            assert!(!holds_secret(source), "{source}");
        }
    }

    #[test]
    fn urls_in_texts_are_cut_and_the_rest_stays() {
        assert_eq!(
            without_secrets(
                "import docker://u:p@h/x as x: GET (https://cdn/b?sig=1) failed; ask root@site"
            ),
            "import docker://…@h/x as x: GET (https://cdn/b?…) failed; ask root@site"
        );
        for password in ["p)w", "p\"w", "p'w", "p<w>", "p@w)w", "p`w"] {
            let text = format!("import (docker://u:{password}@h/x) as x");
            assert_eq!(without_secrets(&text), "import (docker://…@h/x) as x", "{password}");
        }
        assert_eq!(without_secrets("no URL: a ? b @ c"), "no URL: a ? b @ c");
        assert_eq!(without_secrets("://"), "://");
    }
}

//! Cases of identifiers: their parts, a part replaced, and the names that serde makes of them.

/// The identifier with every part that is `from` replaced by `to` (parts of it joined by `_`), in
/// the case that the part has: `MAX_FOLDER` to `MAX_DIRECTORY`, `RunFolder` to `RunDirectory`.
/// None if no part is.
pub(crate) fn replace_part(identifier: &str, from: &str, to: &str) -> Option<String> {
    if !has_part(identifier, from) {
        return None;
    }
    let mut replaced = String::new();
    for part in parts(identifier) {
        if !part.eq_ignore_ascii_case(from) {
            replaced.push_str(part);
            continue;
        }
        if part.bytes().all(|c| c.is_ascii_uppercase()) {
            replaced.push_str(&to.to_ascii_uppercase());
        } else if part.starts_with(|c: char| c.is_ascii_uppercase()) {
            replaced.push_str(&pascal(to));
        } else {
            replaced.push_str(to);
        }
    }
    Some(replaced)
}

/// Whether a part of the identifier is `word`.
pub(crate) fn has_part(identifier: &str, word: &str) -> bool {
    // Most have not, and are not taken apart.
    let windows = identifier.as_bytes().windows(word.len().max(1));
    let may_have = windows.into_iter().any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
    may_have && parts(identifier).iter().any(|part| part.eq_ignore_ascii_case(word))
}

/// `run_folder`, `RunFolder`, `RUN_FOLDER`: parts and what joins them, which together are
/// the identifier.
fn parts(identifier: &str) -> Vec<&str> {
    let bytes = identifier.as_bytes();
    let mut found = Vec::new();
    let mut start = 0;
    for at in 1..bytes.len() {
        let (before, here) = (bytes[at - 1], bytes[at]);
        let next_is_lower = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let is_hump = here.is_ascii_uppercase() && (!before.is_ascii_uppercase() || next_is_lower);
        if is_hump || here == b'_' || before == b'_' {
            found.push(&identifier[start..at]);
            start = at;
        }
    }
    found.push(&identifier[start..]);
    found
}

fn pascal(words: &str) -> String {
    words.split('_').map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The name that serde and sqlx give a field or a variant under `rename_all`.
pub(super) fn wire(rule: Option<&str>, name: &str, is_variant: bool) -> String {
    let snake = if is_variant { variant_snake(name) } else { name.to_owned() };
    match rule {
        Some("lowercase") if is_variant => name.to_ascii_lowercase(),
        Some("UPPERCASE") => name.to_ascii_uppercase(),
        Some("PascalCase") if !is_variant => pascal(name),
        Some("camelCase") => {
            let pascal = if is_variant { name.to_owned() } else { pascal(name) };
            let (first, rest) = pascal.split_at(pascal.chars().next().map_or(0, char::len_utf8));
            first.to_lowercase() + rest
        }
        Some("snake_case") => snake,
        Some("SCREAMING_SNAKE_CASE") => snake.to_ascii_uppercase(),
        Some("kebab-case") => snake.replace('_', "-"),
        Some("SCREAMING-KEBAB-CASE") => snake.to_ascii_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

/// As serde does it: an underscore before every capital but the first.
fn variant_snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, character) in name.char_indices() {
        if index > 0 && character.is_uppercase() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_in_its_case() {
        let replaced = |identifier| replace_part(identifier, "folder", "work_directory");
        assert_eq!(replaced("folder").unwrap(), "work_directory");
        assert_eq!(replaced("_folder").unwrap(), "_work_directory");
        assert_eq!(replaced("RunFolderError").unwrap(), "RunWorkDirectoryError");
        assert_eq!(replaced("MAX_FOLDER").unwrap(), "MAX_WORK_DIRECTORY");
        assert_eq!(replaced("folders"), None);
        assert_eq!(replaced("scaffolder"), None);
        assert_eq!(replace_part("IOFolder", "folder", "directory").unwrap(), "IODirectory");
    }

    #[test]
    fn wire_names_are_those_of_serde() {
        let both =
            |rule| (wire(Some(rule), "host_name", false), wire(Some(rule), "NodeGone", true));
        assert_eq!(both("lowercase"), ("host_name".into(), "nodegone".into()));
        assert_eq!(both("UPPERCASE"), ("HOST_NAME".into(), "NODEGONE".into()));
        assert_eq!(both("PascalCase"), ("HostName".into(), "NodeGone".into()));
        assert_eq!(both("camelCase"), ("hostName".into(), "nodeGone".into()));
        assert_eq!(both("snake_case"), ("host_name".into(), "node_gone".into()));
        assert_eq!(both("SCREAMING_SNAKE_CASE"), ("HOST_NAME".into(), "NODE_GONE".into()));
        assert_eq!(both("kebab-case"), ("host-name".into(), "node-gone".into()));
        assert_eq!(both("SCREAMING-KEBAB-CASE"), ("HOST-NAME".into(), "NODE-GONE".into()));
        assert_eq!(wire(None, "NodeGone", true), "NodeGone");
    }
}

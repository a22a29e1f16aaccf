//! URIs of a document: where files come from, where they go to, and where they are in a volume.

use yaml_tree::LATER;

use crate::{Destination, Source, check::DiagnosticSink, raw};

/// The path of a volume in itself.
const WHOLE_VOLUME: &str = ".";

/// Schemes of the language that are not supported yet.
const LATER_SCHEMES: [&str; 5] = ["s3://", "ftp://", "hf://", "oras://", "secret://"];

/// Refuses a URI of another scheme than those that are `known` here.
pub(crate) fn refuse_scheme(uri: &str, path: &str, known: &str, notes: &mut DiagnosticSink<'_>) {
    if let Some(scheme) = LATER_SCHEMES.iter().find(|scheme| uri.starts_with(**scheme)) {
        notes.unreadable(path, &format!("{scheme} is {LATER}"), known);
    } else {
        notes.unreadable(path, &format!("{uri:?} cannot be used here"), known);
    }
}

/// The reference of an image in a registry: what follows `docker://`.
pub(crate) fn image_reference(
    uri: &str,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Option<String> {
    match uri.strip_prefix("docker://").filter(|reference| !reference.is_empty()) {
        Some(reference) => {
            if api::sources::holds_secret(reference) {
                let why = "an image holds no user, password or query: stages are named after it";
                notes.hint(path, why, "logins of registries are in the server's configuration");
            }
            Some(reference.to_owned())
        }
        None => {
            refuse_scheme(uri, path, "use docker://HOST/REPOSITORY:TAG", notes);
            None
        }
    }
}

/// An `http` or `https` URL, which must name a host. What else may be wrong with it the node says,
/// or the server at the other end.
fn http_url(uri: &str, path: &str, notes: &mut DiagnosticSink<'_>) -> String {
    let rest = uri.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    if host.is_empty() || host.starts_with(':') || host.contains(is_blank) {
        notes.hint(path, &format!("{uri:?} names no host"), "write http://HOST/PATH");
    }
    uri.to_owned()
}

/// Where a file of a volume comes from.
pub(crate) fn source(
    uri: &str,
    document: &raw::Document,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Option<Source> {
    if uri.starts_with("http://") || uri.starts_with("https://") {
        return Some(Source::Http { url: http_url(uri, path, notes) });
    }
    if let Some(name) = uri.strip_prefix("file://") {
        if document.files.contains_key(name) {
            return Some(Source::File { name: name.to_owned() });
        }
        notes.unknown(path, "inline file", name, document.files.keys().map(String::as_str));
        return None;
    }
    refuse_scheme(uri, path, "use http://, https://, or file://NAME of an entry of `files`", notes);
    None
}

/// Where a file of a volume goes to.
pub(crate) fn destination(
    uri: &str,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Option<Destination> {
    if uri.starts_with("http://") || uri.starts_with("https://") {
        return Some(Destination::Http { url: http_url(uri, path, notes) });
    }
    if let Some(local) = uri.strip_prefix("local://").filter(|local| !local.is_empty()) {
        return Some(Destination::Local { path: local.to_owned() });
    }
    refuse_scheme(
        uri,
        path,
        "use http://, https://, or local:///PATH on the client's machine",
        notes,
    );
    None
}

/// What is taken out of a volume, and whether the URI says that it is a directory: by a
/// slash at its end, or because it is the volume itself (`file:///`). Without, the node
/// finds out what it is.
pub(crate) fn taken_out(
    uri: &str,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Option<(String, bool)> {
    if matches!(uri.strip_prefix("file://"), Some("" | "/" | "." | "./" | "/." | "/./")) {
        return Some((WHOLE_VOLUME.to_owned(), true));
    }
    let directory = uri.strip_suffix('/').filter(|directory| !directory.ends_with('/'));
    let inside = inside(directory.unwrap_or(uri), path, notes)?;
    Some((inside, directory.is_some()))
}

/// A path in a volume: `file://a/b`.
pub(crate) fn inside(uri: &str, path: &str, notes: &mut DiagnosticSink<'_>) -> Option<String> {
    let Some(inside) = uri.strip_prefix("file://") else {
        notes.unreadable(
            path,
            &format!("{uri:?} is no file of the volume"),
            "use file://PATH, relative to the volume",
        );
        return None;
    };
    let inside = inside.trim_start_matches('/');
    let is_good = !inside.is_empty()
        && !inside.contains('\0')
        && inside.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_good {
        let message = format!("{uri:?} is no path inside the volume");
        notes.unreadable(path, &message, "use file://PATH without `.`, `..` and empty parts");
        return None;
    }
    Some(inside.to_owned())
}

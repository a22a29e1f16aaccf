//! CDI specs: what vendors write of their devices for container runtimes (Container Device
//! Interface, CNCF, versions 0.3 to 1.1). JSON or YAML; both are read as YAML, so that every
//! mistake has its line.
//!
//! ```text
//! cdiVersion, kind: VENDOR/CLASS, annotations
//! devices: [{name, annotations, containerEdits}]
//! containerEdits                                    of all devices of the spec
//!   deviceNodes  {path, hostPath, type, major, minor, fileMode, permissions, uid, gid}
//!   mounts       {hostPath, containerPath, options, type}
//!   env, additionalGIDs, hooks, intelRdt, netDevices
//! ```
//!
//! A text that is no such spec is refused as a whole. A spec that wants what we do not do is read,
//! and says so in [`Edits::refused`]: only what needs it cannot be granted. Unknown keys are
//! mistakes, as the specification says.

mod hooks;
mod shape;

use api::device::{DeviceKind, DeviceName};
use yaml_tree::{Diagnostics, Tree, find, walk};

use self::shape::{RawEdits, RawMount, RawNode, RawSpec, SPEC};
use crate::edits::{Edits, Mount, Node, NodeKind};

/// Versions of the specification that are read: major, and least and greatest minor number.
const VERSIONS: [(u32, u32, u32); 2] = [(0, 3, 8), (1, 0, 1)];

/// Directories of a container that are made again for each, and are no place for
/// what a spec brings.
const MADE_AGAIN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Mounts in `/dev` that hold no devices.
const NO_DEVICES: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// A CDI spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) kind: DeviceKind,
    pub(crate) devices: Vec<(DeviceName, Edits)>,
    /// For whoever gets one of the devices.
    pub(crate) edits: Edits,
}

/// Reads a spec.
///
/// # Errors
/// Every mistake, each with its line.
pub(crate) fn parse(text: &str) -> Result<Spec, Vec<String>> {
    let tree = yaml_tree::parse(text)
        .map_err(|error| vec![format!("line {}: {}", error.at.line, error.message)])?
        .ok_or_else(|| vec!["the file is empty".to_owned()])?;
    let mut diagnostics = Diagnostics::default();
    let value = walk(&tree, &SPEC, "", &mut diagnostics);
    let raw = value.filter(|_| diagnostics.is_empty()).map(serde_json::from_value::<RawSpec>);
    let spec = match raw {
        Some(Ok(raw)) => spec(&tree, raw, &mut diagnostics),
        Some(Err(error)) => return Err(vec![error.to_string()]),
        None => None,
    };
    match spec {
        Some(spec) if diagnostics.is_empty() => Ok(spec),
        _ => Err(diagnostics.told().into_iter().map(told).collect()),
    }
}

fn told(diagnostic: api::problem::Diagnostic) -> String {
    let api::problem::Diagnostic { line, path, message, hint, .. } = diagnostic;
    let place = path.trim_start_matches('.');
    let place = if place.is_empty() { String::new() } else { format!(" {place}:") };
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("line {line}:{place} {message}{hint}")
}

fn spec(tree: &Tree, raw: RawSpec, diagnostics: &mut Diagnostics) -> Option<Spec> {
    let mut note = |path: &str, message: String| {
        diagnostics.add(find(tree, path).unwrap_or(tree.at), path, message, None);
    };
    if !is_known(&raw.cdi_version) {
        let message = format!("version {:?} is none of 0.3.0 to 1.1.0", raw.cdi_version);
        note(".cdiVersion", message);
    }
    let kind =
        raw.kind.parse::<DeviceKind>().map_err(|error| note(".kind", error.to_string())).ok()?;
    if raw.devices.is_empty() {
        note(".devices", "a spec describes one device at least".to_owned());
    }
    let mut devices: Vec<(DeviceName, Edits)> = Vec::new();
    for (index, device) in raw.devices.into_iter().enumerate() {
        let path = format!(".devices[{index}]");
        match DeviceName::new(kind.clone(), &device.name) {
            Err(error) => note(&format!("{path}.name"), error.to_string()),
            Ok(name) if devices.iter().any(|(known, _)| *known == name) => {
                note(&format!("{path}.name"), format!("a second device {:?}", device.name));
            }
            Ok(name) => {
                devices.push((
                    name,
                    edits(device.container_edits, &format!("{path}.containerEdits"), &mut note),
                ));
            }
        }
    }
    let edits = edits(raw.container_edits, ".containerEdits", &mut note);
    Some(Spec { kind, devices, edits })
}

fn is_known(version: &str) -> bool {
    let numbers: Option<Vec<u32>> = version.split('.').map(|number| number.parse().ok()).collect();
    let Some(&[major, minor, _]) = numbers.as_deref() else { return false };
    VERSIONS
        .iter()
        .any(|&(known, least, greatest)| known == major && (least..=greatest).contains(&minor))
}

fn edits(raw: RawEdits, at: &str, note: &mut impl FnMut(&str, String)) -> Edits {
    let mut edits = Edits { gids: raw.additional_gids, ..Edits::default() };
    // Nobody is in the group of root.
    edits.gids.retain(|gid| *gid != 0);
    for (index, raw) in raw.device_nodes.into_iter().enumerate() {
        node(raw, &format!("{at}.deviceNodes[{index}]"), &mut edits, note);
    }
    for (index, raw) in raw.mounts.into_iter().enumerate() {
        mount(raw, &format!("{at}.mounts[{index}]"), &mut edits, note);
    }
    for (index, pair) in raw.env.into_iter().enumerate() {
        match pair.split_once('=') {
            Some((name, _)) if name.starts_with("FB_") => {
                edits.refused.push(format!("the variable {name}: names with FB_ are the server's"));
            }
            Some((name, _)) if !name.is_empty() && !pair.contains('\0') => edits.env.push(pair),
            _ => note(&format!("{at}.env[{index}]"), format!("{pair:?} is not NAME=VALUE")),
        }
    }
    for hook in &raw.hooks {
        hooks::add(hook, &mut edits);
    }
    if raw.intel_rdt.is_some() {
        edits
            .refused
            .push("intelRdt: classes of cache and memory bandwidth are not set".to_owned());
    }
    if let Some(first) = raw.net_devices.first() {
        edits.refused.push(format!(
            "netDevices: the interface {} stays the node's",
            first.host_interface_name
        ));
    }
    edits
}

fn node(raw: RawNode, at: &str, edits: &mut Edits, note: &mut impl FnMut(&str, String)) {
    let source = raw.host_path.unwrap_or_else(|| raw.path.clone());
    for (key, path) in [("path", &raw.path), ("hostPath", &source)] {
        if !is_plain(path) {
            return note(
                &format!("{at}.{key}"),
                format!("{path:?} is no absolute path without `..`"),
            );
        }
    }
    let permissions = raw.permissions.unwrap_or_else(|| "rwm".to_owned());
    if permissions.chars().any(|c| !"rwm".contains(c)) {
        return note(
            &format!("{at}.permissions"),
            format!("{permissions:?} has other letters than r, w and m"),
        );
    }
    let kind = match raw.kind.as_deref() {
        None | Some("") => None,
        Some("c" | "u") => Some(NodeKind::Character),
        Some("b") => Some(NodeKind::Block),
        Some(other) => {
            edits.refused.push(format!(
                "the device node {} of type {other:?}: only c, u and b are made",
                raw.path
            ));
            return;
        }
    };
    if !raw.path.starts_with("/dev/")
        || NO_DEVICES.iter().any(|directory| is_below(&raw.path, directory))
    {
        edits.refused.push(format!("the device node {}: no device works there", raw.path));
        return;
    }
    // `m` is granted to nobody: jobs make no nodes.
    let may = |letter| permissions.is_empty() || permissions.contains(letter);
    edits.nodes.push(Node {
        kind,
        major: raw.major,
        minor: raw.minor,
        read: may('r'),
        write: may('w'),
        mode: raw.file_mode.and_then(|mode| mode.parse::<u32>().ok()).map(|mode| mode & 0o777),
        uid: raw.uid,
        gid: raw.gid,
        source,
        ..Node::at(&raw.path, false)
    });
}

fn mount(raw: RawMount, at: &str, edits: &mut Edits, note: &mut impl FnMut(&str, String)) {
    for (key, path) in [("hostPath", &raw.host_path), ("containerPath", &raw.container_path)] {
        if !is_plain(path) {
            return note(
                &format!("{at}.{key}"),
                format!("{path:?} is no absolute path without `..`"),
            );
        }
    }
    let target = raw.container_path;
    let mut mount = Mount { source: raw.host_path, target, read_only: true, no_exec: false };
    if let Some(other) = raw.kind.filter(|kind| !matches!(kind.as_str(), "" | "bind" | "none")) {
        edits
            .refused
            .push(format!("the mount {} of type {other:?}: only bind is done", mount.target));
        return;
    }
    if mount.target == "/" || MADE_AGAIN.iter().any(|directory| is_below(&mount.target, directory))
    {
        edits.refused.push(format!("the mount {}: a container has its own there", mount.target));
        return;
    }
    for option in &raw.options {
        match option.as_str() {
            "rw" => mount.read_only = false,
            "ro" => mount.read_only = true,
            "noexec" => mount.no_exec = true,
            // These hold anyway.
            "bind" | "rbind" | "nosuid" | "nodev" | "exec" | "private" | "rprivate" => {}
            other => {
                edits.refused.push(format!("the option {other:?} of the mount {}", mount.target));
                return;
            }
        }
    }
    edits.mounts.push(mount);
}

/// An absolute path in which nothing leads back.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

fn is_below(path: &str, directory: &str) -> bool {
    std::path::Path::new(path).starts_with(directory)
}

#[cfg(test)]
mod tests;

//! A node with all its profiles applied, and where each value came from.
//!
//! Layers, from weakest to strongest: the defaults, the profiles in the order that [`linearise`]
//! finds, the node. They are merged as JSON: maps merge by key, other values replace, and the lists
//! named in [`APPENDED`] append. In those an element `~x` removes `x`, and an element that comes
//! again moves to the end. Of labels a key `~x` removes `x`. Pure; used on every change.

use std::collections::{BTreeMap, HashMap};

use api::{
    ids::ProfileName,
    labels::REMOVES,
    machine::{MachineSpec, Origin},
};
use serde_json::{Map, Value, json};

use crate::{check::DeclaredProfiles, spread::bytes_of};

/// Lists that append over layers. All other lists replace.
pub(crate) const APPENDED: [&str; 4] =
    ["kernel-args", "boot-overlays", "runtime-overlays", "groups"];

/// The map whose keys can take away those of weaker layers.
const LABELS: &str = "labels";

/// Boot overlays that every node gets unless it removes them with `~NAME`.
pub(crate) const DEFAULT_BOOT_OVERLAYS: [&str; 7] = [
    "hostname",
    "hosts",
    "systemd-networkd",
    "resolv",
    "ssh-host-keys",
    "ssh-authorized-keys",
    "substrate",
];

/// Runtime overlays that every node gets unless it removes them with `~NAME`.
pub(crate) const DEFAULT_RUNTIME_OVERLAYS: [&str; 2] = ["hosts", "ssh-authorized-keys"];

/// Profiles that one node may take values from, nested ones counted: deeper is a mistake.
pub(crate) const MAX_PROFILES: usize = 256;

/// Why profiles cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// A profile that is not there.
    #[error("profile {name:?} does not exist")]
    UnknownProfile {
        /// Its name.
        name: String,
        /// The profile that lists it; `None`: the node itself.
        listed_by: Option<String>,
    },
    /// A profile whose stored specification cannot be read.
    #[error("profile {name:?} cannot be read: {cause}")]
    UnreadableProfile {
        /// The profile, as nodes and other profiles list it.
        name: String,
        /// What the decoder says.
        cause: String,
    },
    /// Profiles that list each other.
    #[error("profiles list each other: {}", path.join(" -> "))]
    Cycle {
        /// The way round, its first element again at the end.
        path: Vec<String>,
    },
    /// More than [`MAX_PROFILES`].
    #[error("more than {MAX_PROFILES} profiles apply")]
    TooMany,
    /// The merged layers are no machine: cannot come from layers that were checked one by one.
    #[error("the merged values do not form a machine: {cause}")]
    Merge {
        /// What the decoder says.
        cause: String,
    },
}

/// The profiles as JSON, made once for many nodes.
#[derive(Debug, Default)]
pub(crate) struct Profiles(BTreeMap<String, ProfileLayer>);

#[derive(Debug)]
struct ProfileLayer {
    lists: Vec<String>,
    values: Value,
    /// Of the values as JSON.
    bytes: usize,
    unreadable: Option<String>,
}

impl Profiles {
    /// Prepares profiles. Their remarks do not pass on to nodes.
    pub(crate) fn new<'a>(
        profiles: impl IntoIterator<Item = (&'a ProfileName, &'a MachineSpec)>,
    ) -> Self {
        let layer = |spec: &MachineSpec| {
            let mut values = to_json(spec);
            if let Value::Object(map) = &mut values {
                map.remove("comment");
            }
            let bytes = bytes_of(&values);
            ProfileLayer { lists: spec.profiles.clone(), values, bytes, unreadable: None }
        };
        Self(profiles.into_iter().map(|(name, spec)| (name.to_string(), layer(spec))).collect())
    }

    /// Prepares profiles as they are stored.
    #[must_use]
    pub(crate) fn of_records(profiles: &DeclaredProfiles) -> Self {
        let mut layers = Self::new(profiles.iter().map(|(name, record)| (name, &record.spec)));
        for (name, record) in profiles {
            if let Some(layer) = layers.0.get_mut(name.as_str()) {
                layer.unreadable.clone_from(&record.unreadable);
            }
        }
        layers
    }

    /// The profiles that `lists` stands for: nested ones before the profile that lists them, each
    /// once, where it comes first. `~x` takes `x` away again.
    ///
    /// # Errors
    /// An unknown profile, a cycle (with its path), or too many.
    pub(crate) fn linearise(&self, lists: &[String]) -> Result<Vec<String>, ResolveError> {
        let mut order = Vec::new();
        self.visit(lists, &mut Vec::new(), &mut order)?;
        Ok(order)
    }

    fn visit(
        &self,
        lists: &[String],
        path: &mut Vec<String>,
        order: &mut Vec<String>,
    ) -> Result<(), ResolveError> {
        for name in lists {
            if let Some(removed) = name.strip_prefix('~') {
                order.retain(|other| other != removed);
                continue;
            }
            if let Some(start) = path.iter().position(|other| other == name) {
                let mut cycle = path[start..].to_vec();
                cycle.push(name.clone());
                return Err(ResolveError::Cycle { path: cycle });
            }
            if order.contains(name) {
                continue;
            }
            let layer = self.0.get(name).ok_or_else(|| ResolveError::UnknownProfile {
                name: name.clone(),
                listed_by: path.last().cloned(),
            })?;
            if let Some(cause) = &layer.unreadable {
                let (name, cause) = (name.clone(), cause.clone());
                return Err(ResolveError::UnreadableProfile { name, cause });
            }
            if path.len() + order.len() >= MAX_PROFILES {
                return Err(ResolveError::TooMany);
            }
            path.push(name.clone());
            self.visit(&layer.lists, path, order)?;
            path.pop();
            order.push(name.clone());
        }
        Ok(())
    }

    /// What a node with its profiles may come to, bytes as JSON: known before they are applied.
    #[must_use]
    pub(crate) fn weight(&self, node: &MachineSpec) -> usize {
        let order = self.linearise(&node.profiles).unwrap_or_default();
        let profiles = order.iter().filter_map(|name| self.0.get(name)).map(|layer| layer.bytes);
        profiles.fold(bytes_of(node), usize::saturating_add)
    }

    /// Applies all layers to a node.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub(crate) fn resolve(&self, node: &MachineSpec) -> Result<MachineSpec, ResolveError> {
        self.merge(node).map(|(spec, _)| spec)
    }

    /// Applies all layers to a node and says where each value came from, by field.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub(crate) fn explain(
        &self,
        node: &MachineSpec,
    ) -> Result<(MachineSpec, Vec<Origin>), ResolveError> {
        let (spec, origins) = self.merge(node)?;
        let mut leaves = Vec::new();
        collect_leaves("", &to_json(&spec), &mut leaves);
        let named = leaves
            .into_iter()
            .map(|(field, value)| {
                let key = match &value {
                    Value::String(element) if field.ends_with(']') => element_key(&field, element),
                    _ => field.clone(),
                };
                let origin = origins.get(&key).cloned().unwrap_or_else(|| "node".to_owned());
                Origin { field, value, origin }
            })
            .collect();
        Ok((spec, named))
    }

    fn merge(
        &self,
        node: &MachineSpec,
    ) -> Result<(MachineSpec, BTreeMap<String, String>), ResolveError> {
        let order = self.linearise(&node.profiles)?;
        let mut merged = Merge::default();
        merged.layer(&defaults(), "default");
        for name in &order {
            if let Some(layer) = self.0.get(name) {
                merged.layer(&layer.values, &format!("profile {name}"));
            }
        }
        merged.layer(&to_json(node), "node");
        let mut spec: MachineSpec = serde_json::from_value(Value::Object(merged.values))
            .map_err(|error| ResolveError::Merge { cause: error.to_string() })?;
        spec.profiles = order;
        Ok((spec, merged.origins))
    }
}

/// The weakest layer.
fn defaults() -> Value {
    json!({
        "root": { "writable-size": "50%" },
        "boot-overlays": DEFAULT_BOOT_OVERLAYS,
        "runtime-overlays": DEFAULT_RUNTIME_OVERLAYS,
    })
}

/// A specification as JSON; keys in kebab-case, absent where unset.
pub(crate) fn to_json(spec: &MachineSpec) -> Value {
    serde_json::to_value(spec).unwrap_or_else(|_| Value::Object(Map::new()))
}

/// Every leaf of a JSON value with its path: `interfaces.eth0.mac`, `kernel-args[1]`. Empty lists
/// and maps are none.
pub(crate) fn collect_leaves(path: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                collect_leaves(&child(path, key), value, leaves);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                collect_leaves(&format!("{path}[{index}]"), value, leaves);
            }
        }
        leaf => leaves.push((path.to_owned(), leaf.clone())),
    }
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Elements of appended lists move, so their origin is kept by value; other lists
/// replace as a whole.
fn element_key(field: &str, element: &str) -> String {
    let list = field.rsplit_once('[').map_or(field, |(list, _)| list);
    if APPENDED.contains(&list) { format!("{list}[]{element}") } else { list.to_owned() }
}

#[derive(Default)]
struct Merge {
    values: Map<String, Value>,
    origins: BTreeMap<String, String>,
}

impl Merge {
    fn layer(&mut self, layer: &Value, origin: &str) {
        if let Value::Object(layer) = layer {
            merge_map("", &mut self.values, layer, origin, &mut self.origins);
        }
    }
}

fn merge_map(
    path: &str,
    target: &mut Map<String, Value>,
    layer: &Map<String, Value>,
    origin: &str,
    origins: &mut BTreeMap<String, String>,
) {
    for (key, value) in layer {
        let at = child(path, key);
        if let Some(removed) = key.strip_prefix(REMOVES).filter(|_| path == LABELS) {
            target.remove(removed);
            continue;
        }
        match value {
            Value::Object(inner) => {
                let slot = target.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(slot) = slot {
                    merge_map(&at, slot, inner, origin, origins);
                }
            }
            Value::Array(elements) if APPENDED.contains(&at.as_str()) => {
                let slot = target.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(slot) = slot {
                    append(&at, slot, elements, origin, origins);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
                origins.insert(at, origin.to_owned());
            }
        }
    }
}

fn append(
    at: &str,
    target: &mut Vec<Value>,
    elements: &[Value],
    origin: &str,
    origins: &mut BTreeMap<String, String>,
) {
    // Gaps are closed at the end: one pass, however many elements move or go.
    let mut kept: Vec<Option<Value>> = target.drain(..).map(Some).collect();
    let mut places: HashMap<String, usize> = HashMap::with_capacity(kept.len());
    for (place, element) in kept.iter().enumerate() {
        places
            .extend(element.as_ref().and_then(Value::as_str).map(|name| (name.to_owned(), place)));
    }
    for element in elements {
        let Value::String(text) = element else { continue };
        let removed = text.strip_prefix('~');
        let name = removed.unwrap_or(text);
        if let Some(place) = places.remove(name) {
            kept[place] = None;
        }
        if removed.is_none() {
            places.insert(name.to_owned(), kept.len());
            kept.push(Some(element.clone()));
            origins.insert(format!("{at}[]{name}"), origin.to_owned());
        }
    }
    target.extend(kept.into_iter().flatten());
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::{Strategy, prop, proptest};

    use super::*;

    fn spec(yaml: &str) -> MachineSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn profiles(list: &[(&str, &str)]) -> Profiles {
        let list: Vec<(ProfileName, MachineSpec)> =
            list.iter().map(|(name, yaml)| (name.parse().unwrap(), spec(yaml))).collect();
        Profiles::new(list.iter().map(|(name, spec)| (name, spec)))
    }

    fn check(profiles: &Profiles, node: &str, expect: &Expect) {
        let text = match profiles.explain(&spec(node)) {
            Ok((_, origins)) => origins
                .into_iter()
                .map(|origin| format!("{} = {} ({})\n", origin.field, origin.value, origin.origin))
                .collect(),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn layers_merge_and_name_their_origin() {
        let profiles = profiles(&[
            (
                "base",
                "{kernel-args: [quiet, console=tty0], tags: {rack: a, row: '1'}, comment: no, image: d}",
            ),
            (
                "net",
                "{profiles: [base], interfaces: {eth0: {mtu: 9000}}, dns: {servers: [10.0.0.1], search: [x]}}",
            ),
        ]);
        check(
            &profiles,
            "{profiles: [net], comment: mine, kernel-args: [~quiet, debug], tags: {rack: b}, \
             boot-overlays: [~systemd-networkd, network-manager], dns: {servers: [10.0.0.2]}, \
             interfaces: {eth0: {mac: '52:54:00:00:00:01'}}}",
            &expect![[r#"
                comment = "mine" (node)
                profiles[0] = "base" (node)
                profiles[1] = "net" (node)
                image = "d" (profile base)
                kernel-args[0] = "console=tty0" (profile base)
                kernel-args[1] = "debug" (node)
                root.writable-size = "50%" (default)
                interfaces.eth0.mac = "52:54:00:00:00:01" (node)
                interfaces.eth0.mtu = 9000 (profile net)
                dns.servers[0] = "10.0.0.2" (node)
                dns.search[0] = "x" (profile net)
                boot-overlays[0] = "hostname" (default)
                boot-overlays[1] = "hosts" (default)
                boot-overlays[2] = "resolv" (default)
                boot-overlays[3] = "ssh-host-keys" (default)
                boot-overlays[4] = "ssh-authorized-keys" (default)
                boot-overlays[5] = "substrate" (default)
                boot-overlays[6] = "network-manager" (node)
                runtime-overlays[0] = "hosts" (default)
                runtime-overlays[1] = "ssh-authorized-keys" (default)
                tags.rack = "b" (node)
                tags.row = "1" (profile base)
            "#]],
        );
    }

    #[test]
    fn a_label_is_another_ones_or_taken_away() {
        let profiles = profiles(&[
            ("base", "{labels: {rack: a1, zone: north, tier: test}}"),
            ("prod", "{profiles: [base], labels: {~tier: '', owner: hpc}}"),
        ]);
        check(
            &profiles,
            "{profiles: [prod], boot-overlays: [], labels: {rack: a2, ~owner: '', ~nothing: ''}}",
            &expect![[r#"
                profiles[0] = "base" (node)
                profiles[1] = "prod" (node)
                root.writable-size = "50%" (default)
                boot-overlays[0] = "hostname" (default)
                boot-overlays[1] = "hosts" (default)
                boot-overlays[2] = "systemd-networkd" (default)
                boot-overlays[3] = "resolv" (default)
                boot-overlays[4] = "ssh-host-keys" (default)
                boot-overlays[5] = "ssh-authorized-keys" (default)
                boot-overlays[6] = "substrate" (default)
                runtime-overlays[0] = "hosts" (default)
                runtime-overlays[1] = "ssh-authorized-keys" (default)
                labels.rack = "a2" (node)
                labels.zone = "north" (profile base)
            "#]],
        );
    }

    #[test]
    fn cycles_and_unknown_profiles_are_named() {
        let profiles = profiles(&[
            ("a", "{profiles: [b]}"),
            ("b", "{profiles: [c]}"),
            ("c", "{profiles: [b]}"),
        ]);
        check(&profiles, "{profiles: [a]}", &expect!["profiles list each other: b -> c -> b"]);
        check(&profiles, "{profiles: [x]}", &expect![[r#"profile "x" does not exist"#]]);
    }

    #[test]
    fn a_profile_can_be_taken_away() {
        let profiles = profiles(&[("a", "{profiles: [b]}"), ("b", "{image: b}")]);
        let order = profiles.linearise(&["a".into(), "~b".into()]).unwrap();
        assert_eq!(order, ["a"]);
    }

    fn kernel_args() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("~?[a-e]", 0..6)
    }

    proptest! {
        #[test]
        fn lists_hold_each_element_once_and_the_last_word_wins(one in kernel_args(), two in kernel_args()) {
            let profile = MachineSpec { kernel_args: one, ..MachineSpec::default() };
            let node = MachineSpec {
                profiles: vec!["p".into()],
                kernel_args: two.clone(),
                ..MachineSpec::default()
            };
            let name: ProfileName = "p".parse().unwrap();
            let resolved = Profiles::new([(&name, &profile)]).resolve(&node).unwrap().kernel_args;
            let mut unique = resolved.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), resolved.len());
            assert!(resolved.iter().all(|arg| !arg.starts_with('~')));
            if let Some(last) = two.last() {
                match last.strip_prefix('~') {
                    Some(removed) => assert!(!resolved.iter().any(|arg| arg == removed)),
                    None => assert_eq!(resolved.last(), Some(last)),
                }
            }
        }

        #[test]
        fn resolving_without_profiles_keeps_what_the_node_says(mtu in 68_u32..9216, comment in "[a-z ]{0,9}") {
            let mut node = MachineSpec { comment: Some(comment), ..MachineSpec::default() };
            node.interfaces.entry("eth0".into()).or_default().mtu = Some(mtu);
            let resolved = Profiles::default().resolve(&node).unwrap();
            assert_eq!(resolved.comment, node.comment);
            assert_eq!(resolved.interfaces, node.interfaces);
        }
    }
}

//! The register: 10,000 nodes with three profiles each. Beside it a YAML file that a script of 30
//! lines reads, merges and writes (`register/peer.py`, with libyaml), as site scripts do.
//!
//! Both sides are programs started once for each act, and both have made a change
//! durable when they end.

mod bars;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use bench::outcome::{Better, Outcome, Row};
use harness::workspace;
use serde_json::Value;

use self::bars::{Acts, EDITS};
use crate::{
    clock,
    frame::Frame,
    ours::{BedplateServer, Settings},
    process,
    turns::{self, OURS, Samples, Side},
};

const NODES: u32 = 10_000;

const DECLARE: &str = "declare all nodes from the document";
const RESOLVE: &str = "edit a profile and resolve all nodes";
const EDIT: &str = "edit one node";
const LIST: &str = "list all nodes";
const DELETE: &str = "delete all nodes";
const ALL: &str = "resolve all, one edit, list";

/// The peer.
const SCRIPT: &str = include_str!("register/peer.py");

/// Measures.
///
/// # Errors
/// If the document cannot be written.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("register");
    outcome.rows.push(Row::new(ALL, "s", Better::Lower).headline());
    outcome.rows.extend(
        [RESOLVE, EDIT, LIST, DECLARE, DELETE].map(|what| Row::new(what, "s", Better::Lower)),
    );
    let nodes = frame.size(NODES, NODES / 10);
    let acts = Acts::of(nodes, LIST);
    outcome.rows.extend(acts.rows());
    let directory = frame.checkout_paths.on_disk("register");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let document = document(nodes)?;
    let sources =
        Sources { all: directory.join("cluster.yaml"), some: directory.join("some.yaml") };
    let some = nodes_of(acts.some)?;
    for (path, text) in [
        (&sources.all, document.as_str()),
        (&sources.some, some.as_str()),
        (&directory.join("peer.py"), SCRIPT),
    ] {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let sides = vec![
        Side::new(OURS, |_| ours(frame, &sources, nodes, &acts)),
        Side::new("YAML and script", |_| peer(&directory, &document, nodes)),
    ];
    turns::take(&mut outcome, frame.size(5, 1), sides);
    acts.judge(&mut outcome, nodes);
    outcome.note(format!(
        "{nodes} nodes with three profiles each; each act is one command. Ours reads the document once into its database, every value checked, and holds all nodes resolved; \
         the script reads the file again for each act, checks nothing, and declaring is only reading and merging; it has no history to delete. What has a bar is measured for ours alone. Both sync a change to disk before they end"
    ));
    Ok(outcome)
}

/// Documents of ours.
struct Sources {
    /// Profiles and all nodes.
    all: PathBuf,
    /// The first of the nodes, without the profiles.
    some: PathBuf,
}

fn ours(frame: &Frame, sources: &Sources, nodes: u32, acts: &Acts) -> anyhow::Result<Samples> {
    let state = frame.checkout_paths.on_disk("ours");
    workspace::remove(&state)?;
    let server = BedplateServer::start(&frame.checkout_paths, &state, &Settings::default())?;
    let source = sources.all.display().to_string();
    let (_, declare) = clock::timed(|| server.cli(&["apply", "-f", &source]))?;
    let (_, resolve) =
        clock::timed(|| server.cli(&["profile", "set", "base", "--tag", "site=south"]))?;
    let (_, edit) = clock::timed(|| server.cli(&["node", "set", "n7", "--tag", "edited=yes"]))?;
    let (list, listed) = clock::timed(|| server.cli(&["-o", "json", "node", "list"]))?;
    let list: Vec<Value> = serde_json::from_str(&list).context("the list of nodes")?;
    ensure!(list.len() == nodes as usize, "{} nodes are listed, {nodes} were declared", list.len());
    // The same values that the script's merge gives.
    let explained = server.cli(&["node", "explain", "n7"])?;
    for value in ["rack7", "south", "console=ttyS0", "quiet", "edited", "10.65.0.7/12"] {
        ensure!(explained.contains(value), "n7 has no {value}:\n{explained}");
    }
    let (edits, some_deleted, some_applied) = with_bars(&server, sources, nodes, acts)?;
    let all = format!("n[0-{}]", nodes - 1);
    let (_, delete) = clock::timed(|| server.cli(&["node", "delete", &all]))?;
    let mut samples = samples(declare, resolve, edit, listed);
    samples.push((DELETE.to_owned(), delete));
    samples.extend(acts.samples(&edits, some_deleted, some_applied));
    Ok(samples)
}

/// Edits of single nodes one after the other; then some nodes deleted, and declared again. Seconds.
fn with_bars(
    server: &BedplateServer,
    sources: &Sources,
    nodes: u32,
    acts: &Acts,
) -> anyhow::Result<(Vec<f64>, f64, f64)> {
    let mut edits = Vec::new();
    for edit in 0..EDITS {
        // Spread over the register: neighbours would be found in the processor's cache.
        let node = format!("n{}", edit * (nodes / EDITS));
        let (_, edited) =
            clock::timed(|| server.cli(&["node", "set", &node, "--tag", "edited=again"]))?;
        edits.push(edited);
    }
    let some = format!("n[0-{}]", acts.some - 1);
    let (_, deleted) = clock::timed(|| server.cli(&["node", "delete", &some]))?;
    let left: Vec<Value> = serde_json::from_str(&server.cli(&["-o", "json", "node", "list"])?)?;
    ensure!(left.len() == (nodes - acts.some) as usize, "{} nodes are left of {nodes}", left.len());
    let source = sources.some.display().to_string();
    let (_, applied) = clock::timed(|| server.cli(&["apply", "-f", &source]))?;
    Ok((edits, deleted, applied))
}

fn peer(directory: &Path, document: &str, nodes: u32) -> anyhow::Result<Samples> {
    let file = directory.join("peer.yaml");
    fs::write(&file, document).with_context(|| format!("cannot write {}", file.display()))?;
    let script = directory.join("peer.py").display().to_string();
    let file = file.display().to_string();
    let act = |words: &[&str]| {
        let arguments = [&[script.as_str(), file.as_str()], words].concat();
        clock::timed(|| process::run("/usr/bin/python3", &arguments))
    };
    let (resolved, declare) = act(&["resolve"])?;
    let resolved: Value = serde_json::from_str(&resolved).context("the script's resolved nodes")?;
    ensure!(
        resolved.as_object().is_some_and(|all| all.len() == nodes as usize),
        "nodes are missing"
    );
    let (resolved, resolve) = act(&["edit", "profiles", "base", "site", "south"])?;
    let resolved: Value = serde_json::from_str(&resolved).context("the script's resolved nodes")?;
    let tags = &resolved["n7"]["tags"];
    ensure!(
        tags["rack"] == "rack7" && tags["site"] == "south",
        "the script has not merged n7: {tags}"
    );
    let (_, edit) = act(&["edit", "nodes", "n7", "edited", "yes"])?;
    let (list, listed) = act(&["list"])?;
    ensure!(list.lines().count() == nodes as usize, "the script does not list {nodes} nodes");
    Ok(samples(declare, resolve, edit, listed))
}

fn samples(declare: f64, resolve: f64, edit: f64, list: f64) -> Samples {
    let all = resolve + edit + list;
    [(DECLARE, declare), (RESOLVE, resolve), (EDIT, edit), (LIST, list), (ALL, all)]
        .map(|(what, s)| (what.to_owned(), s))
        .to_vec()
}

/// Profiles that build on each other's lists and maps, and nodes with their own addresses.
fn document(nodes: u32) -> anyhow::Result<String> {
    let mut text = "profiles:
  base: { kernel-args: [console=ttyS0], dns: { servers: [10.64.0.1], search: [cluster.example] }, tags: { site: north } }
  compute: { kernel-args: [quiet], groups: [compute], tags: { role: compute } }
  gpu: { kernel-args: [iommu=pt], groups: [gpu], tags: { driver: '570' } }
"
    .to_owned();
    text += &nodes_of(nodes)?;
    Ok(text)
}

/// So many nodes, that have the profiles.
fn nodes_of(nodes: u32) -> anyhow::Result<String> {
    let mut text = "nodes:\n".to_owned();
    for node in 0..nodes {
        let (high, low) = (node / 250, node % 250);
        writeln!(
            text,
            "  n{node}: {{ profiles: [base, compute, gpu], interfaces: {{ lan0: {{ mac: '52:54:00:00:{:02x}:{:02x}', address: 10.65.{high}.{low}/12 }} }}, tags: {{ rack: rack{} }} }}",
            node / 256,
            node % 256,
            node / 40 + node % 40
        )?;
    }
    Ok(text)
}

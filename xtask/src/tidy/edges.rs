//! Which crate may use which: docs/decisions/0001-crates-and-rings.md as a table.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::run::output;

/// Crate, its ring, and the crates of its own ring that it may use.
const CRATES: &[(&str, u8, &[&str])] = &[
    ("api", 0, &[]),
    ("boot-proto", 0, &["api", "metrics"]),
    ("metrics", 0, &[]),
    ("planner", 0, &["api"]),
    ("yaml-tree", 0, &["api"]),
    ("document", 0, &["api", "yaml-tree"]),
    ("copy-tree", 1, &[]),
    ("log-files", 1, &[]),
    ("image-store", 1, &["linux"]),
    ("linux", 1, &[]),
    ("inventory", 1, &[]),
    ("stream-line", 2, &[]),
    ("client", 2, &["stream-line"]),
    ("oci-pull", 2, &[]),
    ("database", 2, &[]),
    ("rest", 2, &[]),
    ("access", 2, &["database", "rest"]),
    ("fleet", 2, &["access", "database", "rest"]),
    ("hardware", 2, &["access", "database", "fleet", "rest"]),
    ("image-catalog", 2, &["access", "database", "oci-pull", "rest"]),
    (
        "controller",
        2,
        &["access", "database", "fleet", "hardware", "image-catalog", "oci-pull", "rest"],
    ),
    ("provisioner", 2, &["access", "database", "fleet", "image-catalog", "rest"]),
    ("substrate", 2, &["stream-line"]),
    ("bedplate", 3, &[]),
    ("fuzz-targets", 3, &[]),
    ("harness", 3, &[]),
    ("drop-writes", 3, &["harness"]),
    ("sim-cluster", 3, &["harness"]),
    ("bench", 3, &["harness", "sim-cluster"]),
    ("vm-tests", 3, &["bedplate", "bench", "harness", "sim-cluster"]),
    ("guest", 3, &[]),
    ("xtask", 3, &[]),
];

/// What rings 0 and 1 may not use, and ring 0 not either.
const ASYNC: &[&str] = &["tokio", "axum", "reqwest", "hyper", "sqlx", "rtnetlink"];
const SYSTEM: &[&str] = &["nix", "rustix", "libc", "tempfile", "memmap2", "ring"];

/// Every forbidden edge.
pub(super) fn findings() -> anyhow::Result<Vec<String>> {
    let metadata = output("cargo", &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let rings: BTreeMap<&str, (u8, &[&str])> =
        CRATES.iter().map(|&(name, ring, peers)| (name, (ring, peers))).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let Some(&(ring, peers)) = rings.get(name) else {
            findings.push(format!(
                "{manifest}: crate {name} is in no ring: add it to xtask/src/tidy/edges.rs"
            ));
            continue;
        };
        if !manifest_inherits_lints(manifest)? {
            findings.push(format!("{manifest}: [lints] workspace = true is missing"));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            if let Some(&(used_ring, _)) = rings.get(used) {
                if used_ring > ring || (used_ring == ring && !peers.contains(&used)) {
                    findings.push(format!(
                        "{manifest}: {name} (ring {ring}) may not use {used} (ring {used_ring})"
                    ));
                }
            } else if (ring < 2 && ASYNC.contains(&used)) || (ring == 0 && SYSTEM.contains(&used)) {
                findings.push(format!("{manifest}: {name} (ring {ring}) may not use {used}"));
            }
        }
    }
    Ok(findings)
}

fn manifest_inherits_lints(path: &str) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let manifest: toml::Table = toml::from_str(&text).with_context(|| path.to_owned())?;
    Ok(manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool)
        == Some(true))
}

//! Runtime overlays of the site: edited at the server, seen on the running node.

use std::{fs, time::Duration};

use anyhow::Context as _;

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster},
};

/// The overlay.
pub(crate) const NAME: &str = "site";

/// A file that only the overlay has.
const OWN: &str = "/etc/bedplate-site";

/// A file that the image has too.
const COVERING: &str = "/etc/motd";

/// How long a change may take to reach a node.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Makes the overlay before the nodes boot.
pub(crate) fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    set(cluster, OWN, "{{ node.name }} one\n", true)?;
    set(cluster, COVERING, "covered\n", false)
}

/// A changed template is rendered and applied on the running node.
pub(crate) fn edit_arrives(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    wait_for_content(cluster, OWN, "n1 one\n")?;
    wait_for_content(cluster, COVERING, "covered\n")?;
    set(cluster, OWN, "{{ node.name }} two\n", true)?;
    wait_for_content(cluster, OWN, "n1 two\n")
}

/// A file that leaves the overlay goes; what it covered comes back.
pub(crate) fn removal_arrives(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let original = cluster.on_node(ADDRESSES[0], &format!("cat /run/bedplate/lower{COVERING}"))?;
    for path in [OWN, COVERING] {
        cluster.server.cli(&["overlay", "remove-file", NAME, path])?;
    }
    wait_for_content(cluster, OWN, "none")?;
    wait_for_content(cluster, COVERING, &original)
}

fn set(cluster: &Cluster, path: &str, content: &str, template: bool) -> anyhow::Result<()> {
    let file = cluster.checkout_paths().of_run("overlay-file");
    fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    let file = file.display().to_string();
    let mut arguments = vec!["overlay", "set-file", NAME, path, &file];
    if template {
        arguments.push("--template");
    }
    cluster.server.cli(&arguments)?;
    Ok(())
}

fn wait_for_content(cluster: &Cluster, path: &str, expected: &str) -> anyhow::Result<()> {
    let mut last = String::new();
    let limit = cluster.accelerator().stretch(CHANGE_LIMIT);
    let waited = clock::wait_for(&format!("{path} of n1 to be {expected:?}"), limit, || {
        let show = format!("if [ -e {path} ]; then cat {path}; else printf none; fi");
        last = cluster.on_node(ADDRESSES[0], &show)?;
        Ok((last == expected).then_some(()))
    });
    waited.with_context(|| format!("{path} of n1 is {last:?}"))
}

//! `node`: add, change, look at and command nodes.

mod compare;
mod devices;
mod inventory;
mod show;
mod topology;
mod watch;

use std::{collections::HashMap, process::ExitCode};

use anyhow::bail;
use api::{
    hostlist,
    ids::NodeName,
    labels::Selector,
    machine::{AddNodes, Node, PatchNodes},
    status::DrainNode,
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use client::{Client, ClientError};

use super::{
    clock, complete,
    context::Session,
    error::Usage,
    output::{Done, print_note},
    spec::{ChangeFlags, SpecFlags},
};

/// Add, change, watch and reboot nodes.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value in a process")]
pub(super) enum Verb {
    /// Add nodes by one specification: all of them, or none.
    #[command(after_help = "Examples:
  bedplate node add n1 --image debian-node --mac 52:54:00:12:34:56 --address 10.1.0.11/24
  bedplate node add n[0001-1024] --profile compute --address 10.1.0.1/16
  bedplate node add gw --interface lan0:mac=52:54:00:12:34:57 --interface lan1:address=10.2.0.1/24

With several nodes addresses count up from the first. MAC addresses can then be set one by one:
  bedplate node set n0001 --mac 52:54:00:12:34:56")]
    Add {
        /// Names, or host lists such as n[1-8].
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        spec: SpecFlags,
    },
    /// List nodes and what they are doing.
    #[command(
        after_help = "IMAGE is the version that a node runs or is booting; NEXT the one that it boots next, `same` if that is
the same.

Examples:
  bedplate node list -l rack=a1,gpu
  bedplate node list --show-labels"
    )]
    List {
        #[command(flatten)]
        nodes: MaybeNodes,
        /// Only nodes with such labels: rack=a1,tier!=test,gpu,!old. A node must match all terms.
        #[arg(short = 'l', long = "labels", value_name = "SELECTOR")]
        labels: Option<Selector>,
        /// Show the labels of each node.
        #[arg(long)]
        show_labels: bool,
    },
    /// Show nodes: what they are doing, and every value with where it comes from; or their
    /// hardware, or their history.
    #[command(after_help = "Examples:
  bedplate node show n1 --topology
  bedplate node show n1 --topology --xml > n1.xml && lstopo -i n1.xml
  bedplate node show n[1-8] --devices
  bedplate node show n1 --history -o json")]
    Show {
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        view: show::View,
    },
    /// Change nodes, all or none; fields without a flag stay as they are.
    #[command(after_help = "A flag for a list, such as --kernel-arg, replaces the whole list.

Examples:
  bedplate node set n[1-8] --image debian-node@3
  bedplate node set n1 --address 10.1.0.20/24 --unset kernel-args")]
    Set {
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        change: Box<ChangeFlags>,
    },
    /// Delete nodes with their history and certificates, all or none.
    Delete {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print every value of a node and where it comes from.
    Explain {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print the hardware that a node has reported.
    #[command(after_help = "Example, memory of all nodes in bytes:
  bedplate node inventory n[1-8] -o json | jq '.[][\"memory-bytes\"]'")]
    Inventory {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print what differs between nodes that should be equal; exit status 1 if something does.
    #[command(
        after_help = "Values that are unique to a machine are not compared: serial numbers, addresses, UUIDs, GUIDs, LIDs, counters.
For each fact that differs, the most common value comes first and the deviating ones below it.

Exit status: 0 if all are equal; 1 if something differs, a node has never reported its hardware, or the command failed.

Example:
  bedplate node compare n[1-8]
  bedplate node compare n[1-8] -o json | jq '.differences[].fact'"
    )]
    Compare {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Print what happened to a node, newest first.
    History {
        /// Name of the node.
        #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
        name: NodeName,
        /// Lines at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Print each step of nodes as it comes, or wait until they are in a phase.
    Watch(watch::Watch),
    /// Reboot nodes whose agent is connected.
    Reboot {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Upgrade the agents of nodes to the server's version; running jobs are not affected.
    #[command(
        after_help = "A node gets the server's agent at each boot; this avoids the reboot after an upgrade of the server. The agent restarts within
seconds: `bedplate node history NODE` shows its version, or why it was not upgraded."
    )]
    Upgrade {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Stop scheduling work to nodes; running jobs continue.
    #[command(after_help = "Example:
  bedplate node drain n[1-4] --reason 'new memory on Monday'
  bedplate workflow list      # what still runs
  bedplate node undrain n[1-4]")]
    Drain {
        #[command(flatten)]
        nodes: Nodes,
        /// Reason; shown by `node list` and to workflows that wait for the nodes.
        #[arg(long)]
        reason: String,
    },
    /// Schedule work to drained nodes again.
    Undrain {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Allow nodes to enrol once more, after a misused boot token or for a boot that the server
    /// does not expect.
    Arm {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Trust one enrolment of a node in conflict and revoke the certificates of its others at once.
    #[command(
        after_help = "A node is in conflict when two machines claim to be it. For each, `bedplate node show NODE` shows its address,
when it was first seen, and the serial number of its certificate. On the machine itself,
`openssl x509 -noout -serial` prints that number for the certificate in /run/bedplate/agent.json.

Example:
  bedplate node show n1
  bedplate node trust n1 --epoch 7"
    )]
    Trust {
        #[command(flatten)]
        nodes: Nodes,
        /// The enrolment, by its number.
        #[arg(long)]
        epoch: u64,
    },
    /// Revoke the certificates of nodes at once; the nodes must reboot.
    #[command(
        after_help = "Jobs on a node whose certificates are revoked are lost after 15 minutes. A node with no valid
certificate left is disarmed: arm it when you are at the machine, and boot it.

Examples:
  bedplate node revoke n1 --epoch 6      # the machine that booted as 7 continues
  bedplate node revoke n1 && bedplate node arm n1"
    )]
    Revoke {
        #[command(flatten)]
        nodes: Nodes,
        /// The last enrolment that is revoked, by its number; default: all.
        #[arg(long)]
        epoch: Option<u64>,
    },
}

/// Nodes by name.
#[derive(Debug, Args)]
pub(super) struct Nodes {
    /// Names of nodes, or host lists such as n[1-8],login1.
    #[arg(required = true, value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<String>,
}

/// Nodes by name, or all.
#[derive(Debug, Args)]
pub(super) struct MaybeNodes {
    /// Names of nodes, or host lists such as n[1-8],login1; default: all.
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<String>,
}

impl Nodes {
    fn list(&self) -> String {
        self.nodes.join(",")
    }

    fn names(&self) -> Result<Vec<NodeName>, Usage> {
        let names = hostlist::expand(&self.list()).map_err(|error| Usage(error.to_string()))?;
        let read = |name: &String| {
            name.parse().map_err(|error: api::ids::InvalidId| Usage(error.to_string()))
        };
        names.iter().map(read).collect()
    }
}

impl MaybeNodes {
    fn list(&self) -> Option<String> {
        (!self.nodes.is_empty()).then(|| self.nodes.join(","))
    }
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    let client = session.client()?;
    match verb {
        Verb::Add { names, spec } => add(session, &client, &names.join(","), &spec).await?,
        Verb::List { nodes, labels, show_labels } => {
            list(session, &client, &nodes, labels.as_ref(), show_labels).await?;
        }
        Verb::Show { nodes, view } => show::run(session, &client, &nodes, view).await?,
        Verb::Set { nodes, change } => set(session, &client, &nodes, &change).await?,
        Verb::Delete { nodes } => {
            let names = nodes.names()?;
            let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
            let list = hostlist::compress(names.iter().copied());
            client.delete_nodes(&list).await?;
            session.out.show(&Done::new("deleted", names), |_| format!("deleted {list}\n"))?;
        }
        Verb::Explain { nodes } => show::explain(session, &client, &nodes).await?,
        Verb::Inventory { nodes } => inventory::run(session, &client, &nodes).await?,
        Verb::Compare { nodes } => return compare::run(session, &client, &nodes).await,
        Verb::History { name, limit } => {
            let events = client.history(&name, limit).await?;
            session.out.show(&events, |look| show::history(*look, &events))?;
        }
        Verb::Watch(watch) => return watch::run(session, &client, &watch).await,
        Verb::Reboot { nodes } => {
            one_by_one(session, &nodes, "rebooting", async |name| client.reboot(name).await)
                .await?;
        }
        Verb::Upgrade { nodes } => {
            one_by_one(session, &nodes, "upgrading", async |name| client.upgrade_agent(name).await)
                .await?;
        }
        Verb::Drain { nodes, reason } => {
            let drain = DrainNode { reason };
            one_by_one(session, &nodes, "drained", async |name| client.drain(name, &drain).await)
                .await?;
        }
        Verb::Undrain { nodes } => {
            one_by_one(session, &nodes, "undrained", async |name| client.undrain(name).await)
                .await?;
        }
        Verb::Arm { nodes } => {
            one_by_one(session, &nodes, "armed", async |name| client.arm(name).await).await?;
        }
        Verb::Trust { nodes, epoch } => {
            one_by_one(session, &nodes, "trusted", async |name| client.trust(name, epoch).await)
                .await?;
        }
        Verb::Revoke { nodes, epoch } => {
            one_by_one(session, &nodes, "revoked", async |name| client.revoke(name, epoch).await)
                .await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    session: &Session,
    client: &Client,
    nodes: &MaybeNodes,
    labels: Option<&Selector>,
    show_labels: bool,
) -> anyhow::Result<()> {
    let names = nodes.list();
    let found = match labels {
        None => client.nodes(names.as_deref()).await?,
        Some(labels) => client.labelled_nodes(names.as_deref(), labels).await?,
    };
    session.out.show(&found, |look| match labels.filter(|_| found.is_empty()) {
        Some(labels) => {
            format!("no node matches {labels}: `bedplate node list --show-labels` shows what nodes have\n")
        }
        None => show::list(*look, &found, show_labels, clock::now()),
    })
}

async fn add(
    session: &Session,
    client: &Client,
    names: &str,
    spec: &SpecFlags,
) -> anyhow::Result<()> {
    let added = client.add_nodes(&AddNodes { names: names.to_owned(), spec: spec.spec()? }).await?;
    session.out.show(&added, |_| format!("added {}\n", compressed(&added)))
}

async fn set(
    session: &Session,
    client: &Client,
    nodes: &Nodes,
    change: &ChangeFlags,
) -> anyhow::Result<()> {
    let present = client.nodes(Some(&nodes.list())).await?;
    change.refuse_shared(present.len())?;
    let specs: Vec<_> = present.iter().map(|node| &node.spec).collect();
    let patch = change.patch(&specs)?;
    let after = client.patch_nodes(&PatchNodes { names: nodes.list(), patch }).await?;
    session.out.show(&after, |_| changes(&present, &after))
}

/// Which nodes a change made others, by their versions, and which were so already.
fn changes(before: &[Node], after: &[Node]) -> String {
    let versions: HashMap<&str, u64> =
        before.iter().map(|node| (node.name.as_str(), node.version)).collect();
    let names = |is_same: bool| {
        let such = after
            .iter()
            .filter(|node| (versions.get(node.name.as_str()) == Some(&node.version)) == is_same);
        hostlist::compress(such.map(|node| node.name.as_str()))
    };
    let line = |word: &str, names: String| match names.is_empty() {
        true => String::new(),
        false => format!("{word} {names}\n"),
    };
    line("changed", names(false)) + &line("nothing to change on", names(true))
}

fn compressed(nodes: &[Node]) -> String {
    hostlist::compress(nodes.iter().map(|node| node.name.as_str()))
}

/// Asks for each node in turn. That one fails does not spare the others; each outcome is told, also
/// where the server goes away in the middle.
async fn one_by_one(
    session: &Session,
    nodes: &Nodes,
    word: &str,
    each: impl AsyncFn(&NodeName) -> Result<(), ClientError>,
) -> anyhow::Result<()> {
    let names = nodes.names()?;
    let mut done = Vec::new();
    let mut failed = Vec::new();
    let mut left = names.iter();
    for name in left.by_ref() {
        match each(name).await {
            Ok(()) => done.push(name.as_str()),
            Err(error) if names.len() == 1 => return Err(error.into()),
            Err(ClientError::Refused(problem)) => {
                print_note(&format!("{}: {}", problem.title, problem.detail));
                failed.push(name.as_str());
            }
            Err(error) => {
                print_note(&format!("{name}: {error}"));
                failed.push(name.as_str());
                // Each of the others would wait for the server as long.
                if matches!(error, ClientError::Unreachable { .. }) {
                    break;
                }
            }
        }
    }
    failed.extend(left.map(NodeName::as_str));
    if !done.is_empty() {
        let list = hostlist::compress(done.iter().copied());
        session.out.show(&Done::new(word, done), |_| format!("{word} {list}\n"))?;
    }
    if !failed.is_empty() {
        bail!("not {word}: {}", hostlist::compress(failed));
    }
    Ok(())
}

//! What people see of nodes: the list, one node, its values and their origins, its history.

use api::{
    device::GrantableDevice,
    ids::{NodeName, Timestamp},
    inventory::Inventory,
    labels,
    machine::{Explained, MachineSpec, Node},
    run::VolumeUse,
    status::{NodeEnrolment, NodeEvent, NodeStatus},
};
use clap::Args;
use client::{Client, ClientError};
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{
        clock, columns,
        context::Session,
        error::Usage,
        output::{Rows, print, print_data},
        table::{Cell, Style, cells, pairs, table},
        words::{age, or_dash, size},
    },
    Nodes,
    devices::{self, device_counts},
    topology,
};

/// The answer about a node whose hardware is not known yet (RFC 9110).
const NOT_FOUND: u16 = 404;

/// `node list`.
pub(super) fn list(style: Style, nodes: &[Node], with_labels: bool, now: Timestamp) -> String {
    if nodes.is_empty() {
        return "no nodes yet: `bedplate node add --help`\n".to_owned();
    }
    let labels = |node: &Node| with_labels.then(|| Cell::new(labels::line(&node.labels)));
    let row = |node: &Node| -> Vec<Cell> {
        let cells = [
            Cell::new(&node.name),
            style.phase(&node.status),
            Cell::new(age(node.status.since, now)),
            Cell::new(or_dash(node.status.address.or_else(|| first_address(&node.spec)))),
            Cell::new(or_dash(runs(node))),
            Cell::new(next(node)),
            Cell::new(if node.spec.profiles.is_empty() {
                "-".to_owned()
            } else {
                node.spec.profiles.join(",")
            }),
        ];
        let last = Cell::new(note(&node.status));
        cells.into_iter().chain(labels(node)).chain([last]).collect()
    };
    let header = ["NODE", "PHASE", "FOR", "ADDRESS", "IMAGE", "NEXT", "PROFILES"];
    let labels = with_labels.then_some("LABELS");
    let header: Vec<&str> = header.into_iter().chain(labels).chain(["NOTE"]).collect();
    table(style, &header, nodes.iter().map(row))
}

/// The image that it runs or is booting; what it should boot, where the server is of before and the
/// node runs nothing.
fn runs(node: &Node) -> Option<&String> {
    let wanted = node.spec.image.as_ref().filter(|_| node.next_image.is_none());
    node.status.image.as_ref().or(wanted)
}

/// The image version that it boots next, if that is another than it runs.
fn next(node: &Node) -> String {
    match (&node.status.image, &node.next_image) {
        (_, None) => "-".to_owned(),
        (Some(runs), Some(next)) if runs == next => "same".to_owned(),
        (_, Some(next)) => next.clone(),
    }
}

/// What ephemeral volumes hold in the node's memory.
fn volumes(all: &VolumeUse) -> String {
    let (used, left) = (size(all.used_bytes), size(all.left_bytes));
    format!("{} in memory, which hold {used} and may take {left} more", all.volumes)
}

fn first_address(spec: &MachineSpec) -> Option<std::net::IpAddr> {
    spec.interfaces.values().find_map(|interface| interface.address).map(|address| address.addr())
}

/// Why a node is where it is, in short.
pub(super) fn note(status: &NodeStatus) -> String {
    let overdue = status.overdue_seconds.map(|deadline| format!("stuck: longer than {deadline} s"));
    let drain =
        status.drain.as_ref().map(|drain| format!("drained by {}: {}", drain.by, drain.reason));
    let held = status.held.as_ref().map(|cause| format!("held: {cause}"));
    let refuses = status.refuses.as_ref().map(|reason| format!("begins no jobs: {reason}"));
    let conflict =
        status.conflict.as_ref().map(|conflict| format!("in conflict: {}", conflict.cause));
    conflict
        .into_iter()
        .chain(overdue)
        .chain(status.reason.clone())
        .chain(held)
        .chain(drain)
        .chain(refuses)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What of nodes is shown.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct View {
    /// PCI devices as a tree with names, drivers and links, and what jobs can be
    /// granted or why not.
    #[arg(long, group = "view")]
    devices: bool,
    /// Packages, NUMA nodes, caches and cores as a tree, with the devices near them; distances, and
    /// how near GPUs and adapters are to each other.
    #[arg(long, group = "view")]
    topology: bool,
    /// What happened to them and to their hardware, newest first.
    #[arg(long, group = "view")]
    history: bool,
    /// The topology as hwloc's XML, which `lstopo -i` opens; of one node.
    #[arg(long, requires = "topology")]
    xml: bool,
}

/// Lines of a node's history with `--history`; `node history --limit` has more.
const HISTORY_LINES: u32 = 100;

/// `node show`.
pub(super) async fn run(
    session: &Session,
    client: &Client,
    nodes: &Nodes,
    view: View,
) -> anyhow::Result<()> {
    match view {
        View { xml: true, .. } => xml(session, client, nodes).await,
        View { devices: true, .. } => {
            let found = inventories(client, nodes).await?;
            one_or_many(session, &found, |style, found| {
                devices::draw(style, found.name.as_str(), &found.inventory)
            })
        }
        View { topology: true, .. } => {
            let found = inventories(client, nodes).await?;
            one_or_many(session, &found, |style, found| {
                topology::draw(style, found.name.as_str(), &found.inventory)
            })
        }
        View { history: true, .. } => histories(session, client, nodes).await,
        View { .. } if session.out.is_for_programs() => {
            // As in a list; `explain` and `inventory` have what people read beside it.
            one_or_many(session, &client.nodes(Some(&nodes.list())).await?, |_, _| String::new())
        }
        View { .. } => all(session, client, nodes).await,
    }
}

async fn xml(session: &Session, client: &Client, nodes: &Nodes) -> anyhow::Result<()> {
    session.out.refuse_format("node show --topology --xml")?;
    match nodes.names()?.as_slice() {
        [name] => print_data(&client.topology(name).await?),
        _ => Err(Usage("--xml is of one node".to_owned()).into()),
    }
}

/// A node and its hardware.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Hardware {
    pub(super) name: NodeName,
    #[serde(flatten)]
    pub(super) inventory: Inventory,
}

impl Rows for Hardware {
    const COLUMNS: &'static [&'static str] = columns::HARDWARE;
}

/// The hardware of nodes, in the order in which they are named.
pub(super) async fn inventories(client: &Client, nodes: &Nodes) -> anyhow::Result<Vec<Hardware>> {
    let mut found = Vec::new();
    for name in nodes.names()? {
        let inventory = client.inventory(&name).await?;
        found.push(Hardware { name, inventory });
    }
    Ok(found)
}

/// The hardware of a node, if it ever told.
pub(super) async fn inventory_of(
    client: &Client,
    name: &NodeName,
) -> Result<Option<Inventory>, ClientError> {
    match client.inventory(name).await {
        Ok(inventory) => Ok(Some(inventory)),
        // The node itself may be what is not found: then asking for it says so.
        Err(error) if error.status() == Some(NOT_FOUND) => client.node(name).await.map(|_| None),
        Err(error) => Err(error),
    }
}

async fn histories(session: &Session, client: &Client, nodes: &Nodes) -> anyhow::Result<()> {
    let mut events = Vec::new();
    for name in nodes.names()? {
        events.push(client.history(&name, HISTORY_LINES).await?);
    }
    // One list, as of `node history`: each event names its node.
    session.out.show(&events.concat(), |style| {
        let several = events.len() > 1;
        let text = |events: &Vec<NodeEvent>| {
            let name = events.first().filter(|_| several).map(|event| format!("{}\n", event.name));
            name.unwrap_or_default() + &history(*style, events)
        };
        events.iter().map(text).collect::<Vec<_>>().join("\n")
    })
}

async fn all(session: &Session, client: &Client, nodes: &Nodes) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for node in client.nodes(Some(&nodes.list())).await? {
        let Explained { origins: found, .. } = client.explain(&node.name).await?;
        let inventory = inventory_of(client, &node.name).await?;
        let devices = inventory.map(|inventory| inventory.devices).unwrap_or_default();
        let style = session.out.style;
        texts.push(one(style, &node, &devices, clock::now()) + "\n" + &origins(style, &found));
    }
    print(&texts.join("\n"))
}

/// Prints one value as itself, several as a list; in text one after the other.
pub(super) fn one_or_many<T: Rows>(
    session: &Session,
    values: &[T],
    text: impl Fn(Style, &T) -> String,
) -> anyhow::Result<()> {
    match values {
        [only] => session.out.show(only, |style| text(*style, only)),
        several => session.out.show(&several, |style| {
            several.iter().map(|value| text(*style, value)).collect::<Vec<_>>().join("\n")
        }),
    }
}

/// What a node is doing.
fn one(style: Style, node: &Node, devices: &[GrantableDevice], now: Timestamp) -> String {
    let status = &node.status;
    let mut lines = vec![
        ("phase", style.phase(status)),
        ("since", Cell::new(format!("{} ({} ago)", status.since, age(status.since, now)))),
    ];
    let mut add =
        |name, value: Option<String>| lines.extend(value.map(|value| (name, Cell::new(value))));
    add("note", Some(note(status)).filter(|note| !note.is_empty()));
    add("last seen", status.last_seen.map(|seen| format!("{seen} ({} ago)", age(seen, now))));
    add("address", status.address.map(|address| address.to_string()));
    add("runs", status.image.clone());
    let differs = status.image.is_some() && status.image != node.next_image;
    let mark = if differs { " (not what it runs)" } else { "" };
    add("boots next", node.next_image.as_ref().map(|next| format!("{next}{mark}")));
    add("labels", Some(labels::line(&node.labels)).filter(|_| !node.labels.is_empty()));
    add("devices", Some(device_counts(devices)).filter(|counts| !counts.is_empty()));
    add("agent", status.agent_version.clone());
    add("volumes", status.volumes.as_ref().map(volumes));
    add("last boot", status.boot_ms.map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100)));
    let unproven = status.unproven.as_ref().map(|unproven| {
        let ago = age(unproven.since, now);
        // Who is no admin is not told from where.
        let who = Some(unproven.address).filter(|address| !address.is_unspecified());
        let who = who.map_or("somebody".to_owned(), |address| address.to_string());
        format!("{who} fetched {} ({ago} ago); not proven to be the node", unproven.file)
    });
    add("unproven", unproven);
    add("enrolment", Some(status.epoch).filter(|epoch| *epoch > 0).map(|epoch| epoch.to_string()));
    for enrolment in status.conflict.iter().flat_map(|conflict| &conflict.enrolments) {
        add("claims to be it", Some(claim(enrolment, now)));
    }
    add("armed", Some(if status.armed { "yes: it may enrol" } else { "no" }.to_owned()));
    add("id", Some(node.id.to_string()));
    add("version", Some(node.version.to_string()));
    format!("{}\n{}", node.name, pairs(style, &lines))
}

/// One of two that claim to be a node.
fn claim(enrolment: &NodeEnrolment, now: Timestamp) -> String {
    let ago = |word: &str, at: Option<Timestamp>| {
        at.map(|at| format!("{word} {at} ({} ago)", age(at, now)))
    };
    let address = enrolment.address.map(|address| format!("at {address}"));
    let connected = enrolment.connected.then(|| "connected".to_owned());
    let serial = enrolment.serial.as_ref().map(|serial| format!("certificate {serial}"));
    let boot = enrolment.boot_id.as_ref().map(|boot| format!("boot id {boot}"));
    let parts = [
        Some(format!("enrolment {}", enrolment.epoch)),
        address,
        connected,
        ago("booted", enrolment.enrolled),
        ago("first seen", enrolment.first_seen),
        ago("last seen", enrolment.last_seen),
        serial,
        boot,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `node explain`.
pub(super) async fn explain(
    session: &Session,
    client: &Client,
    nodes: &Nodes,
) -> anyhow::Result<()> {
    let mut explained = Vec::new();
    for name in nodes.names()? {
        explained.push(client.explain(&name).await?);
    }
    let several = explained.len() > 1;
    one_or_many(session, &explained, |style, explained| {
        let head = if several { format!("{}\n", explained.name) } else { String::new() };
        head + &origins(style, &explained.origins)
    })
}

fn origins(style: Style, origins: &[api::machine::Origin]) -> String {
    let row = |origin: &api::machine::Origin| {
        let value = match &origin.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        cells([origin.field.clone(), value, origin.origin.clone()])
    };
    table(style, &["FIELD", "VALUE", "FROM"], origins.iter().map(row))
}

/// `node history`.
pub(super) fn history(style: Style, events: &[NodeEvent]) -> String {
    let row = |event: &NodeEvent| {
        cells([
            event.at.to_string(),
            event.phase.as_str().to_owned(),
            event.severity.as_str().to_owned(),
            event.message.clone(),
        ])
    };
    table(style, &["TIME", "PHASE", "SEVERITY", "MESSAGE"], events.iter().map(row))
}

#[cfg(test)]
pub(super) mod tests {
    use api::{
        ids::NodeId,
        machine::Origin,
        status::{Drain, NodeConflict, Phase, Severity},
    };
    use expect_test::expect;
    use serde_json::json;

    use super::{super::super::table::phase_word, *};

    /// 2026-11-23 20:00 UTC.
    const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

    pub(crate) fn status(phase: Phase) -> NodeStatus {
        NodeStatus {
            phase,
            percent: None,
            reason: None,
            since: NOW.plus_seconds(-90),
            last_seen: Some(NOW.plus_seconds(-2)),
            overdue_seconds: None,
            unproven: None,
            armed: false,
            address: None,
            image: None,
            agent_version: None,
            boot_ms: None,
            drain: None,
            held: None,
            refuses: None,
            epoch: 0,
            conflict: None,
            volumes: None,
        }
    }

    fn node(name: &str, spec: &str, status: NodeStatus) -> Node {
        Node {
            name: name.parse().unwrap(),
            id: NodeId("6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap()),
            spec: serde_saphyr::from_str(spec).unwrap(),
            status,
            next_image: None,
            labels: labels::Labels::new(),
            version: 3,
        }
    }

    fn with_next(node: Node, image: &str) -> Node {
        Node { next_image: Some(image.to_owned()), ..node }
    }

    #[test]
    fn a_list_of_nodes() {
        let ready = NodeStatus {
            address: Some("10.1.0.11".parse().unwrap()),
            image: Some("debian-node@2".to_owned()),
            ..status(Phase::Ready)
        };
        let fetching =
            NodeStatus { percent: Some(43), overdue_seconds: Some(60), ..status(Phase::Fetching) };
        let failed = NodeStatus {
            reason: Some("no module for 8086:1234".to_owned()),
            ..status(Phase::Failed)
        };
        let drain = Drain { reason: "new memory".into(), by: "root".into(), since: NOW };
        let drained = NodeStatus { drain: Some(drain), ..status(Phase::Ready) };
        let held = NodeStatus {
            held: Some("overlay motd: cannot read /etc/bedplate/overlays/motd/rootfs/x".to_owned()),
            ..status(Phase::Ready)
        };
        let nodes = [
            node("n1", "{profiles: [default, gpu]}", ready),
            node(
                "n2",
                "{image: debian-node, interfaces: {lan0: {address: 10.1.0.12/24}}}",
                fetching,
            ),
            node("login-1", "{}", failed),
            node("n3", "{}", drained),
            node("n4", "{}", held),
            with_next(
                node("n5", "{}", NodeStatus { image: Some("d@2".into()), ..status(Phase::Ready) }),
                "d@2",
            ),
            with_next(
                node("n6", "{}", NodeStatus { image: Some("d@2".into()), ..status(Phase::Ready) }),
                "d@3",
            ),
            with_next(node("n7", "{image: d}", status(Phase::Unseen)), "d@3"),
        ];
        expect![[r#"
            NODE     PHASE         FOR  ADDRESS    IMAGE          NEXT  PROFILES     NOTE
            n1       ready         1m   10.1.0.11  debian-node@2  -     default,gpu
            n2       fetching 43%  1m   10.1.0.12  debian-node    -     -            stuck: longer than 60 s
            login-1  failed        1m   -          -              -     -            no module for 8086:1234
            n3       ready         1m   -          -              -     -            drained by root: new memory
            n4       ready         1m   -          -              -     -            held: overlay motd: cannot read /etc/bedplate/overlays/motd/rootfs/x
            n5       ready         1m   -          d@2            same  -
            n6       ready         1m   -          d@2            d@3   -
            n7       unseen        1m   -          -              d@3   -
        "#]]
        .assert_eq(&list(Style::PLAIN, &nodes, false, NOW));
        expect![[r#"
            no nodes yet: `bedplate node add --help`
        "#]]
        .assert_eq(&list(Style::PLAIN, &[], false, NOW));
    }

    #[test]
    fn labels_of_nodes() {
        let labels =
            [("rack".to_owned(), "a1".to_owned()), ("gpu".to_owned(), String::new())].into();
        let with = Node { labels, ..node("n1", "{}", status(Phase::Ready)) };
        let nodes = [with, node("n2", "{}", status(Phase::Ready))];
        expect![[r#"
            NODE  PHASE  FOR  ADDRESS  IMAGE  NEXT  PROFILES  LABELS        NOTE
            n1    ready  1m   -        -      -     -         gpu=,rack=a1
            n2    ready  1m   -        -      -     -         -
        "#]]
        .assert_eq(&list(Style::PLAIN, &nodes, true, NOW));
        let shown = one(Style::PLAIN, &nodes[0], &[], NOW);
        let is_told = |line: &str| line.split_whitespace().eq(["labels", "gpu=,rack=a1"]);
        assert!(shown.lines().any(is_told), "{shown}");
    }

    #[test]
    fn progress_that_nothing_proves_has_a_question_mark() {
        let unproven = |phase| NodeStatus {
            unproven: Some(api::status::UnprovenProgress {
                phase: Phase::Firmware,
                file: "iPXE script".to_owned(),
                address: "10.1.0.66".parse().unwrap(),
                since: NOW.plus_seconds(-5),
            }),
            ..status(phase)
        };
        let words = [Phase::Firmware, Phase::Lost].map(|phase| phase_word(&unproven(phase)));
        assert_eq!(words, ["firmware?", "lost,firmware?"]);
        assert_eq!(phase_word(&status(Phase::Firmware)), "firmware");
        let shown = one(Style::PLAIN, &node("n1", "{}", unproven(Phase::Lost)), &[], NOW);
        let mut public = unproven(Phase::Lost);
        public.unproven.as_mut().unwrap().address = [0, 0, 0, 0].into();
        let of_public = one(Style::PLAIN, &node("n1", "{}", public), &[], NOW);
        assert!(
            of_public.contains("unproven   somebody fetched iPXE script (5s ago)"),
            "{of_public}"
        );
        let told = "unproven   10.1.0.66 fetched iPXE script (5s ago); not proven to be the node";
        assert!(shown.contains(told), "{shown}");
    }

    #[test]
    fn one_node_with_origins() {
        let ready = NodeStatus {
            boot_ms: Some(12_345),
            armed: true,
            image: Some("debian@2".to_owned()),
            volumes: Some(VolumeUse { volumes: 2, used_bytes: 3 << 29, left_bytes: 4 << 30 }),
            ..status(Phase::Ready)
        };
        let all = [
            Origin {
                field: "image".to_owned(),
                value: json!("debian"),
                origin: "profile default".to_owned(),
            },
            Origin {
                field: "interfaces.lan0.mtu".to_owned(),
                value: json!(9000),
                origin: "node".to_owned(),
            },
        ];
        let node = with_next(node("n1", "{}", ready), "debian@3");
        let text = one(Style::PLAIN, &node, &[], NOW) + "\n" + &origins(Style::PLAIN, &all);
        expect![[r#"
            n1
              phase       ready
              since       2026-11-23T19:58:30Z (1m ago)
              last seen   2026-11-23T19:59:58Z (2s ago)
              runs        debian@2
              boots next  debian@3 (not what it runs)
              volumes     2 in memory, which hold 1.5 GiB and may take 4 GiB more
              last boot   12.3 s
              armed       yes: it may enrol
              id          6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11
              version     3

            FIELD                VALUE   FROM
            image                debian  profile default
            interfaces.lan0.mtu  9000    node
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn who_claims_to_be_a_node_in_conflict() {
        let enrolment = |epoch: u64, seconds: i64| NodeEnrolment {
            epoch,
            enrolled: Some(NOW.plus_seconds(-seconds)),
            address: Some("10.1.0.11".parse().unwrap()),
            boot_id: None,
            serial: Some(format!("5a0{epoch}")),
            first_seen: None,
            last_seen: Some(NOW.plus_seconds(-1)),
            connected: epoch == 6,
        };
        let conflict = NodeConflict {
            since: NOW,
            cause: "two agents".to_owned(),
            channel: Some(6),
            enrolments: vec![enrolment(7, 120), enrolment(6, 7_200)],
        };
        let status = NodeStatus { epoch: 7, conflict: Some(conflict), ..status(Phase::Ready) };
        let node = node("n1", "{}", status);
        expect![[r#"
            n1
              phase            ready
              since            2026-11-23T19:58:30Z (1m ago)
              note             in conflict: two agents
              last seen        2026-11-23T19:59:58Z (2s ago)
              enrolment        7
              claims to be it  enrolment 7, at 10.1.0.11, booted 2026-11-23T19:58:00Z (2m ago), last seen 2026-11-23T19:59:59Z (1s ago), certificate 5a07
              claims to be it  enrolment 6, at 10.1.0.11, connected, booted 2026-11-23T18:00:00Z (2h ago), last seen 2026-11-23T19:59:59Z (1s ago), certificate 5a06
              armed            no
              id               6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11
              version          3
        "#]]
        .assert_eq(&one(Style::PLAIN, &node, &[], NOW));
    }

    #[test]
    fn a_history() {
        let event = NodeEvent {
            id: NodeId("6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap()),
            name: "n1".parse().unwrap(),
            at: NOW,
            phase: Phase::Offered,
            severity: Severity::Security,
            message: "token asked for from 10.1.0.9".to_owned(),
        };
        expect![[r#"
            TIME                  PHASE    SEVERITY  MESSAGE
            2026-11-23T20:00:00Z  offered  security  token asked for from 10.1.0.9
        "#]]
        .assert_eq(&history(Style::PLAIN, &[event]));
    }

    proptest::proptest! {
        /// Whatever a node, its image or a person says of it, each table has the lines that it has
        /// of plain words, and nothing in them but what can be seen.
        #[test]
        fn no_text_of_others_forges_a_line_or_moves_a_cursor(text in "(?s:.|\x1b\\[[0-9;]*[mHJ])*") {
            let shown = |text: &str| {
                let drain = Drain { reason: text.into(), by: text.into(), since: NOW };
                let status = NodeStatus {
                    reason: Some(text.to_owned()),
                    image: Some(text.to_owned()),
                    agent_version: Some(text.to_owned()),
                    held: Some(text.to_owned()),
                    refuses: Some(text.to_owned()),
                    drain: Some(drain),
                    ..status(Phase::Failed)
                };
                let node = with_next(node("n1", "{}", status), text);
                let event = NodeEvent {
                    id: node.id,
                    name: node.name.clone(),
                    at: NOW,
                    phase: Phase::Failed,
                    severity: Severity::Warning,
                    message: text.to_owned(),
                };
                let origin = Origin { field: text.into(), value: json!(text), origin: text.into() };
                [
                    list(Style::PLAIN, std::slice::from_ref(&node), true, NOW),
                    one(Style::PLAIN, &node, &[], NOW),
                    history(Style::PLAIN, &[event]),
                    origins(Style::PLAIN, &[origin]),
                ]
            };
            for (hostile, plain) in shown(&text).iter().zip(shown("plain words")) {
                proptest::prop_assert_eq!(hostile.lines().count(), plain.lines().count());
                let is_hidden = |c| api::visible::is_hidden(c) && c != '\n';
                proptest::prop_assert!(!hostile.contains(is_hidden), "{hostile:?}");
            }
        }
    }
}

//! Which command prints what, in which columns: each command is here, and so is the page about it.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::super::{Cli, columns};

/// Commands by the kind of thing that they print.
const PRINTED: &[(&str, &[&str], &[&str])] = &[
    ("nodes", &["node add", "node list", "node show", "node set"], columns::NODE),
    (
        "what was done to things, by their names",
        &[
            "node delete",
            "node reboot",
            "node upgrade",
            "node drain",
            "node undrain",
            "node arm",
            "node trust",
            "node revoke",
            "profile delete",
            "image delete",
            "overlay delete",
            "workflow delete",
            "user delete",
            "token delete",
            "token rotate",
            "server recover-admin",
            "server accept-audit-cut",
            "context remove",
        ],
        columns::DONE,
    ),
    ("steps of nodes", &["node watch"], columns::STEP),
    ("what happened to nodes", &["node history", "node show --history"], columns::EVENT),
    ("values of nodes, a row for each", &["node explain"], columns::ORIGIN),
    (
        "hardware of nodes",
        &["node inventory", "node show --devices", "node show --topology"],
        columns::HARDWARE,
    ),
    (
        "differences of nodes, a row for each value of a fact",
        &["node compare"],
        columns::DIFFERENCE,
    ),
    ("profiles", &["profile list", "profile show", "profile set"], columns::PROFILE),
    ("changes, a row for each", &["apply"], columns::CHANGE),
    ("profiles and nodes as declared", &["export"], columns::DECLARED),
    ("images, a row for each version", &["image list", "image show"], columns::IMAGE_VERSION),
    ("the version that was imported", &["image import"], columns::IMPORTED),
    (
        "operations",
        &[
            "operation list",
            "operation show",
            "operation watch",
            "operation cancel",
            "image import --detach",
        ],
        columns::OPERATION,
    ),
    ("overlays", &["overlay list", "overlay show"], columns::OVERLAY),
    ("files as a node gets them", &["overlay render"], columns::RENDERED),
    (
        "what was done to a file of an overlay",
        &["overlay edit", "overlay set-file", "overlay remove-file"],
        columns::OVERLAY_FILE,
    ),
    ("who asks", &["whoami"], columns::WHOAMI),
    ("users", &["user add", "user list", "user show", "user set"], columns::USER),
    ("quotas of a user, a row for each", &["user quota"], columns::QUOTA),
    ("ended sessions", &["user logout"], columns::LOGGED_OUT),
    ("tokens", &["token list"], columns::TOKEN),
    ("a new token", &["token create"], columns::CREATED_TOKEN),
    ("lines of the audit log", &["audit", "audit list"], columns::AUDIT),
    ("a signed head of the audit log", &["audit head"], columns::AUDIT_HEAD),
    ("the key of such heads", &["audit key"], columns::AUDIT_KEY),
    ("what a check of the audit log found", &["audit verify"], columns::VERIFIED),
    ("certificates of the server", &["server ca status"], columns::CERTIFICATE),
    ("alarms", &["server alarms"], columns::ALARM),
    ("contexts", &["context list", "context show", "context add", "context use"], columns::CONTEXT),
    ("a new context", &["context create"], columns::CREATED_CONTEXT),
    ("versions", &["version"], columns::VERSIONS),
    ("findings, a row for each", &["server check", "workflow validate"], columns::FINDING),
    (
        "workflows",
        &[
            "workflow start",
            "workflow list",
            "workflow status",
            "workflow describe",
            "workflow watch",
            "workflow stop",
            "workflow pause",
            "workflow resume",
        ],
        columns::WORKFLOW,
    ),
    ("what tasks use", &["workflow top"], columns::USAGE),
    ("what stages wait for", &["workflow why"], columns::WAITING),
    ("files of a workflow", &["workflow files --list"], columns::FILE),
    ("files that were fetched", &["workflow files"], columns::PATH),
    ("what was copied", &["workflow cp"], columns::COPIED),
];

/// Commands that print no data in every format, and why.
const OTHERS: &[(&str, &str)] = &[
    ("server", "runs the server, and logs on standard error"),
    ("server adopt", "prints for root at a terminal, and for the unit's log"),
    ("completion", "prints a script for a shell"),
    ("workflow log", "prints the bytes that the job wrote, as they are"),
    ("workflow attach", "prints the bytes that the job writes, as they are"),
    ("workflow exec", "prints the bytes that the program writes, as they are"),
    ("workflow port-forward", "prints the address at which it listens, and passes bytes on"),
    ("workflow document", "prints the document's bytes, as they were handed in"),
    ("workflow render", "prints a document: json and yaml, but a document has no rows for csv"),
    ("inventory query", "prints in every format; its columns are those of --columns"),
    ("node show --topology --xml", "prints the XML of hwloc"),
];

/// Commands that do something by themselves, without the program's name.
fn commands(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    let is_alone = !command.has_subcommands() || !command.is_subcommand_required_set();
    if is_alone && !path.is_empty() {
        found.push(path.to_owned());
    }
    for verb in command.get_subcommands() {
        commands(verb, format!("{path} {}", verb.get_name()).trim_start(), found);
    }
}

#[test]
fn every_command_prints_in_every_format_or_says_why_not() {
    let mut all = Vec::new();
    commands(&Cli::command(), "", &mut all);
    let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    let printed = PRINTED.iter().flat_map(|(_, commands, _)| commands.iter().copied());
    let told: Vec<&str> = printed.chain(OTHERS.iter().map(|(command, _)| *command)).collect();
    let is_plain = |command: &&str| !command.contains(" --");
    let plain: BTreeSet<&str> = told.iter().copied().filter(is_plain).collect();
    assert_eq!(all, plain, "each command has its columns in PRINTED, or a reason in OTHERS");
    assert_eq!(
        told.iter().collect::<BTreeSet<_>>().len(),
        told.len(),
        "a command is told of twice"
    );
    for command in told.iter().filter(|command| !is_plain(command)) {
        let bare = command.split(" --").next().unwrap();
        assert!(all.contains(bare), "{command} is of no command");
    }
    for (command, _, columns) in PRINTED {
        let different: BTreeSet<&&str> = columns.iter().collect();
        assert_eq!(different.len(), columns.len(), "{command}");
    }
}

/// `-o` is an option of each command, wherever it stands.
#[test]
fn every_command_takes_the_option() {
    fn walk(command: &clap::Command) {
        let has = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
        assert!(has("output"), "{:?} takes no -o", command.get_bin_name());
        command.get_subcommands().for_each(walk);
    }
    let mut command = Cli::command();
    command.build();
    walk(&command);
}

/// `docs/reference/output.md` ends with what this test writes: `UPDATE_EXPECT=1` makes it again.
#[test]
fn the_page_of_columns_is_true() {
    let mut page = include_str!("output.md").to_owned();
    for (kind, commands, columns) in PRINTED {
        let commands: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
        let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
        page += &format!("| {kind} | {} | {} |\n", commands.join(", "), columns.join(", "));
    }
    page += "\n## Commands without -o\n\n| command | why |\n|---|---|\n";
    for (command, why) in OTHERS {
        page += &format!("| `{command}` | {why} |\n");
    }
    expect_test::expect_file!["../../../../docs/reference/output.md"].assert_eq(&page);
}

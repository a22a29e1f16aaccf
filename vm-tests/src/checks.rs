//! The checks of the lane, in the order in which they run.

mod booting;
pub(crate) mod conformance;
mod devices;
pub(crate) mod escapes;
pub(crate) mod hardware;
mod importing;
mod inside_a_job;
mod interruptions;
mod life_cycle;
mod logs;
mod lower_root;
mod node;
mod ordinary_user;
mod overlays;
mod restarts;
mod streams;
mod workflows;

use crate::check::Check;

/// A node that is registered, armed and never switched on: what others could steal.
const ABSENT: (&str, &str) = ("n3", "52:54:00:77:00:13");

const BOTH: &[&str] = &["n1", "n2"];
const FIRST: &[&str] = &["n1"];
const SECOND: &[&str] = &["n2"];
const RICH: &[&str] = &[hardware::RICH.name];

/// Those that others stand on, some only if they need a node.
pub(crate) const GROUNDWORK: [(&str, Option<&str>); 5] = [
    ("import-by-command-line", None),
    ("nodes-declared-by-apply", None),
    ("user-added", None),
    ("bios-node-ready", Some("n1")),
    ("uefi-node-ready", Some("n2")),
];

/// All of them.
pub(crate) const ALL: &[Check] = &[
    // These two need no cluster, and so stand before what all others stand on.
    Check { name: "escapes-are-stopped-by-their-defences", needs: &[], run: escapes::all },
    Check { name: "conformance-of-containers", needs: &[], run: conformance::all },
    Check { name: "import-outlives-kill-9", needs: &[], run: importing::outlives_kill },
    Check { name: "import-by-command-line", needs: &[], run: importing::by_command_line },
    Check { name: "nodes-declared-by-apply", needs: &[], run: booting::declare },
    Check { name: "user-added", needs: &[], run: workflows::user },
    Check { name: "bios-node-ready", needs: &[], run: booting::bios_ready },
    Check { name: "uefi-node-ready", needs: &[], run: booting::uefi_ready },
    Check { name: "snponly-efi-by-tftp", needs: SECOND, run: booting::snponly_by_tftp },
    Check { name: "clocks-of-2001-and-2037-healed", needs: BOTH, run: node::clock_healed },
    Check { name: "ssh-with-the-overlay-key", needs: BOTH, run: node::ssh_works },
    Check { name: "names-and-hosts", needs: BOTH, run: node::names_and_hosts },
    Check { name: "udev-names-hold", needs: BOTH, run: node::udev_names_hold },
    Check { name: "inventory", needs: FIRST, run: node::inventory },
    Check { name: "lower-root-equals-umoci", needs: FIRST, run: lower_root::equals_umoci },
    Check { name: "user-gets-no-token", needs: FIRST, run: ordinary_user::token },
    Check { name: "user-gets-no-key-from-files", needs: FIRST, run: ordinary_user::files },
    Check { name: "user-gets-no-overlay", needs: FIRST, run: ordinary_user::overlay },
    Check { name: "user-gets-nothing-from-boot-traces", needs: FIRST, run: ordinary_user::traces },
    Check { name: "user-gets-nothing-from-the-agent", needs: FIRST, run: ordinary_user::agent },
    Check { name: "overlay-edit-reaches-the-node", needs: FIRST, run: overlays::edit_arrives },
    Check { name: "overlay-file-removed-goes", needs: FIRST, run: overlays::removal_arrives },
    Check { name: "workflow-hello-on-one-numa-node", needs: BOTH, run: workflows::hello },
    Check { name: "workflow-diamond-through-a-volume", needs: BOTH, run: workflows::diamond },
    Check { name: "workflow-array-of-32-by-8", needs: BOTH, run: workflows::array },
    Check { name: "workflow-killed-for-memory", needs: BOTH, run: workflows::memory },
    Check { name: "workflow-past-its-timeout", needs: BOTH, run: workflows::timeout },
    Check { name: "workflow-third-attempt", needs: BOTH, run: workflows::retry },
    Check { name: "workflow-wrong-image-and-command", needs: BOTH, run: workflows::wrong },
    Check { name: "inside-a-job", needs: BOTH, run: inside_a_job::facts },
    Check { name: "streams-programs-in-a-job", needs: BOTH, run: streams::programs },
    Check { name: "streams-terminal-follows-a-resize", needs: BOTH, run: streams::terminals },
    Check { name: "streams-ports-of-jobs", needs: BOTH, run: streams::ports },
    Check { name: "streams-files-both-ways", needs: BOTH, run: streams::copies },
    Check { name: "streams-output-to-the-end", needs: BOTH, run: streams::output },
    Check { name: "logs-past-their-limit-keep-both-ends", needs: BOTH, run: logs::both_ends },
    Check { name: "logs-of-an-array-as-they-are-written", needs: BOTH, run: logs::array },
    Check { name: "logs-are-whole-when-their-jobs-end", needs: BOTH, run: crate::logs::check },
    Check { name: "devices-are-granted-to-one-at-a-time", needs: FIRST, run: devices::granted },
    Check { name: "exit-7-while-the-agent-is-away", needs: BOTH, run: interruptions::agent_away },
    Check {
        name: "volume-past-its-size-also-after-the-agent-started-again",
        needs: BOTH,
        run: interruptions::full_volume,
    },
    Check {
        name: "workflow-outlives-kill-9-of-the-server",
        needs: BOTH,
        run: interruptions::server_away,
    },
    Check { name: "paused-and-resumed", needs: BOTH, run: life_cycle::paused },
    Check { name: "prolog-and-epilog", needs: BOTH, run: life_cycle::site_programs },
    Check { name: "agent-upgraded-under-a-job", needs: BOTH, run: life_cycle::upgraded },
    Check { name: "refuses-jobs-without-room", needs: BOTH, run: life_cycle::refuses },
    Check { name: "campaign-of-kills", needs: BOTH, run: crate::campaign::check },
    Check { name: "reboot-and-ready-again", needs: FIRST, run: restarts::reboot },
    Check { name: "power-cut-and-ready-again", needs: SECOND, run: restarts::power_cut },
    Check { name: "boot-outlives-kill-9-of-the-server", needs: BOTH, run: restarts::server_killed },
    Check { name: "hardware-is-what-its-tools-say", needs: &[], run: hardware::equals_the_tools },
    Check { name: "hardware-plugged-in-and-out", needs: RICH, run: hardware::plugged_in_and_out },
];

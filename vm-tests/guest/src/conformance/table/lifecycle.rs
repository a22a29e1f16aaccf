//! A run as the machine sees it: its output, its end, orders to stop it, and what is left.

use substrate::container::defence::Safeguard::*;

use crate::conformance::{
    Check,
    Look::Outside,
    Otherwise::{Described, Without},
    outside,
    stage::{BAD_SCRIPT, DATA, INNER, VOLUME, bind, script},
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "input is empty and output is the log",
        container: |spec| script(spec, "cat; echo out; echo err >&2; echo -n > /dev/stdout"),
        look: Outside(outside::output),
        otherwise: &[Described(|spec| script(spec, "echo out"))],
    },
    Check {
        name: "the exit status is told",
        container: |spec| script(spec, "exit 7"),
        look: Outside(outside::exit_status),
        otherwise: &[Described(|spec| script(spec, "exit 8"))],
    },
    Check {
        name: "death by a signal is told",
        container: |spec| script(spec, "kill -ABRT $$"),
        look: Outside(outside::signal),
        otherwise: &[Described(|spec| script(spec, "exit 134"))],
    },
    Check {
        name: "a program that is not there is told",
        container: |spec| spec.command = vec!["missing".to_owned()],
        look: Outside(outside::missing_program),
        otherwise: &[Described(|spec| script(spec, "exit 127"))],
    },
    Check {
        name: "a program whose interpreter is not there is told",
        container: |spec| spec.command = vec![BAD_SCRIPT.to_owned()],
        look: Outside(outside::missing_interpreter),
        otherwise: &[Described(|spec| spec.command = vec!["missing".to_owned()])],
    },
    Check {
        name: "a command of one text is words where no program has its name",
        container: |spec| {
            spec.command = vec!["sh -c 'exit 7'".to_owned()];
            spec.program_words = ["sh", "-c", "exit 7"].map(str::to_owned).to_vec();
        },
        look: Outside(outside::exit_status),
        otherwise: &[Described(|spec| spec.program_words.clear())],
    },
    Check {
        name: "a working directory that is not there is told",
        container: |spec| spec.cwd = "/missing".to_owned(),
        look: Outside(outside::missing_directory),
        otherwise: &[Described(|spec| spec.cwd = "/".to_owned())],
    },
    Check {
        name: "a container that runs is known by its init",
        container: |spec| spec.command = vec!["sleep".to_owned(), "600".to_owned()],
        look: Outside(outside::told_of),
        otherwise: &[
            Described(|spec| spec.command = vec!["missing".to_owned()]),
            Described(|spec| script(spec, "sleep 600; true")),
        ],
    },
    Check {
        name: "a description that changes after the start changes nothing",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            script(spec, "until test -e /data/go; do sleep 0.05; done; exit 7");
        },
        look: Outside(outside::later_changes),
        otherwise: &[Described(|spec| script(spec, "exit 8"))],
    },
    Check {
        name: "an order to stop reaches the program as SIGTERM",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            script(spec, &listening("touch /data/heard; exit 0"));
        },
        look: Outside(outside::terminated),
        otherwise: &[Described(|spec| script(spec, "touch /data/ready; sleep 600"))],
    },
    Check {
        name: "SIGKILL follows after the grace",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            script(spec, &listening("touch /data/heard"));
        },
        look: Outside(outside::killed_after_grace),
        otherwise: &[Described(|spec| script(spec, &listening("touch /data/heard; exit 0")))],
    },
    Check {
        name: "an order to stop may come before the start",
        container: |spec| spec.command = vec!["sleep".to_owned(), "600".to_owned()],
        look: Outside(outside::stopped_before_it_starts),
        otherwise: &[Described(|spec| bind(spec, "/missing", DATA))],
    },
    Check {
        name: "an order to stop what does not run changes nothing",
        container: |spec| spec.command = vec!["true".to_owned()],
        look: Outside(outside::nothing_to_kill),
        otherwise: &[Described(|spec| script(spec, "exit 1"))],
    },
    Check {
        name: "a container that runs is not removed",
        container: |spec| spec.command = vec!["sleep".to_owned(), "600".to_owned()],
        look: Outside(outside::removal_refused),
        otherwise: &[Described(|spec| spec.command = vec!["missing".to_owned()])],
    },
    Check {
        name: "nothing is left of a container, and all else stays",
        container: |spec| {
            bind(spec, INNER, DATA);
            script(spec, "setsid sleep 5 > /dev/null 2>&1 & true");
        },
        look: Outside(outside::nothing_left),
        otherwise: &[Without(&[KillAll, ProcessNamespace])],
    },
];

/// A script that says that it listens and does something at SIGTERM.
fn listening(at_the_end: &str) -> String {
    format!("trap '{at_the_end}' TERM; touch /data/ready; while true; do sleep 0.1; done")
}

//! Every check, in the order of the page.

use substrate::container::{
    defence::Safeguard::{self, *},
    spec::ContainerSpec,
};

use super::{
    ARGUMENTS, Check,
    Look::{Inside, Outside},
    Otherwise,
    Otherwise::{Described, Disturbed, Uncontained, Without},
    inside, outside,
    stage::{
        BAD_SCRIPT, DATA, INNER, LINKED_ROOTFS, MEMORY_BYTES, PIDS, VOLUME, WORK, bind, grant,
        place, script, tell_namespaces,
    },
    user,
};
use crate::containers::ROOTFS;

/// An ordinary small job.
const ORDINARY: fn(&mut ContainerSpec) = |_| {};

/// Those that a job of the machine's own network has not.
const ISOLATED: fn(&mut ContainerSpec) = |spec| spec.isolated_network = true;

const SHARED: Otherwise = Described(|spec| spec.isolated_network = false);

const FILTERED: &[Safeguard] = &[NoNewPrivileges, SystemCalls];

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "file systems are mounted with their options",
        container: ORDINARY,
        look: Inside(inside::default_file_systems),
        otherwise: &[
            Without(&[NoSetuid]),
            Without(&[NoDevices]),
            Without(&[ReadOnlySys]),
            Without(&[ReadOnlyCgroup]),
            Described(|spec| bind(spec, VOLUME, "/dev/shm")),
        ],
    },
    Check {
        name: "every job has the default devices",
        container: ORDINARY,
        look: Inside(inside::default_devices),
        otherwise: &[Described(|spec| place(spec, "/dev/full"))],
    },
    Check {
        name: "links in /dev lead to the process's own descriptors and terminals",
        container: ORDINARY,
        look: Inside(inside::device_links),
        otherwise: &[
            Described(|spec| place(spec, "/dev/stdin")),
            Described(|spec| bind(spec, VOLUME, "/dev/pts")),
        ],
    },
    Check {
        name: "granted devices are there and open",
        container: grant,
        look: Inside(inside::granted_devices),
        otherwise: &[
            Described(|spec| drop(spec.devices.pop())),
            Described(|spec| drop(spec.devices.remove(0))),
        ],
    },
    Check {
        name: "paths of the kernel are covered",
        container: ORDINARY,
        look: Inside(inside::covered_paths),
        otherwise: &[Without(&[MaskedPaths])],
    },
    Check {
        name: "paths of the kernel are read-only",
        container: ORDINARY,
        look: Inside(inside::read_only_paths),
        otherwise: &[Without(&[ReadOnlyProc]), Without(&[ReadOnlySys]), Without(&[ReadOnlyCgroup])],
    },
    Check {
        name: "/proc and /sys behind links of the image stay in the root",
        container: |spec| spec.lower = LINKED_ROOTFS.into(),
        look: Inside(inside::linked_kernel_file_systems),
        otherwise: &[
            Described(|spec| spec.lower = ROOTFS.into()),
            Without(&[MaskedPaths]),
            Uncontained,
        ],
    },
    Check {
        name: "the root is that of the image",
        container: |spec| {
            let entries = std::fs::read_dir(ROOTFS).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            spec.command.extend(names);
        },
        look: Inside(inside::root_of_the_image),
        otherwise: &[Described(|spec| spec.lower = LINKED_ROOTFS.into()), Uncontained],
    },
    Check {
        name: "what a job writes does not reach the image",
        container: |spec| script(spec, "echo changed > /work/own && echo new > /tmp/new"),
        look: Outside(outside::image_unchanged),
        otherwise: &[Described(|spec| bind(spec, "/rootfs/work", WORK))],
    },
    Check {
        name: "no mount propagates",
        container: |spec| bind(spec, VOLUME, DATA),
        look: Inside(inside::no_propagation),
        otherwise: &[Uncontained],
    },
    Check {
        name: "a volume can be written, without devices and set-user-ID",
        container: |spec| bind(spec, VOLUME, DATA),
        look: Inside(inside::volume),
        otherwise: &[
            Without(&[NoSetuid]),
            Without(&[NoDevices]),
            Described(|spec| spec.binds.clear()),
        ],
    },
    Check {
        name: "a read-only volume is that throughout",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            spec.binds.iter_mut().for_each(|bind| bind.read_only = true);
        },
        look: Inside(inside::read_only_volume),
        otherwise: &[Described(|spec| {
            spec.binds.iter_mut().for_each(|bind| bind.read_only = false)
        })],
    },
    Check {
        name: "volumes are mounted in their order",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            bind(spec, INNER, "/data/inner");
        },
        look: Inside(inside::inner_volume),
        otherwise: &[Described(|spec| spec.binds.reverse())],
    },
    Check {
        name: "a volume behind a link of the image stays in the root",
        container: |spec| bind(spec, INNER, "/link"),
        look: Inside(inside::volume_behind_a_link),
        otherwise: &[Described(|spec| spec.binds.clear())],
    },
    Check {
        name: "the host name is the job's",
        container: ORDINARY,
        look: Inside(inside::host_name),
        otherwise: &[Described(|spec| spec.hostname = "other".to_owned()), Uncontained],
    },
    Check {
        name: "the namespaces are the job's own",
        container: |spec| {
            ISOLATED(spec);
            tell_namespaces(spec);
        },
        look: Inside(inside::own_namespaces),
        otherwise: &[
            Without(&[IpcNamespace]),
            Without(&[HostNamespace]),
            Without(&[ProcessNamespace]),
            Without(&[NetworkNamespace]),
            Uncontained,
        ],
    },
    Check {
        name: "a job that is not isolated has the node's network",
        container: tell_namespaces,
        look: Inside(inside::network_of_the_node),
        otherwise: &[Described(ISOLATED)],
    },
    Check {
        name: "an isolated job has loopback and nothing else",
        container: ISOLATED,
        look: Inside(inside::own_network),
        otherwise: &[SHARED, Without(&[NetworkNamespace])],
    },
    Check {
        name: "a job sees its own processes and its init",
        container: ORDINARY,
        look: Inside(inside::own_processes),
        otherwise: &[Without(&[ProcessNamespace])],
    },
    Check {
        name: "a job's cgroup is the root of those that it sees",
        container: ORDINARY,
        look: Inside(inside::own_control_group),
        otherwise: &[Uncontained],
    },
    Check {
        name: "the limit of memory is the kernel's",
        container: |spec| spec.memory_bytes = MEMORY_BYTES,
        look: Inside(inside::memory),
        otherwise: &[Described(|spec| spec.memory_bytes /= 2), Without(&[MemoryLimit])],
    },
    Check {
        name: "a job that needs more memory is told so",
        container: |spec| {
            spec.memory_bytes = MEMORY_BYTES;
            script(spec, "dd if=/dev/zero of=/dev/null bs=96M count=1");
        },
        look: Outside(outside::out_of_memory),
        otherwise: &[Described(|spec| spec.memory_bytes = 256 << 20), Without(&[MemoryLimit])],
    },
    Check {
        name: "the limit of processes is the kernel's",
        container: |spec| spec.pids = PIDS,
        look: Inside(inside::processes),
        otherwise: &[Described(|spec| spec.pids += 1), Without(&[ProcessLimit])],
    },
    Check {
        name: "the processors and memory nodes are the granted ones",
        container: |spec| spec.cpus = vec![1],
        look: Inside(inside::processors),
        otherwise: &[Described(|spec| spec.cpus = vec![0, 1]), Without(&[ProcessorLimit])],
    },
    Check {
        name: "huge pages are forbidden",
        container: ORDINARY,
        look: Inside(inside::huge_pages),
        otherwise: &[Uncontained],
    },
    Check {
        name: "the program is the user, with the groups",
        container: |spec| {
            spec.gid = 1001;
            spec.groups = vec![2002, 2001, 2002];
        },
        look: Inside(inside::user),
        otherwise: &[
            Without(&[User]),
            Described(|spec| spec.groups.clear()),
            Described(|spec| spec.gid = 1002),
            Described(|spec| spec.uid = 1001),
        ],
    },
    Check {
        name: "the umask is 022",
        container: ORDINARY,
        look: Inside(inside::umask),
        otherwise: &[Disturbed(|| {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o002));
            Ok(())
        })],
    },
    Check {
        name: "resources are limited",
        container: ORDINARY,
        look: Inside(inside::limits),
        otherwise: &[Disturbed(|| {
            Ok(linux::process::limit_resource(
                rustix::process::Resource::Nofile,
                Some(100),
                Some(524_288),
            )?)
        })],
    },
    Check {
        name: "there is no capability in any set",
        container: ORDINARY,
        look: Inside(inside::no_capabilities),
        otherwise: &[Without(&[Capabilities])],
    },
    Check {
        name: "privileges cannot be gained",
        container: ORDINARY,
        look: Inside(inside::no_new_privileges),
        otherwise: &[Without(FILTERED)],
    },
    Check {
        name: "the seccomp filter refuses",
        container: ORDINARY,
        look: Inside(inside::system_calls),
        otherwise: &[Without(&[SystemCalls])],
    },
    Check {
        name: "the working directory is the ordered one",
        container: |spec| spec.cwd = WORK.to_owned(),
        look: Inside(inside::working_directory),
        otherwise: &[Described(|spec| spec.cwd = "/".to_owned())],
    },
    Check {
        name: "the working directory of the image is made where no layer has it",
        container: |spec| image_directory(spec, "/made/for/it"),
        look: Inside(user::made_working_directory),
        otherwise: &[Described(|spec| spec.cwd = WORK.to_owned())],
    },
    Check {
        name: "in a volume it is the user who makes it",
        container: |spec| {
            bind(spec, VOLUME, DATA);
            image_directory(spec, "/data/made/for/it");
        },
        look: Inside(user::working_directory_in_a_volume),
        otherwise: &[Described(|spec| spec.binds.clear())],
    },
    Check {
        name: "the home directory is the user's alone",
        container: |spec| {
            spec.env.push("HOME=/home/ada".to_owned());
            (spec.home, spec.makes_home) = (Some("/home/ada".to_owned()), true);
        },
        look: Inside(user::home),
        otherwise: &[
            Described(|spec| spec.makes_home = false),
            Described(|spec| spec.home = None),
            Described(|spec| drop(spec.env.pop())),
        ],
    },
    Check {
        name: "the user and the groups have lines in their lists",
        container: |spec| spec.groups = vec![2001],
        look: Inside(user::lines_of_the_user),
        otherwise: &[
            Described(|spec| spec.groups.clear()),
            Described(|spec| spec.user_name = "bob".to_owned()),
            Uncontained,
        ],
    },
    Check {
        name: "links of an image in /etc are replaced and not written through",
        container: |spec| spec.lower = LINKED_ROOTFS.into(),
        look: Inside(user::links_are_replaced),
        otherwise: &[Described(|spec| spec.lower = ROOTFS.into()), Uncontained],
    },
    Check {
        name: "a job that is not isolated has the names of the node",
        container: ORDINARY,
        look: Inside(user::names_of_the_node),
        otherwise: &[Described(ISOLATED), Uncontained],
    },
    Check {
        name: "the environment is the ordered one",
        container: |spec| spec.env.push("GREETING=a b=$(c)".to_owned()),
        look: Inside(inside::environment),
        otherwise: &[
            Described(|spec| spec.env.push("MORE=1".to_owned())),
            Described(|spec| drop(spec.env.pop())),
        ],
    },
    Check {
        name: "arguments arrive as they are",
        container: |spec| spec.command.extend(ARGUMENTS.map(str::to_owned)),
        look: Inside(inside::arguments),
        otherwise: &[Described(|spec| drop(spec.command.pop()))],
    },
    Check {
        name: "nothing is open but the standard streams",
        container: ORDINARY,
        look: Inside(inside::descriptors),
        otherwise: &[
            Without(&[ClosedDescriptors]),
            Disturbed(|| {
                std::mem::forget(std::fs::File::open("/")?);
                Ok(())
            }),
        ],
    },
    Check {
        name: "no signal is blocked or ignored",
        container: ORDINARY,
        look: Inside(inside::default_signals),
        otherwise: &[Disturbed(|| Ok(substrate::container::init::signals().thread_block()?))],
    },
    Check {
        name: "the personality is Linux on x86-64",
        container: ORDINARY,
        look: Inside(inside::personality),
        otherwise: &[Described(|spec| {
            let words = std::mem::take(&mut spec.command);
            spec.command =
                ["linux64".to_owned(), "-R".to_owned()].into_iter().chain(words).collect();
        })],
    },
    Check {
        name: "a job can be killed for memory, whatever the agent is",
        container: ORDINARY,
        look: Inside(inside::memory_killer),
        otherwise: &[
            Disturbed(|| Ok(std::fs::write("/proc/self/oom_score_adj", "500")?)),
            Uncontained,
        ],
    },
    Check {
        name: "scheduling is ordinary",
        container: ORDINARY,
        look: Inside(inside::scheduling),
        otherwise: &[Disturbed(|| Ok(rustix::process::nice(5).map(drop)?))],
    },
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

/// Orders a working directory as that of an image, and tells the payload of it.
fn image_directory(spec: &mut ContainerSpec, directory: &str) {
    (spec.cwd, spec.makes_cwd) = (directory.to_owned(), true);
    spec.command.push(directory.to_owned());
}

/// A script that says that it listens and does something at SIGTERM.
fn listening(at_the_end: &str) -> String {
    format!("trap '{at_the_end}' TERM; touch /data/ready; while true; do sleep 0.1; done")
}

//! The program as it begins: its user and privileges, its directories, environment and state.

use substrate::container::{
    defence::Safeguard::{self, *},
    spec::ContainerSpec,
};

use super::{ISOLATED, ORDINARY};
use crate::{
    conformance::{
        ARGUMENTS, Check,
        Look::Inside,
        Otherwise::{Described, Disturbed, Uncontained, Without},
        inside,
        stage::{DATA, LINKED_ROOTFS, VOLUME, WORK, bind},
        user,
    },
    containers::ROOTFS,
};

const FILTERED: &[Safeguard] = &[NoNewPrivileges, SystemCalls];

pub(super) const CHECKS: &[Check] = &[
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
];

/// Orders a working directory as that of an image, and tells the payload of it.
fn image_directory(spec: &mut ContainerSpec, directory: &str) {
    (spec.cwd, spec.makes_cwd) = (directory.to_owned(), true);
    spec.command.push(directory.to_owned());
}

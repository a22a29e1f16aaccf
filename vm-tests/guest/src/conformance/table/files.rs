//! The root of a container: its file systems, devices and volumes.

use substrate::container::defence::Safeguard::*;

use super::ORDINARY;
use crate::{
    conformance::{
        Check,
        Look::{Inside, Outside},
        Otherwise::{Described, Uncontained, Without},
        inside, outside,
        stage::{DATA, INNER, LINKED_ROOTFS, VOLUME, WORK, bind, grant, place, script},
    },
    containers::ROOTFS,
};

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
];

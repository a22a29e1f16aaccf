//! Namespaces, network and cgroup: what a job is kept apart by, and what it is limited to.

use substrate::container::defence::Safeguard::*;

use super::{ISOLATED, ORDINARY};
use crate::conformance::{
    Check,
    Look::{Inside, Outside},
    Otherwise,
    Otherwise::{Described, Uncontained, Without},
    inside, outside,
    stage::{MEMORY_BYTES, PIDS, script, tell_namespaces},
};

const SHARED: Otherwise = Described(|spec| spec.isolated_network = false);

pub(super) const CHECKS: &[Check] = &[
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
];

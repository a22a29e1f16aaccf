//! Whether the memory of a machine holds what it is to boot. Where it does not, the kernel cannot
//! unpack the initramfs, stage 1 never runs, and nobody would hear why.
//!
//! iPXE puts its setting `memsize` into the request of the boot script: `?memory=MIB`. Builds
//! without that setting put nothing there. Anybody can ask for anybody's script, so a number
//! proves nothing: what is too small is told to whoever asks, and shown as what holds the node
//! only if the request came from the node's address and the node does not run. What is enough
//! ends that likewise.

use api::{ids::NodeId, image::KernelArtifact, status::Phase};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use boot_proto::script::Refused;

use super::{Booting, Peer};
use crate::{clock, holds::Part, provisioner::Provisioner};

/// The parameter of the request.
const PARAMETER: &str = "memory=";

/// Digits of a number that is read: 100 TiB.
const MAX_DIGITS: usize = 8;

/// What stage 1 keeps free beside the root image, bytes; the kernel's own memory comes to that.
const RESERVE_BYTES: u64 = 64 << 20;

/// Sizes of the files that a machine has in memory while it boots, bytes.
#[derive(Debug, Clone, Copy)]
struct Needs {
    kernel: u64,
    initramfs: u64,
    /// The initramfs once unpacked. At least as large as it was: what is not known is left out.
    unpacked: u64,
    root: u64,
}

/// How the memory of a machine compares with what it is to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// There is enough, or nothing is known of it.
    Enough,
    /// It may not do.
    Tight,
    /// The files alone are larger.
    TooLittle,
}

impl Needs {
    fn of(kernel: &KernelArtifact, root_bytes: u64) -> Self {
        let initramfs = kernel.stage1.size;
        Self {
            kernel: kernel.kernel.size,
            initramfs,
            unpacked: kernel.stage1_unpacked.unwrap_or(0).max(initramfs),
            root: root_bytes,
        }
    }

    /// What is in memory at once, bytes: the initramfs in both forms while it is unpacked, then the
    /// root image beside what was unpacked.
    fn files(&self) -> u64 {
        self.kernel.saturating_add(self.unpacked).saturating_add(self.initramfs.max(self.root))
    }

    /// What a machine should have, MiB.
    fn wanted_mib(&self) -> u64 {
        // The root of the initramfs may fill half of the memory.
        let half = self.unpacked.saturating_mul(2);
        self.files().saturating_add(RESERVE_BYTES).max(half).div_ceil(1 << 20)
    }

    /// iPXE leaves out what it and the firmware use themselves. That is less than the kernel and
    /// stage 1 need beside the files, so a machine that has less than the files never boots.
    fn fit(&self, memory_mib: u64) -> Fit {
        if memory_mib < self.files() >> 20 {
            Fit::TooLittle
        } else if memory_mib < self.wanted_mib() {
            Fit::Tight
        } else {
            Fit::Enough
        }
    }
}

/// The memory of the machine in MiB, as its iPXE says; 0 is that of one that cannot tell.
fn said_mib(query: Option<&str>) -> Option<u64> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(PARAMETER))?;
    let is_number = value.len() <= MAX_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|mib| is_number && *mib > 0)
}

/// The answer to a machine that cannot boot for its memory. `None`: it may try.
pub(super) fn refusal(
    provisioner: &Provisioner,
    booting: &Booting,
    kernel: &KernelArtifact,
    peer: Peer,
    query: Option<&str>,
) -> Option<Response> {
    let needs = Needs::of(kernel, booting.image.version.root.size);
    let memory_mib = said_mib(query);
    let fit = memory_mib.map_or(Fit::Enough, |mib| needs.fit(mib));
    let cause = || {
        let (has, wanted) = (memory_mib.unwrap_or_default(), needs.wanted_mib());
        format!("has {has} MiB of memory; this image needs about {wanted} MiB")
    };
    let is_its_boot =
        || is_from_the_node(provisioner, booting, peer) && !runs(provisioner, booting.record.id);
    match fit {
        // Nearly every boot: there is nothing to say, and nothing to take back.
        Fit::Enough if !provisioner.0.holds.is_held(booting.record.id, Part::Memory) => None,
        Fit::Enough | Fit::Tight => {
            if is_its_boot() {
                provisioner.hold(&booting.record, Part::Memory, None);
                let count =
                    || provisioner.0.refusals.count("memory", peer.remote.ip(), clock::now());
                if fit == Fit::Tight && count().is_some() {
                    provisioner
                        .0
                        .fleet
                        .warn(booting.record.id, format!("may not boot: {}", cause()));
                }
            }
            None
        }
        Fit::TooLittle => {
            if is_its_boot() {
                provisioner.hold(&booting.record, Part::Memory, Some(cause()));
            }
            let refused = Refused {
                node: booting.record.name.clone(),
                mac: booting.mac,
                server: peer.local.to_string(),
                image: booting.version(),
                cause: cause(),
            };
            let headers = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            Some((headers, refused.script()).into_response())
        }
    }
}

/// Whether the request comes from the address that the node has.
fn is_from_the_node(provisioner: &Provisioner, booting: &Booting, peer: Peer) -> bool {
    let source = peer.remote.ip();
    let expected = provisioner.expected_address(booting.mac, &booting.spec, source);
    expected.is_some_and(|expected| expected.to_canonical() == source.to_canonical())
}

/// Whether it has booted, so that a request from its address may be any program's on it.
fn runs(provisioner: &Provisioner, id: NodeId) -> bool {
    let phase = provisioner.0.fleet.status(id).map(|status| status.phase);
    matches!(phase, Some(Phase::Switching | Phase::Enrolled | Phase::Ready))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::{
        ids::{Digest, MacAddr},
        image::Artifact,
        machine::MachineSpec,
    };
    use database::statement;
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::serve::tests::{image, provisioner_in};

    const MIB: u64 = 1 << 20;

    const NODE: NodeId = NodeId(uuid::Uuid::from_u128(1));

    /// `n1` at 10.1.0.11, which boots an image of next to no bytes.
    async fn booting(provisioner: &Provisioner) -> Booting {
        let name: api::ids::NodeName = "n1".parse().unwrap();
        let spec: MachineSpec = serde_json::from_value(serde_json::json!({
            "interfaces": {"lan0": {"mac": "52:54:00:77:00:11", "address": "10.1.0.11/24"}},
        }))
        .unwrap();
        let (added, declared) = (name.clone(), spec.clone());
        provisioner.change(move |draft| draft.add_node(&added, NODE, declared)).await.unwrap();
        let record = provisioner.view().cluster.nodes.get(&name).unwrap().clone();
        let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x11]);
        Booting { mac, record, spec: Arc::new(spec), image: Arc::new(image(1)) }
    }

    /// Whether somebody is refused the script who says so much of the memory.
    fn asks(provisioner: &Provisioner, booting: &Booting, from: [u8; 4], query: &str) -> bool {
        let file = || Artifact { format: "x".into(), digest: Digest([7; 32]), size: 100 * MIB };
        let kernel = KernelArtifact {
            release: "6.1".into(),
            kernel: file(),
            stage1: file(),
            stage1_unpacked: None,
        };
        let peer = Peer { remote: (from, 4711).into(), local: ([10, 1, 0, 1], 9480).into() };
        refusal(provisioner, booting, &kernel, peer, Some(query)).is_some()
    }

    #[tokio::test]
    async fn what_holds_a_node_for_its_memory_is_ended_from_its_address_alone() {
        let directory = tempfile::tempdir().unwrap();
        let provisioner = provisioner_in(directory.path()).await;
        let booting = booting(&provisioner).await;
        let is_refused = |from: [u8; 4], query: &str| asks(&provisioner, &booting, from, query);
        let is_held = || provisioner.0.fleet.status(NODE).unwrap().held.is_some();
        let (itself, stranger) = ([10, 1, 0, 11], [10, 1, 0, 66]);
        assert!(is_refused(stranger, "memory=10") && !is_held());
        // Enough, what may do, and what says nothing.
        for query in ["memory=1000", "memory=320", "memory=0"] {
            assert!(is_refused(itself, "memory=10") && is_held());
            assert!(!is_refused(stranger, query) && is_held(), "{query} of somebody else");
            assert!(!is_refused(itself, query) && !is_held(), "{query}");
        }
    }

    #[tokio::test]
    async fn a_program_on_a_node_that_runs_says_nothing_of_its_memory() {
        let directory = tempfile::tempdir().unwrap();
        let before = provisioner_in(directory.path()).await;
        let booting = booting(&before).await;
        before.0.fleet.close().await;
        // It has handed over to its init when the server starts again.
        let text = r#"UPDATE fleet_nodes SET life = replace(life, '"unseen"', '"switching"')"#;
        assert_eq!(statement("hand over", text).execute(&before.0.database).await.unwrap(), 1);
        before.0.stop.cancel();
        before.0.database.close().await;
        let provisioner = provisioner_in(directory.path()).await;
        assert_eq!(provisioner.0.fleet.status(NODE).unwrap().phase, Phase::Switching);
        let is_held = || provisioner.0.fleet.status(NODE).unwrap().held.is_some();
        let itself = [10, 1, 0, 11];
        assert!(asks(&provisioner, &booting, itself, "memory=10") && !is_held());
        provisioner.hold(&booting.record, Part::Memory, Some("has too little".to_owned()));
        assert!(!asks(&provisioner, &booting, itself, "memory=1000") && is_held());
    }

    #[test]
    fn only_a_plain_number_says_something_of_the_memory() {
        for nothing in [
            None,
            Some(""),
            Some("memory="),
            Some("memory=0"),
            Some("memory=${memsize}"),
            Some("memory=-5"),
            Some("memory=+5"),
            Some("memory=123456789"),
            Some("memory=0x400"),
            Some("mem=512"),
        ] {
            assert_eq!(said_mib(nothing), None, "{nothing:?}");
        }
        assert_eq!(said_mib(Some("memory=512")), Some(512));
        assert_eq!(said_mib(Some("a=b&memory=00000512&memory=7")), Some(512));
    }

    #[test]
    fn a_machine_is_refused_only_if_the_files_alone_do_not_fit() {
        let needs =
            Needs { kernel: 8 * MIB, initramfs: 40 * MIB, unpacked: 150 * MIB, root: 256 * MIB };
        assert_eq!((needs.files() / MIB, needs.wanted_mib()), (414, 478));
        let fits = [1, 413, 414, 477, 478, 99_999_999].map(|mib| needs.fit(mib));
        let (little, tight, enough) = (Fit::TooLittle, Fit::Tight, Fit::Enough);
        assert_eq!(fits, [little, little, tight, tight, enough, enough]);
        // Half of the memory does not hold what is unpacked: by the kernel's arguments it may.
        let lopsided = Needs { unpacked: 400 * MIB, root: 10 * MIB, ..needs };
        assert_eq!((lopsided.fit(500), lopsided.wanted_mib()), (tight, 800));
        assert_eq!(lopsided.fit(447), little, "both forms of the initramfs");
    }

    proptest! {
        #[test]
        fn no_sizes_overflow_and_more_memory_is_never_worse(
            kernel in any::<u64>(), initramfs in any::<u64>(), unpacked in any::<u64>(), root in any::<u64>(),
            mib in 1_u64..100_000_000,
        ) {
            let needs = Needs { kernel, initramfs, unpacked, root };
            if needs.fit(mib) == Fit::Enough {
                assert_eq!(needs.fit(mib + 1), Fit::Enough);
            }
            if needs.fit(mib + 1) == Fit::TooLittle {
                assert_eq!(needs.fit(mib), Fit::TooLittle);
            }
        }
    }
}

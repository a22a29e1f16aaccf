//! Chooses the kernel modules that stage 1 carries: by the rules below, with everything they
//! depend on. Pure.
//!
//! `modules.dep` has one line for each module: `PATH: DEPENDENCY…`, paths relative to
//! `/lib/modules/RELEASE`, each dependency before those that need it read from right to left
//! (depmod(8), modules.dep(5)). `modules.softdep` has lines `softdep NAME pre: NAME… post: NAME…`,
//! `modules.alias` lines `alias PATTERN NAME`, `modules.builtin` paths of what is compiled in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::inflate::plain_name;

/// Beginnings of the paths that are taken, below `kernel/`: what a node can need before it has its
/// root image, or to find a local disk. Dependencies come by themselves.
const TAKEN: &[&str] = &[
    // Network cards of all buses, with their PHYs; bonds and VLANs; packets and IPv6.
    "drivers/net/",
    "net/8021q/",
    "net/packet/",
    "net/ipv6/ipv6.",
    // Disks.
    "drivers/ata/",
    "drivers/block/loop.",
    "drivers/block/virtio_blk.",
    "drivers/block/xen-blkfront.",
    "drivers/message/fusion/",
    "drivers/nvme/host/",
    "drivers/scsi/",
    // Buses that the above sit on.
    "drivers/hv/hv_vmbus.",
    "drivers/pci/controller/",
    "drivers/usb/host/",
    "drivers/virtio/",
    "drivers/char/hw_random/virtio-rng.",
    // File systems of root images, local disks and media.
    "fs/efivarfs/",
    "fs/erofs/",
    "fs/ext4/",
    "fs/fat/",
    "fs/isofs/",
    "fs/nls/nls_ascii.",
    "fs/nls/nls_cp437.",
    "fs/nls/nls_iso8859-1.",
    "fs/nls/nls_utf8.",
    "fs/overlayfs/",
    "fs/squashfs/",
    "fs/xfs/",
    // Checksums that those ask for by alias.
    "arch/x86/crypto/crc",
    "crypto/crc",
];

/// Beginnings of paths that are not taken though a rule above says so; a dependency brings
/// them all the same.
const LEFT: &[&str] = &[
    // Links that no node boots over.
    "drivers/net/appletalk/",
    "drivers/net/arcnet/",
    "drivers/net/can/",
    "drivers/net/fddi/",
    "drivers/net/hamradio/",
    "drivers/net/hippi/",
    "drivers/net/ieee802154/",
    "drivers/net/ipa/",
    "drivers/net/plip/",
    "drivers/net/ppp/",
    "drivers/net/slip/",
    "drivers/net/wan/",
    "drivers/net/wireless/",
    "drivers/net/wwan/",
    // Virtual devices that only a running system makes.
    "drivers/net/amt.",
    "drivers/net/bareudp.",
    "drivers/net/dummy.",
    "drivers/net/eql.",
    "drivers/net/geneve.",
    "drivers/net/gtp.",
    "drivers/net/ifb.",
    "drivers/net/ipvlan/",
    "drivers/net/macsec.",
    "drivers/net/macvlan.",
    "drivers/net/macvtap.",
    "drivers/net/netconsole.",
    "drivers/net/netdevsim/",
    "drivers/net/netkit.",
    "drivers/net/nlmon.",
    "drivers/net/ovpn/",
    "drivers/net/pfcp.",
    "drivers/net/sb1000.",
    "drivers/net/tap.",
    "drivers/net/team/",
    "drivers/net/tun.",
    "drivers/net/veth.",
    "drivers/net/vrf.",
    "drivers/net/vsockmon.",
    "drivers/net/vxlan",
    "drivers/net/wireguard/",
    // Storage networks: stage 1 brings up none.
    "drivers/scsi/be2iscsi/",
    "drivers/scsi/bfa/",
    "drivers/scsi/bnx2fc/",
    "drivers/scsi/bnx2i/",
    "drivers/scsi/csiostor/",
    "drivers/scsi/cxgbi/",
    "drivers/scsi/elx/",
    "drivers/scsi/fcoe/",
    "drivers/scsi/fnic/",
    "drivers/scsi/libfc/",
    "drivers/scsi/lpfc/",
    "drivers/scsi/pcmcia/",
    "drivers/scsi/qedf/",
    "drivers/scsi/qedi/",
    "drivers/scsi/qla2xxx/",
    "drivers/scsi/qla4xxx/",
    "drivers/scsi/scsi_debug.",
    "drivers/scsi/snic/",
];

/// The index files of one kernel, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModuleIndex {
    pub dep: String,
    pub alias: String,
    pub softdep: String,
    pub builtin: String,
}

/// The modules chosen: path as in the image, by path.
pub(crate) type Chosen = BTreeSet<String>;

/// `kernel/a/nvme-core.ko.xz` → `nvme_core`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    plain_name(file).trim_end_matches(".ko").replace('-', "_")
}

fn is_taken(path: &str) -> bool {
    let Some(path) = path.strip_prefix("kernel/") else { return false };
    let among = |rules: &[&str]| rules.iter().any(|rule| path.starts_with(rule));
    among(TAKEN) && !among(LEFT)
}

impl ModuleIndex {
    fn dependencies(&self) -> BTreeMap<&str, Vec<&str>> {
        let lines = self.dep.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(path, needs)| (path, needs.split_whitespace().collect())).collect()
    }

    /// `(NAME, names that it softly depends on)`.
    fn soft_dependencies(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.softdep.lines().filter_map(|line| {
            let mut words = line.strip_prefix("softdep ")?.split_whitespace();
            let name = words.next()?.replace('-', "_");
            Some((
                name,
                words
                    .filter(|word| !word.ends_with(':'))
                    .map(|word| word.replace('-', "_"))
                    .collect(),
            ))
        })
    }

    fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.alias.lines().filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
    }

    /// The modules to carry.
    pub(crate) fn choose(&self) -> Chosen {
        let dependencies = self.dependencies();
        let by_name: BTreeMap<String, &str> =
            dependencies.keys().map(|path| (module_name(path), *path)).collect();
        let mut by_alias: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (pattern, name) in self.aliases() {
            by_alias.entry(pattern.replace('-', "_")).or_default().push(name);
        }
        let soft: BTreeMap<String, Vec<String>> = self.soft_dependencies().collect();

        let mut chosen = Chosen::new();
        // Followed once: many modules may want the same alias of many modules.
        let mut followed: BTreeSet<&str> = BTreeSet::new();
        let mut todo: Vec<&str> =
            dependencies.keys().copied().filter(|path| is_taken(path)).collect();
        while let Some(path) = todo.pop() {
            if !chosen.insert(path.to_owned()) {
                continue;
            }
            todo.extend(dependencies.get(path).into_iter().flatten());
            for wanted in soft.get(&module_name(path)).into_iter().flatten() {
                if !followed.insert(wanted) {
                    continue;
                }
                // A soft dependency names a module or an alias of modules; what is neither is
                // compiled in or absent.
                todo.extend(by_name.get(wanted));
                let names = by_alias.get(wanted).into_iter().flatten();
                todo.extend(names.filter_map(|name| by_name.get(&name.replace('-', "_"))));
            }
        }
        chosen
    }

    /// The index files for the chosen modules alone, with the names of plain files: `(name, text)`.
    pub(crate) fn only(&self, chosen: &Chosen) -> Vec<(&'static str, String)> {
        let names: BTreeSet<String> = chosen.iter().map(|path| module_name(path)).collect();
        let mut dep = String::new();
        for line in self.dep.lines() {
            if let Some((path, needs)) = line.split_once(':')
                && chosen.contains(path)
            {
                let _ = write!(dep, "{}:", plain_name(path));
                needs.split_whitespace().for_each(|path| {
                    let _ = write!(dep, " {}", plain_name(path));
                });
                dep.push('\n');
            }
        }
        let keep = |text: &str, name: fn(&str) -> Option<&str>| {
            let wanted = |line: &&str| {
                name(line).is_some_and(|name| names.contains(&name.replace('-', "_")))
            };
            text.lines().filter(wanted).fold(String::new(), |text, line| text + line + "\n")
        };
        let alias =
            keep(&self.alias, |line| line.strip_prefix("alias ")?.split_whitespace().next_back());
        let softdep =
            keep(&self.softdep, |line| line.strip_prefix("softdep ")?.split_whitespace().next());
        vec![
            ("modules.dep", dep),
            ("modules.alias", alias),
            ("modules.softdep", softdep),
            ("modules.builtin", self.builtin.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ModuleIndex {
        ModuleIndex {
            dep: "\
kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz:
kernel/drivers/net/wireless/intel/iwlwifi/iwlwifi.ko.xz: kernel/net/wireless/cfg80211.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/net/veth.ko.xz:
kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/other/crc32c-odd.ko.xz:
kernel/sound/snd.ko.xz:
"
            .to_owned(),
            alias: "\
# Aliases extracted from modules themselves.
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias crc32c crc32c_odd
alias pci:v1sv* iwlwifi
"
            .to_owned(),
            softdep: "# Soft dependencies\nsoftdep libcrc32c pre: crc32c\nsoftdep snd pre: x\n".to_owned(),
            builtin: "kernel/fs/proc/proc.ko\n".to_owned(),
        }
    }

    #[test]
    fn takes_what_the_rules_say_and_what_that_needs() {
        expect_test::expect![[r#"
            {
                "kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz",
                "kernel/drivers/net/net_failover.ko.xz",
                "kernel/drivers/net/virtio_net.ko.xz",
                "kernel/fs/xfs/xfs.ko.xz",
                "kernel/lib/libcrc32c.ko.xz",
                "kernel/net/core/failover.ko.xz",
                "kernel/other/crc32c-odd.ko.xz",
            }
        "#]]
        .assert_debug_eq(&index().choose());
    }

    #[test]
    fn index_files_name_only_what_is_taken() {
        let mut text = String::new();
        for (name, body) in index().only(&index().choose()) {
            let _ = write!(text, "{name}\n{body}");
        }
        expect_test::expect![[r#"
            modules.dep
            kernel/drivers/net/ethernet/intel/e1000/e1000.ko:
            kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
            kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
            kernel/net/core/failover.ko:
            kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
            kernel/lib/libcrc32c.ko:
            kernel/other/crc32c-odd.ko:
            modules.alias
            alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
            alias crc32c crc32c_odd
            modules.softdep
            softdep libcrc32c pre: crc32c
            modules.builtin
            kernel/fs/proc/proc.ko
        "#]]
        .assert_eq(&text);
    }
}

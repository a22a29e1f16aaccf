//! Which parts of an inventory to read: one, or several together.

use std::ops::{BitOr, BitOrAssign};

/// A set of parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parts(u16);

impl Parts {
    /// No part.
    pub const NONE: Self = Self(0);
    /// SMBIOS, firmware, memory modules, BMC, operating system.
    pub const MACHINE: Self = Self(1);
    /// Processors, caches, memory.
    pub const TOPOLOGY: Self = Self(1 << 1);
    /// PCI devices.
    pub const PCI: Self = Self(1 << 2);
    /// Network interfaces.
    pub const NICS: Self = Self(1 << 3);
    /// Disks.
    pub const DISKS: Self = Self(1 << 4);
    /// InfiniBand and RoCE.
    pub const INFINIBAND: Self = Self(1 << 5);
    /// GPUs.
    pub const GPUS: Self = Self(1 << 6);
    /// What jobs can be granted.
    pub const DEVICES: Self = Self(1 << 7);
    /// What is not well. Cheap: some counters.
    pub const HEALTH: Self = Self(1 << 8);
    /// All parts.
    pub const ALL: Self = Self((1 << 9) - 1);

    /// One by one, in the order in which they are read: each after what it needs.
    pub(crate) const EACH: [Self; 9] = [
        Self::MACHINE,
        Self::TOPOLOGY,
        Self::PCI,
        Self::NICS,
        Self::DISKS,
        Self::INFINIBAND,
        Self::GPUS,
        Self::DEVICES,
        Self::HEALTH,
    ];

    /// All of `other` are among these.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What a single part is called: `disks`.
    #[must_use]
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 9] = [
            "machine",
            "topology",
            "pci",
            "nics",
            "disks",
            "infiniband",
            "gpus",
            "devices",
            "health",
        ];
        let place = Self::EACH.iter().position(|part| *part == self);
        place.map_or("several parts", |place| NAMES[place])
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// These and all that are told differently when these are: what a PCI device is, is seen in its
    /// network interface; and whether anything is well depends on everything.
    pub(crate) fn with_dependents(self) -> Self {
        let mut all = self;
        if all.contains(Self::TOPOLOGY) {
            all |= Self::PCI;
        }
        if all.contains(Self::PCI) {
            all |= Self::NICS | Self::DISKS | Self::INFINIBAND | Self::GPUS | Self::DEVICES;
        }
        if all.contains(Self::INFINIBAND) || all.contains(Self::GPUS) {
            all |= Self::DEVICES;
        }
        if all.is_empty() { all } else { all | Self::HEALTH }
    }
}

impl BitOr for Parts {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Parts {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_read_once_and_what_depends_on_it_too() {
        let all = Parts::EACH.into_iter().fold(Parts::NONE, |all, part| all | part);
        assert_eq!(all, Parts::ALL);
        assert_eq!(Parts::TOPOLOGY.with_dependents() | Parts::MACHINE, Parts::ALL);
        assert_eq!(Parts::NICS.with_dependents(), Parts::NICS | Parts::HEALTH);
        assert_eq!(Parts::NONE.with_dependents(), Parts::NONE);
    }
}

//! Pressure stall information: how long processes of a group waited for want of something (kernel:
//! `Documentation/accounting/psi.rst`).

use super::Cgroup;

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A processor.
    Cpu,
    /// Memory.
    Memory,
    /// A block device.
    Io,
}

/// Time that at least one process of the group waited, microseconds; `None` where the kernel
/// does not count it.
#[must_use]
pub fn waited_micros(group: &Cgroup, resource: Resource) -> Option<u64> {
    let file = match resource {
        Resource::Cpu => "cpu.pressure",
        Resource::Memory => "memory.pressure",
        Resource::Io => "io.pressure",
    };
    let text = group.read(file).ok()?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn the_time_of_some_is_read() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        let (_directory, group) = directory(&[("io.pressure", text)]);
        assert_eq!(waited_micros(&group, Resource::Io), Some(1234));
        assert_eq!(waited_micros(&group, Resource::Cpu), None);
    }
}

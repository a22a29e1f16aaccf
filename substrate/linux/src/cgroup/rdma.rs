//! The rdma controller: handles and objects of InfiniBand devices (kernel:
//! `Documentation/admin-guide/cgroup-v2.rst`, "RDMA").

use super::Cgroup;
use crate::Result;

/// Forbids a device, by its kernel name such as `mlx5_0`: no handle can be opened.
///
/// # Errors
/// `EINVAL` for a device that is not there; if the controller is not enabled.
pub fn forbid(group: &Cgroup, device: &str) -> Result<()> {
    group.write("rdma.max", &format!("{device} hca_handle=0 hca_object=0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::directory;

    #[test]
    fn the_device_is_named() {
        let (_directory, group) = directory(&[("rdma.max", "")]);
        forbid(&group, "mlx5_0").unwrap();
        assert_eq!(group.read("rdma.max").unwrap(), "mlx5_0 hca_handle=0 hca_object=0");
    }
}

//! What the provisioner tells of itself; see `docs/reference/metrics.md`.

use std::sync::Arc;

use metrics::Exposition;

use crate::{http_boot, provisioner::Provisioner, tftp};

/// Instruments of the boot servers. DHCP has its own.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) tftp: Arc<tftp::Meter>,
    pub(crate) http: Arc<http_boot::Meter>,
}

impl Provisioner {
    /// Writes what DHCP, TFTP and HTTP boot tell of themselves. Looks at the size of a file.
    pub fn expose(&self, out: &mut Exposition) {
        let hosts = self.0.hosts.borrow().clone();
        self.0.dhcp.expose(&hosts, out);
        self.0.meters.tftp.expose(out);
        self.0.meters.http.expose(out);
    }
}

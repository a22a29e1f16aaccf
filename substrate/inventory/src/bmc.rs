//! The baseboard management controller, asked over its system interface (IPMI 2.0).

use api::inventory::Bmc;

use crate::{ioctls::Ioctls, read::Reader};

/// `None` where there is no BMC.
pub(crate) fn collect(_read: &mut Reader<'_>, _ioctls: &dyn Ioctls) -> Option<Bmc> {
    None
}

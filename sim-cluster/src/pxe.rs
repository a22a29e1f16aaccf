//! What a machine's firmware and iPXE say before there is a boot script: DHCP and TFTP, for all
//! machines of this process.
//!
//! | module | is |
//! |---|---|
//! | [`dhcp`] | the packets of firmware and iPXE, pure |
//! | [`exchange`] | the one socket on port 68, and who waits for which answer |
//! | [`tftp`] | a download as firmware does it, pure, and its socket |

pub(crate) mod dhcp;
pub(crate) mod exchange;
pub(crate) mod tftp;

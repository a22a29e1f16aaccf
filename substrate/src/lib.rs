//! The node's side: stage-1 init, which brings a machine from firmware to the image's own init, and
//! the agent, which runs on the booted node. One static binary (`main.rs`), ring 2.
//!
//! | module | is |
//! |---|---|
//! | [`stage1`] | `/init` of the initramfs: network, enrolment, root image, `switch_root` |
//! | [`agent`] | what runs on the booted node |
//! | [`container`] | jobs: the container start and the init of containers |
//! | [`net`] | links, addresses and the DHCP client of stage 1 |
//! | [`run_directory`] | what agent and containers share of a run: files, their names and contents |
//! | [`overlay`] | applying overlay archives, in stage 1 and in the agent |
//! | [`identity`], [`tls`], [`fleet_port`] | who the node is, whom it trusts, how it asks |
//! | [`console`] | what stage 1 tells people |
//! | [`notify`] | what systemd is told |
//! | [`clock`], [`random`] | the only clock, the only source of chance |

pub mod agent;
pub mod clock;
pub mod console;
pub mod container;
pub mod fleet_port;
pub mod identity;
pub mod net;
pub mod notify;
pub mod overlay;
pub mod random;
pub mod run_directory;
#[cfg(test)]
pub(crate) mod samples;
pub mod stage1;
pub mod taken_down;
pub mod tls;

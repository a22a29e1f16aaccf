//! A simulated cluster: nodes without machines, by the thousand in one process, against
//! the real server.
//!
//! `cargo xtask sim-boot`, `sim-cluster`, `sim-kills` and `sim-attack` start `main.rs`;
//! `vm-tests/tests/sim.rs` uses [`simulated_node`] and [`image`] alone, with a server in
//! its own process.
//!
//! ```text
//!   namespace of the nodes                      namespace of the server
//!   ┌──────────────────────────┐  veth pair   ┌─────────────────────────────┐
//!   │ this process: N nodes,   │◄────────────►│ bedplate server             │
//!   │ each at its own address  │              │ registry (served by us)     │
//!   └──────────────────────────┘              └─────────────────────────────┘
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`boot`] | all nodes powered on at once, until the server calls each ready |
//! | [`work`] | all nodes at work, with faults if wanted, and the account at the end |
//! | [`kills`] | the server killed while all that can be changed is changed, and what it acknowledged beside what is left |
//! | [`attack`] | clients that behave, and how long they wait while somebody attacks the server |
//! | `power` | what its disk loses then |
//! | [`simulated_node`] | one node: what a machine fetches and says, from its boot script on |
//! | `pxe` | what its firmware says before that: DHCP and TFTP |
//! | `site`, `server`, `network`, `registry`, [`image`] | what nodes need around them |
//! | `journal` | what nodes really did, to hold the server's word against |
//! | `figures`, `process`, `report` | percentiles, children, the terminal |

pub mod attack;
pub mod boot;
mod figures;
pub mod image;
mod journal;
pub mod kills;
mod network;
mod power;
mod process;
mod pxe;
mod registry;
pub mod report;
mod server;
pub mod simulated_node;
mod site;
pub mod work;

/// Chance that can be had again: each part of a run (a node, say) has its own.
fn chance(seed: u64, part: u32) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ (u64::from(part) << 32))
}

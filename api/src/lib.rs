//! Wire types of Bedplate: everything that crosses a process boundary, and nothing else.
//!
//! Used by every other crate. Holds no behaviour beyond parsing, printing and checking a single
//! value; there is no I/O, no clock and no randomness here (ring 0).
//!
//! | module | crosses |
//! |---|---|
//! | [`ids`] | names, addresses and digests used by all the others |
//! | [`labels`] | labels of nodes, and selectors over them |
//! | [`hostlist`] | lists of node names as people write them: `n[0001-1024]` |
//! | [`machine`] | REST: nodes and profiles as a person declares them, and where each value came from |
//! | [`image`] | REST: OS images, their versions, long operations and their progress |
//! | [`overlay`] | REST: overlays; and the archive that carries rendered files to a node |
//! | [`status`] | REST: what a node is doing, and its history |
//! | [`stage1`] | the per-node initrd: what stage 1 must know before it can trust anybody |
//! | [`enroll`] | token for certificate, and the reports of a booting node |
//! | [`channel`] | the frames between a running agent and the server |
//! | [`inventory`] | hardware facts |
//! | [`device`] | kinds and names of devices that jobs are granted |
//! | [`run`] | what a node shall do for a workflow, and what became of it |
//! | [`sources`] | sources of images as they are stored and shown, without logins |
//! | [`stream`] | a program in a running job, its output, ports and files: requests and messages |
//! | [`access`] | REST: who is asking, API tokens, the audit log |
//! | [`alarm`] | REST: what wants attention before it fails, the server's certificates |
//! | [`quota`] | REST: what one user may have at the server, and has |
//! | [`rights`] | REST: what can be permitted, and on which things |
//! | [`workflow`] | REST: workflows, their stages and tasks, why they wait, what happened |
//! | [`problem`] | every error of the REST API (RFC 9457) |
//! | [`http`] | how long a connection stays open between two requests |
//! | [`address`] | addresses that are no peer's: what server and agent do not connect to for users |
//! | [`backoff`] | nothing: how long is waited before something is asked again |
//! | [`strict`] | how JSON is read that a person wrote |

pub mod access;
pub mod address;
pub mod alarm;
pub mod backoff;
pub mod channel;
pub mod device;
pub mod enroll;
pub mod hostlist;
pub mod http;
pub mod ids;
pub mod image;
pub mod inventory;
pub mod labels;
pub mod log;
pub mod machine;
pub mod overlay;
pub mod problem;
pub mod quota;
pub mod rights;
pub mod run;
pub mod sources;
pub mod stage1;
pub mod status;
pub mod stream;
pub mod strict;
pub mod visible;
pub mod workflow;

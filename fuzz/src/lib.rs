//! What must hold of each parser of strangers' input, whatever comes: the bodies of
//! the fuzz targets.
//!
//! `fuzz/runner` runs them under cargo-fuzz (`cargo xtask fuzz NAME`),
//! `fuzz/tests/replay.rs` replays `fuzz/corpus/NAME` on every run of the unit lane. A target
//! panics where something does not hold.
//!
//! A target is more than "it does not panic": what is read and written again must be the same,
//! what comes out is bounded by what went in, steps stay within their limit, and nothing
//! leaves its place.

mod boot;
mod copy;
mod documents;
mod images;
mod shell;
mod texts;
mod wire;

/// What a fuzzer runs.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the corpus's directory, and of the program of `fuzz/runner`.
    pub name: &'static str,
    /// Tries one input. True if it got past the parser: a corpus without such an
    /// input tests little.
    ///
    /// # Panics
    /// If something does not hold.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "cel", run: texts::cel },
    Target { name: "cluster", run: documents::cluster },
    Target { name: "copy-tree", run: copy::copy_tree },
    Target { name: "dhcp", run: boot::dhcp },
    Target { name: "enroll", run: wire::enroll },
    Target { name: "frames", run: wire::frames },
    Target { name: "hostlist", run: texts::hostlist },
    Target { name: "http", run: wire::http },
    Target { name: "layers", run: images::layers },
    Target { name: "manifest", run: images::manifest },
    Target { name: "shell", run: shell::shell },
    Target { name: "template", run: texts::template },
    Target { name: "tftp", run: boot::tftp },
    Target { name: "workflow", run: documents::workflow },
    Target { name: "yaml", run: documents::yaml },
];

/// Runs the target of a name on one input; the entry of `fuzz/runner`.
///
/// # Panics
/// If there is none, or if something does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target {name}"));
    (target.run)(input);
}

/// Cuts an input into parts, each with its length before it (16 bits, big-endian). What is left at
/// the end, or shorter than its length says, is a part as well.
fn parts(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let [high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (part, behind) = rest.split_at(length);
        parts.push(part);
        input = behind;
    }
    parts
}

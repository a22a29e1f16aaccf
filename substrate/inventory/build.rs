//! Compiles the stub `libudev.a` that `libhwloc.a` links against, and puts it on the
//! linker's search path.
//!
//! `hwlocality-sys` asks pkg-config for hwloc with all that a static link needs, so every program
//! that uses this crate is linked with `-ludev`: the static agent, which cannot have the real one,
//! and tests, which would otherwise need `libudev-dev`. See `stub/libudev.c`.

fn main() {
    println!("cargo::rerun-if-changed=stub/libudev.c");
    cc::Build::new().file("stub/libudev.c").cargo_metadata(false).compile("udev");
    if let Ok(directory) = std::env::var("OUT_DIR") {
        println!("cargo::rustc-link-search=native={directory}");
    }
}

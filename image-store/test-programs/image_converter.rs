//! The image converter of the tests: the one that ships, and things that it does on demand
//! inside of its jail.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{self, Write as _},
    process::{Command, ExitCode},
    time::Duration,
};

use rustix::{
    mount::MountFlags,
    net::{AddressFamily, SocketType},
};

fn main() -> ExitCode {
    image_store::converter::main(probe)
}

/// What a test asks for, by name; what it returns is told as warnings of the image.
fn probe(name: &str) -> Vec<String> {
    match name {
        "abort" => std::process::abort(),
        "panic" => panic!("a mistake in the converter"),
        "use up memory" => use_up_memory(),
        "hold what an image may" => hold_what_an_image_may(),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "talk nonsense" => {
            let mut out = io::stdout();
            let _ = out.write_all(b"zzzzzz\n").and_then(|()| out.flush());
            Vec::new()
        }
        "break out" => break_out(),
        other => vec![format!("{other}: no such probe")],
    }
}

fn use_up_memory() -> Vec<String> {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; 16 << 20]);
    }
}

/// What the budget allows, and what eight threads take that read layers packed by zstd, all at
/// once. Nothing is written to it: the limit is one of address space.
fn hold_what_an_image_may() -> Vec<String> {
    let size = usize::try_from(image_store::budget::MAX_HELD_BYTES).unwrap_or(usize::MAX);
    let held = vec![0_u8; size];
    let together = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (window, chunks) = (vec![0_u8; 32 << 20], vec![0_u8; 4 << 20]);
                together.wait();
                std::hint::black_box((&window, &chunks));
            });
        }
    });
    vec![format!("held {} MiB, and eight layers beside it", std::hint::black_box(held).len() >> 20)]
}

/// Tries what the jail forbids: `what: what came of it`.
fn break_out() -> Vec<String> {
    let mut tried = Vec::new();
    let mut attempt = |what: &str, done: io::Result<()>| {
        tried.push(match done {
            Ok(()) => format!("{what}: done"),
            Err(error) => format!("{what}: {:?}", error.kind()),
        });
    };
    for (what, family) in [
        ("TCP socket", AddressFamily::INET),
        ("UNIX socket", AddressFamily::UNIX),
        ("netlink", AddressFamily::NETLINK),
    ] {
        attempt(
            what,
            rustix::net::socket(family, SocketType::DGRAM, None).map(drop).map_err(Into::into),
        );
    }
    attempt("read /etc/shadow", File::open("/etc/shadow").map(drop));
    attempt("read /usr", fs::read_dir("/usr").map(drop));
    attempt("write /tmp", File::create("/tmp/bedplate-broke-out").map(drop));
    attempt("remove a file", fs::remove_file("/tmp/bedplate-broke-out"));
    attempt("start a program", Command::new("/bin/true").spawn().map(drop));
    let parent = rustix::process::getppid();
    let signal = parent.map_or(Err(rustix::io::Errno::SRCH), rustix::process::test_kill_process);
    attempt("signal the server", signal.map_err(Into::into));
    let mount =
        rustix::mount::mount("none", "/", "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>);
    attempt("mount", mount.map_err(Into::into));
    // What it must be able to do.
    attempt(
        "start a thread",
        std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())),
    );
    tried
}

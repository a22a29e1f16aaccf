//! Small runs of both simulations, with the programs of this build. They need root, for their
//! network namespaces.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn simulate(arguments: &[&str]) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulation is a program, for it enters a namespace"
    )]
    let output = Command::new(env!("CARGO_BIN_EXE_sim-cluster")).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
    words
}

#[test]
fn twenty_machines_boot_at_once() {
    let words = simulate(&["boot", "--nodes", "20"]);
    assert!(words.contains("20 nodes, each ready once at its own address"), "{words}");
}

#[test]
fn twenty_nodes_work_while_everything_fails() {
    let words = simulate(&["work", "--nodes", "20", "--tasks", "200", "--faults", "--peace", "20"]);
    assert!(
        words.contains("200 tasks of 1 workflows on 20 nodes, each accounted for once"),
        "{words}"
    );
    assert!(words.contains("server killed 3 times") && words.contains("4 logs whole"), "{words}");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let words = simulate(&["kills", "--rounds", "5"]);
    assert!(words.contains("5 kills (seed 1)") && words.contains("all there"), "{words}");
}

#[test]
fn nothing_acknowledged_is_lost_with_what_was_not_synced() {
    let words = simulate(&["kills", "--rounds", "20", "--drop-unsynced", "--seed", "7"]);
    assert!(words.contains("20 kills (seed 7)") && words.contains("all there"), "{words}");
    assert!(!words.contains("cut 0 times") && !words.contains("with 0 sectors"), "{words}");
}

//! Who wants which pull, whose turn it takes, and what people are told of it.

use std::{
    pin::{Pin, pin},
    task::{Context, Waker},
};

use oci_pull::NoWaits;

use super::*;

const MIB: u64 = 1 << 20;
const REFERENCE: &str = "registry.example/x:1";

fn group(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn is_pending(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// What is received of a pull, and the pull.
type Enqueued = (PullUnderWay, oneshot::Receiver<Delivery>);

fn enqueue(pulls: &Pulls, of: u128, part: u32, user: &str, reference: &str) -> Enqueued {
    let requester =
        Requester { group: group(of), part, user: user.into(), waits: Arc::new(NoWaits) };
    pulls.enqueue(reference, requester, CancellationToken::new())
}

fn words(pulls: &Pulls, of: u128) -> Vec<String> {
    pulls.of_group(group(of)).into_values().collect()
}

#[tokio::test]
async fn a_pull_says_where_it_stands() {
    let pulls = Pulls::new(2, Turns::new(2));
    let enqueue = |of, part| enqueue(&pulls, of, part, "ann", REFERENCE);
    let ((first, _first), (second, _second), (third, _third)) =
        (enqueue(1, 0), enqueue(2, 0), enqueue(2, 3));
    let words = |of| words(&pulls, of);
    assert_eq!(words(1), ["registry.example/x:1 is looked for on the server"]);
    let place = first.transfer().permit().await;
    first.begins();
    assert_eq!(words(1), ["pulling registry.example/x:1: asking its registry"]);
    let mut of_second = pin!(second.transfer().permit());
    let mut of_third = pin!(third.transfer().permit());
    assert!(is_pending(of_second.as_mut()) && is_pending(of_third.as_mut()));
    let kept = "this user has 1 of the 2 places, and the last is kept for users who have none";
    assert_eq!(
        words(2),
        [
            format!("registry.example/x:1 is in the queue of pulls: number 1 of 2; {kept}"),
            format!(
                "registry.example/x:1 is in the queue of pulls: number 2 of 2, behind 1 of this user; {kept}"
            ),
        ]
    );
    first.pauses();
    drop(place);
    assert_eq!(words(1), ["registry.example/x:1 waits for its registry"]);
    assert!(!is_pending(of_second.as_mut()));
    first.begins();
    first.layers(120 * MIB);
    first.advance("layer aa", 10 * MIB, 50 * MIB);
    first.advance("layer bb", 5 * MIB, 70 * MIB);
    first.advance("layer aa", 35 * MIB, 50 * MIB);
    assert_eq!(words(1), ["pulling registry.example/x:1: 40 MiB of 120 MiB"]);
    let converting = second.conversion().permit().await;
    let mut of_first = pin!(first.conversion().permit());
    assert!(is_pending(of_first.as_mut()));
    assert_eq!(
        words(1),
        [format!(
            "registry.example/x:1 is here, and in the queue of conversions: number 1 of 1; {kept}"
        )]
    );
    drop(converting);
    assert!(!is_pending(of_first.as_mut()));
    first.convert();
    first.advance("layer aa", 7, 8);
    assert_eq!(words(1), ["converting registry.example/x:1 to squashfs"]);
    first.advance("squashfs", 11 * MIB, 300 * MIB);
    assert_eq!(words(1), ["converting registry.example/x:1 to squashfs: 11 MiB of 300 MiB"]);
}

#[test]
fn what_is_over_is_forgotten() {
    let pulls = Pulls::new(8, Turns::new(3));
    let (pull, _told) = enqueue(&pulls, 1, 3, "ann", REFERENCE);
    pull.found(&Digest([1; 32]));
    drop(pull);
    let board = pulls.lock();
    assert_eq!((board.pulls.len(), board.parts.len(), board.joinable.len()), (0, 0, 0));
}

/// Whether the second of two pulls joins the first when both bring the same.
fn joins(first: &str, second: &str) -> bool {
    let pulls = Pulls::new(8, Turns::new(3));
    let (of_first, _first) = enqueue(&pulls, 1, 0, "ann", first);
    let (of_second, _second) = enqueue(&pulls, 2, 0, "bob", second);
    of_first.found(&Digest([1; 32]));
    of_second.found(&Digest([1; 32]));
    assert!(!of_first.cancelled() && !of_first.has_joined());
    assert_eq!(of_second.cancelled(), of_second.has_joined());
    of_second.has_joined()
}

#[test]
fn a_pull_joins_one_that_surely_brings_the_same() {
    let digest = format!("registry.example/x@sha256:{}", "01".repeat(32));
    assert!(joins(REFERENCE, REFERENCE));
    assert!(joins(&digest, REFERENCE) && joins(&digest, &digest));
    // The next try of the first may bring something else.
    assert!(!joins(REFERENCE, &digest) && !joins(REFERENCE, "registry.example/x:2"));
    // Whoever runs the other registry would have it in hand.
    assert!(!joins("other.example/x:1", REFERENCE));
    assert!(!joins(&digest.replace("/x", "/y"), REFERENCE));
    assert!(!joins(&digest.replace("/x", ":5000/x"), REFERENCE));
}

#[test]
fn a_pull_that_finds_another_manifest_is_joined_for_the_old_one_no_more() {
    let pulls = Pulls::new(8, Turns::new(3));
    let (first, _first) = enqueue(&pulls, 1, 0, "ann", REFERENCE);
    first.found(&Digest([1; 32]));
    first.found(&Digest([2; 32]));
    let (second, _second) = enqueue(&pulls, 2, 0, "bob", REFERENCE);
    second.found(&Digest([1; 32]));
    assert!(!second.has_joined());
    let (third, _third) = enqueue(&pulls, 3, 0, "eve", REFERENCE);
    third.found(&Digest([2; 32]));
    assert!(third.has_joined());
}

#[tokio::test]
async fn a_pull_counts_for_who_asked_first_of_those_who_want_it() {
    let pulls = Pulls::new(2, Turns::new(2));
    let (first, mut of_first) = enqueue(&pulls, 1, 0, "ann", REFERENCE);
    let (second, mut of_second) = enqueue(&pulls, 2, 0, "bob", REFERENCE);
    let _place = first.transfer().permit().await;
    for pull in [&first, &second] {
        pull.found(&Digest([1; 32]));
    }
    assert!(second.cancelled() && !first.cancelled());
    // Another one of ann's waits: one place is kept.
    let (third, _third) = enqueue(&pulls, 3, 0, "ann", "registry.example/y");
    let mut of_third = pin!(third.transfer().permit());
    assert!(is_pending(of_third.as_mut()));
    pulls.leave(group(1));
    assert!(of_first.try_recv().is_err() && words(&pulls, 1).is_empty());
    assert!(!first.cancelled(), "bob wants it");
    assert!(!is_pending(of_third.as_mut()), "ann has none now");
    assert_eq!(words(&pulls, 2), ["registry.example/x:1 is looked for on the server"]);
    pulls.leave(group(2));
    assert!(first.cancelled() && of_second.try_recv().is_err());
    // Nobody joins what ends.
    let (late, _late) = enqueue(&pulls, 4, 0, "eve", REFERENCE);
    late.found(&Digest([1; 32]));
    assert!(!late.has_joined() && !late.cancelled());
}

#[tokio::test]
async fn who_joins_is_told_by_the_name_that_he_used_and_no_other() {
    let pulls = Pulls::new(1, Turns::new(1));
    let digest = format!("registry.example/x@sha256:{}", "01".repeat(32));
    let (first, _first) = enqueue(&pulls, 1, 0, "ann", &digest);
    let (second, _second) = enqueue(&pulls, 2, 0, "bob", REFERENCE);
    let (other, _other) = enqueue(&pulls, 3, 0, "eve", "registry.example/secret");
    first.found(&Digest([1; 32]));
    second.found(&Digest([1; 32]));
    let _place = other.transfer().permit().await;
    let mut of_first = pin!(first.transfer().permit());
    assert!(is_pending(of_first.as_mut()));
    assert_eq!(
        words(&pulls, 2),
        ["registry.example/x:1 is in the queue of pulls: number 1 of 1; all 1 places are taken"]
    );
}

#[test]
fn repositories_are_read_off_references() {
    for (reference, expected) in [
        ("registry.example/x:1", "registry.example/x"),
        ("registry.example:5000/a/x", "registry.example:5000/a/x"),
        ("registry.example:5000/a/x:1@sha256:00", "registry.example:5000/a/x"),
        ("x", "x"),
        ("x:1", "x"),
    ] {
        assert_eq!(repository(reference), expected);
    }
}

#[test]
fn sizes_have_few_digits() {
    let sizes =
        [0, 10_239, 10_240, 10 * MIB - 1, 10 * MIB, 120 * MIB, 10 << 30, u64::MAX].map(size);
    let words = ["0 B", "10239 B", "10 KiB", "10239 KiB", "10 MiB", "120 MiB", "10 GiB"];
    assert_eq!(sizes[..7], words);
    assert_eq!(sizes[7], "17179869183 GiB");
}

//! What is counted, refused, freed, and known again after a restart.

use std::thread;

use api::image::Artifact;
use document::plan::StoredFiles;
use image_catalog::JobImage;
use image_store::RunConfig;

use super::*;

fn workflow(number: u128) -> WorkflowId {
    WorkflowId(uuid::Uuid::from_u128(number))
}

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

/// No limits but one.
fn only(name: QuotaName, limit: u64) -> QuotaLimits {
    let mut limits = QuotaLimits::default();
    for other in QuotaName::ALL {
        limits.set(other, None);
    }
    limits.set(name, Some(limit));
    limits
}

/// A workflow with one of everything, and so many bytes of document.
fn small(documents: u64) -> Amounts {
    let one = Amounts::default().with(QuotaName::Workflows, 1).with(QuotaName::Tasks, 10);
    let one = one.with(QuotaName::Volumes, 2).with(QuotaName::VolumeBytes, 30);
    one.with(QuotaName::Files, 5).with(QuotaName::Documents, documents)
}

#[test]
fn each_quota_of_submissions_is_refused_by_its_name_and_freed() {
    for (name, each) in [
        (QuotaName::Workflows, 1),
        (QuotaName::Tasks, 10),
        (QuotaName::Volumes, 2),
        (QuotaName::VolumeBytes, 30),
        (QuotaName::Files, 5),
        (QuotaName::Documents, 100),
    ] {
        let (ledger, limits) = (QuotaLedger::default(), only(name, 2 * each));
        for number in [1, 2] {
            assert_eq!(ledger.has_room("ann", &small(100), &limits), Ok(()));
            assert_eq!(ledger.submit(workflow(number), "ann", small(100), &limits), Ok(()));
        }
        let exceeded = QuotaExceeded {
            user: "ann".to_owned(),
            name,
            used: 2 * each,
            more: each,
            limit: 2 * each,
        };
        let refused = Err(SubmissionRefused::Exceeded(exceeded.clone()));
        assert_eq!(ledger.has_room("ann", &small(100), &limits), refused);
        assert_eq!(ledger.submit(workflow(3), "ann", small(100), &limits), refused);
        assert_eq!(ledger.owner(workflow(3)), None, "what is refused is not counted");
        let told = exceeded.to_string();
        assert!(told.contains(&format!("quota `{}`", name.as_str())), "{told}");
        assert!(told.contains("bedplate workflow "), "{told}");
        assert_eq!(
            ledger.submit(workflow(4), "bob", small(100), &limits),
            Ok(()),
            "others have their own"
        );
        // What frees it.
        match name {
            QuotaName::Documents => ledger.forget(workflow(1)),
            _ => ledger.book().end(workflow(1)),
        }
        assert_eq!(ledger.submit(workflow(3), "ann", small(100), &limits), Ok(()));
    }
}

#[test]
fn a_document_is_held_after_the_end_and_nothing_after_it_is_forgotten() {
    let (ledger, limits) = (QuotaLedger::default(), QuotaLimits::default());
    ledger.submit(workflow(1), "ann", small(100), &limits).unwrap();
    ledger.book().end(workflow(1));
    assert_eq!(ledger.used("ann"), Amounts::default().with(QuotaName::Documents, 100));
    // Told once more, as rows are.
    ledger.book().end(workflow(1));
    assert_eq!(ledger.used("ann"), Amounts::default().with(QuotaName::Documents, 100));
    ledger.forget(workflow(1));
    assert_eq!((ledger.used("ann"), ledger.total()), (Amounts::default(), Amounts::default()));
    assert!(ledger.book().users.is_empty(), "nothing stays of a user who has nothing");
}

#[test]
fn requests_at_the_same_time_do_not_overshoot_together() {
    let (ledger, limits) = (&QuotaLedger::default(), &only(QuotaName::Workflows, 10));
    let submit = move |of: u128| {
        let ids = (0..50).map(move |number| workflow(of * 1_000 + number));
        ids.filter(|id| ledger.submit(*id, "ann", small(1), limits).is_ok()).count()
    };
    let taken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (1..=8).map(|of| scope.spawn(move || submit(of))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((taken, ledger.used("ann").get(QuotaName::Workflows)), (10, 10));

    let (ledger, limit) = (&QuotaLedger::default(), Some(1_000));
    ledger.submit(workflow(1), "ann", small(1), limits).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for _ in 0..50 {
                    let _ = ledger.reserve(workflow(1), QuotaName::Logs, 7, limit);
                }
            });
        }
    });
    assert_eq!(ledger.used("ann").get(QuotaName::Logs), 994, "142 times 7");
}

#[test]
fn bytes_on_disk_are_what_is_there_in_the_end() {
    let (ledger, limits) = (QuotaLedger::default(), QuotaLimits::default());
    let logs = || ledger.used("ann").get(QuotaName::Logs);
    ledger.submit(workflow(1), "ann", small(1), &limits).unwrap();
    ledger.reserve(workflow(1), QuotaName::Logs, 100, Some(100)).unwrap();
    let exceeded = ledger.reserve(workflow(1), QuotaName::Logs, 1, Some(100)).unwrap_err();
    assert_eq!((exceeded.used, exceeded.more, exceeded.limit), (100, 1, 100));
    assert!(exceeded.to_string().contains("`bedplate workflow delete`"), "{exceeded}");
    // Of a long log the middle went.
    ledger.settle(workflow(1), QuotaName::Logs, 100, 0, 60);
    assert_eq!(logs(), 60);
    ledger.settle(workflow(1), QuotaName::Logs, 0, 60, 20);
    assert_eq!(logs(), 20);
    // Of one whose owner is not known nothing is counted, and nothing refused.
    ledger.reserve(workflow(9), QuotaName::Logs, u64::MAX, Some(0)).unwrap();
    assert_eq!(ledger.total().get(QuotaName::Logs), 20);
}

#[test]
fn an_image_is_charged_to_whom_it_was_made_for_until_it_is_gone() {
    let ledger = QuotaLedger::default();
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    let images = |user: &str| ledger.used(user).get(QuotaName::Images);
    ledger.has_room_for_image(&ann, Some(100)).unwrap();
    ledger.take_image(digest(1), &ann, 80, Some(100)).unwrap();
    ledger.has_room_for_image(&ann, Some(100)).unwrap();
    assert!(ledger.take_short_of_images().is_empty());
    let exceeded = ledger.take_image(digest(2), &ann, 21, Some(100)).unwrap_err();
    assert_eq!((exceeded.used, exceeded.more), (80, 21));
    ledger.take_image(digest(3), &bob, 80, Some(100)).unwrap();
    assert_eq!((images("ann"), images("bob")), (80, 80));
    assert_eq!(ledger.take_short_of_images(), BTreeSet::from([digest(1)]), "ann's, and not bob's");
    assert!(ledger.take_short_of_images().is_empty(), "each refusal is told once");
    ledger.take_image(digest(1), &ann, 90, Some(200)).unwrap();
    assert_eq!(images("ann"), 90, "made again, it is charged once");
    ledger.forget_image(&digest(1));
    ledger.forget_image(&digest(1));
    assert_eq!(images("ann"), 0);
}

#[test]
fn of_two_who_convert_the_same_image_each_gives_up_its_own() {
    let ledger = QuotaLedger::default();
    let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
    let used = || ["ann", "bob"].map(|user| ledger.used(user).get(QuotaName::Images));
    let take = |user: &Arc<str>| ledger.take_image(digest(1), user, 80, None).unwrap();
    let (first, second) = (take(&ann), take(&bob));
    assert_eq!(used(), [0, 80], "charged once");
    ledger.give_up_image(&digest(1), first);
    assert_eq!(used(), [0, 80], "bob's is another");
    ledger.keep_image(digest(1), &bob, 80, second);
    assert_eq!(used(), [0, 80]);
    ledger.forget_image(&digest(1));

    let (first, second) = (take(&ann), take(&bob));
    ledger.give_up_image(&digest(1), second);
    ledger.keep_image(digest(1), &ann, 80, first);
    assert_eq!(used(), [80, 0], "what is kept is charged");
    let third = take(&bob);
    ledger.keep_image(digest(1), &ann, 80, first);
    ledger.give_up_image(&digest(1), third);
    assert_eq!(used(), [80, 0]);
}

#[test]
fn a_user_leaves_with_nothing_under_way_and_takes_nothing_more() {
    let (ledger, limits) = (QuotaLedger::default(), QuotaLimits::default());
    for number in [1, 2] {
        ledger.submit(workflow(number), "ann", small(1), &limits).unwrap();
    }
    ledger.submit(workflow(3), "bob", small(1), &limits).unwrap();
    ledger.book().end(workflow(1));
    assert_eq!(ledger.let_go("ann"), Err(1));
    ledger.submit(workflow(4), "ann", small(1), &limits).unwrap();
    for number in [2, 4] {
        ledger.book().end(workflow(number));
    }
    let mut workflows = ledger.let_go("ann").unwrap();
    workflows.sort_unstable();
    assert_eq!(workflows, [workflow(1), workflow(2), workflow(4)]);
    let refused = ledger.submit(workflow(5), "ann", small(1), &limits);
    assert_eq!(refused, Err(SubmissionRefused::Leaving { user: "ann".to_owned() }));
    ledger.submit(workflow(6), "bob", small(1), &limits).unwrap();
    ledger.let_in("ann");
    ledger.submit(workflow(5), "ann", small(1), &limits).unwrap();
}

#[test]
fn the_same_is_known_after_a_restart() {
    let (ledger, limits) = (QuotaLedger::default(), QuotaLimits::default());
    ledger.submit(workflow(1), "ann", small(100), &limits).unwrap();
    ledger.submit(workflow(2), "ann", small(200), &limits).unwrap();
    ledger.book().end(workflow(2));
    ledger.reserve(workflow(2), QuotaName::Logs, 30, None).unwrap();
    ledger.reserve(workflow(1), QuotaName::Results, 40, None).unwrap();
    ledger.take_image(digest(1), &"ann".into(), 50, None).unwrap();

    let held = |number, owner: Option<&str>, documents, is_over| HeldWorkflow {
        id: workflow(number),
        owner: owner.map(str::to_owned),
        documents,
        is_over,
    };
    let workflows = vec![
        held(1, Some("ann"), 100, false),
        held(2, Some("ann"), 200, true),
        held(3, None, 1 << 40, false),
    ];
    let plans = HashMap::from([(workflow(1), small(0))]);
    let on_disk = HashMap::from([
        (workflow(2), Amounts::default().with(QuotaName::Logs, 30)),
        (workflow(1), Amounts::default().with(QuotaName::Results, 40)),
        // A directory that no workflow has any more.
        (workflow(9), Amounts::default().with(QuotaName::Logs, 7)),
    ]);
    let root = Artifact { format: "squashfs".to_owned(), digest: digest(2), size: 50 };
    let image = JobImage {
        manifest: digest(1),
        root,
        run: RunConfig::default(),
        indexes: None,
        pulled_by: Some("ann".to_owned()),
    };
    let before = KeptImage {
        image: JobImage { pulled_by: None, ..image.clone() },
        used: api::ids::Timestamp(0),
    };
    let images = [KeptImage { image, used: api::ids::Timestamp(0) }, before];
    let again = QuotaLedger::default();
    again.recall(workflows, &plans, &on_disk, &images);
    assert_eq!(again.used("ann"), ledger.used("ann"));
    assert_eq!(again.total(), ledger.total());
    assert_eq!(again.let_go("ann"), Err(1));
}

#[test]
fn a_plan_is_counted_by_its_tasks_and_each_file_once() {
    let text = "version: v1
files: {params: hello}
volumes:
  data:
    use: ephemeral
    ingress: [{source: file://params, destination: file://in}]
  large: {use: ephemeral, size: 1GB}
jobs:
  one: {image: docker://a, script: \"#!/bin/sh\\ntrue\\n\", mounts: {/data: data}}
  all: {image: docker://a, script: \"#!/bin/sh\\ntrue\\n\", task-array: {start: 1, end: 100}}
";
    let workflow = document::read_accepted(text).unwrap();
    let mut files = StoredFiles::new();
    for (key, contents) in document::plan::files(&workflow) {
        let number = u8::try_from(contents.len()).unwrap();
        files.insert(key, StoredFile { digest: digest(number), size: contents.len() as u64 });
    }
    let mut plan = Plan::of(&workflow, &files).unwrap();
    assert_eq!(of_plan(&plan).get(QuotaName::VolumeBytes), 1_000_000_000, "as a plan of before");
    plan.limit_volumes(7);
    assert_eq!(Plan::read(&plan.to_json().unwrap()).unwrap(), plan);
    let of = of_plan(&plan);
    assert_eq!(of.get(QuotaName::VolumeBytes), 1_000_000_007);
    let counted =
        [QuotaName::Workflows, QuotaName::Tasks, QuotaName::Volumes].map(|name| of.get(name));
    assert_eq!(counted, [1, 101, 2]);
    assert_eq!(of.get(QuotaName::Files), 15 + 5, "the same script twice is one file");
}

#[test]
fn who_has_most_gives_way_when_too_many_workflows_are_kept() {
    let (ledger, limits) = (QuotaLedger::default(), QuotaLimits::default());
    let mut number = 0;
    for (user, count) in [("ann", 10), ("bob", 3), ("eve", 2)] {
        for _ in 0..count {
            number += 1;
            ledger.submit(workflow(number), user, small(1), &limits).unwrap();
            ledger.book().end(workflow(number));
        }
        // What is not over does not count.
        ledger.submit(workflow(number + 100), user, small(1), &limits).unwrap();
    }
    let keep = |most: u32| -> Vec<(String, u32)> {
        ledger
            .users_over_share(most)
            .into_iter()
            .map(|(user, keep)| (user.to_string(), keep))
            .collect()
    };
    let wanted = |users: &[(&str, u32)]| -> Vec<(String, u32)> {
        users.iter().map(|(user, keep)| ((*user).to_owned(), *keep)).collect()
    };
    assert!(keep(15).is_empty());
    assert_eq!(keep(14), wanted(&[("ann", 9)]));
    assert_eq!(keep(9), wanted(&[("ann", 4)]), "2 and 3, and what is left");
    assert_eq!(keep(7), wanted(&[("bob", 2), ("ann", 2)]), "2 each, and one is left");
    assert_eq!(keep(0), wanted(&[("eve", 0), ("bob", 0), ("ann", 0)]));
    // The database has it no more.
    ledger.start_forgetting(&[workflow(1)]);
    assert!(keep(14).is_empty());
}

#[test]
fn what_is_never_handed_over_is_counted_no_more() {
    let (ledger, limits) = (QuotaLedger::default(), only(QuotaName::Workflows, 1));
    ledger.submit(workflow(1), "ann", small(1), &limits).unwrap();
    drop(ledger.until_handed_over(workflow(1)));
    assert_eq!((ledger.total(), ledger.let_go("ann")), (Amounts::default(), Ok(Vec::new())));
    ledger.let_in("ann");
    ledger.submit(workflow(2), "ann", small(1), &limits).unwrap();
    ledger.until_handed_over(workflow(2)).keep();
    assert_eq!(ledger.used("ann"), small(1));
}

#[test]
fn what_the_database_has_no_more_is_forgotten_once_and_counted_until_its_files_are_gone() {
    let ledger = QuotaLedger::default();
    let held = |number| HeldWorkflow {
        id: workflow(number),
        owner: Some("ann".into()),
        documents: 10,
        is_over: true,
    };
    let on_disk = HashMap::from([(workflow(1), Amounts::default().with(QuotaName::Logs, 7))]);
    ledger.recall(vec![held(1), held(2)], &HashMap::new(), &on_disk, &[]);
    assert_eq!(ledger.start_forgetting(&[workflow(1), workflow(9)]), [workflow(1), workflow(9)]);
    assert!(ledger.start_forgetting(&[workflow(1)]).is_empty());
    let left = Amounts::default().with(QuotaName::Documents, 10).with(QuotaName::Logs, 7);
    assert_eq!(ledger.used("ann"), left);
    assert_eq!(ledger.let_go("ann"), Ok(vec![workflow(2)]));
    ledger.forget(workflow(1));
    assert_eq!(ledger.used("ann"), Amounts::default().with(QuotaName::Documents, 10));
}

//! Tasks that add up, and one of each kind that does not.

use api::run::Usage;

use super::*;

const OK: Outcome = Outcome::Exited { code: 0 };
const BAD: Outcome = Outcome::Exited { code: 1 };

fn lost() -> Outcome {
    Outcome::Lost { why: "n1 was rebooted".to_owned(), rebooted: true }
}

fn attempt(number: u32, node: &str, outcome: Option<Outcome>) -> Attempt {
    Attempt {
        stage: 1,
        task: 7,
        attempt: number,
        member: 0,
        node: node.parse().unwrap(),
        cpus: vec![0],
        mems: vec![0],
        devices: Vec::new(),
        placed: Timestamp(0),
        started: Some(Timestamp(0)),
        ended: Some(Timestamp(9)),
        outcome,
        usage: Usage::default(),
        log_bytes: 0,
    }
}

/// Of run `run`, from `began` for five.
fn entry(run: u8, node: &str, boot: &str, began: i64, outcome: Option<Outcome>) -> Entry {
    let id = |number: u8| format!("{number:032x}");
    Entry {
        run: id(run).parse::<RunId>().unwrap(),
        workflow: id(99).parse().unwrap(),
        subject: "job work[7]".to_owned(),
        node: node.parse().unwrap(),
        boot: boot.into(),
        began: Timestamp(began),
        ended: Timestamp(began + 5),
        outcome,
    }
}

#[test]
fn a_task_that_failed_was_lost_and_succeeded_adds_up() {
    let attempts =
        [attempt(1, "n1", Some(BAD)), attempt(2, "n1", Some(lost())), attempt(3, "n2", Some(OK))];
    // What was lost had even succeeded; nobody was told.
    let did = [
        entry(1, "n1", "a", 0, Some(BAD)),
        entry(2, "n1", "a", 10, Some(OK)),
        entry(3, "n2", "c", 20, Some(OK)),
    ];
    assert!(check(&attempts, &did).is_empty());
    // An order that a node did not get is told again in its next boot.
    let again = [entry(3, "n2", "c", 20, None), entry(3, "n2", "d", 30, Some(OK))];
    assert!(check(&[attempt(1, "n2", Some(OK))], &again).is_empty());
    // A node that went before it began ran nothing.
    assert!(
        check(&[attempt(1, "n1", Some(lost())), attempt(2, "n2", Some(OK))], &again).is_empty()
    );
}

#[test]
fn what_does_not_add_up_is_told() {
    let good = [attempt(1, "n1", Some(OK))];
    let ran = [entry(1, "n1", "a", 0, Some(OK))];
    let told = |attempts: &[Attempt], did: &[Entry], words: &str| {
        let wrong = check(attempts, did).join("; ");
        assert!(wrong.contains(words), "{words} is not in: {wrong}");
    };
    told(&[attempt(2, "n1", Some(OK))], &ran, "attempt 2 comes where 1 should");
    told(&[attempt(1, "n1", None)], &ran, "attempt 1 is not over");
    told(&[attempt(1, "n1", Some(BAD))], &[entry(1, "n1", "a", 0, Some(BAD))], "attempt 1 of 1 is");
    told(
        &[attempt(1, "n1", Some(OK)), attempt(2, "n1", Some(OK))],
        &ran,
        "2 attempts on n1 ended as",
    );
    told(&good, &[], "1 attempts on n1 ended as");
    let elsewhere = entry(2, "n2", "b", 3, Some(OK));
    told(&good, &[ran[0].clone(), elsewhere.clone()], "it ran on n1 and n2 at once");
    told(&good, &[ran[0].clone(), elsewhere], "n2 ran it 1 times, the server knows of 0");
    told(&good, &[ran[0].clone(), entry(1, "n2", "b", 30, None)], "was on n1 and n2");
    told(&good, &[ran[0].clone(), entry(1, "n1", "a", 30, None)], "was begun twice on n1");
}

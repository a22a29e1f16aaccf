//! Logs of runs that are over.

use super::*;

/// An ended run of job a on n1, of whose log 10 of 30 bytes came.
fn ended_without_its_log() -> (Stage, RunId, NodeId) {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    let (run, node) = stage.runs["job a"];
    let mut report = ended(run, OK, at(2));
    if let RunState::Ended(end) = &mut report.state {
        end.log_bytes = 30;
    }
    stage.tick(2);
    stage.engine.handle_report(node, &report, at(2));
    stage.engine.log_grew(run, 10);
    stage.proceed(2);
    stage.lines.clear();
    (stage, run, node)
}

#[test]
fn the_rest_of_a_log_is_awaited_until_it_is_here_or_cannot_come() {
    const FORGOTTEN: &str = "2   forget 1 of 1\n";
    let waits = |what: &str, happens: &dyn Fn(&mut Stage, RunId, NodeId), is_forgotten: bool| {
        let (mut stage, run, node) = ended_without_its_log();
        assert!(stage.engine.runs.contains_key(&run));
        happens(&mut stage, run, node);
        stage.proceed(2);
        assert_eq!(stage.engine.runs.contains_key(&run), !is_forgotten, "{what}");
        assert_eq!(stage.lines, if is_forgotten { FORGOTTEN } else { "" }, "{what}");
    };
    let listed = |runs: &[RunId]| runs.iter().map(|run| (*run, false)).collect();
    waits("all is here", &|stage, run, _| stage.engine.log_grew(run, 30), true);
    waits("more is here", &|stage, run, _| stage.engine.log_grew(run, 29), false);
    waits(
        "its node went away",
        &|stage, _, _| {
            stage.engine.node_is(NodeFacts { is_ready: false, ..facts(1, 1, "boot1") }, at(3))
        },
        false,
    );
    waits(
        "its node still has it",
        &|stage, run, node| stage.engine.runs_listed(node, "boot1", &listed(&[run]), at(3)),
        false,
    );
    waits(
        "its node does not have it",
        &|stage, _, node| stage.engine.runs_listed(node, "boot1", &listed(&[]), at(3)),
        true,
    );
    waits(
        "another node does not have it",
        &|stage, _, _| stage.engine.runs_listed(node_id(9), "boot1", &listed(&[]), at(3)),
        false,
    );
    waits(
        "it was rebooted",
        &|stage, _, _| stage.engine.node_is(facts(1, 1, "boot2"), at(3)),
        true,
    );
    waits("it was deleted", &|stage, _, node| stage.engine.node_removed(node, at(3)), true);
    waits(
        "it was deleted while nobody looked",
        &|stage, _, _| stage.engine.abandon_all_but(&std::collections::BTreeSet::new(), at(3)),
        true,
    );
    // By the clock that nobody sets, from the first look after the end.
    let waits_for = |what: &str, wall: i64, seconds: i64, is_forgotten: bool| {
        let look = |stage: &mut Stage, _, _| {
            stage.engine.tick(at(3), uptime(3));
            stage.engine.tick(at(wall), uptime(3 + seconds));
        };
        waits(what, &look, is_forgotten);
    };
    waits_for("not long enough", 602, 599, false);
    waits_for("long enough", 603, 600, true);
    waits_for("the machine's clock was set forward", 1_000_000, 1, false);
    waits_for("it was set back", -1_000_000, 600, true);
}

//! Expressions and columns over made-up nodes.

use std::sync::Arc;

use access::Visibility;
use api::{
    ids::Timestamp,
    status::{NodeStatus, Phase},
};
use expect_test::expect;
use rest::Abandoned;
use serde_json::json;

use super::{meter::Meter, *};

fn facts() -> Facts {
    let inventory: Inventory = serde_json::from_value(json!({
        "system": {"product": "AS-4125"},
        "topology": {"cpu-model": "AMD EPYC 9354", "pus": 128, "cpu-flags": ["avx512f", "sse2"],
            "cores": [{"index": 0, "pus": [0, 1]}, {"index": 1, "pus": [2, 3]}]},
        "memory-bytes": 549_755_813_888_u64,
        "nics": [{"name": "lan0", "state": "up", "speed-mbits": 25000}, {"name": "lan1", "state": "down"}],
        "gpus": [{"pci": "0000:3b:00.0", "vendor": "nvidia", "model": "H100", "memory-bytes": 85_899_345_920_u64}],
        "devices": [
            {"name": "nvidia.com/gpu=0", "source": "built-in"},
            {"name": "nvidia.com/gpu=1", "source": "built-in"},
            {"name": "nvidia.com/gpu=2", "source": "built-in", "sick": "uncorrected errors"}],
        "faults": [{"level": "warning", "subject": "nic lan1", "message": "no link"}]
    }))
    .unwrap();
    Facts::new(&node(), &inventory).unwrap()
}

fn node() -> AskedNode {
    let status = NodeStatus {
        phase: Phase::Ready,
        percent: None,
        reason: None,
        since: Timestamp(0),
        last_seen: None,
        overdue_seconds: None,
        unproven: None,
        armed: false,
        address: None,
        image: Some("debian@3".to_owned()),
        agent_version: None,
        boot_ms: None,
        drain: None,
        held: None,
        refuses: None,
        epoch: 0,
        conflict: None,
        volumes: None,
    };
    let labels = [("rack", "a1"), ("example.org/zone", "north-1"), ("gpu-kind", "h100")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    AskedNode { name: "n1".parse().unwrap(), labels, status }
}

fn ask(expression: &str) -> String {
    match Filter::read(expression) {
        Ok(filter) => match filter.is_true_of(&facts(), &Abandoned::default()) {
            Ok(is_meant) => is_meant.to_string(),
            Err(why) => format!("unclear: {why}"),
        },
        Err(Diagnostic { line, column, message }) => format!("{line}:{column}: {message}"),
    }
}

#[test]
fn expressions_that_can_be_answered() {
    for (expression, expected) in [
        ("true", "true"),
        ("name == 'n1' && status.phase == 'ready'", "true"),
        ("status.image.startsWith('debian@')", "true"),
        ("memory_bytes >= 512 * GiB", "true"),
        ("memory_bytes > 512 * GiB", "false"),
        ("topology.pus == 128 && size(topology.cores) == 2", "true"),
        ("gpus.exists(g, g.model.contains('H100') && g.memory_bytes == 80 * GiB)", "true"),
        ("gpus.all(g, g.vendor == 'nvidia')", "true"),
        ("size(nics.filter(n, n.state == 'up')) == 1", "true"),
        ("nics.exists_one(n, has(n.speed_mbits))", "true"),
        ("'avx512f' in topology.cpu_flags", "true"),
        ("size(faults) > 0", "true"),
        // The example of docs/reference/devices.md.
        (
            "size(devices.filter(d, d.name.startsWith('nvidia.com/gpu=') && !has(d.sick))) >= 2",
            "true",
        ),
        ("topology.cpu_model.matches('EPYC 9[0-9]{3}')", "true"),
        ("has(bmc.firmware)", "false"),
        ("labels.rack == 'a1'", "true"),
        ("labels['example.org/zone'] == 'north-1' && labels['gpu-kind'] != 'a100'", "true"),
        ("'nothing' in labels || has(labels.nothing)", "false"),
        ("labels.nothing == 'x'", "unclear: it does not tell nothing"),
        ("labels.rack.startsWith('b')", "false"),
        ("nics.exists(n, gpus.exists(g, g.pci == n.name))", "false"),
    ] {
        assert_eq!(ask(expression), expected, "{expression}");
    }
}

#[test]
fn what_a_node_does_not_tell_is_unclear() {
    let answers: Vec<String> = [
        "firmware.secure_boot",
        "has(firmware.secure_boot) && firmware.secure_boot",
        "bmc.firmware == '2.10'",
        "memory_bytes",
        "memory_bytes > 'many'",
    ]
    .iter()
    .map(|expression| format!("{expression} -> {}\n", ask(expression)))
    .collect();
    expect![[r#"
        firmware.secure_boot -> unclear: it does not tell secure_boot
        has(firmware.secure_boot) && firmware.secure_boot -> false
        bmc.firmware == '2.10' -> unclear: it does not tell firmware
        memory_bytes -> unclear: the expression gives a value of type int, neither true nor false
        memory_bytes > 'many' -> unclear: found no matching overload for '_>_' applied to '(int, string)'
    "#]]
    .assert_eq(&answers.concat());
}

#[test]
fn diagnostics_are_told_with_their_place() {
    let answers: Vec<String> = [
        "",
        "memory_bytes >",
        "memory-bytes > 3",
        "memry_bytes > 3",
        "topology.cpu_modl == 'x'",
        "size(gpus) > 0 &&\n  gpus.exists(g, g.modl == 'x')",
        "getenv('HOME') == ''",
        "gpus.map(g, g.model) == []",
        "nics.all(a, nics.all(b, nics.all(c, true)))",
        "name + name + name + name + name + name + name + name + name + name == ''",
        "Node{name: 'x'} == 1",
    ]
    .iter()
    .map(|expression| format!("{expression:?} -> {}\n", ask(expression)))
    .collect();
    expect![[r#"
        "" -> 1:1: unexpected end of the expression
        "memory_bytes >" -> 1:15: unexpected end of the expression
        "memory-bytes > 3" -> 1:1: no field is called `memory`; did you mean `memory_bytes`? `_` stands for `-`
        "memry_bytes > 3" -> 1:1: no field is called `memry_bytes`; did you mean `memory_bytes`?
        "topology.cpu_modl == 'x'" -> 1:9: no field is called `cpu_modl`; did you mean `cpu_model`?
        "size(gpus) > 0 &&\n  gpus.exists(g, g.modl == 'x')" -> 2:19: no field is called `modl`; did you mean `model`?
        "getenv('HOME') == ''" -> 1:7: there is no function `getenv`; there are contains, double, endsWith, int, matches, size, startsWith, string, type, uint
        "gpus.map(g, g.model) == []" -> 1:9: `map` cannot be used here; `exists`, `all`, `exists_one` and `filter` can
        "nics.all(a, nics.all(b, nics.all(c, true)))" -> 1:33: more than 2 loops within each other
        "name + name + name + name + name + name + name + name + name + name == ''" -> 1:6: more than 8 additions
        "Node{name: 'x'} == 1" -> 1:5: there are no types to make values of
    "#]].assert_eq(&answers.concat());
    assert!(ask(&"a".repeat(2_000)).contains("longer than 1024 bytes"));
}

#[test]
fn no_expression_brings_the_server_down() {
    for expression in [
        "(".repeat(1_000),
        "[".repeat(1_000),
        "!".repeat(1_000),
        "-".repeat(1_000),
        "a.".repeat(500),
        format!("{}true{}", "(".repeat(500), ")".repeat(500)),
        "true ? ".repeat(140),
        "\u{0}\u{fffd}é".to_owned(),
        "'".to_owned(),
    ] {
        assert!(Filter::read(&expression).is_err(), "{expression}");
    }
}

#[test]
fn columns_are_paths() {
    let columns = Columns::parse(
        "name, topology.cpu-model,gpus.model,memory_bytes,bmc.address,nics.speed_mbits",
    )
    .unwrap();
    let values = columns.of(&facts());
    expect![[r#"["n1","AMD EPYC 9354",["H100"],549755813888,null,[25000]]"#]]
        .assert_eq(&serde_json::to_string(&values).unwrap());
    let labels =
        Columns::parse("labels.rack,labels.gpu-kind,labels.example.org/zone,labels.nothing")
            .unwrap();
    expect![[r#"["a1","h100","north-1",null]"#]]
        .assert_eq(&serde_json::to_string(&labels.of(&facts())).unwrap());
    let wrong = |text: &str| {
        Columns::parse(text)
            .map_err(|diagnostic| format!("{}: {}", diagnostic.column, diagnostic.message))
    };
    expect!["6: no field is called `topolgy`; did you mean `topology`?"]
        .assert_eq(&wrong("name,topolgy.pus").unwrap_err());
    assert!(wrong("").is_err() && wrong("name,").is_err() && wrong("name.nothing").is_err());
    assert!(wrong(&["name"; 65].join(",")).is_err());
}

/// Steps of an expression, and what came of it.
fn steps(expression: &str, abandoned: &Abandoned) -> (u64, Result<bool, AnswerError>) {
    let meter = Arc::new(Meter::new(abandoned));
    let result = Filter::read(expression).unwrap().evaluate(&facts(), &meter);
    (meter.steps(), result)
}

fn numbers(count: usize) -> String {
    format!("[{}]", vec!["1"; count].join(","))
}

#[test]
fn steps_are_counted_inside_loops() {
    let of = |expression: &str| steps(expression, &Abandoned::default()).0;
    for (expression, expected) in [
        ("true".to_owned(), 0),
        (format!("{}.all(a, true)", numbers(20)), 20),
        (format!("{}.exists(a, false)", numbers(20)), 20),
        (format!("{}.exists_one(a, a == 2)", numbers(20)), 20),
        (format!("size({}.filter(a, a == 1)) == 20", numbers(20)), 20),
        // The inner loop's for each element of the outer one.
        (format!("{0}.all(a, {0}.all(b, true))", numbers(20)), 20 + 400),
        (format!("{0}.all(a, size({0}.filter(b, true)) == 20)", numbers(20)), 20 + 400),
        // The regular expression is written out, so it is known.
        ("'x'.matches('y') || matches('x', 'x')".to_owned(), 2),
        (format!("{}.all(a, 'x'.matches('x'))", numbers(20)), 40),
    ] {
        assert_eq!(of(&expression), expected, "{expression}");
    }
    let loops = |count| of(&format!("{}.all(a, 'x'.matches('x'))", numbers(count)));
    assert!(loops(400) <= 10 * loops(50), "{} and {}", loops(400), loops(50));
}

/// As the attack has it: two loops over what is written out, and regular expressions within, of
/// which there are more than are kept.
#[test]
fn an_expression_ends_when_its_steps_are_used_up() {
    let outer = numbers(60);
    let inner: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    let patterns = "name.matches(string(b)) || true";
    let expression = format!("{outer}.all(a, [{}].all(b, {patterns}))", inner.join(","));
    let (taken, result) = steps(&expression, &Abandoned::default());
    assert_eq!(taken, super::meter::MAX_STEPS);
    assert_eq!(
        result.unwrap_err().to_string(),
        "it takes more than 2000000 steps; loop over less, or match less"
    );
    // What is allowed goes through.
    let expression =
        format!("{0}.all(a, {0}.all(b, name.matches(string(a)) || true))", numbers(220));
    let (taken, result) = steps(&expression, &Abandoned::default());
    assert!(taken > 2 * 220 * 220 && taken < super::meter::MAX_STEPS, "{taken}");
    assert!(result.unwrap());
}

#[test]
fn no_operator_forgets_that_the_steps_are_used_up() {
    let abandoned = Abandoned::default();
    abandoned.set();
    for expression in [
        "nics.all(a, true)",
        "nics.all(a, true) || true",
        "true && !nics.all(a, true) || name == 'n1'",
        "nics.exists(a, nics.exists(b, true))",
        "size(nics.filter(a, true)) == 0 || true",
        "name.matches('n') || true",
    ] {
        let (_, result) = steps(expression, &abandoned);
        assert!(result.unwrap_err().to_string().starts_with("it takes more than"), "{expression}");
    }
}

#[test]
fn regular_expressions_are_bounded() {
    let attack = r"name.matches('(\\pL{40}){5}z')";
    expect![[
        r#"1:14: no regular expression: it is too large; compiled it may have 1048576 bytes"#
    ]]
    .assert_eq(&ask(attack));
    expect![[r#"1:14: no regular expression: unclosed group"#]]
        .assert_eq(&ask("name.matches('(')"));
    assert_eq!(ask(r"name.matches('^\\w+[0-9]{1,5}$')"), "true");
    // One that only the node tells is refused when it is met.
    let told = ask(r"name.matches('(\\pL{40}' + '){5}z')");
    assert!(told.starts_with("unclear: ") && told.contains("too large"), "{told}");
}

/// A question is asked of what is told: its answer is the same whatever stands in what is not.
#[test]
fn a_serial_number_cannot_be_guessed_by_questions() {
    let ask = |sight: Visibility, question: &str| {
        let inventory: Inventory = serde_json::from_value(json!({
            "system": {"serial": "MARKER"},
            "disks": [{"name": "sda", "size-bytes": 1, "serial": "MARKER"}],
        }))
        .unwrap();
        let facts = Facts::new(&node(), &sight.of_thing(inventory)).unwrap();
        let filter = Filter::read(question).unwrap();
        filter.is_true_of(&facts, &Abandoned::default()).map_err(|error| error.to_string())
    };
    let question = "system.serial.startsWith('MARK')";
    assert_eq!(ask(Visibility::Full, question), Ok(true));
    assert_eq!(ask(Visibility::Public, question), Err("it does not tell serial".to_owned()));
    assert_eq!(ask(Visibility::Public, "disks.exists(d, has(d.serial))"), Ok(false));
}

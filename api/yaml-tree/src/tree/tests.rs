//! Texts in, trees in short form out.

use super::*;

/// `{k@LINE: v@LINE, …}`.
fn short(tree: &Tree) -> String {
    let line = tree.at.line;
    match &tree.kind {
        Kind::Scalar { text, plain: true } => format!("{text}@{line}"),
        Kind::Scalar { text, plain: false } => format!("{text:?}@{line}"),
        Kind::List(elements) => {
            format!("[{}]", elements.iter().map(short).collect::<Vec<_>>().join(", "))
        }
        Kind::Map(entries) => {
            let entry = |(key, value): &(Key, Tree)| format!("{}: {}", key.text, short(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn read(text: &str) -> String {
    match parse(text) {
        Ok(tree) => tree.map_or_else(String::new, |tree| short(&tree)),
        Err(Unreadable { at, message }) => format!("{}:{}: {message}", at.line, at.column),
    }
}

#[test]
fn an_alias_is_what_its_anchor_is_at_with_its_lines() {
    assert_eq!(read("a: &x 1\nb: *x\n"), "{a: 1@1, b: 1@1}");
    assert_eq!(read("a: &x [1, &y 2]\nb: [*x, *y]\n"), "{a: [1@1, 2@1], b: [[1@1, 2@1], 2@1]}");
    assert_eq!(read("a: &x {p: 'q'}\nb: *x\n"), "{a: {p: \"q\"@1}, b: {p: \"q\"@1}}");
    // The newest anchor of a name counts.
    assert_eq!(read("a: &x 1\nb: &x 2\nc: *x\n"), "{a: 1@1, b: 2@2, c: 2@2}");
    assert_eq!(read("a: &x\nb: *x\n"), "{a: ~@1, b: ~@1}");
}

#[test]
fn a_merge_adds_what_is_not_written() {
    let common = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\n";
    let merged =
        |line: &str| read(&format!("{common}{line}")).split_once("z: ").unwrap().1.to_owned();
    assert_eq!(merged("z: {<<: *x, b: 9}"), "{b: 9@3, a: 1@1}}");
    assert_eq!(merged("z: {b: 9, <<: *x}"), "{b: 9@3, a: 1@1}}");
    assert_eq!(merged("z: {<<: [*x, *y]}"), "{a: 1@1, b: 2@1, c: 4@2}}");
    assert_eq!(merged("z: {<<: {d: 5}}"), "{d: 5@3}}");
    assert_eq!(merged("z: {'<<': 1}"), "{<<: 1@3}}", "in quotes it is a key like any other");
    // Merges are merged.
    assert_eq!(
        read("x: &x {a: 1}\ny: &y {<<: *x, b: 2}\nz: *y\n"),
        "{x: {a: 1@1}, y: {b: 2@2, a: 1@1}, z: {b: 2@2, a: 1@1}}"
    );
}

#[test]
fn what_aliases_cannot_be_is_told_with_its_place() {
    for (text, words) in [
        ("a: *b\n", "1:4: while parsing node, found unknown anchor"),
        ("a: &x [1, *x]\n", "1:11: the alias stands for something that it is a part of"),
        ("a: {<<: 1}\n", "1:9: `<<` merges a map, or a list of maps"),
        ("a: {<<: [1]}\n", "1:10: `<<` merges a map, or a list of maps"),
        (
            "a: {<<: {b: 1}, <<: {c: 1}}\n",
            "1:17: `<<` is there twice; merge several maps as in `<<: [*a, *b]`",
        ),
        ("? [a]\n: 1\n", "1:3: a key must be a plain word"),
    ] {
        assert_eq!(read(text), words, "{text}");
    }
}

#[test]
fn a_few_lines_do_not_fill_the_memory() {
    // Nine levels of nine each would be 387,420,489 values.
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let refused = read(&laughs);
    assert!(refused.contains("stand for more than 200000 values or 8 MiB"), "{refused}");

    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), ["*a"; 9].join(", "));
    assert!(read(&long).contains("stand for more than"), "text counts too");

    // Merges of nothing into a large map cost no more than reading it.
    let keys: Vec<String> = (0..50_000).map(|number| format!("k{number}: 1")).collect();
    let wide = format!("x: {{{}, <<: [{}]}}\n", keys.join(", "), vec!["{}"; 50_000].join(", "));
    assert!(parse(&wide).is_ok());

    let mut deep = "a0: &a0 []\n".to_owned();
    for level in 1..100 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(read(&deep).contains("nested too deeply"), "{}", read(&deep));
}

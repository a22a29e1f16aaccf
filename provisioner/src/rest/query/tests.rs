//! What is on a page of an answer.

use super::*;

fn answered(name: &str) -> Row {
    Row::Answered(Answered { name: name.parse().unwrap(), values: Vec::new(), inventory: None })
}

fn unclear(name: &str) -> Row {
    Row::Unclear(Unclear { name: name.parse().unwrap(), cause: "no reason".to_owned() })
}

/// The page of these rows: answered, unclear, the last row if there is another page.
fn page(limit: u32, rows: Vec<Row>) -> (Vec<String>, Vec<String>, Option<String>) {
    let mut page = Rows { limit: Some(limit), ..Rows::default() };
    for row in rows {
        if !page.add(row) {
            break;
        }
    }
    let next = page.last().filter(|_| page.has_more).map(ToString::to_string);
    let answered = page.answer.nodes.iter().map(|answered| answered.name.to_string()).collect();
    let unclear = page.answer.unclear.iter().map(|unclear| unclear.name.to_string()).collect();
    (answered, unclear, next)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

#[test]
fn a_page_counts_rows_of_both_kinds_and_goes_on_behind_the_last() {
    let rows = || vec![answered("n1"), unclear("n2"), answered("n3"), unclear("n4")];
    let last = |name: &str| Some(name.to_owned());
    assert_eq!(page(1, rows()), (names(&["n1"]), names(&[]), last("n1")));
    // The unclear one is behind the answered one, and the other way round.
    assert_eq!(page(2, rows()), (names(&["n1"]), names(&["n2"]), last("n2")));
    assert_eq!(page(3, rows()), (names(&["n1", "n3"]), names(&["n2"]), last("n3")));
    let whole = (names(&["n1", "n3"]), names(&["n2", "n4"]), None);
    assert_eq!(page(4, rows()), whole, "nothing is behind a full last page");
    assert_eq!(page(9, rows()), whole);
    // Nothing is behind nothing.
    assert_eq!(page(0, rows()), (names(&[]), names(&[]), None));
    assert_eq!(page(2, Vec::new()), (names(&[]), names(&[]), None));
}

#[test]
fn an_answer_without_pages_names_so_many_unclear_nodes_and_a_page_all() {
    let count = |limit: Option<u32>| {
        let mut rows = Rows { limit, ..Rows::default() };
        for number in 0..=MAX_UNCLEAR {
            assert!(rows.add(unclear(&format!("n{number}"))));
        }
        assert!(rows.add(answered("z")), "they do not stand in the way of others");
        rows.answer.unclear.len()
    };
    assert_eq!(count(None), MAX_UNCLEAR);
    assert_eq!(count(Some(MAX_PAGE_ROWS)), MAX_UNCLEAR + 1);
}

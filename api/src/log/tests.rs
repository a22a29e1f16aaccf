//! Headers there and back, and the words for people.

use std::collections::BTreeMap;

use super::{
    times::{MAX_MARKS_PER_PIECE, TimeMark},
    *,
};
use crate::ids::Timestamp;

fn status(state: LogState) -> LogStatus {
    LogStatus { state, task: 7, attempt: 2, here: 10, bytes: Some(30), gap: None, reason: None }
}

fn read(headers: &[(&'static str, String)]) -> Option<LogStatus> {
    let headers: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    LogStatus::from_headers(|name| headers.get(name).copied())
}

#[test]
fn a_status_is_read_from_its_headers() {
    for state in LogState::ALL {
        let gap = Some(LogGap { from: 0, to: u64::MAX });
        let all = (Some(u64::MAX), gap, Some("n1 was rebooted".to_owned()));
        for (bytes, gap, reason) in [(None, None, None), all] {
            let status = LogStatus { bytes, gap, reason, ..status(state) };
            assert_eq!(read(&status.headers()), Some(status));
        }
    }
}

#[test]
fn what_a_later_release_says_is_no_success_and_nonsense_is_nothing() {
    let mut headers = status(LogState::Complete).headers();
    headers[0].1 = "compressed".to_owned();
    let later = read(&headers).unwrap();
    assert_eq!(later.state, LogState::Unknown);
    assert!(later.shortfall().is_some());
    headers.push(("bedplate-log-gap", "5-7".to_owned()));
    for place in 1..headers.len() {
        let mut wrong = headers.clone();
        wrong[place].1 = "many".to_owned();
        assert_eq!(read(&wrong), None, "{wrong:?}");
    }
    assert_eq!(read(&[]), None);
}

#[test]
fn a_gap_is_told_in_words_and_read_with_care() {
    let words = |from, to| LogGap { from, to }.to_string();
    assert_eq!(words(3, 1 << 20), "1048573 bytes left out here (offset 3 to 1048576)");
    assert_eq!(words(1 << 20, 13_946_061), "12.3 MiB left out here (offset 1048576 to 13946061)");
    assert_eq!(
        words(0, u64::MAX),
        "17592186044415.9 MiB left out here (offset 0 to 18446744073709551615)"
    );
    for wrong in ["", "-", "5", "5-", "7-5", "5-5", "-5-7", "5-7-9", "5-18446744073709551616"] {
        assert_eq!(wrong.parse::<LogGap>(), Err(InvalidGap), "{wrong}");
    }
    let gap: LogGap = "5-7".parse().unwrap();
    assert_eq!([4, 5, 6, 7, 8].map(|offset| gap.past(offset)), [4, 7, 7, 7, 8]);
}

#[test]
fn a_reason_is_one_line_of_a_bounded_length() {
    let reason = Some(format!("löst\r\nset-cookie: x{}", "y".repeat(10_000)));
    let headers = LogStatus { reason, ..status(LogState::Incomplete) }.headers();
    let (_, value) = headers.last().unwrap();
    assert!(value.starts_with("l?st??set-cookie: xyyy") && value.len() == MAX_REASON, "{value}");
}

#[test]
fn people_are_told_what_is_missing() {
    let mut text = String::new();
    for state in LogState::ALL {
        text += &format!("{} {:?}\n", state.as_str(), status(state).shortfall());
    }
    let reason = Some("n1 was rebooted before the rest arrived".to_owned());
    let lost = LogStatus { reason, bytes: None, ..status(LogState::Incomplete) };
    text += &lost.shortfall().unwrap();
    expect_test::expect![[r#"
        open None
        arriving Some("the log has not arrived whole yet: 10 of 30 bytes are here")
        complete None
        incomplete Some("the log is not whole: 10 of 30 bytes are here")
        the log is not whole: 10 bytes are here, of an unknown number; n1 was rebooted before the rest arrived"#]]
    .assert_eq(&text);
}

#[test]
fn time_marks_travel_and_what_is_none_is_left_out() {
    let mark = |offset, micros| TimeMark { offset, time: Timestamp(micros) };
    let marks = [mark(0, 5), mark(7, -3), mark(u64::MAX, i64::MAX)];
    let text = TimeMark::query(&marks);
    assert_eq!(text, "0:5,7:-3,18446744073709551615:9223372036854775807");
    assert_eq!(TimeMark::from_query(&text), marks);
    assert_eq!(TimeMark::query(&[]), "");
    assert_eq!(TimeMark::from_query(""), []);
    assert_eq!(
        TimeMark::from_query("x,1:2,3,4:y,-5:6,7:18446744073709551616,8:9:10,9:9"),
        [mark(1, 2), mark(9, 9)]
    );
    let many: Vec<TimeMark> = (0..200).map(|offset| mark(offset, 1)).collect();
    assert_eq!(TimeMark::from_query(&TimeMark::query(&many)), many[..MAX_MARKS_PER_PIECE]);
    let sent: Vec<String> = many.iter().map(|mark| format!("{}:1", mark.offset)).collect();
    assert_eq!(
        TimeMark::from_query(&sent.join(",")),
        many[..MAX_MARKS_PER_PIECE],
        "nor does a stranger"
    );
    let longest = TimeMark::query(&[mark(u64::MAX, i64::MIN); MAX_MARKS_PER_PIECE]);
    assert!(longest.len() < 8_000 / 2, "{}", longest.len());
}

proptest::proptest! {
    #[test]
    fn whatever_travels_is_read_as_a_bounded_number_of_marks(text in "[0-9:,-]{0,400}|.*") {
        let marks = TimeMark::from_query(&text);
        proptest::prop_assert!(marks.len() <= MAX_MARKS_PER_PIECE);
        proptest::prop_assert_eq!(TimeMark::from_query(&TimeMark::query(&marks)), marks);
    }
}

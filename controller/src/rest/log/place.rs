//! Where an answer begins: at an offset, with the last lines, or at a time.

use api::{
    ids::Timestamp,
    log::{
        FROM_HEADER,
        times::{KEPT, NOT_KEPT, SINCE_HEADER, TIMES_HEADER},
    },
};
use axum::http::StatusCode;
use rest::Refusal;
use serde::Deserialize;

use super::{
    super::moment::{moment, no_moment},
    TITLE,
};

/// The query of a request, as it was sent.
#[derive(Debug, Default, Deserialize)]
pub(in crate::rest) struct LogParams {
    pub(super) stage: Option<String>,
    pub(super) task: Option<u32>,
    pub(super) attempt: Option<u32>,
    pub(super) member: Option<u32>,
    #[serde(default)]
    pub(super) offset: u64,
    tail: Option<u64>,
    since: Option<String>,
    #[serde(default)]
    pub(super) follow: bool,
}

impl LogParams {
    /// Where the answer begins, if not at an offset. `now`: what lengths of time count back from.
    pub(super) fn place(&self, now: Timestamp) -> Result<LogStart, Refusal> {
        for (name, is_there) in [("tail", self.tail.is_some()), ("since", self.since.is_some())] {
            if is_there && self.offset > 0 {
                let why =
                    format!("offset and {name} both say where the answer begins: leave one out");
                return Err(refuse(why));
            }
        }
        let read =
            |text: &String| moment(text, now).ok_or_else(|| refuse(no_moment("since", text)));
        Ok(LogStart { tail: self.tail, since: self.since.as_ref().map(read).transpose()? })
    }
}

/// Where an answer begins: with the last lines, and with what was written then or later; the later
/// of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogStart {
    pub(super) tail: Option<u64>,
    pub(super) since: Option<Timestamp>,
}

impl LogStart {
    /// What is told of it, with where it was.
    pub(super) fn headers(self, from: u64, has_times: bool) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.tail.is_some() || self.since.is_some() {
            headers.push((FROM_HEADER, from.to_string()));
        }
        if let Some(since) = self.since {
            headers.push((SINCE_HEADER, since.to_string()));
            headers.push((TIMES_HEADER, if has_times { KEPT } else { NOT_KEPT }.to_owned()));
        }
        headers
    }
}

fn refuse(why: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, TITLE, why)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_answer_begins_where_one_parameter_says_and_a_time_is_read_or_refused() {
        const NOW: Timestamp = Timestamp(1_795_464_000_000_000);
        let wanted = |offset, tail, since: Option<&str>| {
            let wanted =
                LogParams { offset, tail, since: since.map(str::to_owned), ..LogParams::default() };
            wanted.place(NOW).map_err(|refusal| refusal.0.detail)
        };
        let place = |tail, since| Ok(LogStart { tail, since });
        assert_eq!(wanted(7, None, None), place(None, None));
        assert_eq!(wanted(0, Some(5), Some("10m")), place(Some(5), Some(NOW.plus_seconds(-600))));
        assert_eq!(wanted(0, None, Some("2026-11-23T21:00:00+01:00")), place(None, Some(NOW)));
        let refused = [
            (7, Some(0), None),
            (7, None, Some("1h")),
            (0, None, Some("yesterday")),
            (0, None, Some("")),
        ];
        let refused = refused
            .map(|(offset, tail, since)| wanted(offset, tail, since).unwrap_err() + "\n")
            .concat();
        expect![[r#"
            offset and tail both say where the answer begins: leave one out
            offset and since both say where the answer begins: leave one out
            since is a time such as 2026-11-30, 2026-11-30T12:00:00Z or 2026-11-30T12:00:00+01:00, or how long ago: 90s, 10m, 2h, 7d; not "yesterday"
            since is a time such as 2026-11-30, 2026-11-30T12:00:00Z or 2026-11-30T12:00:00+01:00, or how long ago: 90s, 10m, 2h, 7d; not ""
        "#]]
        .assert_eq(&refused);
        let told = |place: LogStart, has_times| {
            let headers = place
                .headers(9, has_times)
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"));
            headers.collect::<Vec<_>>().join(", ")
        };
        let mut place = LogStart { tail: None, since: None };
        assert_eq!(told(place, true), "");
        place.tail = Some(1);
        assert_eq!(told(place, true), "bedplate-log-from: 9");
        place.since = Some(NOW);
        let from =
            "bedplate-log-from: 9, bedplate-log-since: 2026-11-23T20:00:00Z, bedplate-log-times:";
        assert_eq!(told(place, true), format!("{from} kept"));
        assert_eq!(told(place, false), format!("{from} none"));
    }
}

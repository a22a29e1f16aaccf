//! `GET /v1/workflows`: lists of workflows, filtered and sorted.
//!
//! Those that are not over come first, all on the first page; then those that are, a page at a
//! time. Both are in the order that was asked for. So no workflow is on two pages or on none,
//! though it ends and begins meanwhile: the first page is of one view, and the others have what
//! was over in it.

use std::collections::HashSet;

use access::Caller;
use api::{
    ids::Timestamp,
    problem::Problem,
    workflow::{WorkflowSort, WorkflowStatus, WorkflowSummary},
};
use axum::{
    extract::{Query, State},
    http::StatusCode,
};
use rest::{Page, Paging, Refusal};
use serde::Deserialize;

use super::{
    DEFAULT_LIMIT,
    moment::{moment, no_moment},
};
use crate::{
    Controller,
    record::{Damage, WorkflowRow},
    store::{Listed, Listing, NamePattern, PageCursor},
};

/// Longest pattern of names, characters: names have at most 63.
const MAX_PATTERN: usize = 255;

const TITLE: &str = "cannot list workflows";

/// The query of a list, as it was sent.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListParams {
    state: Option<String>,
    user: Option<String>,
    name: Option<String>,
    since: Option<String>,
    until: Option<String>,
    sort: Option<String>,
    reverse: Option<String>,
}

/// Workflows: the caller's, or all for an admin. Those that are not over come first; newest first
/// where the request names no order.
#[utoipa::path(
    get, path = "/v1/workflows", tag = "workflows",
    params(
        ("state" = Option<String>, Query,
            description = "Only those with one of these, joined by commas: waiting, running, stopping, \
                           paused, blocked, finished, failed, canceled"),
        ("user" = Option<String>, Query, description = "Only those of this user"),
        ("name" = Option<String>, Query,
            description = "Only those with such a name: `*` stands for any characters, `?` for one; text \
                           with neither is looked for anywhere in the name"),
        ("since" = Option<String>, Query,
            description = "Only those handed in then or later: a time (RFC 3339; a date is its beginning, \
                           UTC), or how long before now by the server's clock: 90s, 10m, 2h, 7d"),
        ("until" = Option<String>, Query, description = "Only those handed in then or before, as `since`"),
        ("sort" = Option<String>, Query,
            description = "created (default, the newest first), name, state or user; those that are not \
                           over and those that are each by themselves"),
        ("reverse" = Option<bool>, Query, description = "The other way round"),
        ("limit" = Option<u32>, Query,
            description = "Workflows that are over, at most 10000; default 100. Those that are not over \
                           come before them, all on the first page"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")
    ),
    responses((status = OK, body = [WorkflowSummary]), (status = BAD_REQUEST, body = Problem))
)]
pub(super) async fn list(
    State(controller): State<Controller>,
    caller: Caller,
    Query(wanted): Query<ListParams>,
    paging: Paging,
) -> Result<Page<WorkflowSummary>, Refusal> {
    let limit = paging.limit().unwrap_or(DEFAULT_LIMIT);
    let mut listing = wanted.order()?;
    let list = name_of(&listing);
    let behind: Option<PageCursor> = paging.after(&list)?;
    // Before the store is read, which may be newer: what is in the view no more, the store has.
    let view = controller.view();
    // What ends after this was on the first page among those that were not over.
    let at = behind.as_ref().map_or(view.at, |behind| behind.at);
    wanted.filter(&mut listing, at)?;
    let rows = caller.visible()?;
    if wanted.user.as_deref().is_some_and(|user| !rows.include(user)) {
        // Whether that user has workflows, or is there at all, is not told.
        return Ok(Page { rows: Vec::new(), next: None });
    }
    listing.owner = wanted.user.as_deref().or(rows.owner()).map(str::to_owned);
    let over = controller.0.store.over(&listing, behind.as_ref(), limit.saturating_add(1)).await;
    let over = over.map_err(|error| Refusal::internal(TITLE, &error))?;
    let page = paging.fetched(&list, over, limit, |one| PageCursor {
        sequence: one.row.sequence,
        at,
        key: one.key.clone(),
    });
    if behind.is_some() {
        return Ok(page.map(|Listed { row, .. }| of_row(&row)));
    }
    // The view still has those whose logs are not here yet; what is over comes from the
    // store, all of it.
    let mut summaries = listing.pick(view.summaries());
    // What has ended since the view was made is not over in it.
    let is_over = |id| view.workflow_states.of(id).is_none_or(|one| one.state.is_ended());
    // Rows that cannot be read are passed over by further statements, and what ends in between
    // moves the last row to the next one.
    let mut seen = HashSet::new();
    let over = page.rows.iter().filter(|one| is_over(one.row.id) && seen.insert(one.row.id));
    summaries.extend(over.map(|one| of_row(&one.row)));
    Ok(Page { rows: summaries, next: page.next })
}

/// Name of a list in its cursors, which are good for its order alone.
fn name_of(listing: &Listing) -> String {
    match (listing.sort, listing.is_reversed) {
        (WorkflowSort::Created, false) => "workflows".to_owned(),
        (sort, false) => format!("workflows by {}", sort.as_str()),
        (sort, true) => format!("workflows by {}, reversed", sort.as_str()),
    }
}

impl ListParams {
    /// All workflows, in the order that is wanted.
    fn order(&self) -> Result<Listing, Refusal> {
        let sort = match self.sort.as_deref() {
            None => WorkflowSort::default(),
            Some(word) => {
                let known = WorkflowSort::ALL.map(WorkflowSort::as_str);
                let sort = WorkflowSort::ALL.into_iter().find(|sort| sort.as_str() == word);
                sort.ok_or_else(|| {
                    let known = known.join(", ");
                    refuse(format!("nothing is sorted by {word:?}: sort is one of {known}"))
                })?
            }
        };
        let is_reversed = match self.reverse.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(refuse(format!("reverse is true or false, not {other:?}"))),
        };
        Ok(Listing { sort, is_reversed, ..Listing::default() })
    }

    /// Narrows a list to what is wanted. `now`: what lengths of time count back from.
    fn filter(&self, listing: &mut Listing, now: Timestamp) -> Result<(), Refusal> {
        if let Some(words) = &self.state {
            for word in words.split(',') {
                let status = WorkflowStatus::ALL.into_iter().find(|status| status.as_str() == word);
                let status = status.ok_or_else(|| {
                    let known = WorkflowStatus::ALL.map(WorkflowStatus::as_str).join(", ");
                    refuse(format!("no workflow is {word:?}: state is one or several of {known}"))
                })?;
                if !listing.statuses.contains(&status) {
                    listing.statuses.push(status);
                }
            }
        }
        if let Some(pattern) = self.name.as_deref().filter(|pattern| !pattern.is_empty()) {
            if pattern.chars().count() > MAX_PATTERN {
                let why = format!("a pattern of names has at most {MAX_PATTERN} characters");
                return Err(refuse(why));
            }
            listing.name = Some(NamePattern::new(pattern));
        }
        let time = |name: &str, text: &Option<String>| {
            let read =
                |text: &String| moment(text, now).ok_or_else(|| refuse(no_moment(name, text)));
            text.as_ref().map(read).transpose()
        };
        listing.since = time("since", &self.since)?;
        listing.until = time("until", &self.until)?;
        Ok(())
    }
}

fn refuse(why: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, TITLE, why)
}

/// A workflow that is over, in a list.
fn of_row(row: &WorkflowRow) -> WorkflowSummary {
    match (&row.view, &row.unreadable) {
        (Some(view), _) => view.summary.clone(),
        (None, None) => row.summary(),
        (None, Some(Damage { cause, .. })) => {
            let reason = Some(format!("it cannot be read from the database ({cause})"));
            WorkflowSummary { reason, ..row.summary() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

    fn read(wanted: ListParams) -> Result<Listing, Refusal> {
        let mut listing = wanted.order()?;
        wanted.filter(&mut listing, NOW)?;
        Ok(listing)
    }

    #[test]
    fn a_query_is_read_or_refused_with_what_there_is() {
        let text = |text: &str| Some(text.to_owned());
        let wanted = ListParams {
            state: text("running,failed,running"),
            name: text("night*"),
            since: text("2h"),
            sort: text("user"),
            reverse: text("true"),
            ..ListParams::default()
        };
        let listing = Listing {
            statuses: vec![WorkflowStatus::Running, WorkflowStatus::Failed],
            name: Some(NamePattern::new("night*")),
            since: Some(NOW.plus_seconds(-7200)),
            sort: WorkflowSort::User,
            is_reversed: true,
            ..Listing::default()
        };
        assert_eq!(read(wanted).unwrap(), listing);
        assert_eq!(read(ListParams::default()).unwrap(), Listing::default());
        let refused = [
            ListParams { sort: text("size"), ..ListParams::default() },
            ListParams { state: text("started"), ..ListParams::default() },
            ListParams { state: text(""), ..ListParams::default() },
            ListParams { reverse: text("1"), ..ListParams::default() },
            ListParams { until: text("yesterday"), ..ListParams::default() },
            ListParams { name: Some("x".repeat(256)), ..ListParams::default() },
        ];
        let refused = refused.map(|wanted| read(wanted).unwrap_err().0.detail + "\n").concat();
        expect_test::expect![[r#"
            nothing is sorted by "size": sort is one of created, name, state, user
            no workflow is "started": state is one or several of waiting, running, stopping, paused, blocked, finished, failed, canceled
            no workflow is "": state is one or several of waiting, running, stopping, paused, blocked, finished, failed, canceled
            reverse is true or false, not "1"
            until is a time such as 2026-11-30, 2026-11-30T12:00:00Z or 2026-11-30T12:00:00+01:00, or how long ago: 90s, 10m, 2h, 7d; not "yesterday"
            a pattern of names has at most 255 characters
        "#]]
        .assert_eq(&refused);
    }
}

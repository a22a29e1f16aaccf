//! Submissions that are sent again, and pages of workflows, over the whole server.

use std::time::Duration;

use anyhow::ensure;
use api::workflow::{StartWorkflow, State};
use client::ClientError;
use futures_util::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{
    browser::{Browser, next},
    cluster::in_namespace,
    workflows::{cluster, document, end, start, user},
};

fn status<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (Option<u16>, String) {
    let error = answer.unwrap_err();
    (error.status(), error.to_string())
}

#[test]
fn a_key_starts_one_workflow_even_over_a_restart() {
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster().await?;
        let ben = user(&cluster, "ben", 1002).await?;
        let sleep = document(&[("a", "command: [/bin/sleep, '1']")]);
        let request = StartWorkflow { name: None, document: sleep.clone(), user: None };
        let at_once = (0..8).map(|_| ann.start_workflow_once(&request, "k1"));
        let started = try_join_all(at_once).await?;
        assert!(started.iter().all(|one| one.id == started[0].id), "{started:?}");
        assert_eq!(ann.workflows(100).await?.len(), 1);

        cluster.restart().await?;
        let ended = end(&ann, &started[0].id.to_string()).await?;
        let again = ann.start_workflow_once(&request, "k1").await?;
        assert_eq!((again.id, again.state), (started[0].id, ended.summary.state));

        let other = StartWorkflow { name: Some("other".to_owned()), ..request.clone() };
        let (status_409, words) = status(ann.start_workflow_once(&other, "k1").await);
        assert_eq!(status_409, Some(409));
        assert!(words.contains(&started[0].id.to_string()) && words.contains("new key"), "{words}");
        assert_eq!(status(ann.start_workflow_once(&request, "a key").await).0, Some(400));

        // A key is its user's own, and without one each submission is new.
        let of_ben = ben.start_workflow_once(&request, "k1").await?;
        let of_ann = [start(&ann, sleep.clone()).await?, start(&ann, sleep).await?];
        assert_ne!(of_ben.id, started[0].id);
        assert_ne!(of_ann[0], of_ann[1]);
        assert_eq!(ann.workflows(100).await?.len(), 3);
        Ok(())
    });
}

/// A client that goes away while its workflow is being written leaves its place in the order of
/// submission taken.
#[test]
fn clients_that_go_away_hold_nobody_up() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let hello = document(&[("a", "command: [/bin/sleep, '1']")]);
        let request = StartWorkflow { name: None, document: hello.clone(), user: None };
        for patience in 0..120 {
            let patience = Duration::from_micros(100 * patience);
            // Most are cut off, at every step on the way.
            let _ = tokio::time::timeout(patience, ann.start_workflow(&request)).await;
        }
        let id = tokio::time::timeout(Duration::from_secs(20), start(&ann, hello)).await??;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        Ok(())
    });
}

/// Fields of all rows of a list, page by page. `between` is called after the first page.
async fn walk(
    browser: &Browser,
    path: &str,
    field: impl Fn(&Value) -> Value,
    between: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Vec<Value>>> {
    let (mut pages, mut query, mut between) = (Vec::new(), "?limit=2".to_owned(), Some(between));
    loop {
        let response = browser.get(&format!("{path}{query}")).await?;
        ensure!(response.status() == StatusCode::OK, "{path}{query}: {}", response.status());
        let following = next(&response);
        let rows: Vec<Value> = response.json().await?;
        pages.push(rows.iter().map(&field).collect());
        if let Some(between) = between.take() {
            between().await?;
        }
        match following {
            Some(following) => query = following,
            None => return Ok(pages),
        }
    }
}

#[test]
fn pages_of_workflows_attempts_and_events_have_each_row_once() {
    in_namespace(async {
        let (cluster, _agents, ann) = cluster().await?;
        let browser = Browser::new(&cluster)?;
        let mut over = Vec::new();
        for _ in 0..5 {
            let id = start(&ann, document(&[("a", "command: [/bin/sleep, '1']")])).await?;
            assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
            over.push(id);
        }
        over.reverse();
        let long = start(&ann, document(&[("a", "command: [hang]")])).await?;
        let pages = walk(
            &browser,
            "/v1/workflows",
            |row| row["id"].clone(),
            async || {
                // It was on the first page, and is over when the second is read.
                ann.stop_workflow(&long).await?;
                end(&ann, &long).await.map(drop)
            },
        );
        let first = [long.as_str(), &over[0], &over[1]];
        assert_eq!(pages.await?, [&first[..], &[&over[2], &over[3]], &[&over[4]]]);

        let array = "command: [/bin/sleep, '1'], task-array: {start: 1, end: 5}";
        let array =
            start(&ann, document(&[("first", "command: [/bin/sleep, '1']"), ("many", array)]))
                .await?;
        end(&ann, &array).await?;
        let path = format!("/v1/workflows/{array}");
        for (list, field) in [("attempts", ["stage", "task"]), ("events", ["number", "event"])] {
            let key = |row: &Value| Value::from(field.map(|field| row[field].clone()).to_vec());
            let pages = walk(&browser, &format!("{path}/{list}"), key, async || Ok(())).await?;
            let whole: Vec<Value> =
                browser.get(&format!("{path}/{list}?limit=10000")).await?.json().await?;
            assert!(
                pages.len() > 2 && pages.iter().rev().skip(1).all(|page| page.len() == 2),
                "{pages:?}"
            );
            assert_eq!(pages.concat(), whole.iter().map(key).collect::<Vec<_>>(), "{list}");
        }
        // Beside other parameters; and a cursor is good for its own list alone.
        let one_stage = browser.get(&format!("{path}/attempts?stage=1&limit=1")).await?;
        let query = next(&one_stage);
        let rows: Vec<Value> = one_stage.json().await?;
        assert!(rows.iter().all(|row| row["stage"] == 1), "{rows:?}");
        if let Some(query) = query {
            assert!(query.contains("stage=1"), "{query}");
        }
        let of_workflows = next(&browser.get("/v1/workflows?limit=1").await?).unwrap();
        for list in ["attempts", "events"] {
            let refused = browser.get(&format!("{path}/{list}{of_workflows}")).await?;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{list}");
        }
        // Of those who may see no workflow there are no pages either.
        let ben = user(&cluster, "ben", 1002).await?;
        assert_eq!(ben.workflows(1).await?, []);
        let unknown = browser.request(Method::GET, &format!("/v1/workflows{of_workflows}"))?;
        assert_eq!(unknown.send().await?.status(), StatusCode::UNAUTHORIZED);
        Ok(())
    });
}

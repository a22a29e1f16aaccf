//! What a browser needs of the API, over the real port: pages, versions, watches that go on,
//! sessions, tickets.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use api::machine::Apply;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::cluster::{Cluster, in_namespace, name};

/// How long an event may be waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// HTTP as a browser's scripts have it.
pub(crate) struct Browser {
    http: reqwest::Client,
    context: client::Context,
}

impl Browser {
    pub(crate) fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let context = cluster.context()?;
        let ca =
            reqwest::Certificate::from_pem(context.ca.as_deref().unwrap_or_default().as_bytes())?;
        Ok(Self { http: reqwest::Client::builder().tls_certs_only([ca]).build()?, context })
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<reqwest::RequestBuilder> {
        Ok(self.http.request(method, self.context.server.join(path)?))
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        Ok(self.request(Method::GET, path)?.bearer_auth(&self.context.token).send().await?)
    }

    async fn watch(&self, path: &str, last: Option<&str>) -> anyhow::Result<Watch> {
        let mut request = self.request(Method::GET, path)?.bearer_auth(&self.context.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        Ok(Watch { response, text: String::new() })
    }
}

/// A stream of events.
struct Watch {
    response: Response,
    text: String,
}

/// One event: kind, data, id.
#[derive(Debug, Default, PartialEq)]
struct Event {
    kind: String,
    data: Value,
    id: Option<String>,
}

impl Watch {
    async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                // As browsers do: an event without data is none.
                if !event.lines().any(|line| line.starts_with("data:")) {
                    self.text = rest.to_owned();
                    continue;
                }
                let mut found = Event::default();
                for line in event.lines() {
                    match line.split_once(':').map(|(key, value)| (key, value.trim_start())) {
                        Some(("event", kind)) => kind.clone_into(&mut found.kind),
                        Some(("data", "")) => {}
                        Some(("data", data)) => found.data = serde_json::from_str(data)?,
                        Some(("id", id)) => found.id = Some(id.to_owned()),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                if found != Event::default() {
                    return Ok(found);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk())
                .await
                .context("no event")??;
            self.text += std::str::from_utf8(&chunk.context("the stream ended")?)?;
        }
    }

    /// Events up to the first with an id.
    async fn until_id(&mut self) -> anyhow::Result<(Vec<Event>, String)> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await?;
            let id = event.id.clone();
            events.push(event);
            if let Some(id) = id {
                return Ok((events, id));
            }
        }
    }
}

#[test]
fn a_watcher_goes_on_where_it_was() {
    in_namespace(async {
        let mut cluster = Cluster::with_nodes(3).await?;
        let browser = Browser::new(&cluster)?;
        let is_whole_list = |events: &[Event]| {
            let names: Vec<&Value> = events[1..].iter().map(|event| &event.data["name"]).collect();
            events[0].kind == "list"
                && names.len() == 3
                && ["n1", "n2", "n3"].iter().all(|name| names.contains(&&json!(name)))
        };
        let (events, first) = browser.watch("/v1/nodes/watch", None).await?.until_id().await?;
        assert!(is_whole_list(&events), "{events:?}");
        // Cut off, and something happens meanwhile.
        let drain = api::status::DrainNode { reason: "a test".to_owned() };
        cluster.client().drain(&name(2), &drain).await?;
        let (events, second) =
            browser.watch("/v1/nodes/watch", Some(&first)).await?.until_id().await?;
        assert_eq!((events.len(), &events[0].data["name"]), (1, &json!("n2")), "{events:?}");
        assert_eq!(events[0].data["status"]["drain"]["reason"], "a test");
        let mut watch = browser.watch("/v1/nodes/watch", Some(&second)).await?;
        cluster.client().undrain(&name(2)).await?;
        let event = watch.next().await?;
        assert_eq!(
            (&event.data["name"], &event.data["status"]["drain"]),
            (&json!("n2"), &Value::Null)
        );
        // What the server cannot know is answered with everything.
        for unknown in ["0-0", "nonsense"] {
            let (events, _) =
                browser.watch("/v1/nodes/watch", Some(unknown)).await?.until_id().await?;
            assert!(is_whole_list(&events), "{unknown}: {events:?}");
        }
        drop(watch);
        cluster.restart().await?;
        let browser = Browser::new(&cluster)?;
        let (events, _) = browser.watch("/v1/nodes/watch", Some(&second)).await?.until_id().await?;
        assert!(is_whole_list(&events), "after a restart: {events:?}");

        // An operation that is over is told once.
        let (events, id) = browser.watch("/v1/operations/1/events", None).await?.until_id().await?;
        assert_eq!(events[0].data["id"], 1);
        let again =
            browser.request(Method::GET, "/v1/operations/1/events")?.header("last-event-id", id);
        let again = again.bearer_auth(&browser.context.token).send().await?;
        assert_eq!(again.status(), StatusCode::NO_CONTENT);
        Ok(())
    });
}

/// The query of the next page.
pub(crate) fn next(response: &Response) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned())
}

#[test]
fn pages_hold_what_is_there_all_the_while_once() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(7).await?;
        let browser = Browser::new(&cluster)?;
        let (mut seen, mut page, mut pages) = (Vec::new(), Some("?limit=2".to_owned()), 0);
        while let Some(query) = page {
            let response = browser.get(&format!("/v1/nodes{query}")).await?;
            ensure!(response.status() == StatusCode::OK, "{}", response.status());
            page = next(&response);
            let rows: Vec<Value> = response.json().await?;
            seen.extend(rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)));
            pages += 1;
            if pages == 1 {
                // The row that the cursor stands for goes, one comes before it and one behind it.
                cluster.client().delete_node(&name(2)).await?;
                let document = "nodes: {n0: {}, n55: {}}".to_owned();
                cluster.client().apply(&Apply { document, dry_run: false, prune: false }).await?;
            }
        }
        assert_eq!(seen, ["n1", "n2", "n3", "n4", "n5", "n55", "n6", "n7"]);
        let whole: Vec<Value> = browser.get("/v1/nodes").await?.json().await?;
        assert_eq!(whole.len(), 8, "without a limit all of them");
        assert_eq!(cluster.client().nodes(None).await?.len(), 8);

        let refused = browser.get("/v1/nodes?limit=2&cursor=bm9uc2Vuc2U").await?;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let problem: Value = refused.json().await?;
        assert!(
            problem["detail"].as_str().is_some_and(|words| words.contains("leave it out")),
            "{problem}"
        );
        // Each list has pages, and a cursor is good for its own list alone.
        let of_nodes = next(&browser.get("/v1/nodes?limit=1").await?).context("no next page")?;
        let lists = [
            "profiles",
            "images",
            "operations",
            "overlays",
            "users",
            "tokens",
            "audit",
            "inventory",
            "nodes/n1/history",
        ];
        for list in lists {
            let response = browser.get(&format!("/v1/{list}?limit=1")).await?;
            assert_eq!(response.status(), StatusCode::OK, "{list}");
            let refused = browser.get(&format!("/v1/{list}{of_nodes}")).await?;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{list}");
        }
        Ok(())
    });
}

/// Follows a list from one page to the next: what each answers. `meanwhile` is done
/// after the first.
async fn walk(
    browser: &Browser,
    path: &str,
    first: &str,
    meanwhile: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Value>> {
    let mut meanwhile = Some(meanwhile);
    let (mut pages, mut page) = (Vec::new(), Some(first.to_owned()));
    while let Some(query) = page {
        let response = browser.get(&format!("{path}{query}")).await?;
        ensure!(response.status() == StatusCode::OK, "{path}{query}: {}", response.status());
        page = next(&response);
        pages.push(response.json().await?);
        if let Some(meanwhile) = meanwhile.take() {
            meanwhile().await?;
        }
    }
    Ok(pages)
}

#[test]
fn the_history_of_a_node_has_pages() {
    in_namespace(async {
        const HISTORY: &str = "/v1/nodes/n1/history";
        let cluster = Cluster::with_nodes(2).await?;
        let browser = Browser::new(&cluster)?;
        let drain = async |of: u8, reason: &str| {
            let drain = api::status::DrainNode { reason: reason.to_owned() };
            cluster.client().drain(&name(of), &drain).await
        };
        for number in 1..=8 {
            drain(1, &format!("reason {number}")).await?;
            drain(2, &format!("reason {number}")).await?;
        }
        let pages =
            walk(&browser, HISTORY, "?limit=3", async || anyhow::Ok(drain(1, "the last").await?))
                .await?;
        let lengths: Vec<usize> = pages.iter().filter_map(Value::as_array).map(Vec::len).collect();
        assert_eq!(lengths[..2], [3, 3]);
        let seen: Vec<&Value> = pages.iter().filter_map(Value::as_array).flatten().collect();
        let whole: Vec<Value> = browser.get(HISTORY).await?.json().await?;
        assert_eq!(
            seen,
            whole[1..].iter().collect::<Vec<_>>(),
            "what came meanwhile is before the first page"
        );
        assert_eq!(cluster.client().history(&name(1), 5).await?.len(), 5);

        // Another node has events of the same numbers, and the cursor is not good for it.
        let of_n1 =
            next(&browser.get(&format!("{HISTORY}?limit=3")).await?).context("no next page")?;
        let refused = browser.get(&format!("/v1/nodes/n2/history{of_n1}")).await?;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        Ok(())
    });
}

#[test]
fn the_answer_to_a_question_about_hardware_has_pages() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(6).await?;
        // n5 and n6 send no inventory.
        let agents = cluster.run_all(4).await?;
        let browser = Browser::new(&cluster)?;
        let delete = async || anyhow::Ok(cluster.client().delete_node(&name(2)).await?);
        let first = "?limit=2&columns=name,memory_bytes&filter=name+!%3D+%22n3%22";
        let pages = walk(&browser, "/v1/inventory", first, delete).await?;
        let names = |page: &Value, kind: &str| {
            let rows = page[kind].as_array().into_iter().flatten();
            rows.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let seen: Vec<_> =
            pages.iter().map(|page| (names(page, "nodes"), names(page, "unclear"))).collect();
        let rows = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = [
            (rows(&["n1", "n2"]), rows(&[])),
            (rows(&["n4"]), rows(&["n5"])),
            (rows(&[]), rows(&["n6"])),
        ];
        assert_eq!(seen, expected);
        assert!(
            pages.iter().all(|page| page["columns"] == json!(["name", "memory_bytes"])),
            "{pages:?}"
        );

        // The client puts the pages together; and whole inventories come in pages too.
        let answer = cluster.client().query_inventory(None, None, Some("name"), None).await?;
        assert_eq!((answer.nodes.len(), answer.unclear.len()), (3, 2));
        let whole: Value = browser.get("/v1/inventory?limit=1").await?.json().await?;
        assert!(whole["nodes"][0]["inventory"].is_object(), "{whole}");
        drop(agents);
        Ok(())
    });
}

#[test]
fn a_browser_logs_in_and_changes_what_it_saw() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(1).await?;
        let browser = Browser::new(&cluster)?;
        let token = &browser.context.token;
        let begun = browser.request(Method::POST, "/v1/session")?.bearer_auth(token).send().await?;
        assert_eq!(begun.status(), StatusCode::CREATED);
        let cookie =
            begun.headers()[header::SET_COOKIE].to_str()?.split(';').next().unwrap().to_owned();
        let origin = browser.context.server.origin().ascii_serialization();
        let shown = browser
            .request(Method::GET, "/v1/nodes/n1")?
            .header(header::COOKIE, &cookie)
            .send()
            .await?;
        let seen = shown.headers()[header::ETAG].clone();
        let change = async |origin: &str, seen: &header::HeaderValue, comment: &str| {
            let request =
                browser.request(Method::PATCH, "/v1/nodes/n1")?.header(header::COOKIE, &cookie);
            let request = request.header(header::ORIGIN, origin).header(header::IF_MATCH, seen);
            let answer = request.json(&json!({ "comment": comment })).send().await?;
            anyhow::Ok((answer.status(), answer.headers().get(header::ETAG).cloned()))
        };
        let (status, _) = change("https://evil.example", &seen, "theirs").await?;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let (status, next) = change(&origin, &seen, "first").await?;
        assert_eq!(status, StatusCode::OK);
        assert_ne!(next.as_ref(), Some(&seen), "another version");
        let (status, _) = change(&origin, &seen, "second").await?;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "somebody changed it meanwhile");
        let node = cluster.client().node(&name(1)).await?;
        assert_eq!(node.spec.comment.as_deref(), Some("first"));

        let wanted = json!({ "method": "GET", "path": "/v1/nodes/watch" });
        let ticket = browser.request(Method::POST, "/v1/tickets")?.header(header::COOKIE, &cookie);
        let ticket: Value =
            ticket.header(header::ORIGIN, &origin).json(&wanted).send().await?.json().await?;
        let path =
            format!("/v1/nodes/watch?ticket={}", ticket["ticket"].as_str().context("no ticket")?);
        let response = browser.request(Method::GET, &path)?.send().await?;
        assert_eq!(response.status(), StatusCode::OK);
        let (events, _) = Watch { response, text: String::new() }.until_id().await?;
        let names: BTreeSet<&str> =
            events.iter().filter_map(|event| event.data["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["n1"]));
        let again = browser.request(Method::GET, &path)?.send().await?;
        assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
        Ok(())
    });
}

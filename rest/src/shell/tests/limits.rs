//! Who is let in.

use super::*;

#[tokio::test]
async fn silent_connections_beyond_the_limit_do_not_keep_a_good_client_out() {
    let served = Served::new(Limits { unproven_per_address: 8, ..generous() }).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(served.connect().await);
    }
    for count in 0..20 {
        assert!(served.ask("/").await.ends_with("here"), "try {count}");
    }
    assert!(served.ended("evicted") >= 32, "{}", served.ended("evicted"));
    assert_eq!(rest_of(&mut silent[0]).await, b"", "the first was closed");
    assert!(served.shell.open(Listener::Api) <= 8);
    served.close().await;
}

#[tokio::test]
async fn a_listener_that_is_full_of_silent_connections_lets_a_good_client_in() {
    let limits = Limits { unproven: 16, unproven_per_address: 100, ..generous() };
    let served = Served::new(limits).await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(served.connect().await);
    }
    assert!(served.ask("/").await.ends_with("here"));
    assert!(served.ended("evicted") >= 19, "{}", served.ended("evicted"));
    served.close().await;
}

#[tokio::test]
async fn answers_that_are_given_are_not_ended_for_silent_connections() {
    let served = Served::new(Limits { unproven_per_address: 2, ..generous() }).await;
    let busy = [served.busy().await, served.busy().await];
    while served.refused("address") == 0 {
        drop(served.connect().await);
        tokio::task::yield_now().await;
    }
    served.waits.go.notify_waiters();
    for mut connection in busy {
        assert!(read_answer(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"));
    }
    served.close().await;
}

#[tokio::test]
async fn who_has_proved_something_is_not_counted_by_address() {
    let served = Served::new(Limits { unproven_per_address: 2, ..generous() }).await;
    let mut proven = Vec::new();
    for _ in 0..20 {
        let mut connection = served.connect().await;
        assert!(ask_over(&mut connection, "/prove").await.starts_with("HTTP/1.1 200"));
        proven.push(connection);
    }
    assert_eq!(served.counted(r#"bedplate_connections{listener="api",client="proven"}"#), 20);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(served.connect().await);
    }
    assert!(served.ask("/").await.ends_with("here"));
    for connection in &mut proven {
        assert!(ask_over(connection, "/").await.ends_with("here"), "it was not ended for others");
    }
    drop(proven);
    drop(silent);
    served.wait_for_open(0).await;
    served.close().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_is_closed() {
    let served = Served::new(Limits { unproven_per_address: 1, ..generous() }).await;
    for _ in 0..50 {
        drop(served.silent().await);
        served.wait_for_open(0).await;
    }
    assert_eq!(served.ended("evicted"), 0);
    served.close().await;
}

/// A listener that has no descriptor for a while.
struct Exhausted {
    tcp: TcpListener,
    failures: usize,
    spares: Arc<AtomicUsize>,
}

impl Acceptor for Exhausted {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(rustix::io::Errno::MFILE.into());
        }
        self.tcp.next().await
    }

    fn spare(&self) -> io::Result<OwnedFd> {
        self.spares.fetch_add(1, Relaxed);
        self.tcp.spare()
    }
}

#[tokio::test]
async fn a_process_without_descriptors_goes_on_when_it_has_some_again() {
    let spares = Arc::new(AtomicUsize::new(0));
    let counted = spares.clone();
    let served =
        Served::with_door(generous(), |tcp| Exhausted { tcp, failures: 5, spares: counted }).await;
    // The first that could be taken is closed for want of a descriptor.
    let mut answer = Err(io::ErrorKind::NotConnected.into());
    while answer.is_err() {
        answer = try_to_ask(&mut served.connect().await, "/").await;
    }
    assert!(answer.unwrap().ends_with("here"));
    assert_eq!(
        served.refused("descriptors"),
        3,
        "five failures, each second one with the spare given up"
    );
    assert_eq!(spares.load(Relaxed), 4);
    served.close().await;
}

#[tokio::test]
async fn without_descriptors_the_longest_silent_connections_are_ended() {
    let served = Served::new(generous()).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(served.silent().await);
    }
    served.shell.evict(8);
    assert_eq!(served.shell.open(Listener::Api), 2);
    for connection in &mut silent[..8] {
        assert_eq!(rest_of(connection).await, b"");
    }
    assert!(ask_over(&mut silent[8], "/").await.ends_with("here"));
    served.close().await;
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_refused() {
    let served = Served::new(generous()).await;
    let mut connection = served.connect().await;
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    connection.write_all(settings).await.unwrap();
    let heard = rest_of(&mut connection).await;
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{heard:?}");
    served.wait_for_open(0).await;
    // An offer to upgrade is no upgrade (RFC 9113, appendix B).
    let mut connection = served.connect().await;
    let offer =
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    connection.write_all(offer).await.unwrap();
    assert!(read_answer(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"));
    served.close().await;
}

const BODIES: &str = r#"bedplate_request_body_bytes{client="unproven"}"#;
const PROVEN_BODIES: &str = r#"bedplate_request_body_bytes{client="proven"}"#;

/// A request whose body is declared so long, with its first bytes.
async fn post(served: &Served, length: usize, sent: usize) -> TcpStream {
    let mut connection = served.connect().await;
    post_over(&mut connection, length, sent).await;
    connection
}

async fn post_over(connection: &mut TcpStream, length: usize, sent: usize) {
    let sent = "x".repeat(sent);
    let head =
        format!("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{sent}");
    connection.write_all(head.as_bytes()).await.unwrap();
}

async fn wait_for_charge(served: &Served) {
    while served.counted(BODIES) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bodies_that_exceed_the_budget_together_all_come_one_after_the_other() {
    let served = Served::new(Limits { unproven_body_bytes: 1_000, ..generous() }).await;
    let mut posts = Vec::new();
    for _ in 0..3 {
        posts.push(post(&served, 900, 400).await);
    }
    wait_for_charge(&served).await;
    // Each has begun, and no two fit.
    for connection in &mut posts {
        connection.write_all("x".repeat(500).as_bytes()).await.unwrap();
    }
    for mut connection in posts {
        let answer = read_answer(&mut connection).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("900"), "{answer}");
    }
    assert_eq!(served.counted(BODIES), 0, "all is given back");
    served.close().await;
}

#[tokio::test]
async fn a_body_that_trickles_keeps_others_out_until_it_is_given_up() {
    let speed = LeastSpeed { window: SHORT * 5, bytes: 1 };
    let mut limits = with_deadlines(|deadlines| deadlines.body = speed);
    limits.unproven_body_bytes = 1_000;
    let served = Served::new(limits).await;
    let mut first = post(&served, 901, 900).await;
    wait_for_charge(&served).await;
    let mut second = post(&served, 900, 900).await;
    // That it waits is not held against the second.
    let (one, other) = tokio::join!(rest_of(&mut first), read_answer(&mut second));
    assert!(one.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&one));
    let other = other.unwrap();
    assert!(other.starts_with("HTTP/1.1 200") && other.ends_with("900"), "{other}");
    assert_eq!([served.ended("body"), served.ended("body-budget")], [1, 0]);
    assert_eq!(served.counted(BODIES), 0, "all is given back");
    served.close().await;
}

#[tokio::test]
async fn a_body_that_finds_no_room_is_told_to_come_again() {
    let mut limits = with_deadlines(|deadlines| deadlines.body_room = SHORT);
    limits.unproven_body_bytes = 1_000;
    let served = Served::new(limits).await;
    let mut first = post(&served, 901, 900).await;
    wait_for_charge(&served).await;
    let answer = read_answer(&mut post(&served, 900, 900).await).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    assert_eq!(served.ended("body-budget"), 1);
    first.write_all(b"x").await.unwrap();
    assert!(read_answer(&mut first).await.unwrap().ends_with("901"), "it was not disturbed");
    served.close().await;
}

#[tokio::test]
async fn what_a_stranger_declares_and_no_route_would_take_is_not_charged() {
    let served = Served::new(generous()).await;
    let connection = post(&served, 1 << 20, 1).await;
    wait_for_charge(&served).await;
    assert_eq!(served.counted(BODIES), 16 << 10, "what an enrolment may have");
    drop(connection);
    served.close().await;
}

#[tokio::test]
async fn a_body_of_unknown_length_comes_whole() {
    let served = Served::new(Limits { unproven_body_bytes: 64 << 20, ..generous() }).await;
    let mut connection = served.connect().await;
    let head = "POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let part = format!("{:x}\r\n{}\r\n", 300 << 10, "x".repeat(300 << 10));
    for _ in 0..6 {
        connection.write_all(part.as_bytes()).await.unwrap();
    }
    connection.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut connection).await.unwrap().ends_with(&(1_800 << 10).to_string()));
    assert_eq!(served.counted(BODIES), 0);
    served.close().await;
}

#[tokio::test]
async fn bodies_of_proven_clients_are_not_counted_by_address() {
    let served = Served::new(generous()).await;
    let mut posts = Vec::new();
    for _ in 0..2 {
        let mut connection = served.connect().await;
        assert!(ask_over(&mut connection, "/prove").await.starts_with("HTTP/1.1 200"));
        post_over(&mut connection, 400 << 10, 1).await;
        posts.push(connection);
    }
    // They are of one address, and each has more than a quarter of 1 MiB.
    while served.counted(PROVEN_BODIES) < 800 << 10 {
        tokio::task::yield_now().await;
    }
    drop(posts);
    served.close().await;
}

#[tokio::test]
async fn small_bodies_of_proven_clients_do_not_wait_behind_large_ones() {
    let bodies = request_body::Budgets::new(&generous());
    let source = Source::of(Ipv4Addr::LOCALHOST.into());
    let acquire = |bytes: u64| {
        tokio::time::timeout(Duration::ZERO, bodies.of(true, bytes).acquire(source, bytes))
    };
    let mut held = vec![acquire(800 << 10).await.unwrap().unwrap()];
    let mut waiting = bodies.of(true, 800 << 10).acquire(source, 800 << 10);
    assert!(
        tokio::time::timeout(Duration::ZERO, waiting.as_mut()).await.is_err(),
        "there is no room"
    );
    for small in [1, 2 << 10, 64 << 10] {
        held.push(acquire(small).await.unwrap().unwrap());
    }
    assert!(acquire((64 << 10) + 1).await.is_err(), "each of the others has its turn");
    // What waits holds what there is already.
    drop(waiting);
    assert_eq!(bodies.used(true), (866 << 10) + 1);
    assert_eq!(bodies.used(false), 0);
}

#[test]
fn bodies_of_strangers_of_one_address_have_a_quarter_of_the_budget() {
    let (budget, mut held) = (request_body::Budget::new(1_000, 4), Vec::new());
    let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| Source::of(address.parse().unwrap()));
    while let Some(permit) = budget.try_acquire(one, 50) {
        held.push(permit);
    }
    assert_eq!((held.len(), budget.used()), (5, 250));
    assert!(budget.try_acquire(other, 200).is_some());
    held.pop();
    assert!(budget.try_acquire(one, 50).is_some());
}

#[tokio::test]
async fn a_part_that_is_larger_than_the_budget_comes_through() {
    let served = Served::new(Limits { unproven_body_bytes: 10, ..generous() }).await;
    let mut connection = served.connect().await;
    let request =
        format!("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{}", "x".repeat(15));
    connection.write_all(request.as_bytes()).await.unwrap();
    assert!(read_answer(&mut connection).await.unwrap().ends_with("15"));
    served.close().await;
}

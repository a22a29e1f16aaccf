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
    assert!(served.shell.open(Listener::Boot) <= 8);
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
    assert_eq!(served.counted(r#"bedplate_connections{listener="boot",client="proven"}"#), 20);
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

impl Door for Exhausted {
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
    let served = Served::with_door(generous(), |tcp| Exhausted { tcp, failures: 5, spares: counted }).await;
    // The first that could be taken is closed for want of a descriptor.
    let mut answer = Err(io::ErrorKind::NotConnected.into());
    while answer.is_err() {
        answer = try_to_ask(&mut served.connect().await, "/").await;
    }
    assert!(answer.unwrap().ends_with("here"));
    assert_eq!(served.refused("descriptors"), 3, "five failures, each second one with the spare given up");
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
    assert_eq!(served.shell.open(Listener::Boot), 2);
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
    let offer = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    connection.write_all(offer).await.unwrap();
    assert!(read_answer(&mut connection).await.unwrap().starts_with("HTTP/1.1 200"));
    served.close().await;
}

#[tokio::test]
async fn bodies_of_all_requests_together_have_a_budget() {
    let mut limits = with_deadlines(|deadlines| deadlines.body = LeastSpeed { window: SHORT, bytes: 1 });
    limits.unproven_body_bytes = 1_000;
    let served = Served::new(limits).await;
    let post = |length: usize| {
        format!("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(900))
    };
    let mut first = served.connect().await;
    first.write_all(post(901).as_bytes()).await.unwrap();
    while served.counted(r#"bedplate_request_body_bytes{client="unproven"}"#) == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = served.connect().await;
    second.write_all(post(900).as_bytes()).await.unwrap();
    // Either the first is given up for its silence and the second has its room, or the second is
    // refused.
    let (one, other) = tokio::join!(rest_of(&mut first), read_answer(&mut second));
    assert!(one.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&one));
    let other = other.unwrap();
    assert!(other.ends_with("900") || other.starts_with("HTTP/1.1 4"), "{other}");
    assert!(served.ended("body") + served.ended("body-budget") >= 1);
    assert_eq!(served.counted(r#"bedplate_request_body_bytes{client="unproven"}"#), 0, "all is given back");
    served.close().await;
}

#[tokio::test]
async fn a_part_that_is_larger_than_the_budget_comes_through() {
    let served = Served::new(Limits { unproven_body_bytes: 10, ..generous() }).await;
    let mut connection = served.connect().await;
    let request = format!("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{}", "x".repeat(15));
    connection.write_all(request.as_bytes()).await.unwrap();
    assert!(read_answer(&mut connection).await.unwrap().ends_with("15"));
    served.close().await;
}

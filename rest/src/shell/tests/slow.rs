//! Clients that are silent, slow or deaf.

use super::*;

fn least(bytes: u64) -> LeastSpeed {
    LeastSpeed { window: SHORT, bytes }
}

/// Sends a byte again and again until the server has closed the connection.
async fn trickle(connection: &mut TcpStream) {
    loop {
        let (mut part, pause) = ([0; 256], Duration::from_millis(5));
        if connection.write_all(b"a").await.is_err() {
            return;
        }
        if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(pause, connection.read(&mut part)).await {
            return;
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.head = SHORT)).await;
    let mut connection = served.connect().await;
    assert_eq!(rest_of(&mut connection).await, b"");
    assert_eq!(served.ended("head"), 1);
    served.close().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_dropped() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.head = SHORT)).await;
    let mut connection = served.connect().await;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-a: ").await.unwrap();
    trickle(&mut connection).await;
    assert_eq!(served.ended("head"), 1);
    served.close().await;
}

#[tokio::test]
async fn the_second_head_of_a_connection_has_the_same_deadline() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.head = SHORT)).await;
    let mut connection = served.connect().await;
    // On a machine that stood still for a moment the first is too late as well.
    while try_to_ask(&mut connection, "/").await.is_err() {
        connection = served.connect().await;
    }
    let before = served.ended("head");
    // That it was idle does not count.
    connection.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-a: ").await.unwrap();
    trickle(&mut connection).await;
    assert_eq!(served.ended("head"), before + 1);
    served.close().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.idle = SHORT)).await;
    let mut connection = served.connect().await;
    assert!(ask_over(&mut connection, "/").await.ends_with("here"));
    assert_eq!(rest_of(&mut connection).await, b"");
    assert_eq!(served.ended("idle"), 1);
    served.close().await;
}

#[tokio::test]
async fn a_proven_client_may_wait_for_its_answer_and_nobody_else() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.request = SHORT)).await;
    let mut proven = served.connect().await;
    ask_over(&mut proven, "/prove").await;
    proven.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    served.waits.begun.acquire().await.unwrap().forget();
    let late = served.ask("/wait").await;
    assert!(late.starts_with("HTTP/1.1 503"), "{late}");
    assert_eq!(served.ended("request"), 1);
    served.waits.go.notify_waiters();
    assert!(read_answer(&mut proven).await.unwrap().starts_with("HTTP/1.1 200"));
    served.close().await;
}

#[tokio::test]
async fn a_body_that_trickles_is_dropped() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.body = least(1_000))).await;
    let mut connection = served.connect().await;
    connection
        .write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        .await
        .unwrap();
    trickle(&mut connection).await;
    assert_eq!(served.ended("body"), 1);
    served.wait_for_open(0).await;
    served.close().await;
}

#[tokio::test]
async fn a_large_body_of_a_proven_client_that_would_take_hours_is_dropped() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.proven_body = least(1))).await;
    let mut connection = served.connect().await;
    ask_over(&mut connection, "/prove").await;
    // 317 bytes in each tenth of a second have it here within ten minutes; 20 at most are sent.
    connection
        .write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1900000\r\n\r\n")
        .await
        .unwrap();
    trickle(&mut connection).await;
    assert_eq!(served.ended("body"), 1);
    served.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_dropped() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.answer = least(1))).await;
    let mut connection = served.connect().await;
    // Many answers, as a client asks that wants to fill the server's memory.
    let asked = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    connection.write_all(asked.as_bytes()).await.unwrap();
    while served.ended("answer") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    served.wait_for_open(0).await;
    served.close().await;
}

#[tokio::test]
async fn an_answer_that_is_read_comes_whole() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.answer = least(1))).await;
    let mut connection = served.connect().await;
    let asked = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    connection.write_all(asked).await.unwrap();
    let heard = rest_of(&mut connection).await;
    assert!(heard.len() > LARGE_BYTES, "{} bytes came", heard.len());
    assert_eq!(served.ended("answer"), 0);
    served.close().await;
}

/// Asks for what is answered in one part, and reads the beginning.
async fn large_begun(served: &Served) -> (TcpStream, usize) {
    let mut connection = served.connect().await;
    connection.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    (connection, LARGE_BYTES)
}

#[tokio::test]
async fn an_answer_in_one_part_that_is_read_slowly_comes_whole() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.idle = SHORT)).await;
    let (mut connection, mut left) = large_begun(&served).await;
    let mut part = vec![0; 1 << 20];
    for _ in 0..20 {
        connection.read_exact(&mut part).await.unwrap();
        left -= part.len();
        tokio::time::sleep(SHORT / 4).await;
    }
    while left > 0 {
        let count = connection.read(&mut part).await.unwrap();
        assert!(count > 0, "{left} bytes did not come");
        left -= count;
    }
    // What comes after it is silence.
    assert_eq!(rest_of(&mut connection).await, b"");
    assert_eq!(served.ended("idle"), 1);
    served.close().await;
}

#[tokio::test]
async fn an_answer_in_one_part_is_not_ended_for_newer_connections() {
    let served = Served::new(Limits { unproven_per_address: 1, ..generous() }).await;
    let (mut connection, mut left) = large_begun(&served).await;
    while served.refused("address") == 0 {
        drop(served.connect().await);
        tokio::task::yield_now().await;
    }
    let mut part = vec![0; 1 << 20];
    while left > 0 {
        let count = connection.read(&mut part).await.unwrap();
        assert!(count > 0, "{left} bytes did not come");
        left -= count;
    }
    assert_eq!(served.ended("evicted"), 0);
    served.close().await;
}

#[test]
fn a_connection_is_busy_until_its_answer_is_flushed() {
    let mut limits = Limits { unproven_per_address: 1, ..generous() };
    limits.deadlines.stale = Duration::from_secs(10);
    let shell = Shell::new(limits);
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let seat = Arc::new(shell.enter(Listener::Api, remote).unwrap());
    drop(seat.begin());
    let enter = |at: Instant| shell.0.book().enter(Listener::Api, Source::of(remote.ip()), at);
    let later = Instant::now() + Duration::from_secs(20);
    seat.progress(later);
    assert_eq!(enter(later + Duration::from_secs(9)).unwrap_err(), Cause::Address);
    seat.flushed();
    assert!(enter(later).is_ok(), "it waits from now on, and goes");
}

#[tokio::test]
async fn what_a_proven_client_does_not_read_waits_for_it() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.answer = least(1))).await;
    let mut proven = served.connect().await;
    ask_over(&mut proven, "/prove").await;
    let asked = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    proven.write_all(asked).await.unwrap();
    // By the time that a stranger is dropped for it, this one would have been.
    let mut stranger = served.connect().await;
    stranger.write_all(asked).await.unwrap();
    while served.ended("answer") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(rest_of(&mut proven).await.len() > LARGE_BYTES);
    assert_eq!(served.ended("answer"), 1);
    served.close().await;
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_closes_the_others() {
    let served =
        Served::new(with_deadlines(|deadlines| deadlines.stop = Duration::from_secs(3_600))).await;
    let mut running = served.busy().await;
    let silent = served.silent().await;
    let mut idle = served.connect().await;
    ask_over(&mut idle, "/").await;
    served.stop.cancel();
    assert_eq!(rest_of(&mut idle).await, b"");
    served.waits.go.notify_waiters();
    assert!(rest_of(&mut running).await.starts_with(b"HTTP/1.1 200"));
    served.serving.await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_hold_up_the_stop() {
    let served = Served::new(with_deadlines(|deadlines| deadlines.stop = SHORT)).await;
    let mut running = served.busy().await;
    let Served { stop, serving, .. } = served;
    stop.cancel();
    serving.await.unwrap();
    assert_eq!(rest_of(&mut running).await, b"");
}

#[tokio::test]
async fn what_is_held_back_is_read_when_the_gate_opens() {
    let limits = generous();
    let (shell, tcp) =
        (Shell::new(limits), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let mut sender = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
    let (accepted, remote) = tcp.accept().await.unwrap();
    let seat = Arc::new(shell.enter(Listener::Fleet, remote).unwrap());
    let peer = Peer { remote, local: remote };
    let client = Client { peer, certificate: None, seat: seat.clone() };
    let gate = client.read_at_most(1_000);
    let mut guarded = guarded::Guarded::new(accepted, seat);
    let sending = tokio::spawn(async move {
        sender.write_all(&[7; 20_000]).await.unwrap();
        sender
    });
    let (mut heard, mut part) = (0, [0; 300]);
    loop {
        tokio::select! {
            biased;
            count = guarded.read(&mut part) => heard += count.unwrap(),
            () = gate.reached() => break,
        }
    }
    assert!((1_000..1_300).contains(&heard), "a read more at most: {heard}");
    drop(gate);
    let sender = sending.await.unwrap();
    drop(sender);
    let mut rest = Vec::new();
    guarded.read_to_end(&mut rest).await.unwrap();
    assert_eq!(heard + rest.len(), 20_000);
}

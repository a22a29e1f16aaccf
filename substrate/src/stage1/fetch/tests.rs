//! Against boot servers that misbehave, each a thread on loopback that answers what it is told.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use super::*;

/// What a server does with one request, given the offset that was asked for: the
/// bytes of its answer.
type Answer = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// A server that answers its n-th connection with the n-th answer, and closes. It notes the
/// offsets asked for.
fn server(answers: Vec<Answer>) -> (SocketAddr, Arc<Mutex<Vec<u64>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let noted = offsets.clone();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut offset = 0;
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    offset = range.trim_end_matches('-').parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            noted.lock().unwrap().push(offset);
            stream.write_all(&answer(offset)).unwrap();
        }
    });
    (address, offsets)
}

const CONTENT: &[u8] = b"the root image, which is quite short";

fn whole() -> Answer {
    cut(CONTENT.len())
}

/// Honest headers, but the connection ends when `until` bytes of the image were sent in all.
fn cut(until: usize) -> Answer {
    Box::new(move |offset| {
        let offset = usize::try_from(offset).unwrap();
        let (status, range) = if offset == 0 {
            ("200 OK", String::new())
        } else {
            (
                "206 Partial Content",
                format!(
                    "Content-Range: bytes {offset}-{}/{}\r\n",
                    CONTENT.len() - 1,
                    CONTENT.len()
                ),
            )
        };
        let length = CONTENT.len() - offset;
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{range}\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(&CONTENT[offset..until.max(offset)]);
        answer
    })
}

fn body(status: &'static str, content: &'static [u8]) -> Answer {
    Box::new(move |_| {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        )
        .into_bytes();
        answer.extend_from_slice(content);
        answer
    })
}

fn image() -> RootImage {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, CONTENT).as_ref());
    RootImage {
        format: "squashfs".into(),
        digest: Digest(digest),
        size: CONTENT.len() as u64,
        version: "debian-node@2".into(),
    }
}

/// The result, and what was told.
async fn fetched(servers: &[SocketAddr]) -> (Result<Vec<u8>, FetchError>, Vec<String>) {
    let client =
        crate::fleet_port::http_client(crate::tls::pinned(Digest([0; 32])).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.squashfs");
    let mut told = Vec::new();
    let result = fetch(&client, servers, &image(), &path, &mut |_| {}, &mut |line| {
        told.push(line.to_owned())
    })
    .await;
    (result.map(|()| std::fs::read(&path).unwrap()), told)
}

#[tokio::test]
async fn a_broken_download_is_resumed_at_the_next_server() {
    let (first, first_offsets) = server(vec![cut(10), whole()]);
    let (second, second_offsets) = server(vec![cut(20)]);
    let (result, told) = fetched(&[first, second]).await;
    assert_eq!(result.unwrap(), CONTENT);
    assert_eq!(*first_offsets.lock().unwrap(), [0, 20]);
    assert_eq!(*second_offsets.lock().unwrap(), [10]);
    assert_eq!(told.len(), 3, "{told:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_behind_the_last_byte_is_no_loss() {
    // In chunks, whose end never comes.
    let chunked: Answer = Box::new(|_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        [format!("{head}{:x}\r\n", CONTENT.len()).as_bytes(), CONTENT, b"\r\n"].concat()
    });
    let (first, _) = server(vec![chunked]);
    let (second, offsets) = server(vec![body("416 Range Not Satisfiable", b"")]);
    let (result, told) = fetched(&[first, second]).await;
    assert_eq!(result.unwrap(), CONTENT);
    assert_eq!((told.len(), offsets.lock().unwrap().len()), (1, 0), "{told:?}");
}

#[tokio::test]
async fn a_server_that_ignores_the_range_starts_again() {
    let (first, _) = server(vec![cut(10)]);
    let (second, _) = server(vec![body("200 OK", CONTENT)]);
    let (result, _) = fetched(&[first, second]).await;
    assert_eq!(result.unwrap(), CONTENT);
}

#[tokio::test]
async fn wrong_bytes_are_fetched_again_elsewhere() {
    let (bad, _) = server(vec![body("200 OK", b"not the root image, but just as long")]);
    let (good, _) = server(vec![whole()]);
    let (result, told) = fetched(&[bad, good]).await;
    assert_eq!(result.unwrap(), CONTENT);
    assert!(told[0].contains("digest"), "{told:?}");
}

#[tokio::test]
async fn wrong_bytes_twice_name_both_digests() {
    let wrong: &[u8] = b"not the root image, but just as long";
    assert_eq!(wrong.len(), CONTENT.len());
    let (bad, _) = server(vec![body("200 OK", wrong), body("200 OK", wrong)]);
    let (result, _) = fetched(&[bad]).await;
    let error = result.unwrap_err();
    let FetchError::Digest { expected, actual, .. } = &error else { panic!("{error}") };
    assert!(
        error.to_string().contains(&expected.to_string())
            && error.to_string().contains(&actual.to_string())
    );
}

#[tokio::test]
async fn other_answers_are_passed_over_with_their_reason() {
    let (missing, _) = server(vec![body("404 Not Found", b"")]);
    let (too_much, _) =
        server(vec![body("200 OK", b"much more than the root image, which has to be seen")]);
    let (good, offsets) = server(vec![whole()]);
    let (result, told) = fetched(&[missing, too_much, good]).await;
    assert_eq!(result.unwrap(), CONTENT);
    assert_eq!(*offsets.lock().unwrap(), [0]);
    assert!(
        told[0].contains("status 404") && told[1].contains("more than the 36 bytes"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_file_that_takes_no_more_is_the_cause() {
    let (good, _) = server(vec![whole()]);
    let client =
        crate::fleet_port::http_client(crate::tls::pinned(Digest([0; 32])).unwrap()).unwrap();
    let result =
        fetch(&client, &[good], &image(), Path::new("/dev/full"), &mut |_| {}, &mut |_| {}).await;
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Write { .. }), "{error}");
    assert!(crate::console::chain(&error).contains("No space left"), "{error}");
}

#[test]
fn ranges() {
    assert!(range_starts_at("bytes 100-199/200", 100));
    for bad in ["", "bytes */200", "bytes 99-199/200", "100-199/200"] {
        assert!(!range_starts_at(bad, 100), "{bad}");
    }
}

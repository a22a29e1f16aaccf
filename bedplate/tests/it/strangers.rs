//! Connections to a real server that say nothing, or not HTTP/1.1.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::runtime::Builder;

use crate::server::Server;

/// Steps of 100 ms in which a good client must be heard.
const MAX_STEPS: u32 = 300;

const STEP: Duration = Duration::from_millis(100);

/// A server that takes few strangers of one address.
fn tight() -> Server {
    let mut server = Server::start();
    server.kill_and_restart_after(|directory: &Path| {
        let path = directory.join("server.yaml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "limits: {unproven-per-address: 8}\n").unwrap();
    });
    server
}

pub(crate) fn port(server: &Server, port: u16) -> SocketAddr {
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    SocketAddr::new(context.server.host_str().unwrap().parse().unwrap(), port)
}

pub(crate) fn metrics(server: &Server) -> String {
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // A first try may come while too many others are too young to go for it.
    for _ in 0..MAX_STEPS {
        if let Ok(text) = runtime.block_on(client::Client::new(&context).unwrap().metrics()) {
            return text;
        }
        thread::sleep(STEP);
    }
    panic!("no metrics: {}", fs::read_to_string(server.path("log")).unwrap());
}

/// The answer of the boot port to one request.
fn ask(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(request)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A good client is heard by the boot port, ten times.
pub(crate) fn boot_port_answers(server: &Server) {
    let request = b"GET /firmware/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut heard = 0;
    for _ in 0..MAX_STEPS {
        match ask(port(server, 9480), request) {
            Ok(answer) if answer.starts_with(b"HTTP/1.1 404") => heard += 1,
            _ => thread::sleep(STEP),
        }
        if heard == 10 {
            return;
        }
    }
    panic!("heard {heard} times: {}", fs::read_to_string(server.path("log")).unwrap());
}

/// The first sample whose line has this in it.
fn sample<'a>(told: &'a str, part: &str) -> &'a str {
    told.lines().find(|line| line.contains(part)).unwrap()
}

#[test]
fn silent_connections_keep_no_good_client_out() {
    let server = tight();
    let mut silent = Vec::new();
    for number in [9480, 9443, 9470] {
        for _ in 0..60 {
            silent.push(TcpStream::connect(port(&server, number)).unwrap());
        }
    }
    boot_port_answers(&server);
    let told = metrics(&server);
    let refused = sample(&told, r#"_refused_total{listener="api",cause="address"} "#);
    assert!(!refused.ends_with(" 0"), "{refused}");
    // Who asks for them has a token.
    let proven = sample(&told, r#"{listener="api",client="proven"} "#);
    assert!(!proven.ends_with(" 0"), "{proven}");
    let log = fs::read_to_string(server.path("log")).unwrap();
    let said =
        log.lines().filter(|line| line.contains("api port: connections refused: too many of one"));
    assert!((1..=2).contains(&said.count()), "a flood is one line a minute: {log}");
    drop(silent);
}

#[test]
fn a_server_that_may_open_no_more_files_goes_on() {
    let server = Server::start();
    let (pid, most) = (Pid::from_raw(server.pid()), getrlimit(Resource::Nofile).maximum);
    let allow =
        |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum: most }).unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    allow(Some(open as u64 + 10));
    let silent: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(port(&server, 9480)).unwrap()).collect();
    boot_port_answers(&server);
    allow(most);
    let told = metrics(&server);
    let refused = sample(&told, r#"_refused_total{listener="boot",cause="descriptors"} "#);
    assert!(!refused.ends_with(" 0"), "{refused}");
    drop(silent);
}

#[test]
fn the_boot_port_speaks_no_http2() {
    let server = Server::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    match ask(port(&server, 9480), preface) {
        Ok(answer) => assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

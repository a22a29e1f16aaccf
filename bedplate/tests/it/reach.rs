//! Pulls for users on a running server: what they cannot make the server connect to, and what they
//! and the admin are told of it.

use std::{fs, io::ErrorKind, net::TcpListener, path::Path, thread, time::Duration};

use crate::server::Server;

/// Looks at a workflow, which has nothing to wait for.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// `workflow status` of a workflow of ann's whose job has this image, once that has failed.
#[track_caller]
fn refused(server: &Server, name: &str, image: &str) -> String {
    let document =
        format!("version: v1\njobs: {{main: {{image: 'docker://{image}', command: [x]}}}}\n");
    server.run_with(&["workflow", "start", name, "-", "--as", "ann"], &document, &[]).ok();
    let mut status = String::new();
    for _ in 0..LOOKS {
        status = server.run(&["workflow", "status", name]).ok();
        if status.contains("out of reach of pulls") {
            return status;
        }
        thread::sleep(PAUSE);
    }
    panic!("{status}\n{}", fs::read_to_string(server.path("log")).unwrap());
}

#[test]
fn no_pull_of_a_user_reaches_loopback_or_the_server() {
    let mut server = Server::start();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let own = admin.server.host_str().unwrap().to_owned();
    // The configuration of these tests names loopback, which names no port of the server's.
    for port in [9443, 9470, 9480] {
        refused(&server, &format!("own-{port}"), &format!("{own}:{port}/x:1"));
    }
    let log = || fs::read_to_string(server.path("log")).unwrap();
    assert!(log().contains(&format!("{own}:9470, a port of this server")), "{}", log());
    // As the server is configured without tests.
    server.kill_and_restart_after(|directory: &Path| {
        let path = directory.join("server.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let strict = text.replace("registries: {allow: [127.0.0.0/8]}\n", "");
        assert_ne!(strict, text);
        fs::write(&path, strict).unwrap();
    });
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let port = inside.local_addr().unwrap().port();
    for (name, host) in [("address", "127.0.0.1"), ("name", "localhost")] {
        let status = refused(&server, name, &format!("{host}:{port}/x:1"));
        assert!(status.contains("an admin can name it"), "{status}");
        // Which address a name leads to is the admin's to know.
        assert!(!status.contains("loopback"), "{status}");
    }
    refused(&server, "metadata", "169.254.169.254/latest/meta-data:1");
    assert_eq!(inside.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let log = fs::read_to_string(server.path("log")).unwrap();
    assert!(log.contains(&format!("127.0.0.1:{port}, a loopback address")), "{log}");
}

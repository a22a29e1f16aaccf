//! Actions over several nodes or workflows: each outcome is told, and one that fails
//! spares no other.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use crate::server::{Server, bedplate, done};

#[test]
fn workflows_that_are_not_there_spare_no_other() {
    let server = Server::start();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "1001"]).ok();
    // It answers nobody, so that the workflows wait for their image.
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let document = format!(
        "version: v1\njobs: {{a: {{image: 'docker://{}/a', command: [b], \
         resource: {{cpu: {{cores: 1}}, memory: {{size: 1MiB}}}}}}}}\n",
        registry.local_addr().unwrap()
    );
    let start = |name| {
        let words = ["workflow", "start", name, "-", "--as", "ann"];
        server.run_with(&words, &document, &[]).ok().trim().to_owned()
    };
    let (one, two) = (start("one"), start("two"));
    for (verb, doing, undone) in [
        ("pause", "paused", "paused"),
        ("resume", "resumed", "resumed"),
        ("stop", "stopping", "stopped"),
    ] {
        let told = server.run(&["workflow", verb, "gone", "one", "lost", "two"]);
        assert_eq!(told.code, Some(1), "{told:?}");
        assert_eq!(told.stdout, format!("{doing} one ({one})\n{doing} two ({two})\n"), "{told:?}");
        let lines: Vec<&str> = told.stderr.lines().collect();
        let [gone, lost, last] = lines.as_slice() else { panic!("{told:?}") };
        assert!(gone.starts_with("gone: cannot ") && lost.starts_with("lost: cannot "), "{told:?}");
        assert_eq!(*last, format!("error: not {undone}: gone, lost"));
    }
}

#[test]
fn nodes_that_are_not_there_spare_no_other() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let told = server.run(&["node", "drain", "n1,n7,n2", "--reason", "new memory"]);
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), "drained n[1-2]\n"), "{told:?}");
    assert!(told.stderr.ends_with("\nerror: not drained: n7\n"), "{told:?}");
}

/// A server that answers one request without a body, and is gone.
fn server_of_one_answer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        drop(listener);
        let mut asked = vec![0; 64 << 10];
        let mut length = 0;
        // The body is JSON, and the last that comes.
        while !asked[..length].ends_with(b"}") {
            let more = connection.read(&mut asked[length..]).unwrap();
            assert!(more > 0, "{}", String::from_utf8_lossy(&asked[..length]));
            length += more;
        }
        connection.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    });
    address
}

/// What was done before the server went away is told, and all that was not.
#[test]
fn a_server_that_goes_away_in_the_middle_hides_no_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let context = directory.path().join("context.yaml");
    let server = format!("http://{}", server_of_one_answer());
    let text = serde_json::json!({"server": server, "token": "t"}).to_string();
    std::fs::write(&context, text).unwrap();
    let words = ["node", "drain", "n[1-4]", "--reason", "new memory"];
    let mut command = bedplate(&words);
    command.env("BEDPLATE_CONTEXT", &context);
    let told = done(command, "");
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), "drained n1\n"), "{told:?}");
    assert!(told.stderr.starts_with("n2: cannot reach the server at "), "{told:?}");
    assert!(told.stderr.ends_with("\nerror: not drained: n[2-4]\n"), "{told:?}");
}

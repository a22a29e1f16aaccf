//! Transfers against a store that answers as the test wants: what is told of tries that failed, and
//! directories on their way out.

use std::{collections::VecDeque, os::unix::fs::symlink};

use api::run::{FailedTry, RunNews};

use super::*;

/// A store on loopback, without TLS.
struct Web {
    address: std::net::SocketAddr,
    /// Answers that are not 200, first come.
    answers: Arc<Mutex<VecDeque<u16>>>,
    got: Requests,
}

/// Request lines with their bodies.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Web {
    async fn start(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<u16>>()));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (to_give, taken) = (answers.clone(), got.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (to_give, taken) = (to_give.clone(), taken.clone());
                tokio::spawn(async move {
                    let mut stream = tokio::io::BufStream::new(stream);
                    while let Ok((line, body)) = request(&mut stream).await {
                        let status = to_give.lock().unwrap().pop_front().unwrap_or(200);
                        taken.lock().unwrap().push((line, body));
                        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
                        if stream.write_all(head.as_bytes()).await.is_err()
                            || stream.flush().await.is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, answers, got }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn got(&self) -> BTreeMap<String, Vec<u8>> {
        self.got.lock().unwrap().iter().cloned().collect()
    }
}

async fn request<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let body = read_body(stream, &head.to_lowercase()).await?;
    Ok((line, body))
}

fn egress(number: u128, path: &str, destination: Destination) -> RunSpec {
    spec(number, Work::Egress { volume: "v".into(), path: path.into(), destination })
}

fn ingress(number: u128, url: String) -> RunSpec {
    let source = Source::Http { url };
    spec(number, Work::Ingress { volume: "v".into(), path: "in".into(), source })
}

impl Agent {
    /// Orders a run; all that is said of it up to its end, and the end.
    async fn told(&mut self, spec: RunSpec) -> (Vec<RunNews>, RunEnd) {
        let run = spec.run;
        self.order(ServerRequest::Start(Box::new(spec))).await;
        let mut told = Vec::new();
        let wait = async {
            loop {
                match self.outbox.recv().await.unwrap() {
                    FromAgent::RunNews { run: of, news } if of == run => told.push(news),
                    FromAgent::Run { report } if report.run == run => {
                        if let RunState::Ended(end) = report.state {
                            return *end;
                        }
                    }
                    _ => {}
                }
            }
        };
        let end = timeout(Duration::from_secs(20), wait).await.expect("it does not end");
        (told, end)
    }

    /// The next news.
    async fn news(&mut self) -> RunNews {
        let wait = async {
            loop {
                if let FromAgent::RunNews { news, .. } = self.outbox.recv().await.unwrap() {
                    return news;
                }
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("nothing is told")
    }
}

/// A rig with the volume `v`, and where that is.
async fn with_volume() -> (Rig, Agent, PathBuf) {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let volume = spec(1, volume_work());
    let path = rig.places().volumes.join(volume.workflow.to_string()).join("v");
    assert!(agent.run(volume).await.outcome.is_success());
    (rig, agent, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_failed_is_told_before_the_next_and_in_each_new_session() {
    let (_rig, mut agent, volume) = with_volume().await;
    let web = Web::start(&[503]).await;
    let (told, end) = agent.told(ingress(2, web.url("/in.tar?key=secret"))).await;
    assert!(end.outcome.is_success(), "{end:?}");
    assert_eq!(fs::read(volume.join("in")).unwrap(), b"ok");
    let [RunNews::FailedTry(FailedTry { number: 1, of: 6, why, .. })] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(*why, format!("{} answers 503 Service Unavailable", web.url("/in.tar")));
    assert_eq!((end.usage.written_bytes, end.usage.read_bytes), (2, 0), "`ok`");

    // Nobody listens there.
    let spec = ingress(3, "http://127.0.0.1:9/x".into());
    agent.order(ServerRequest::Start(Box::new(spec.clone()))).await;
    let first = agent.news().await;
    assert!(
        matches!(&first, RunNews::FailedTry(failed) if failed.why.contains("refused")),
        "{first:?}"
    );
    let listed = agent.list().await;
    assert_eq!(listed.len(), 3);
    let again = agent.news().await;
    assert!(
        matches!(&again, RunNews::FailedTry(failed) if failed.why.contains("refused")),
        "{again:?}"
    );
    agent
        .order(ServerRequest::Stop { run: spec.run, grace_seconds: 1, why: "enough".into() })
        .await;
    agent.until(spec.run, is_over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_try_cannot_mend_is_not_tried_again() {
    let (_rig, mut agent, _) = with_volume().await;
    for (number, status) in (2..).zip([404, 403, 410]) {
        let web = Web::start(&[status]).await;
        let (told, end) = agent.told(ingress(number, web.url("/in"))).await;
        assert_eq!(told, []);
        assert!(matches!(end.outcome, Outcome::Failed { transient: false, .. }), "{end:?}");
        assert_eq!(web.got.lock().unwrap().len(), 1);
    }
    for (number, url) in (9..).zip(["http://", "file", "ftp://host/x"]) {
        let (told, end) = agent.told(ingress(number, url.into())).await;
        assert_eq!(told, []);
        assert!(matches!(end.outcome, Outcome::Failed { transient: false, .. }), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_takes_no_memory_that_the_node_does_not_have() {
    let (rig, mut agent, volume) = with_volume().await;
    let meminfo = rig.places().machine.join("proc/meminfo");
    fs::create_dir_all(meminfo.parent().unwrap()).unwrap();
    fs::write(&meminfo, "MemTotal: 1000000 kB\nMemAvailable: 10240 kB\n").unwrap();
    let web = Web::start(&[]).await;
    let (_, end) = agent.told(ingress(2, web.url("/in"))).await;
    let Outcome::Failed { why, transient: true } = end.outcome else { panic!("{end:?}") };
    // Whether the volumes of this test are in memory is the machine's affair.
    let begins = "the node has no memory to spare for volumes: 10 MiB of memory are available";
    assert!(why.starts_with(begins) && why.ends_with(", and 64 are needed"), "{why}");
    assert!(!volume.join("in").exists());
    fs::write(&meminfo, "MemTotal: 1000000 kB\nMemAvailable: 102400 kB\n").unwrap();
    assert!(agent.told(ingress(3, web.url("/in"))).await.1.outcome.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_says_what_it_waited_for() {
    let (_rig, mut agent, _) = with_volume().await;
    // It takes connections and answers nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", silent.local_addr().unwrap());
    let slow = RunSpec { timeout_seconds: 1, ..ingress(2, url.clone()) };
    let (told, end) = agent.told(slow).await;
    assert_eq!(told, []);
    let cause = Some(format!("GET {url} has no answer yet"));
    assert_eq!(end.outcome, Outcome::TimedOut { seconds: 1, cause });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_to_a_url_file_by_file() {
    let (_rig, mut agent, volume) = with_volume().await;
    let out = volume.join("out");
    fs::create_dir_all(out.join("a b")).unwrap();
    for name in ["a b/x", "y", "z"] {
        fs::write(out.join(name), name).unwrap();
    }
    symlink("/etc/shadow", out.join("link")).unwrap();
    // The second file at its first try.
    let web = Web::start(&[200, 503]).await;
    let destination = Destination::Http { url: web.url("/results/") };
    let (told, end) = agent.told(egress(2, "out", destination)).await;
    assert!(end.outcome.is_success(), "{end:?}");
    assert!(web.answers.lock().unwrap().is_empty());
    let got = web.got();
    let paths: Vec<&str> = got.keys().map(String::as_str).collect();
    assert_eq!(paths, ["PUT /results/a%20b/x", "PUT /results/y", "PUT /results/z"]);
    assert_eq!(got["PUT /results/y"], b"y");
    let [RunNews::FailedTry(failed), RunNews::Remark { text }] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(failed.why.contains("/results/y answers 503"), "{failed:?}");
    assert_eq!(text, "left out: link (a symbolic link)");
    // `a b/x`, `y` twice, and `z`.
    assert_eq!((end.usage.read_bytes, end.usage.written_bytes), (5 + 1 + 1 + 1, 0));

    let signed = Destination::Http { url: web.url("/results?signature=secret") };
    let (told, end) = agent.told(egress(3, "out", signed)).await;
    assert_eq!(told, []);
    let Outcome::Failed { why, transient: false } = end.outcome else { panic!("{end:?}") };
    assert_eq!(
        why,
        "out is a directory, and a URL with a query or fragment names one file; let a job pack it (`tar -cf`), \
         and transfer the archive"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_to_the_server_as_a_stream() {
    let (rig, mut agent, volume) = with_volume().await;
    let out = volume.join("out");
    fs::create_dir_all(out.join("a/empty")).unwrap();
    let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fs::write(out.join("a/large"), &large).unwrap();
    symlink("a/large", out.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();
    let (told, end) =
        agent.told(egress(2, "out", Destination::Client { takes_directories: true })).await;
    assert!(end.outcome.is_success(), "{end:?}");
    let remark = told.iter().find_map(|news| match news {
        RunNews::Remark { text } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(remark, Some("left out: out/socket: neither file, directory nor link"));
    let streams = std::mem::take(&mut *rig.shelf.directories.lock().unwrap());
    assert_eq!(streams.len(), 1);
    let place = copy_tree::Target::of(rig.place.path(), "fetched").unwrap();
    copy_tree::unpack(streams[0].as_slice(), &place).unwrap();
    assert_eq!(fs::read(place.path().join("link")).unwrap(), large);
    assert!(place.path().join("a/empty").is_dir());

    // A server of before keeps files.
    let (_, end) =
        agent.told(egress(3, "out", Destination::Client { takes_directories: false })).await;
    let Outcome::Failed { why, transient: false } = end.outcome else { panic!("{end:?}") };
    assert!(why.contains("older than the node's agent"), "{why}");
    assert_eq!(rig.asked("put"), 1);
}

//! The keeper with all its tasks against a server that is played by the test over mutual TLS, and
//! containers that are played by threads of the test. The agent is killed by dropping its tasks,
//! and started again on the same directories.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use api::{
    ids::{Digest, Timestamp},
    log::times::TimeMark,
    run::{
        Destination, JobFile, JobSpec, LiveUsage, LogTaken, Mount, Outcome, RunEnd, RunUser,
        Source, Usage, WorkflowId,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{job::Parts, *};
use crate::{
    agent::test_server::{acceptor, ca, identity, listen},
    run_directory::{END, LOG, RELEASED, STARTED, Started},
};

#[path = "tests/transfers.rs"]
mod transfers;

/// A container is what its command says: `exit N` after it wrote a line; `hang` until it is
/// stopped; `vanish`; `flood N` ends with 0 after N bytes, of which [`FLOOD_KEPT`] are kept;
/// `full N` likewise, where nothing is kept past its first line.
#[derive(Debug, Default, Clone)]
struct Pretend {
    world: Arc<World>,
}

/// Outlives the agent, as containers do.
#[derive(Debug, Default)]
struct World {
    launched: Mutex<Vec<RunId>>,
    commands: Mutex<BTreeMap<PathBuf, Vec<String>>>,
    alive: Mutex<BTreeMap<PathBuf, File>>,
}

/// Bytes kept of what `flood` writes.
const FLOOD_KEPT: u64 = 64;

/// What `flood` writes.
fn flood(bytes: usize) -> Vec<u8> {
    let mut whole = format!("flood {bytes}\n").into_bytes();
    let more = u8::try_from(bytes % 7).unwrap();
    whole.extend((whole.len()..bytes).map(|place| b'a' + more + u8::try_from(place % 17).unwrap()));
    whole
}

impl World {
    fn write_end(&self, path: &Path, outcome: Outcome) {
        let log_bytes = log_files::extent(&path.join(LOG)).map_or(0, |log| log.end());
        self.write_end_of(path, outcome, log_bytes);
    }

    fn write_end_of(&self, path: &Path, outcome: Outcome, log_bytes: u64) {
        let end = RunEnd {
            started: Some(Timestamp(5)),
            ended: Timestamp(6),
            outcome,
            log_bytes,
            usage: Usage::default(),
        };
        fs::write(path.join("end.new"), serde_json::to_vec(&end).unwrap()).unwrap();
        fs::rename(path.join("end.new"), path.join(END.name())).unwrap();
        self.alive.lock().unwrap().remove(path);
    }
}

impl job::Containers for Pretend {
    fn describe(&self, directory: &RunDirectory, parts: &Parts<'_>) -> Result<(), DirectoryError> {
        assert!(parts.image.join("mounted").exists());
        assert!(parts.volumes.iter().all(|volume| volume.is_dir()));
        assert!(parts.files.iter().all(|file| file.exists()));
        self.world
            .commands
            .lock()
            .unwrap()
            .insert(directory.path().into(), parts.job.command.clone());
        Ok(())
    }

    fn launch(&self, directory: &Path, lock: File) -> io::Result<()> {
        let run = directory.file_name().unwrap().to_str().unwrap().parse().unwrap();
        self.world.launched.lock().unwrap().push(run);
        let command = self.world.commands.lock().unwrap()[directory].clone();
        self.world.alive.lock().unwrap().insert(directory.into(), lock);
        fs::write(
            directory.join(STARTED.name()),
            serde_json::to_vec(&Started { started: Timestamp(5) })?,
        )?;
        fs::write(directory.join(LOG), format!("{}\n", command.join(" ")))?;
        match command[0].as_str() {
            "exit" => self
                .world
                .write_end(directory, Outcome::Exited { code: command[1].parse().unwrap() }),
            "flood" => {
                let place = log_files::LogLocation::of(&directory.join(LOG))?;
                let mut log = log_files::Writer::open(place, log_files::Limits::of(FLOOD_KEPT))?;
                let first_line = usize::try_from(log.end()).unwrap();
                log.append(&flood(command[1].parse().unwrap())[first_line..])?;
                self.world.write_end(directory, Outcome::Exited { code: 0 });
            }
            "full" => {
                let log_bytes = command[1].parse().unwrap();
                self.world.write_end_of(directory, Outcome::Exited { code: 0 }, log_bytes);
            }
            "vanish" => drop(self.world.alive.lock().unwrap().remove(directory)),
            _ => {}
        }
        Ok(())
    }

    fn is_alive(&self, directory: &Path) -> bool {
        self.world.alive.lock().unwrap().contains_key(directory)
    }

    fn signal(&self, directory: &Path) -> io::Result<()> {
        if !self.is_alive(directory) || !directory.join(STOP.name()).exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let order: StopOrder = serde_json::from_slice(&fs::read(directory.join(STOP.name()))?)?;
        self.world.write_end(directory, Outcome::Stopped { why: order.why });
        Ok(())
    }

    fn usage(&self, directory: &Path) -> Option<LiveUsage> {
        let total = Usage { cpu_micros: 7, ..Usage::default() };
        self.is_alive(directory).then_some(LiveUsage { total, memory_bytes: 5, processes: 1 })
    }

    fn clean(&self, _: &Path) {}
}

/// What the server has got and gives.
#[derive(Debug, Default)]
struct Shelf {
    artifacts: Mutex<BTreeMap<String, Vec<u8>>>,
    logs: Mutex<BTreeMap<String, Vec<u8>>>,
    files: Mutex<Vec<Vec<u8>>>,
    directories: Mutex<Vec<Vec<u8>>>,
    /// Requests, one line each.
    asked: Mutex<Vec<String>>,
    /// Bytes after which the next artifact breaks off.
    cut: Mutex<Option<usize>>,
    /// Requests that are answered with 503 yet.
    failing: Mutex<u32>,
}

struct Rig {
    place: tempfile::TempDir,
    world: Arc<World>,
    shelf: Arc<Shelf>,
    identity: watch::Sender<Arc<api::enroll::AgentIdentity>>,
}

/// An agent; dropped, it is as good as killed.
struct Agent {
    requests: mpsc::Sender<Request>,
    outbox: mpsc::Receiver<FromAgent>,
    task: Option<tokio::runtime::Runtime>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.task.take() {
            runtime.shutdown_background();
        }
    }
}

impl Rig {
    async fn new() -> Self {
        let ca = ca();
        let (listener, address) = listen().await;
        let acceptor = acceptor(&ca);
        let shelf = Arc::new(Shelf::default());
        let served = shelf.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shelf) = (acceptor.clone(), served.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = serve(stream, &shelf).await;
                });
            }
        });
        let mut who = identity(&ca, &ca);
        who.fleet_servers = vec![address];
        let (identity, _) = watch::channel(Arc::new(who));
        Self { place: tempfile::tempdir().unwrap(), world: Arc::default(), shelf, identity }
    }

    fn places(&self) -> Places {
        let at = |name| self.place.path().join(name);
        Places {
            machine: self.place.path().join("machine"),
            runs: at("runs"),
            images: at("images"),
            artifacts: at("artifacts"),
            volumes: at("volumes"),
            // Nothing is mounted on the machine that runs tests.
            limits_volumes: false,
            authorities: at("none.pem"),
            // Where the stores of these tests are; of the rest of loopback nothing.
            near: vec!["127.0.0.1".parse().unwrap()],
            site: at("site"),
        }
    }

    fn start(&self) -> Agent {
        let mounting = Mounting {
            mount: |file, target| {
                fs::copy(file, target.join("mounted"))
                    .map(drop)
                    .map_err(|errno| linux::LinuxError::new("mount", "x", errno))
            },
            unmount: |_| Ok(()),
            is_mounted: |target| target.join("mounted").exists(),
        };
        let servers = Servers::new(self.identity.subscribe());
        let node =
            Node::new(self.places(), servers, mounting, Pretend { world: self.world.clone() });
        let (requests, asked) = mpsc::channel(MAX_REQUESTS);
        let (said, outbox) = mpsc::channel(4);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(keep(node, asked, said));
        Agent { requests, outbox, task: Some(runtime) }
    }

    fn artifact(&self, content: &[u8]) -> (Digest, u64) {
        let mut value = [0; 32];
        value.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
        let digest = Digest(value);
        self.shelf.artifacts.lock().unwrap().insert(digest.hex(), content.to_vec());
        (digest, content.len() as u64)
    }

    fn asked(&self, what: &str) -> usize {
        self.shelf.asked.lock().unwrap().iter().filter(|line| line.starts_with(what)).count()
    }

    fn job(&self, number: u128, command: &str) -> RunSpec {
        let (image, image_size) = self.artifact(b"an image");
        let (digest, size) = self.artifact(b"a file");
        let job = JobSpec {
            image,
            image_size,
            command: command.split(' ').map(str::to_owned).collect(),
            env: Vec::new(),
            program_words: Vec::new(),
            sets_home: false,
            cwd: "/".into(),
            makes_cwd: false,
            hostname: "h".into(),
            mounts: Vec::new(),
            files: vec![JobFile { path: "/f".into(), digest, size, executable: false }],
            cpus: vec![0],
            mems: vec![0],
            memory_bytes: 1 << 20,
            pids: 10,
            devices: Vec::new(),
            isolated_network: false,
            log_limit_bytes: Some(64 << 20),
            log_times: true,
        };
        spec(number, Work::Job(Box::new(job)))
    }
}

/// What no transfer may reach.
const FORBIDDEN: &str = "127.0.0.1:9480";

/// Makes the volume `v`.
fn volume_work() -> Work {
    Work::Volume { volume: "v".into(), limit_bytes: None }
}

fn spec(number: u128, work: Work) -> RunSpec {
    let (uid, gid) = linux::root::own_ids();
    RunSpec {
        run: RunId(uuid::Uuid::from_u128(number)),
        workflow: WorkflowId(uuid::Uuid::from_u128(1)),
        subject: format!("run {number}"),
        user: RunUser { name: "u".into(), uid, gid, groups: Vec::new() },
        work,
        timeout_seconds: 60,
        forbidden: vec![FORBIDDEN.parse().unwrap()],
        awaits_release: false,
    }
}

impl Agent {
    async fn order(&self, order: ServerRequest) {
        let (done, dealt_with) = oneshot::channel();
        self.requests.send(Request::ServerRequest(order, done)).await.unwrap();
        dealt_with.await.unwrap();
    }

    async fn list(&self) -> Vec<RunReport> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::List(answer)).await.unwrap();
        answered.await.unwrap().reports
    }

    /// What is said of a run until it is running, or over.
    async fn until(&mut self, run: RunId, wanted: fn(&RunState) -> bool) -> RunState {
        let wait = async {
            loop {
                match self.outbox.recv().await.unwrap() {
                    FromAgent::Run { report } if report.run == run && wanted(&report.state) => {
                        return report.state;
                    }
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("nothing is said of the run")
    }

    /// Orders a run and waits for its end.
    async fn run(&mut self, spec: RunSpec) -> RunEnd {
        let run = spec.run;
        self.order(ServerRequest::Start(Box::new(spec))).await;
        match self.until(run, is_over).await {
            RunState::Ended(end) => *end,
            other => panic!("{other:?}"),
        }
    }
}

fn is_over(state: &RunState) -> bool {
    matches!(state, RunState::Ended(_))
}

fn is_running(state: &RunState) -> bool {
    matches!(state, RunState::Running { .. })
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(20), wait).await.is_ok(), "{what}");
}

/// Enough HTTP for what the agent asks, one request after another.
async fn serve<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: T,
    shelf: &Shelf,
) -> io::Result<()> {
    let mut stream = tokio::io::BufStream::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let body = read_body(&mut stream, &head).await?;
        let line = head.lines().next().unwrap().to_owned();
        let range =
            head.lines().find_map(|line| line.strip_prefix("range: bytes=")).map(str::to_owned);
        let (mut status, mut answer) = answer(&line, &body, shelf);
        if let Some(range) = &range
            && status == 200
        {
            status = 206;
            answer.drain(..range.trim_end_matches('-').parse::<usize>().unwrap());
        }
        shelf.asked.lock().unwrap().push(format!("{line} {}", range.unwrap_or_default()));
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await?;
        let cut = shelf.cut.lock().unwrap().take_if(|_| line.starts_with("get"));
        stream.write_all(&answer[..cut.unwrap_or(answer.len())]).await?;
        stream.flush().await?;
        if cut.is_some() {
            return Ok(());
        }
    }
}

/// The body of a request: of a length that its head tells, or in chunks (RFC 9112, section 7.1).
async fn read_body<T: tokio::io::AsyncRead + Unpin>(
    stream: &mut T,
    head: &str,
) -> io::Result<Vec<u8>> {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    let mut more = head.contains("transfer-encoding: chunked");
    while more {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await?);
        }
        let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).await?;
        body.extend_from_slice(&chunk[..length]);
        more = length > 0;
    }
    Ok(body)
}

fn answer(line: &str, body: &[u8], shelf: &Shelf) -> (u16, Vec<u8>) {
    let mut failing = shelf.failing.lock().unwrap();
    if *failing > 0 {
        *failing -= 1;
        return (503, Vec::new());
    }
    let words: Vec<&str> = line.split(' ').collect();
    let route = words[1].split("&times=").next().unwrap_or_default();
    let parts: Vec<&str> = route.split(['/', '?', '=']).collect();
    match (words[0], parts.as_slice()) {
        ("get", ["", "node", "v1", "artifacts", "sha256", hex]) => shelf
            .artifacts
            .lock()
            .unwrap()
            .get(*hex)
            .map_or((404, Vec::new()), |content| (200, content.clone())),
        ("post", ["", "node", "v1", "runs", run, "log", "offset", offset]) => {
            let mut logs = shelf.logs.lock().unwrap();
            let log = logs.entry((*run).to_owned()).or_default();
            let offset: usize = offset.parse().unwrap();
            if let Some(new) = body.get(log.len().wrapping_sub(offset)..) {
                log.extend_from_slice(new);
            }
            (200, serde_json::to_vec(&LogTaken { length: log.len() as u64 }).unwrap())
        }
        ("post", ["", "node", "v1", "runs", run, "log", "offset", offset, after]) => {
            let mut logs = shelf.logs.lock().unwrap();
            let log = logs.entry((*run).to_owned()).or_default();
            let (offset, after): (usize, usize) =
                (offset.strip_suffix("&after").unwrap().parse().unwrap(), after.parse().unwrap());
            if after <= log.len() {
                log.resize(offset, b'?');
                log.extend_from_slice(body);
            }
            (200, serde_json::to_vec(&LogTaken { length: log.len() as u64 }).unwrap())
        }
        ("put", ["", "node", "v1", "runs", _, "file"]) => {
            shelf.files.lock().unwrap().push(body.to_vec());
            (204, Vec::new())
        }
        ("put", ["", "node", "v1", "runs", _, "file", "folder", "true"]) => {
            shelf.directories.lock().unwrap().push(body.to_vec());
            (204, Vec::new())
        }
        _ => (404, Vec::new()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_a_gap_arrives_and_says_so() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let got = |run: RunId| {
        rig.shelf.logs.lock().unwrap().get(&run.to_string()).cloned().unwrap_or_default()
    };
    let long = rig.job(1, "flood 1000");
    let run = long.run;
    assert_eq!(agent.run(long).await.log_bytes, 1000);
    eventually("the log is there to its end", || got(run).len() == 1000).await;
    let (log, whole) = (got(run), flood(1000));
    let gap: Vec<usize> = (0..1000).filter(|&place| log[place] == b'?').collect();
    assert_eq!(
        (gap[0], gap[gap.len() - 1] + 1 - gap[0]),
        (32, gap.len()),
        "one gap, behind the head"
    );
    assert!((28..=32).contains(&(1000 - 32 - gap.len())));
    assert!((0..1000).all(|place| log[place] == b'?' || log[place] == whole[place]));

    // A file system that was full to the end: the log ends with its gap.
    let full = rig.job(2, "full 500");
    let run = full.run;
    agent.run(full).await;
    eventually("the end of the log is known", || got(run).len() == 500).await;
    assert_eq!(got(run), [b"full 500\n".to_vec(), vec![b'?'; 491]].concat());

    // An agent that begins again finds out where the server is.
    drop(agent);
    let asked = rig.asked("post");
    let _agent = rig.start();
    eventually("it asks for both", || rig.asked("post") == asked + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_before_is_sent_no_gap() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let mut short = rig.job(1, "full 500");
    if let Work::Job(job) = &mut short.work {
        job.log_limit_bytes = None;
    }
    let run = short.run;
    agent.run(short).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.shelf.logs.lock().unwrap()[&run.to_string()], b"full 500\n");
    assert_eq!(
        rig.shelf.asked.lock().unwrap().iter().filter(|line| line.contains("after")).count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_lost_in_a_crash_is_sent_again() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let job = rig.job(1, "hang");
    let run = job.run;
    agent.order(ServerRequest::Start(Box::new(job))).await;
    agent.until(run, is_running).await;
    let is = |text: &str| {
        rig.shelf
            .logs
            .lock()
            .unwrap()
            .get(&run.to_string())
            .is_some_and(|log| log == text.as_bytes())
    };
    eventually("its log is there", || is("hang\n")).await;
    rig.shelf.logs.lock().unwrap().get_mut(&run.to_string()).unwrap().truncate(2);
    let log = rig.places().runs.join(run.to_string()).join(LOG);
    io::Write::write_all(&mut File::options().append(true).open(log).unwrap(), b"more\n").unwrap();
    eventually("all of it is there", || is("hang\nmore\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_a_log_travel_with_it_to_a_server_that_wants_them() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let (timed, mut untimed) = (rig.job(1, "hang"), rig.job(2, "hang"));
    if let Work::Job(job) = &mut untimed.work {
        job.log_times = false;
    }
    for spec in [&timed, &untimed] {
        agent.order(ServerRequest::Start(Box::new(spec.clone()))).await;
        agent.until(spec.run, is_running).await;
        let log = rig.places().runs.join(spec.run.to_string()).join(LOG);
        let mut times =
            log_files::TimesWriter::open(log_files::LogLocation::of(&log).unwrap()).unwrap();
        times.mark([TimeMark { offset: 10, time: Timestamp(1_795_464_000_000_000) }]).unwrap();
        io::Write::write_all(&mut File::options().append(true).open(log).unwrap(), b"more\n")
            .unwrap();
    }
    for (run, sends) in [(timed.run, true), (untimed.run, false)] {
        let is_there = |log: &Vec<u8>| log == b"hang\nmore\n";
        eventually("its log is there", || {
            rig.shelf.logs.lock().unwrap().get(&run.to_string()).is_some_and(is_there)
        })
        .await;
        let asked = rig.shelf.asked.lock().unwrap().clone();
        let of_run = asked.iter().filter(|line| line.contains(&format!("{run}/log")));
        let sent: Vec<&String> =
            of_run.filter(|line| line.contains("&times=10:1795464000000000")).collect();
        assert_eq!(!sent.is_empty(), sends, "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_and_its_log_arrives() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let end = agent.run(rig.job(1, "exit 7")).await;
    assert_eq!((end.outcome, end.log_bytes), (Outcome::Exited { code: 7 }, 7));
    agent.order(ServerRequest::Start(Box::new(rig.job(1, "exit 7")))).await;
    let run = rig.job(1, "").run;
    eventually("the log is there", || {
        rig.shelf.logs.lock().unwrap().get(&run.to_string()).is_some_and(|log| log == b"exit 7\n")
    })
    .await;
    assert_eq!(*rig.world.launched.lock().unwrap(), [run]);
    assert_eq!(agent.list().await.len(), 1);
    agent.order(ServerRequest::Forget(vec![run])).await;
    assert_eq!(agent.list().await, []);
    assert_eq!(fs::read_dir(rig.places().runs).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_wait_for_one_download() {
    let rig = Rig::new().await;
    *rig.shelf.failing.lock().unwrap() = 1;
    let mut agent = rig.start();
    for number in 1..=8 {
        agent.order(ServerRequest::Start(Box::new(rig.job(number, "exit 0")))).await;
    }
    let mut over = 0;
    while over < 8 {
        if let FromAgent::Run { report } = agent.outbox.recv().await.unwrap() {
            over += usize::from(is_over(&report.state));
        }
    }
    // Image and file, and the one that failed.
    assert_eq!(rig.asked("get /node/v1/artifacts/"), 3);
    assert_eq!(rig.world.launched.lock().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_outlives_the_agent_and_is_not_started_again() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let (ends, hangs) = (rig.job(1, "hang"), rig.job(2, "hang"));
    for spec in [&ends, &hangs] {
        agent.order(ServerRequest::Start(Box::new(spec.clone()))).await;
        agent.until(spec.run, is_running).await;
    }
    drop(agent);
    rig.world.write_end(&rig.places().runs.join(ends.run.to_string()), Outcome::Exited { code: 7 });

    let mut agent = rig.start();
    let states: Vec<_> = agent.list().await.into_iter().map(|report| report.state).collect();
    assert!(is_over(&states[0]) && is_running(&states[1]), "{states:?}");
    let stop = ServerRequest::Stop { run: hangs.run, grace_seconds: 1, why: "enough".into() };
    agent.order(stop).await;
    let RunState::Ended(end) = agent.until(hangs.run, is_over).await else { panic!() };
    assert_eq!(end.outcome, Outcome::Stopped { why: "enough".into() });
    eventually("both logs are there", || rig.shelf.logs.lock().unwrap().len() == 2).await;
    assert_eq!(rig.world.launched.lock().unwrap().len(), 2);
}

fn is_prepared(state: &RunState) -> bool {
    matches!(state, RunState::Prepared {})
}

/// A member of a larger attempt is prepared and held, over a restart of its agent too, and starts
/// once when it is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_awaits_its_release_is_held_until_then() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let member =
        |number, command: &str| RunSpec { awaits_release: true, ..rig.job(number, command) };
    let (starts, stops, late) = (member(1, "hang"), member(2, "hang"), member(3, "hang"));
    for spec in [&starts, &stops] {
        agent.order(ServerRequest::Start(Box::new(spec.clone()))).await;
        agent.until(spec.run, is_prepared).await;
    }
    drop(agent);
    assert_eq!(*rig.world.launched.lock().unwrap(), []);

    let mut agent = rig.start();
    let both_are_prepared = async {
        while !agent.list().await.iter().all(|report| is_prepared(&report.state)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), both_are_prepared).await.expect("they are prepared again");
    agent.order(ServerRequest::Release(starts.run)).await;
    agent.order(ServerRequest::Release(starts.run)).await;
    agent.until(starts.run, is_running).await;
    agent
        .order(ServerRequest::Stop {
            run: stops.run,
            grace_seconds: 1,
            why: "another ended".into(),
        })
        .await;
    let RunState::Ended(end) = agent.until(stops.run, is_over).await else { panic!() };
    let why = "another ended".to_owned();
    assert_eq!((end.started, end.outcome), (None, Outcome::Stopped { why }));
    assert_eq!(*rig.world.launched.lock().unwrap(), [starts.run]);
    drop(agent);

    // That one is released cannot be written down: it starts with the others all the same.
    let mut agent = rig.start();
    let unwritten = member(4, "hang");
    agent.order(ServerRequest::Start(Box::new(unwritten.clone()))).await;
    agent.until(unwritten.run, is_prepared).await;
    let mark = rig.places().runs.join(unwritten.run.to_string()).join(RELEASED);
    std::os::unix::fs::symlink("nowhere/at-all", mark).unwrap();
    agent.order(ServerRequest::Release(unwritten.run)).await;
    agent.until(unwritten.run, is_running).await;
    drop(agent);

    // Released, and killed before it started: the next agent does not hold it.
    let directory = RunDirectory::create(&rig.places().runs, &late).unwrap();
    directory.mark_released().unwrap();
    let mut agent = rig.start();
    agent.until(late.run, is_running).await;
    assert_eq!(*rig.world.launched.lock().unwrap(), [starts.run, unwritten.run, late.run]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_vanished_is_lost() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let end = agent.run(rig.job(1, "vanish")).await;
    assert!(matches!(end.outcome, Outcome::Lost { .. }), "{end:?}");
    drop(agent);
    // Marked and never launched: who knows? It is not tried.
    let spec = rig.job(2, "exit 0");
    RunDirectory::create(&rig.places().runs, &spec).unwrap().mark_launching().unwrap();
    // Accepted only: it is begun.
    RunDirectory::create(&rig.places().runs, &rig.job(3, "exit 0")).unwrap();
    let mut agent = rig.start();
    let RunState::Ended(end) = agent.until(rig.job(3, "").run, is_over).await else { panic!() };
    assert_eq!(end.outcome, Outcome::Exited { code: 0 });
    let RunState::Ended(end) = agent.until(spec.run, is_over).await else { panic!() };
    assert!(matches!(end.outcome, Outcome::Lost { .. }), "{end:?}");
    assert_eq!(*rig.world.launched.lock().unwrap(), [rig.job(1, "").run, rig.job(3, "").run]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_through_a_volume_and_jobs_need_theirs() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let mut mounts = rig.job(1, "exit 0");
    if let Work::Job(job) = &mut mounts.work {
        job.mounts = vec![Mount { volume: "v".into(), location: "/v".into() }];
    }
    let why = match agent.run(mounts.clone()).await.outcome {
        Outcome::Failed { why, transient: false } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why, "the volume v is not on this node; it was removed, or the node was rebooted");
    let volume = || "v".to_owned();
    assert!(agent.run(spec(2, volume_work())).await.outcome.is_success());
    let (digest, size) = rig.artifact(b"contents");
    let source = Source::Artifact { digest, size };
    let ingress = Work::Ingress { volume: volume(), path: "a/b".into(), source };
    assert!(agent.run(spec(3, ingress)).await.outcome.is_success());
    mounts.run = RunId(uuid::Uuid::from_u128(4));
    assert!(agent.run(mounts).await.outcome.is_success());
    let egress = |path: &str| Work::Egress {
        volume: volume(),
        path: path.into(),
        destination: Destination::Client { takes_directories: true },
    };
    // The server is away for a moment.
    *rig.shelf.failing.lock().unwrap() = 1;
    assert!(agent.run(spec(5, egress("a/b"))).await.outcome.is_success());
    assert_eq!(*rig.shelf.files.lock().unwrap(), [b"contents"]);
    std::os::unix::fs::symlink(
        "/etc/shadow",
        rig.places().volumes.join(spec(1, egress("")).workflow.to_string()).join("v/link"),
    )
    .unwrap();
    let end = agent.run(spec(6, egress("link"))).await;
    assert!(matches!(end.outcome, Outcome::Failed { transient: false, .. }), "{end:?}");
    assert!(end.log_bytes > 0);
    agent.order(ServerRequest::RemoveVolumes(spec(1, egress("")).workflow)).await;
    let end = agent.run(spec(7, egress("a/b"))).await;
    assert!(matches!(end.outcome, Outcome::Failed { transient: false, .. }), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_fails_and_what_takes_too_long_times_out() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    let mut absent = rig.job(1, "exit 0");
    if let Work::Job(job) = &mut absent.work {
        job.image = Digest([9; 32]);
    }
    let end = agent.run(absent).await;
    let Outcome::Failed { why, transient: false } = end.outcome else { panic!("{end:?}") };
    assert!(
        why.starts_with("cannot fetch the image: the server answers 404 Not Found to https://"),
        "{why}"
    );
    assert_eq!(*rig.world.launched.lock().unwrap(), []);

    assert!(agent.run(spec(2, volume_work())).await.outcome.is_success());
    // Nobody listens there, so it is tried again and again.
    let source = Source::Http { url: "http://user:secret@127.0.0.1:9/x?key=secret".into() };
    let ingress = Work::Ingress { volume: "v".into(), path: "f".into(), source };
    let mut slow = spec(3, ingress.clone());
    slow.timeout_seconds = 1;
    let end = agent.run(slow.clone()).await;
    let Outcome::TimedOut { seconds: 1, cause: Some(cause) } = end.outcome else {
        panic!("{end:?}")
    };
    // The pause before the second is up to two seconds.
    assert!(
        cause.starts_with("try ") && cause.contains(": cannot speak with http://127.0.0.1:9/x: "),
        "{cause}"
    );
    assert!(cause.contains("refused") && !cause.contains("secret"), "{cause}");
    let log = fs::read_to_string(rig.places().runs.join(slow.run.to_string()).join(LOG)).unwrap();
    assert!(log.starts_with("GET http://127.0.0.1:9/x\n") && !log.contains("secret"), "{log}");
    // And until it is stopped.
    let endless = spec(4, ingress);
    agent.order(ServerRequest::Start(Box::new(endless.clone()))).await;
    agent.until(endless.run, is_running).await;
    agent
        .order(ServerRequest::Stop { run: endless.run, grace_seconds: 1, why: "enough".into() })
        .await;
    let RunState::Ended(end) = agent.until(endless.run, is_over).await else { panic!() };
    assert_eq!(end.outcome, Outcome::Stopped { why: "enough".into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_and_wrong_bytes_are_refused() {
    let rig = Rig::new().await;
    let artifacts = Artifacts::new(
        rig.places().artifacts,
        Servers::new(rig.identity.subscribe()),
        watch::channel(VolumeUse::default()).1,
    );
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (digest, size) = rig.artifact(&content);
    *rig.shelf.cut.lock().unwrap() = Some(40_000);
    let path = artifacts.get(digest, size).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    let asked = rig.shelf.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1].ends_with(" 40000-"), "{asked:?}");

    // Somebody changed it at the server.
    let wrong = Digest([9; 32]);
    rig.shelf.artifacts.lock().unwrap().insert(wrong.hex(), content.clone());
    let error = artifacts.get(wrong, size).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{wrong} was asked for and {digest} came"));
    assert!(!error.is_transient());
    let error = artifacts.get(wrong, size - 1).await.unwrap_err();
    assert!(
        matches!(error, artifacts::ArtifactError::Size { .. }) && !error.is_transient(),
        "{error}"
    );
    let error = artifacts.get(Digest([1; 32]), u64::MAX).await.unwrap_err();
    assert!(
        matches!(error, artifacts::ArtifactError::Space { .. }) && error.is_transient(),
        "{error}"
    );
    // Nothing is left of what failed.
    assert_eq!(fs::read_dir(rig.places().artifacts).unwrap().count(), 1);
}

/// By its address, by a name, by a redirect.
#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_reaches_the_servers_own_ports_or_the_node_itself() {
    let rig = Rig::new().await;
    let mut agent = rig.start();
    assert!(agent.run(spec(1, volume_work())).await.outcome.is_success());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 1024];
            if client.read(&mut request).await.is_ok() {
                // To an address of the node's, or to the server.
                let is_inner = request.starts_with(b"GET /inner ");
                let to = if is_inner { "127.0.0.2:9481" } else { FORBIDDEN };
                let head = format!(
                    "HTTP/1.1 302 Found\r\nlocation: http://{to}/x\r\ncontent-length: 0\r\n\r\n"
                );
                client.write_all(head.as_bytes()).await.unwrap();
            }
        }
    });
    let urls = [
        format!("http://{FORBIDDEN}/x"),
        "http://localhost:9480/x".into(),
        format!("http://{elsewhere}/"),
        "http://127.0.0.2:9481/x".into(),
        "http://[::ffff:127.0.0.2]:9481/x".into(),
        "http://169.254.169.254/latest/meta-data/".into(),
        format!("http://{elsewhere}/inner"),
    ];
    for (number, url) in (2..).zip(urls) {
        let source = Source::Http { url: url.clone() };
        let ingress = Work::Ingress { volume: "v".into(), path: "f".into(), source };
        let end = agent.run(spec(number, ingress)).await;
        let Outcome::Failed { why, transient: false } = end.outcome else {
            panic!("{url}: {end:?}")
        };
        assert!(why.contains("no transfer goes there"), "{url}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_one_runs_at_a_time_also_after_the_agent_started_again() {
    let rig = Rig::new().await;
    let machine = rig.places().machine;
    fs::create_dir_all(machine.join("etc/cdi")).unwrap();
    let spec =
        "{cdiVersion: 0.6.0, kind: v.com/x, devices: [{name: d, containerEdits: {env: [X=1]}}]}";
    fs::write(machine.join("etc/cdi/x.yaml"), spec).unwrap();
    let with_device = |number| {
        let mut spec = rig.job(number, "hang");
        let Work::Job(job) = &mut spec.work else { panic!() };
        job.devices = vec!["v.com/x=d".parse().unwrap()];
        spec
    };
    let mut agent = rig.start();
    let has = with_device(1);
    agent.order(ServerRequest::Start(Box::new(has.clone()))).await;
    agent.until(has.run, is_running).await;
    let why = format!("run {} has v.com/x=d, which is granted to one at a time", has.run);
    let refused = Outcome::Refused { why };
    assert_eq!(agent.run(with_device(2)).await.outcome, refused);
    drop(agent);

    let mut agent = rig.start();
    assert_eq!(agent.run(with_device(3)).await.outcome, refused);
    agent.order(ServerRequest::Stop { run: has.run, grace_seconds: 1, why: "enough".into() }).await;
    agent.until(has.run, is_over).await;
    let next = with_device(4);
    agent.order(ServerRequest::Start(Box::new(next.clone()))).await;
    agent.until(next.run, is_running).await;
}

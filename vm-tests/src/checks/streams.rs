//! Users in running jobs (`vm-tests/documents/streams.yaml`): programs, terminals,
//! ports, files, output.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use api::{
    run::Outcome,
    stream::{Channel, Control, Size, StreamRequest, Terminal},
};
use client::{Line, StreamOf};
use stream_line::Event;

use crate::{
    check::Memory,
    clock,
    cluster::Cluster,
    process::{self, Service},
    workflow,
};

/// The workflow, by its name.
const STREAMS: &str = "streams";

/// How long anything may take that is waited for, where the processor itself runs the node.
const LIMIT: Duration = Duration::from_secs(20);

/// Connections at once.
const CONNECTIONS: usize = 8;

/// How often something is done that went wrong now and then.
const OFTEN: usize = 10;

fn exec(cluster: &Cluster, options: &[&str], job: &str, script: &str) -> anyhow::Result<Output> {
    let words =
        [&["workflow", "exec"], options, &[STREAMS, job, "--", "/bin/sh", "-c", script]].concat();
    cluster.server.try_cli(&words)
}

/// What a program in a job prints; it must succeed.
fn printed(cluster: &Cluster, job: &str, script: &str) -> anyhow::Result<String> {
    let output = exec(cluster, &[], job, script)?;
    ensure!(output.status.success(), "{script}: {}\n{}", output.status, process::words(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program as one of the job's: its streams, its end, its rights.
pub(crate) fn programs(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    workflow::start(cluster, STREAMS)?;
    let limit = cluster.accelerator().stretch(LIMIT);
    for job in ["web", "alone", "talker"] {
        let mut words = String::new();
        let waited = clock::wait_for(&format!("{job} to run"), limit, || {
            let output = exec(cluster, &[], job, "true")?;
            words = process::words(&output);
            Ok(output.status.success().then_some(()))
        });
        waited.with_context(|| words)?;
    }
    let output = exec(cluster, &[], "web", "echo out; echo err >&2; exit 7")?;
    ensure!(
        output.status.code() == Some(7),
        "it ended with {}: {}",
        output.status,
        process::words(&output)
    );
    ensure!(output.stdout == b"out\n" && output.stderr == b"err\n", "it said {output:?}");
    let output = exec(cluster, &[], "web", "kill -TERM $$")?;
    ensure!(output.status.code() == Some(143), "ended by SIGTERM, and told {}", output.status);
    let output =
        cluster.server.try_cli(&["workflow", "exec", STREAMS, "web", "--", "no-such-program"])?;
    let words = process::words(&output);
    ensure!(output.status.code() == Some(255), "without a program: {}", output.status);
    ensure!(words.contains("has no program \"no-such-program\""), "without a program: {words}");

    let context = cluster.checkout_paths().of_run("state/admin.yaml").display().to_string();
    let program = cluster.checkout_paths().bedplate().display().to_string();
    let input: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let cat = ["--context", &context, "workflow", "exec", "-i", STREAMS, "web", "--", "cat"];
    // Its end overtakes what is still being said of its output.
    for _ in 0..OFTEN {
        let output = process::output(&program, &cat, &input)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cat ended with {}: {words}", output.status);
        ensure!(output.stdout == input, "cat gave {} bytes", output.stdout.len());
    }
    ensure!(printed(cluster, "web", "cat")?.is_empty(), "there is input where none was passed on");
    rights(cluster)?;
    hang_up(cluster)?;
    let audit = cluster.server.cli(&["audit"])?;
    ensure!(
        audit.contains("exec /bin/sh -c kill -TERM $$"),
        "the audit log has no program:\n{audit}"
    );
    Ok(())
}

/// It is the job's user, in its cgroup, without a right and without a descriptor of the node.
fn rights(cluster: &Cluster) -> anyhow::Result<()> {
    let (uid, gid, group) = workflow::NUMBERS;
    let facts = "echo id=$(id -u):$(id -g):$(id -G)
        for fd in /proc/$$/fd/*; do [ -h $fd ] && echo fd=${fd##*/}; done
        sed -n 's/^\\(Cap[A-Z][a-z]*\\|NoNewPrivs\\|Seccomp\\):\\s*/\\1=/p' /proc/$$/status
        echo cgroup=$(cat /proc/$$/cgroup)
        grep -qx $$ /sys/fs/cgroup/cgroup.procs && echo group=same
        echo home=$PWD
        echo 1=$(cat /proc/1/comm)
        echo parent=$(sed -n 's/^PPid:\\s*//p' /proc/$$/status)
        ls /proc/$$/exe -l | sed 's/.* //'";
    let told = printed(cluster, "web", facts)?;
    let zero = "0000000000000000";
    let expected = format!(
        "id={uid}:{gid}:{gid} {group}\nfd=0\nfd=1\nfd=2\nCapInh={zero}\nCapPrm={zero}\nCapEff={zero}\nCapBnd={zero}\n\
         CapAmb={zero}\nNoNewPrivs=1\nSeccomp=2\ncgroup=0::/\ngroup=same\nhome=/\n1=container-init\nparent=0\n/bin/busybox\n"
    );
    ensure!(told == expected, "in the job it is so:\n{told}");
    // The root is the container's, and the network is that of the job.
    let seen = printed(cluster, "alone", "ls /run/bedplate 2>&1; ls /sys/class/net; hostname")?;
    ensure!(
        seen.contains("No such file") && !seen.contains("eth") && !seen.contains("lan0"),
        "alone sees {seen}"
    );
    Ok(())
}

/// A program whose user has gone is ended.
fn hang_up(cluster: &Cluster) -> anyhow::Result<()> {
    let begun = "echo $$ > /tmp/pid; trap '' PIPE; while :; do echo x; sleep 1; done";
    let limit = cluster.accelerator().stretch(LIMIT);
    let said =
        with_line(cluster, "web", &program(&["/bin/sh", "-c", begun], None), async |line| {
            until(line, "x").await
        })?;
    ensure!(said.contains('x'), "it did not begin: {said:?}");
    clock::wait_for("a program to end whose user is gone", limit, || {
        let alive = exec(cluster, &[], "web", "kill -0 $(cat /tmp/pid)")?;
        Ok((!alive.status.success()).then_some(()))
    })
}

fn program(command: &[&str], size: Option<Size>) -> StreamRequest {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let terminal = size.map(|size| Terminal { name: "vt100".to_owned(), size });
    StreamRequest::Exec { command, terminal, input: true }
}

/// Does something with a stream, which is dropped then.
fn with_line<T>(
    cluster: &Cluster,
    job: &str,
    request: &StreamRequest,
    work: impl AsyncFnOnce(&mut Line) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let of =
        StreamOf { workflow: STREAMS.to_owned(), job: Some(job.to_owned()), ..StreamOf::default() };
    let limit = cluster.accelerator().stretch(LIMIT);
    cluster.server.ask(|client| async move {
        let mut line = client.open_stream(&of, request).await?;
        let done = tokio::time::timeout(limit, work(&mut line)).await;
        Ok(done.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {limit:?}"))))
    })?
}

/// Output until a word is in it.
async fn until(line: &mut Line, word: &str) -> anyhow::Result<String> {
    let mut said = String::new();
    while !said.contains(word) {
        match line.next().await.with_context(|| format!("until {word:?} it said {said:?}"))? {
            Event::Data(_, bytes) => {
                said += &String::from_utf8_lossy(&bytes);
                line.took(bytes.len());
            }
            Event::Room => {}
            Event::Control(control) => {
                anyhow::bail!("until {word:?} it said {said:?}, then {control:?}")
            }
        }
    }
    Ok(said)
}

/// A terminal whose size follows the user's.
pub(crate) fn terminals(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let size = |rows, columns| Size { rows, columns };
    let shell = program(&["/bin/sh"], Some(size(24, 80)));
    let outcome = with_line(cluster, "web", &shell, async |line| {
        line.send(Channel::Input, b"stty size; echo $TERM; tty; ls -ln $(tty)\n");
        let said = until(line, " /dev/pts/").await?;
        ensure!(
            said.contains("24 80\r\n") && said.contains("vt100\r\n"),
            "the terminal says {said:?}"
        );
        ensure!(said.contains(workflow::NUMBERS.0), "the terminal is another's: {said:?}");
        line.send_control(&Control::Resize { size: size(40, 132) });
        line.send(Channel::Input, b"stty size\n");
        until(line, "40 132\r\n").await?;
        // Ctrl-C is the terminal's, and reaches what runs on it.
        line.send(Channel::Input, b"sleep 1000 || echo interrupted\n");
        until(line, "sleep 1000").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        line.send(Channel::Input, b"\x03");
        line.send(Channel::Input, b"exit 3\n");
        loop {
            if let Event::Control(control) = line.next().await? {
                return Ok(control);
            }
        }
    })?;
    ensure!(
        outcome == Control::Ended { outcome: Outcome::Exited { code: 3 } },
        "it ended by {outcome:?}"
    );

    // The command line in a terminal: its size goes there, and its mode comes back.
    let context = cluster.checkout_paths().of_run("state/admin.yaml").display().to_string();
    let bedplate = cluster.checkout_paths().bedplate().display().to_string();
    let script = format!(
        "stty rows 33 cols 77; {bedplate} --context {context} workflow exec --tty {STREAMS} web /bin/sh -c 'stty size; exit 5'; \
         echo status $?; stty -a | grep -ow -- '-*icanon'"
    );
    let output = process::output("script", &["-qec", &script, "/dev/null"], b"")?;
    let words = process::words(&output).replace('\r', "");
    // Before it, script(1) echoes the end of its own input.
    ensure!(
        words.ends_with("33 77\nstatus 5\nicanon"),
        "in a terminal the command line says {words:?}"
    );
    Ok(())
}

/// HTTP servers in jobs, with the node's network and with one of their own, reached from here.
pub(crate) fn ports(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    for (job, ports, page) in [("web", "0:18081", "shared\n"), ("alone", "0:8080", "isolated\n")] {
        let (_forward, address, _) = forward(cluster, job, ports)?;
        let asking: Vec<_> =
            (0..CONNECTIONS).map(|_| std::thread::spawn(move || http_get(address))).collect();
        for asked in asking {
            let got = asked.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            ensure!(got.ends_with(page), "{job} answers {got:?}");
        }
    }
    let (_forward, address, log) = forward(cluster, "alone", "0:8081")?;
    let got = http_get(address).unwrap_or_default();
    ensure!(got.is_empty(), "nobody answers {got:?}");
    let limit = cluster.accelerator().stretch(LIMIT);
    clock::wait_for("the command line to say that nothing listens", limit, || {
        let told = fs::read_to_string(&log)?;
        Ok(told.contains("nothing in the job listens on port 8081").then_some(()))
    })
}

/// The command line that forwards a port, where it listens, and what it writes.
fn forward(
    cluster: &Cluster,
    job: &str,
    ports: &str,
) -> anyhow::Result<(Service, SocketAddr, std::path::PathBuf)> {
    let checkout_paths = cluster.checkout_paths();
    let log =
        checkout_paths.of_run(&format!("state/forward-{job}-{}.log", ports.replace(':', "-")));
    let context = checkout_paths.of_run("state/admin.yaml").display().to_string();
    let words = ["--context", &context, "workflow", "port-forward", STREAMS, job, ports];
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let service =
        Service::start(checkout_paths, "port-forward", &checkout_paths.bedplate(), &words, &log)?;
    let address = clock::wait_for("the command line to listen", LIMIT, || {
        let told = fs::read_to_string(&log).unwrap_or_default();
        Ok(told.lines().next().and_then(|line| line.parse().ok()))
    })?;
    Ok((service, address, log))
}

fn http_get(address: SocketAddr) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    connection.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A tree into a job and out again.
pub(crate) fn copies(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (tree, back) = (
        cluster.checkout_paths().of_run("state/copies/tree"),
        cluster.checkout_paths().of_run("state/copies/back"),
    );
    fs::create_dir_all(tree.join("a/b"))?;
    let large: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(tree.join("a/large"), &large)?;
    fs::write(tree.join("a/b/tool"), "#!/bin/sh\necho copied\n")?;
    fs::set_permissions(tree.join("a/b/tool"), fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink("b/tool", tree.join("a/link"))?;
    std::os::unix::fs::symlink("/etc/shadow", tree.join("out"))?;
    let (here, there) = (tree.display().to_string(), format!("{STREAMS}:web:/tmp"));
    let output = cluster.server.try_cli(&["workflow", "cp", &here, &there])?;
    let words = process::words(&output);
    ensure!(
        output.status.success() && words.contains("left out /tmp/tree/out: a link to /etc/shadow"),
        "{words}"
    );
    let told = printed(
        cluster,
        "web",
        "/tmp/tree/a/link; ls -ln /tmp/tree/a/b/tool; wc -c < /tmp/tree/a/large",
    )?;
    let (uid, gid, _) = workflow::NUMBERS;
    ensure!(
        told.starts_with("copied\n-rwxr-xr-x")
            && told.contains(&format!("{uid}     {gid}"))
            && told.ends_with("12000000\n"),
        "in the job it is {told:?}"
    );
    let back = back.display().to_string();
    for round in 0..OFTEN {
        // Over what is there.
        let told = cluster.server.cli(&["workflow", "cp", &here, &there])?;
        ensure!(told.starts_with("6 entries, "), "copy {round} says {told:?}");
    }
    cluster.server.cli(&["workflow", "cp", &format!("{STREAMS}:web:/tmp/tree"), &back])?;
    fs::remove_file(tree.join("out"))?;
    process::run("diff", &["-r", "--no-dereference", &here, &back])?;
    // A file alone, and what is not there or not to be read.
    let one = cluster.checkout_paths().of_run("state/copies/one").display().to_string();
    cluster.server.cli(&["workflow", "cp", &format!("{STREAMS}:web:/tmp/tree/a/b/tool"), &one])?;
    ensure!(fs::read_to_string(&one)?.ends_with("echo copied\n"), "another file came");
    for (from, to, words) in [
        (format!("{STREAMS}:web:/no/such"), "none", "cannot copy /no/such"),
        (here.clone(), "", "cannot make the directory /etc/tree"),
    ] {
        let place = cluster.checkout_paths().of_run("state/copies/none").display().to_string();
        let to = if to.is_empty() { format!("{STREAMS}:web:/etc") } else { place.clone() };
        let output = cluster.server.try_cli(&["workflow", "cp", &from, &to])?;
        let told = process::words(&output);
        ensure!(
            output.status.code() == Some(1) && told.contains(words),
            "{}: {told}",
            output.status
        );
        ensure!(fs::symlink_metadata(&place).is_err(), "something is left of {from}");
    }
    let left = printed(cluster, "web", "find /tmp -name '*.part'")?;
    ensure!(left.is_empty(), "left are {left}");
    Ok(())
}

/// Live output to the end of the job, which ends what runs beside it.
pub(crate) fn output(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let server = &cluster.server;
    let (attached, beside) = std::thread::scope(|scope| {
        let attached = scope.spawn(|| server.try_cli(&["workflow", "attach", STREAMS, "talker"]));
        let beside = scope.spawn(|| exec(cluster, &[], "talker", "trap '' HUP TERM; sleep 1000"));
        clock::pause(Duration::from_secs(3));
        let stopped = printed(cluster, "talker", "touch /tmp/stop");
        let joined = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<Output>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        };
        let both = (joined(attached), joined(beside));
        stopped?;
        anyhow::Ok((both.0?, both.1?))
    })?;
    let said = String::from_utf8_lossy(&attached.stdout).into_owned();
    ensure!(attached.status.code() == Some(3), "attach ended with {}", attached.status);
    ensure!(said.starts_with("tick ") && said.ends_with("last\n"), "attach said {said:?}");
    ensure!(!said.starts_with("tick 1\n"), "attach began at the beginning");
    ensure!(beside.status.code() == Some(137), "what ran beside it ended with {}", beside.status);
    // The user may hear of the end before the server.
    let limit = cluster.accelerator().stretch(LIMIT);
    clock::wait_for("the server to refuse what has ended", limit, || {
        let refused = exec(cluster, &[], "talker", "true")?;
        let is_told = process::words(&refused).contains("ended with exit status 3");
        Ok((refused.status.code() == Some(255) && is_told).then_some(()))
    })?;
    cluster.server.cli(&["workflow", "stop", STREAMS])?;
    Ok(())
}

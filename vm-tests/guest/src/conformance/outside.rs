//! What the machine looks at, from a container's description to what is left of it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use api::run::Outcome;
use linux::{cgroup::Cgroup, clock::monotonic};
use substrate::{
    container::{self, groups},
    run_directory::{CONTAINER_NAME, END},
};

use super::{
    Run,
    stage::{BAD_SCRIPT, INNER, NEIGHBOUR, ORIGINAL, OWN_FILE, VOLUME},
};
use crate::{
    containers::{ROOTFS, log},
    usage::ResourceCounts,
};

/// Grace that no check lets pass.
const LONG: u32 = 600;

/// Time that things get to vanish.
const VANISH: Duration = Duration::from_secs(3);

fn is(outcome: &Outcome, wanted: &Outcome) -> anyhow::Result<()> {
    ensure!(outcome == wanted, "it ended {outcome:?}, not {wanted:?}");
    Ok(())
}

fn was_stopped(outcome: &Outcome) -> anyhow::Result<()> {
    is(outcome, &Outcome::Stopped { why: "told to".to_owned() })
}

fn own_group(run: &Run<'_>) -> Cgroup {
    groups::of(Path::new(run.directory.file_name().unwrap_or_default()))
}

/// Removes a file that an earlier run may have left, so that one that is there was
/// made by this one.
fn absent(path: &Path) {
    let _ = fs::remove_file(path);
}

pub(super) fn output(run: &Run<'_>) -> anyhow::Result<()> {
    run.launch()?;
    let end = run.ended()?;
    is(&end.outcome, &Outcome::Exited { code: 0 })?;
    let text = log(&run.directory);
    ensure!(text == "out\nerr\n", "the log is {text:?}");
    ensure!(end.log_bytes == text.len() as u64, "the log has {} bytes", end.log_bytes);
    Ok(())
}

pub(super) fn exit_status(run: &Run<'_>) -> anyhow::Result<()> {
    run.launch()?;
    let end = run.ended()?;
    ensure!(end.started.is_some(), "it never started");
    is(&end.outcome, &Outcome::Exited { code: 7 })
}

pub(super) fn signal(run: &Run<'_>) -> anyhow::Result<()> {
    run.launch()?;
    is(&run.ended()?.outcome, &Outcome::Signaled { signal: libc::SIGABRT })
}

pub(super) fn out_of_memory(run: &Run<'_>) -> anyhow::Result<()> {
    run.launch()?;
    is(&run.ended()?.outcome, &Outcome::OutOfMemory { limit_bytes: super::stage::MEMORY_BYTES })
}

/// The start fails, and says what is wrong with the order.
fn fails_to_start(run: &Run<'_>, words: &str) -> anyhow::Result<()> {
    run.launch()?;
    let end = run.ended()?;
    ensure!(end.started.is_none(), "it started");
    let Outcome::Failed { why, transient: false } = end.outcome else {
        anyhow::bail!("it ended {:?}", end.outcome)
    };
    ensure!(why.contains(words), "the reason is {why:?}");
    Ok(())
}

pub(super) fn missing_program(run: &Run<'_>) -> anyhow::Result<()> {
    fails_to_start(run, "the image has no program \"missing\"")
}

pub(super) fn missing_interpreter(run: &Run<'_>) -> anyhow::Result<()> {
    fails_to_start(
        run,
        &format!("script {BAD_SCRIPT}: its interpreter /bin/zsh is not in the image"),
    )
}

pub(super) fn missing_directory(run: &Run<'_>) -> anyhow::Result<()> {
    fails_to_start(run, "/missing")
}

pub(super) fn image_unchanged(run: &Run<'_>) -> anyhow::Result<()> {
    let own = Path::new(ROOTFS).join(OWN_FILE.trim_start_matches('/'));
    fs::write(&own, ORIGINAL)?;
    run.launch()?;
    is(&run.ended()?.outcome, &Outcome::Exited { code: 0 })?;
    let text = fs::read_to_string(own)?;
    ensure!(text == ORIGINAL, "the image's file says {text:?}");
    ensure!(!Path::new(ROOTFS).join("tmp/new").exists(), "the image has a new file");
    Ok(())
}

/// Waits until the script has said in the volume that it listens.
fn listens(run: &Run<'_>) -> anyhow::Result<()> {
    let ready = Path::new(VOLUME).join("ready");
    run.wait_for("the script to listen", || Ok(ready.exists()))
}

pub(super) fn terminated(run: &Run<'_>) -> anyhow::Result<()> {
    let [ready, heard] = ["ready", "heard"].map(|name| Path::new(VOLUME).join(name));
    absent(&ready);
    absent(&heard);
    run.launch()?;
    listens(run)?;
    run.stop(LONG)?;
    was_stopped(&run.ended()?.outcome)?;
    ensure!(heard.exists(), "the program heard nothing");
    Ok(())
}

pub(super) fn killed_after_grace(run: &Run<'_>) -> anyhow::Result<()> {
    let [ready, heard] = ["ready", "heard"].map(|name| Path::new(VOLUME).join(name));
    absent(&ready);
    absent(&heard);
    run.launch()?;
    listens(run)?;
    let start = monotonic();
    run.stop(1)?;
    was_stopped(&run.ended()?.outcome)?;
    ensure!(heard.exists(), "the program heard nothing");
    let took = monotonic() - start;
    ensure!(took >= Duration::from_secs(1), "it was killed after {} ms", took.as_millis());
    Ok(())
}

pub(super) fn stopped_before_it_starts(run: &Run<'_>) -> anyhow::Result<()> {
    run.order_stop(0)?;
    run.launch()?;
    was_stopped(&run.ended()?.outcome)
}

pub(super) fn nothing_to_kill(run: &Run<'_>) -> anyhow::Result<()> {
    let never = container::signal(&run.directory).err().map(|error| error.kind());
    ensure!(never == Some(std::io::ErrorKind::NotFound), "before the start: {never:?}");
    run.launch()?;
    is(&run.ended()?.outcome, &Outcome::Exited { code: 0 })?;
    let path = run.directory.join(END.name());
    let end = fs::read(&path)?;
    run.wait_until_gone()?;
    let later = run.stop(0);
    ensure!(later.is_err(), "a signal was sent to a container that has ended");
    ensure!(fs::read(path)? == end, "the end has changed");
    Ok(())
}

pub(super) fn removal_refused(run: &Run<'_>) -> anyhow::Result<()> {
    container::clean(Path::new("no-such-run"));
    run.launch()?;
    run.started()?;
    container::clean(&run.directory);
    ensure!(own_group(run).is_populated()?, "the program's cgroup is empty");
    run.stop(0)?;
    was_stopped(&run.ended()?.outcome)
}

pub(super) fn nothing_left(run: &Run<'_>) -> anyhow::Result<()> {
    let before = ResourceCounts::now()?;
    run.launch()?;
    is(&run.ended()?.outcome, &Outcome::Exited { code: 0 })?;
    container::clean(&run.directory);
    let deadline = monotonic() + VANISH;
    while ResourceCounts::now()? != before {
        ensure!(monotonic() < deadline, "before {before:?}, after {:?}", ResourceCounts::now()?);
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(!own_group(run).path().exists(), "its cgroup is left");
    ensure!(groups::of(Path::new(NEIGHBOUR)).path().exists(), "another run's cgroup is gone");
    ensure!(Path::new(INNER).join("marker").exists(), "its volume is empty");
    Ok(())
}

pub(super) fn told_of(run: &Run<'_>) -> anyhow::Result<()> {
    run.launch()?;
    run.started()?;
    let init =
        container::running_init(&run.directory).context("init.pid names no process that lives")?;
    let process = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = process(&init.to_string());
    ensure!(name == "container-init\n", "init.pid names {name:?}");
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
    let names: Vec<String> = children.split_whitespace().map(process).collect();
    ensure!(names == ["sleep\n"], "its children are {names:?}");
    run.stop(0)?;
    was_stopped(&run.ended()?.outcome)
}

pub(super) fn later_changes(run: &Run<'_>) -> anyhow::Result<()> {
    let go = Path::new(VOLUME).join("go");
    absent(&go);
    run.launch()?;
    run.started()?;
    fs::write(run.directory.join(CONTAINER_NAME), "{}")?;
    fs::write(go, "")?;
    is(&run.ended()?.outcome, &Outcome::Exited { code: 7 })
}

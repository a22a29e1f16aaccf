//! What the public suites for OCI runtimes ask of a container, as far as it means something for a
//! job: checks of our own, run with the very substrate of the nodes. Which case of which suite each
//! one stands for is in `cases`, of which `page` makes `docs/reference/oci-cases.md`.
//!
//! A check passes once, and then it must fail wherever something is otherwise than it should be
//! ([`Otherwise`]): so it looks at what it says that it looks at.

#[cfg(test)]
mod cases;
mod inside;
mod outside;
#[cfg(test)]
mod page;
mod stage;
mod table;
mod user;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::run::{Outcome, RunEnd};
use linux::clock::monotonic;
use substrate::{
    container::{self, defence::Safeguard, spec::ContainerSpec},
    run_directory::{END, LAUNCHING, STARTED, STOP, StopOrder},
};

use crate::{
    containers::{Ours, log, spec},
    program::program,
    say,
};

/// This program in the root file system of every container.
const INSIDE: &str = "/bin/guest";

/// What a program is called with.
const ARGUMENTS: [&str; 4] = ["", "two words", "$(true)", "é\n"];

/// What is said of a check that is as it should be, here and on the page.
const PASSED: &str = "passed";

/// Longest that a container of a check may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// One check.
#[derive(Debug)]
struct Check {
    /// What holds if it passes.
    name: &'static str,
    /// In what its container differs from an ordinary small job.
    container: fn(&mut ContainerSpec),
    look: Look,
    /// Each of these is noticed.
    otherwise: &'static [Otherwise],
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// The payload itself, with the arguments that [`Check::container`] added to its command.
    Inside(fn(&[String]) -> anyhow::Result<()>),
    /// The machine, from the description on.
    Outside(fn(&Run<'_>) -> anyhow::Result<()>),
}

/// How something is made otherwise than it should be.
#[derive(Debug, Clone, Copy)]
enum Otherwise {
    /// By the test build of the substrate, without these defences.
    Without(&'static [Safeguard]),
    /// By another description of the container.
    Described(fn(&mut ContainerSpec)),
    /// By the payload, before it looks.
    Disturbed(fn() -> anyhow::Result<()>),
    /// There is no container at all: the payload runs on the machine.
    Uncontained,
}

/// A container with its run's directory, not started yet.
#[derive(Debug)]
struct Run<'a> {
    ours: &'a Ours,
    directory: PathBuf,
}

impl Run<'_> {
    fn launch(&self) -> anyhow::Result<()> {
        self.ours.launch(&self.directory)
    }

    fn ended(&self) -> anyhow::Result<RunEnd> {
        self.ours.end_within(&self.directory, DEADLINE)
    }

    /// Waits until the program runs.
    fn started(&self) -> anyhow::Result<()> {
        self.wait_for("the program to start", || Ok(self.directory.join(STARTED.name()).exists()))
    }

    /// Waits for something that happens while the container lives.
    fn wait_for(
        &self,
        what: &str,
        mut is: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = monotonic() + DEADLINE;
        while !is()? {
            ensure!(
                !self.directory.join(END.name()).exists(),
                "it ended before {what}: {}",
                log(&self.directory)
            );
            ensure!(monotonic() < deadline, "waited {} s for {what}", DEADLINE.as_secs());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until its init is no process any more.
    fn wait_until_gone(&self) -> anyhow::Result<()> {
        let deadline = monotonic() + DEADLINE;
        while container::running_init(&self.directory).is_some() {
            ensure!(monotonic() < deadline, "its init does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn order_stop(&self, grace_seconds: u32) -> anyhow::Result<()> {
        let order = StopOrder { grace_seconds, why: "told to".to_owned() };
        Ok(fs::write(self.directory.join(STOP.name()), STOP.encode(&order)?)?)
    }

    fn stop(&self, grace_seconds: u32) -> anyhow::Result<()> {
        self.order_stop(grace_seconds)?;
        container::signal(&self.directory).context("cannot tell the init to stop")
    }

    /// Ends what a check that failed may have left, and forgets the run.
    fn clear(&self) -> anyhow::Result<()> {
        if self.directory.join(LAUNCHING).exists() {
            self.order_stop(0)?;
            let deadline = monotonic() + DEADLINE;
            while !self.directory.join(END.name()).exists() && monotonic() < deadline {
                let _ = container::signal(&self.directory);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(fs::remove_dir_all(&self.directory)?)
    }
}

/// Looks from inside, as the payload; what is to be otherwise is given by its number.
pub(crate) fn look(name: &str, otherwise: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let check = table::checks().find(|check| check.name == name).context("no such check")?;
    let number: Option<usize> = otherwise.parse().ok();
    if let Some(Otherwise::Disturbed(disturb)) =
        number.and_then(|number| check.otherwise.get(number))
    {
        disturb()?;
    }
    let Look::Inside(look) = check.look else { bail!("this check does not look from inside") };
    look(&arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

/// Runs every check.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut checks =
        Checks { _stage: stage::Stage::set()?, nodes: None, test_build: None, runs: 0 };
    let mut wrong = 0;
    for check in table::checks() {
        let verdict = checks.verdict(check).unwrap_or_else(|error| format!("NOT MADE: {error:#}"));
        wrong += usize::from(verdict != PASSED);
        say(format!("conformance | {} | {verdict} |", check.name));
    }
    let count = table::checks().count();
    ensure!(wrong == 0, "{wrong} of {count} checks are not as they should be");
    say(format!("conformances {count} {}", checks.runs));
    Ok(())
}

/// What a look found, where it could look at all.
type Found = Result<(), NotAsItShouldBe>;

/// A look's words about what is wrong.
#[derive(Debug)]
struct NotAsItShouldBe(String);

/// The checks while they run.
#[derive(Debug)]
struct Checks {
    _stage: stage::Stage,
    /// The substrate of the nodes.
    nodes: Option<Ours>,
    test_build: Option<Ours>,
    runs: u32,
}

impl Checks {
    fn verdict(&mut self, check: &Check) -> anyhow::Result<String> {
        if let Err(NotAsItShouldBe(words)) = self.once(check, None)? {
            return Ok(format!("WRONG {words}"));
        }
        for number in 0..check.otherwise.len() {
            let found =
                self.once(check, Some(number)).with_context(|| format!("otherwise {number}"))?;
            if found.is_ok() {
                return Ok(format!("BLIND to {number}: {:?}", check.otherwise[number]));
            }
        }
        Ok(PASSED.to_owned())
    }

    fn once(&mut self, check: &Check, number: Option<usize>) -> anyhow::Result<Found> {
        self.runs += 1;
        let word = number.map_or("as-it-is".to_owned(), |number| number.to_string());
        let mut spec = spec(&[INSIDE, "conform", check.name, &word]);
        (check.container)(&mut spec);
        let mut build = (&mut self.nodes, "/bin/substrate");
        match number.map(|number| check.otherwise[number]) {
            None | Some(Otherwise::Disturbed(_)) => {}
            Some(Otherwise::Described(describe)) => describe(&mut spec),
            Some(Otherwise::Without(defences)) => {
                leave_out(&mut spec, defences)?;
                build = (&mut self.test_build, INSIDE);
            }
            Some(Otherwise::Uncontained) => return look_uncontained(&spec),
        }
        let ours = match build {
            (Some(ours), _) => ours,
            (none, path) => none.insert(Ours::start(Path::new(path))?),
        };
        let run = Run { ours, directory: ours.prepare(self.runs, &spec)? };
        let found = match check.look {
            Look::Inside(_) => look_inside(&run),
            Look::Outside(look) => {
                Ok(look(&run).map_err(|error| NotAsItShouldBe(format!("{error:#}"))))
            }
        };
        run.clear()?;
        found
    }
}

/// Anything else than the payload's own word is no look.
fn look_inside(run: &Run<'_>) -> anyhow::Result<Found> {
    run.launch()?;
    let end = run.ended()?;
    match end.outcome {
        Outcome::Exited { code: 0 } => Ok(Ok(())),
        Outcome::Exited { code: 1 } => {
            Ok(Err(NotAsItShouldBe(log(&run.directory).trim().to_owned())))
        }
        other => bail!("the payload did not look: {other:?}; {}", log(&run.directory)),
    }
}

fn look_uncontained(spec: &ContainerSpec) -> anyhow::Result<Found> {
    let output = program(INSIDE).args(&spec.command[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(Ok(())),
        Some(1) => Ok(Err(NotAsItShouldBe(said))),
        other => bail!("the payload did not look: {other:?}; {said}"),
    }
}

#[cfg(feature = "switches")]
fn leave_out(spec: &mut ContainerSpec, defences: &[Safeguard]) -> anyhow::Result<()> {
    spec.without = defences.iter().copied().collect();
    Ok(())
}

#[cfg(not(feature = "switches"))]
fn leave_out(_: &mut ContainerSpec, defences: &[Safeguard]) -> anyhow::Result<()> {
    bail!("cannot leave out {defences:?}: this is not the test build")
}

//! A run of benchmarks: each in a child process of its own with a limit, so that one that hangs or
//! falls harms no other.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};

use bench::outcome::{self, Outcome};

use crate::{
    catalog::Name,
    checkout_paths::CheckoutPaths,
    clock, document, host,
    network::Network,
    process::{self, End},
    report::say,
    turns::OURS,
};

const DOCUMENT: &str = "docs/benchmarks.md";

/// Somebody wants no more.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
struct Stopped;

/// What one benchmark found.
struct Found {
    outcome: Outcome,
    seconds: u64,
}

impl Found {
    /// Ours was measured, and nothing went wrong on our side.
    fn is_whole(&self) -> bool {
        let ours_failed =
            self.outcome.unmeasured.iter().any(|missing| missing.what.starts_with(OURS));
        !ours_failed && self.outcome.headline().is_some_and(|row| !row.ours.is_empty())
    }
}

/// Which, and what becomes of the results.
#[derive(Debug)]
pub(crate) struct Session {
    /// In this order.
    pub(crate) names: Vec<Name>,
    /// A smoke test.
    pub(crate) quick: bool,
    /// Also write all outcomes there.
    pub(crate) json: Option<PathBuf>,
    /// Also put them into docs/benchmarks.md.
    pub(crate) write: bool,
}

impl Session {
    /// Runs them; true if each has measured ours.
    ///
    /// # Errors
    /// If results cannot be written, or a signal ends the run.
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        ensure!(
            !(self.quick && self.write),
            "--quick is a smoke test, its figures do not belong into docs/benchmarks.md: leave out one of --quick and --write"
        );
        let checkout_paths = CheckoutPaths::new()?;
        let _lock = checkout_paths.lock()?;
        say(host::describe());
        let mut found = Vec::new();
        for &name in &self.names {
            found.push(self.one(&checkout_paths, name)?);
            // What was measured is kept, also if a later one ends the run.
            self.keep(&checkout_paths, &found)?;
        }
        for one in &found {
            say(one.outcome.last_line());
        }
        Ok(found.iter().all(Found::is_whole))
    }

    /// Runs one and shows what it found; what fails is an outcome too.
    fn one(&self, checkout_paths: &CheckoutPaths, name: Name) -> anyhow::Result<Found> {
        say(format!("{}: begins", name.as_str()));
        clear(checkout_paths)?;
        let start = clock::now();
        let measured = self.measured(checkout_paths, name);
        clear(checkout_paths)?;
        let outcome = match measured {
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) => {
                let mut outcome = Outcome::new(name.as_str());
                outcome.missing("anything", format!("{error:#}"));
                outcome
            }
            Ok(outcome) => outcome,
        };
        let seconds = start.elapsed().as_secs();
        say(outcome::plain(&outcome));
        say(format!("({seconds} s)\n"));
        Ok(Found { outcome, seconds })
    }

    /// Lets another process measure.
    fn measured(&self, checkout_paths: &CheckoutPaths, name: Name) -> anyhow::Result<Outcome> {
        let file = checkout_paths.kept("results").join(format!("{}.json", name.as_str()));
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let (program, first) = match name.measure() {
            Some(_) => (own, "measure"),
            None => (checkout_paths.in_workspace("target/debug/vm-tests"), "bench"),
        };
        let mut arguments: Vec<OsString> = vec![first.into(), name.as_str().into()];
        if self.quick {
            arguments.push("--quick".into());
        }
        arguments.extend(["--out".into(), file.clone().into()]);
        // That of an earlier run is none of this one.
        let _ = fs::remove_file(&file);
        match process::attended(&program, &arguments, name.limit())? {
            End::Status(status) if status.success() => {}
            End::Status(status) => {
                bail!("{} {} failed ({status})", program.display(), name.as_str())
            }
            End::Late => bail!("it took longer than {} minutes", name.limit().as_secs() / 60),
            End::Stopped => return Err(anyhow!(Stopped)),
        }
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no outcome", file.display()))
    }

    fn keep(&self, checkout_paths: &CheckoutPaths, found: &[Found]) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            let outcomes: Vec<&Outcome> = found.iter().map(|one| &one.outcome).collect();
            let text = serde_json::to_vec_pretty(&outcomes)?;
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let (true, Some(last)) = (self.write, found.last()) {
            let is_all = self.names.len() > 1;
            write_document(checkout_paths, last, is_all)
                .with_context(|| format!("cannot write {DOCUMENT}"))?;
        }
        Ok(())
    }
}

/// Puts an outcome into its part of the document, with date and commit.
fn write_document(
    checkout_paths: &CheckoutPaths,
    found: &Found,
    is_all: bool,
) -> anyhow::Result<()> {
    let path = checkout_paths.in_workspace(DOCUMENT);
    let mut text = fs::read_to_string(&path)?;
    let date = host::date(clock::unix_seconds());
    let at = format!("{date}, commit {}", host::commit(&checkout_paths.in_workspace(""), DOCUMENT));
    if is_all {
        let machine = format!("{at}: {}", host::describe());
        text = document::replaced(&text, document::MACHINE, &machine)?;
    }
    let Found { outcome, seconds } = found;
    let part = format!("{at}; took {seconds} s.\n\n{}", outcome::markdown(outcome));
    fs::write(&path, document::replaced(&text, &outcome.name, &part)?)?;
    Ok(())
}

/// Removes what one benchmark leaves to no other.
fn clear(checkout_paths: &CheckoutPaths) -> anyhow::Result<()> {
    Network::clear(checkout_paths)?;
    checkout_paths.remove()
}

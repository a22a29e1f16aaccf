//! Completion: the script for a shell, and the names that it asks this program for while
//! somebody types.

use std::{ffi::OsStr, time::Duration};

use api::rights::Action;
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::{
    CompleteEnv, CompletionCandidate, PathCompleter,
    engine::ValueCompleter as _,
    env::{Bash, EnvCompleter, Fish, Zsh},
};
use client::{Client, ClientError};

use super::{
    Cli,
    context::Session,
    output::{Stdout, print_bytes},
};

/// How long a shell waits for names. Somebody is typing.
const DEADLINE: Duration = Duration::from_secs(2);

/// Workflows that are over whose names are offered.
const WORKFLOWS: u32 = 50;

/// Print the completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo 'source <(bedplate completion bash)' >> ~/.bashrc
  echo 'source <(bedplate completion zsh)' >> ~/.zshrc
  echo 'bedplate completion fish | source' >> ~/.config/fish/config.fish

Names of nodes, profiles, images, overlays and workflows are completed too: the script asks this program, which asks the server.")]
pub(super) struct Completion {
    /// The shell.
    shell: Shell,
}

/// The shells.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// If a shell asks for completions, by the variable `COMPLETE`, answers and ends the process.
pub(crate) fn answer_the_shell() {
    CompleteEnv::with_factory(Cli::command).bin("bedplate").complete();
}

/// Prints the script.
pub(super) fn script(session: &Session, completion: &Completion) -> anyhow::Result<()> {
    session.out.refuse_format("completion")?;
    let shell: &dyn EnvCompleter = match completion.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration("COMPLETE", "bedplate", "bedplate", "bedplate", &mut script)?;
    print_bytes(&script)
}

/// Names of nodes; the last of a list of names.
pub(super) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    ask(current, |client| async move {
        Ok(client.nodes(None).await?.into_iter().map(|node| node.name.to_string()).collect())
    })
}

/// Names of profiles.
pub(super) fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    ask(current, |client| async move {
        Ok(client.profiles().await?.into_iter().map(|profile| profile.name.to_string()).collect())
    })
}

/// Names of images.
pub(super) fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    ask(current, |client| async move {
        Ok(client.images().await?.into_iter().map(|image| image.name.to_string()).collect())
    })
}

/// Names of overlays.
pub(super) fn overlays(current: &OsStr) -> Vec<CompletionCandidate> {
    ask(current, |client| async move {
        Ok(client.overlays().await?.into_iter().map(|overlay| overlay.name.to_string()).collect())
    })
}

/// Actions that the scope of a token may have; the last of a list of them. They are known here.
pub(super) fn actions(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = Action::ALL.iter().filter(|action| action.fits_a_scope());
    let words: Vec<String> = words.map(|action| action.as_str().to_owned()).collect();
    candidates(&current.to_string_lossy(), &words)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Names of workflows.
pub(super) fn workflows(current: &OsStr) -> Vec<CompletionCandidate> {
    ask(current, |client| async move {
        let mut names: Vec<String> =
            client.workflows(WORKFLOWS).await?.into_iter().map(|workflow| workflow.name).collect();
        names.sort();
        names.dedup();
        Ok(names)
    })
}

/// Files of this machine, and `WORKFLOW:/` for what is in a job.
pub(super) fn places(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut places = PathCompleter::any().complete(current);
    places.extend(ask(current, |client| async move {
        let mut names: Vec<String> = client
            .workflows(WORKFLOWS)
            .await?
            .into_iter()
            .map(|workflow| workflow.name + ":/")
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }));
    places
}

/// Asks the server of the usual context. Whatever fails, there are no completions: a shell has no
/// place for errors.
fn ask<F>(current: &OsStr, names: impl FnOnce(Client) -> F) -> Vec<CompletionCandidate>
where
    F: Future<Output = Result<Vec<String>, ClientError>>,
{
    let context =
        std::env::var_os("BEDPLATE_CONTEXT").filter(|path| !path.is_empty()).map(Into::into);
    let session = Session::new(context, Stdout::new(None));
    let Ok(context) = session.context() else { return Vec::new() };
    // Not the session's client, which would tell of a token that ends soon, on the
    // line that is typed.
    let (Ok(client), Ok(runtime)) = (Client::new(&context), super::runtime()) else {
        return Vec::new();
    };
    let asked = runtime.block_on(async { tokio::time::timeout(DEADLINE, names(client)).await });
    let names = asked.ok().and_then(Result::ok).unwrap_or_default();
    candidates(&current.to_string_lossy(), &names)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Names that begin as the last part of what is typed; what is before its comma or `~` stays.
fn candidates(current: &str, names: &[String]) -> Vec<String> {
    let start = current.rfind([',', '~']).map_or(0, |at| at + 1);
    let (before, typed) = current.split_at(start);
    names
        .iter()
        .filter(|name| name.starts_with(typed))
        .map(|name| format!("{before}{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_is_completed() {
        let names = ["n1", "n2", "login"].map(str::to_owned);
        assert_eq!(candidates("n", &names), ["n1", "n2"]);
        assert_eq!(candidates("n1,l", &names), ["n1,login"]);
        assert_eq!(candidates("~l", &names), ["~login"]);
        assert_eq!(candidates("x", &names), Vec::<String>::new());
    }
}

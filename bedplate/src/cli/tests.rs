//! What the command line looks like, and the page about it.

use clap::CommandFactory as _;
use expect_test::expect;

use super::*;

mod output;

#[test]
fn the_arguments_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn help() {
    let help = Cli::command().term_width(100).render_help().to_string();
    expect![[r#"
        Takes bare metal to running workflows: boots nodes over the network from OCI images, keeps them in
        step, and runs jobs on them

        Usage: bedplate [OPTIONS] <COMMAND>

        Commands:
          workflow    Run workflows
          node        Add, change, watch and reboot nodes
          inventory   Query the hardware of all nodes
          profile     Manage profiles: values that many nodes share
          apply       Create and change nodes and profiles to match a YAML document
          export      Print all nodes and profiles as a document for `apply`
          image       Import and delete OS images
          operation   Show, follow and cancel long operations
          overlay     Manage overlays: files and templates for the root file system of nodes
          whoami      Print the user of the context's token
          user        Manage users and the UID and GIDs that their jobs run with
          token       Manage tokens for people and programs
          audit       Print and verify the audit log of all changes, newest first
          context     Manage contexts: several servers, one of them in use
          version     Print the version of this program and of the server
          completion  Print the completion script for a shell
          server      Run the server, or check its configuration

        Options:
          -h, --help     Print help (see more with '--help')
          -V, --version  Print version

        Everywhere:
              --context <FILE>   File with the server's URL, its CA and a token
          -o, --output <FORMAT>  Output format: a table for people; json, yaml or csv for programs [possible
                                 values: table, json, yaml, csv]

        Examples:
          bedplate image import docker://registry.example/debian-node:12
          bedplate node add n1 --image debian-node --mac 52:54:00:12:34:56 --address 10.1.0.11/24
          bedplate node watch --until ready --timeout 10m
          bedplate node inventory n1
          bedplate workflow start hello.yaml --watch

        The server's address, its CA and a token stand in a context file: --context FILE,
        else BEDPLATE_CONTEXT, else ~/.config/bedplate/context.yaml, else what the server writes at its
        first start: /var/lib/bedplate/admin.yaml.
    "#]]
    .assert_eq(&help);
}

/// Every verb and every option says what it does.
#[test]
fn nothing_is_without_help() {
    fn walk(command: &clap::Command, path: &str, silent: &mut Vec<String>) {
        if command.get_about().is_none() {
            silent.push(path.to_owned());
        }
        let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
        silent.extend(arguments.map(|argument| format!("{path} {}", argument.get_id())));
        for verb in command.get_subcommands() {
            walk(verb, &format!("{path} {}", verb.get_name()), silent);
        }
    }
    let mut silent = Vec::new();
    walk(&Cli::command(), "bedplate", &mut silent);
    assert_eq!(silent, Vec::<String>::new());
}

/// `docs/reference/cli.md` is written by this test: `UPDATE_EXPECT=1` makes it again.
#[test]
fn the_page_of_commands_is_true() {
    let mut page = String::from(
        "# Commands\n\nWritten from the program's own help by a test (`the_page_of_commands_is_true`); not to be edited.\n",
    );
    let mut command = Cli::command();
    command.build();
    describe(&command, &mut page);
    expect_test::expect_file!["../../../docs/reference/cli.md"].assert_eq(&page);
}

fn describe(command: &clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or("bedplate");
    let top = name == "bedplate";
    let level = if top { "Every command" } else { name };
    *page += &format!("\n## {level}\n\n");
    if let Some(about) = command.get_about() {
        *page += &format!("{about}.\n\n");
    }
    let usage = command.clone().render_usage().to_string();
    *page += &format!(
        "```text\n{}\n```\n",
        usage.trim_start_matches("Usage: ").replace("\n       ", "\n")
    );
    let arguments: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .filter(|argument| top || argument.get_help_heading() != Some(EVERYWHERE))
        .collect();
    if !arguments.is_empty() {
        *page += "\n| argument | meaning |\n|---|---|\n";
        for argument in arguments {
            *page += &row(argument);
        }
    }
    if let Some(more) = command.get_after_help() {
        *page += &format!("\n```text\n{more}\n```\n");
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        describe(verb, page);
    }
}

fn row(argument: &clap::Arg) -> String {
    let mut meaning = argument.get_help().unwrap_or_default().to_string();
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    if !choices.is_empty() {
        meaning += &format!(": {}", choices.join(", "));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        meaning += &format!(" (default: {})", defaults.join(", "));
    }
    let short = argument.get_short().map_or(String::new(), |short| format!("-{short}, "));
    format!("| `{short}{argument}` | {} |\n", meaning.replace('|', "\\|"))
}

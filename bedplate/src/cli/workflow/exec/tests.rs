//! Words of a command line in, what runs where out.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    exec: Exec,
}

/// What runs, in a workflow whose jobs are `main` and `side`.
fn read(line: &str) -> Result<Call, Usage> {
    let exec = Line::try_parse_from(line.split(' ')).unwrap().exec;
    assert_eq!(exec.split().0, "w");
    match with_separator(&exec)? {
        Some(call) => Ok(call),
        None => call(&exec, &["main".to_owned(), "side".to_owned()]),
    }
}

fn expected(job: Option<&str>, options: Options, command: &[&str]) -> Call {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Call { job: job.map(str::to_owned), options, command }
}

#[test]
fn the_first_word_is_the_job_if_there_is_one_of_that_name() {
    let (none, tty) = (Options::default(), Options { tty: true, ..Options::default() });
    for (line, call) in [
        ("w main /bin/sh", expected(Some("main"), none.clone(), &["/bin/sh"])),
        ("--tty w main /bin/sh", expected(Some("main"), tty, &["/bin/sh"])),
        ("w ls -l -t --task 3", expected(None, none.clone(), &["ls", "-l", "-t", "--task", "3"])),
        ("w main main", expected(Some("main"), none.clone(), &["main"])),
        ("w -- nvidia-smi -L", expected(None, none.clone(), &["nvidia-smi", "-L"])),
        ("w side -- cat --help", expected(Some("side"), none.clone(), &["cat", "--help"])),
        ("w other -- ls", expected(Some("other"), none.clone(), &["ls"])),
        ("w -- main x", expected(None, none.clone(), &["main", "x"])),
        ("w -- cat -- f", expected(None, none.clone(), &["cat", "--", "f"])),
        ("w main cat -- -file", expected(Some("main"), none, &["cat", "--", "-file"])),
    ] {
        assert_eq!(read(line).unwrap(), call, "{line}");
    }
}

#[test]
fn options_may_stand_before_the_workflow_and_before_the_separator() {
    let options = Options { task: Some(7), stdin: true, ..Options::default() };
    for line in [
        "-i w side --task 7 -- tar -x",
        "-i --task 7 w side -- tar -x",
        "w side --task=7 -i -- tar -x",
    ] {
        assert_eq!(
            read(line).unwrap(),
            expected(Some("side"), options.clone(), &["tar", "-x"]),
            "{line}"
        );
    }
}

#[test]
fn a_job_alone_runs_nothing() {
    for line in ["w main", "w main --"] {
        assert!(read(line).unwrap_err().0.contains("name the program"), "{line}");
    }
}

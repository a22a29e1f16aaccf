//! What the person at the terminal reads. The only place of these programs that prints.

/// Prints one line.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// Prints one line on standard error.
#[expect(clippy::print_stderr, reason = "a program for the terminal")]
pub fn complain(line: impl std::fmt::Display) {
    eprintln!("{line}");
}

//! Asks the user at the terminal.

use std::io::{BufRead as _, IsTerminal as _};

use crate::report::print_line;

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The user agreed.
    Yes,
    /// The user did not agree.
    No,
    /// Standard input or standard error is not a terminal.
    NoTerminal,
}

/// Asks a question that `y` or `yes` agrees to.
pub(super) fn ask(question: &str) -> Answer {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Answer::NoTerminal;
    }
    print_line(question);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        Answer::Yes
    } else {
        Answer::No
    }
}

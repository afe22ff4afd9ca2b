//! The command line: what was typed becomes a verb and layers of settings.

mod args;
mod build;
mod check;
mod command;
mod doctor;
mod info;
mod iso_only;
mod output;
mod plan;
mod providers;
mod runs;
mod scaffold;
mod unknown;

use std::{ffi::OsString, process::ExitCode};

use crate::{
    error::Error,
    exit,
    plugins::{CHILD_VERB, expect_end, run_child},
    report::print_error,
    settings::Environment,
};

/// Runs the program.
#[must_use]
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment = Environment::of_process();
    let words: Result<Vec<String>, OsString> =
        words.into_iter().skip(1).map(OsString::into_string).collect();
    let code = match words {
        Ok(words) => dispatch(&words, &environment),
        Err(word) => {
            let error = Error::usage(format!("argument {word:?} is not valid UTF-8"));
            print_error(&error);
            error.exit_code()
        }
    };
    expect_end();
    ExitCode::from(code)
}

/// Verbs beside the build, which has none.
const VERBS: [(&str, &str); 6] = [
    ("plan", "print what a build would do, and do nothing"),
    ("resume", "go on with a build that was killed or kept"),
    ("runs", "list builds that left something"),
    ("gc", "remove what killed builds left, here and in the cloud"),
    ("providers", "list, inspect, check and begin provider plugins"),
    ("doctor", "look whether builds can work on this host"),
];

fn dispatch(words: &[String], environment: &Environment) -> u8 {
    let result = match words.split_first() {
        Some((verb, rest)) if verb == CHILD_VERB => return run_child(rest),
        Some((verb, rest)) if verb == "plan" => plan::run(rest, environment),
        Some((verb, rest)) if verb == "resume" => return runs::resume(rest, environment),
        Some((verb, rest)) if verb == "runs" => runs::list(rest, environment),
        Some((verb, rest)) if verb == "gc" => runs::gc(rest, environment),
        Some((verb, rest)) if verb == "providers" => providers::run(rest, environment),
        Some((verb, rest)) if verb == "doctor" => {
            return doctor::run(rest, environment).unwrap_or_else(|error| {
                print_error(&error);
                error.exit_code()
            });
        }
        Some((word, _)) if !word.starts_with('-') => Err(unknown::verb(word)),
        _ => return build::run(words, environment, None),
    };
    match result {
        Ok(()) => exit::DONE,
        Err(error) => {
            print_error(&error);
            error.exit_code()
        }
    }
}

/// Writes to standard output. A closed pipe is no reason to fail.
fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

//! The command line: what was typed becomes a verb and layers of settings.

mod adopt;
mod args;
mod build;
mod check;
mod command;
mod doctor;
mod estimate;
mod example;
mod exposed;
mod help;
mod info;
mod iso_only;
mod os_release;
mod output;
mod overwrite;
mod plan;
mod providers;
mod runs;
mod scaffold;
mod shell;
mod tree;
mod unknown;
mod unsupported;

use std::{ffi::OsString, process::ExitCode, sync::OnceLock};

use crate::{
    error::{Error, Stage},
    exit,
    plugins::{CHILD_VERB, expect_end, run_child},
    report::{OutputMode, Reporter, harmless},
    settings::Environment,
};

/// Runs the program.
#[must_use]
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    keep_private();
    let environment = Environment::of_process();
    let words: Result<Vec<String>, OsString> =
        words.into_iter().skip(1).map(OsString::into_string).collect();
    let code = match words {
        Ok(words) => dispatch(words, &environment),
        Err(word) => {
            let error = Error::usage(format!("argument {word:?} is not valid UTF-8"));
            failed(&error, &environment)
        }
    };
    let code = printed(code, &environment);
    expect_end();
    ExitCode::from(code)
}

/// Nobody else may write what this process and those it starts make, and they write no cores: those would hold
/// every secret.
fn keep_private() {
    use rustix::{
        fs::Mode,
        process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    };
    let others = Mode::WGRP | Mode::WOTH;
    umask(umask(others) | others);
    let maximum = getrlimit(Resource::Core).maximum;
    // Lowering one's own limit is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

/// Verbs beside the build, which has none.
const VERBS: [(&str, &str); 9] = [
    ("plan", "print what a build would do, and do nothing"),
    ("resume", "go on with a build that was killed or kept"),
    ("runs", "list builds that left something"),
    ("gc", "remove what killed builds left, here and in the cloud"),
    ("providers", "list, inspect, check and begin provider plugins"),
    ("doctor", "look whether builds can work on this host"),
    ("completions", "print what makes a shell complete command lines"),
    ("man", "write the manual pages"),
    ("help", "explain a verb, or settings"),
];

fn dispatch(words: Vec<String>, environment: &Environment) -> u8 {
    let result = match words.split_first() {
        Some((verb, rest)) if verb == CHILD_VERB => return run_child(rest),
        Some((verb, rest)) if verb == "plan" => plan::run(rest, environment),
        Some((verb, rest)) if verb == "resume" => return runs::resume(rest, environment),
        Some((verb, rest)) if verb == "runs" => runs::list(rest, environment),
        Some((verb, rest)) if verb == "gc" => runs::gc(rest, environment),
        Some((verb, rest)) if verb == "providers" => providers::run(rest, environment),
        Some((verb, rest)) if verb == "doctor" => {
            return doctor::run(rest, environment)
                .unwrap_or_else(|error| failed(&error, environment));
        }
        Some((verb, rest)) if verb == "completions" => shell::completions(rest, environment),
        Some((verb, rest)) if verb == "man" => shell::man(rest, environment),
        Some((verb, rest)) if verb == "help" => match help::target(rest) {
            Some(words) => return dispatch(words, environment),
            None => help::run(rest, environment),
        },
        Some((word, _)) if !word.starts_with('-') => Err(unknown::verb(word)),
        _ => return build::run(words, environment, None),
    };
    match result {
        Ok(()) => exit::DONE,
        Err(error) => failed(&error, environment),
    }
}

/// Says why a verb failed; returns the exit code.
fn failed(error: &Error, environment: &Environment) -> u8 {
    let code = error.exit_code();
    Reporter::new(OutputMode::of_stderr(environment)).error(error, code);
    code
}

/// Writes to standard output what journals, plugins and servers may have a part in: nothing of it reaches a terminal
/// as a command.
fn print(text: &str) {
    print_as_is(&harmless(text));
}

/// Writes to standard output, byte for byte. A closed pipe is ignored; any other failure is the end of the
/// process's success.
fn print_as_is(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error);
    }
}

/// Why standard output lacks something, if it does.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// The exit code of a process, now that all is printed: what was asked for is not there when it could not be printed.
fn printed(code: u8, environment: &Environment) -> u8 {
    let Some(cause) = UNWRITTEN.get().filter(|_| code == exit::DONE) else { return code };
    let error = Error::new(Stage::Result, "cannot write to standard output")
        .caused_by(cause)
        .hint("look at the space where it goes; the log and `build-image runs` tell what was done");
    failed(&error, environment)
}

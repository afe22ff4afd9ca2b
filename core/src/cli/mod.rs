//! Parses the command line: the arguments become a verb and layers of settings.

mod adopt;
mod args;
mod boot;
mod build;
mod check;
mod command;
mod complete;
mod consent;
mod doctor;
mod example;
mod exposed;
mod group;
mod halves;
mod help;
mod images;
mod info;
mod inspect;
mod iso_only;
mod manual;
mod matrix;
mod named;
mod os_release;
mod output;
mod overwrite;
mod plan;
mod providers;
mod publish;
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
    report::{OutputMode, Reporter, columns, folded, harmless},
    settings::Environment,
};

/// Runs the program.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    keep_private();
    let environment = Environment::of_process();
    let args: Result<Vec<String>, OsString> =
        args.into_iter().skip(1).map(OsString::into_string).collect();
    let code = match args {
        Ok(args) => dispatch(args, &environment),
        Err(arg) => {
            let error = Error::usage(format!("argument {arg:?} is not valid UTF-8"));
            report_error(&error, &environment)
        }
    };
    let code = printed(code, &environment);
    expect_end();
    ExitCode::from(code)
}

/// Sets a umask without group and other write permission and disables core dumps, which would contain every secret.
/// Child processes inherit both.
fn keep_private() {
    use rustix::{
        fs::Mode,
        process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    };
    let others = Mode::WGRP | Mode::WOTH;
    umask(umask(others) | others);
    let maximum = getrlimit(Resource::Core).maximum;
    // A process may always lower its own limit.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

/// Verbs other than the build, which has no verb.
const VERBS: [(&str, &str); 16] = [
    ("plan", "print what a build would do, without doing it"),
    ("publish", "upload and register the image of a bundle"),
    ("upload", "upload an image, to register it later"),
    ("register", "register an image from an uploaded object"),
    ("resume", "resume a build that was killed or kept"),
    ("matrix", "expand a file that describes many builds, or run them"),
    ("runs", "list builds that left something"),
    ("gc", "remove what killed builds left, here and in the cloud"),
    ("images", "list and change the images in an account"),
    ("inspect", "read what is inside a disk image"),
    ("boot", "boot a disk image in qemu without writing it"),
    ("providers", "install, list, check, and scaffold provider plugins"),
    ("doctor", "check this host"),
    ("completions", "generate shell completions"),
    ("man", "write the manual pages"),
    ("help", "explain a command, or settings"),
];

/// The verbs by topic, as the short help lists them.
const TOPICS: [(&str, &[&str]); 5] = [
    ("look", &["plan", "inspect", "boot", "doctor"]),
    ("in parts", &["publish", "upload", "register", "matrix"]),
    ("recover", &["resume", "runs", "gc"]),
    ("manage", &["images", "providers"]),
    ("help", &["help [COMMAND]", "help settings [KEY]", "completions", "man"]),
];

fn dispatch(args: Vec<String>, environment: &Environment) -> u8 {
    let result = match args.split_first() {
        Some((verb, rest)) if verb == CHILD_VERB => return run_child(rest),
        Some((verb, rest)) if verb == complete::VERB => {
            complete::run(rest, environment);
            return exit::DONE;
        }
        Some((verb, rest)) if verb == "plan" => plan::run(rest, environment),
        Some((verb, rest)) if verb == "publish" => return publish::run(rest, environment),
        Some((verb, rest)) if verb == "upload" => return halves::upload(rest, environment),
        Some((verb, rest)) if verb == "register" => return halves::register(rest, environment),
        Some((verb, rest)) if verb == "resume" => return runs::resume(rest, environment),
        Some((verb, rest)) if verb == "matrix" => {
            return matrix::run(rest, environment)
                .unwrap_or_else(|error| report_error(&error, environment));
        }
        Some((verb, rest)) if verb == "runs" => runs::list(rest, environment),
        Some((verb, rest)) if verb == "gc" => runs::gc(rest, environment),
        Some((verb, rest)) if verb == "images" => images::run(rest, environment),
        Some((verb, rest)) if verb == "inspect" => inspect::run(rest, environment),
        Some((verb, rest)) if verb == "boot" => boot::run(rest, environment),
        Some((verb, rest)) if verb == "providers" => providers::run(rest, environment),
        Some((verb, rest)) if verb == "doctor" => {
            return doctor::run(rest, environment)
                .unwrap_or_else(|error| report_error(&error, environment));
        }
        Some((verb, rest)) if verb == "completions" => shell::completions(rest, environment),
        Some((verb, rest)) if verb == "man" => shell::man(rest, environment),
        Some((verb, rest)) if verb == "help" => match help::target(rest) {
            Some(args) => return dispatch(args, environment),
            None => help::run(rest, environment),
        },
        Some((arg, rest)) if !arg.starts_with('-') => Err(unknown::verb(arg, rest)),
        _ => return build::run(args, environment, None),
    };
    match result {
        Ok(()) => exit::DONE,
        Err(error) => report_error(&error, environment),
    }
}

/// Reports why a verb failed; returns the exit code.
fn report_error(error: &Error, environment: &Environment) -> u8 {
    let code = error.exit_code();
    Reporter::new(OutputMode::of_stderr(environment)).error(error, code);
    code
}

/// Writes text to standard output that journals, plugins or servers may have contributed to: terminal control
/// sequences in it are made harmless.
fn print(text: &str) {
    print_as_is(&harmless(text));
}

/// Writes lines to standard output, broken at the width of a terminal.
fn print_folded(text: &str) {
    print(&folded(text, columns(std::io::stdout())));
}

/// Writes to standard output, byte for byte. A closed pipe is ignored; after any other failure the process does not
/// exit with success.
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

/// The first error of writing to standard output, if any.
static UNWRITTEN: OnceLock<std::io::Error> = OnceLock::new();

/// Returns the exit code of the process after all output: a success whose output could not be printed becomes an
/// error.
fn printed(code: u8, environment: &Environment) -> u8 {
    let Some(cause) = UNWRITTEN.get().filter(|_| code == exit::DONE) else { return code };
    let error = Error::new(Stage::Result, "cannot write to standard output")
        .caused_by(cause)
        .hint("look at the space where it goes; the log and `build-image runs` tell what was done");
    report_error(&error, environment)
}

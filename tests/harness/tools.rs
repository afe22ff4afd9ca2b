//! Runs other tools that judge the results.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs a tool in a directory and returns what it printed.
#[track_caller]
pub(crate) fn tool(directory: &Path, args: &[&str]) -> String {
    let output = Command::new(args[0]).args(&args[1..]).current_dir(directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}{complaint}");
    text
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same command with a limit in the syntax of prlimit.
pub(crate) fn limited(command: &Command, limit: &str) -> Command {
    let mut outer = Command::new("prlimit");
    outer.arg(limit).arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

/// Runs a command at a terminal where `typed` is typed; what it prints on both streams is its output.
#[track_caller]
pub(crate) fn at_terminal(command: &Command, typed: &str) -> Output {
    let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    let line = words.collect::<Vec<String>>().join(" ");
    let mut outer = Command::new("script");
    outer.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    outer.current_dir(command.get_current_dir().unwrap()).env_clear().env("SHELL", "/bin/sh");
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = outer.spawn().unwrap();
    running.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

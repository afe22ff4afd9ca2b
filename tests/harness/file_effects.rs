//! Kills a program when it changes names or lengths of files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use super::{needs, root, target_directory, tool};

/// Exit code of the follower: it killed the program.
const KILLED: i32 = 99;

/// The program that follows the system calls of another one, compiled once; `None`, with a printed note, where
/// programs may not be followed.
fn follower() -> Option<&'static Path> {
    static FOLLOWER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = FOLLOWER.get_or_init(|| {
        if !needs(&["cc"]) {
            return None;
        }
        let directory = target_directory().join("file-effects");
        fs::create_dir_all(&directory).unwrap();
        let source = root().join("tests/harness/file_effects.c");
        // Other test processes compile it too.
        let (built, mine) =
            (directory.join("follower"), format!("follower.{}", std::process::id()));
        tool(&directory, &["cc", "-O1", "-Wall", "-o", &mine, source.to_str().unwrap()]);
        fs::rename(directory.join(mine), &built).unwrap();
        let tried = Command::new(&built).args(["/", "count", "0", "/dev/null", "true"]).status();
        if tried.unwrap().success() {
            return Some(built);
        }
        eprintln!(
            "SKIPPED: programs cannot be followed here (ptrace), so none is killed at file effects"
        );
        None
    });
    made.as_deref()
}

/// Whether programs can be followed here.
pub(crate) fn can_follow() -> bool {
    follower().is_some()
}

/// Runs a command, which is killed `before` or `after` the effect of this number below a directory; with `count`
/// it runs to its end. Returns whether it was killed, and the effects that it had.
pub(crate) fn killed_at_effect(
    command: &Command,
    directory: &Path,
    (when, number): (&str, u64),
    log: &Path,
) -> (bool, Vec<String>) {
    let (output, effects) = struck_at_effect(command, directory, (when, number), log);
    (output.status.code() == Some(KILLED), effects)
}

/// Runs a command as [`killed_at_effect`] does, also with `write-count`, `write-kill` and `write-int`
/// (file_effects.c). Returns its output with its exit status, and the effects that it had.
pub(crate) fn struck_at_effect(
    command: &Command,
    directory: &Path,
    (when, number): (&str, u64),
    log: &Path,
) -> (Output, Vec<String>) {
    let mut outer = Command::new(follower().unwrap());
    outer.arg(directory).args([when, &number.to_string()]).arg(log);
    outer.arg(command.get_program()).args(command.get_args());
    outer.current_dir(command.get_current_dir().unwrap()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = outer.stdin(Stdio::null()).output().unwrap();
    let effects = fs::read_to_string(log).unwrap();
    (output, effects.lines().map(str::to_owned).collect())
}

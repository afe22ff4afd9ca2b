//! Runs the builds of a matrix on this host, each in its own process: a crash of one does not touch the others.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};

use super::{Checked, Layers, Matrix};
use crate::{
    error::{Error, Result, Stage},
    exit,
    interrupt::{self, Interrupt},
    once::Progress,
    plugins::expect_end,
    report::{harmless, print_line},
    settings::keys,
};

/// How long a thread waits for a signal at a time.
const LONG: Duration = Duration::from_secs(3600);

/// The processes that are at work, by the number of their build.
type AtWork = Mutex<BTreeMap<usize, Pid>>;

/// Everything that the workers share.
struct Runner {
    program: PathBuf,
    directory: PathBuf,
    /// Id and arguments of each build.
    builds: Vec<(String, Vec<String>)>,
    queue: Mutex<VecDeque<usize>>,
    codes: Mutex<Vec<Option<u8>>>,
    at_work: Arc<AtWork>,
    interrupt: Arc<Interrupt>,
}

/// Runs the builds, so many at once, and prints what became of each; returns the exit code.
///
/// # Errors
/// When no process can be started, or signals cannot be handled.
pub(super) fn run(
    matrix: &Matrix,
    mut checked: Vec<Checked>,
    jobs: usize,
    layers: &Layers,
    as_json: bool,
) -> Result<u8> {
    let program = std::env::current_exe().map_err(|error| {
        Error::new(Stage::Bug, "this program does not find its own file").caused_by(&error)
    })?;
    let at_work = Arc::new(AtWork::default());
    let interrupt = Arc::new(Interrupt::default());
    let others = Arc::clone(&at_work);
    interrupt::listen(Arc::clone(&interrupt), move || leave(&others))?;
    forward(Arc::clone(&interrupt), Arc::clone(&at_work));
    let runner = Runner {
        program,
        directory: matrix.directory(),
        builds: checked.iter().map(|one| args_of(matrix, one)).collect(),
        queue: Mutex::new((0..checked.len()).collect()),
        codes: Mutex::new(vec![None; checked.len()]),
        at_work,
        interrupt,
    };
    thread::scope(|scope| {
        for _ in 0..jobs.min(checked.len()) {
            scope.spawn(|| runner.work());
        }
    });
    let codes = runner.codes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for one in &mut checked {
        one.look(&layers.environment)?;
    }
    show(matrix, &checked, &codes, as_json);
    Ok(if runner.interrupt.is_set() { exit::INTERRUPTED } else { exit_code(&codes) })
}

/// Returns id and arguments of a build. Progress is printed in lines unless its settings say otherwise.
fn args_of(matrix: &Matrix, one: &Checked) -> (String, Vec<String>) {
    let mut args = one.build.args(matrix);
    let shows = [keys::PROGRESS.name(), keys::QUIET.name()];
    if !one.build.settings.iter().any(|given| shows.contains(&given.key.as_str())) {
        args.push("--progress=plain".to_owned());
    }
    (one.build.id.clone(), args)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes the first signal on to all processes: each removes what it created.
fn forward(interrupt: Arc<Interrupt>, at_work: Arc<AtWork>) {
    // The thread ends with the process.
    thread::spawn(move || {
        while !interrupt.wait(LONG) {}
        interrupt_all(&at_work);
    });
}

fn interrupt_all(at_work: &AtWork) {
    // A process that has ended is not reaped before it is removed from the map.
    for pid in lock(at_work).values() {
        let _ = kill_process(*pid, Signal::INT);
    }
}

/// Handles the second signal: the processes leave at once, and each prints what it leaves behind.
#[expect(clippy::disallowed_methods, reason = "the user interrupted twice: nothing is awaited")]
fn leave(at_work: &AtWork) {
    print_line("interrupted twice, leaving at once; build-image runs lists what is left");
    interrupt_all(at_work);
    expect_end();
    std::process::exit(i32::from(exit::INTERRUPTED));
}

impl Runner {
    /// Runs builds until none is left.
    fn work(&self) {
        loop {
            // In its own statement: the lock is not held while a build runs.
            let next = lock(&self.queue).pop_front();
            let Some(at) = next.filter(|_| !self.interrupt.is_set()) else { return };
            let code = self.build(at);
            lock(&self.codes)[at] = code;
        }
    }

    /// Runs a build; returns its exit code, or `None` when it was not started.
    fn build(&self, at: usize) -> Option<u8> {
        let (id, args) = &self.builds[at];
        let mut child = match self.start(at, args)? {
            Ok(child) => child,
            Err(error) => {
                print_line(&format!("{id}: cannot start `{}`: {error}", self.program.display()));
                return Some(exit::BUG);
            }
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| prefixed(id, out));
            prefixed(id, err);
        });
        if let Some(pid) = pid_of(&child) {
            // Waits without reaping: no other process can get its number before it is removed from the map.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        }
        lock(&self.at_work).remove(&at);
        let code = child.wait().ok().and_then(|status| status.code());
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::BUG);
        print_line(&match code {
            exit::DONE => format!("{id}: done"),
            code => format!("{id}: exit code {code}"),
        });
        Some(code)
    }

    /// Starts a build in its own process group: signals of the terminal reach it through this process only. `None` when
    /// builds are to end.
    #[expect(clippy::disallowed_methods, reason = "it is this program, with its whole environment")]
    fn start(&self, at: usize, args: &[String]) -> Option<std::io::Result<Child>> {
        let mut at_work = lock(&self.at_work);
        // Under the lock: a process that is started later than the signal would not receive it.
        if self.interrupt.is_set() {
            return None;
        }
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        if let Some(pid) = child.as_ref().ok().and_then(pid_of) {
            at_work.insert(at, pid);
        }
        Some(child)
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Prints the lines of a build with its id before each.
fn prefixed(id: &str, output: Option<impl Read>) {
    let Some(output) = output else { return };
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        print_line(&format!("{id}: {}", harmless(text.trim_end())));
        line.clear();
    }
}

/// Returns the exit code for all builds.
fn exit_code(codes: &[Option<u8>]) -> u8 {
    let failed = codes.iter().flatten().find(|code| **code != exit::DONE);
    match failed {
        None => exit::DONE,
        Some(_) if codes.contains(&Some(exit::DONE)) => exit::PARTIAL,
        Some(code) => *code,
    }
}

/// Prints what became of each build.
fn show(matrix: &Matrix, checked: &[Checked], codes: &[Option<u8>], as_json: bool) {
    if !as_json {
        let lines = checked.iter().zip(codes).map(|(one, code)| match (&one.progress, code) {
            (Progress::Done(_), Some(exit::DONE)) | (_, None) => super::line(one),
            (_, Some(code)) => format!("{:<60} failed     exit code {code}\n", one.build.id),
        });
        crate::cli::print(&lines.collect::<String>());
        return;
    }
    let mut document = super::document(matrix, checked);
    for (at, code) in codes.iter().enumerate() {
        document["builds"][at]["exit_code"] = code.map_or(Value::Null, |code| json!(code));
    }
    crate::cli::print(&format!("{document:#}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_all_some_or_none_are_done() {
        for (codes, expected) in [
            (vec![Some(0), Some(0)], exit::DONE),
            (vec![Some(0), Some(6)], exit::PARTIAL),
            (vec![Some(6), Some(0), Some(2)], exit::PARTIAL),
            (vec![Some(6), Some(2)], 6),
            (vec![Some(2), None], 2),
        ] {
            assert_eq!(exit_code(&codes), expected, "{codes:?}");
        }
    }
}

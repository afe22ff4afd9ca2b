//! Starts programs; no other module does. A child process has no input, its own process group, and a small
//! environment, and it ends together with this process where `setpriv` can arrange it (see `Call::spawn`).
//! This module has no knowledge of specific programs.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::error::{Error, Kind};

/// Maximum time for a killed child to end before it is abandoned.
pub(crate) const REAP_LIMIT: Duration = Duration::from_secs(2);
/// Maximum number of bytes that [`Call::capture`] keeps of each stream.
const CAPTURE_LIMIT: usize = 1 << 20;

/// Arguments of `setpriv`, with which the kernel kills the program when its parent ends.
const DIE_WITH_PARENT: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// The part of the caller's environment that child processes get.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    kept: Vec<(OsString, OsString)>,
}

impl Environment {
    /// The variables that a child may get.
    pub const NAMES: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

    /// Keeps the known variables of `vars`, normally `std::env::vars_os()`.
    pub fn keep(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let is_allowed =
            |name: &OsString| Self::NAMES.iter().any(|allowed| OsStr::new(allowed) == name);
        Self::exactly(vars.into_iter().filter(|(name, _)| is_allowed(name)))
    }

    /// Uses exactly these variables, for a child that needs more than the known ones. Entries of PATH that
    /// depend on the working directory are removed: otherwise a user who can write to that directory could
    /// choose the programs.
    pub fn exactly(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let sanitize = |(name, value): (OsString, OsString)| {
            if name != "PATH" {
                return Some((name, value));
            }
            let absolute =
                std::env::split_paths(&value).filter(|directory| directory.is_absolute());
            let value = std::env::join_paths(absolute).unwrap_or_default();
            // Some programs interpret an empty entry as the working directory.
            (!value.is_empty()).then_some((name, value))
        };
        Self { kept: vars.into_iter().filter_map(sanitize).collect() }
    }

    /// Returns the first executable file called `name` in the absolute directories of PATH.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.kept.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value)?;
        std::env::split_paths(path)
            .map(|directory| directory.join(name))
            .find(|file| is_program(file))
    }
}

/// Returns whether `file` is a regular file that may be executed.
pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Call {
    /// The program as a path; it is not looked up in PATH.
    pub program: PathBuf,
    /// The arguments, without the program itself.
    pub args: Vec<OsString>,
    /// The environment of the program.
    pub environment: Environment,
}

/// An event of a child process. Its output arrives in pieces as it was written.
#[derive(Debug)]
pub(crate) enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// One of the two streams was closed.
    End,
    /// The child has ended; its last output may still follow.
    Exited,
}

/// The result of a short program.
#[derive(Debug)]
pub struct Captured {
    /// The exit status.
    pub status: ExitStatus,
    /// The first MiB of its standard output.
    pub stdout: Vec<u8>,
    /// The first MiB of its standard error.
    pub stderr: Vec<u8>,
}

impl Call {
    /// Starts the program.
    ///
    /// If `setpriv` (util-linux) is on PATH, the kernel kills the child when the calling *thread* ends;
    /// otherwise a child may survive when this process is killed by SIGKILL.
    pub(crate) fn spawn(&self) -> Result<Running, Error> {
        if !is_program(&self.program) {
            return Err(Error::new(Kind::Tool, "there is no program").at(&self.program));
        }
        let mut command = self.command_with_environment();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start_error = |source: io::Error| {
            Error::new(Kind::Tool, "cannot start").at(&self.program).caused_by(source)
        };
        let mut child = command.spawn().map_err(start_error)?;
        let (sender, events) = sync_channel(64);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let pid = pid_of(&child);
        let running =
            Running { child, events, exited: false, ends: 0, program: self.program.clone() };
        let out = sender.clone();
        thread::spawn(move || forward(stdout, &out, Event::Stdout));
        let err = sender.clone();
        thread::spawn(move || forward(stderr, &err, Event::Stderr));
        thread::spawn(move || announce_exit(pid, &sender));
        Ok(running)
    }

    /// Runs the program in the foreground until it ends: Ctrl-C reaches it, and both its streams are our
    /// standard error, so that our standard output is not mixed with its output.
    pub fn in_front(&self) -> Result<ExitStatus, Error> {
        let start_error = |source: io::Error| {
            Error::new(Kind::Tool, "cannot start").at(&self.program).caused_by(source)
        };
        let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        let mut command = new_command(&self.program);
        command.args(&self.args).env_clear().envs(self.environment.kept.iter().cloned());
        command.stdin(Stdio::null()).stdout(stderr().map_err(start_error)?);
        command.status().map_err(start_error)
    }

    /// Returns the program in its own process group, with only its own environment.
    pub(crate) fn command_with_environment(&self) -> Command {
        let mut command = self.command();
        command
            .env_clear()
            .envs(self.environment.kept.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        command
    }

    fn command(&self) -> Command {
        // Reduced versions of setpriv (busybox) lack the option, so it is tested with a harmless program.
        let wrapper = self.environment.find("setpriv").filter(|setpriv| {
            let mut trial = new_command(setpriv);
            trial.args(DIE_WITH_PARENT).arg("true").env_clear();
            trial.envs(self.environment.kept.iter().filter(|(name, _)| name == "PATH").cloned());
            trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            trial.status().is_ok_and(|status| status.success())
        });
        let mut command = if let Some(setpriv) = wrapper {
            let mut command = new_command(&setpriv);
            command.args(DIE_WITH_PARENT).arg(&self.program);
            command
        } else {
            new_command(&self.program)
        };
        command.args(&self.args);
        command
    }

    /// Runs the program until it ends, at most for `limit`.
    pub fn capture(&self, limit: Duration) -> Result<Captured, Error> {
        let deadline = Instant::now() + limit;
        let mut running = self.spawn()?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while !running.is_over() {
            match running.next(deadline.saturating_duration_since(Instant::now())) {
                Some(Event::Stdout(piece)) => keep_head(&mut stdout, &piece),
                Some(Event::Stderr(piece)) => keep_head(&mut stderr, &piece),
                Some(Event::End | Event::Exited) => {}
                None => {
                    let message = format!("gave no answer within {} s:", limit.as_secs());
                    return Err(Error::new(Kind::Timeout, message).at(&self.program));
                }
            }
        }
        Ok(Captured { status: running.status()?, stdout, stderr })
    }
}

#[expect(clippy::disallowed_methods, reason = "all programs are started here")]
fn new_command(program: &Path) -> Command {
    Command::new(program)
}

fn keep_head(kept: &mut Vec<u8>, piece: &[u8]) {
    let room = CAPTURE_LIMIT.saturating_sub(kept.len());
    kept.extend_from_slice(&piece[..piece.len().min(room)]);
}

pub(crate) fn pid_of(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("process ids are positive 32-bit numbers");
    Pid::from_raw(raw).expect("a child's process id is not 0")
}

fn forward(mut stream: impl Read, events: &SyncSender<Event>, wrap: fn(Vec<u8>) -> Event) {
    let mut buf = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => {
                if events.send(wrap(buf[..len].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // If the receiver was dropped, the event is not needed.
    let _ = events.send(Event::End);
}

fn announce_exit(pid: Pid, events: &SyncSender<Event>) {
    wait_for_exit(pid);
    let _ = events.send(Event::Exited);
}

/// Waits without collecting the child, so that its id is not reused before its owner has finished with it.
pub(crate) fn wait_for_exit(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
}

/// A started program. Dropping it kills its whole process group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    events: Receiver<Event>,
    exited: bool,
    ends: u8,
    program: PathBuf,
}

impl Running {
    /// Returns the next event, or `None` when none arrives within `limit`.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<Event> {
        match self.events.recv_timeout(limit) {
            Ok(event) => {
                match event {
                    Event::Exited => self.exited = true,
                    Event::End => self.ends += 1,
                    Event::Stdout(_) | Event::Stderr(_) => {}
                }
                Some(event)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Returns whether the child has ended and all its output has been delivered.
    pub(crate) fn is_over(&self) -> bool {
        self.exited && self.ends == 2
    }

    /// Returns whether the child has ended.
    pub(crate) fn has_exited(&self) -> bool {
        self.exited
    }

    /// Kills the child and every process that it started; does not wait.
    pub(crate) fn kill(&self) {
        // An error means that no process of the group is left.
        let _ = rustix::process::kill_process_group(pid_of(&self.child), Signal::KILL);
    }

    /// Returns the exit status. Only valid after [`Self::has_exited`].
    pub(crate) fn status(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(|source| Error::io("cannot wait for", &self.program, source))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let deadline = Instant::now() + REAP_LIMIT;
        while !self.exited {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.next(left).is_none() {
                // A process that hangs in the kernel ends later because of the pending kill; waiting longer
                // does not help.
                return;
            }
        }
        let _ = self.child.wait();
    }
}

/// Formats `program` and `args` as one line for logs; arguments with blanks are quoted.
pub fn command_line(program: &Path, args: &[OsString]) -> String {
    let quote = |arg: &OsStr| {
        let text = String::from_utf8_lossy(arg.as_bytes()).into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    let argv = std::iter::once(program.as_os_str()).chain(args.iter().map(OsString::as_os_str));
    argv.map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shell(script: &str) -> Call {
        Call {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: Environment::keep(std::env::vars_os()),
        }
    }

    #[test]
    fn output_and_status_are_captured() {
        let got = shell("echo out; echo err >&2; exit 7").capture(Duration::from_secs(20)).unwrap();
        assert_eq!((got.stdout.as_slice(), got.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(got.status.code(), Some(7));
    }

    #[test]
    fn a_child_sees_only_the_known_variables_and_no_input() {
        let mut call = shell("env | cut -d= -f1 | sort | tr '\\n' ' '; cat");
        let vars = [("PATH", "/usr/bin:/bin"), ("HOME", "/h"), ("SECRET", "s"), ("LANG", "C")];
        call.environment = Environment::keep(vars.map(|(k, v)| (k.into(), v.into())));
        let text =
            String::from_utf8(call.capture(Duration::from_secs(20)).unwrap().stdout).unwrap();
        assert!(text.contains("HOME") && text.contains("PATH"), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
    }

    #[test]
    fn setpriv_is_tried_with_nothing_of_the_environment_but_path() {
        let directory = tempfile::tempdir().unwrap();
        let seen = directory.path().join("seen");
        let setpriv = directory.path().join("setpriv");
        let script = format!(
            "#!/bin/sh\nif [ \"$4\" = true ]; then /usr/bin/env >'{}'; fi\nshift 3\nexec \"$@\"\n",
            seen.display()
        );
        std::fs::write(&setpriv, script).unwrap();
        std::fs::set_permissions(&setpriv, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let mut call = shell("echo $SECRET");
        let vars = [("PATH", path.as_str()), ("SECRET", "wanted by the program")];
        call.environment = Environment::exactly(vars.map(|(k, v)| (k.into(), v.into())));
        let got = call.capture(Duration::from_secs(20)).unwrap();
        assert_eq!(got.stdout, b"wanted by the program\n");
        let seen = std::fs::read_to_string(seen).expect("setpriv was not tried");
        let names = seen.lines().filter_map(|line| Some(line.split_once('=')?.0));
        // The shell sets the others.
        let foreign: Vec<&str> =
            names.filter(|name| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }

    #[test]
    fn programs_are_searched_in_absolute_directories_only() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("found");
        std::fs::copy("/bin/sh", &program).unwrap();
        let here = std::env::current_dir().unwrap();
        let up = here.components().skip(1).map(|_| "..").collect::<PathBuf>();
        let relative = up.join(directory.path().strip_prefix("/").unwrap());
        assert!(relative.join("found").is_file(), "the test's own path is wrong");
        let of = |path: &str| Environment::keep([("PATH".into(), path.into())]);
        let (relative, absolute) = (relative.display(), directory.path().display());
        for path in [format!("{relative}"), format!(":{relative}:."), String::new(), ".".into()] {
            let environment = of(&path);
            assert_eq!(environment.find("found"), None, "{path}");
            assert!(environment.kept.is_empty(), "{:?}", environment.kept);
        }
        let environment = of(&format!(":{relative}:.:{absolute}"));
        assert_eq!(environment.find("found"), Some(program));
        assert_eq!(environment.kept, [("PATH".into(), directory.path().as_os_str().to_owned())]);
    }

    #[test]
    fn a_silent_child_and_its_children_are_killed() {
        let started_at = Instant::now();
        let error = shell("sleep 600 & sleep 600").capture(Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(started_at.elapsed() < Duration::from_secs(120));
    }

    #[test]
    fn a_missing_program_is_a_tool_error() {
        let mut call = shell("");
        call.program = "/nowhere/qemu".into();
        assert_eq!(call.capture(Duration::from_secs(1)).unwrap_err().kind(), Kind::Tool);
    }

    #[test]
    fn arguments_with_blanks_are_quoted_in_logs() {
        let args = ["-append", "a b", "it's"].map(OsString::from);
        let line = command_line(Path::new("/bin/q"), &args);
        assert_eq!(line, r"/bin/q -append 'a b' 'it'\''s'");
    }
}

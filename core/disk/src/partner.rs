//! Runs a program whose standard input and output belong to the caller, for a dialogue by lines or otherwise.
//! The program has its own process group and a small environment; see [`crate::process`] for how programs are
//! started.

use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::error::{Error, Kind};
use crate::process::{Call, REAP_LIMIT, is_program, pid_of, wait_for_exit};

/// A started program. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Partner {
    state: Mutex<State>,
    pid: Pid,
    exited: Mutex<Receiver<()>>,
    program: PathBuf,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// The exit status, once the process was collected.
    status: Option<ExitStatus>,
}

/// The caller's ends of the program's streams.
#[derive(Debug)]
pub struct Streams {
    /// The standard input of the program.
    pub stdin: ChildStdin,
    /// The standard output of the program.
    pub stdout: ChildStdout,
    /// The standard error of the program.
    pub stderr: ChildStderr,
}

impl Call {
    /// Starts the program as a partner. The kernel kills it when the calling *thread* ends, if `setpriv` is
    /// on PATH. Otherwise the program only gets the end of its input when this process ends.
    pub fn partner(&self) -> Result<(Partner, Streams), Error> {
        if !is_program(&self.program) {
            return Err(Error::new(Kind::Tool, "this is no program").at(&self.program));
        }
        let start_error = |source: io::Error| {
            Error::new(Kind::Tool, "cannot start").at(&self.program).caused_by(source)
        };
        let mut command = self.command_with_environment();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start_error)?;
        let streams = Streams {
            stdin: child.stdin.take().expect("stdin is piped"),
            stdout: child.stdout.take().expect("stdout is piped"),
            stderr: child.stderr.take().expect("stderr is piped"),
        };
        let pid = pid_of(&child);
        let (sender, exited) = sync_channel(1);
        let watcher = thread::Builder::new().name("partner-exit".to_owned()).spawn(move || {
            wait_for_exit(pid);
            let _ = sender.send(());
        });
        let partner = Partner {
            state: Mutex::new(State { child, status: None }),
            pid,
            exited: Mutex::new(exited),
            program: self.program.clone(),
        };
        watcher.map_err(start_error)?;
        Ok((partner, streams))
    }
}

impl Partner {
    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits at most `limit` for the program to end, and returns its exit status. Processes that it started
    /// and left in its process group are killed.
    pub fn wait(&self, limit: Duration) -> Result<Option<ExitStatus>, Error> {
        if let Some(status) = self.state.lock().unwrap_or_else(PoisonError::into_inner).status {
            return Ok(Some(status));
        }
        let exited = self.exited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = exited.recv_timeout(limit) {
            return Ok(None);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.status.is_none() {
            // The number of the process, and therefore of the group, is not reused before the process is
            // collected.
            self.kill_group();
            let status = state.child.wait();
            state.status =
                Some(status.map_err(|source| Error::io("cannot wait for", &self.program, source))?);
        }
        Ok(state.status)
    }

    /// Kills the program and every process that it started; does not wait.
    pub fn kill(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.status.is_none() {
            self.kill_group();
        }
    }

    fn kill_group(&self) {
        // An error means that no process of the group is left.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.kill();
        // A process that hangs in the kernel ends later because of the pending kill; waiting longer does not
        // help.
        let _ = self.wait(REAP_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::time::Instant;

    use super::*;
    use crate::process::Environment;

    fn shell(script: &str) -> (Partner, Streams) {
        let call = Call {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: Environment::keep(std::env::vars_os()),
        };
        call.partner().unwrap()
    }

    #[test]
    fn a_partner_answers_and_ends_with_its_input() {
        let (partner, mut streams) = shell("while read line; do echo \"<$line>\"; done; exit 3");
        let mut answers = BufReader::new(streams.stdout);
        for word in ["one", "two"] {
            writeln!(streams.stdin, "{word}").unwrap();
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            assert_eq!(line, format!("<{word}>\n"));
        }
        assert_eq!(partner.wait(Duration::ZERO).unwrap(), None);
        drop(streams.stdin);
        let status = partner.wait(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(partner.wait(Duration::ZERO).unwrap(), Some(status), "it is told again");
    }

    #[test]
    fn a_dropped_partner_and_its_children_are_killed() {
        let (partner, streams) = shell("sleep 600 & echo $!; exec sleep 600");
        let mut line = String::new();
        BufReader::new(streams.stdout).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        drop(partner);
        // A killed process is a zombie until its parent collects it.
        let stat = format!("/proc/{}/stat", grandchild.as_raw_nonzero());
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let started_at = Instant::now();
        while lives() {
            assert!(started_at.elapsed() < Duration::from_secs(60), "the grandchild lives");
            thread::yield_now();
        }
    }
}

//! Runs the emulator as a separate program, so that its memory can be distinguished from the clients'.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Failure;

/// The path of the emulator's program: the given one, or the one built beside this program.
pub(crate) fn binary(named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.clone());
    }
    let own = std::env::current_exe()?;
    let directory = own.parent().and_then(Path::parent).ok_or("this program lies nowhere")?;
    Ok(directory.join("build-image-emulator-alibaba"))
}

#[expect(clippy::disallowed_methods, reason = "all processes of this program are started here")]
fn command(binary: &Path) -> Command {
    Command::new(binary)
}

/// A running emulator; killed when dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    child: Child,
    pub(crate) address: SocketAddr,
    state: PathBuf,
}

impl Emulator {
    /// Starts it on a state directory.
    pub(crate) fn start(binary: &Path, state: &Path, more: &[&str]) -> Result<Self, Failure> {
        fs::create_dir_all(state)?;
        let mut child = command(binary)
            .args(["serve", "--bucket", "demo", "--state"])
            .arg(state)
            .arg("--log-requests")
            .arg(state.join("requests"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(File::create(state.join("complaints"))?)
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", binary.display()))?;
        let output = child.stdout.take().ok_or("the emulator has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or("no address")?;
        Ok(Self { address: address.parse()?, child, state: state.to_path_buf() })
    }

    /// Maximum memory usage so far (VmHWM), in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib << 10)
    }

    /// Its status document.
    pub(crate) fn status(&self) -> Result<Value, Failure> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(
            b"GET /_emulator/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").ok_or("no answer")?.1;
        Ok(serde_json::from_str(body)?)
    }

    /// Its output to standard error.
    pub(crate) fn complaints(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.state.join("complaints"))?)
    }

    /// Shuts it down; returns the number of requests in its log.
    pub(crate) fn end(mut self) -> Result<usize, Failure> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the emulator ended with {status}").into());
        }
        let log = BufReader::new(File::open(self.state.join("requests"))?);
        let mut count = 0;
        for line in log.lines() {
            count += usize::from(!line?.contains("\"service\":\"emulator\""));
        }
        Ok(count)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

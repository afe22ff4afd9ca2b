//! Finds the qemu program, its version, and whether it can confine itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Machine, VerdictFile};
use crate::error::{Error, Kind};
use crate::process::{Call, Environment, command_line, is_program};

const NAME: &str = "qemu-system-x86_64";
const INSTALL: &str = "install it: `apt-get install qemu-system-x86 qemu-utils` on Debian and Ubuntu, \
    `dnf install qemu-system-x86` on Fedora";
/// Time limit for a program that only prints information about itself; sufficient even on a loaded machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A qemu for x86-64 guests.
#[derive(Clone, Debug)]
pub struct Qemu {
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
    /// The file in which verdicts about kvm are remembered.
    pub(super) verdicts: Option<VerdictFile>,
    version: String,
    sandbox: bool,
}

impl Qemu {
    /// Uses `given` or searches PATH, and asks the program for its version.
    pub fn find(given: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let missing = |message: String| Error::new(Kind::Tool, message).with_hint(INSTALL);
        let path = match given {
            Some(path) if is_program(path) => path.to_owned(),
            Some(path) => return Err(missing(format!("`{}` is not a program", path.display()))),
            None => {
                environment.find(NAME).ok_or_else(|| missing(format!("`{NAME}` is not on PATH")))?
            }
        };
        let run = |args: &[&str]| {
            let args = args.iter().map(Into::into).collect();
            Call { program: path.clone(), args, environment: environment.clone() }
                .capture(ANSWER_TIMEOUT)
        };
        let answer = run(&["-version"])?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let first = text.lines().next().unwrap_or_default();
        let Some(version) = first.split("version ").nth(1).filter(|_| answer.status.success())
        else {
            let message = format!("`{}` does not answer like qemu", path.display());
            return Err(
                missing(message).with_detail("output", String::from_utf8_lossy(&answer.stderr))
            );
        };
        // The option is always listed; only using it shows whether this build supports it.
        let sandbox = run(&["-sandbox", "on", "-machine", "help"])?.status.success();
        Ok(Self {
            version: version.to_owned(),
            environment: environment.clone(),
            verdicts: None,
            sandbox,
            path,
        })
    }

    /// Remembers verdicts about kvm in this file.
    #[must_use]
    pub fn with_verdicts(self, verdicts: VerdictFile) -> Self {
        Self { verdicts: Some(verdicts), ..self }
    }

    /// Removes the remembered verdict about kvm, so that the next decision probes kvm again.
    pub fn forget_verdict(&self) {
        if let Some(verdicts) = &self.verdicts {
            verdicts.forget();
        }
    }

    /// Returns the path of the program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the version as the program prints it, such as `7.2.22 (Debian …)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns whether qemu can confine itself with seccomp; used whenever it is possible.
    pub fn has_sandbox(&self) -> bool {
        self.sandbox
    }

    /// Returns the command that starts a machine, as one line for people.
    pub fn command_line(&self, machine: &Machine) -> String {
        command_line(&self.path, &machine.argv(self.sandbox))
    }

    pub(super) fn call(&self, machine: &Machine) -> Call {
        self.call_with(machine.argv(self.sandbox))
    }

    pub(super) fn call_with(&self, args: Vec<OsString>) -> Call {
        Call { program: self.path.clone(), args, environment: self.environment.clone() }
    }
}

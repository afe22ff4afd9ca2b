//! Runs `doctor --install`: installs missing packages with the system's package manager. Prints the command, and runs
//! it when the user agrees.

use std::ffi::OsString;

use build_image_disk::process::{Call, Environment as ChildEnvironment};

use super::{
    checks::{Host, PROXIES},
    packages::{self, Rights},
};
use crate::{
    cli::{
        consent::{Answer, ask},
        os_release::OsRelease,
    },
    error::{Error, Result, Stage},
    settings::Environment,
};

/// Variables that a package manager may see, in addition to the proxies: none of them may be a secret of a cloud.
const VISIBLE: [&str; 4] = ["PATH", "HOME", "NO_PROXY", "no_proxy"];

/// The outcome of the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No package is missing.
    NothingMissing,
    /// The commands ran successfully.
    Installed,
    /// The user declined.
    Declined,
}

impl Ending {
    /// The word for documents.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NothingMissing => "nothing_missing",
            Self::Installed => "installed",
            Self::Declined => "declined",
        }
    }
}

/// The commands and their outcome.
pub(super) struct Installation {
    /// The commands as one line for a shell; empty when there are none.
    pub(super) command: String,
    pub(super) ending: Result<Ending>,
}

/// Installs what the host lacks. `show` is called with the command before it is run.
pub(super) fn run(host: &Host<'_>, is_agreed: bool, show: impl Fn(&str)) -> Installation {
    let missing = packages::missing(host);
    if missing.is_empty() {
        return Installation { command: String::new(), ending: Ok(Ending::NothingMissing) };
    }
    let environment = host.environment;
    let rights = Rights::here(environment);
    let system = OsRelease::read(environment);
    let Some((manager, commands)) = packages::commands(&system, &missing, rights) else {
        return Installation { command: String::new(), ending: Err(unknown_system_error(&system)) };
    };
    let command = packages::line(&commands);
    show(&command);
    let ending = may_run(manager, &command, rights, is_agreed, environment).and_then(|agreed| {
        if !agreed {
            return Ok(Ending::Declined);
        }
        commands.iter().try_for_each(|command| execute(command, environment))?;
        Ok(Ending::Installed)
    });
    Installation { command, ending }
}

fn unknown_system_error(system: &OsRelease) -> Error {
    let name = system.pretty_name().unwrap_or("this system");
    Error::new(Stage::Disk, format!("the packages of {name} are not known"))
        .hint("install by hand what the remedies above name")
}

/// Returns whether the command may be run; asks the user unless `is_agreed`.
fn may_run(
    manager: &str,
    command: &str,
    rights: Rights,
    is_agreed: bool,
    environment: &Environment,
) -> Result<bool> {
    if packages::find(manager, environment).is_none() {
        let text = format!("`{manager}` is not on PATH");
        return Err(Error::new(Stage::Disk, text).hint("install by hand what the remedies name"));
    }
    if rights == Rights::None {
        let text = "packages are installed by root, and there is no sudo";
        return Err(Error::new(Stage::Disk, text).hint(format!("as root, run: {command}")));
    }
    if is_agreed {
        return Ok(true);
    }
    match ask("run this now? [y/N]") {
        Answer::Yes => Ok(true),
        Answer::No => Ok(false),
        Answer::NoTerminal => {
            let text = "nothing was installed: standard input is not a terminal";
            Err(Error::new(Stage::Disk, text).hint(format!("add --yes, or run: {command}")))
        }
    }
}

fn execute(command: &[&str], environment: &Environment) -> Result<()> {
    let line = command.join(" ");
    let command_error = |what: String| {
        Error::new(Stage::Disk, format!("`{line}` {what}"))
            .hint("what it says above is the reason; once that is mended, run this again")
    };
    let (name, rest) = command.split_first().unwrap_or((&"", &[]));
    let program = packages::find(name, environment)
        .ok_or_else(|| command_error(format!("cannot be run: there is no `{name}` on PATH")))?;
    let args = rest.iter().map(OsString::from).collect();
    let call = Call { program, args, environment: visible(environment) };
    let status =
        call.in_front().map_err(|error| command_error(format!("cannot be run: {error}")))?;
    if status.success() { Ok(()) } else { Err(command_error(format!("failed: {status}"))) }
}

fn visible(environment: &Environment) -> ChildEnvironment {
    let is_visible = |name: &str| VISIBLE.contains(&name) || PROXIES.contains(&name);
    ChildEnvironment::exactly(environment.only(is_visible))
}

//! Starts a provider's process: from the file that was checked, whatever its path names now, with a small
//! environment.

use std::{ffi::OsString, fs::File, path::PathBuf, sync::Arc};

use build_image_disk::process::{Call, Environment as Variables};
use build_image_plugin_api::Description;

use super::{CHILD_VERB, buffer::path_of};
use crate::{plugins::trace::Trace, settings::Environment};

/// Variable with the path of a program's own file; its argv[0] is a descriptor number below /proc.
const FILE_VARIABLE: &str = "BUILD_IMAGE_PROVIDER_FILE";
/// Variables that a program gets in addition to those of every child process: network access. Everything else
/// is declared as settings.
const NETWORK: [&str; 10] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
];

/// How a provider's process is started.
#[derive(Clone)]
pub(in crate::plugins) struct Launch {
    call: Arc<Call>,
    trace: Option<Arc<Trace>>,
    /// Kept open: the process is started from it.
    _file: Arc<File>,
}

impl Launch {
    /// Launches a program that speaks the protocol itself; `path` is the path of its file. A program that is
    /// started only for its description needs no network; the network variables may hold passwords.
    pub(in crate::plugins) fn program(
        file: File,
        path: PathBuf,
        only_described: bool,
        environment: &Environment,
    ) -> Self {
        let network = if only_described { &[][..] } else { &NETWORK };
        let names = [&Variables::NAMES[..], network].concat();
        let mut variables = environment.only(|name| names.contains(&name));
        variables.push((FILE_VARIABLE.into(), path.into()));
        let trace = Trace::of(environment);
        Self { trace, ..Self::new(path_of(&file).into(), Vec::new(), variables, file) }
    }

    /// Launches a library, run by this program itself. It gets the environment it would have inside the host,
    /// except for settings: those are sent by the host, secrets on request. While its description is unknown,
    /// and thus which variables are secrets, it gets what every child process gets.
    pub(in crate::plugins) fn library(
        file: File,
        path: PathBuf,
        description: Option<&Description>,
        environment: &Environment,
    ) -> Self {
        let variables = match description {
            None => environment.only(|name| Variables::NAMES.contains(&name)),
            Some(description) => {
                let secret = |name: &str| {
                    description.settings.iter().any(|row| row.secret && row.key == name)
                };
                let own = |name: &str| name.starts_with(crate::settings::PREFIX) || secret(name);
                environment.only(|name| !own(name))
            }
        };
        let program = format!("/proc/{}/exe", std::process::id());
        let args = vec![CHILD_VERB.into(), path_of(&file).into(), path.into()];
        let trace = Trace::of(environment);
        Self { trace, ..Self::new(program.into(), args, variables, file) }
    }

    fn new(
        program: PathBuf,
        args: Vec<OsString>,
        variables: Vec<(OsString, OsString)>,
        file: File,
    ) -> Self {
        let environment = Variables::exactly(variables);
        let call = Arc::new(Call { program, args, environment });
        Self { call, trace: None, _file: Arc::new(file) }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// The file in which the messages of its processes are recorded.
    pub(super) fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }
}

//! What is started: the file that was checked, whatever its path says by now, with a small environment.

use std::{ffi::OsString, fs::File, path::PathBuf, sync::Arc};

use build_image_disk::process::{Call, Environment as Variables};
use build_image_plugin_api::Description;

use super::{CHILD_VERB, buffer::path_of, trace::Trace};
use crate::settings::Environment;

/// Tells a program where its own file is; what it was started as is a number below /proc.
const FILE_VARIABLE: &str = "BUILD_IMAGE_PROVIDER_FILE";
/// What a program sees of the environment beside what every child sees: the ways to the network.
/// Everything else it needs it declares as settings.
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
    /// A program that speaks the protocol itself; `path` is where its file is. One that is only asked for its
    /// description needs no network, whose variables may hold passwords.
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

    /// A library, run by this very program. It sees what it would see inside the host, but for settings:
    /// they come from the host, secrets on request. While its description is not known, and so not which variables
    /// are secrets, it sees what every child sees.
    pub(in crate::plugins) fn library(
        file: File,
        path: PathBuf,
        description: Option<&Description>,
        environment: &Environment,
    ) -> Self {
        let variables = match description {
            None => environment.only(|name| Variables::NAMES.contains(&name)),
            Some(said) => {
                let secret =
                    |name: &str| said.settings.iter().any(|row| row.secret && row.key == name);
                let own = |name: &str| name.starts_with(crate::settings::PREFIX) || secret(name);
                environment.only(|name| !own(name))
            }
        };
        let program = format!("/proc/{}/exe", std::process::id());
        let words = vec![CHILD_VERB.into(), path_of(&file).into(), path.into()];
        let trace = Trace::of(environment);
        Self { trace, ..Self::new(program.into(), words, variables, file) }
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

    /// Where the messages of its processes are recorded.
    pub(super) fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }
}

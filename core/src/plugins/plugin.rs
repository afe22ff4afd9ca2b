//! Represents a loaded provider: its description, its file, and how it runs.

use std::{path::PathBuf, sync::Arc};

use build_image_plugin_api::{Description, Host, Library, Settings, Status, Steps};

use super::{
    FileKind,
    remote::{Launch, message::to_json},
    trace::Trace,
    traced::Recorder,
};
use crate::settings::Row;

/// A loaded provider and its file.
pub struct Plugin {
    /// Name, as on the command line.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Kind of the file.
    pub kind: FileKind,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Whether the lock file lists it.
    pub locked: bool,
    pub(super) description: Description,
    pub(super) runs: Transport,
}

/// Where a provider's code runs.
pub(super) enum Transport {
    /// In this process; its calls may be recorded.
    InProcess(Box<Library>, Option<Arc<Trace>>),
    /// In a separate process.
    Subprocess(Launch),
}

impl Plugin {
    /// Its description.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Version of the contract it was built with.
    #[must_use]
    pub fn api_version(&self) -> &str {
        match &self.runs {
            Transport::InProcess(library, _) => library.api_version(),
            Transport::Subprocess(_) => &self.description.abi.built,
        }
    }

    /// Returns whether its code runs in a separate process.
    #[must_use]
    pub fn is_subprocess(&self) -> bool {
        matches!(self.runs, Transport::Subprocess(_))
    }

    /// Creates an instance.
    ///
    /// # Errors
    /// Errors of the provider; with a separate process, also when the process does not start.
    pub fn create(
        &self,
        host: Arc<dyn Host>,
        settings: &Settings,
    ) -> build_image_plugin_api::Result<Box<dyn Steps>> {
        match &self.runs {
            Transport::InProcess(library, None) => library.create(host, settings),
            Transport::InProcess(library, Some(trace)) => {
                let recorder = Recorder::new(trace)?;
                let host = recorder.host(host);
                let document = to_json(settings)?.to_string();
                let steps = recorder.create(&document, || library.create(host, settings))?;
                Ok(recorder.steps(steps))
            }
            Transport::Subprocess(launch) => {
                super::remote::create(launch, &self.description, host, settings)
            }
        }
    }

    /// Its status, in parentheses; empty when all steps are implemented.
    #[must_use]
    pub fn status_mark(&self) -> &'static str {
        match self.description().status {
            Status::Stable => "",
            Status::DiskOnly => " (stub: the upload is done by hand)",
            _ => " (of a status this version does not know)",
        }
    }

    /// Its settings as rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let heading = format!("Provider {}{}", self.name, self.status_mark());
        let rows = self.description().settings.iter().cloned().map(|mut setting| {
            if setting.group.is_empty() {
                setting.group.clone_from(&heading);
            }
            Row::new(setting)
        });
        rows.collect()
    }
}

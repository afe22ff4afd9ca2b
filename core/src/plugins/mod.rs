//! Provider plugins: finding files, trusting them, loading them, and the services lent to them.

mod disks;
mod find;
mod host;
mod mask;
mod published;
mod rows;
mod trust;

pub(crate) use disks::Origin;
pub use find::{Candidate, SearchPath};
pub use host::RunHost;
pub use mask::Mask;
pub use trust::{Trusted, trust};

use std::path::PathBuf;

use build_image_plugin_api::{Description, Library};

use crate::{
    error::{Error, Result, Stage},
    settings::Row,
};

/// A loaded provider and where it came from.
pub struct Plugin {
    /// Name, as on the command line.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// The library itself.
    pub library: Library,
}

impl Plugin {
    /// Checks and loads a plugin file that must hold provider `name`.
    ///
    /// # Errors
    /// When the file is not trusted, does not load, or holds another provider.
    pub fn load(candidate: &Candidate) -> Result<Self> {
        let trusted = trust(&candidate.path)?;
        let library = Library::open(&trusted.file, &candidate.path)?;
        rows::check(&candidate.path, library.description())?;
        let said = &library.description().name;
        if *said != candidate.name {
            return Err(Error::new(
                Stage::Plugin,
                format!(
                    "plugin `{}` does not load: it calls itself `{said}`, its file name says `{}`",
                    candidate.path.display(),
                    candidate.name
                ),
            )
            .hint(format!(
                "rename the file to `{}`",
                build_image_plugin_api::plugin_file_name(said)
            )));
        }
        tracing::info!(
            provider = candidate.name,
            path = %candidate.path.display(),
            sha256 = trusted.sha256,
            version = library.description().version,
            api = library.api_version(),
            "plugin loaded"
        );
        Ok(Self {
            name: candidate.name.clone(),
            path: candidate.path.clone(),
            sha256: trusted.sha256,
            library,
        })
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.library.description()
    }

    /// Its settings as rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let heading = format!("Provider {}", self.name);
        let rows = self.description().settings.iter().cloned().map(|mut setting| {
            if setting.group.is_empty() {
                setting.group.clone_from(&heading);
            }
            Row::new(setting)
        });
        rows.collect()
    }
}

//! Loads a provider from a file: checks who may have changed it and whether it is locked, then reads its
//! description.

use std::path::Path;

use build_image_plugin_api::{Description, Library, PluginMetadata, check_abi};

use super::{
    Candidate, FileKind, Lock, Plugin, SearchPath, Trusted, ending,
    plugin::Transport,
    remote::{self, Launch},
    rows,
    trace::Trace,
    trust,
    trust::load_error,
};
use crate::{
    error::{Error, Result, Stage},
    settings::Environment,
    trust::open_regular,
};

/// Finds and loads providers, all by the same rules.
pub struct Loader {
    /// Where plugins are searched for.
    pub search: SearchPath,
    /// Which plugins may be loaded.
    pub lock: Lock,
    /// Whether libraries run in separate processes too.
    pub isolate: bool,
    /// The environment; a plugin's process gets a part of it.
    pub environment: Environment,
}

impl Loader {
    /// Checks and loads the provider of a build.
    ///
    /// # Errors
    /// When the file is not trusted, does not load, or holds another provider.
    pub fn load(&self, candidate: &Candidate) -> Result<Plugin> {
        self.take(candidate, self.isolate)
    }

    /// Reads a provider's description without running its code in this process.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn ask(&self, candidate: &Candidate) -> Result<Plugin> {
        self.take(candidate, true)
    }

    /// The metadata that the file contains, read without running its code; programs have none.
    #[must_use]
    pub fn metadata(candidate: &Candidate) -> Option<PluginMetadata> {
        let file = open_regular(&candidate.path).ok()?;
        Library::inspect(&file, &candidate.path).ok()?.metadata
    }

    fn take(&self, candidate: &Candidate, apart: bool) -> Result<Plugin> {
        let trusted = trust(&candidate.path)?;
        let locked = self.lock.check(candidate, &trusted.sha256)?;
        if candidate.kind == FileKind::Library && !apart {
            ending::watch(&candidate.name);
        }
        let plugin = Plugin { locked, ..open(candidate, trusted, apart, &self.environment)? };
        check_name(candidate, plugin.description())?;
        tracing::info!(
            provider = plugin.name,
            path = %plugin.path.display(),
            sha256 = plugin.sha256,
            locked,
            version = plugin.description().version,
            abi = plugin.description().abi.built,
            apart = plugin.is_subprocess(),
            "plugin loaded"
        );
        Ok(plugin)
    }

    /// Opens a provider in order to examine it, whatever its file name and the lock file.
    ///
    /// # Errors
    /// When the file is not trusted or does not load.
    pub fn examine(path: &Path, apart: bool, environment: &Environment) -> Result<Plugin> {
        let candidate = Candidate::named("", path);
        let trusted = trust(&candidate.path)?;
        let plugin = open(&candidate, trusted, apart, environment)?;
        Ok(Plugin { name: plugin.description().name.clone(), ..plugin })
    }
}

fn open(
    candidate: &Candidate,
    trusted: Trusted,
    apart: bool,
    environment: &Environment,
) -> Result<Plugin> {
    let sha256 = trusted.sha256.clone();
    let (description, runs) = match candidate.kind {
        FileKind::Library if apart => library_apart(candidate, trusted, environment)?,
        FileKind::Library => {
            let library = Library::open(&trusted.file, &candidate.path)?;
            let description = library.description().clone();
            (description, Transport::InProcess(Box::new(library), Trace::of(environment)))
        }
        FileKind::Program => program(candidate, trusted, environment)?,
    };
    rows::check(&candidate.path, &description)?;
    Ok(Plugin {
        name: candidate.name.clone(),
        path: candidate.path.clone(),
        kind: candidate.kind,
        sha256,
        locked: false,
        description,
        runs,
    })
}

fn library_apart(
    candidate: &Candidate,
    file: Trusted,
    environment: &Environment,
) -> Result<(Description, Transport)> {
    Library::inspect(&file.file, &candidate.path)?;
    let clone_file = |file: &std::fs::File| {
        file.try_clone().map_err(|error| {
            load_error(&candidate.path, "the file cannot be kept open").caused_by(&error)
        })
    };
    let kept = clone_file(&file.file)?;
    let path = candidate.path.clone();
    let launch = Launch::library(kept, path.clone(), None, environment);
    let description = ask(&candidate.path, &launch)?;
    // The secret settings are known now; their environment variables are not passed on.
    let launch = Launch::library(file.file, path, Some(&description), environment);
    Ok((description, Transport::Subprocess(launch)))
}

fn program(
    candidate: &Candidate,
    file: Trusted,
    environment: &Environment,
) -> Result<(Description, Transport)> {
    if file.mode & 0o111 == 0 {
        return Err(load_error(&candidate.path, "the program may not be executed")
            .hint(format!("chmod +x '{}'", candidate.path.display())));
    }
    let kept = file.file.try_clone().map_err(|error| {
        load_error(&candidate.path, "the file cannot be kept open").caused_by(&error)
    })?;
    let description =
        ask(&candidate.path, &Launch::program(kept, file.real.clone(), true, environment))?;
    let launch = Launch::program(file.file, file.real, false, environment);
    check_abi(&candidate.path, &description)?;
    Ok((description, Transport::Subprocess(launch)))
}

fn ask(path: &Path, launch: &Launch) -> Result<Description> {
    remote::describe(launch).map_err(|error| {
        let mut made = load_error(path, &error.message);
        made.causes = error.causes;
        made.context = error.context;
        made.hint = error.hint;
        made
    })
}

/// Checks that the name in a provider's description agrees with the file's name.
fn check_name(candidate: &Candidate, description: &Description) -> Result<()> {
    let name = &description.name;
    if *name == candidate.name {
        return Ok(());
    }
    Err(Error::new(
        Stage::Plugin,
        format!(
            "plugin `{}` does not load: it calls itself `{name}`, its file name says `{}`",
            candidate.path.display(),
            candidate.name
        ),
    )
    .hint(format!("rename the file to `{}`", candidate.kind.file_name(name))))
}

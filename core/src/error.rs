//! Defines the error type of the tool: the stage that failed, the message, its causes, and a hint.
//!
//! A message is a lower-case fragment without a full stop and never repeats its causes; only
//! `report::Reporter` prints it.

use std::fmt;

pub use build_image_disk::installer::Problem;
use build_image_plugin_api::{ErrorKind, Exhausted, LoadError};

/// Result of every operation whose failure is reported to the user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do after retries in vain, when the failed operation has no better hint.
const CHECK_FIRST: &str =
    "check the network and the state of the service before you repeat the command";

/// Where a build failed; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The command line.
    Usage,
    /// The values of settings.
    Settings,
    /// A provider plugin.
    Plugin,
    /// The ISO or the disk image that was given.
    Source,
    /// Making the disk: qemu, the guest, local files.
    Disk,
    /// A step of the provider, and the kind of its error.
    Provider(ErrorKind),
    /// The provenance statement of an image that is registered already.
    Attestation,
    /// The removal of an intermediate or a replaced image, after the image was released.
    CleanUp,
    /// The removal of what an unfinished build left.
    Leftovers,
    /// Another process is at work on what was asked for.
    InUse,
    /// The deprecation of older images, after the image was released.
    Deprecation,
    /// The notification of the image registry at the end.
    Registry,
    /// Writing the result of a finished build: the result document, standard output.
    Result,
    /// Some targets of a build failed, others have their images.
    Partial,
    /// Ctrl-C or a termination signal.
    Interrupted,
    /// A broken assumption of this program.
    Bug,
}

/// An error with everything a user needs to act on it.
#[derive(Clone, Debug)]
pub struct Error {
    /// The stage that failed.
    pub stage: Stage,
    /// What failed, on which object.
    pub message: String,
    /// All problems, when there are several.
    pub problems: Vec<Problem>,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// The hint: what to do.
    pub hint: Option<String>,
    /// Request ids, codes, paths.
    pub context: Vec<(String, String)>,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// What was tried before, when the failed request was repeated until its budget was spent.
    pub exhausted: Option<Exhausted>,
}

impl Error {
    /// Creates an error of a stage.
    pub fn new(stage: Stage, message: impl Into<String>) -> Self {
        Self {
            stage,
            message: message.into(),
            problems: Vec::new(),
            causes: Vec::new(),
            hint: None,
            context: Vec::new(),
            retryable: false,
            exhausted: None,
        }
    }

    /// Creates an error about the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Stage::Usage, message)
    }

    /// Creates an error of several problems.
    #[must_use]
    pub fn several(stage: Stage, message: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::new(stage, message) }
    }

    /// Creates the error of an interrupted build.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Stage::Interrupted, "interrupted")
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error and all its sources as causes.
    #[must_use]
    pub fn caused_by(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Wraps the error of a failed step of a provider.
    #[must_use]
    pub fn provider(provider: &str, step: &str, error: build_image_plugin_api::Error) -> Self {
        Self {
            retryable: error.retryable,
            exhausted: error.exhausted,
            stage: Stage::Provider(error.kind),
            message: format!("provider `{provider}`, step {step}: {}", error.message),
            problems: Vec::new(),
            causes: error.causes,
            hint: error.hint,
            context: error.context,
        }
    }

    /// Returns what to do, as it is shown: after exhausted retries, what was tried comes first.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let Some(tried) = &self.exhausted else { return self.hint.clone() };
        let check = self.hint.as_deref().unwrap_or(CHECK_FIRST);
        Some(format!("{tried} without success; {check}"))
    }

    /// Returns the exit code of the program, see [`crate::exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.stage {
            Stage::Usage | Stage::Settings => crate::exit::USAGE,
            Stage::Plugin => crate::exit::PLUGIN,
            Stage::Source if self.retryable => crate::exit::UNAVAILABLE,
            Stage::Source => crate::exit::SOURCE,
            Stage::Disk => crate::exit::DISK,
            Stage::InUse => crate::exit::UNAVAILABLE,
            Stage::Leftovers => crate::exit::LEFTOVERS,
            Stage::Provider(_) if self.retryable => crate::exit::UNAVAILABLE,
            Stage::Provider(kind) => provider_code(kind),
            Stage::Attestation
            | Stage::CleanUp
            | Stage::Deprecation
            | Stage::Registry
            | Stage::Result => crate::exit::FOLLOW_UP,
            Stage::Partial => crate::exit::PARTIAL,
            Stage::Interrupted => crate::exit::INTERRUPTED,
            Stage::Bug => crate::exit::BUG,
        }
    }

    /// Returns the word for the stage in result documents.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.stage {
            Stage::Usage => "usage",
            Stage::Settings => "settings",
            Stage::Plugin => "plugin",
            Stage::Source => "source",
            Stage::Disk => "disk",
            Stage::InUse => "in_use",
            Stage::Provider(kind) => kind.code(),
            Stage::Attestation => "attestation",
            Stage::CleanUp | Stage::Leftovers => "clean_up",
            Stage::Deprecation => "deprecation",
            Stage::Registry => "registry",
            Stage::Result => "result",
            Stage::Partial => "partial",
            Stage::Interrupted => "interrupted",
            Stage::Bug => "bug",
        }
    }
}

fn provider_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => crate::exit::USAGE,
        ErrorKind::Throttled | ErrorKind::Network | ErrorKind::Timeout => crate::exit::UNAVAILABLE,
        ErrorKind::Local => crate::exit::DISK,
        ErrorKind::Cancelled => crate::exit::INTERRUPTED,
        ErrorKind::Panic | ErrorKind::Internal => crate::exit::BUG,
        _ => crate::exit::REFUSED,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        if let Some(detail) = &error.detail {
            tracing::debug!(path = %error.path.display(), detail, "why the plugin does not load");
        }
        let made = Self::new(Stage::Plugin, error.to_string());
        match error.hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

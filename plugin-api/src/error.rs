//! The error that crosses the boundary: plain data, decided by the side that knows.
//!
//! A message is a lower-case fragment that says what failed and on which object; causes are listed
//! apart and never repeated in it; the hint says what to do. Whether a retry makes sense is said by
//! `retryable`, never guessed from text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Result of every call of this contract.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the host must tell kinds apart (exit code, clean-up, advice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or not acceptable.
    Config,
    /// Credentials are missing, wrong, expired or lack a permission.
    Auth,
    /// A thing that must exist does not.
    NotFound,
    /// A thing that must not exist does.
    Conflict,
    /// A limit of the account was reached.
    Quota,
    /// The cloud asks to slow down.
    Throttled,
    /// The cloud could not be reached or the connection broke.
    Network,
    /// A deadline passed.
    Timeout,
    /// The host asked the provider to stop, and it did.
    Cancelled,
    /// This provider does not do that.
    Unsupported,
    /// The cloud does not accept the disk or image.
    InvalidImage,
    /// This machine: a file, a disk, memory.
    Local,
    /// The provider's code panicked.
    Panic,
    /// A broken assumption, on either side.
    Internal,
    /// Any other refusal of the cloud. Unknown kinds are read as this one.
    #[serde(other)]
    Provider,
}

impl ErrorKind {
    /// The word that stands for the kind on the wire and in reports.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Quota => "quota",
            Self::Throttled => "throttled",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unsupported => "unsupported",
            Self::InvalidImage => "invalid_image",
            Self::Provider => "provider",
            Self::Local => "local",
            Self::Panic => "panic",
            Self::Internal => "internal",
        }
    }

    /// The kind a word stands for; an unknown word is [`ErrorKind::Provider`].
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        serde_json::from_value(serde_json::Value::String(code.to_owned())).unwrap_or(Self::Provider)
    }
}

/// An error with everything a user needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What failed, on which object. Lower-case fragment without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether the same call may succeed later without any change.
    pub retryable: bool,
    /// Names and values that help: `request_id`, `bucket`, `code`… No secrets.
    pub context: Vec<(String, String)>,
    /// Causes, outermost first.
    pub causes: Vec<String>,
}

/// What travels beside code, message and `retryable`: the wire's `details_json`.
#[doc(hidden)]
#[derive(Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Error {
    /// An error of `kind` saying `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retryable: false,
            context: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// A setting that is missing or not acceptable.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// A failure of this machine: `NotFound` when the file is not there, else `Local`. A message names the
    /// file.
    pub fn io(message: impl Into<String>, cause: &std::io::Error) -> Self {
        let kind = match cause.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Local,
        };
        Self::new(kind, message).caused_by(cause)
    }

    /// A step or option this provider does not have; say what to do instead.
    pub fn unsupported(message: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message).with_hint(instead)
    }

    /// The host asked to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// A broken assumption.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a name and value.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.context.push((name.into(), value.to_string()));
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

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The value of a context entry.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (position, (name, value)) in self.context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if position == 0 { " (" } else { ", " })?;
        }
        if self.context.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl std::error::Error for Error {}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal("a document of the plugin contract could not be read").caused_by(&error)
    }
}

//! Defines the error that crosses the boundary: plain data, filled in by the side that knows the cause.
//!
//! A message is a lower-case fragment that states what failed and on which object; causes are listed separately
//! and never repeated in it; the hint states what to do. Whether a retry makes sense is stated by `retryable`,
//! never guessed from text.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Result of every call of this contract.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the host must distinguish it (exit code, clean-up, advice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or invalid.
    Config,
    /// Credentials are missing, wrong, expired or lack a permission.
    Auth,
    /// A required object does not exist.
    NotFound,
    /// An object exists that must not exist.
    Conflict,
    /// A limit of the account was reached.
    Quota,
    /// The cloud asks to reduce the request rate.
    Throttled,
    /// The cloud could not be reached, or the connection broke.
    Network,
    /// A deadline passed.
    Timeout,
    /// The host asked the provider to stop, and it did.
    Cancelled,
    /// This provider does not support the operation.
    Unsupported,
    /// The cloud does not accept the disk or image.
    InvalidImage,
    /// A failure of this machine: a file, a disk, memory.
    Local,
    /// The provider's code panicked.
    Panic,
    /// A broken assumption, on either side.
    Internal,
    /// Any other refusal by the cloud. Unknown kinds are read as this variant.
    #[serde(other)]
    Provider,
}

impl ErrorKind {
    /// Returns the word that represents the kind on the wire and in reports.
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

    /// Returns the kind that a word represents; an unknown word is [`ErrorKind::Provider`].
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        serde_json::from_value(Value::String(code.to_owned())).unwrap_or(Self::Provider)
    }
}

/// An error with everything that a user needs to act on it.
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
    /// What was tried before, when the failed request was repeated until its budget was spent. Such an error stays
    /// `retryable`, but "try again" is no advice.
    pub exhausted: Option<Exhausted>,
    /// Names and values that help: `request_id`, `bucket`, `code`… No secrets.
    pub context: Vec<(String, String)>,
    /// Causes, outermost first.
    pub causes: Vec<String>,
}

/// Attempts and time that were spent on repeating a request in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Exhausted {
    /// Number of attempts, the first one included.
    pub attempts: u64,
    /// Seconds from the first attempt to the last failure.
    pub seconds: u64,
}

impl Exhausted {
    /// Creates the record of `attempts` that took `elapsed` in all.
    #[must_use]
    pub fn new(attempts: u64, elapsed: Duration) -> Self {
        Self { attempts, seconds: elapsed.as_secs(), ..Self::default() }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, seconds, .. } = self;
        match seconds / 60 {
            0 => write!(f, "tried {attempts} times within {seconds} s"),
            minutes => write!(f, "tried {attempts} times within {minutes} min {} s", seconds % 60),
        }
    }
}

/// What is sent beside code, message and `retryable`: the wire's `details_json`.
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
    /// Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Exhausted>,
}

/// An error as a document: a part of answers, and `data` of an error of the `exec` protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct ErrorDocument {
    /// Word of the [`ErrorKind`]; empty when it is not known.
    pub kind: String,
    /// What failed, on which object. Empty where the message is sent beside the document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether the same call may succeed later without any change.
    pub retryable: bool,
    /// What was tried before, when the request was repeated in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Exhausted>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Names and values; values that are not texts are read as their JSON.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// Causes, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl From<&Error> for ErrorDocument {
    fn from(error: &Error) -> Self {
        let context = error.context.iter();
        Self {
            kind: error.kind.code().to_owned(),
            message: error.message.clone(),
            retryable: error.retryable,
            exhausted: error.exhausted,
            hint: error.hint.clone(),
            context: context.map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            causes: error.causes.clone(),
            ..Self::default()
        }
    }
}

impl From<ErrorDocument> for Error {
    fn from(document: ErrorDocument) -> Self {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let context = document.context.into_iter();
        Self {
            kind: ErrorKind::from_code(&document.kind),
            message: document.message,
            hint: document.hint,
            retryable: document.retryable,
            exhausted: document.exhausted,
            context: context.map(|(name, value)| (name, text(value))).collect(),
            causes: document.causes,
        }
    }
}

impl Error {
    /// Creates an error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retryable: false,
            exhausted: None,
            context: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Creates an error about a missing or invalid setting.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Creates an error about a failure of this machine: `NotFound` when the file does not exist, else `Local`.
    /// The message must name the file.
    pub fn io(message: impl Into<String>, cause: &std::io::Error) -> Self {
        let kind = match cause.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Local,
        };
        Self::new(kind, message).caused_by(cause)
    }

    /// Creates an error about a step or option that this provider does not support; `instead` states what to do.
    pub fn unsupported(message: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message).with_hint(instead)
    }

    /// Creates the error of a step that the host asked to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Creates an error about a broken assumption.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the hint: what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a name and a value.
    #[must_use]
    pub fn with_context(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
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

    /// Marks the error as retryable: the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Marks the error as retryable, and states that it was retried in vain: `attempts` requests, the first one
    /// included, within `elapsed`. The host shows both and does not advise to try again; the hint states what to check.
    #[must_use]
    pub fn exhausted(mut self, attempts: u64, elapsed: Duration) -> Self {
        self.exhausted = Some(Exhausted::new(attempts, elapsed));
        self.retryable()
    }

    /// Returns the value of a context entry.
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

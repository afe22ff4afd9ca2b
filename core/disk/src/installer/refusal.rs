//! Defines the error of an installer: who has to act, the message, all problems, and a hint.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// What has to change before the installation is possible.
#[derive(Debug)]
pub enum Fault {
    /// The values of settings.
    Settings,
    /// An ISO.
    Source,
    /// What the provider declares.
    Provider,
    /// A file of an ISO cannot be read: the ISO, and the error, which has the message.
    Unreadable(PathBuf, Box<Error>),
}

/// One of several problems that are reported together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, on which object.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// Creates a problem without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Why an installer refuses.
#[derive(Debug)]
pub struct Refusal {
    /// What has to change.
    pub fault: Fault,
    /// What failed, on which object: a lower-case fragment.
    pub message: String,
    /// All problems, when there are several.
    pub problems: Vec<Problem>,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    fn new(fault: Fault, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { fault, message, problems: Vec::new(), causes: Vec::new(), hint: None }
    }

    /// Refuses settings.
    pub fn settings(message: impl Into<String>) -> Self {
        Self::new(Fault::Settings, message)
    }

    /// Refuses an ISO.
    pub fn source(message: impl Into<String>) -> Self {
        Self::new(Fault::Source, message)
    }

    /// Refuses what a provider declares.
    pub fn provider(message: impl Into<String>) -> Self {
        Self::new(Fault::Provider, message)
    }

    /// Refuses an ISO that cannot be read.
    #[must_use]
    pub fn unreadable(iso: &Path, error: Error) -> Self {
        let message = error.to_string();
        Self::new(Fault::Unreadable(iso.to_owned(), Box::new(error)), message)
    }

    /// Adds problems.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.problems = problems;
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error and all its sources as causes.
    #[must_use]
    pub fn caused_by(mut self, cause: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Refusal {}

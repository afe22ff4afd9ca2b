//! Defines the attributes of an installer's setting that only the engine uses. The declaration itself (key, kind,
//! pattern, default, help) is the plugin contract's, which this crate does not depend on.

/// Whether a resumed run may have another value of a setting than its first process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnResume {
    /// Always; the current value is used.
    #[default]
    Free,
    /// Never: it decides what is built.
    Fixed,
    /// Until the image is registered: its effect ends there.
    UntilRegistered,
    /// Until the image is released: its effect ends there.
    UntilReleased,
}

/// Attributes of a row beside its declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Key of the row that it follows in help and documentation.
    pub after: &'static str,
    /// One-letter flag.
    pub flag: Option<char>,
    /// In the environment only `F5_<KEY>` is read.
    pub prefixed_only: bool,
    /// Why it is known, but refused.
    pub unsupported: Option<&'static str>,
    /// A value for hints.
    pub example: Option<&'static str>,
    /// Whether a resumed run must keep it.
    pub on_resume: OnResume,
    /// Whether shared configuration files contain it, so that a file that has it for a build without an ISO gets no
    /// warning.
    pub shared: bool,
    /// Whether it names files that the build reads, so that no result may replace them.
    pub names_files: bool,
}

impl Attributes {
    /// Creates the attributes of a row that follows another one.
    #[must_use]
    pub fn after(key: &'static str) -> Self {
        Self { after: key, ..Self::default() }
    }

    /// Adds a one-letter flag.
    #[must_use]
    pub fn flag(self, flag: char) -> Self {
        Self { flag: Some(flag), ..self }
    }

    /// Restricts the environment to `F5_<KEY>`.
    #[must_use]
    pub fn prefixed_only(self) -> Self {
        Self { prefixed_only: true, ..self }
    }

    /// Marks the setting as known, but refused, with this reason.
    #[must_use]
    pub fn unsupported(self, why: &'static str) -> Self {
        Self { unsupported: Some(why), ..self }
    }

    /// Adds a value for hints.
    #[must_use]
    pub fn example(self, text: &'static str) -> Self {
        Self { example: Some(text), ..self }
    }

    /// Marks the setting as one that decides what is built.
    #[must_use]
    pub fn decides(self) -> Self {
        Self { on_resume: OnResume::Fixed, ..self }
    }

    /// Marks the setting as one that names files that the build reads.
    #[must_use]
    pub fn names_files(self) -> Self {
        Self { names_files: true, ..self }
    }

    /// Marks the setting as one that cannot change once the image is registered.
    #[must_use]
    pub fn until_registered(self) -> Self {
        Self { on_resume: OnResume::UntilRegistered, ..self }
    }

    /// Marks the setting as one of shared configuration files.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { shared: true, ..self }
    }
}

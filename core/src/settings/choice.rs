//! Defines settings with a fixed set of words. The rows take their choices from these types.

use serde_json::Value as Json;

use super::typed::FromSetting;

/// Defines an enum of words. The first variant is the default of a setting that has no other default.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            #[default]
            $($(#[$word_doc])* $variant),*
        }

        impl $name {
            /// The words, in the order of the help.
            pub const WORDS: &[&str] = &[$($word),*];
        }

        impl FromSetting for $name {
            fn of(value: &Json) -> Option<Self> {
                match value.as_str()?.to_lowercase().as_str() {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// What becomes of a failed build.
    OnFailure {
        /// It is removed.
        Undo = "undo",
        /// It is kept for `resume`.
        Keep = "keep",
    }
}

choice! {
    /// How an image is published.
    Package {
        /// In its provider's archive.
        Archive = "archive",
        /// Without an archive.
        None = "none",
    }
}

choice! {
    /// How progress is reported on standard error.
    ProgressMode {
        /// As suits the terminal.
        Auto = "auto",
        /// Lines.
        Plain = "plain",
        /// JSON documents, one per line.
        Json = "json",
        /// Warnings and errors only.
        None = "none",
    }
}

choice! {
    /// Lowest level of the messages in the log file.
    LogLevel {
        /// As `Error`: the old tool had this level.
        Critical = "critical",
        /// Errors.
        Error = "error",
        /// Warnings.
        Warning = "warning",
        /// What the build does.
        Info = "info",
        /// What a developer needs.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

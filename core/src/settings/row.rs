//! Defines a row of the settings table: a declaration, for core and providers alike.

use build_image_plugin_api::{Setting, SettingKind};

/// A setting: the declaration plus attributes that only the core's own settings have.
#[derive(Clone, Debug)]
pub struct Row {
    /// Key, summary, kind, rules.
    pub setting: Setting,
    /// One-letter flag.
    pub flag: Option<char>,
    /// Its form on the command line.
    pub command_line: CommandLine,
    /// Why this version does not support it; `None` when it does.
    pub unsupported: Option<&'static str>,
    /// In the environment only `F5_<KEY>` is read: the plain name is a common word, or other programs read it too.
    pub prefixed_only: bool,
    /// A value for hints, where the kind alone makes a poor one.
    pub example: Option<&'static str>,
}

/// The form of a setting on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// `--key VALUE`.
    Value,
    /// `--key`, also `--key=false`.
    Switch,
}

impl Row {
    /// Creates a row for a declaration.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let command_line = if setting.kind == SettingKind::Switch {
            CommandLine::Switch
        } else {
            CommandLine::Value
        };
        Self {
            setting,
            flag: None,
            command_line,
            unsupported: None,
            prefixed_only: false,
            example: None,
        }
    }

    /// Adds a one-letter flag.
    #[must_use]
    pub fn flag(mut self, flag: char) -> Self {
        self.flag = Some(flag);
        self
    }

    /// Marks the setting as known, but refused by this version with this reason.
    #[must_use]
    pub fn unsupported(mut self, why: &'static str) -> Self {
        self.unsupported = Some(why);
        self
    }

    /// Restricts the environment to `F5_<KEY>`.
    #[must_use]
    pub fn prefixed_only(mut self) -> Self {
        self.prefixed_only = true;
        self
    }

    /// Adds a value for hints.
    #[must_use]
    pub fn example(mut self, text: &'static str) -> Self {
        self.example = Some(text);
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.setting.key
    }

    /// Returns the long flag: `ACME_BUCKET` → `acme-bucket`.
    #[must_use]
    pub fn long(&self) -> String {
        self.setting.key.to_lowercase().replace('_', "-")
    }
}

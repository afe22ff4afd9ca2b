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
    /// Who reads it besides the build.
    pub uses: &'static [Use],
    /// Whether a resumed run may change it.
    pub on_resume: OnResume,
    /// What the build writes to the file that it names; `None` when it names none that is written.
    pub writes: Option<Written>,
    /// The paths that it usually names, for the completion of command lines.
    pub names: Named,
    /// The builds that it applies to.
    pub applies_to: AppliesTo,
    /// Key of the row that it follows in help and documentation, for rows from outside of the core's table; `None` =
    /// after all others.
    pub after: Option<&'static str>,
}

/// Who reads a setting besides the build. The lists of settings that a command accepts are derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The choice of the provider and of the configuration file: the row is parsed before the provider's are known.
    Selection,
    /// The report of an error: the row is parsed before everything else, so that the first error is reported too.
    Report,
    /// The review of a run that another user or host has started: the setting makes the run start programs, load code,
    /// or read settings.
    Adoption,
    /// The command `boot`.
    Boot,
    /// The command `doctor`.
    Doctor,
    /// The command `inspect`.
    Inspect,
    /// The command `help`.
    Help,
    /// The command `images`, and `gc` in an account.
    Images,
    /// The command `providers`.
    Providers,
    /// The commands `runs` and `gc`, and the search of `resume` for its run.
    Runs,
    /// The commands `completions` and `man`.
    Shell,
}

pub use build_image_disk::installer::OnResume;

/// What a build writes to a file that a setting names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// A JSON object, which replaces an existing file.
    Json,
    /// A bundle, which replaces an existing file.
    Bundle,
    /// Lines, which are appended to an existing file.
    Lines,
}

/// The paths that a setting usually names. Others are accepted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Any.
    #[default]
    Anything,
    /// Directories.
    Directories,
    /// Disk images, also compressed or in archives.
    Disks,
    /// Files whose names end in a dot and one of these.
    Files(&'static [&'static str]),
}

impl Named {
    /// Configuration files.
    pub const YAML: Self = Self::Files(&["yml", "yaml", "json"]);
}

/// The builds that a setting applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppliesTo {
    /// All.
    #[default]
    Every,
    /// Builds that install an ISO. Others ignore it and warn.
    Installation {
        /// Every shared configuration file has it: no warning when it is set there.
        expected: bool,
    },
    /// Builds from a disk image. Others refuse it, with this hint, unless their installer uses it.
    GivenDisk {
        /// What to do instead, in the imperative.
        hint: &'static str,
    },
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
            uses: &[],
            on_resume: OnResume::Free,
            writes: None,
            names: Named::default(),
            applies_to: AppliesTo::Every,
            after: None,
        }
    }

    /// Sets the allowed values.
    #[must_use]
    pub fn choices(mut self, words: &[&str]) -> Self {
        self.setting = self.setting.choices(words);
        self
    }

    /// Sets the allowed values: each of these words, in lower and in upper case.
    #[must_use]
    pub fn choices_in_both_cases(mut self, words: &[&str]) -> Self {
        let both = words.iter().flat_map(|word| [(*word).to_owned(), word.to_uppercase()]);
        self.setting.choices = both.collect();
        self
    }

    /// Sets the text that is used when the setting is not set.
    #[must_use]
    pub fn default_value(mut self, text: &str) -> Self {
        self.setting = self.setting.default_value(text);
        self
    }

    /// Sets the regular expression that the whole text must match.
    #[must_use]
    pub fn pattern(mut self, expression: &str) -> Self {
        self.setting = self.setting.pattern(expression);
        self
    }

    /// States who reads it besides the build.
    #[must_use]
    pub fn used_by(mut self, uses: &'static [Use]) -> Self {
        self.uses = uses;
        self
    }

    /// Returns whether it is read for this use.
    #[must_use]
    pub fn is_used_by(&self, reader: Use) -> bool {
        self.uses.contains(&reader)
    }

    /// States whether a resumed run may change it.
    #[must_use]
    pub fn on_resume(mut self, rule: OnResume) -> Self {
        self.on_resume = rule;
        self
    }

    /// States what the build writes to the file that it names.
    #[must_use]
    pub fn writes(mut self, written: Written) -> Self {
        self.writes = Some(written);
        self
    }

    /// States the paths that it usually names.
    #[must_use]
    pub fn names(mut self, paths: Named) -> Self {
        self.names = paths;
        self
    }

    /// States the builds that it applies to.
    #[must_use]
    pub fn applies_to(mut self, builds: AppliesTo) -> Self {
        self.applies_to = builds;
        self
    }

    /// Lists a row from outside of the core's table after the row with this key.
    #[must_use]
    pub fn after(mut self, key: &'static str) -> Self {
        self.after = Some(key);
        self
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

    /// Refuses the setting in a configuration file that the user did not name.
    #[must_use]
    pub fn explicit_only(mut self) -> Self {
        self.setting = self.setting.explicit_only();
        self
    }

    /// Returns the allowed values, each once: not in upper case if it is also allowed in lower case.
    #[must_use]
    pub fn choices_once(&self) -> Vec<&str> {
        let choices = &self.setting.choices;
        let again = |word: &str| {
            let lower = word.to_lowercase();
            lower != word && choices.contains(&lower)
        };
        choices.iter().map(String::as_str).filter(|word| !again(word)).collect()
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

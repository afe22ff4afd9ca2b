//! Lists what completions name: runs, providers, and settings. Only directories and records are read; no provider is run,
//! and no journal is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use build_image_plugin_api::Setting;

use crate::{
    cli::{args, build, command::first_clause, runs},
    groups,
    packages::Place,
    plugins::user_directory,
    runs::DIRECTORY as RUNS,
    settings::{Environment, Layers, Resolved, Row, Use, core_rows, keys, rows_for, rows_of},
};

/// Most runs that are offered.
const MOST_RUNS: usize = 500;

type Words = Vec<(String, String)>;

/// What is known without running a provider.
pub(super) struct Known<'a> {
    /// The words before the one that is completed.
    pub(super) words: &'a [String],
    /// The settings of providers.
    pub(super) rows: &'a [Row],
    pub(super) environment: &'a Environment,
}

impl Known<'_> {
    /// Returns the row of a provider's setting.
    pub(super) fn provider_row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key() == key)
    }

    /// Returns the runs and the builds with several targets that left something, newest first.
    pub(super) fn runs(&self) -> Words {
        let Some(settings) = self.settings_of(&rows_for(Use::Runs)) else { return Vec::new() };
        let base = runs::base(&settings);
        let mut names: Vec<String> = [RUNS, groups::DIRECTORY]
            .iter()
            .flat_map(|below| directories(&base.join(below)))
            .collect();
        // Their names begin with the time; a name that looks like a flag is not one of ours.
        names.retain(|name| name.starts_with(|letter: char| letter.is_ascii_alphanumeric()));
        names.sort_by(|a, b| b.cmp(a));
        names.truncate(MOST_RUNS);
        names.into_iter().map(|name| (name, String::new())).collect()
    }

    /// Returns the names of all providers that are found.
    pub(super) fn providers(&self) -> Words {
        let settings = self.settings_of(&rows_for(Use::Selection));
        let loader = settings.and_then(|settings| build::loader(&settings, self.environment).ok());
        let all = loader.map(|loader| loader.search.all()).unwrap_or_default();
        let mut names: Vec<String> = all.into_iter().map(|candidate| candidate.name).collect();
        names.dedup();
        names.into_iter().map(|name| (name, String::new())).collect()
    }

    /// Returns the names of the providers that `providers install` installed.
    pub(super) fn installed(&self) -> Words {
        let settings = self.settings_of(&rows_of(&[keys::PROVIDER_DIR]));
        let named = settings.and_then(|settings| settings.core().plugins.directory.clone());
        let records = Place::new(named.as_deref(), user_directory(self.environment))
            .and_then(|place| place.records());
        let Ok(records) = records else { return Vec::new() };
        let packages = records.packages().iter();
        packages.map(|package| (package.name.clone(), package.version.clone())).collect()
    }

    /// Returns the keys of all settings.
    pub(super) fn settings(&self) -> Words {
        let shown = |setting: &Setting| {
            let about = first_clause(&setting.summary).to_owned();
            (!setting.hidden).then(|| (setting.key.clone(), about))
        };
        let core = core_rows();
        let core = core.iter().filter(|row| row.unsupported.is_none());
        core.chain(self.rows).filter_map(|row| shown(&row.setting)).collect()
    }

    /// Resolves settings from the words, the configuration file, and the environment; `None` when they are wrong.
    fn settings_of(&self, rows: &[Row]) -> Option<Resolved> {
        let without = args::without_file(self.words, self.environment, None);
        let layers = if self.has_file(&without) {
            args::with_file(self.words, self.environment, None).unwrap_or(without)
        } else {
            without
        };
        layers.resolve(rows).ok()
    }

    /// Whether the configuration file can be read without waiting: it is not a pipe. One that is found never is.
    fn has_file(&self, layers: &Layers) -> bool {
        let settings = layers.resolve(&rows_of(&[keys::CONFIG_FILE])).ok();
        let path: Option<PathBuf> =
            settings.and_then(|settings| settings.core().plugins.config_file.clone());
        path.is_none_or(|path| fs::metadata(path).is_ok_and(|data| data.is_file()))
    }
}

/// Returns the names of the directories in a directory. Links are left out, as `runs` does.
fn directories(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

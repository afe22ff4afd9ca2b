//! Expands a matrix, a file that describes many builds as data, into independent builds: every combination of the entries of
//! its axes.
//!
//! ```text
//! file.rs    reads the file; every message names a line     formats.rs  what CI systems and batch systems take
//! ```

mod file;
mod formats;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::error::{Error, Problem, Result, Stage};
pub use formats::{command, github, gitlab, slurm};

/// A matrix.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// The path of its file.
    pub path: PathBuf,
    /// Its name, the first part of the ids.
    pub name: String,
    /// Configuration file of every build, as it is written.
    pub config: Option<String>,
    /// Directory of the result documents, as it is written.
    pub results: Option<String>,
    /// Settings of every build.
    settings: Vec<Given>,
    axes: Vec<Axis>,
    /// Combinations that are left out: axis and id.
    exclude: Vec<Exclusion>,
    /// Builds beside the combinations.
    include: Vec<Entry>,
}

/// A setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Its key, as configuration files spell it.
    pub key: String,
    /// Its value, as the command line takes it.
    pub text: String,
    /// Its line in the file, from 1.
    pub line: usize,
}

#[derive(Clone, Debug, Default)]
struct Axis {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    id: String,
    settings: Vec<Given>,
}

#[derive(Clone, Debug, Default)]
struct Exclusion {
    ids: BTreeMap<String, String>,
    line: usize,
}

/// A build of a matrix.
#[derive(Clone, Debug, Default)]
pub struct MatrixBuild {
    /// Its id, unique in the matrix and the same in every expansion.
    pub id: String,
    /// Id of the entry on each axis.
    pub axes: BTreeMap<String, String>,
    /// Its settings, each key once: later axes win over earlier ones, and these over the settings of the matrix.
    pub settings: Vec<Given>,
}

impl Matrix {
    /// Returns the builds, in the order of the file: the last axis varies fastest, the additional builds come last.
    ///
    /// # Errors
    /// When an exclusion fits nothing, two builds have one id, or nothing is left to build.
    pub fn builds(&self) -> Result<Vec<MatrixBuild>> {
        let mut found: Vec<Chosen<'_>> = vec![Vec::new()];
        for axis in &self.axes {
            found = found.iter().flat_map(|chosen| axis.after(chosen)).collect();
        }
        if self.axes.is_empty() {
            found.clear();
        }
        let mut problems = Vec::new();
        for exclusion in &self.exclude {
            let before = found.len();
            found.retain(|chosen| !exclusion.fits(chosen));
            if found.len() == before {
                let text = format!("line {}: the exclusion fits no combination", exclusion.line);
                problems.push(Problem::new(text).hint("remove it, or correct its ids"));
            }
        }
        let mut builds: Vec<MatrixBuild> = found.iter().map(|chosen| self.build(chosen)).collect();
        builds.extend(self.include.iter().map(|entry| self.added(entry)));
        let mut ids = BTreeSet::new();
        for build in builds.iter().filter(|build| !ids.insert(build.id.clone())) {
            problems.push(Problem::new(format!("two builds have the id `{}`", build.id)));
        }
        if builds.is_empty() && problems.is_empty() {
            problems.push(Problem::new("it has no build").hint("give it `axes` or `include`"));
        }
        if problems.is_empty() { Ok(builds) } else { Err(self.error(problems)) }
    }

    fn build(&self, chosen: &Chosen<'_>) -> MatrixBuild {
        let ids: Vec<&str> = chosen.iter().map(|(_, entry)| entry.id.as_str()).collect();
        let axes = chosen.iter().map(|(axis, entry)| ((*axis).to_owned(), entry.id.clone()));
        let layers = chosen.iter().map(|(_, entry)| entry.settings.as_slice());
        MatrixBuild {
            id: format!("{}-{}", self.name, ids.join("-")),
            axes: axes.collect(),
            settings: merged(std::iter::once(self.settings.as_slice()).chain(layers)),
        }
    }

    fn added(&self, entry: &Entry) -> MatrixBuild {
        MatrixBuild {
            id: format!("{}-{}", self.name, entry.id),
            axes: BTreeMap::new(),
            settings: merged([self.settings.as_slice(), &entry.settings].into_iter()),
        }
    }

    /// Returns the directory of the file, absolute: paths of the builds start there.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Returns an error about the file.
    #[must_use]
    pub fn error(&self, mut problems: Vec<Problem>) -> Error {
        let what = format!("the matrix `{}` cannot be expanded", self.path.display());
        if problems.len() > 1 {
            return Error::several(Stage::Settings, what, problems);
        }
        let only = problems.pop().unwrap_or_else(|| Problem::new("unknown"));
        let error = Error::new(Stage::Settings, format!("{what}: {}", only.message));
        match only.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A combination: an entry of each axis, with the name of the axis.
type Chosen<'a> = Vec<(&'a str, &'a Entry)>;

impl Axis {
    /// Returns a combination of earlier axes with each entry of this one.
    fn after<'a>(&'a self, chosen: &Chosen<'a>) -> Vec<Chosen<'a>> {
        let with = |entry| [chosen.as_slice(), &[(self.name.as_str(), entry)]].concat();
        self.entries.iter().map(with).collect()
    }
}

impl Exclusion {
    fn fits(&self, chosen: &Chosen<'_>) -> bool {
        self.ids
            .iter()
            .all(|(axis, id)| chosen.iter().any(|(name, entry)| name == axis && entry.id == *id))
    }
}

/// Returns the settings of several layers, each key once, where it was first named; later layers win.
fn merged<'a>(layers: impl Iterator<Item = &'a [Given]>) -> Vec<Given> {
    let mut settings: Vec<Given> = Vec::new();
    for given in layers.flatten() {
        match settings.iter_mut().find(|one| one.key == given.key) {
            Some(one) => one.clone_from(given),
            None => settings.push(given.clone()),
        }
    }
    settings
}

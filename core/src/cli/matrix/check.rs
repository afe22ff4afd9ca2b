//! Compares the settings of every build with the rows of the core and of its provider, before any is started.

use std::collections::BTreeMap;

use super::{Checked, Layers, Matrix, MatrixBuild};
use crate::{
    cli::{build, unknown},
    error::{Problem, Result},
    matrix::Given,
    once::Progress,
    plugins::{Loader, Plugin},
    settings::{FileLayer, Key, Resolved, Row, Use, core_rows, keys, rows_for},
};

/// Settings that a matrix sets itself.
const TAKEN: [(Key, &str); 3] = [
    (keys::ONCE, "the id of the build is its name"),
    (keys::CONFIG_FILE, "write `config: FILE` at the top of the matrix"),
    (keys::OUTPUT_JSON_FILE, "write `results: DIRECTORY` at the top of the matrix"),
];

/// Checks the settings of all builds, and finds what was built already.
///
/// # Errors
/// All problems at once.
pub(super) fn all(
    matrix: &Matrix,
    builds: Vec<MatrixBuild>,
    layers: &Layers,
) -> Result<Vec<Checked>> {
    let directory = matrix.directory();
    let file = matrix.config.as_ref().map(|config| FileLayer::read(&directory.join(config)));
    let base = Layers { file: file.transpose()?, base: Some(directory), ..layers.clone() };
    let mut checker = Checker {
        loader: build::loader(&base.resolve(&rows_for(Use::Selection))?, &layers.environment)?,
        plugins: BTreeMap::new(),
        problems: Vec::new(),
        base,
    };
    let mut checked = Vec::new();
    for build in builds {
        if let Some(resolved) = checker.build(&build)? {
            let place = resolved.core().publication.artifacts();
            let base = resolved.absolute(place)?;
            let progress = Progress::Waiting;
            let mut one = Checked { build, base, settings: resolved, progress };
            one.look(&layers.environment)?;
            checked.push(one);
        }
    }
    let mut problems = checker.problems;
    problems.dedup_by(|later, first| later.message == first.message);
    if problems.is_empty() { Ok(checked) } else { Err(matrix.error(problems)) }
}

struct Checker {
    base: Layers,
    loader: Loader,
    plugins: BTreeMap<String, Plugin>,
    problems: Vec<Problem>,
}

impl Checker {
    /// Checks a build; `None` when it has a problem.
    fn build(&mut self, build: &MatrixBuild) -> Result<Option<Resolved>> {
        let before = self.problems.len();
        let mut layers = self.base.clone();
        layers
            .command_line
            .extend(build.settings.iter().map(|given| (given.key.clone(), given.text.clone())));
        let first = layers.resolve(&rows_for(Use::Selection))?;
        let Some(name) = first.core().plugins.platform.clone() else {
            let text = format!("build `{}`: {} is not set", build.id, keys::PLATFORM);
            self.problems.push(Problem::new(text).hint("set it in an entry or in `settings`"));
            return Ok(None);
        };
        if !self.plugins.contains_key(&name) {
            let plugin = self.loader.load(&self.loader.search.find(&name)?)?;
            self.plugins.insert(name.clone(), plugin);
        }
        let own = self.plugins.get(&name).map(Plugin::rows).unwrap_or_default();
        let rows = [core_rows(), own].concat();
        for given in &build.settings {
            self.problems.extend(problem(given, &rows, &name));
        }
        if self.problems.len() > before {
            return Ok(None);
        }
        match layers.resolve(&rows) {
            Ok(resolved) => Ok(Some(resolved)),
            Err(error) => {
                let mut found = error.problems;
                if found.is_empty() {
                    let only = Problem::new(error.message);
                    found.push(error.hint.into_iter().fold(only, Problem::hint));
                }
                self.problems.extend(found.into_iter().map(|problem| {
                    let named = Problem::new(format!("build `{}`: {}", build.id, problem.message));
                    problem.hint.into_iter().fold(named, Problem::hint)
                }));
                Ok(None)
            }
        }
    }
}

/// Returns why a setting cannot stand in a matrix.
fn problem(given: &Given, rows: &[Row], provider: &str) -> Option<Problem> {
    let (key, line) = (&given.key, given.line);
    if let Some((_, instead)) = TAKEN.iter().find(|(taken, _)| taken.name() == key) {
        let text = format!("line {line}: {key} cannot be set for a build of a matrix");
        return Some(Problem::new(text).hint(*instead));
    }
    match rows.iter().find(|row| row.key() == key) {
        None => {
            let text = format!("line {line}: {key} is not a setting of builds for `{provider}`");
            let near = unknown::nearest(rows, key).map(|near| format!("did you mean `{near}`?"));
            let help = || format!("`build-image help settings -p {provider}` lists them");
            Some(Problem::new(text).hint(near.unwrap_or_else(help)))
        }
        Some(row) if row.setting.secret => {
            let text =
                format!("line {line}: {key} is a secret, and commands of a matrix are printed");
            let instead =
                "set it in the environment of the jobs, or in the file that `config` names";
            Some(Problem::new(text).hint(instead))
        }
        Some(_) => None,
    }
}

//! Reports unknown arguments and keys, and suggests the closest known one.

use super::args;
use crate::{
    error::{Error, Problem, Result, Stage},
    plugins::{Candidate, Loader},
    report::Reporter,
    settings::{Environment, FileLayer, Origin, PREFIX, Resolved, Row, keys},
};

/// Minimum similarity (Jaro–Winkler) at which a key counts as a typo of another.
const ALIKE: f64 = 0.92;

/// Words that other tools use for commands, and what to write instead.
const COMMANDS: [(&str, &str); 9] = [
    ("build", "leave `build` out: build-image --disk FILE -p PROVIDER"),
    ("create", "leave `create` out: build-image --disk FILE -p PROVIDER"),
    (
        "list",
        "build-image images list -p PROVIDER, build-image runs, or build-image providers list",
    ),
    ("version", "build-image --version"),
    ("validate", "build-image plan --check …"),
    ("delete", "build-image images delete ID -p PROVIDER"),
    ("clean", "build-image gc"),
    ("import", "leave `import` out: build-image --disk FILE -p PROVIDER"),
    ("check", "build-image plan --check …, or build-image doctor"),
];

/// Flags that other tools have, and what to write instead. `PROVIDER` stands for the name of the provider.
const FLAGS: [(&str, &str); 14] = [
    ("--region", "--PROVIDER-region NAME, if the provider has regions"),
    ("--bucket", "--PROVIDER-bucket NAME, if the provider has buckets"),
    ("--verbose", "--log-level debug, and read the log file"),
    ("--debug", "--log-level debug, and read the log file"),
    ("--name", "--cloud-image-name NAME"),
    ("--image-name", "--cloud-image-name NAME"),
    ("--dry-run", "build-image plan …, or build-image plan --check …"),
    ("--force", "images are replaced with --PROVIDER-if-exists replace, if the provider has it"),
    (
        "--overwrite",
        "images are replaced with --PROVIDER-if-exists replace, if the provider has it",
    ),
    (
        "--output",
        "--image-dir DIRECTORY for published images, --output-json-file FILE for the result",
    ),
    ("--input", "--disk FILE, or -i FILE for an installer ISO"),
    ("--image", "--disk FILE"),
    ("--provider", "-p NAME"),
    ("--tag", "--image-tags '[{name: value}]'"),
];

/// Reports an unknown verb.
pub(super) fn verb(arg: &str, rest: &[String]) -> Error {
    let near = super::VERBS.iter().find(|(verb, _)| strsim::jaro_winkler(verb, arg) > 0.8);
    let error = Error::usage(format!("unknown command `{arg}`"));
    if let Some((_, instead)) = COMMANDS.iter().find(|(word, _)| *word == arg) {
        return error.hint(*instead);
    }
    if std::path::Path::new(arg).is_file() {
        let flag = if arg.to_lowercase().ends_with(".iso") { "-i" } else { "--disk" };
        let words = std::iter::once(arg).chain(rest.iter().map(String::as_str));
        return error.hint(format!("build-image {flag} {}", words.collect::<Vec<_>>().join(" ")));
    }
    match near {
        Some((verb, _)) => error.hint(format!("did you mean `build-image {verb}`?")),
        None => error.hint("an ISO is given with -i, a disk image with --disk; see build-image -h"),
    }
}

/// Reports a flag that other tools have; `None` if none of the arguments is one.
pub(super) fn flag(args: &[String]) -> Option<Error> {
    let provider = args::core_texts(args).remove(keys::PLATFORM.name());
    let flags = args.iter().take_while(|arg| *arg != "--");
    let names = flags.filter_map(|arg| arg.split('=').next());
    let (typed, instead) = names.into_iter().find_map(|typed| {
        let long = if typed == "-o" { "--output" } else { typed };
        let (_, instead) = FLAGS.iter().find(|(flag, _)| *flag == long)?;
        Some((typed, instead))
    })?;
    let instead = match provider {
        Some(provider) if !provider.contains(',') => instead.replace("PROVIDER", &provider),
        _ => (*instead).to_owned(),
    };
    Some(Error::usage(format!("unknown flag `{typed}`")).hint(format!("write {instead}")))
}

/// Adds the environment variable that names the provider, if one does: CI systems set variables of such names.
pub(super) fn provider(mut error: Error, settings: &Resolved) -> Error {
    let mut shown = settings.shown();
    let origin = shown.find(|(key, ..)| *key == keys::PLATFORM.name()).map(|(.., origin)| origin);
    if let Some(Origin::Environment(variable)) = origin {
        error
            .causes
            .insert(0, format!("environment variable {variable} names it; -p takes precedence"));
    }
    error
}

/// Warns of environment variables whose names are close to those of settings: `F5_` and a key, or the key of a setting
/// of this build's provider.
pub(super) fn variables(
    environment: &Environment,
    rows: &[Row],
    provider: &str,
    reporter: &Reporter,
) {
    let own = format!("{}_", provider.to_uppercase());
    for name in environment.names() {
        let key = name.strip_prefix(PREFIX).unwrap_or(name);
        let is_meant = name.starts_with(PREFIX) || name.starts_with(&own);
        if !is_meant || rows.iter().any(|row| row.key() == key) {
            continue;
        }
        if let Some(near) = nearest(rows, key) {
            let prefix = if key == name { "" } else { PREFIX };
            let hint = format!("did you mean {prefix}{near}?");
            reporter.warning(&format!("environment variable {name} is not a setting"), Some(&hint));
        }
    }
}

/// Checks the keys of the configuration file that are not settings of this build. A key close to a setting is a typo
/// and an error; a key of another provider is accepted, because one file may serve several platforms; any other key
/// causes a warning, and an error in the entry of a target. Another provider is loaded only when its name begins the key, or when nothing else explains the
/// key.
///
/// # Errors
/// All typos at once.
pub(super) fn keys(
    file: &FileLayer,
    rows: &[Row],
    provider: &str,
    loader: &Loader,
    reporter: &Reporter,
) -> Result<()> {
    let mut others = Others::new(loader, provider);
    let mut problems = Vec::new();
    for (key, entry) in &file.entries {
        if rows.iter().any(|row| row.key() == key) {
            continue;
        }
        let place = format!("{}, line {}", file.path.display(), entry.line);
        if file.own.contains(key) {
            let problem =
                Problem::new(format!("{place}: provider `{provider}` has no setting `{key}`"));
            problems.push(match nearest(rows, key) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint("a target has only settings of its provider and of builds"),
            });
        } else if others.namesake_knows(key) {
            tracing::info!(key, place, "belongs to another provider");
        } else if let Some(near) = nearest(rows, key) {
            problems.push(
                Problem::new(format!("{place}: unknown setting `{key}`"))
                    .hint(format!("did you mean `{near}`?")),
            );
        } else if others.any_knows(key) {
            tracing::info!(key, place, "belongs to another provider");
        } else {
            let text = format!("{place}: `{key}` is not a setting of this build and is ignored");
            reporter.warning(&text, None);
        }
    }
    match problems.len() {
        0 => Ok(()),
        1 => {
            let only = problems.remove(0);
            Err(Error::new(Stage::Settings, only.message).hint(only.hint.unwrap_or_default()))
        }
        count => {
            Err(Error::several(Stage::Settings, format!("{count} unknown settings"), problems))
        }
    }
}

/// Returns the closest known setting (typo).
pub(super) fn nearest<'a>(rows: &'a [Row], key: &str) -> Option<&'a str> {
    let likeness = |row: &&Row| strsim::jaro_winkler(row.key(), key);
    let alike =
        |row: &&Row| likeness(row) >= ALIKE && strsim::damerau_levenshtein(row.key(), key) <= 3;
    let best = rows.iter().filter(alike).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.map(Row::key)
}

/// Returns the closest of some words to a word that is none of them.
pub(super) fn nearest_word<'a>(
    words: impl Iterator<Item = &'a str>,
    typed: &str,
) -> Option<&'a str> {
    let alike = words.map(|word| (strsim::jaro_winkler(word, typed), word));
    let alike = alike.filter(|(likeness, _)| *likeness > 0.8);
    alike.max_by(|one, two| one.0.total_cmp(&two.0)).map(|(_, word)| word)
}

/// The providers that this build does not use. Each is queried on first use, in a separate process: a plugin that
/// this build does not use must not be able to end it.
struct Others<'a> {
    loader: &'a Loader,
    providers: Vec<(Candidate, Option<Vec<Row>>)>,
}

impl<'a> Others<'a> {
    fn new(loader: &'a Loader, provider: &str) -> Self {
        let mut candidates = loader.search.all();
        candidates.dedup_by(|later, first| later.name == first.name);
        candidates.retain(|candidate| candidate.name != provider);
        Self {
            loader,
            providers: candidates.into_iter().map(|candidate| (candidate, None)).collect(),
        }
    }

    /// Returns whether the provider whose name begins the key has such a setting.
    fn namesake_knows(&mut self, key: &str) -> bool {
        self.knows(key, |name| key.starts_with(&format!("{}_", name.to_uppercase())))
    }

    /// Returns whether any provider that loads has such a setting.
    fn any_knows(&mut self, key: &str) -> bool {
        self.knows(key, |_| true)
    }

    fn knows(&mut self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let mut matching =
            self.providers.iter_mut().filter(|(candidate, _)| matches(&candidate.name));
        matching.any(|(candidate, rows)| {
            let load =
                || self.loader.ask(candidate).map(|plugin| plugin.rows()).unwrap_or_default();
            rows.get_or_insert_with(load).iter().any(|row| row.key() == key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::core_rows;

    #[test]
    fn typos_are_distinguished_from_keys_of_other_providers() {
        let rows = core_rows();
        assert_eq!(nearest(&rows, "IMAGE_DRI"), Some("IMAGE_DIR"));
        assert_eq!(nearest(&rows, "BOOT_LOCATION"), Some("BOOT_LOCATIONS"));
        for foreign in ["OTHER_BUCKET", "SOMEBODYS_CREDENTIALS", "FOO"] {
            assert_eq!(nearest(&rows, foreign), None, "{foreign}");
        }
    }
}

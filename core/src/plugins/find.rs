//! Finds the file that holds a provider. The first match wins; the working directory is never searched. In one
//! directory, a library takes precedence over a program.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{PLUGIN_FILE_PREFIX, PLUGIN_FILE_SUFFIX, plugin_file_name};

use crate::{
    error::{Error, Result, Stage},
    settings::Environment,
};

/// Directory below a library directory, ending in the ABI's major number.
const SUBFOLDER: &str = "build-image/providers/1";
/// Prefix of every program's file name; only the provider's name follows.
const PROGRAM_PREFIX: &str = "build-image-provider-";
/// Longest name of a provider, in bytes: file names have at most 255.
const LONGEST_NAME: usize = 100;
/// Environment variable with additional directories, separated by `:`; only absolute ones are used.
const PATH_VARIABLE: &str = "BUILD_IMAGE_PROVIDER_PATH";

/// Directories that are searched, in order.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    directories: Vec<PathBuf>,
    file: Option<PathBuf>,
}

/// What kind of file holds a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A dynamic library that exports the plugin ABI.
    Library,
    /// A program in any language that speaks the `exec` protocol.
    Program,
}

impl FileKind {
    /// The name of the kind in documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Program => "program",
        }
    }

    /// The file name of provider `name`.
    #[must_use]
    pub fn file_name(self, name: &str) -> String {
        match self {
            Self::Library => plugin_file_name(name),
            Self::Program => format!("{PROGRAM_PREFIX}{name}"),
        }
    }

    /// The kind of a file that the user named: the names of libraries end in `.so`, optionally followed by a
    /// version.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(PLUGIN_FILE_SUFFIX) || name.contains(&format!("{PLUGIN_FILE_SUFFIX}.")) {
            Self::Library
        } else {
            Self::Program
        }
    }
}

/// A file that may hold a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the provider, taken from the file's name.
    pub name: String,
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Kind of the file.
    pub kind: FileKind,
}

impl Candidate {
    /// A candidate for a file that the user named.
    #[must_use]
    pub fn named(name: &str, file: &Path) -> Self {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Self { name: name.to_owned(), kind: FileKind::of(&path), path }
    }
}

impl SearchPath {
    /// The search path of this process.
    #[must_use]
    pub fn new(
        environment: &Environment,
        directory: Option<PathBuf>,
        file: Option<PathBuf>,
        executable: Option<&Path>,
    ) -> Self {
        let mut directories: Vec<PathBuf> = directory.into_iter().collect();
        // With rights that the caller does not have, the caller's environment is ignored.
        if !has_more_rights_than_its_caller() {
            if let Some(list) = environment.get(PATH_VARIABLE) {
                let listed = list.split(':').map(PathBuf::from);
                directories.extend(listed.filter(|directory| directory.is_absolute()));
            }
            directories.extend(user_directory(environment));
        }
        if let Some(beside) = executable.and_then(Path::parent) {
            directories.extend(beside.parent().map(|prefix| prefix.join("lib").join(SUBFOLDER)));
            // In a build tree, plugins are beside the program.
            directories.push(beside.to_owned());
        }
        directories.push(Path::new("/usr/lib").join(SUBFOLDER));
        let directories =
            directories.iter().filter_map(|directory| std::path::absolute(directory).ok());
        let mut seen = BTreeSet::new();
        let directories = directories.filter(|directory| seen.insert(directory.clone())).collect();
        Self { directories, file }
    }

    /// Finds the file of a provider.
    ///
    /// # Errors
    /// When no file is found: lists the providers that were found and the directories that were searched.
    pub fn find(&self, name: &str) -> Result<Candidate> {
        if let Some(file) = &self.file {
            return Ok(Candidate::named(name, file));
        }
        let both = [FileKind::Library, FileKind::Program];
        let candidates = self.directories.iter().flat_map(|directory| {
            both.map(|kind| {
                let path = directory.join(kind.file_name(name));
                Candidate { name: name.to_owned(), path, kind }
            })
        });
        let mut found = candidates.filter(|candidate| may_hold_a_plugin(&candidate.path));
        found.next().ok_or_else(|| self.none(name))
    }

    /// All candidates. For each name, the file that is used comes first; the files that it hides follow.
    #[must_use]
    pub fn all(&self) -> Vec<Candidate> {
        let mut found: Vec<Candidate> =
            self.directories.iter().flat_map(|directory| in_directory(directory)).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The searched directories, in order.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    fn none(&self, name: &str) -> Error {
        let mut names: Vec<String> =
            self.all().into_iter().map(|candidate| candidate.name).collect();
        names.dedup();
        let looked: Vec<String> =
            self.directories.iter().map(|directory| directory.display().to_string()).collect();
        let found = if names.is_empty() {
            "no provider was found".to_owned()
        } else {
            format!("found: {}", names.join(", "))
        };
        let mut error = Error::new(Stage::Plugin, format!("unknown provider `{name}`"));
        error.causes = vec![
            found,
            format!(
                "looked for `{}` and `{}` in: {}",
                FileKind::Library.file_name(name),
                FileKind::Program.file_name(name),
                looked.join(", ")
            ),
        ];
        let near = names.iter().find(|other| strsim::jaro_winkler(other, name) > 0.8);
        error.hint(match near {
            Some(near) => format!("did you mean `-p {near}`?"),
            None => "install it with `build-image providers install`, or name its directory with --provider-dir".to_owned(),
        })
    }
}

fn in_directory(directory: &Path) -> Vec<Candidate> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<Candidate> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let (name, kind) =
                plugin_of_file_name(&file).filter(|_| may_hold_a_plugin(&entry.path()))?;
            Some(Candidate { name: name.to_owned(), path: entry.path(), kind })
        })
        .collect();
    found.sort_by(|a, b| (&a.name, a.kind as u8).cmp(&(&b.name, b.kind as u8)));
    found
}

/// Returns whether the path may hold a plugin, so that it is refused when it does not. A directory is ignored:
/// it may be a source tree, and must not hide a plugin of that name in a later directory.
fn may_hold_a_plugin(path: &Path) -> bool {
    path.symlink_metadata().is_ok() && !path.is_dir()
}

/// Returns the provider that a file name stands for. A program's prefix followed by something that is not a
/// provider name belongs to a provider's companion file (`….sha256`) or to an unrelated program.
pub(crate) fn plugin_of_file_name(file: &str) -> Option<(&str, FileKind)> {
    if let Some(rest) = file.strip_prefix(PLUGIN_FILE_PREFIX) {
        return Some((rest.strip_suffix(PLUGIN_FILE_SUFFIX)?, FileKind::Library));
    }
    let name = file.strip_prefix(PROGRAM_PREFIX)?;
    is_provider_name(name).then_some((name, FileKind::Program))
}

/// Returns whether a text is the name of a provider: it becomes part of file names.
pub(crate) fn is_provider_name(name: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.starts_with(|letter: char| letter.is_ascii_lowercase())
        && name.chars().all(|letter| legal(letter) || letter == '_')
        && name.len() <= LONGEST_NAME
}

/// Returns the directory of this user's data; `None` when it is unknown, or when the program runs with rights that its
/// caller does not have.
pub(crate) fn data_directory(environment: &Environment) -> Option<PathBuf> {
    if has_more_rights_than_its_caller() {
        return None;
    }
    let data = environment.get("XDG_DATA_HOME").filter(|text| text.starts_with('/'));
    let home = || Some(Path::new(environment.get("HOME")?).join(".local/share"));
    data.map(PathBuf::from).or_else(home)
}

/// Returns the directory of this user's plugins.
pub(crate) fn user_directory(environment: &Environment) -> Option<PathBuf> {
    data_directory(environment).map(|data| data.join(SUBFOLDER))
}

/// Returns whether this program runs with rights that its caller does not have (set-user-id and the like).
///
/// Source: getauxval(3), entry `AT_SECURE`; the vector is pairs of machine words.
pub(super) fn has_more_rights_than_its_caller() -> bool {
    const AT_SECURE: usize = 23;
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or_default();
    let size = size_of::<usize>();
    vector
        .chunks_exact(2 * size)
        .any(|pair| word(&pair[..size]) == AT_SECURE && word(&pair[size..]) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_provider_lists_those_found_and_the_directories() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(plugin_file_name("acme")), "").unwrap();
        let path =
            SearchPath::new(&Environment::default(), Some(directory.path().to_owned()), None, None);
        let error = path.find("acmee").unwrap_err();
        assert!(error.causes[0].contains("acme"), "{:?}", error.causes);
        assert!(error.causes[1].contains(&directory.path().display().to_string()));
        assert_eq!(error.hint.as_deref(), Some("did you mean `-p acme`?"));
    }

    #[test]
    fn the_first_directory_wins_and_the_working_directory_is_never_searched() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&first, &second] {
            std::fs::write(directory.path().join(plugin_file_name("acme")), "").unwrap();
        }
        let list = format!("{}::relative:.", second.path().display());
        let environment = Environment::of([(PATH_VARIABLE, list.as_str())]);
        let path = SearchPath::new(&environment, Some(first.path().to_owned()), None, None);
        assert_eq!(path.find("acme").unwrap().path, first.path().join(plugin_file_name("acme")));
        let here = std::env::current_dir().unwrap();
        assert!(!path.directories().contains(&here));
        assert!(path.directories().iter().all(|directory| !directory.starts_with(&here)));
        assert_eq!(path.all().len(), 2);
    }

    #[test]
    fn a_directory_with_a_plugins_name_hides_no_plugin() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in ["build-image-provider-acme", &plugin_file_name("acme")] {
            std::fs::create_dir(first.path().join(file)).unwrap();
        }
        let real = second.path().join("build-image-provider-acme");
        std::fs::write(&real, "").unwrap();
        let environment =
            Environment::of([(PATH_VARIABLE, second.path().to_str().unwrap_or_default())]);
        let path = SearchPath::new(&environment, Some(first.path().to_owned()), None, None);
        assert_eq!(path.find("acme").unwrap().path, real);
        assert_eq!(path.all().len(), 1);
    }

    #[test]
    fn libraries_come_before_programs_and_other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for file in [
            "build-image-provider-acme",
            "build-image-provider-acme.sha256",
            "build-image-provider-Acme",
            "build-image-provider-",
            "libbuild_image_provider_acme.so",
            "libbuild_image_provider_acme.so.sha256",
            "build-image-provider-zeta",
        ] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        let path =
            SearchPath::new(&Environment::default(), Some(directory.path().to_owned()), None, None);
        let all: Vec<(String, FileKind)> =
            path.all().into_iter().map(|found| (found.name, found.kind)).collect();
        let found = |name: &str, kind| (name.to_owned(), kind);
        assert_eq!(
            all,
            [
                found("acme", FileKind::Library),
                found("acme", FileKind::Program),
                found("zeta", FileKind::Program)
            ]
        );
        assert_eq!(path.find("acme").unwrap().kind, FileKind::Library);
        assert_eq!(path.find("zeta").unwrap().kind, FileKind::Program);
    }
}

//! Which file holds which provider. First hit wins; never the working directory.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{PLUGIN_FILE_PREFIX, PLUGIN_FILE_SUFFIX, plugin_file_name};

use crate::{
    error::{Error, Result, Stage},
    settings::Environment,
};

/// Folder below a library folder, ending in the ABI's major number.
const SUBFOLDER: &str = "build-image/providers/1";
/// Variable with more folders, `:` between them.
const PATH_VARIABLE: &str = "BUILD_IMAGE_PROVIDER_PATH";

/// Folders that are searched, in order.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    folders: Vec<PathBuf>,
    file: Option<PathBuf>,
}

/// A file that may hold a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the provider, from the file's name.
    pub name: String,
    /// The file, absolute.
    pub path: PathBuf,
}

impl SearchPath {
    /// The search path of this process.
    #[must_use]
    pub fn new(
        environment: &Environment,
        folder: Option<PathBuf>,
        file: Option<PathBuf>,
        executable: Option<&Path>,
    ) -> Self {
        let mut folders: Vec<PathBuf> = folder.into_iter().collect();
        if let Some(list) = environment.get(PATH_VARIABLE) {
            folders.extend(list.split(':').filter(|part| !part.is_empty()).map(PathBuf::from));
        }
        let data = environment.get("XDG_DATA_HOME").map(PathBuf::from);
        let data =
            data.or_else(|| Some(PathBuf::from(environment.get("HOME")?).join(".local/share")));
        folders.extend(data.map(|data| data.join(SUBFOLDER)));
        if let Some(beside) = executable.and_then(Path::parent) {
            folders.extend(beside.parent().map(|prefix| prefix.join("lib").join(SUBFOLDER)));
            // A build tree: plugins lie beside the program.
            folders.push(beside.to_owned());
        }
        folders.push(Path::new("/usr/lib").join(SUBFOLDER));
        let folders = folders.iter().filter_map(|folder| std::path::absolute(folder).ok());
        let mut seen = BTreeSet::new();
        let folders = folders.filter(|folder| seen.insert(folder.clone())).collect();
        Self { folders, file }
    }

    /// The file of a provider.
    ///
    /// # Errors
    /// When there is none: lists what was found and where it was looked for.
    pub fn find(&self, name: &str) -> Result<Candidate> {
        if let Some(file) = &self.file {
            let path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            return Ok(Candidate { name: name.to_owned(), path });
        }
        let file = plugin_file_name(name);
        let paths = self.folders.iter().map(|folder| folder.join(&file));
        let hit = paths.into_iter().find(|path| path.symlink_metadata().is_ok());
        hit.map(|path| Candidate { name: name.to_owned(), path }).ok_or_else(|| self.none(name))
    }

    /// All candidates, the one that wins first for each name; shadowed ones follow.
    #[must_use]
    pub fn all(&self) -> Vec<Candidate> {
        let mut found: Vec<Candidate> =
            self.folders.iter().flat_map(|folder| in_folder(folder)).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The folders, in order.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    fn none(&self, name: &str) -> Error {
        let mut names: Vec<String> =
            self.all().into_iter().map(|candidate| candidate.name).collect();
        names.dedup();
        let looked: Vec<String> =
            self.folders.iter().map(|folder| folder.display().to_string()).collect();
        let found = if names.is_empty() {
            "no provider was found".to_owned()
        } else {
            format!("found: {}", names.join(", "))
        };
        let mut error = Error::new(Stage::Plugin, format!("there is no provider `{name}`"));
        error.causes = vec![
            found,
            format!("looked for `{}` in: {}", plugin_file_name(name), looked.join(", ")),
        ];
        let near = names.iter().find(|known| strsim::jaro_winkler(known, name) > 0.8);
        error.hint(match near {
            Some(near) => format!("did you mean `-p {near}`?"),
            None => "copy the provider's plugin into one of these folders, or name its folder with --provider-dir".to_owned(),
        })
    }
}

fn in_folder(folder: &Path) -> Vec<Candidate> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<Candidate> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let name = file.strip_prefix(PLUGIN_FILE_PREFIX)?.strip_suffix(PLUGIN_FILE_SUFFIX)?;
            Some(Candidate { name: name.to_owned(), path: entry.path() })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_provider_lists_those_found_and_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(plugin_file_name("acme")), "").unwrap();
        let path =
            SearchPath::new(&Environment::default(), Some(folder.path().to_owned()), None, None);
        let error = path.find("acmee").unwrap_err();
        assert!(error.causes[0].contains("acme"), "{:?}", error.causes);
        assert!(error.causes[1].contains(&folder.path().display().to_string()));
        assert_eq!(error.hint.as_deref(), Some("did you mean `-p acme`?"));
    }

    #[test]
    fn the_first_folder_wins_and_the_working_directory_is_never_searched() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&first, &second] {
            std::fs::write(folder.path().join(plugin_file_name("acme")), "").unwrap();
        }
        let list = format!("{}::", second.path().display());
        let environment = Environment::of([(PATH_VARIABLE, list.as_str())]);
        let path = SearchPath::new(&environment, Some(first.path().to_owned()), None, None);
        assert_eq!(path.find("acme").unwrap().path, first.path().join(plugin_file_name("acme")));
        let here = std::env::current_dir().unwrap();
        assert!(!path.folders().contains(&here));
        assert_eq!(path.all().len(), 2);
    }
}

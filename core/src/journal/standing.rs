//! Decides whether a journal is trusted. `gc` removes the resources it names, with the user's credentials, and
//! `resume` starts the programs it names: a journal that another user could have written must not be sufficient for
//! that.

use std::{ffi::OsStr, fs::File, path::Path};

use super::{Entry, FILE, Key, Seal};
use crate::{
    error::{Error, Stage},
    settings::keys::JOURNAL_KEY_FILE,
    trust::{doubt_of_file, doubt_of_resolved, resolve_path},
};

/// The trust in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This user wrote it, and no other user could have changed it.
    Trusted,
    /// Another user may have written it.
    Untrusted {
        /// The reason; a clause.
        reason: String,
        /// Whether its content cannot change after the user has inspected it.
        adoptable: bool,
    },
}

/// Returns why others could have changed an open journal: the file, or a directory or link on its path.
pub(super) fn doubt(path: &Path, file: &File) -> Option<String> {
    let found = resolve_path(path).and_then(|resolved| match doubt_of_resolved(&resolved)? {
        None => doubt_of_file(file, path),
        some => Ok(some),
    });
    match found {
        Ok(doubt) => doubt.map(|doubt| doubt.to_string()),
        Err(error) => Some(format!("`{}` cannot be examined: {error}", path.display())),
    }
}

pub(super) fn of(
    path: &Path,
    entries: &[Entry],
    seal: Option<&Seal>,
    doubt: Option<&str>,
    key: &Key,
) -> Standing {
    let unsigned = seal.and_then(|seal| seal.doubt(key)).or_else(|| misplaced(path, entries));
    match (doubt, unsigned) {
        (None, None) => Standing::Trusted,
        // Its last line authenticates it, whoever can write there: the content that the user inspects is the content
        // that is used.
        (Some(doubt), None) => Standing::Untrusted { reason: doubt.to_owned(), adoptable: true },
        (None, Some(reason)) => Standing::Untrusted { reason, adoptable: true },
        (Some(doubt), Some(_)) => {
            Standing::Untrusted { reason: doubt.to_owned(), adoptable: false }
        }
    }
}

/// Checks that the run of a journal has the name of its directory; returns the mismatch.
fn misplaced(path: &Path, entries: &[Entry]) -> Option<String> {
    let started = entries.iter().find_map(|entry| match entry {
        Entry::RunStarted { run_id: id, .. } | Entry::GroupStarted { group: id, .. } => Some(id),
        _ => None,
    })?;
    let name = path.parent().and_then(Path::file_name);
    (name != Some(OsStr::new(started))).then(|| format!("it is the journal of run `{started}`"))
}

/// Returns the error for the journal of an untrusted run.
pub(crate) fn untrusted_error(directory: &Path, reason: &str) -> Error {
    let name = directory.file_name().unwrap_or_default().display();
    let text = format!("the journal `{}` is not trusted", directory.join(FILE).display());
    let mut error = Error::new(Stage::Settings, text);
    error.causes = vec![reason.to_owned()];
    error.hint(format!(
        "build-image gc --adopt {name} shows what it says and would remove; adopt a run only when you know where it \
         comes from"
    ))
}

/// Returns the error for a journal that cannot be signed.
pub(super) fn cannot_sign(path: &Path, why: &str) -> Error {
    let text = format!("the journal `{}` cannot be adopted", path.display());
    let mut error = Error::new(Stage::Settings, text);
    error.causes = vec![why.to_owned()];
    error.hint(format!("set {JOURNAL_KEY_FILE} to a file that only this user may read"))
}

/// Returns the error for a journal that others can change after the user has inspected it.
pub(super) fn cannot_adopt(path: &Path, reason: &str) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    let text = format!("the journal `{}` cannot be adopted", path.display());
    let mut error = Error::new(Stage::Settings, text);
    error.causes = vec![reason.to_owned()];
    error.hint(format!(
        "others may change it after you have looked at it; copy `{directory}` to a directory that only you may write to"
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

    use build_image_plugin_api::document::Build;

    use super::*;
    use crate::journal::Journal;

    fn key(seed: u8) -> Arc<Key> {
        Arc::new(Key::of_bytes(&[seed; 32]))
    }

    fn started(run: &str) -> Entry {
        Entry::RunStarted {
            run_id: run.to_owned(),
            tool: String::new(),
            platform: "acme".to_owned(),
            plugin: String::new(),
            sha256: String::new(),
            settings: serde_json::Value::Null,
            words: Vec::new(),
            working_directory: String::new(),
            shape: std::collections::BTreeMap::new(),
            provisional: false,
            build: Box::<Build>::default(),
            artifacts: None,
            host: None,
            group: None,
        }
    }

    /// Creates a run with some lines.
    fn run(base: &Path, name: &str, key: &Arc<Key>) -> PathBuf {
        let directory = base.join(name);
        let mut journal = Journal::open(&directory, key).unwrap();
        journal.append(started(name)).unwrap();
        for step in ["check", "upload", "register"] {
            journal.append(Entry::StepStarted { step: step.to_owned() }).unwrap();
        }
        directory
    }

    fn reason(directory: &Path, key: &Arc<Key>) -> Option<String> {
        let opened = Journal::open(directory, key).err().map(|error| error.causes.join(": "));
        match Journal::snapshot(directory).unwrap().standing(key) {
            Standing::Trusted => {
                assert!(opened.is_none(), "{opened:?}");
                None
            }
            Standing::Untrusted { reason, .. } => {
                assert_eq!(opened.as_ref(), Some(&reason));
                Some(reason)
            }
        }
    }

    #[test]
    fn lines_of_another_key_order_or_run_are_not_trusted() {
        let base = tempfile::tempdir().unwrap();
        let directory = run(base.path(), "a", &key(1));
        assert_eq!(reason(&directory, &key(1)), None);
        assert!(
            reason(&directory, &key(2)).unwrap().contains("not signed with the key of this user")
        );
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let other = fs::read_to_string(run(base.path(), "b", &key(1)).join(FILE)).unwrap();
        let others: Vec<&str> = other.lines().collect();
        for (changed, why) in [
            (vec![lines[0], lines[2], lines[1], lines[3]], "reordered"),
            (vec![lines[0], lines[1], lines[3]], "one left out"),
            (vec![lines[0], lines[1], lines[2], lines[3], lines[3]], "one twice"),
            (vec![lines[0], others[1], others[2], others[3]], "of another run"),
            (vec![others[0], lines[1], lines[2], lines[3]], "begun by another run"),
            (others.clone(), "another run's journal"),
            (vec![lines[1], lines[2], lines[3]], "without its first"),
        ] {
            fs::write(&path, changed.join("\n") + "\n").unwrap();
            assert!(reason(&directory, &key(1)).is_some(), "{why}");
        }
        // The checksums of all lines are correct throughout; a torn line does not affect the trust.
        fs::write(&path, format!("{text}{}", &lines[1][..9])).unwrap();
        assert_eq!(reason(&directory, &key(1)), None);
    }

    #[test]
    fn an_adopted_journal_is_trusted_as_it_was_when_it_was_adopted() {
        let base = tempfile::tempdir().unwrap();
        let directory = run(base.path(), "a", &key(1));
        drop(Journal::adopt(&directory, &key(2)).unwrap());
        assert_eq!(reason(&directory, &key(2)), None);
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("upload", "delete", 1)).unwrap();
        assert!(Journal::snapshot(&directory).unwrap().standing(&key(2)) != Standing::Trusted);
        fs::write(&path, text.lines().rev().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
        assert!(Journal::snapshot(&directory).unwrap().standing(&key(2)) != Standing::Trusted);
    }

    #[test]
    fn a_signed_journal_is_not_trusted_in_a_directory_that_others_may_write_to() {
        let base = tempfile::tempdir().unwrap();
        let directory = run(base.path(), "a", &key(1));
        let open = fs::Permissions::from_mode(0o777);
        for object in [base.path(), &directory, &directory.join(FILE)] {
            let before = fs::metadata(object).unwrap().permissions();
            fs::set_permissions(object, open.clone()).unwrap();
            let why = reason(&directory, &key(1)).unwrap();
            assert!(why.contains("may be written by everybody"), "{}: {why}", object.display());
            // Signed by this user: the inspected content is what is used. Signed by another: it may change meanwhile.
            drop(Journal::adopt(&directory, &key(1)).unwrap());
            let error = Journal::adopt(&directory, &key(2)).unwrap_err();
            assert!(error.message.contains("cannot be adopted"), "{error}");
            fs::set_permissions(object, before).unwrap();
        }
        assert_eq!(reason(&directory, &key(1)), None);
    }
}

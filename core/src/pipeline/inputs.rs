//! Records the files that a build is made from when they are used, so that a later process of the run detects that
//! they have changed.

use std::path::Path;

use build_image_disk::FileStamp;
use serde_json::{Value, json};

use super::{Pipeline, state::State};
use crate::{
    error::{Error, Result, Stage},
    journal::Entry,
    plan::Source,
    signature::FileDigest,
    source::GivenDisk,
};

/// Member of the facts of a step: the files it used, as an object of path and stamp.
pub(super) const INPUTS: &str = "inputs";
/// Member of the facts of the step that reads a disk from a pipe: the SHA-256 of what was read.
const PIPED: &str = "piped";

impl Pipeline<'_> {
    /// Returns the ISOs and injected files of an installation: files whose checksum is known with their stamps from
    /// when it was computed, the others with their current stamps. Files that are downloaded for it are new each
    /// time; directories are not examined.
    pub(super) fn installed_inputs(&self) -> Value {
        let Some(installation) = &self.plan.installation else { return Value::Null };
        let isos = installation.isos();
        let isos = isos.map(|(_, path, digest)| (path, digest.map(FileDigest::stamp)));
        let local = installation.files.iter().filter(|file| file.url.is_none());
        let local = local.map(|file| file.source.as_path()).filter(|path| path.is_file());
        let files: Vec<_> = isos.chain(local.map(|path| (path, None))).collect();
        stamps(files)
    }

    /// Returns the files of a given disk, with their stamps from when they were opened; of a disk from a pipe, its
    /// digest.
    pub(super) fn disk_inputs(&self) -> Value {
        let Some(disk) = &self.plan.disk else { return Value::Null };
        if let Some(sha256) = &disk.piped {
            return json!({disk.path.to_string_lossy(): format!("sha256:{sha256}")});
        }
        stamps(disk.files().map(|(path, stamp)| (path, Some(stamp))))
    }

    /// Compares a disk from a pipe with the one that an earlier process of the run read. Returns the facts that the next
    /// process compares with.
    ///
    /// # Errors
    /// When another disk arrived.
    pub(super) fn same_pipe(&self, source: &Source) -> Result<Value> {
        let Source::Disk(GivenDisk { piped: Some(sha256), .. }) = source else {
            return Ok(Value::Null);
        };
        let before = self.host.step_done(State::Fetched.step());
        let before = before.as_ref().and_then(|facts| facts.get(PIPED)?.as_str());
        match before.filter(|before| before != sha256) {
            None => Ok(json!({PIPED: sha256})),
            Some(before) => {
                let id = &self.plan.build.run_id;
                let text = format!(
                    "standard input does not hold the disk that run `{id}` was started with"
                );
                let mut error = Error::new(Stage::Source, text)
                    .hint("pipe the same bytes again, or start a new build");
                error.context = vec![
                    ("expected".to_owned(), before.to_owned()),
                    ("found".to_owned(), sha256.clone()),
                ];
                Err(error)
            }
        }
    }

    /// Fails when a file differs from the one that the image was made from.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn inputs_are_those_of_the_image(&self) -> Result<()> {
        let entries = self.host.entries();
        for (step, now) in [
            (State::Installed.step(), self.installed_inputs()),
            (State::Converted.step(), self.disk_inputs()),
        ] {
            let used = of_image(&entries, step).and_then(|facts| facts.get(INPUTS));
            let now = now.as_object().cloned().unwrap_or_default();
            let Some(used) = used.and_then(Value::as_object) else { continue };
            if let Some((path, _)) = now.iter().find(|(path, stamp)| used.get(*path) != Some(stamp))
            {
                let text = format!("`{path}` changed since the image was made from it");
                return Err(Error::new(Stage::Source, text)
                    .hint("leave PROVENANCE_FILE out, or build again"));
            }
        }
        Ok(())
    }
}

/// Returns the facts of the last attempt of a step whose result became the image.
pub(super) fn of_image<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Value> {
    let done =
        |entry: &Entry, step: &str| matches!(entry, Entry::StepDone { step: is, .. } if is == step);
    let registered = entries.iter().rposition(|entry| done(entry, State::Registered.step()));
    let until = &entries[..registered.unwrap_or(entries.len())];
    until.iter().rev().find_map(|entry| match entry {
        Entry::StepDone { step, facts } if step == name => Some(facts),
        _ => None,
    })
}

fn stamps<'a>(files: impl IntoIterator<Item = (&'a Path, Option<FileStamp>)>) -> Value {
    let text = |(path, stamp_at_opening): (&Path, Option<FileStamp>)| {
        let stamp = stamp_at_opening.or_else(|| FileStamp::at(path).ok());
        (path.display().to_string(), json!(stamp.map(|stamp| stamp.text())))
    };
    Value::Object(files.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_written_file_and_another_one_have_other_stamps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::write(&path, "one").unwrap();
        let of = || stamps([(path.as_path(), None)]);
        let before = of();
        assert_eq!(before, of());
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(directory.path().join("other"), "two").unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(before, of());
        fs::remove_file(&path).unwrap();
        assert_eq!(of().as_object().unwrap().values().next(), Some(&Value::Null));
    }

    #[test]
    fn the_last_attempt_before_the_registration_counts() {
        let done = |step: &str, facts: Value| Entry::StepDone { step: step.to_owned(), facts };
        let entries = [
            done("disk", json!("first")),
            done("disk", json!("second")),
            done("register", Value::Null),
            done("disk", json!("third")),
        ];
        assert_eq!(of_image(&entries, "disk"), Some(&json!("second")));
        assert_eq!(of_image(&entries[..1], "disk"), Some(&json!("first")));
        assert_eq!(of_image(&entries, "install"), None);
    }
}

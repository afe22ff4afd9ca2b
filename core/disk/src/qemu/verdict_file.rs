//! Remembers the verdict of the probe guests about kvm on this host. A verdict is valid until the host boots
//! again or another qemu is used, and saves seconds on every start. If anything about the file is unexpected
//! (permissions, owner, content, age of its facts), it is ignored.

use std::fs::{self, DirBuilder, Metadata};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use build_image_files::AtomicFile;

use super::Qemu;

/// A value that changes with every boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Its number grows with the probe guest, so that the verdict of a lesser one is not used.
const FIRST_LINE: &str = "build-image kvm verdict 2";
/// How long a negative verdict is valid: a host that was overloaded during the probe must not be slow until
/// its next boot. Probing needs seconds, working without kvm costs many minutes.
const NO_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum length of the file in bytes.
const LIMIT: u64 = 16 << 10;

/// A file in a private directory of the user.
#[derive(Clone, Debug)]
pub struct VerdictFile {
    directory: PathBuf,
}

/// A verdict and its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The result of the last probe guest, or the reason why kvm is not trusted.
    pub(super) proven: Result<String, String>,
    pub(super) age: Duration,
}

impl VerdictFile {
    /// Keeps the file in this directory, which is created when it is needed.
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("kvm-verdict")
    }

    pub(super) fn recall(&self, qemu: &Qemu) -> Option<Remembered> {
        let key = key(qemu)?;
        let file = self.file();
        let metadata = fs::symlink_metadata(&file).ok()?;
        let private = is_private(&fs::metadata(&self.directory).ok()?) && is_private(&metadata);
        if !private || !metadata.is_file() || metadata.len() > LIMIT {
            return None;
        }
        let age = metadata.modified().ok()?.elapsed().ok()?;
        let text = fs::read_to_string(&file).ok()?;
        let verdict = text.strip_prefix(&key)?;
        let proven = match verdict.trim_end().split_once(' ')? {
            ("works", reason) => Ok(reason.to_owned()),
            ("fails", reason) if age < NO_LASTS => Err(reason.to_owned()),
            _ => return None,
        };
        Some(Remembered { proven, age })
    }

    /// Stores a verdict. Best effort: if it fails, the next start probes again.
    pub(super) fn store(&self, qemu: &Qemu, proven: Result<&str, &str>) {
        let Some(key) = key(qemu) else { return };
        let (word, reason) = match proven {
            Ok(reason) => ("works", reason),
            Err(reason) => ("fails", reason),
        };
        let line = reason.replace('\n', " ");
        if let Err(error) = self.write(&format!("{key}{word} {line}\n")) {
            tracing::debug!(directory = %self.directory.display(), %error, "verdict not remembered");
        }
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut file = AtomicFile::with_mode(&self.file(), 0o600)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    }

    /// Removes the verdict, so that the next start probes.
    pub(super) fn forget(&self) {
        // A missing file is not an error.
        let _ = fs::remove_file(self.file());
    }
}

/// Returns what a verdict depends on: this boot of this host, and this qemu program.
fn key(qemu: &Qemu) -> Option<String> {
    let boot = fs::read_to_string(BOOT_ID).ok()?;
    let program = fs::canonicalize(qemu.path()).ok()?;
    let metadata = fs::metadata(&program).ok()?;
    let changed = (metadata.mtime(), metadata.mtime_nsec(), metadata.len());
    let boot = boot.trim();
    Some(format!("{FIRST_LINE}\n{boot}\n{program:?} {changed:?}\n{:?}\n", qemu.version()))
}

/// Returns whether only this user can have written the file.
fn is_private(metadata: &Metadata) -> bool {
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    own && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::qemu::tests::scripted;

    #[test]
    fn a_verdict_is_remembered_for_one_qemu_only() {
        let directory = tempfile::tempdir().unwrap();
        let verdicts = VerdictFile::in_directory(&directory.path().join("new/build-image"));
        let qemu = scripted(directory.path(), "exit 0");
        assert_eq!(verdicts.recall(&qemu), None);
        verdicts.store(&qemu, Err("a probe guest\nhangs"));
        let found = verdicts.recall(&qemu).unwrap();
        assert_eq!(found.proven, Err("a probe guest hangs".to_owned()));
        verdicts.store(&qemu, Ok("3 came back"));
        assert_eq!(verdicts.recall(&qemu).unwrap().proven, Ok("3 came back".to_owned()));
        let yesterday = std::time::SystemTime::now() - NO_LASTS;
        let file = fs::File::options().write(true).open(verdicts.file()).unwrap();
        file.set_modified(yesterday).unwrap();
        assert!(verdicts.recall(&qemu).is_some(), "a yes lasts");
        verdicts.store(&qemu, Err("it hung"));
        assert!(verdicts.recall(&qemu).is_some());
        let file = fs::File::options().write(true).open(verdicts.file()).unwrap();
        file.set_modified(yesterday).unwrap();
        assert_eq!(verdicts.recall(&qemu), None, "a no does not last for ever");
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        assert_eq!(verdicts.recall(&scripted(&other, "exit 0")), None);
        let changed = scripted(directory.path(), "exit 0; # another build of it");
        assert_eq!(verdicts.recall(&changed), None);
        verdicts.store(&changed, Ok("yes"));
        verdicts.forget();
        assert_eq!(verdicts.recall(&changed), None);
    }

    #[test]
    fn a_file_others_could_have_written_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        let verdicts = VerdictFile::in_directory(&home);
        let qemu = scripted(directory.path(), "exit 0");
        verdicts.store(&qemu, Ok("yes"));
        let modes = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((modes(&home), modes(&verdicts.file())), (0o700, 0o600));
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, wide, narrow) in [(verdicts.file(), 0o622, 0o600), (home.clone(), 0o777, 0o700)]
        {
            set(&path, wide);
            assert_eq!(verdicts.recall(&qemu), None, "{}", path.display());
            set(&path, narrow);
            assert!(verdicts.recall(&qemu).is_some());
        }
        let text = fs::read_to_string(verdicts.file()).unwrap();
        for broken in [&text[..text.len() / 2], "", "works yes\n", &text.replace("works", "maybe")]
        {
            fs::write(verdicts.file(), broken).unwrap();
            assert_eq!(verdicts.recall(&qemu), None, "{broken}");
        }
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(verdicts.file(), &elsewhere).unwrap();
        fs::write(&elsewhere, text).unwrap();
        symlink(&elsewhere, verdicts.file()).unwrap();
        assert_eq!(verdicts.recall(&qemu), None, "a link is not followed");
    }
}

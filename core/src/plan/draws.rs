//! Names that belong to one build: the identifier of its run, and the suffix of a composed image name.
//!
//! The suffix looks random, but is derived: `plan` prints the name that the next build of this user will use. It
//! depends on this host, on the journal key, and on the number of builds that have begun, which is kept beside the
//! default key. A plan reads that number, a build takes it, so that no two builds have the same suffix. Where it cannot
//! be kept, the suffix is drawn.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use build_image_files::lock;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::{
    error::Result,
    journal::{Key, state_directory},
    random,
    runs::Run,
    settings::{Environment, Resolved},
};

/// File below the user's state directory with the number of builds that have begun.
const COUNT: &str = "build-image/builds";
/// Maximum length of the number, digits.
const DIGITS: u64 = 20;
/// Length of a suffix, characters.
const LENGTH: usize = 9;
/// Separates this use of the journal key from others.
const PURPOSE: &[u8] = b"build-image name suffix 1\0";

/// Values that are chosen once for all plans of a build.
#[derive(Clone, Debug, Default)]
pub struct Draws {
    /// Identifier of the run, drawn.
    pub run_id: String,
    /// Suffix of a composed image name.
    pub(super) name_suffix: String,
}

impl Draws {
    /// Returns the values of a run that is resumed.
    ///
    /// # Errors
    /// When the system provides no random numbers.
    pub fn of(run: &Run) -> Result<Self> {
        Ok(Self { run_id: run.id.clone(), name_suffix: drawn()? })
    }
}

/// Draws the identifier of a run.
///
/// # Errors
/// When the system provides no random numbers.
pub fn new_id() -> Result<String> {
    Ok(format!("{}-{}", crate::clock::stamp(), random::characters(random::LOWER, 6)?))
}

fn drawn() -> Result<String> {
    random::characters(random::UPPER, LENGTH)
}

/// The suffixes of one build, one per target.
pub struct Suffixes {
    /// `None` when the suffixes are drawn.
    derived: Option<Derived>,
}

/// What suffixes are derived from.
struct Derived {
    key: Key,
    /// The number of the build.
    count: u64,
    /// Identifies the directory of the number.
    place: String,
}

impl Suffixes {
    /// Returns those that the next build will use; changes nothing.
    ///
    /// # Errors
    /// As [`Key::existing`].
    pub fn of_next(settings: &Resolved, environment: &Environment) -> Result<Self> {
        Self::with(settings, environment, read_count)
    }

    /// Returns those of a build that begins now.
    ///
    /// # Errors
    /// As [`Key::existing`].
    pub fn of_this(settings: &Resolved, environment: &Environment) -> Result<Self> {
        Self::with(settings, environment, take_count)
    }

    fn with(
        settings: &Resolved,
        environment: &Environment,
        count: fn(&Path) -> Option<u64>,
    ) -> Result<Self> {
        let key = Key::existing(settings, environment)?;
        let derived = state_directory(environment).and_then(|state| {
            let path = state.join(COUNT);
            // Before it is created.
            let place = place(&path)?;
            Some(Derived { key, count: count(&path)?, place })
        });
        Ok(Self { derived })
    }

    /// Draws the identifier of a new run of a target, whose composed image name has one of these suffixes.
    ///
    /// # Errors
    /// When the system provides no random numbers.
    pub fn draws(&self, target: &str) -> Result<Draws> {
        Ok(Draws { run_id: new_id()?, name_suffix: self.of_target(target)? })
    }

    fn of_target(&self, target: &str) -> Result<String> {
        let Some(Derived { key, count, place }) = &self.derived else { return drawn() };
        let document = [&count.to_string(), target, place, &this_host()].join("\0");
        let document = document.as_bytes();
        // Without a key, the host alone makes a difference.
        let hex = key.seal(PURPOSE, document);
        Ok(letters(&hex.unwrap_or_else(|| format!("{:x}", Sha256::digest(document)))))
    }
}

/// Identifies the directory of a file, or the closest one above it that exists: a home directory that is made for one
/// job has no number yet, and is not that of another job.
fn place(path: &Path) -> Option<String> {
    let found = path.ancestors().skip(1).find_map(|above| above.metadata().ok())?;
    let made = found.created().or_else(|_| found.modified()).ok()?;
    let made = made.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Some(format!("{}\0{}\0{}", found.dev(), found.ino(), made.as_nanos()))
}

/// Converts a digest into letters and digits.
fn letters(hex: &str) -> String {
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let alphabet = random::UPPER;
    (0..LENGTH)
        .filter_map(|at| pair(2 * at))
        .map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()]))
        .collect()
}

/// Returns what distinguishes this host, or this container, from others that run the same system image.
fn this_host() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mounts = fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    // Field 22 is the start of the first process, in ticks since the boot (proc(5)).
    let first = read("/proc/1/stat");
    let first = first.rsplit(')').next().unwrap_or_default().split_whitespace().nth(19);
    let boot = read("/proc/sys/kernel/random/boot_id");
    let user = rustix::process::getuid().as_raw();
    format!("{boot}\0{name}\0{}\0{}\0{user}", mounts.display(), first.unwrap_or_default())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

/// Reads the number from a file; `None` when it cannot be read.
fn number(file: &mut File) -> Option<u64> {
    let mut text = String::new();
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(DIGITS).read_to_string(&mut text).ok()?;
    Some(text.trim().parse().unwrap_or(0))
}

fn read_count(path: &Path) -> Option<u64> {
    match options().open(path) {
        Ok(mut file) => number(&mut file),
        Err(error) => (error.kind() == std::io::ErrorKind::NotFound).then_some(0),
    }
}

/// Increases the number, and returns the earlier one; `None` when it cannot be kept.
fn take_count(path: &Path) -> Option<u64> {
    let directory: PathBuf = path.parent()?.to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
    let mut file =
        options().write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    lock::take(&file).ok()?;
    let count = number(&mut file)?;
    let text = count.saturating_add(1).to_string();
    file.rewind().and_then(|()| file.write_all(text.as_bytes())).ok()?;
    file.set_len(text.len() as u64).ok()?;
    Some(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_build_and_every_target_has_another_suffix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(COUNT);
        let mut seen = BTreeSet::new();
        for count in 0..20 {
            assert_eq!(read_count(&path), Some(count));
            assert_eq!(read_count(&path), Some(count), "reading changes nothing");
            assert_eq!(take_count(&path), Some(count));
            let suffixes = |count| {
                let (key, place) = (Key::of_bytes(&[7; 32]), String::new());
                Suffixes { derived: Some(Derived { key, count, place }) }
            };
            for target in ["one", "other"] {
                let suffix = suffixes(count).of_target(target).unwrap();
                assert_eq!(suffix, suffixes(count).of_target(target).unwrap());
                assert_eq!(suffix.len(), LENGTH);
                assert!(suffix.bytes().all(|byte| random::UPPER.contains(&byte)), "{suffix}");
                assert!(seen.insert(suffix));
            }
        }
    }

    #[test]
    fn builds_that_begin_together_have_different_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(COUNT);
        let taken: BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| take_count(&path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        assert_eq!(taken, (0..8).collect());
    }

    #[test]
    fn a_number_that_cannot_be_kept_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "5").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(take_count(&link), None, "a link is not followed");
        assert_eq!(take_count(directory.path()), None);
        assert_eq!(take_count(&target.join("below")), None);
        fs::write(&target, "not a number").unwrap();
        assert_eq!(take_count(&target), Some(0));
        assert_eq!(fs::read_to_string(&target).unwrap(), "1");
        let drawn = Suffixes { derived: None };
        assert_ne!(drawn.of_target("a").unwrap(), drawn.of_target("a").unwrap());
    }
}

//! Stores downloads in a directory: one slot per URL, with a description of the file from the server's answers.
//!
//! ```text
//! downloads/<digest of the URL>/lock         held shared while a build uses the file
//!                               about.json   description from the server's answers, bytes synced
//!                               partial      the bytes received so far
//!                               NAME         the complete file
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    artifacts::{
        cannot, cannot_lock, cannot_make, make_private, more_space, open_unlinked, remove_tree,
        write_whole,
    },
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    journal::Key,
    settings::keys::ARTIFACTS_DIR,
    signature::{Algorithm, Digests},
    source::address::display_url,
    trust::{Doubt, doubt_of_path, doubt_of_resolved, open_regular, read_regular, resolve_path},
};

const LOCK: &str = "lock";
const ABOUT: &str = "about.json";
const PARTIAL: &str = "partial";
/// Interval of attempts to take a lock that is held.
const LOCK_CHECK: Duration = Duration::from_millis(200);
/// Longest description of a file, in bytes.
const ABOUT_LIMIT: u64 = 1 << 20;
/// The purpose that is signed along with a description.
const PURPOSE: &[u8] = b"build-image download 1\0";
/// Number of hexadecimal digits of a URL's digest in the name of its slot.
const DIGITS: usize = 16;

/// The description of a file from the server's answers, and the progress of its download.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct About {
    /// The URL without password and query, for display.
    pub(super) url: String,
    /// Strong or weak entity tag.
    pub(super) etag: Option<String>,
    /// Last-Modified, as the server sent it.
    pub(super) last_modified: Option<String>,
    /// Length of the file, bytes.
    pub(super) length: Option<u64>,
    /// Bytes of the partial file that are synced to the disk.
    pub(super) synced: u64,
    /// Name of the complete file, once it is complete.
    pub(super) name: Option<String>,
    /// SHA-256 of the complete file, hexadecimal.
    pub(super) sha256: Option<String>,
    /// Signature of the description, made with the user's key; without it, the description is not trusted later.
    pub(super) mac: Option<String>,
    /// Why an earlier description is not trusted.
    #[serde(skip)]
    pub(super) distrusted: Option<String>,
}

impl About {
    /// The validator for a range request, so that parts of two files are never joined: RFC 9110, 13.1.5.
    pub(super) fn range_validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }
}

impl About {
    /// The signed bytes: everything but the signature, and the slot's path.
    fn signed(&self, slot: &Path) -> Vec<u8> {
        let plain = Self { mac: None, ..self.clone() };
        let name = slot.file_name().unwrap_or_default().as_encoded_bytes();
        [name, b"\0", &serde_json::to_vec(&plain).unwrap_or_default()].concat()
    }

    /// Reads a slot's description; an empty one when others could have written it.
    fn believed(slot: &Path, key: Option<&Key>) -> Self {
        let read = read_regular(&slot.join(ABOUT), ABOUT_LIMIT).ok();
        let about = read.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let Some(about) = about else { return Self::default() };
        let why = match resolve_path(&slot.join(ABOUT))
            .and_then(|resolved| doubt_of_resolved(&resolved))
        {
            Ok(None) => {
                let seal = about.mac.as_deref().unwrap_or_default();
                let is_own =
                    key.is_some_and(|key| key.verifies(PURPOSE, &about.signed(slot), seal));
                if is_own {
                    return about;
                }
                "it is not signed with the key of this user".to_owned()
            }
            Ok(Some(doubt)) => doubt.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(slot = %slot.display(), why, "what was downloaded before is not trusted");
        Self { distrusted: Some(why), ..Self::default() }
    }
}

/// Opens a file of a slot for writing and creates it if it is missing; symbolic links are not followed.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_unlinked(File::options().create(true).truncate(false).write(true), path)
}

/// The slot of a URL, locked.
pub(crate) struct Slot {
    directory: PathBuf,
    lock: File,
    /// Whether it is locked exclusively, so that it may be changed.
    alone: bool,
    key: Option<Arc<Key>>,
    pub(super) about: About,
}

impl Slot {
    /// Locks the slot of a URL, exclusively if possible. Waits while another process downloads the same URL;
    /// with `alone` also while one uses it.
    pub(super) fn take(
        store: &Path,
        url: &Url,
        alone: bool,
        interrupt: &Interrupt,
        on_wait: &dyn Fn(),
        signer: Option<&Arc<Key>>,
    ) -> Result<Self> {
        let directory = store.join(key(url));
        let read_error = |error: io::Error| cannot("read", &directory, &error);
        loop {
            make_private(&directory).map_err(|error| cannot_make(&directory, &error))?;
            match doubt_of_path(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                doubt => {
                    if let Some(doubt) = doubt.map_err(read_error)? {
                        return Err(foreign(&doubt));
                    }
                }
            }
            let path = directory.join(LOCK);
            let lock = match open(&path) {
                // Its last user removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| cannot_write(&path, &error))?,
            };
            let lock_error = |error: io::Error| cannot_lock("lock", &path, &error, ARTIFACTS_DIR);
            let alone = loop {
                if try_lock(&lock, false).map_err(lock_error)? {
                    break true;
                }
                if !alone && try_lock(&lock, true).map_err(lock_error)? {
                    break false;
                }
                on_wait();
                if interrupt.wait(LOCK_CHECK) {
                    return Err(Error::interrupted());
                }
            };
            // Its last user may have removed the directory meanwhile, and another process may have created it
            // again.
            let mine = lock.metadata().map_err(read_error)?;
            if fs::metadata(&path)
                .is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()))
            {
                let about = About::believed(&directory, signer.map(Arc::as_ref));
                return Ok(Self { directory, lock, alone, key: signer.cloned(), about });
            }
        }
    }

    /// Path of the partial file.
    pub(super) fn partial(&self) -> PathBuf {
        self.directory.join(PARTIAL)
    }

    /// Path of the complete file, if it exists and has the described length.
    pub(super) fn whole(&self) -> Option<PathBuf> {
        let name = Path::new(self.about.name.as_ref()?);
        let path = self.directory.join(name.file_name().filter(|file| *file == name)?);
        let length = path.metadata().ok()?.len();
        (Some(length) == self.about.length).then_some(path)
    }

    /// Writes the description.
    pub(super) fn keep(&mut self) -> Result<()> {
        let path = self.directory.join(ABOUT);
        let signed = self.about.signed(&self.directory);
        self.about.mac = self.key.as_ref().and_then(|key| key.seal(PURPOSE, &signed));
        let text = serde_json::to_vec_pretty(&self.about).unwrap_or_default();
        write_whole(&path, &text).map_err(|error| cannot_write(&path, &error))
    }

    /// Gives the file, which is complete and has these digests, its final name.
    pub(crate) fn finish(
        &mut self,
        from: &Path,
        name: &str,
        digests: Option<&Digests>,
    ) -> Result<PathBuf> {
        let path = self.directory.join(name);
        let length = from.metadata().map(|metadata| metadata.len());
        let renamed = length.and_then(|length| fs::rename(from, &path).map(|()| length));
        let length = renamed.map_err(|error| cannot("rename a download to", &path, &error))?;
        self.about.name = Some(name.to_owned());
        self.about.length = Some(length);
        let sha256 = digests.and_then(|digests| digests.hex(Algorithm::Sha256));
        self.about.sha256 = sha256.or_else(|| self.about.sha256.take());
        self.keep()?;
        Ok(path)
    }

    /// Returns whether the slot is locked exclusively.
    pub(crate) fn alone(&self) -> bool {
        self.alone
    }

    /// Lets other processes use the file too; none can replace it.
    pub(crate) fn share(&mut self) -> Result<()> {
        self.alone = false;
        self.lock
            .lock_shared()
            .map_err(|error| cannot_lock("lock", &self.directory, &error, ARTIFACTS_DIR))
    }

    /// Removes the slot, unless another build uses it.
    pub(crate) fn remove(self) {
        if !matches!(try_lock(&self.lock, false), Ok(true)) {
            return;
        }
        // The lock goes last: until then no other process makes a slot here.
        let store = self.directory.parent().unwrap_or(&self.directory);
        remove_tree(&self.directory, LOCK, store);
    }

    /// Discards everything about the file.
    pub(super) fn reset(&mut self, url: &Url) -> Result<()> {
        for name in [Some(PARTIAL.to_owned()), self.about.name.take()].into_iter().flatten() {
            match fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(cannot("remove a file of", &self.directory, &error));
                }
                _ => {}
            }
        }
        self.about = About { url: display_url(url), ..About::default() };
        Ok(())
    }
}

/// Takes a lock if it is free; returns whether it was taken.
fn try_lock(lock: &File, shared: bool) -> io::Result<bool> {
    match if shared { lock.try_lock_shared() } else { lock.try_lock() } {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Names a slot by a digest, since a URL may contain a signature.
fn key(url: &Url) -> String {
    let mut plain = url.clone();
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain.set_fragment(None);
    let digest = Sha256::digest(plain.as_str());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..DIGITS].to_owned()
}

/// Removes the slots that are not in use and returns their URLs. Only lists them when `really` is not set.
pub(crate) fn clean(store: &Path, really: bool) -> Vec<String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    for directory in entries.map(|entry| entry.path()) {
        let Ok(lock) = open_regular(&directory.join(LOCK)) else { continue };
        if !matches!(try_lock(&lock, false), Ok(true)) {
            continue;
        }
        let about = read_regular(&directory.join(ABOUT), ABOUT_LIMIT).ok();
        let about: Option<About> = about.and_then(|text| serde_json::from_slice(&text).ok());
        let about = about.unwrap_or_default();
        found.push(about.url.clone());
        if really {
            Slot { directory, lock, alone: true, key: None, about }.remove();
        }
    }
    found
}

/// The error for a slot that another user may change.
fn foreign(doubt: &Doubt) -> Error {
    let what = format!("the directory of a download is not used: {doubt}");
    Error::new(Stage::Disk, what).hint(format!(
        "remove it, or set {ARTIFACTS_DIR} to a directory that only this user may write to"
    ))
}

/// The error for a file below the store.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
        .caused_by(error)
        .hint(more_space(ARTIFACTS_DIR))
}

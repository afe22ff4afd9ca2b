//! Manages the user's key, which signs the lines of journals. It is stored outside of every directory that others may
//! send or share: a line that was not written by this user, on this host, does not verify.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result, Stage},
    random,
    settings::{self, Environment, Resolved},
    trust::{
        doubt_of_file, doubt_of_path, doubt_of_resolved, has_other_readers, open_regular,
        resolve_path,
    },
};

/// Setting that names the file of the key.
const SETTING: settings::Key = settings::keys::JOURNAL_KEY_FILE;
/// Path of the file below the user's state directory.
const FILE: &str = "build-image/journal.key";
/// Minimum and maximum length of a key, bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=4096;
/// Domain separation: a signature is valid for a line of a journal, version 1, and for no other data that this key
/// may sign in the future.
const PURPOSE: &[u8] = b"build-image journal 1\0";

/// A key, or why it is missing.
pub struct Key {
    secret: std::result::Result<Zeroizing<Vec<u8>>, String>,
}

/// Prints whether the key exists, never its value.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("known", &self.secret.is_ok()).finish()
    }
}

/// The location of the key.
struct Place {
    path: PathBuf,
    /// Whether a setting names it: it must then be usable.
    named: bool,
}

impl Key {
    /// Returns the key of this user, and creates it when it does not exist: the file JOURNAL_KEY_FILE names, else
    /// `build-image/journal.key` in `$XDG_STATE_HOME` or `~/.local/state`. Without a home directory of this user the
    /// key is missing; journals are then not signed, and not trusted later.
    ///
    /// # Errors
    /// When others can read or change the file, or a setting names a file that cannot be used.
    pub fn of(settings: &Resolved, environment: &Environment) -> Result<Self> {
        Self::at(place(settings, environment), true)
    }

    /// As [`Key::of`], but does not create a key.
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn existing(settings: &Resolved, environment: &Environment) -> Result<Self> {
        Self::at(place(settings, environment), false)
    }

    fn at(place: Option<Place>, make: bool) -> Result<Self> {
        let Some(place) = place else {
            return Ok(Self::none(format!(
                "the key is missing: neither HOME, XDG_STATE_HOME nor {SETTING} is set"
            )));
        };
        let path = place.path.display();
        let opened = if make { find_or_make(&place.path) } else { open(&place.path) };
        match opened {
            Ok(Opened::Key(secret)) => Ok(Self { secret: Ok(secret) }),
            Ok(Opened::Refused(why, hint)) => {
                let text = format!("the journal key `{path}` is not safe: {why}");
                Err(Error::new(Stage::Settings, text).hint(hint))
            }
            Ok(Opened::Elsewhere(why)) if !place.named => {
                Ok(Self::none(format!("the key is missing: `{path}` is not used, {why}")))
            }
            Ok(Opened::Elsewhere(why)) => {
                let text = format!("{SETTING}: `{path}` is not safe: {why}");
                Err(Error::new(Stage::Settings, text)
                    .hint("name a file in a directory that only this user may write to"))
            }
            Err(error) if place.named && (make || error.kind() != io::ErrorKind::NotFound) => {
                let text = format!("{SETTING}: cannot use `{path}`");
                Err(Error::new(Stage::Settings, text)
                    .caused_by(&error)
                    .hint("name a file that this user may read, or one that can be made"))
            }
            Err(error) => Ok(Self::none(format!("the key is missing: `{path}`: {error}"))),
        }
    }

    fn none(why: String) -> Self {
        tracing::info!(why, "journals are not signed");
        Self { secret: Err(why) }
    }

    /// Returns why lines cannot be signed.
    pub(super) fn missing(&self) -> Option<&str> {
        self.secret.as_ref().err().map(String::as_str)
    }

    /// Returns the signature of a line, hexadecimal; `before` is the digest of everything before it.
    pub(super) fn sign(&self, before: &Sha256, line: &[u8]) -> Option<String> {
        Some(hex(&self.mac(before, line)?.finalize().into_bytes()))
    }

    /// Returns why a line is not signed by this user.
    pub(super) fn doubt(
        &self,
        before: &Sha256,
        line: &[u8],
        signature: Option<&str>,
    ) -> Option<String> {
        let Some(signature) = signature else { return Some("it is not signed".to_owned()) };
        if let Err(why) = &self.secret {
            return Some(format!("its signature cannot be checked: {why}"));
        }
        let verified = self
            .mac(before, line)
            .zip(bytes(signature))
            .is_some_and(|(mac, digits)| mac.verify_slice(&digits).is_ok());
        (!verified).then(|| "it is not signed with the key of this user".to_owned())
    }

    fn mac(&self, before: &Sha256, line: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = self.begun(PURPOSE)?;
        mac.update(&before.clone().finalize());
        mac.update(line);
        Some(mac)
    }

    fn begun(&self, purpose: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_ref().ok()?).ok()?;
        mac.update(purpose);
        Some(mac)
    }

    /// Returns the signature of a document other than a journal, hexadecimal; `None` without a key. The purpose,
    /// which ends with a zero byte, separates the kinds of documents.
    pub(crate) fn seal(&self, purpose: &[u8], document: &[u8]) -> Option<String> {
        let mut mac = self.begun(purpose)?;
        mac.update(document);
        Some(hex(&mac.finalize().into_bytes()))
    }

    /// Returns whether a signature made by [`Key::seal`] is this user's.
    pub(crate) fn verifies(&self, purpose: &[u8], document: &[u8], seal: &str) -> bool {
        self.begun(purpose).zip(bytes(seal)).is_some_and(|(mut mac, seal)| {
            mac.update(document);
            mac.verify_slice(&seal).is_ok()
        })
    }

    /// Creates a key for tests.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { secret: Ok(bytes.to_vec().into()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    (0..hex.len().div_ceil(2)).map(pair).collect()
}

fn place(settings: &Resolved, environment: &Environment) -> Option<Place> {
    if let Some(path) = settings.core().run.journal_key.clone() {
        return Some(Place { path, named: true });
    }
    Some(Place { path: state_directory(environment)?.join(FILE), named: false })
}

/// Returns the directory of this user's state: `$XDG_STATE_HOME`, else `~/.local/state`.
pub(crate) fn state_directory(environment: &Environment) -> Option<PathBuf> {
    let absolute =
        |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

enum Opened {
    Key(Zeroizing<Vec<u8>>),
    /// Others can read or change the file: why, and a hint.
    Refused(String, String),
    /// Others can replace the file at this path.
    Elsewhere(String),
}

fn find_or_make(path: &Path) -> io::Result<Opened> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The directory is checked before a secret is written: others must not be able to read it there.
    let resolved = resolve_path(directory)?;
    let doubt = match doubt_of_resolved(&resolved)? {
        None => doubt_of_path(&resolved.real)?,
        some => some,
    };
    if let Some(doubt) = doubt {
        return Ok(Opened::Elsewhere(doubt.to_string()));
    }
    // Only its owner can read the file. Another process may create a key at the same time: the first one to rename
    // its file wins.
    let text =
        random::characters(random::HEX, 64).map_err(|error| io::Error::other(error.message))?;
    let mut file = tempfile::Builder::new().prefix(".journal.key.").tempfile_in(directory)?;
    writeln!(file, "{}", Zeroizing::new(text).as_str())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error.error);
        }
        Ok(_) => fs::File::open(directory)?.sync_all()?,
        Err(_) => {}
    }
    open(path)
}

fn open(path: &Path) -> io::Result<Opened> {
    let resolved = resolve_path(path)?;
    if let Some(doubt) = doubt_of_resolved(&resolved)? {
        return Ok(Opened::Elsewhere(doubt.to_string()));
    }
    let file = open_regular(&resolved.real)?;
    if let Some(doubt) = doubt_of_file(&file, path)? {
        return Ok(Opened::Refused(format!("it {}", doubt.why), doubt.hint));
    }
    if has_other_readers(&file)? {
        let hint = format!(
            "remove it: whoever read it can sign journals; then a new one is made. If it was never shared: \
             chmod 600 '{}'",
            path.display()
        );
        return Ok(Opened::Refused("others may read it".to_owned(), hint));
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(*LENGTHS.end() + 1));
    io::Read::read_to_end(&mut io::Read::take(file, *LENGTHS.end() as u64 + 1), &mut secret)?;
    let kept = secret.trim_ascii_end().len();
    secret.truncate(kept);
    if !LENGTHS.contains(&secret.len()) {
        let (least, most) = (LENGTHS.start(), LENGTHS.end());
        let why = format!("it must have {least} to {most} bytes");
        return Ok(Opened::Refused(why, "remove it; then a new one is made".to_owned()));
    }
    Ok(Opened::Key(secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key(path: &Path, named: bool) -> Result<Key> {
        Key::at(Some(Place { path: path.to_owned(), named }), true)
    }

    fn sign(key: &Key) -> String {
        key.sign(&Sha256::new(), b"line").unwrap()
    }

    #[test]
    fn concurrent_processes_agree_on_a_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/build-image/journal.key");
        let made: Vec<String> = std::thread::scope(|scope| {
            let begun: Vec<_> =
                (0..8).map(|_| scope.spawn(|| sign(&key(&path, false).unwrap()))).collect();
            begun.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|signed| *signed == made[0]), "{made:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "temporary files stay");
    }

    #[test]
    fn a_key_that_others_may_read_or_change_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal.key");
        key(&path, false).unwrap();
        for (mode, why) in [
            (0o644, "others may read it"),
            (0o604, "others may read it"),
            (0o602, "may be written by everybody"),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = key(&path, false).unwrap_err();
            assert!(error.message.ends_with(why) && error.hint.is_some(), "{mode:o}: {error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        key(&path, false).unwrap();
        // Too short, and empty.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "short\n"] {
            fs::write(&path, text).unwrap();
            assert!(key(&path, false).unwrap_err().message.contains("32 to 4096 bytes"));
        }
    }

    #[test]
    fn without_a_safe_directory_nothing_is_signed_and_a_named_key_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for path in [open.join("journal.key"), "/proc/nowhere/journal.key".into()] {
            let unsigned = key(&path, false).unwrap();
            assert!(unsigned.sign(&Sha256::new(), b"line").is_none());
            let why = unsigned.doubt(&Sha256::new(), b"line", Some("00")).unwrap();
            assert!(why.contains("the key is missing"), "{why}");
            let error = key(&path, true).unwrap_err();
            assert!(error.message.contains(SETTING.name()) && error.hint.is_some(), "{error}");
            assert!(!path.exists());
        }
        assert!(Key::at(None, true).unwrap().missing().is_some());
    }
}

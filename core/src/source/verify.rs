//! Verifies the signature or the checksum of a file. A file that fails stops the build; only unset keys and
//! checksums disable the check.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use build_image_plugin_api::Progress;
use reqwest::Url;

use super::{
    SourceContext,
    address::{Address, display_url},
};
use crate::{
    error::{Error, Problem, Result, Stage},
    settings::{self, Signatures, keys},
    signature::{Algorithm, Digests, FileDigest, TrustedKey, digests_of_file},
};

/// Largest signature that is read, in bytes; signatures of RSA keys with 16384 bits have 2048 bytes.
const LIMIT: u64 = 64 << 10;

/// A key that the user trusts.
struct Key {
    setting: settings::Key,
    path: PathBuf,
    key: TrustedKey,
}

/// Verifies files with keys that are read once.
pub(super) struct Verifier<'d, 'a> {
    keys: Vec<Key>,
    /// Whether the SHA-256 of every file is needed later: an installed disk is reused by the digests of its
    /// inputs, and a provenance statement contains them.
    kept: bool,
    context: &'d SourceContext<'a>,
}

/// A file to be checked, with the names of its settings.
pub(super) struct Subject<'a> {
    /// Setting of its signature.
    pub(super) signature: &'a str,
    /// Setting of its SHA-256.
    pub(super) sha256: &'a str,
    /// Its current path.
    pub(super) path: &'a Path,
    /// Its URL, if it was downloaded.
    pub(super) url: Option<&'a Url>,
    /// The SHA-256 of a list, and the list's name.
    pub(super) listed: Option<(String, String)>,
}

/// A key that may be set: its setting and value, and those of the digest that it signs.
type Trusted<'s> = (settings::Key, &'s Option<PathBuf>, settings::Key, &'s str);

/// Returns the keys that verify ISOs, in the order in which they are tried.
fn of_isos(set: &Signatures) -> [Trusted<'_>; 2] {
    [
        (
            keys::ISO_SIG_VERIFICATION_PUBLIC_KEY,
            &set.iso_key,
            keys::ISO_SIG_VERIFICATION_ENCRYPTION_TYPE,
            &set.iso_digest,
        ),
        (
            keys::IMAGE_SIG_PUBLIC_KEY,
            &set.image_public_key,
            keys::IMAGE_SIG_ENCRYPTION_TYPE,
            set.image_digest(),
        ),
    ]
}

impl<'d, 'a> Verifier<'d, 'a> {
    /// Reads the keys of ISOs. An unusable key is an error, also if it would not be needed.
    pub(super) fn new(context: &'d SourceContext<'a>) -> Result<Self> {
        let set = context.settings.core();
        let kept = set.run.reuse || set.publication.provenance.is_some();
        let wishes = [keys::ISO_SIG.name(), "EHF_ISO_SIG"];
        Self::with(context, &of_isos(&set.signatures), &wishes, kept)
    }

    /// Reads the key of disks. Their digests are not needed later: a disk is identified by its stamp, and statements have
    /// the digest of its content.
    pub(super) fn of_disks(context: &'d SourceContext<'a>) -> Result<Self> {
        let set = &context.settings.core().signatures;
        let key = keys::DISK_SIG_PUBLIC_KEY;
        let trusted = [(key, &set.disk_key, keys::DISK_SIG_DIGEST, set.disk_digest.as_str())];
        Self::with(context, &trusted, &[keys::DISK_SIG.name()], false)
    }

    fn with(
        context: &'d SourceContext<'a>,
        trusted: &[Trusted<'_>],
        wishes: &[&str],
        kept: bool,
    ) -> Result<Self> {
        let mut keys = Vec::new();
        for (setting, path, digest_setting, digest) in trusted.iter().copied() {
            let Some(path) = path.clone() else { continue };
            let named = |setting: settings::Key| {
                move |error: Error| Error {
                    message: format!("{setting}: {}", error.message),
                    ..error
                }
            };
            let algorithm = Algorithm::named(digest).map_err(named(digest_setting))?;
            let key = TrustedKey::read(&path, algorithm).map_err(named(setting))?;
            keys.push(Key { setting, path, key });
        }
        let verifier = Self { keys, kept, context };
        let first = trusted.first().map(|(setting, ..)| *setting);
        verifier.check_wishes(wishes, first)?;
        Ok(verifier)
    }

    /// Refuses a signature setting without a key, which would be ignored silently.
    fn check_wishes(&self, wishes: &[&str], key: Option<settings::Key>) -> Result<()> {
        let is_set = |name: &&&str| self.context.settings.by_name().get(name).is_some();
        match (wishes.iter().find(is_set), key) {
            (Some(wish), Some(key)) if self.keys.is_empty() => Err(Error::new(
                Stage::Settings,
                format!("{wish} names a signature, but no key is set that verifies it"),
            )
            .hint(format!("set {key}, or leave {wish} out"))),
            _ => Ok(()),
        }
    }

    /// Whether a file is compared with a signature or with its own SHA-256 setting.
    pub(super) fn compares(&self, sha256: &str) -> bool {
        !self.keys.is_empty() || self.context.settings.by_name().get(sha256).is_some()
    }

    /// Warns once if neither a key nor a checksum is set.
    pub(super) fn warn(&self, digests: &[&str]) {
        let has_checksum =
            digests.iter().all(|key| self.context.settings.by_name().get(key).is_some());
        if self.keys.is_empty() && !has_checksum {
            self.context.reporter.warning(
                "nothing proves where the ISO comes from: neither a key nor a digest is set",
                Some(&format!(
                    "set {} to the vendor's key, or {}",
                    keys::ISO_SIG_VERIFICATION_PUBLIC_KEY,
                    keys::ISO_SHA256
                )),
            );
        }
    }

    /// Digests that are worth computing when a file is read anyway.
    pub(super) fn algorithms(&self, sha256: &str) -> Vec<Algorithm> {
        let mut algorithms: Vec<Algorithm> =
            self.keys.iter().flat_map(|key| key.key.algorithms()).collect();
        if self.kept || self.context.settings.by_name().get(sha256).is_some() {
            algorithms.push(Algorithm::Sha256);
        }
        algorithms
    }

    /// Of these, the digests that can be compared with something or are needed later.
    fn needed(
        &self,
        subject: &Subject<'_>,
        signatures: &[(String, Option<Vec<u8>>)],
    ) -> Vec<Algorithm> {
        let there = self.keys.iter().zip(signatures).filter(|(_, (_, bytes))| bytes.is_some());
        let mut needed: Vec<Algorithm> = there.flat_map(|(key, _)| key.key.algorithms()).collect();
        let set = self.context.settings.by_name().get(subject.sha256).is_some();
        if self.kept || subject.listed.is_some() || set {
            needed.push(Algorithm::Sha256);
        }
        needed
    }

    /// Checks a file; `digests` are those that were computed during its download. The file is read only if
    /// there is something to compare with; its digest is returned if it was computed.
    pub(super) fn check(
        &self,
        subject: &Subject<'_>,
        digests: Option<Digests>,
    ) -> Result<Option<FileDigest>> {
        let before =
            fs::metadata(subject.path).map_err(|error| unreadable(subject.path, &error))?;
        let compared = subject.listed.is_some() || self.compares(subject.sha256);
        let digests = if compared { Some(self.compare(subject, digests)?) } else { digests };
        Ok(digests.and_then(|digests| FileDigest::of(&digests, &before)))
    }

    /// Checks what was read from a pipe; the file of the subject only has a name.
    pub(super) fn check_read(&self, subject: &Subject<'_>, digests: Digests) -> Result<()> {
        if self.compares(subject.sha256) {
            self.compare(subject, Some(digests))?;
        }
        Ok(())
    }

    fn compare(&self, subject: &Subject<'_>, digests: Option<Digests>) -> Result<Digests> {
        let signatures = self.signatures(subject)?;
        let name = subject.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.context.reporter.begin("verify", &format!("checking {name}"));
        let digests = match digests {
            Some(digests) => digests,
            None => read(self.context, subject.path, &self.needed(subject, &signatures))?,
        };
        let mut proofs = Vec::new();
        if let Some(wanted) = self.context.settings.by_name().text(subject.sha256) {
            proofs.push(expected(subject.sha256, wanted, subject.path, &digests)?);
        }
        if let Some((wanted, list)) = &subject.listed {
            proofs.push(expected(list, wanted, subject.path, &digests)?);
        }
        if !self.keys.is_empty() {
            proofs.push(self.verified(subject, &signatures, &digests)?);
        }
        self.context.reporter.end(&proofs.join(", "));
        Ok(digests)
    }

    /// Reads the signature for each key, with its name. A missing signature is a problem unless another one exists.
    fn signatures(&self, subject: &Subject<'_>) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        let given = self.context.settings.by_name().text(subject.signature);
        let given = given.map(|text| Address::of(subject.signature, text)).transpose()?;
        let mut found: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for key in &self.keys {
            let address = given.clone().unwrap_or_else(|| beside(subject, &key.key.suffix()));
            let name = match &address {
                Address::File(path) => path.display().to_string(),
                Address::Url(url) => display_url(url),
            };
            if let Some(same) = found.iter().find(|(other, _)| *other == name) {
                found.push(same.clone());
                continue;
            }
            let bytes = match &address {
                Address::File(path) => read_small(path)?,
                Address::Url(url) => self.context.downloader()?.fetch_small(url, LIMIT)?,
            };
            if bytes.is_none() && given.is_some() {
                let text = format!("{}: `{name}` is not there", subject.signature);
                return Err(Error::new(Stage::Source, text).hint(format!(
                    "check the path; {} may be left out when the signature lies beside the file",
                    subject.signature
                )));
            }
            found.push((name, bytes));
        }
        if !found.is_empty() && found.iter().all(|(_, bytes)| bytes.is_none()) {
            return Err(self.unsigned(subject, &found));
        }
        Ok(found)
    }

    fn unsigned(&self, subject: &Subject<'_>, found: &[(String, Option<Vec<u8>>)]) -> Error {
        let problems = found.iter().map(|(name, _)| Problem::new(format!("`{name}` is not there")));
        let keys: Vec<&str> = self.keys.iter().map(|key| key.setting.name()).collect();
        let text = format!("`{}` has no signature", subject.path.display());
        Error::several(Stage::Source, text, problems.collect()).hint(format!(
            "put it beside the file or name it with {}; to build without checking, leave {} out",
            subject.signature,
            keys.join(" and ")
        ))
    }

    /// Returns the key that verifies the file.
    fn verified(
        &self,
        subject: &Subject<'_>,
        signatures: &[(String, Option<Vec<u8>>)],
        digests: &Digests,
    ) -> Result<String> {
        let mut problems = Vec::new();
        for (key, (name, signature)) in self.keys.iter().zip(signatures) {
            let (path, method) = (key.path.display(), key.key.method());
            match signature.as_ref().map(|signature| key.key.verify(digests, signature)) {
                Some(Ok(())) => return Ok(format!("signature verified with {path} ({method})")),
                Some(Err(why)) => {
                    let (kind, setting) = (key.key.kind(), key.setting);
                    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                    problems.push(Problem::new(format!(
                        "`{name}` is not its signature by the {kind} key `{path}` ({method}, {setting}){why}"
                    )));
                }
                None => {
                    problems.push(Problem::new(format!("`{name}` is not there ({})", key.setting)));
                }
            }
        }
        let text = format!("`{}` is not the file that was signed", subject.path.display());
        Err(Error::several(Stage::Source, text, problems)
            .hint("fetch the file, its signature and the key again; they may be damaged, forged or of different files"))
    }
}

/// Compares a file's SHA-256 with the one that a setting or a list names; returns a description of the result.
fn expected(by: &str, wanted: &str, path: &Path, digests: &Digests) -> Result<String> {
    let found = digests.hex(Algorithm::Sha256).unwrap_or_default();
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(format!("{by} as expected"));
    }
    let text = format!("`{}` is not the file {by} names", path.display());
    let mut error = Error::new(Stage::Source, text)
        .hint("fetch the file again, and take the digest from its vendor");
    error.context =
        vec![("expected".to_owned(), wanted.to_lowercase()), ("found".to_owned(), found)];
    Err(error)
}

fn read(context: &SourceContext<'_>, path: &Path, algorithms: &[Algorithm]) -> Result<Digests> {
    let total = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    let mut seen = |done| {
        context.reporter.progress(Progress::new(done, total));
        if context.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let digests = digests_of_file(path, algorithms, &mut seen);
    context.reporter.clear();
    digests
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Stage::Source, format!("cannot read `{}`", path.display())).caused_by(error)
}

/// Default address of a signature: beside the file.
fn beside(subject: &Subject<'_>, suffix: &str) -> Address {
    match subject.url {
        Some(url) => {
            let mut url = url.clone();
            url.set_path(&format!("{}{suffix}", url.path()));
            Address::Url(url)
        }
        None => {
            let mut name = subject.path.as_os_str().to_owned();
            name.push(suffix);
            Address::File(name.into())
        }
    }
}

fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot_read = |error: &std::io::Error| {
        Error::new(Stage::Source, format!("cannot read the signature `{}`", path.display()))
            .caused_by(error)
    };
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_read(&error)),
        Ok(metadata) if metadata.len() > LIMIT => {
            let text = format!("`{}` has {} bytes, no signature", path.display(), metadata.len());
            Err(Error::new(Stage::Source, text).hint("name the signature, not the signed file"))
        }
        Ok(_) => fs::read(path).map(Some).map_err(|error| cannot_read(&error)),
    }
}

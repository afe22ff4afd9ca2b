//! Reads a bundle and verifies it. Opening it verifies everything but the image; [`Bundle::verify`] reads that once.

use std::{
    collections::VecDeque,
    fs::{self, File},
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use build_image_disk::{
    Error as DiskError, Format,
    pack::plain_tar::{self, Member},
};
use build_image_plugin_api::{DiskFormat, DiskSpec};

use super::{
    CHUNK, DOCUMENT, Document, Policy, STATEMENT,
    document::BundledMember,
    image::{BundleImage, digest_of, read_chunk},
};
use crate::{
    error::{Error, Result, Stage},
    settings::keys,
    signature::{Algorithm, Pass},
    source::from_disk,
};

/// The document, its signature, the statement, and the image.
const MOST_MEMBERS: usize = 4;
/// Longest documents and signatures that are read, bytes.
const LIMIT: u64 = 16 << 20;

/// An open bundle whose document, signature, policy, and members are verified; of its image only the place.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    file: Arc<File>,
    document: Document,
    /// SHA-256 of the document, which names every other member by its digest.
    identity: String,
    /// How the signature was verified, for messages.
    signature: String,
    image: Member,
    entry: BundledMember,
}

impl Bundle {
    /// Opens a bundle.
    ///
    /// # Errors
    /// When it cannot be read, is not whole, has another form, or breaks the policy.
    pub fn open(path: &Path, policy: &Policy) -> Result<Self> {
        let source_error = |error: DiskError| from_disk(Stage::Source, error);
        let io_error = |error| {
            let made = source_error(DiskError::io("cannot open", path, error));
            made.hint(format!("{}: the path of a bundle", keys::FROM_BUNDLE))
        };
        // Opening a named pipe would block until its other end is opened.
        if !fs::metadata(path).map_err(io_error)?.is_file() {
            let text = format!("`{}` is not a regular file", path.display());
            return Err(Error::new(Stage::Source, text).hint("give the path of a bundle"));
        }
        let file = File::open(path).map_err(io_error)?;
        let members = plain_tar::members(&file, path, MOST_MEMBERS).map_err(|error| {
            let made = source_error(error);
            let text = format!("`{}` is not a whole bundle: {}", path.display(), made.message);
            Error { message: text, ..made }
        })?;
        let reader = Reader { file: &file, path };
        let (first, mut others) =
            members.split_first().ok_or_else(|| refused(path, "it is empty"))?;
        if first.name != DOCUMENT {
            let what = format!("its first member is `{}`, not `{DOCUMENT}`", first.name);
            return Err(refused(path, &what));
        }
        let bytes = reader.bytes(first)?;
        let mut signature = None;
        if let Some((member, rest)) = others.split_first()
            && let Some(algorithm) = algorithm_of(&member.name)
        {
            signature = Some((algorithm, reader.bytes(member)?));
            others = rest;
        }
        let signed = policy.verify(&bytes, signature.as_ref(), path);
        let document = Document::parse(&bytes, path)?;
        let signature = signed?;
        policy.check(&document, path)?;
        compare(path, &document.members, others)?;
        let statement = others.iter().zip(&document.members).find(|(one, _)| one.name == STATEMENT);
        if let Some((member, entry)) = statement
            && hex(&digest_of(&reader.bytes(member)?)) != entry.sha256
        {
            return Err(altered(path, STATEMENT));
        }
        let image = others.iter().find(|member| member.name == document.image.member);
        let (Some(image), Some(entry)) = (image.cloned(), document.image_entry().cloned()) else {
            return Err(refused(path, "it has no image"));
        };
        let identity = hex(&digest_of(&bytes));
        let (path, file) = (path.to_owned(), Arc::new(file));
        Ok(Self { path, file, document, identity, signature, image, entry })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// SHA-256 of its document, hexadecimal: two bundles with the same have the same content.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// SHA-256 of its image, hexadecimal, as its document states it.
    #[must_use]
    pub fn image_sha256(&self) -> &str {
        &self.entry.sha256
    }

    /// How its signature was verified, for messages.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Length of its image, bytes.
    #[must_use]
    pub fn image_length(&self) -> u64 {
        self.image.length
    }

    /// Reads the whole image and compares it with its digest; `seen` is called with the number of bytes read so far.
    ///
    /// # Errors
    /// When it differs or cannot be read; [`Stage::Interrupted`] when `seen` breaks.
    pub fn verify(&self, seen: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<BundleImage> {
        let Member { offset, length, .. } = self.image;
        let pass = Pass::new(&[Algorithm::Sha256])?;
        let mut digests = Vec::new();
        for number in 0..length.div_ceil(CHUNK as u64) {
            let chunk = read_chunk(&self.file, offset, length, number).map_err(|error| {
                from_disk(Stage::Source, DiskError::io("cannot read", &self.path, error))
            })?;
            digests.push(digest_of(&chunk));
            let done = number * CHUNK as u64 + chunk.len() as u64;
            pass.update(chunk)?;
            if seen(done).is_break() {
                return Err(Error::interrupted());
            }
        }
        let found = pass.finish()?.hex(Algorithm::Sha256);
        if found.as_deref() != Some(self.entry.sha256.as_str()) {
            return Err(altered(&self.path, &self.image.name));
        }
        let spec = &self.document.image.spec;
        Ok(BundleImage {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            offset,
            length,
            format: spec.format.word().parse().unwrap_or(Format::Raw),
            virtual_size: self.document.register.virtual_size,
            digests,
            recent: Mutex::new(VecDeque::new()),
        })
    }
}

/// Returns whether an image is one that was asked for: format, archive, and variant must be the same. Versions and
/// compression of qcow2 may differ, since every reader of qcow2 reads them.
#[must_use]
pub fn is_same_image(has: &DiskSpec, asked: &DiskSpec) -> bool {
    has.format == asked.format
        && has.archive == asked.archive
        && has.ovf == asked.ovf
        && (has.format == DiskFormat::Qcow2
            || has.variant == asked.variant && has.compression == asked.compression)
}

/// Reads small members.
struct Reader<'a> {
    file: &'a File,
    path: &'a Path,
}

impl Reader<'_> {
    fn bytes(&self, member: &Member) -> Result<Vec<u8>> {
        let length = usize::try_from(member.length.min(LIMIT + 1)).unwrap_or_default();
        if length as u64 > LIMIT {
            let what = format!("`{}` has {} bytes, which is too long", member.name, member.length);
            return Err(refused(self.path, &what));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, member.offset).map_err(|error| {
            from_disk(Stage::Source, DiskError::io("cannot read", self.path, error))
        })?;
        Ok(bytes)
    }
}

/// Returns the algorithm of a signature's member, from its suffix.
fn algorithm_of(name: &str) -> Option<Algorithm> {
    let suffix = name.strip_prefix(DOCUMENT)?;
    Algorithm::of_signatures().find(|algorithm| algorithm.signature_suffix() == suffix)
}

/// Compares the members that are there with those that the document lists.
fn compare(path: &Path, listed: &[BundledMember], found: &[Member]) -> Result<()> {
    for (number, member) in found.iter().enumerate() {
        let name = &member.name;
        if found[..number].iter().any(|other| other.name == *name) {
            return Err(refused(path, &format!("it has two members `{name}`")));
        }
        let Some(entry) = listed.iter().find(|entry| entry.name == *name) else {
            return Err(refused(path, &format!("bundle.json does not list its member `{name}`")));
        };
        if entry.length != member.length {
            let (is, listed) = (member.length, entry.length);
            let what = format!("`{name}` has {is} bytes, but bundle.json lists {listed}");
            return Err(refused(path, &what));
        }
    }
    let is_there = |entry: &&BundledMember| found.iter().any(|member| member.name == entry.name);
    if let Some(missing) = listed.iter().find(|entry| !is_there(entry)) {
        return Err(refused(path, &format!("its member `{}` is missing", missing.name)));
    }
    if listed.iter().zip(found).any(|(entry, member)| entry.name != member.name) {
        return Err(refused(path, "its members have another order than in bundle.json"));
    }
    Ok(())
}

fn refused(path: &Path, what: &str) -> Error {
    let text = format!("`{}` is not a bundle as build-image writes it: {what}", path.display());
    Error::new(Stage::Source, text).hint("fetch the bundle again, or build it again")
}

fn altered(path: &Path, member: &str) -> Error {
    let text = format!("`{member}` in `{}` is not what bundle.json lists", path.display());
    Error::new(Stage::Source, text)
        .caused_by(&Altered)
        .hint("the bundle is damaged or was altered: fetch it again from its builder")
}

/// The cause of a refused member.
#[derive(Debug)]
struct Altered;

impl std::fmt::Display for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its SHA-256 is another")
    }
}

impl std::error::Error for Altered {}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

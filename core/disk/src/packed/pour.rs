//! Follows the layers of a stream to the disk in it: compressed layers and tar archives, in any order. The disk is
//! written once, whatever is around it.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use super::choice::{Choice, check_name, several};
use super::stream::Stream;
use super::unpack::{CHUNK, LayerError, Output, Packed};
use super::wrapping::{HEAD, Wrapping};
use crate::error::{Error, Kind};
use crate::ovf::{Digests, Hashed, Machine, Manifest};

/// Most layers: more have no use.
const MOST_LAYERS: u32 = 4;
/// Most members of an archive that are looked at.
pub(super) const MOST_MEMBERS: usize = 100_000;
/// Longest OVF descriptor or manifest, in bytes.
pub(super) const MOST_DESCRIPTOR: u64 = 4 << 20;

/// A layer with its name in errors.
struct Layer<R: io::BufRead> {
    name: &'static str,
    stream: Stream<R>,
}

impl<R: io::BufRead> Read for Layer<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf).map_err(|source| named(self.name, source))
    }
}

/// Adds the name of the layer to an error. The innermost name stays: the error comes from there.
pub(super) fn named(name: &'static str, source: io::Error) -> io::Error {
    if source.get_ref().is_some_and(|inner| inner.is::<LayerError>()) {
        return source;
    }
    // The crate has no kind for it.
    let is_cut = name == "tar"
        && ["unexpected EOF", "failed to read entire block"]
            .iter()
            .any(|text| source.to_string().contains(text));
    let kind = if is_cut { io::ErrorKind::UnexpectedEof } else { source.kind() };
    io::Error::new(kind, LayerError { name, source })
}

/// What a stream is searched for, and what was found.
pub(super) struct Pouring<'a, 'p> {
    pub(super) packed: &'a Packed<'p>,
    pub(super) choice: Choice,
    /// Name of the member that was written.
    pub(super) member: Option<String>,
    pub(super) machine: Option<Machine>,
    /// The manifest of an OVF package.
    pub(super) manifest: Manifest,
}

impl<'a, 'p> Pouring<'a, 'p> {
    /// Searches for the only disk, or for the named member.
    pub(super) fn new(packed: &'a Packed<'p>, member: Option<&str>) -> Self {
        Self {
            packed,
            choice: Choice { wanted: member.map(str::to_owned), described: Vec::new() },
            member: None,
            machine: None,
            manifest: Manifest::default(),
        }
    }
}

impl Pouring<'_, '_> {
    /// Writes the disk in `source` to `output`; reads `source` to its end.
    pub(super) fn pour(
        &mut self,
        source: &mut dyn Read,
        output: &mut Output<'_>,
        layers: u32,
    ) -> Result<(), Error> {
        let mut head = Vec::new();
        let read = (&mut *source).take(HEAD as u64).read_to_end(&mut head);
        read.map_err(|error| self.packed.error(error))?;
        let wrapping = Wrapping::of(&head);
        let mut source = Cursor::new(head).chain(source);
        let Some(wrapping) = wrapping else { return output.fill(&mut source, self.packed) };
        if layers == MOST_LAYERS {
            let message =
                format!("more than {MOST_LAYERS} layers of archives and compression are in");
            return Err(Error::new(Kind::Unsupported, message).at(self.packed.path));
        }
        match wrapping {
            Wrapping::Tar => self.pour_member(&mut source, output, layers),
            // Its table of contents is at its end; as content it is refused by name.
            Wrapping::Zip => output.fill(&mut source, self.packed),
            _ => {
                let name = wrapping.name();
                let source = BufReader::with_capacity(CHUNK, source);
                let stream = Stream::new(wrapping, source)
                    .map_err(|error| self.packed.error(named(name, error)))?;
                self.pour(&mut Layer { name, stream }, output, layers + 1)
            }
        }
    }

    /// Writes the only disk of a tar archive. All members are looked at: a second disk is an error.
    fn pour_member(
        &mut self,
        source: &mut dyn Read,
        output: &mut Output<'_>,
        layers: u32,
    ) -> Result<(), Error> {
        let packed = self.packed;
        let tar_error = |error| packed.error(named("tar", error));
        let (mut names, mut written): (Vec<String>, Option<String>) = (Vec::new(), None);
        let mut listed = Vec::new();
        let mut archive = tar::Archive::new(&mut *source);
        for entry in archive.entries().map_err(tar_error)? {
            let mut entry = entry.map_err(tar_error)?;
            let Some(name) = member_name(&entry) else { continue };
            if names.len() == MOST_MEMBERS {
                return Err(too_many(packed.path));
            }
            check_name(packed.path, &name)?;
            names.push(name.clone());
            if is_descriptor(&name) && self.machine.is_none() {
                let text = short_text(&mut entry).map_err(tar_error)?;
                self.describe(&text)?;
                listed.push((name, Digests::of(&text)));
            } else if is_manifest(&name) && self.manifest.is_empty() {
                self.manifest = Manifest::parse(&short_text(&mut entry).map_err(tar_error)?);
            } else if self.choice.accepts(&name) {
                if is_pax_sparse(&mut entry) {
                    return Err(pax_sparse(packed.path));
                }
                if let Some(first) = &written {
                    return Err(several(packed.path, &[first, &name]));
                }
                if self.machine.is_some() || !self.manifest.is_empty() {
                    let mut hashed = Hashed::new(&mut entry, self.digests_of(&name));
                    self.pour(&mut hashed, output, layers + 1)?;
                    listed.push((name.clone(), hashed.digests()));
                } else {
                    self.pour(&mut entry, output, layers + 1)?;
                }
                written = Some(name);
            }
        }
        // What follows the end of the archive belongs to it: padding. Reading it checks the layers around it.
        io::copy(source, &mut io::sink()).map_err(|error| packed.error(error))?;
        if written.is_none() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(self.choice.none(packed.path, &names));
        }
        // A manifest may follow the disk.
        listed.iter().try_for_each(|(name, digests)| self.compare(name, digests))?;
        self.member = written;
        Ok(())
    }

    /// Begins the digests of a member: those of the manifest, or all of them while it may follow.
    fn digests_of(&self, name: &str) -> Digests {
        if self.manifest.is_empty() {
            return Digests::all();
        }
        self.manifest.digests_of(file_name(name))
    }

    /// Compares a member with the manifest, which names files without directories.
    ///
    /// # Errors
    /// When the manifest has another digest of it.
    pub(super) fn compare(&self, name: &str, digests: &Digests) -> Result<(), Error> {
        let checked = self.manifest.check(file_name(name), digests);
        checked.map_err(|error| error.at(self.packed.path))
    }

    /// Takes the disks from an OVF descriptor.
    pub(super) fn describe(&mut self, text: &[u8]) -> Result<(), Error> {
        let machine = Machine::parse(text).map_err(|error| error.at(self.packed.path))?;
        self.choice.described.clone_from(&machine.disks);
        self.machine = Some(machine);
        Ok(())
    }
}

/// Returns the name of a member that is a file, also a sparse one.
pub(super) fn member_name<R: Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    let kind = entry.header().entry_type();
    let is_file = kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse();
    is_file.then(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned())
}

/// Whether a member is stored with its holes in one of the formats of pax; that of GNU is read.
pub(super) fn is_pax_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> bool {
    let extensions = entry.pax_extensions().ok().flatten();
    let mut keys = extensions.into_iter().flatten().flatten();
    keys.any(|extension| extension.key_bytes().starts_with(b"GNU.sparse."))
}

/// The error for an archive with too many members.
pub(super) fn too_many(path: &Path) -> Error {
    Error::new(Kind::Unsupported, format!("more than {MOST_MEMBERS} members are in"))
        .at(path)
        .with_hint("extract the disk and give it itself")
}

/// The error for such a member.
pub(super) fn pax_sparse(path: &Path) -> Error {
    Error::new(Kind::Unsupported, "the disk is stored as a sparse file in the format of pax, in")
        .at(path)
        .with_hint("pack it again with `tar --format=gnu -S`")
}

/// Whether a member is the descriptor of an OVF package.
pub(super) fn is_descriptor(name: &str) -> bool {
    has_suffix(name, ".ovf")
}

/// Whether a member is the manifest of an OVF package.
pub(super) fn is_manifest(name: &str) -> bool {
    has_suffix(name, ".mf")
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    let file = file_name(name);
    // macOS packs a file `._name` for each file.
    file.len() > suffix.len()
        && file.to_ascii_lowercase().ends_with(suffix)
        && !file.starts_with("._")
}

/// Returns a name without its directories.
pub(super) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Reads a descriptor or a manifest. A descriptor that is too long is cut, and then refused as XML.
pub(super) fn short_text(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(MOST_DESCRIPTOR).read_to_end(&mut text)?;
    Ok(text)
}

//! Opens a disk image that the user gave: verifies its checksum, unpacks it, and determines its size and its facts.

use std::{
    fs,
    ops::ControlFlow,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{
    FileStamp, Format, Kind,
    facts::{Facts, Scheme},
    format::{GuestReader, LockedFile},
    ovf::Machine,
    packed::{self, Content, Found, Wrapping},
};
use build_image_plugin_api::Progress;
use indicatif::HumanBytes;

use reqwest::Url;

use super::{
    SourceContext, from_disk, not_accepted, sums,
    verify::{Subject, Verifier},
};
use crate::{
    artifacts::more_space,
    error::{Error, Result, Stage},
    plan,
    settings::{
        AppliesTo, Resolved, core_rows,
        keys::{self, ARTIFACTS_DIR},
    },
    signature::{Algorithm, Digests, Pass},
};

/// The supported formats, for hints.
const FORMATS: &str = "give a raw, qcow2, VMDK, VHD, VHDX or VDI disk, as it is, compressed, in a tar or zip archive, or in an OVA";
/// Bytes of a block in the counts of `stat`.
const BLOCK: u64 = 512;

/// A disk image that the user gave, open and checked.
#[derive(Clone, Debug)]
pub struct GivenDisk {
    /// The file.
    pub path: PathBuf,
    /// Its content, at the size that was requested.
    pub reader: GuestReader,
    /// Facts that were read from the disk.
    pub facts: Facts,
    /// The outermost layer around it.
    pub wrapping: Option<Wrapping>,
    /// Bytes that its files allocate, unpacked.
    pub occupied: u64,
    /// The SHA-256 of the bytes that were read from a pipe, in hexadecimal digits; `None` for a file.
    pub piped: Option<String>,
    /// Directory of the unpacked file; declared after the reader, so that the directory is empty when it is
    /// removed.
    _workplace: Option<Arc<Workplace>>,
}

impl GivenDisk {
    /// Creates a disk that is not packed; its bytes are not verified.
    pub(super) fn unpacked(path: &Path, reader: GuestReader, facts: Facts) -> Self {
        let occupied = allocated(&reader);
        let path = path.to_owned();
        Self { path, reader, facts, wrapping: None, occupied, piped: None, _workplace: None }
    }

    /// Returns the file's name without the suffixes of packing and format.
    pub(crate) fn stem(&self) -> String {
        stem(&self.path, self.wrapping.is_some())
    }

    /// Checks that the disk was not written to or replaced since it was opened.
    ///
    /// # Errors
    /// [`Stage::Source`] with the file that changed.
    pub fn check_unchanged(&self) -> Result<()> {
        self.reader.check_unchanged().map_err(|error| from_disk(Stage::Source, error))
    }

    /// The files that the disk is read from, with their stamps from when it was opened: these files must not be
    /// written to.
    pub fn files(&self) -> impl Iterator<Item = (&Path, FileStamp)> {
        self.reader.sources()
    }

    /// A one-line description: partition table, boot method, and, if its boot loader shows it, processor architecture.
    pub(crate) fn described(&self) -> String {
        let facts = &self.facts;
        let firmware = match (facts.bios, facts.uefi) {
            (true, true) => "starts by BIOS and UEFI",
            (true, false) => "starts by BIOS",
            (false, true) => "starts by UEFI only",
            (false, false) => "no boot loader found",
        };
        let processor = facts.architecture.map(|found| format!(", {}", found.name()));
        format!("{}, {firmware}{}", facts.scheme.name(), processor.unwrap_or_default())
    }
}

/// Suffixes of compressed files and of archives, and whether it is an archive, whose name need not be that of a disk.
const LAYERS: [(&str, bool); 15] = [
    ("gz", false),
    ("xz", false),
    ("zst", false),
    ("zstd", false),
    ("bz2", false),
    ("lz4", false),
    ("lzma", false),
    ("tar", true),
    ("tgz", true),
    ("txz", true),
    ("tbz2", true),
    ("tzst", true),
    ("tlz", true),
    ("ova", true),
    ("zip", true),
];

/// Returns whether a suffix is that of a layer around a disk, and if so, whether that is an archive.
pub(super) fn layer(suffix: &str) -> Option<bool> {
    let found = LAYERS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix));
    found.map(|(_, is_archive)| is_archive)
}

/// Returns a disk's file name without the suffixes of layers and format.
pub(super) fn stem(path: &Path, is_packed: bool) -> String {
    let mut stem = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (mut layers, mut is_archive) = (0, false);
    while is_packed
        && let Some((rest, suffix)) = stem.rsplit_once('.').filter(|(rest, _)| !rest.is_empty())
        && (layer(suffix).is_some() || layers == 0)
    {
        is_archive |= layer(suffix).unwrap_or_default();
        layers += 1;
        stem = rest.to_owned();
    }
    let format = stem.rsplit_once('.').map(|(_, suffix)| suffix.to_lowercase());
    let is_format =
        format.is_some_and(|suffix| suffix == "img" || suffix.parse::<Format>().is_ok());
    if !is_archive || is_format {
        let stripped = Path::new(&stem).file_stem().map(|name| name.to_string_lossy().into_owned());
        stem = stripped.unwrap_or(stem);
    }
    if stem.is_empty() { "disk".to_owned() } else { stem }
}

/// Refuses settings of given disks in builds that have none.
///
/// # Errors
/// Names the setting.
pub(super) fn refuse_settings(settings: &Resolved) -> Result<()> {
    for row in core_rows() {
        if let AppliesTo::GivenDisk { hint } = row.applies_to
            && settings.of(&row).is_some()
        {
            let text = format!("{} is set, but no disk image is given", row.key());
            return Err(Error::new(Stage::Settings, text).hint(hint));
        }
    }
    Ok(())
}

/// A disk image that is available locally.
pub(super) struct Given<'a> {
    /// Its path.
    pub(super) path: &'a Path,
    /// Its URL, if it was downloaded.
    pub(super) url: Option<&'a Url>,
    /// Digests that were computed during its download.
    pub(super) digests: Option<Digests>,
    /// Digests that are worth computing when it is read anyway.
    pub(super) algorithms: Vec<Algorithm>,
}

impl Given<'_> {
    /// Checks the file against its signature, its checksum, and the list of checksums that the settings name.
    fn verify(&self, context: &SourceContext<'_>, verifier: &Verifier<'_, '_>) -> Result<()> {
        let subject = Subject {
            signature: keys::DISK_SIG.name(),
            sha256: keys::DISK_SHA256.name(),
            path: self.path,
            url: self.url,
            listed: sums::expected(context, self.path, self.url)?,
        };
        verifier.check(&subject, self.digests.clone()).map(drop)
    }
}

/// Opens a disk image.
///
/// # Errors
/// When the file does not match its checksum or signature, is damaged, incomplete or not a disk, or cannot have the
/// requested size.
pub(super) fn open(
    context: &SourceContext<'_>,
    verifier: &Verifier<'_, '_>,
    given: Given<'_>,
) -> Result<GivenDisk> {
    let path = given.path;
    let wrapping = packed::wrapping(path).map_err(|error| not_accepted(path, error))?;
    let opened = match wrapping {
        Some(wrapping) => unwrap(context, verifier, given, wrapping)?,
        None => {
            let source_error = |error| not_accepted(path, error);
            let file = LockedFile::open(path).map_err(source_error)?;
            let checked = given.verify(context, verifier);
            // A change explains a wrong checksum; after a correct one, the bytes are those of the open file.
            file.check_unchanged().map_err(source_error)?;
            checked?;
            // Opening it reads every table: a damaged or incomplete image is refused here, not during the upload.
            let format = context.settings.core().source.disk_format;
            let reader = GuestReader::open_file(file, format).map_err(source_error)?;
            let occupied = allocated(&reader);
            Opened { reader, occupied, workplace: None, machine: None, piped: None }
        }
    };
    opened.judged(context, path, wrapping)
}

/// A disk whose content is at hand and verified.
pub(super) struct Opened {
    pub(super) reader: GuestReader,
    /// Bytes that its files allocate.
    pub(super) occupied: u64,
    pub(super) workplace: Option<Arc<Workplace>>,
    /// The machine that its archive describes.
    pub(super) machine: Option<Machine>,
    pub(super) piped: Option<String>,
}

impl Opened {
    /// Checks what is on the disk, and extends it to the requested size.
    pub(super) fn judged(
        self,
        context: &SourceContext<'_>,
        path: &Path,
        wrapping: Option<Wrapping>,
    ) -> Result<GivenDisk> {
        let Self { reader, occupied, workplace, machine, piped } = self;
        check(context.settings, path, wrapping, &reader)?;
        let reader = grown(context, path, reader)?;
        let mut facts = Facts::read(&reader).map_err(|error| not_accepted(path, error))?;
        if let Some(uefi) = machine.and_then(|machine| machine.uefi) {
            facts.prefer(uefi);
        }
        check_whole(context, path, &reader, &facts)?;
        // The bytes that will be read are those that were checked and that the facts were read from.
        reader.check_unchanged().map_err(|error| not_accepted(path, error))?;
        warn(context, path, &reader, &facts);
        let path = path.to_owned();
        Ok(GivenDisk { path, reader, facts, wrapping, occupied, piped, _workplace: workplace })
    }
}

/// Refuses a file that is not a disk, or not one whose format is certain.
pub(super) fn check(
    settings: &Resolved,
    path: &Path,
    wrapping: Option<Wrapping>,
    reader: &GuestReader,
) -> Result<()> {
    let (display, source) = (path.display(), &settings.core().source);
    let source_error = |text: String, hint: &str| Err(Error::new(Stage::Source, text).hint(hint));
    let probe = reader.probe();
    if let Some(foreign) = probe.foreign {
        let verb = if wrapping.is_some() { "holds" } else { "is" };
        let text = format!("`{display}` {verb} {}, which is not read as a disk", foreign.name);
        return source_error(text, foreign.remedy);
    }
    let size = reader.virtual_size();
    if size == 0 {
        return source_error(format!("`{display}` has 0 bytes"), FORMATS);
    }
    if probe.format == Format::Raw && probe.evidence.is_none() && source.disk_format.is_none() {
        let what = if wrapping.is_some() { "the content of " } else { "" };
        let text = format!(
            "{what}`{display}` is not recognised as a disk: it has no partition table, boot sector, or file system"
        );
        let hint = format!(
            "{FORMATS}; a raw disk without them, such as an empty one, needs --disk-format raw"
        );
        return source_error(text, &hint);
    }
    if !size.is_multiple_of(BLOCK) && source.disk_size.is_none() {
        let text = format!("`{display}` has {size} bytes, which is not a multiple of {BLOCK}");
        let padded = size.next_multiple_of(BLOCK);
        let hint = format!(
            "if the file is complete, --disk-size {padded} pads it with zeros; otherwise fetch it again"
        );
        return source_error(text, &hint);
    }
    Ok(())
}

/// Refuses a disk that is not there to its end, unless its format was stated: then it is taken as it is.
pub(super) fn check_whole(
    context: &SourceContext<'_>,
    path: &Path,
    reader: &GuestReader,
    facts: &Facts,
) -> Result<()> {
    let Some(first) = facts.missing.first() else { return Ok(()) };
    let others = match facts.missing.len() - 1 {
        0 => String::new(),
        1 => " (and one more part)".to_owned(),
        count => format!(" (and {count} more parts)"),
    };
    let end = facts.missing.iter().map(|part| part.end).max().unwrap_or(first.end);
    let size = reader.stored_size();
    let text = format!(
        "`{}` is incomplete: the disk has {size} bytes, but {} ends at byte {}{others}: {} are missing",
        path.display(),
        first.what,
        first.end,
        HumanBytes(end - size)
    );
    if context.settings.core().source.disk_format.is_some() {
        context.reporter.warning(&text, None);
        return Ok(());
    }
    Err(Error::new(Stage::Source, text).hint(format!(
        "fetch or copy it again; if it was cut on purpose, --disk-format {} takes it as it is",
        reader.probe().format
    )))
}

/// Returns the disk at the requested size.
pub(super) fn grown(
    context: &SourceContext<'_>,
    path: &Path,
    reader: GuestReader,
) -> Result<GuestReader> {
    let Some(requested) = context.settings.core().source.disk_size else { return Ok(reader) };
    let (key, size) = (keys::DISK_SIZE, reader.virtual_size());
    let size_error = |text: String| Error::new(Stage::Settings, text);
    if requested < size {
        let text = format!(
            "{key} is {requested} bytes, but `{}` is a disk of {size}, and none is made smaller",
            path.display()
        );
        return Err(size_error(text).hint(format!(
            "leave {key} out; to shrink a disk, shrink its file systems and partitions, then the file",
        )));
    }
    reader.grown_to(requested).map_err(|error| {
        let made = size_error(format!("{key} is {requested} bytes, no multiple of 512"));
        made.caused_by(&error).hint("give it with a unit, as in --disk-size=20GiB")
    })
}

/// Warns about facts that may surprise the user of the image; a build that planned with the disk has done so.
fn warn(context: &SourceContext<'_>, path: &Path, reader: &GuestReader, facts: &Facts) {
    for remark in &facts.remarks {
        context.reporter.warning_once(&format!("`{}`: {remark}", path.display()), None);
    }
    if reader.virtual_size() > reader.stored_size() && facts.scheme == Scheme::Gpt {
        context.reporter.warning_once(
            "the disk is made larger, so the backup of its partition table is no longer at the end",
            Some("most systems repair that when they start; partitions are for them to grow, as with growpart"),
        );
    }
    if facts.sector != BLOCK {
        let text = format!(
            "`{}`: the partition table counts sectors of {} bytes, which clouds do not have",
            path.display(),
            facts.sector
        );
        context
            .reporter
            .warning_once(&text, Some("make the image on a disk with sectors of 512 bytes"));
    }
}

/// Returns the bytes that the files of a disk allocate.
fn allocated(reader: &GuestReader) -> u64 {
    reader.files().map(|path| fs::metadata(path).map_or(0, |file| file.blocks() * BLOCK)).sum()
}

/// Finds the disk inside archives and compression. One that an archive stores as it is is read there; others are
/// unpacked into a file without a name, which is removed when its last reader closes it, also after a kill.
fn unwrap(
    context: &SourceContext<'_>,
    verifier: &Verifier<'_, '_>,
    mut given: Given<'_>,
    wrapping: Wrapping,
) -> Result<Opened> {
    let (path, source) = (given.path, &context.settings.core().source);
    let workplace = Workplace::make(&plan::base_directory(context.settings)?)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let total = fs::metadata(path).map_or(0, |file| file.len());
    context.reporter.begin("unpack", &format!("unpacking {name} ({})", wrapping.name()));
    let needs_digest = !given.algorithms.is_empty() && given.digests.is_none();
    let pass = if needs_digest { Some(Pass::new(&given.algorithms)?) } else { None };
    let (mut done, mut digest_error) = (0, None);
    let mut seen = |piece: &[u8]| {
        done += piece.len() as u64;
        context.reporter.progress(Progress::new(done.min(total), total));
        digest_error = pass.as_ref().and_then(|pass| pass.update(piece.to_vec()).err());
        if digest_error.is_some() || context.interrupt.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let member = source.disk_member.as_deref();
    let found = packed::find(path, &workplace.directory, member, &mut seen);
    context.reporter.clear();
    if let Some(error) = digest_error {
        return Err(error);
    }
    let Found { content, member, machine, streamed, .. } =
        found.map_err(|error| not_unpacked(path, error))?;
    let passed = pass.map(Pass::finish).transpose()?.filter(|_| streamed);
    given.digests = passed.or(given.digests);
    let from = member.map(|member| format!("`{member}` ")).unwrap_or_default();
    let summary = summary(machine.as_ref());
    let (reader, occupied, workplace) = match content {
        Content::InPlace { file } => {
            context.reporter.end(&format!("{from}is read in the archive{summary}"));
            given.verify(context, verifier)?;
            let reader = GuestReader::open_file(file, source.disk_format)
                .map_err(|error| not_accepted(path, error))?;
            let occupied = allocated(&reader);
            (reader, occupied, None)
        }
        Content::Unpacked { file, len, source: stamp } => {
            let occupied = file.metadata().map_or(0, |file| file.blocks() * BLOCK);
            context.reporter.end(&format!("{from}{} unpacked{summary}", HumanBytes(len)));
            given.verify(context, verifier)?;
            let reader = GuestReader::open_unpacked(file, path, stamp, source.disk_format)
                .map_err(|error| not_accepted(path, error))?;
            (reader, occupied, Some(Arc::new(workplace)))
        }
    };
    Ok(Opened { reader, occupied, workplace, machine, piped: None })
}

/// Describes the machine of an archive, as a continuation of a sentence.
pub(super) fn summary(machine: Option<&Machine>) -> String {
    let summary = machine.map(Machine::summary).filter(|summary| !summary.is_empty());
    summary.map(|summary| format!("; the machine: {summary}")).unwrap_or_default()
}

pub(super) fn not_unpacked(path: &Path, error: build_image_disk::Error) -> Error {
    if error.kind() != Kind::NoSpace {
        return not_accepted(path, error);
    }
    from_disk(Stage::Disk, error).hint(more_space(ARTIFACTS_DIR))
}

/// The directory for unpacking. Directories that were created for it are removed when they are empty.
#[derive(Debug)]
pub(super) struct Workplace {
    pub(super) directory: PathBuf,
    made: Vec<PathBuf>,
}

impl Workplace {
    pub(super) fn make(directory: &Path) -> Result<Self> {
        let made = directory.ancestors().take_while(|directory| !directory.exists());
        let made: Vec<PathBuf> = made.map(Path::to_owned).collect();
        fs::create_dir_all(directory)
            .map_err(|error| crate::artifacts::cannot_make(directory, &error))?;
        Ok(Self { directory: directory.to_owned(), made })
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        for directory in &self.made {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

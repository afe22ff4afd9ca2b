//! Writes one file for support requests: the log, the records, and the output of the guest. Only the files
//! listed here are included, never user files, keys or the settings of others.

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io::{self, Read as _},
    path::Path,
};

use build_image_disk::{
    pack::{ArchiveOptions, Content, Control, DigestKinds, Level, Member, zip},
    view::Stamp,
};
use build_image_files::AtomicFile;

use crate::{
    artifacts::more_space,
    error::{Error, Result, Stage},
    settings::keys::LOG_FILE,
    source::from_disk,
};

/// Files of the artifacts directory that are included, if they exist.
const FILES: [&str; 11] = [
    "build-image.json",
    "build_config.json",
    "end_file.json",
    "files.txt",
    "generator-info.json",
    "image_id.json",
    "location.json",
    "prepare_cloud_image.json",
    "prepare_virtual_disk.json",
    "reuse.json",
    "start_file.json",
];
/// Maximum number of bytes of one file.
const LIMIT: u64 = 16 << 20;

/// Writes `<log>.snapshot.zip`; `own` are the files of the installer.
pub(super) fn write(directory: &Path, log: &Path, own: &[String]) -> Result<()> {
    let mut name = log.as_os_str().to_owned();
    name.push(".snapshot.zip");
    let log_name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: BTreeSet<&str> = FILES.into_iter().chain(own.iter().map(String::as_str)).collect();
    let sources = names.into_iter().map(|name| (name.to_owned(), directory.join(name)));
    let sources = sources.chain([(log_name, log.to_owned())]);
    let members = sources.filter_map(|(name, path)| {
        let mut bytes = Vec::new();
        // The log may also be a pipe or a terminal.
        path.metadata().ok().filter(Metadata::is_file)?;
        fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
        Some(Member { name, content: Content::Bytes(bytes) })
    });
    let options = ArchiveOptions {
        level: Level::default(),
        stamp: Stamp::new("snapshot", 0),
        digests: DigestKinds::NONE,
    };
    let name = Path::new(&name);
    let write_error = |error: io::Error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", name.display()))
            .caused_by(&error)
            .hint(more_space(LOG_FILE))
    };
    // It is written where only its owner can read it, in a directory that is removed even if this process is
    // killed.
    let work = tempfile::tempdir_in(directory).map_err(write_error)?;
    let grown = work.path().join("snapshot.zip");
    let written = zip(members.collect(), &options, &grown, &Control::new());
    written.and_then(|file| file.finish()).map_err(|error| from_disk(Stage::Disk, error))?;
    copy(&grown, name).map_err(write_error)
}

/// Copies the finished file beside the log, durably: an older one is kept until then.
fn copy(grown: &Path, name: &Path) -> io::Result<()> {
    let mut file = AtomicFile::with_mode(name, 0o600)?;
    io::copy(&mut fs::File::open(grown)?, &mut file)?;
    file.commit()
}

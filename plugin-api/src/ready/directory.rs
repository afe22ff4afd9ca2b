//! Writes the finished disk into IMAGE_DIR: under a temporary name, synced to disk, then renamed. An older image
//! with that name is kept until then, and a failed build removes only the files that it wrote. A provider that
//! publishes nothing else forwards its steps to these functions; its `discard` is [`remove`].

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use build_image_files::{AtomicFile, Identity, abandoned, temporary_path};

use super::{digests::Hashing, scripted::shell_quote};
use crate::{
    Context, Disk, Error, ErrorKind, Resource, Result, WrittenDisk,
    document::{
        Build, CheckRequest, DiscardRequest, Discarded, Finding, Image, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
};

/// Kind of the resources that this module creates.
pub const FILE: &str = "file";
/// Attribute of a resource: the name of the file until it is complete.
const TEMPORARY: &str = "temporary";
/// Attribute of a resource: identity of the created file, independent of its name ([`Identity`]).
const IDENTITY: &str = "identity";
/// Name of the file that a check creates; unfinished files have a dot prefix.
const PROBE: &str = "build-image.probe";
/// Number of bytes read from the disk at a time.
const CHUNK: usize = 1 << 20;

/// Checks whether the directory is writable. Before a build it creates a file; a dry run creates nothing.
#[must_use]
pub fn check(request: &CheckRequest) -> Finding {
    let found = path(&request.build).and_then(|folder| {
        let display = folder.display().to_string();
        if request.dry_run {
            return look(&folder).map(|what| format!("`{display}` {what}"));
        }
        probe(&folder).map_err(|error| cannot_write(&folder, &error))?;
        Ok(format!("`{display}` is writable"))
    });
    match found {
        Ok(text) => Finding::ok("IMAGE_DIR", text),
        Err(error) => Finding::error("IMAGE_DIR", &error),
    }
}

/// Writes the disk into IMAGE_DIR, under the name that the host suggests: the host writes it, or it is copied if the host
/// cannot. The facts of the answer contain the digests of the file, such as `md5` and `sha256`, as hexadecimal text.
///
/// # Errors
/// When the disk cannot be read or the file cannot be written.
pub fn write(context: &Context, request: &UploadRequest) -> Result<Uploaded> {
    let target = path(&request.build)?.join(&request.disk.file_name);
    let planned = Planned::record(context, &target)?;
    let written = match context.write_disk(&request.disk, &planned.temporary) {
        Ok(written) => {
            let write_error = |error: io::Error| cannot_write(&target, &error);
            let file = AtomicFile::open_at(&planned.temporary, &target).map_err(write_error)?;
            planned.commit(context, file, |_| Ok(written))?
        }
        Err(error) if error.kind == ErrorKind::Unsupported => {
            planned.create(context, |file| copy(context, &request.disk, file))?
        }
        // The temporary name says nothing to the user.
        Err(mut error) => {
            let [temporary, target] = [&planned.temporary, &target].map(|path| path.display());
            error.message = error.message.replace(&temporary.to_string(), &target.to_string());
            return Err(error);
        }
    };
    Ok(Uploaded {
        location: target.display().to_string(),
        bytes_sent: written.length,
        facts: written.digests.into_iter().map(|(name, digest)| (name, digest.into())).collect(),
        ..Uploaded::default()
    })
}

/// Registers the published file as the image; `location` is the only fact.
#[must_use]
pub fn registered(request: &RegisterRequest) -> Registered {
    let id = request.uploaded.location.clone();
    let name = Path::new(&id).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let image = Image { id: id.clone(), name, region: None, ..Image::default() };
    Registered {
        images: vec![image],
        facts: [("location".to_owned(), id.into())].into(),
        ..Registered::default()
    }
}

/// Removes files that [`write_file`] created, complete or not. Files that another build wrote
/// under the same names are kept.
///
/// # Errors
/// None; the answer lists files that cannot be removed.
pub fn remove(context: &Context, request: &DiscardRequest) -> Result<Discarded> {
    context.discard_each(request, remove_one)
}

/// Returns the image directory of a build.
///
/// # Errors
/// When the build has no image directory.
pub fn path(build: &Build) -> Result<PathBuf> {
    let folder = build.image_dir.as_ref().ok_or_else(|| {
        Error::config("no directory to publish the image in")
            .with_hint("set IMAGE_DIR in the configuration file")
    })?;
    Ok(PathBuf::from(folder))
}

/// Writes a script beside the image atomically; users who may read it may also execute it.
///
/// # Errors
/// When it cannot be written.
pub fn write_script(context: &Context, target: &Path, text: &str) -> Result<()> {
    write_file(context, target, |file| {
        let write_error = |error: io::Error| cannot_write(target, &error);
        file.write_all(text.as_bytes()).map_err(write_error)?;
        let mode = file.file().metadata().map_err(write_error)?.permissions().mode();
        let executable = fs::Permissions::from_mode(mode | ((mode & 0o444) >> 2));
        file.file().set_permissions(executable).map_err(write_error)
    })
}

/// Writes a file with `fill`; when `fill` succeeds, it is renamed to its final name and replaces an older file.
/// The temporary name is reported to the host before the file exists, the identity of the file before the rename.
///
/// # Errors
/// The error of `fill`; when the file cannot be written.
pub fn write_file<T>(
    context: &Context,
    target: &Path,
    fill: impl FnOnce(&mut AtomicFile) -> Result<T>,
) -> Result<T> {
    Planned::record(context, target)?.create(context, fill)
}

/// A file whose temporary name the host has recorded.
struct Planned {
    target: PathBuf,
    temporary: PathBuf,
    resource: Resource,
}

impl Planned {
    fn record(context: &Context, target: &Path) -> Result<Self> {
        // Nothing is created after the build was cancelled.
        context.check_cancelled()?;
        // Temporary files of killed processes, also of this run: from here on the host knows only the new name.
        abandoned::remove_of(target);
        let temporary = temporary_path(target).map_err(|error| cannot_write(target, &error))?;
        let resource = Resource::new(FILE, target.display().to_string())
            .with(TEMPORARY, temporary.display().to_string())
            .as_deliverable();
        context.will_create(&resource)?;
        Ok(Self { target: target.to_owned(), temporary, resource })
    }

    /// Creates the file, and writes it with `fill`.
    fn create<T>(
        self,
        context: &Context,
        fill: impl FnOnce(&mut AtomicFile) -> Result<T>,
    ) -> Result<T> {
        let file = AtomicFile::create_at(&self.temporary, &self.target)
            .map_err(|error| cannot_write(&self.target, &error))?;
        self.commit(context, file, fill)
    }

    /// Records the identity of the file, completes the file with `fill`, and renames it.
    fn commit<T>(
        self,
        context: &Context,
        mut file: AtomicFile,
        fill: impl FnOnce(&mut AtomicFile) -> Result<T>,
    ) -> Result<T> {
        let created = self.resource.with(IDENTITY, file.identity().to_string());
        context.created(&created)?;
        let filled = fill(&mut file)?;
        file.commit().map_err(|error| cannot_write(&self.target, &error))?;
        context.created(&created.with_id(self.target.display().to_string()))?;
        Ok(filled)
    }
}

/// Reads the image to its end; the image may still be being written.
fn copy(context: &Context, disk: &Disk, file: &mut AtomicFile) -> Result<WrittenDisk> {
    std::thread::scope(|scope| {
        let hashing = Hashing::start(scope)
            .map_err(|error| Error::io("cannot start a thread for a digest", &error))?;
        let mut offset = 0;
        loop {
            context.check_cancelled()?;
            let mut buffer = vec![0; CHUNK];
            let read = context.read_disk(disk, offset, &mut buffer)?;
            buffer.truncate(read);
            file.write_all(&buffer).map_err(|error| cannot_write(file.target(), &error))?;
            hashing.update(buffer);
            offset += read as u64;
            context.progress_bytes(offset, disk.length.unwrap_or(disk.length_limit));
            if read < CHUNK {
                break;
            }
        }
        if let Some(length) = disk.length.filter(|length| *length != offset) {
            let text = format!("the disk ends at byte {offset}, not at {length}");
            return Err(Error::internal(text));
        }
        let (md5, sha256) = hashing.finish()?;
        Ok(WrittenDisk::new(offset).digests([("md5", md5), ("sha256", sha256)]))
    })
}

/// Removes the file of a resource, under its temporary and its final name.
fn remove_one(resource: &Resource) -> Result<()> {
    if resource.kind != FILE {
        return Err(Error::unsupported(
            format!("this provider creates no `{}`", resource.kind),
            "use the plugin that created it",
        ));
    }
    let temporary = resource.attributes.get(TEMPORARY).map(PathBuf::from);
    let identity = resource.attributes.get(IDENTITY).and_then(|text| text.parse().ok());
    let Some(identity): Option<Identity> = identity else {
        // Not created yet when this process was killed, or written by an earlier version, which renamed the file
        // only after it recorded an id.
        let finished = resource.id.as_ref().map(PathBuf::from);
        return temporary.into_iter().chain(finished).try_for_each(|path| remove_path(&path));
    };
    for path in temporary.into_iter().chain([PathBuf::from(&resource.name)]) {
        if identity.is_at(&path).map_err(|error| cannot_remove(&path, &error))? {
            remove_path(&path)?;
        }
    }
    Ok(())
}

fn remove_path(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_remove(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn cannot_remove(path: &Path, error: &io::Error) -> Error {
    let display = path.display().to_string();
    Error::new(ErrorKind::Local, format!("cannot remove `{display}`"))
        .caused_by(error)
        .with_hint(format!("rm -f {}", shell_quote(&display)))
}

fn look(folder: &Path) -> Result<&'static str> {
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok("is a folder"),
        Ok(_) => Err(cannot_write(folder, &io::ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("would be created"),
        Err(error) => Err(cannot_write(folder, &error)),
    }
}

/// Creates a file in a directory and removes it. A file that a killed process left is removed by the next check.
fn probe(folder: &Path) -> io::Result<()> {
    AtomicFile::create(&folder.join(PROBE)).map(drop)
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "free some space, or set IMAGE_DIR to a larger file system",
        io::ErrorKind::NotFound => "create the folder, or set IMAGE_DIR to an existing one",
        _ => "set IMAGE_DIR to a folder this user may write to",
    };
    Error::new(ErrorKind::Local, format!("cannot write `{}`", path.display()))
        .caused_by(error)
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Event, testing::MockHost};

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn discard(host: &Arc<MockHost>, resource: Resource) -> Discarded {
        let request = DiscardRequest { resources: vec![resource], ..DiscardRequest::default() };
        remove(&host.context(), &request).unwrap()
    }

    /// Returns every state of the host's record, oldest first.
    fn states(host: &MockHost) -> Vec<Resource> {
        let resource = |event| match event {
            Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => resource,
            other => panic!("{other:?}"),
        };
        host.events().into_iter().map(resource).collect()
    }

    #[test]
    fn the_answer_holds_the_digests_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let image_dir = Some(directory.path().display().to_string());
        let build = Build { image_dir, ..Build::default() };
        // Digests printed by md5sum and sha256sum.
        let known = [
            (
                0,
                "d41d8cd98f00b204e9800998ecf8427e",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                3 << 20,
                "d1dd210d6b1312cb342b56d02bd5e651",
                "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5",
            ),
        ];
        for (length, md5, sha256) in known {
            let host = Arc::new(MockHost::new().with_disk(vec![0; length]));
            let disk = host.context().make_disk(&crate::DiskSpec::default()).unwrap();
            let build = build.clone();
            let request = UploadRequest { build, disk, ..UploadRequest::default() };
            let uploaded = write(&host.context(), &request).unwrap();
            assert_eq!(
                (&uploaded.facts["md5"], &uploaded.facts["sha256"]),
                (&md5.into(), &sha256.into())
            );
            assert_eq!(fs::metadata(uploaded.location).unwrap().len(), length as u64);
        }
    }

    #[test]
    fn a_disk_that_the_host_writes_gets_its_name_and_a_record_at_each_step() {
        let directory = tempfile::tempdir().unwrap();
        let image_dir = Some(directory.path().display().to_string());
        let build = Build { image_dir, ..Build::default() };
        let host = Arc::new(MockHost::new().with_disk(vec![7; 70_000]).writing_disks());
        let disk = host.context().make_disk(&crate::DiskSpec::default()).unwrap();
        let target = directory.path().join(&disk.file_name);
        fs::write(&target, "older").unwrap();
        let request = UploadRequest { build, disk, ..UploadRequest::default() };
        let uploaded = write(&host.context(), &request).unwrap();
        assert!(uploaded.bytes_sent == 70_000 && uploaded.facts.is_empty(), "{uploaded:?}");
        assert_eq!(fs::read(&target).unwrap(), vec![7; 70_000]);
        assert_eq!(names(directory.path()).len(), 1);
        let [planned, created, renamed] = states(&host).try_into().unwrap();
        assert!(renamed.id.is_some() && created.attributes.contains_key(IDENTITY));
        // Killed while the host wrote: the file has its temporary name, and only the name is recorded.
        fs::write(&target, "older").unwrap();
        fs::write(&planned.attributes[TEMPORARY], "half").unwrap();
        assert_eq!(discard(&host, planned).removed.len(), 1);
        assert_eq!(names(directory.path()).len(), 1);
        assert_eq!(fs::read_to_string(&target).unwrap(), "older");
        // Cancelled before: nothing is planned, nothing is written.
        let recorded = host.events().len();
        host.cancel();
        assert_eq!(write(&host.context(), &request).unwrap_err().kind, ErrorKind::Cancelled);
        assert_eq!((names(directory.path()).len(), host.events().len()), (1, recorded));
    }

    #[test]
    fn wherever_a_process_is_killed_its_files_are_found_by_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        let host = Arc::new(MockHost::new());
        fs::write(&target, "older").unwrap();
        write_file(&host.context(), &target, |file| {
            assert_eq!(names(directory.path()).len(), 2);
            let [_, created] = states(&host).try_into().unwrap();
            assert_eq!(created.attributes[TEMPORARY], file.temporary().to_str().unwrap());
            Ok(())
        })
        .unwrap();
        let [planned, created, renamed] = states(&host).try_into().unwrap();
        // Killed before the file was created: no file exists, and the older image is kept.
        for (state, stays) in [(&planned, true), (&created, false)] {
            let answer = discard(&host, state.clone());
            assert_eq!((answer.removed.len(), answer.remaining.len()), (1, 0));
            assert_eq!(target.exists(), stays, "{state:?}");
        }
        // Killed while the file was written: the temporary file is removed, the older image is kept.
        fs::write(&target, "older").unwrap();
        let host = Arc::new(MockHost::new());
        let failed = write_file(&host.context(), &target, |file| {
            let kept = file.temporary().with_extension("kept");
            fs::rename(file.temporary(), &kept).unwrap();
            Err::<(), _>(Error::internal(kept.display().to_string()))
        });
        let state = host.resources().remove(0);
        fs::rename(failed.unwrap_err().message, &state.attributes[TEMPORARY]).unwrap();
        assert_eq!(names(directory.path()).len(), 2);
        assert_eq!(discard(&host, state).removed.len(), 1);
        assert_eq!(names(directory.path()), ["disk.img"]);
        // Renamed, and since then written again by another build.
        let answer = discard(&host, renamed);
        assert_eq!((answer.removed.len(), answer.remaining.len()), (1, 0));
        assert_eq!(fs::read_to_string(&target).unwrap(), "older");
    }

    #[test]
    fn a_host_that_cannot_record_does_not_keep_files_from_being_removed() {
        let directory = tempfile::tempdir().unwrap();
        let host = Arc::new(MockHost::new());
        for name in ["a", "b"] {
            let target = directory.path().join(name);
            write_file(&host.context(), &target, |_| Ok(())).unwrap();
        }
        let resources = host.resources();
        host.refuse_events();
        let request = DiscardRequest { resources, ..DiscardRequest::default() };
        let answer = remove(&host.context(), &request).unwrap();
        assert_eq!((answer.removed.len(), answer.remaining.len()), (2, 0));
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn what_cannot_be_removed_is_named_with_a_command_that_hits_only_it() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = directory.path().join("a 'b'");
        fs::create_dir(&temporary).unwrap();
        let host = Arc::new(MockHost::new());
        let resource = Resource::new(FILE, directory.path().join("disk.img").display().to_string());
        let answer = discard(&host, resource.with(TEMPORARY, temporary.display().to_string()));
        let hint = answer.remaining[0].hint.as_deref().unwrap();
        assert_eq!(hint, format!("rm -f {}", shell_quote(&temporary.display().to_string())));
        let foreign = discard(&host, Resource::new("image", "m-1"));
        assert!(foreign.remaining[0].reason.contains("creates no `image`"), "{foreign:?}");
    }
}

//! Writes the disk under a temporary name, makes it durable, then gives it its name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use build_image_plugin_api::{
    Context, Disk, Error, ErrorKind, Resource, Result,
    document::{
        Build, CheckReport, Finding, Image, RegisterRequest, Registered, UploadRequest, Uploaded,
    },
};

/// Kind of the only resource this provider makes.
pub(crate) const FILE: &str = "file";
/// Bytes read from the disk at a time.
const CHUNK: usize = 1 << 20;

/// Finds out whether the folder can be written to, without writing anything that stays.
pub(crate) fn check(build: &Build) -> CheckReport {
    let finding = match folder(build).and_then(|folder| {
        tempfile_in(&folder).map_err(|error| cannot_write(&folder, &error)).map(|()| folder)
    }) {
        Ok(folder) => Finding::ok("IMAGE_DIR", format!("`{}` is writable", folder.display())),
        Err(error) => Finding::error("IMAGE_DIR", &error),
    };
    CheckReport { findings: vec![finding], ..CheckReport::default() }
}

/// Copies the disk into the folder.
pub(crate) fn write(context: &Context, request: &UploadRequest) -> Result<Uploaded> {
    let target = folder(&request.build)?.join(&request.disk.file_name);
    let temporary = temporary_name(&target);
    let resource = Resource::new(FILE, target.display().to_string())
        .with("temporary", temporary.display().to_string())
        .as_product();
    context.will_create(&resource)?;
    let length = copy(context, &request.disk, &temporary)?;
    fs::rename(&temporary, &target).map_err(|error| cannot_write(&target, &error))?;
    context.created(&resource.with_id(target.display().to_string()))?;
    Ok(Uploaded {
        location: target.display().to_string(),
        bytes_sent: length,
        ..Uploaded::default()
    })
}

/// The published file is the image.
pub(crate) fn registered(request: &RegisterRequest) -> Registered {
    let id = request.uploaded.location.clone();
    let name = Path::new(&id).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let image = Image { id: id.clone(), name, region: None, ..Image::default() };
    Registered {
        images: vec![image],
        facts: [("location".to_owned(), id.into())].into(),
        ..Registered::default()
    }
}

/// Reads the image to its end; it may still be in the making. Returns its length, bytes.
fn copy(context: &Context, disk: &Disk, temporary: &Path) -> Result<u64> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(temporary)
        .map_err(|error| cannot_write(temporary, &error))?;
    let (mut offset, mut buffer) = (0, vec![0; CHUNK]);
    loop {
        context.check_cancelled()?;
        let read = context.read_disk(disk, offset, &mut buffer)?;
        file.write_all(&buffer[..read]).map_err(|error| cannot_write(temporary, &error))?;
        offset += read as u64;
        context.progress_bytes(offset, disk.length.unwrap_or(disk.length_limit));
        if read < buffer.len() {
            break;
        }
    }
    if let Some(length) = disk.length.filter(|length| *length != offset) {
        return Err(Error::internal(format!("the disk ends at byte {offset}, not at {length}")));
    }
    file.sync_all().map_err(|error| cannot_write(temporary, &error))?;
    Ok(offset)
}

fn folder(build: &Build) -> Result<PathBuf> {
    let folder = build.image_dir.as_ref().ok_or_else(|| {
        Error::config("there is no folder to publish the image in")
            .with_hint("set IMAGE_DIR in the configuration file")
    })?;
    Ok(PathBuf::from(folder))
}

fn temporary_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn tempfile_in(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!(".build-image-{}", std::process::id()));
    File::create(&probe)?;
    fs::remove_file(&probe)
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "free some space, or set IMAGE_DIR to a larger file system",
        io::ErrorKind::NotFound => "create the folder, or set IMAGE_DIR to an existing one",
        _ => "set IMAGE_DIR to a folder this user may write to",
    };
    Error::new(ErrorKind::Local, format!("cannot write `{}`", path.display()))
        .because(error)
        .with_hint(hint)
}

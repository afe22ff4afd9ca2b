//! The finished disk becomes a file in IMAGE_DIR: written under a temporary name, made durable, then
//! given its name. A provider that publishes nothing else forwards its steps to these functions; its
//! `discard` is [`remove`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Context, Disk, Error, ErrorKind, Resource, Result,
    document::{
        Build, CheckRequest, DiscardRequest, Discarded, Finding, Image, RegisterRequest,
        Registered, Remaining, UploadRequest, Uploaded,
    },
};

/// Kind of the resources made here.
pub const FILE: &str = "file";
/// Bytes read from the disk at a time.
const CHUNK: usize = 1 << 20;

/// Finds out whether the folder can be written to. Before a build it tries; a mere look tries nothing.
#[must_use]
pub fn check(request: &CheckRequest) -> Finding {
    let found = path(&request.build).and_then(|folder| {
        let shown = folder.display().to_string();
        if request.look_only {
            return look(&folder).map(|what| format!("`{shown}` {what}"));
        }
        probe(&folder).map_err(|error| cannot_write(&folder, &error))?;
        Ok(format!("`{shown}` is writable"))
    });
    match found {
        Ok(text) => Finding::ok("IMAGE_DIR", text),
        Err(error) => Finding::error("IMAGE_DIR", &error),
    }
}

/// Copies the disk into the folder, under the name the host suggests.
///
/// # Errors
/// When the disk cannot be read or the file not be written.
pub fn write(context: &Context, request: &UploadRequest) -> Result<Uploaded> {
    let target = path(&request.build)?.join(&request.disk.file_name);
    let length = place(context, &target, |file, name| copy(context, &request.disk, file, name))?;
    Ok(Uploaded {
        location: target.display().to_string(),
        bytes_sent: length,
        ..Uploaded::default()
    })
}

/// The published file is the image; `location` is the only fact about it.
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

/// Removes published files, finished or not.
///
/// # Errors
/// When the host cannot write down that a file is gone.
pub fn remove(context: &Context, request: &DiscardRequest) -> Result<Discarded> {
    let mut answer = Discarded::default();
    for resource in &request.resources {
        match remove_one(resource) {
            Ok(()) => {
                context.gone(resource)?;
                answer.removed.push(resource.clone());
            }
            Err(reason) => answer.remaining.push(Remaining {
                resource: resource.clone(),
                reason,
                hint: Some(format!("rm -f '{}'", resource.name)),
                ..Remaining::default()
            }),
        }
    }
    Ok(answer)
}

/// The folder of a build.
///
/// # Errors
/// When it has none.
pub fn path(build: &Build) -> Result<PathBuf> {
    let folder = build.image_dir.as_ref().ok_or_else(|| {
        Error::config("there is no folder to publish the image in")
            .with_hint("set IMAGE_DIR in the configuration file")
    })?;
    Ok(PathBuf::from(folder))
}

/// Puts a script beside the image, complete or not at all; who may read it may also run it.
///
/// # Errors
/// When it cannot be written.
pub fn write_script(context: &Context, target: &Path, text: &str) -> Result<()> {
    place(context, target, |file, temporary| {
        let failed = |error: io::Error| cannot_write(temporary, &error);
        file.write_all(text.as_bytes()).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        let executable = fs::Permissions::from_mode(mode | ((mode & 0o444) >> 2));
        file.set_permissions(executable).map_err(failed)
    })
}

/// Fills a file under a temporary name and gives it its own; the host knows of both before.
fn place<T>(
    context: &Context,
    target: &Path,
    fill: impl FnOnce(&mut File, &Path) -> Result<T>,
) -> Result<T> {
    let temporary = temporary_name(target);
    let resource = Resource::new(FILE, target.display().to_string())
        .with("temporary", temporary.display().to_string())
        .as_product();
    context.will_create(&resource)?;
    let failed = |error: io::Error| cannot_write(&temporary, &error);
    // A link somebody put there is removed, not followed.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let opened = OpenOptions::new().write(true).create_new(true).open(&temporary);
    let mut file = opened.map_err(failed)?;
    let filled = fill(&mut file, &temporary)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&temporary, target).map_err(|error| cannot_write(target, &error))?;
    context.created(&resource.with_id(target.display().to_string()))?;
    Ok(filled)
}

/// Reads the image to its end; it may still be in the making. Returns its length, bytes.
fn copy(context: &Context, disk: &Disk, file: &mut File, name: &Path) -> Result<u64> {
    let (mut offset, mut buffer) = (0, vec![0; CHUNK]);
    loop {
        context.check_cancelled()?;
        let read = context.read_disk(disk, offset, &mut buffer)?;
        file.write_all(&buffer[..read]).map_err(|error| cannot_write(name, &error))?;
        offset += read as u64;
        context.progress_bytes(offset, disk.length.unwrap_or(disk.length_limit));
        if read < buffer.len() {
            break;
        }
    }
    match disk.length.filter(|length| *length != offset) {
        Some(length) => {
            Err(Error::internal(format!("the disk ends at byte {offset}, not at {length}")))
        }
        None => Ok(offset),
    }
}

fn remove_one(resource: &Resource) -> Result<(), String> {
    if resource.kind != FILE {
        return Err(format!("this provider makes no `{}`", resource.kind));
    }
    let temporary = resource.attributes.get("temporary");
    // The finished file is ours only when this run gave it its name; an older one stays.
    let finished = resource.id.as_ref();
    for path in temporary.into_iter().chain(finished) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn temporary_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn look(folder: &Path) -> Result<&'static str> {
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok("is a folder"),
        Ok(_) => Err(cannot_write(folder, &io::ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("would be created"),
        Err(error) => Err(cannot_write(folder, &error)),
    }
}

/// Whether files can be made in a folder. The one that is made always has the same name, so that the next one
/// removes what a process left that was killed here; another process may do this at the same time.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(".build-image.probe.part");
    let made = match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    match fs::remove_file(&probe) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => made.and(Err(error)),
        _ => made,
    }
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

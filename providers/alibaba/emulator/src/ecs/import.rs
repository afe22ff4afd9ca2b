//! Inspects imported objects: the only place that opens disks. An object made of several body files is joined
//! into one first. Error codes in a task's OperationProgress are not published; those here are taken from
//! ImportImage's own table where one fits.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use build_image_disk::format::{Format, GuestReader, Probe, probe};

use crate::ids;
use crate::service::Service;
use crate::state::{Blobs, Disk, Segment, StateError, Store, Verdict};

const GIB: u64 = 1 << 30;

fn bad(code: &str, message: &str) -> Verdict {
    Verdict::Bad { code: code.to_owned(), message: message.to_owned() }
}

/// The body file that contains exactly these bytes, if one exists.
fn single(blobs: &Blobs, segments: &[Segment]) -> Result<Option<PathBuf>, StateError> {
    let [only] = segments else { return Ok(None) };
    if only.offset != 0 || blobs.length(&only.blob)? != only.length {
        return Ok(None);
    }
    Ok(Some(blobs.path(&only.blob)))
}

fn join(blobs: &Blobs, segments: &[Segment], blob: &str) -> Result<(), StateError> {
    let target: File = blobs.writer(blob)?;
    let path = blobs.path(blob);
    for segment in segments {
        let source = blobs.reader(&segment.blob)?;
        let mut from = segment.offset;
        let end = segment.offset + segment.length;
        while from < end {
            let count = usize::try_from((end - from).min(GIB)).unwrap_or(usize::MAX);
            let copied =
                rustix::fs::copy_file_range(&source, Some(&mut from), &target, None, count)
                    .map_err(std::io::Error::from)
                    .map_err(StateError::io("copy into", &path))?;
            if copied == 0 {
                let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(StateError::io("copy into", &path)(short));
            }
        }
    }
    Ok(())
}

fn format_name(found: &Probe) -> String {
    found.format.name().to_uppercase()
}

/// Inspects the file of one disk.
fn judge(path: &std::path::Path, disk: &Disk) -> Verdict {
    let damaged = |error: &build_image_disk::Error| {
        bad("ImportImageFailed", &format!("The object is damaged or not supported: {error}."))
    };
    let found = match probe(path) {
        Ok(found) => found,
        Err(error) => return damaged(&error),
    };
    let format = format_name(&found);
    let claimed = if disk.format.is_empty() { &format } else { &disk.format };
    if *claimed != format {
        let message = format!("The object is {format}, the call says {claimed}.");
        return bad("InvalidImageFormat.Malformed", &message);
    }
    if !matches!(found.format, Format::Raw | Format::Qcow2 | Format::Vhd) {
        let message = format!("The object is {format}, not a disk of a supported format.");
        return bad("InvalidImageFormat.Malformed", &message);
    }
    if let Some(foreign) = found.foreign {
        let message = format!("The object is {}, not a disk of a supported format.", foreign.name);
        return bad("InvalidImageFormat.Malformed", &message);
    }
    if let Some(backing) = &found.backing_file {
        let message = format!("The disk is only a difference to {backing}.");
        return bad("InvalidImageFormat.Malformed", &message);
    }
    if found.encrypted {
        return bad("InvalidImageFormat.Malformed", "The content of the disk is encrypted.");
    }
    if disk.size > 0 && found.virtual_size > disk.size * GIB {
        let message = format!(
            "The virtual size of the disk is {} bytes, more than the DiskImageSize of {} GiB.",
            found.virtual_size, disk.size
        );
        return bad("InvalidImageSize", &message);
    }
    match GuestReader::open(path) {
        Ok(_) => Verdict::Good { virtual_size: found.virtual_size, format },
        Err(error) => damaged(&error),
    }
}

/// Inspects one disk; joins its bytes when they are in several files.
fn look(store: &Store, image: &str, index: usize, disk: &Disk) -> Result<Verdict, StateError> {
    if let Some(path) = single(store.blobs(), &disk.segments)? {
        return Ok(judge(&path, disk));
    }
    let blob = ids::blob();
    let _hold = store.hold(&mut store.world(), &blob);
    join(store.blobs(), &disk.segments, &blob)?;
    let verdict = judge(&store.blobs().path(&blob), disk);
    let length = disk.segments.iter().map(|segment| segment.length).sum();
    let joined = vec![Segment { blob, offset: 0, length }];
    let mut world = store.world();
    world.replace_segments(image, index, (&disk.bucket, &disk.object), &joined)?;
    Ok(verdict)
}

/// Inspects the disks of an import and records the result.
pub(crate) fn inspect(store: &Store, task: &str) -> Result<(), StateError> {
    let image = {
        let world = store.world();
        let Some(task) = world.tasks.get(task) else { return Ok(()) };
        world.images.get(&task.image).cloned()
    };
    let Some(image) = image else { return Ok(()) };
    let mut verdict = bad("ImportImageFailed", "The image has no disk.");
    let mut sizes = Vec::new();
    for (index, disk) in image.disks.iter().enumerate() {
        let found = look(store, &image.id, index, disk)
            .unwrap_or_else(|error| bad("InternalError", &crate::chain(&error)));
        if let Verdict::Good { virtual_size, .. } = &found {
            sizes.push(virtual_size.div_ceil(GIB));
        }
        // The first refused disk decides; if all are accepted, the system disk does.
        if index == 0 || matches!(found, Verdict::Bad { .. }) {
            verdict = found;
        }
        if matches!(verdict, Verdict::Bad { .. }) {
            break;
        }
    }
    store.world().decide(task, &verdict, &sizes)
}

/// Continues imports whose object has not been inspected yet, after a restart.
pub(crate) fn resume(service: &Arc<Service>) {
    let open: Vec<String> = {
        let world = service.store.world();
        let undecided = world.tasks.iter().filter(|task| task.verdict.is_none());
        undecided.filter(|task| task.cancelled.is_none()).map(|task| task.id.clone()).collect()
    };
    for task in open {
        // A task that cannot be decided now stays `Processing` and is inspected again next time.
        let _ = inspect(&service.store, &task);
    }
}

/// Opens a disk of an image for reading as the guest would see it.
///
/// `None` when its bytes are in several files: it has not been inspected yet.
pub(crate) fn guest_of(
    store: &Store,
    disk: &Disk,
) -> Result<Option<Result<GuestReader, build_image_disk::Error>>, StateError> {
    Ok(single(store.blobs(), &disk.segments)?.map(|path| GuestReader::open(&path)))
}

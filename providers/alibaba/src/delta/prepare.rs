//! Prepares an upload: finds an earlier object, compares the disk with it, and divides the disk into parts.

use std::sync::Arc;

use build_image_plugin_api::{Context, Error, ErrorKind, Result, document::UploadRequest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Base, DeltaState, Options,
    blocks::{Blocks, block_size, is_usable},
    earlier::{self, Found},
    settings::BASE,
};
use crate::{config::Config, oss::Oss, parts::Plan, reader::Reader, state::UploadState};

/// Bytes that one thread reads at a time.
const STRETCH: u64 = 32 << 20;
/// Maximum number of threads that read.
const THREADS: usize = 8;
const MIB: u64 = 1 << 20;

/// What an upload begins with.
pub(crate) struct Prepared {
    pub(crate) reader: Reader,
    pub(crate) plan: Plan,
    pub(crate) delta: Option<DeltaState>,
}

/// Prepares an upload. A resumed one keeps the parts that it was divided into, so that those that the service has remain
/// valid.
///
/// # Errors
/// When the disk cannot be read. An earlier object that cannot be used is not an error.
pub(crate) async fn prepare(
    context: &Context,
    config: &Config,
    request: &UploadRequest,
    oss: &Oss,
    (plan, state): (Plan, &UploadState),
    is_resumed: bool,
) -> Result<Prepared> {
    let disk = &request.disk;
    let reader = Reader::new(context, disk);
    let is_used = Options::is_used_for(config, disk);
    // SHA-256 costs time: without a base it is only worth it for a manifest.
    let is_recorded = is_used && config.keep_object;
    let length = plan.length;
    if is_resumed {
        // Of another disk nothing is known to be unchanged.
        let same = state.identity == disk.identity && !disk.identity.is_empty();
        let delta = state.delta.clone().filter(|delta| same && is_usable(delta.block_size, length));
        let size = delta.as_ref().map_or_else(|| block_size(length), |delta| delta.block_size);
        let reader = if is_recorded { recording(reader, length, size) } else { reader };
        let plan = match delta.as_ref().and_then(|delta| delta.base.as_ref()) {
            Some(base) => plan.around(size, &base.unchanged),
            None => plan,
        };
        return Ok(Prepared { reader, plan, delta });
    }
    if !is_used {
        return Ok(Prepared { reader, plan, delta: None });
    }
    let found = find(context, config, request, oss).await?;
    let Some(found) = found.filter(|found| is_usable(found.manifest.block_size, length)) else {
        let size = block_size(length);
        let delta = Some(DeltaState { block_size: size, base: None });
        let reader = if is_recorded { recording(reader, length, size) } else { reader };
        return Ok(Prepared { reader, plan: plan.in_blocks(size), delta });
    };
    compare(context, recording(reader, length, found.manifest.block_size), plan, &found).await
}

fn recording(reader: Reader, length: u64, size: u64) -> Reader {
    reader.recording(&Arc::new(Blocks::new(length, size)))
}

/// The newest earlier object that can be used.
async fn find(
    context: &Context,
    config: &Config,
    request: &UploadRequest,
    oss: &Oss,
) -> Result<Option<Found>> {
    let named = config.delta.base.as_deref();
    let listed = match earlier::candidates(oss, config, &request.build).await {
        Ok(listed) => listed,
        Err(failure) => {
            let text = format!("earlier disks cannot be looked for: {}", failure.error);
            let hint = "permit oss:ListObjects on the bucket, or set ALIBABA_UPLOAD_DELTA=off";
            context.warning(text, hint)?;
            return Ok(None);
        }
    };
    let mut why = "it has no manifest beside it".to_owned();
    for candidate in &listed {
        let read = earlier::read(oss, candidate).await;
        let reason = match read {
            Ok(Ok(found)) => return Ok(Some(found)),
            Ok(Err(reason)) => reason,
            Err(failure) if failure.error.kind == ErrorKind::Cancelled => {
                return Err(failure.into());
            }
            Err(failure) => failure.error.to_string(),
        };
        tracing::info!(key = candidate.0, reason, "an earlier disk is not used");
        why = reason;
    }
    if let Some(key) = named {
        let text = format!("no part can be copied from `{key}`: {why}; the whole disk is sent");
        let hint =
            format!("name a disk that a build kept with ALIBABA_KEEP_OSS_OBJECT, or unset {BASE}");
        context.warning(text, hint)?;
    }
    Ok(None)
}

/// Compares the disk with an earlier object.
async fn compare(context: &Context, reader: Reader, plan: Plan, found: &Found) -> Result<Prepared> {
    let key = &found.object.key;
    context.milestone(format!("comparing the disk with `{key}`"))?;
    let missing_error = || Error::internal("a disk was compared before it was read");
    read_missing(&reader).await?;
    let blocks = Arc::clone(reader.blocks().ok_or_else(missing_error)?);
    let block_size = blocks.size;
    let unchanged = found.manifest.unchanged(&blocks).ok_or_else(missing_error)?;
    let plan = plan.in_blocks(block_size);
    // Only the ranges that are copied are kept, and the parts follow from them: a resumed run divides the disk equally.
    let unchanged = plan.clone().around(block_size, &unchanged).copied();
    let bytes: u64 = unchanged.iter().map(|(_, length)| length).sum();
    let (same, all) = (bytes / MIB, plan.length.div_ceil(MIB));
    context.milestone(format!("{same} of {all} MiB are unchanged since `{key}`"))?;
    if unchanged.is_empty() {
        return Ok(Prepared { reader, plan, delta: Some(DeltaState { block_size, base: None }) });
    }
    let plan = plan.around(block_size, &unchanged);
    let object = &found.object;
    let base = Base {
        key: object.key.clone(),
        etag: object.etag.clone(),
        size: object.size,
        crc: object.crc,
        unchanged,
    };
    Ok(Prepared { reader, plan, delta: Some(DeltaState { block_size, base: Some(base) }) })
}

/// Reads the blocks whose digests are not known.
pub(super) async fn read_missing(reader: &Reader) -> Result<()> {
    let Some(blocks) = reader.blocks() else { return Ok(()) };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    stream::iter(stretches(&blocks.missing()))
        .map(async |(offset, length)| reader.checksum(offset, length).await)
        .buffer_unordered(threads)
        .try_for_each(async |_| Ok(()))
        .await
}

/// Joins adjoining ranges up to the length that one thread reads.
fn stretches(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for &(offset, length) in ranges {
        match joined.last_mut() {
            Some(last) if last.0 + last.1 == offset && last.1 + length <= STRETCH => {
                last.1 += length;
            }
            _ => joined.push((offset, length)),
        }
    }
    joined
}

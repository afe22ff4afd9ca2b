//! Uploads the blobs of an image: the layer with the disk, and the configuration. Nothing refers to them until the
//! image is registered; blobs that stay unreferenced are removed by the registry's garbage collection.

use std::sync::{Arc, atomic::Ordering};

use build_image_plugin_api::{
    Context, Disk, Result,
    document::{UploadRequest, Uploaded},
    retry::Policy,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    config::{Config, Kind, LayerCompression},
    flow::{Layer, Reading, measure},
    manifest,
    owner::Owner,
    push::{Push, small_blob},
    registry::{Call, Registry, Session},
    session::{Started, abandon},
    source::Source,
    transfer::Meter,
};

/// Uploads the blobs of a build.
///
/// # Errors
/// Refusals; broken connections after several attempts; a disk that cannot be read.
pub(crate) fn upload(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &UploadRequest,
) -> Result<Uploaded> {
    context.check_cancelled()?;
    context.block_on(async {
        let policy = Policy::call(config.retry_time);
        let registry = Registry::open(context, config, session, policy).await?;
        let reading = reading(context, config, &request.disk).await?;
        let started = started(context, config, &registry, &request.disk).await?;
        let length =
            reading.source.length().filter(|_| config.compression == LayerCompression::None);
        let meter = Arc::new(Meter::new(context, length.unwrap_or_default()));
        let known = known(config, &registry, &reading, &started).await?;
        let mut push = Push {
            context,
            registry: &registry,
            config,
            reading: &reading,
            meter: Arc::clone(&meter),
            started,
        };
        let layer = push.layer(known).await?;
        let configuration = manifest::configuration(config, &request.build, &layer);
        small_blob(context, &registry, &configuration.digest, &configuration.bytes).await?;
        let bytes_sent = meter.total.load(Ordering::Relaxed);
        let done = if bytes_sent == 0 { "the registry has" } else { "uploaded" };
        context.milestone(format!("{done} layer `{}`, {} bytes", layer.digest, layer.size))?;
        let location = format!("{}@{}", registry.reference.name(), layer.digest);
        Ok(Uploaded::new(location).bytes_sent(bytes_sent).fact("layer", json!(layer)))
    })
}

/// Returns what is read for the layer. The header of an archive has the length of the disk, for which an image that is
/// still being written is awaited.
async fn reading(context: &Context, config: &Config, disk: &Disk) -> Result<Reading> {
    let length = match (disk.length, config.kind) {
        (Some(length), _) => Some(length),
        (None, Kind::Artifact) => None,
        (None, Kind::ContainerDisk) => {
            let (context, disk) = (context.clone(), disk.clone());
            let found = tokio::task::spawn_blocking(move || finished_length(&context, &disk)).await;
            Some(found.map_err(|error| {
                build_image_plugin_api::Error::internal("the thread that reads the disk ended")
                    .caused_by(&error)
            })??)
        }
    };
    let source = Source::new(context, disk, config.kind, length)?;
    let compression = config.compression;
    Ok(Reading { context: context.clone(), source, compression, hashes: Arc::default() })
}

/// Finds the length of a disk that is still being written: a read at a place that is not written yet returns when it
/// is, or when the disk has ended before it.
fn finished_length(context: &Context, disk: &Disk) -> Result<u64> {
    let exists = |at: u64| -> Result<bool> { Ok(context.read_disk(disk, at, &mut [0])? == 1) };
    let mut end = disk.length_limit.max(1);
    while exists(end)? {
        context.check_cancelled()?;
        end = end.saturating_mul(2);
    }
    let mut start = 0;
    while start < end {
        context.check_cancelled()?;
        let middle = start + (end - start) / 2;
        if exists(middle)? {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    Ok(start)
}

/// Returns the progress of an earlier process of the run. What it has begun with another disk or other settings is
/// abandoned.
async fn started(
    context: &Context,
    config: &Config,
    registry: &Registry,
    disk: &Disk,
) -> Result<Started> {
    let recipe =
        format!("{} {:?} {} {:?}", disk.identity, config.kind, config.disk, config.compression);
    let earlier = Started::earlier(context, registry)?;
    let mut started = match earlier {
        Some(earlier) if earlier.recipe == recipe => earlier,
        other => {
            if let Some(open) = other.and_then(|earlier| earlier.session) {
                abandon(context, registry, &open).await?;
            }
            Started { owner: Owner::of(registry), recipe, ..Started::default() }
        }
    };
    // Chunks of another size would still fit, but a single request begins another session.
    if config.chunk == 0
        && let Some(open) = started.session.take()
    {
        abandon(context, registry, &open).await?;
        started.save(context)?;
    }
    Ok(started)
}

/// Returns the digest of the layer before it is sent, when that may save sending it: of a layer that an earlier process
/// has read; and of an uncompressed one, when the repository has images already, or everything goes into one request.
/// It costs one reading of the disk. A compressed layer is not compressed twice for it, unless one request needs it.
async fn known(
    config: &Config,
    registry: &Registry,
    reading: &Reading,
    started: &Started,
) -> Result<Option<Layer>> {
    if started.layer.is_some() {
        return Ok(started.layer.clone());
    }
    let cheap = reading.compression == LayerCompression::None && reading.source.length().is_some();
    let worthwhile =
        config.chunk == 0 || (cheap && started.session.is_none() && has_images(registry).await);
    if !worthwhile {
        return Ok(None);
    }
    tracing::info!("reading the disk to compare its digest with the registry");
    measure(reading).await.map(Some)
}

/// Whether the repository has a tag. A registry that does not list them may have one.
async fn has_images(registry: &Registry) -> bool {
    let Ok(mut url) = registry.url("tags/list") else { return true };
    url.query_pairs_mut().append_pair("n", "1");
    let call = Call::new(Method::GET, url);
    match registry.find(&call, "list the tags of the repository").await {
        Ok(None) => false,
        Ok(Some(answer)) => {
            let document = answer.json().unwrap_or_default();
            document["tags"].as_array().is_none_or(|tags| !tags.is_empty())
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    #[test]
    fn the_length_of_a_finished_disk_is_found_whatever_its_limit_is() {
        for length in [0_u64, 1, 2, 1000, 4096, 65537] {
            let content = vec![7; usize::try_from(length).unwrap()];
            let host = Arc::new(MockHost::new().with_disk(content));
            let context = host.context();
            let mut disk = context.make_disk(&DiskSpec::default()).unwrap();
            for limit in [0, 1, length, length + 1, length * 3] {
                disk.length_limit = limit;
                assert_eq!(finished_length(&context, &disk).unwrap(), length, "{limit}");
            }
        }
    }
}

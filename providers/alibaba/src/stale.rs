//! Removes resources that an earlier attempt of the run created from other bytes, or elsewhere, so that none
//! of them is mistaken for this attempt's and none is forgotten.

use std::sync::Arc;

use build_image_plugin_api::{Context, Error, ErrorKind, Result, document::Build};

use crate::{
    config::Config,
    copies,
    credentials::Credentials,
    discard::{POLICY, remove_upload},
    ecs::Ecs,
    oss::Oss,
    removal::remove_image,
    replace,
    state::{ImportState, UploadState},
};

/// Removes the object of an earlier attempt, and its unfinished uploads, whether or not their ids are known.
///
/// # Errors
/// When some of them may still exist.
pub(crate) async fn drop_upload(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    stale: &UploadState,
) -> Result<()> {
    let place = config.place_of(&stale.bucket, &stale.region)?;
    let oss = Oss::open(&place, Arc::clone(credentials))?;
    let removed = async {
        remove_upload(&oss, &stale.multipart()).await?;
        if let Some(manifest) = &stale.manifest {
            oss.delete(&manifest.key, &POLICY).await?;
        }
        oss.delete(&stale.key, &POLICY).await
    };
    match removed.await {
        // A deleted bucket contains nothing.
        Err(failure) if !failure.has_code(&["NoSuchBucket"]) => {
            let url = format!("oss://{}/{}", stale.bucket, stale.key);
            return Err(Error::from(failure).with_hint(format!(
                "the run began to upload to `{url}`: set ALIBABA_BUCKET and the keys as they were then, or build again in a new run"
            )));
        }
        _ => {}
    }
    context.gone(&stale.multipart())?;
    if let Some(manifest) = &stale.manifest {
        context.gone(&stale.manifest_resource(&manifest.key, false))?;
    }
    context.gone(&stale.object(false))
}

/// Removes an image that an earlier attempt imported from another object or other bytes, with its copies.
/// Names that its images had taken are given back first.
///
/// # Errors
/// When some of them may still exist.
pub(crate) fn drop_import(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    build: &Build,
    stale: &ImportState,
) -> Result<()> {
    if !replace::undo(context, config, credentials)? {
        let message = "an image that was moved aside could not get its name back";
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("remove what the run left: build-image gc"));
    }
    for copy in copies::resources(context, stale, build)? {
        let region = copy.region.clone().unwrap_or_default();
        let ecs = Ecs::of_region(config, &region, credentials)?;
        let removed = remove_image(context, &ecs, &copy, &stale.bucket, &POLICY);
        context.block_on(async { Ok(removed.await?) })?;
        context.gone(&copy)?;
    }
    copies::forget(context)?;
    let ecs = Ecs::of_region(config, &stale.region, credentials)?;
    let image = stale.image();
    let removed = remove_image(context, &ecs, &image, &stale.bucket, &POLICY);
    context.block_on(async { Ok(removed.await?) })?;
    context.gone(&image)?;
    context.milestone(format!("{} of an earlier attempt is removed", image.label()))
}

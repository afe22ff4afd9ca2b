//! Copies the image to further stores (import method `copy-image`).

use build_image_plugin_api::{Context, Error, ErrorKind, Result};

use crate::{cloud::Cloud, config::Config, transfer::Looks};

/// Name of the import method.
pub(crate) const COPY: &str = "copy-image";

/// Copies an active image to the stores that do not have it, and waits until they do.
///
/// # Errors
/// Refusals, a copy that failed or does not end.
pub(crate) async fn copy(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    id: &str,
) -> Result<()> {
    let (mut looks, mut started) = (Looks::begin(), false);
    loop {
        let image = cloud.image(id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("image `{id}` was deleted while it was copied"))
        })?;
        let stores = image.stores();
        let missing: Vec<String> = config
            .copy_stores
            .iter()
            .filter(|store| !stores.contains(&store.as_str()))
            .cloned()
            .collect();
        if missing.is_empty() && !image.is_importing() {
            return Ok(());
        }
        let running = image.stores_in("os_glance_importing_to_stores");
        let failed = image.stores_in("os_glance_failed_import");
        if started && missing.iter().any(|store| failed.contains(&store.as_str())) {
            let message = format!("image `{id}` was not copied to store `{}`", failed.join(", "));
            let mut error = Error::new(ErrorKind::Provider, message)
                .with_hint("ask the operator for the state of the store, or remove it from OPENSTACK_COPY_STORES");
            error.causes.extend(cloud.failed_task(id).await.filter(|text| !text.is_empty()));
            return Err(error);
        }
        if !started && running.is_empty() && !missing.is_empty() {
            context.check_cancelled()?;
            match cloud.import(id, COPY, &missing).await {
                // Another copy is running; its stores count as well.
                Err(failure) if !failure.has_status(409) => return Err(failure.into()),
                Err(_) => {}
                Ok(()) => started = true,
            }
        }
        if looks.wait(config.import_timeout).await {
            let stores = config.copy_stores.join(", ");
            let message = format!("image `{id}` was not copied to {stores} in time");
            return Err(Error::new(ErrorKind::Timeout, message)
                .with_hint("set OPENSTACK_IMPORT_TIMEOUT to a longer time")
                .retryable());
        }
    }
}

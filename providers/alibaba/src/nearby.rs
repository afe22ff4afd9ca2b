//! Whether this runs inside the bucket's region: then the internal endpoint is nearer and its traffic
//! costs nothing. The metadata service is asked once per run.

use build_image_plugin_api::{Context, Result};

use crate::{
    config::{Config, Place},
    credentials::{Environment, Metadata},
    oss_endpoint::OssEndpoint,
    state::NEARBY,
};

/// The place, through the internal endpoint when that is nearer and nothing else was chosen.
///
/// # Errors
/// When what is known cannot be kept.
pub(crate) fn nearby(context: &Context, config: &Config, place: Place) -> Result<Place> {
    if !config.may_choose_endpoint() {
        return Ok(place);
    }
    let region = match context.load::<Option<String>>(NEARBY)? {
        Some(known) => known,
        None => {
            let found = ask(context, config)?;
            context.save(NEARBY, &found)?;
            found
        }
    };
    if region.as_deref() != Some(&place.region) {
        return Ok(place);
    }
    let oss = OssEndpoint::choose(Some("internal"), &place.region, &place.bucket, true)?;
    Ok(Place { oss, ..place })
}

/// Region of the instance this runs on.
fn ask(context: &Context, config: &Config) -> Result<Option<String>> {
    let chosen = config.identity.metadata.as_deref();
    let Some(metadata) = Metadata::open(chosen, &Environment::default())? else { return Ok(None) };
    context.block_on(async { Ok(metadata.region().await) })
}

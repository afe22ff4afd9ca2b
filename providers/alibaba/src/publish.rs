//! Turns an uploaded object into registered images: import, wait, compare, tag, share, copy, and only then
//! the final names. A resumed run continues what it started. On failure nothing is removed here; `discard`
//! does that.

use std::{collections::BTreeMap, sync::Arc};

use build_image_plugin_api::{
    Context, Error, Result,
    document::{Build, Image, RegisterRequest, Registered},
};
use serde_json::{Value, json};

use crate::{
    cloud::Cloud,
    config::{Config, Place},
    copies,
    credentials::Credentials,
    describe::TAGS_MAXIMUM,
    finish::{Finished, Requested, detected, finish},
    image,
    import::{clear_failed, fresh_state, known_state, start},
    live,
    locate::config_of,
    marks::DISK,
    monitor::{Deadline, Waiter},
    nearby::nearby,
    snapshots::noted,
    state::{IMPORT, ImportState},
    verdict::TaskEnd,
};

/// Registers the image.
///
/// # Errors
/// Any failure to import, finish, share, or copy it.
pub(crate) fn register(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &RegisterRequest,
) -> Result<Registered> {
    let config = &config_of(config, &request.uploaded);
    let fact = |name: &str| {
        request.uploaded.facts.get(name).and_then(Value::as_str).ok_or_else(|| {
            Error::internal(format!("the upload left no `{name}`")).with_hint("upload again")
        })
    };
    let place = nearby(context, config, config.place_of(fact("bucket")?, fact("region")?)?)?;
    let cloud = Cloud::open(credentials, &place)?;
    let build = &marked(request);
    let deadline = Deadline::after(config.import.timeout);
    let waiter = Waiter {
        context,
        longest_pause: config.import.longest_pause,
        deadline: &deadline,
        progress: 0,
    };
    let fresh = fresh_state(context, config, &place, build, &request.uploaded)?;
    let mut state = known_state(context, config, credentials, build, fresh)?;
    if state.failed {
        clear_failed(context, &cloud, &mut state)?;
    }
    if state.image_id.is_none() {
        start(context, &cloud, config, &place, build, &mut state)?;
    }
    let image = wait(&waiter, &cloud, &mut state)?;
    context.created(&noted(state.image(), &image.snapshots()))?;
    context.milestone(format!("image {} is available in {}", image.image_id, place.region))?;
    let requested = Requested::of(config, build);
    let home = if state.intermediate {
        let report = detected(&waiter, config, &cloud.ecs, &image.image_id)?;
        let plain = Finished { ecs: cloud.ecs, image, shared: Vec::new(), report: None };
        let home = copies::encrypt(&waiter, config, build, &requested, &plain, &state)?;
        Finished { report, ..home }
    } else {
        finish(&waiter, config, build, &requested, cloud.ecs, image)?
    };
    let copied = copies::make(&waiter, config, build, &requested, &home, &state)?;
    let mut all = vec![home];
    all.extend(copied);
    live::go_live(context, config, credentials, build, &state.owner, &mut all)?;
    Ok(answer(&place, state.task_id, &all))
}

/// What is built, with the digest of its disk as a tag, which every image and snapshot of the build receives. An image
/// whose user needs the room has none.
fn marked(request: &RegisterRequest) -> Build {
    let mut build = request.build.clone();
    if build.tags.len() < TAGS_MAXIMUM {
        build.tags.extend(request.disk_digest.clone().map(|digest| (DISK.to_owned(), digest)));
    } else if request.disk_digest.is_some() {
        tracing::info!("the image has too many tags for the digest of its disk");
    }
    build
}

/// Waits for the import and for the image itself.
fn wait(waiter: &Waiter<'_>, cloud: &Cloud, state: &mut ImportState) -> Result<image::Image> {
    let image_id =
        state.image_id.clone().ok_or_else(|| Error::internal("the import has no image id"))?;
    if let Some(task) = state.task_id.clone() {
        let named =
            |error: Error| error.with_context("image_id", &image_id).with_context("task_id", &task);
        let end = waiter.task(&cloud.ecs, &task);
        if let TaskEnd::Failed(error) = end.map_err(named)? {
            state.failed = true;
            waiter.context.save(IMPORT, &state)?;
            return Err(named(*error));
        }
    }
    waiter.image(&cloud.ecs, &image_id)
}

/// The images and the members of the result document; the first image is that of the region of the build.
pub(crate) fn answer(place: &Place, task_id: Option<String>, all: &[Finished]) -> Registered {
    let images = all.iter().map(|done| {
        Image::new(done.image.image_id.clone(), done.image.image_name.clone())
            .region(done.ecs.region.clone())
    });
    let regions: BTreeMap<&str, Value> = all.iter().map(Finished::facts).collect();
    let home = &all[0];
    let mut facts: BTreeMap<String, Value> = [
        ("image_id", Value::from(home.image.image_id.clone())),
        ("region", Value::from(place.region.clone())),
        ("location", Value::from(place.oss.server().origin())),
        ("snapshot_ids", Value::from(home.image.snapshots())),
        ("regions", json!(regions)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(task) = task_id {
        facts.insert("task_id".to_owned(), task.into());
    }
    if !home.shared.is_empty() {
        facts.insert("shared_account_ids".to_owned(), home.shared.clone().into());
    }
    if let Some(report) = &home.report {
        facts.insert("image_check".to_owned(), report.clone());
    }
    Registered::default().images(images).facts(facts)
}

//! From an uploaded object to a registered image: import, wait, tag, share. A resumed run goes on
//! with the import it started; nothing is removed here, `discard` does that.

use build_image_plugin_api::{
    Context, DiskFormat, Error, Result,
    document::{Build, Image, RegisterRequest, Registered},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    acs::Parameters,
    cloud::Cloud,
    config::{Config, Place},
    describe::GIB,
    discard::remove_image,
    ecs::SHARE_GROUP,
    error::Failure,
    monitor::{self, Deadline, TaskEnd},
    names,
    retry::Policy,
    state::{IMPORT, ImportState},
};

/// Longest description in characters.
const DESCRIPTION: usize = 256;

/// Registers the image.
///
/// # Errors
/// Whatever keeps it from being imported, available, tagged and shared.
pub(crate) fn register(
    context: &Context,
    config: &Config,
    request: &RegisterRequest,
) -> Result<Registered> {
    let fact = |name: &str| {
        request.uploaded.facts.get(name).and_then(Value::as_str).ok_or_else(|| {
            Error::internal(format!("the upload left no `{name}`")).with_hint("upload again")
        })
    };
    let place = config.place_of(fact("bucket")?, fact("region")?)?;
    let cloud = Cloud::open(context, &place)?;
    let deadline = Deadline::after(config.import.timeout);
    let mut state = known_state(context, &place, &request.build, fact("object")?)?;
    if state.failed {
        clear_failed(context, &cloud, &mut state)?;
    }
    if state.image_id.is_none() {
        start(context, &cloud, config, &place, &request.build, &mut state)?;
    }
    let image_id =
        state.image_id.clone().ok_or_else(|| Error::internal("the import has no image id"))?;
    let pause = config.import.longest_pause;
    if let Some(task) = state.task_id.clone() {
        let named = |error: Error| error.with("image_id", &image_id).with("task_id", &task);
        let end = monitor::wait_for_task(context, &cloud.ecs, &task, pause, &deadline);
        if let TaskEnd::Failed(error) = end.map_err(named)? {
            state.failed = true;
            context.save(IMPORT, &state)?;
            return Err(named(*error));
        }
    }
    let image = monitor::wait_for_image(context, &cloud.ecs, &image_id, pause, &deadline)?;
    context.milestone(format!("image {image_id} is available in {}", place.region))?;
    let snapshots = image.snapshots();
    tag_snapshots(context, &cloud, &request.build, &snapshots)?;
    let shared = share(context, &cloud, &image_id, &config.share)?;
    Ok(answer(&place, &request.build, state, snapshots, shared))
}

/// What an earlier attempt left, as long as it is about the same image and object.
fn known_state(context: &Context, place: &Place, build: &Build, key: &str) -> Result<ImportState> {
    let fresh = ImportState {
        name: build.image_name.clone(),
        region: place.region.clone(),
        bucket: place.bucket.clone(),
        key: key.to_owned(),
        image_id: None,
        task_id: None,
        failures: 0,
        failed: false,
    };
    let saved: Option<ImportState> = context.load(IMPORT)?;
    let same = |saved: &ImportState| {
        (&saved.name, &saved.region, &saved.bucket, &saved.key)
            == (&fresh.name, &fresh.region, &fresh.bucket, &fresh.key)
    };
    Ok(saved.filter(same).unwrap_or(fresh))
}

/// Removes what a failed import of this run left under the image's name, so that a new one can start.
fn clear_failed(context: &Context, cloud: &Cloud, state: &mut ImportState) -> Result<()> {
    let left = state.image();
    context.block_on(async { Ok(remove_image(&cloud.ecs, &left, &state.bucket).await?) })?;
    context.gone(&left)?;
    *state = ImportState {
        image_id: None,
        task_id: None,
        failed: false,
        failures: state.failures + 1,
        ..state.clone()
    };
    context.save(IMPORT, state)
}

/// Starts the import, or finds the one an interrupted attempt started.
fn start(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    state: &mut ImportState,
) -> Result<()> {
    context.will_create(&state.image())?;
    context.save(IMPORT, state)?;
    let mut parameters = import_parameters(config, place, build, &state.key);
    parameters.push(("ClientToken".to_owned(), client_token(&build.run_id, state)));
    let import = async {
        match cloud.ecs.import_image(&parameters, &Policy::CALL).await {
            Ok(imported) => Ok((imported.image_id, imported.task_id)),
            Err(failure) if failure.is(&["InvalidImageName.Duplicated", "ImageIsImporting"]) => {
                adopt(cloud, state, failure).await.map(|id| (id, None))
            }
            Err(failure) => Err(Error::from(failure)),
        }
    };
    let (image_id, task_id) = context.block_on(import)?;
    state.image_id = Some(image_id);
    state.task_id = task_id;
    context.save(IMPORT, state)?;
    context.created(&state.image())
}

/// An image of our name that was imported from our object is ours: the answer to the call that
/// started it was lost.
async fn adopt(cloud: &Cloud, state: &ImportState, refused: Failure) -> Result<String> {
    let found = cloud.ecs.images_named(&state.name, &Policy::CALL).await?;
    let ours = found.into_iter().find(|image| image.comes_from(&state.bucket, &state.key));
    ours.map(|image| image.image_id).ok_or(*refused.error)
}

/// Everything `ImportImage` is told, except for the token that makes it repeatable.
pub(crate) fn import_parameters(
    config: &Config,
    place: &Place,
    build: &Build,
    key: &str,
) -> Parameters {
    let options = &config.import;
    let architecture =
        options.architecture.as_deref().unwrap_or(match build.architecture.as_str() {
            "aarch64" | "arm64" => "arm64",
            _ => "x86_64",
        });
    let uefi = build.boot_mode.eq_ignore_ascii_case("uefi") || architecture == "arm64";
    let boot_mode = options.boot_mode.as_deref().or_else(|| uefi.then_some("UEFI"));
    let format = if config.format == DiskFormat::Raw { "RAW" } else { "QCOW2" };
    let mut list: Vec<(&str, String)> = vec![
        ("RegionId", place.region.clone()),
        ("ImageName", build.image_name.clone()),
        ("OSType", "linux".to_owned()),
        ("Architecture", architecture.to_owned()),
        ("Platform", options.platform.clone()),
        ("DiskDeviceMapping.1.OSSBucket", place.bucket.clone()),
        ("DiskDeviceMapping.1.OSSObject", key.to_owned()),
        ("DiskDeviceMapping.1.Format", format.to_owned()),
    ];
    if build.virtual_size > 0 {
        let gib = build.virtual_size.div_ceil(GIB).to_string();
        list.push(("DiskDeviceMapping.1.DiskImageSize", gib));
    }
    list.extend(boot_mode.map(|mode| ("BootMode", mode.to_owned())));
    list.extend(description(&build.description).map(|text| ("Description", text)));
    list.extend(options.extra.iter().cloned());
    let mut parameters: Parameters =
        list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    parameters.extend(names::tag_parameters(&build.tags));
    parameters
}

/// The description as far as the service takes it.
fn description(text: &str) -> Option<String> {
    let text: String = text.trim().chars().take(DESCRIPTION).collect();
    let refused = text.starts_with("http://") || text.starts_with("https://");
    (text.chars().count() >= 2 && !refused).then_some(text)
}

/// The same for every attempt of one import, so that the service starts it once.
fn client_token(run_id: &str, state: &ImportState) -> String {
    let text = format!("{run_id}\n{}\n{}\n{}", state.key, state.name, state.failures);
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(24).map(|byte| format!("{byte:02x}")).collect()
}

fn tag_snapshots(
    context: &Context,
    cloud: &Cloud,
    build: &Build,
    snapshots: &[String],
) -> Result<()> {
    if build.tags.is_empty() || snapshots.is_empty() {
        return Ok(());
    }
    let tags = names::tag_parameters(&build.tags);
    context
        .block_on(async { Ok(cloud.ecs.tag("snapshot", snapshots, &tags, &Policy::CALL).await?) })
}

/// Shares the image and reads back with whom; returns the accounts that really have it.
fn share(
    context: &Context,
    cloud: &Cloud,
    image: &str,
    accounts: &[String],
) -> Result<Vec<String>> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let shared = context.block_on(async {
        for group in accounts.chunks(SHARE_GROUP) {
            cloud.ecs.share(image, group, &Policy::CALL).await?;
        }
        Ok(cloud.ecs.shares(image, &Policy::CALL).await?)
    })?;
    let (have, lack): (Vec<String>, Vec<String>) =
        accounts.iter().cloned().partition(|account| shared.contains(account));
    if !lack.is_empty() {
        context.warning(
            format!("image {image} is not shared with {}", lack.join(", ")),
            "check ALIBABA_IMAGE_SHARE_ACCOUNT_IDS and share it in the ECS console",
        )?;
    }
    Ok(have)
}

fn answer(
    place: &Place,
    build: &Build,
    state: ImportState,
    snapshots: Vec<String>,
    shared: Vec<String>,
) -> Registered {
    let id = state.image_id.unwrap_or_default();
    let mut facts: std::collections::BTreeMap<String, Value> = [
        ("image_id", Value::from(id.clone())),
        ("region", Value::from(place.region.clone())),
        ("location", Value::from(place.oss.server().origin())),
        ("snapshot_ids", Value::from(snapshots)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(task) = state.task_id {
        facts.insert("task_id".to_owned(), task.into());
    }
    if !shared.is_empty() {
        facts.insert("shared_account_ids".to_owned(), shared.into());
    }
    let image = Image { id, name: build.image_name.clone(), region: Some(place.region.clone()) };
    Registered { images: vec![image], facts }
}

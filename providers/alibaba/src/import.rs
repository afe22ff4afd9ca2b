//! Starts an import, or finds the one that an interrupted attempt started.
//!
//! Source: ECS API documentation, `ImportImage`.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    BootMode, Context, Error, Result,
    document::{Build, Uploaded},
    retry::{Backoff, Failure, Policy, RetryAction, retry},
};
use sha2::{Digest as _, Sha256};

use crate::{
    acs::Parameters,
    client::CALL,
    cloud::Cloud,
    config::{Config, Place},
    credentials::Credentials,
    describe::{GIB, NAME_LENGTH},
    discard::POLICY,
    disk, guest,
    image::Imported,
    marks::{self, INTERMEDIATE},
    names,
    options::NVME,
    owner::Owner,
    refusal::refused_outright,
    removal::remove_image,
    stale,
    state::{IMPORT, ImportState},
};

/// For an object that was uploaded and that ECS does not find.
const OBJECT_SEEN: Policy = Policy::new(
    5,
    Duration::ZERO,
    Backoff::new(Duration::from_millis(250), Duration::from_secs(8)),
);

/// The state an earlier attempt left, if it concerns the same image and the same bytes. Any other state has
/// its resources removed first.
///
/// # Errors
/// When it belongs to another account or cloud, or cannot be removed.
pub(crate) fn known_state(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    build: &Build,
    fresh: ImportState,
) -> Result<ImportState> {
    let saved: Option<ImportState> = context.load(IMPORT)?;
    let Some(saved) = saved else { return Ok(fresh) };
    fresh.owner.may_continue(&saved.owner)?;
    let of = |state: &ImportState| {
        let ImportState { name, region, bucket, key, content, .. } = state.clone();
        (name, region, bucket, key, content)
    };
    if of(&saved) == of(&fresh) {
        return Ok(saved);
    }
    stale::drop_import(context, config, credentials, build, &saved)?;
    context.save(IMPORT, &fresh)?;
    Ok(fresh)
}

/// The state of a new import, of the object that an upload's facts describe.
///
/// # Errors
/// When the facts of the upload are incomplete.
pub(crate) fn fresh_state(
    context: &Context,
    config: &Config,
    place: &Place,
    build: &Build,
    uploaded: &Uploaded,
) -> Result<ImportState> {
    let missing_error = |name: &str| {
        Error::internal(format!("the upload left no `{name}`")).with_hint("upload again")
    };
    let fact = |name: &str| uploaded.facts.get(name).ok_or_else(|| missing_error(name));
    let number = |name: &str| {
        let fact = fact(name)?;
        let text = fact.as_str().and_then(|text| text.parse().ok());
        fact.as_u64().or(text).ok_or_else(|| missing_error(name))
    };
    Ok(ImportState {
        name: import_name(config, build),
        intermediate: config.key.is_some(),
        run: build.run_id.clone(),
        region: place.region.clone(),
        bucket: place.bucket.clone(),
        key: fact("object")?.as_str().ok_or_else(|| missing_error("object"))?.to_owned(),
        content: Some((number("crc64")?, number("size")?)),
        owner: Owner::now(context, place)?,
        image_id: None,
        task_id: None,
        failures: 0,
        failed: false,
        since: None,
        call: Parameters::new(),
    })
}

/// Removes what a failed import of this run left under the image's name, so that a new one can start.
pub(crate) fn clear_failed(
    context: &Context,
    cloud: &Cloud,
    state: &mut ImportState,
) -> Result<()> {
    let left = state.image();
    context.block_on(async {
        Ok(remove_image(context, &cloud.ecs, &left, &state.bucket, &POLICY).await?)
    })?;
    context.gone(&left)?;
    *state = ImportState {
        image_id: None,
        task_id: None,
        failed: false,
        failures: state.failures + 1,
        call: Parameters::new(),
        ..state.clone()
    };
    context.save(IMPORT, state)
}

/// Starts the import, or finds the one that an interrupted attempt started.
pub(crate) fn start(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    state: &mut ImportState,
) -> Result<()> {
    let is_first = state.call.is_empty();
    state.since.get_or_insert_with(|| cloud.ecs.not_before());
    // An attempt whose answer was lost is repeated unchanged: its token stands for its parameters.
    if state.call.is_empty() {
        state.call = import_parameters(config, place, build, &state.name, &state.key);
        state.call.push(("ClientToken".to_owned(), client_token(&build.run_id, state)));
    }
    context.will_create(&state.image())?;
    context.save(IMPORT, state)?;
    let import = async {
        let call = retry(&OBJECT_SEEN, async || import_once(cloud, &state.call).await);
        match context.until_answered(call).await {
            Ok(imported) => Ok((imported.image_id, imported.task_id)),
            Err(failure)
                if failure.has_code(&["InvalidImageName.Duplicated", "ImageIsImporting"]) =>
            {
                adopt(cloud, state, failure).await.map(|id| (id, None))
            }
            Err(failure) => Err(Error::from(failure)),
        }
    };
    let (image_id, task_id) = match context.block_on(import) {
        Ok(imported) => imported,
        Err(error) => {
            if is_first && refused_outright(&error) {
                context.gone(&state.image())?;
                state.call.clear();
                context.save(IMPORT, state)?;
            }
            return Err(error);
        }
    };
    state.image_id = Some(image_id);
    state.task_id = task_id;
    context.save(IMPORT, state)?;
    context.created(&state.image())
}

/// Starts the import. ECS may not find a new object for a moment; it has started nothing then.
async fn import_once(cloud: &Cloud, call: &Parameters) -> Result<Imported, Failure> {
    cloud.ecs.import_image(call, &CALL).await.map_err(|mut failure| {
        if failure.has_code(&["InvalidOSSObject.NotFound"]) {
            failure.action = RetryAction::Backoff;
        }
        failure
    })
}

/// An image with our name that this run imported: the answer to the call that started the import was lost.
async fn adopt(cloud: &Cloud, state: &ImportState, refused: Failure) -> Result<String> {
    let found = cloud.ecs.images_named(&state.name, &CALL).await?;
    let object = (state.bucket.as_str(), state.key.as_str());
    let ours = found.into_iter().find(|image| marks::is_import_of(image, object, &state.run));
    ours.map(|image| image.image_id).ok_or(*refused.error)
}

/// Parameters that only the import itself sets, and the settings they come from.
const FIXED: [(&str, &str); 6] = [
    ("OSType", "ALIBABA_OS_TYPE"),
    ("Platform", "ALIBABA_PLATFORM"),
    ("Architecture", "ALIBABA_ARCHITECTURE"),
    ("BootMode", "ALIBABA_BOOT_MODE"),
    ("LicenseType", "ALIBABA_LICENSE_TYPE"),
    ("ResourceGroupId", "ALIBABA_RESOURCE_GROUP_ID"),
];

/// Settings that a resumed run can no longer change, since its import was started with other values.
pub(crate) fn too_late(
    config: &Config,
    place: &Place,
    build: &Build,
    started: &ImportState,
) -> Vec<Error> {
    if started.call.is_empty() || started.failed {
        return Vec::new();
    }
    let now = import_parameters(config, place, build, &started.name, &started.key);
    let value = |of: &Parameters, parameter: &str| {
        let found = of.iter().find(|(name, _)| name == parameter);
        found.map_or_else(|| "not set".to_owned(), |(_, value)| format!("`{value}`"))
    };
    FIXED
        .iter()
        .map(|(name, key)| (key, value(&started.call, name), value(&now, name)))
        .filter(|(_, before, now)| before != now)
        .map(|(key, before, now)| {
            Error::config(format!(
                "the import was started when {key} was {before}; now it is {now}"
            ))
            .with_hint("resume with the earlier value, or build again in a new run")
        })
        .collect()
}

/// All parameters of `ImportImage`, except for the token that makes it repeatable.
pub(crate) fn import_parameters(
    config: &Config,
    place: &Place,
    build: &Build,
    name: &str,
    key: &str,
) -> Parameters {
    let options = &config.import;
    let architecture = architecture(config, build);
    let boot_mode = boot_mode(config, build);
    let mut list: Vec<(&str, String)> = vec![
        ("RegionId", place.region.clone()),
        ("ImageName", name.to_owned()),
        ("OSType", guest::os_type(config, build).word().to_owned()),
        ("Architecture", architecture.to_owned()),
        ("Platform", guest::platform(config, build)),
        ("DiskDeviceMapping.1.OSSBucket", place.bucket.clone()),
        ("DiskDeviceMapping.1.OSSObject", key.to_owned()),
        ("DiskDeviceMapping.1.Format", disk::word(&config.disk).to_owned()),
    ];
    if build.virtual_size > 0 {
        let gib = build.virtual_size.div_ceil(GIB).to_string();
        list.push(("DiskDeviceMapping.1.DiskImageSize", gib));
    }
    list.extend(boot_mode.map(|mode| ("BootMode", mode.to_owned())));
    list.extend(description(&build.description).map(|text| ("Description", text)));
    list.extend(options.extra.iter().cloned());
    if options.nvme().is_none() {
        list.extend(guest::nvme(config, build).map(|text| (NVME, text)));
    }
    let mut parameters: Parameters =
        list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let tags = match config.key {
        None => marks::with_run(&build.tags, &build.run_id),
        Some(_) => marks::with_run(&marks::tags([(INTERMEDIATE, "yes")]), &build.run_id),
    };
    parameters.extend(names::tag_parameters(&tags));
    parameters
}

/// The architecture, in the service's term.
pub(crate) fn architecture<'a>(config: &'a Config, build: &Build) -> &'a str {
    config.import.architecture.as_deref().unwrap_or(match build.architecture.as_str() {
        "aarch64" | "arm64" => "arm64",
        _ => "x86_64",
    })
}

/// The boot mode, in the service's term; `None` leaves it to the service's default.
pub(crate) fn boot_mode<'a>(config: &'a Config, build: &Build) -> Option<&'a str> {
    let uefi = build.boot_mode == BootMode::Uefi || architecture(config, build) == "arm64";
    config.import.boot_mode.as_deref().or_else(|| uefi.then_some("UEFI"))
}

/// An error for an architecture and a boot mode that are incompatible.
pub(crate) fn machine_problem(config: &Config, build: &Build) -> Option<Error> {
    let arm = architecture(config, build) == "arm64";
    (arm && boot_mode(config, build) == Some("BIOS")).then(|| {
        Error::config("an arm64 image starts with UEFI only")
            .with_hint("leave ALIBABA_BOOT_MODE out, or check ALIBABA_ARCHITECTURE")
    })
}

/// The name of an image until it is finished: its final name, or a temporary one if it replaces an image that
/// has the final name.
pub(crate) fn working_name(config: &Config, build: &Build) -> String {
    if config.replace {
        beside(&build.image_name, "new", &build.run_id)
    } else {
        build.image_name.clone()
    }
}

/// The name of what is imported: that of the image, unless an encrypted copy of it becomes the image.
pub(crate) fn import_name(config: &Config, build: &Build) -> String {
    match config.key {
        None => working_name(config, build),
        Some(_) => beside(&build.image_name, "plain", &build.run_id),
    }
}

/// A name made from `name`, a word, and a digest of `salt`, within the service's length limit.
pub(crate) fn beside(name: &str, word: &str, salt: &str) -> String {
    let digest = hex(salt.as_bytes(), 4);
    let room = NAME_LENGTH.1 - word.len() - digest.len() - 2;
    let start: String = name.chars().take(room).collect();
    format!("{start}-{word}-{digest}")
}

/// The description, cut to what the service accepts.
pub(crate) fn description(text: &str) -> Option<String> {
    let text: String = text.trim().chars().take(names::DESCRIPTION).collect();
    let refused = text.starts_with("http://") || text.starts_with("https://");
    (text.chars().count() >= 2 && !refused).then_some(text)
}

/// The token is the same for every attempt of one import, so that the service starts it once.
fn client_token(run_id: &str, state: &ImportState) -> String {
    let ImportState { bucket, key, name, content, failures, .. } = state;
    let (crc, size) = content.unwrap_or_default();
    let text = format!("{run_id}\n{bucket}/{key}\n{crc:016x} {size}\n{name}\n{failures}");
    hex(text.as_bytes(), 24)
}

/// The first `bytes` bytes of the digest of `text`, in hexadecimal.
pub(crate) fn hex(text: &[u8], bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

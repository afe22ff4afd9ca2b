//! Copies the image to further regions, several at once, and finishes each copy like the first image. Every
//! copy is recorded before it is made; a failure in one region does not stop the others. An encrypted image is a copy, too:
//! of what was imported, in the same region.
//!
//! Source: ECS API documentation, `CopyImage`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result, document::Build, retry::Failure,
};
use serde::{Deserialize, Serialize};

use crate::{
    client::CALL,
    config::Config,
    copy_keys::{IMAGE_KEY, KEY},
    ecs::{Ecs, pairs},
    finish::{Finished, Requested, finish},
    image::Imported,
    import::{description, hex, working_name},
    marks::{self, COPY_OF, write_image},
    monitor::Waiter,
    names::tag_parameters,
    refusal::refused_outright,
    snapshots::noted,
    state::{COPIES, ENCRYPTED, IMAGE, ImportState},
    tagging::MARK,
};

/// Number of copies the service makes at once; further ones would wait there without progress.
pub(crate) const AT_A_TIME: usize = 5;

/// The code of a copy that the service makes only when another one of the same image has ended.
const BUSY: &str = "OperationDenied.ImageCopyConflict";

/// State of the copies, by region.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct States {
    /// Image that the copies are made from.
    source: String,
    /// Name that the copies are made under; empty in journals of earlier versions, where it is that of the image.
    #[serde(default)]
    name: String,
    /// Identifier of each copy once it is known.
    copies: BTreeMap<String, Option<String>>,
    /// The key of each copy, empty without one; absent in journals of earlier versions.
    #[serde(default)]
    keys: BTreeMap<String, String>,
}

/// Copies that an earlier attempt of the run made.
///
/// # Errors
/// When the checkpoint cannot be read.
pub(crate) fn known(context: &Context) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for checkpoint in [COPIES, ENCRYPTED] {
        let saved: States = context.load(checkpoint)?.unwrap_or_default();
        ids.extend(saved.copies.into_values().flatten());
    }
    Ok(ids)
}

/// Keys that a resumed run can no longer change, since copies were started with others.
///
/// # Errors
/// When the checkpoint cannot be read.
pub(crate) fn too_late(context: &Context, config: &Config) -> Result<Vec<Error>> {
    let mut errors = Vec::new();
    for checkpoint in [COPIES, ENCRYPTED] {
        let saved: States = context.load(checkpoint)?.unwrap_or_default();
        for (region, before) in saved.keys {
            let (setting, now) = match checkpoint {
                ENCRYPTED => (IMAGE_KEY, config.key.as_ref()),
                _ => (KEY, config.copy_keys.get(&region)),
            };
            let is_wanted = checkpoint == ENCRYPTED || config.copy_regions.contains(&region);
            let now = now.map_or("", String::as_str);
            if is_wanted && before != now {
                let message = format!(
                    "the image in {region} was made with key `{before}` of {setting}; now it is `{now}`"
                );
                errors.push(
                    Error::config(message)
                        .with_hint("resume with the earlier key, or build again in a new run"),
                );
            }
        }
    }
    Ok(errors)
}

/// The resource of a copy, as recorded by the host.
fn resource(home: &ImportState, region: &str, name: &str, source: &str, run: &str) -> Resource {
    home.owner
        .of_region(Resource::new(IMAGE, name).in_region(region))
        .with("bucket", &home.bucket)
        .with("copied_from", source)
        .with("run", run)
        .as_deliverable()
}

/// The copies that an earlier attempt made or requested, of the image it imported.
///
/// # Errors
/// When the checkpoint cannot be read.
pub(crate) fn resources(
    context: &Context,
    home: &ImportState,
    build: &Build,
) -> Result<Vec<Resource>> {
    let mut all = Vec::new();
    for checkpoint in [COPIES, ENCRYPTED] {
        let saved: States = context.load(checkpoint)?.unwrap_or_default();
        let name = if saved.name.is_empty() { &home.name } else { &saved.name };
        all.extend(saved.copies.iter().map(|(region, id)| {
            let mut copy = resource(home, region, name, &saved.source, &build.run_id);
            copy.id.clone_from(id);
            copy
        }));
    }
    Ok(all)
}

/// Forgets the copies of an earlier attempt.
///
/// # Errors
/// When the checkpoint cannot be written.
pub(crate) fn forget(context: &Context) -> Result<()> {
    context.save(COPIES, &States::default())?;
    context.save(ENCRYPTED, &States::default())
}

/// The parameters that all copies share.
struct Copier<'a> {
    waiter: &'a Waiter<'a>,
    config: &'a Config,
    build: &'a Build,
    requested: &'a Requested,
    source: &'a Finished,
    /// The import of the original image; copies differ from it only in the region.
    home: &'a ImportState,
    /// Where the states are stored: [`COPIES`], or [`ENCRYPTED`] for the copy that becomes the image itself.
    checkpoint: &'static str,
    states: Mutex<States>,
}

/// The states that an earlier attempt left, if it copied the same image.
fn states(
    waiter: &Waiter<'_>,
    checkpoint: &str,
    source: &Finished,
    name: String,
) -> Result<Mutex<States>> {
    let saved: Option<States> = waiter.context.load(checkpoint)?;
    let saved = saved.filter(|saved| saved.source == source.image.image_id);
    let fresh = States { source: source.image.image_id.clone(), name, ..States::default() };
    Ok(Mutex::new(saved.unwrap_or(fresh)))
}

/// Makes the encrypted copy of an imported image in its region, which is the image of the build.
///
/// # Errors
/// Refusals, such as of the key, and a copy that is not encrypted with it.
pub(crate) fn encrypt(
    waiter: &Waiter<'_>,
    config: &Config,
    build: &Build,
    requested: &Requested,
    source: &Finished,
    home: &ImportState,
) -> Result<Finished> {
    let states = states(waiter, ENCRYPTED, source, working_name(config, build))?;
    let checkpoint = ENCRYPTED;
    let copier = Copier { waiter, config, build, requested, source, home, checkpoint, states };
    copier.copy(0, &home.region)
}

/// Makes all copies; each is available, tagged, and shared.
///
/// # Errors
/// When any region failed; the others are finished, and a resumed run finds them again.
pub(crate) fn make(
    waiter: &Waiter<'_>,
    config: &Config,
    build: &Build,
    requested: &Requested,
    source: &Finished,
    home: &ImportState,
) -> Result<Vec<Finished>> {
    let regions: Vec<&String> =
        config.copy_regions.iter().filter(|region| **region != home.region).collect();
    if regions.is_empty() {
        return Ok(Vec::new());
    }
    let states = states(waiter, COPIES, source, working_name(config, build))?;
    let checkpoint = COPIES;
    let copier = Copier { waiter, config, build, requested, source, home, checkpoint, states };
    let queue: VecDeque<(usize, &String)> = regions.iter().copied().enumerate().collect();
    let (queue, outcomes) = (Mutex::new(queue), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(regions.len()) {
            scope.spawn(|| {
                loop {
                    // The lock must not be held while a copy is made.
                    let next = lock(&queue).pop_front();
                    let Some((number, region)) = next else { break };
                    let outcome = copier.copy(number, region);
                    lock(&outcomes).push((number, region.clone(), outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(number, ..)| *number);
    judge(waiter.context, source, outcomes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns all copies, or one error that names every region that failed.
fn judge(
    context: &Context,
    source: &Finished,
    outcomes: Vec<(usize, String, Result<Finished>)>,
) -> Result<Vec<Finished>> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for (_, region, outcome) in outcomes {
        match outcome {
            Ok(copy) => done.push(copy),
            Err(error) => failed.push((region, error)),
        }
    }
    context.check_cancelled()?;
    let Some((_, first)) = failed.first() else { return Ok(done) };
    let names: Vec<String> = failed.iter().map(|(region, _)| format!("`{region}`")).collect();
    let id = &source.image.image_id;
    let mut error =
        Error::new(first.kind, format!("image `{id}` was not copied to {}", names.join(", ")))
            .with_context("regions_done", done.len())
            .with_hint(format!(
                "{}; a resumed run copies only what is missing",
                first.hint.as_deref().unwrap_or("look at the causes")
            ));
    error.retryable = failed.iter().all(|(_, error)| error.retryable);
    error.exhausted = failed.iter().filter_map(|(_, error)| error.exhausted).max();
    error.exhausted = error.exhausted.filter(|_| error.retryable);
    for (region, cause) in failed {
        error.causes.push(format!("{region}: {cause}"));
        error.causes.extend(cause.causes);
    }
    Err(error)
}

impl Copier<'_> {
    fn copy(&self, number: usize, region: &str) -> Result<Finished> {
        let context = self.waiter.context;
        context.check_cancelled()?;
        let credentials = &self.source.ecs.service.http.credentials;
        let ecs = Ecs::of_region(self.config, region, credentials)?;
        let known = lock(&self.states).copies.get(region).cloned().flatten();
        let id = match known {
            Some(id) => id,
            None => self.start(&ecs)?,
        };
        let progress = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let waiter = Waiter { progress, ..*self.waiter };
        let image = waiter.image(&ecs, &id)?;
        let name = working_name(self.config, self.build);
        let copy = self.resource(&ecs, &name).with_id(&id);
        context.created(&noted(copy, &image.snapshots()))?;
        let copy = finish(&waiter, self.config, self.build, self.requested, ecs, image)?;
        self.check_key(&copy)?;
        context.milestone(format!("image {id} is available in {region}"))?;
        Ok(copy)
    }

    /// Requests the copy, or finds the one that an interrupted attempt requested.
    fn start(&self, ecs: &Ecs) -> Result<String> {
        let context = self.waiter.context;
        let name = working_name(self.config, self.build);
        let resource = self.resource(ecs, &name);
        context.will_create(&resource)?;
        self.note(&ecs.region, None)?;
        let id = context.block_on(async {
            // Names are unique per region: an image with the name is ours, or it conflicts.
            let found = ecs.images_named(&name, &CALL).await?;
            let ours = |image: &&crate::image::Image| image.is_tagged(MARK, &self.build.run_id);
            if let Some(ours) = found.iter().find(ours) {
                return Ok(ours.image_id.clone());
            }
            if let Some(other) = found.first() {
                let message =
                    format!("image `{name}` exists already in {}: {}", ecs.region, other.image_id);
                return Err(Error::new(ErrorKind::Conflict, message).with_hint(
                    "delete it, choose another CLOUD_IMAGE_NAME, or set ALIBABA_IF_EXISTS=replace",
                ));
            }
            Ok(context.until_answered(self.call(&ecs.region, &name)).await?.image_id)
        });
        if let Err(error) = &id
            && error.context("code") == Some(BUSY)
        {
            self.waiter.wait_again(&format!("the copy to {}", ecs.region), error)?;
            return self.start(ecs);
        }
        let id = match id {
            Ok(id) => id,
            Err(error) => {
                // Nothing was made when the only attempt was refused; a broken connection proves nothing.
                if refused_outright(&error) || error.kind == ErrorKind::Conflict {
                    context.gone(&resource)?;
                }
                return Err(error);
            }
        };
        self.note(&ecs.region, Some(&id))?;
        context.created(&resource.with_id(&id))?;
        Ok(id)
    }

    fn resource(&self, ecs: &Ecs, name: &str) -> Resource {
        resource(self.home, &ecs.region, name, &self.source.image.image_id, &self.build.run_id)
    }

    /// The key of a region's copy.
    fn key(&self, region: &str) -> Option<&String> {
        match self.checkpoint {
            ENCRYPTED => self.config.key.as_ref(),
            _ => self.config.copy_keys.get(region),
        }
    }

    /// Checks that a copy is encrypted as requested: the service could ignore a key.
    fn check_key(&self, copy: &Finished) -> Result<()> {
        let (ecs, image) = (&copy.ecs, &copy.image);
        let Some(key) = self.key(&ecs.region) else { return Ok(()) };
        let read = async { Ok(ecs.is_encrypted(image, key, &CALL).await?) };
        if self.waiter.context.block_on(read)? {
            return Ok(());
        }
        let id = &image.image_id;
        let message = format!("image `{id}` in {} is not encrypted with key `{key}`", ecs.region);
        Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("check that it is the identifier of a key, not an alias, in this region"))
    }

    async fn call(&self, region: &str, name: &str) -> Result<Imported, Failure> {
        let source = &self.source.ecs;
        let token =
            format!("{}\n{}\n{region}\n{name}", self.build.run_id, lock(&self.states).source);
        let mut parameters = pairs(&[
            ("RegionId", &source.region),
            ("ImageId", &self.source.image.image_id),
            ("DestinationRegionId", region),
            ("DestinationImageName", name),
            ("ClientToken", &hex(token.as_bytes(), 24)),
        ]);
        let mut marks = marks::tags([(MARK, &self.build.run_id)]);
        if self.checkpoint == COPIES {
            let copy_of = write_image(&source.region, &self.source.image.image_id);
            marks.insert(COPY_OF.to_owned(), marks::unfinished(&copy_of));
        }
        parameters.extend(tag_parameters(&marks));
        if let Some(key) = self.key(region) {
            parameters.extend(pairs(&[("Encrypted", "true"), ("KMSKeyId", key)]));
        }
        if let Some(text) = description(&self.build.description) {
            parameters.push(("DestinationDescription".to_owned(), text));
        }
        let group = self.config.import.extra.iter().find(|(name, _)| *name == "ResourceGroupId");
        parameters.extend(group.map(|(name, value)| ((*name).to_owned(), value.clone())));
        let what = format!("image `{}` to `{region}`", self.source.image.image_id);
        source.service.call("CopyImage", &parameters, &what, &CALL).await
    }

    fn note(&self, region: &str, id: Option<&str>) -> Result<()> {
        let mut states = lock(&self.states);
        states.copies.insert(region.to_owned(), id.map(str::to_owned));
        states.keys.insert(region.to_owned(), self.key(region).cloned().unwrap_or_default());
        self.waiter.context.save(self.checkpoint, &*states)
    }
}

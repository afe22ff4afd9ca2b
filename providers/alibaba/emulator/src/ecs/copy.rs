//! Implements CopyImage and CancelCopyImage. A copy has its own snapshots; it inherits neither the shares of
//! the source nor its NVMe support. Five copies into a region run at once, further ones wait. The start time
//! of each is determined when it is requested, so cancelling one copy does not start the next one earlier.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::checks;
use super::describe::{find, state};
use super::error::AcsError;
use super::import_image::{check_quota, client_token, same_call, unique_name};
use super::params::Params;
use super::region;
use super::snapshot;
use crate::clock::Millis;
use crate::ids;
use crate::service::Context;
use crate::state::{Disk, Image, Snapshot, Token, World};

/// Number of copies into one region that run at once.
const AT_ONCE: usize = 5;

/// CopyImage.
pub(crate) fn copy(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let target = region::need(context, params, "DestinationRegionId")?;
    let token = client_token(params, "CopyImage", region)?;
    let fingerprint = params.fingerprint();
    let mut world = context.store.world();
    if let Some(known) = token.as_ref().and_then(|name| world.tokens.get(name)) {
        same_call(known, &fingerprint)?;
        return Ok(json!({ "ImageId": known.image }));
    }
    let source = find(&world, (context.account, region), params.need("ImageId")?)?.clone();
    if state(&world, &source, context.now).0 != "Available" {
        return Err(AcsError::new(
            403,
            "OperationDenied.ImageCopying",
            "The source image is not available yet.",
        ));
    }
    let key = encryption(params)?;
    check_source(&world, &source, target == region, key.is_some())?;
    let mut image = draft(context, params, target, source)?;
    unique_name(&world, (context.account, target), &image.name)?;
    check_quota(context, &world, target)?;
    queue(&world, &mut image, context.now);
    if params.flag("DryRun") {
        return Err(AcsError::dry_run());
    }
    for disk in &image.disks {
        world.snapshots.put(Snapshot {
            id: disk.snapshot.clone(),
            region: target.to_owned(),
            name: snapshot::name_of(&image.name),
            image: image.id.clone(),
            created: context.now,
            kind: disk.kind.clone(),
            size: disk.size,
            tags: BTreeMap::new(),
            kms_key: key.clone(),
            owner: image.owner.clone(),
        })?;
    }
    if let Some(name) = token {
        world.tokens.put(Token {
            name,
            parameters: fingerprint,
            image: image.id.clone(),
            task: String::new(),
            created: context.now,
        })?;
    }
    let answer = json!({ "ImageId": image.id });
    world.images.put(image)?;
    Ok(answer)
}

/// Refuses sources that are not copied. Within a region, only an encrypted copy is made; one of an encrypted image is
/// encrypted everywhere.
fn check_source(
    world: &World,
    source: &Image,
    is_same_region: bool,
    encrypts: bool,
) -> Result<(), AcsError> {
    if source.public {
        return Err(AcsError::new(
            400,
            "OperationDenied.CommunityImage",
            "Community image does not support copy.",
        ));
    }
    if encrypts {
        return Ok(());
    }
    if is_same_region {
        return Err(AcsError::new(
            403,
            "IncorrectDestinationRegion",
            "The specified destination region is the region of the source.",
        ));
    }
    let key_of = |disk: &Disk| world.snapshots.get(&disk.snapshot)?.kms_key.clone();
    if source.disks.iter().any(|disk| key_of(disk).is_some()) {
        return Err(AcsError::new(
            403,
            "OperationDeined.EncryptedSnapshot",
            "The image contains encrypted snapshots, which do not support copying to non-encrypted ones.",
        ));
    }
    Ok(())
}

/// The key that encrypts the snapshots of a copy; `None` without encryption.
fn encryption(params: &Params) -> Result<Option<String>, AcsError> {
    let key = params.get("KMSKeyId").unwrap_or_default();
    if params.flag("Encrypted") {
        return Ok(Some(key.to_owned()));
    }
    if key.is_empty() {
        return Ok(None);
    }
    Err(AcsError::new(
        400,
        "InvalidParameter.KMSKeyId.EncryptedIllegal",
        "KMSKeyId is specified for a copy that is not encrypted.",
    ))
}

/// Makes a copy wait for its turn when the maximum number is running.
fn queue(world: &World, image: &mut Image, now: Millis) {
    let mut ends: Vec<Millis> = world
        .images
        .iter()
        .filter(|other| other.region == image.region && other.task.is_none())
        .filter_map(|other| other.creating_until)
        .filter(|until| *until > now)
        .collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let start = ends.get(AT_ONCE - 1).copied().unwrap_or(now);
    image.copy_starts = Some(start);
    image.creating_until = image.creating_until.map(|until| until + (start - now));
}

/// The future image of a copy, with the values of the call checked.
fn draft(
    context: &Context<'_>,
    params: &Params,
    target: &str,
    source: Image,
) -> Result<Image, AcsError> {
    let name = params.get("DestinationImageName").unwrap_or(&source.name).to_owned();
    checks::image_name(&name)?;
    let description = params.get("DestinationDescription").unwrap_or_default();
    checks::description(description)?;
    let lasts = Millis::try_from(context.config.import_time.as_millis()).unwrap_or(Millis::MAX / 4);
    let keep = context.plan.keep_creating.unwrap_or_default();
    let mut image = Image {
        id: ids::resource("m"),
        region: target.to_owned(),
        name,
        description: description.to_owned(),
        family: String::new(),
        created: context.now,
        task: None,
        creating_until: Some(context.now + lasts + keep),
        copied_from: Some(source.id.clone()),
        nvme: "unsupported".to_owned(),
        resource_group: params.get("ResourceGroupId").unwrap_or_default().to_owned(),
        tags: checks::tags(params)?,
        shared_with: Vec::new(),
        public: false,
        failed: context.plan.fail_task.is_some(),
        ..source
    };
    for disk in &mut image.disks {
        disk.snapshot = ids::resource("s");
    }
    Ok(image)
}

/// CancelCopyImage: removes the unfinished copy and its snapshots.
pub(crate) fn cancel(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let id = params.need("ImageId")?;
    let mut world = context.store.world();
    let image = find(&world, (context.account, region), id)?;
    if image.task.is_some() || state(&world, image, context.now).0 == "Available" {
        return Err(AcsError::new(
            403,
            "IncorrectImageStatus",
            "The current status of the image does not support this operation.",
        ));
    }
    world.remove_snapshots_of(id)?;
    world.remove_image(id)?;
    Ok(json!({}))
}

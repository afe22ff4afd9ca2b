//! Implements DeleteImage, ModifyImageAttribute, and JoinResourceGroup for images.

use serde_json::{Value, json};

use super::checks;
use super::describe::{find, state};
use super::error::AcsError;
use super::import_image::unique_name;
use super::params::Params;
use super::region;
use crate::clock::Millis;
use crate::service::Context;
use crate::state::{Image, World};

/// DeleteImage: the image is removed, its snapshots remain.
pub(crate) fn delete(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let id = params.need("ImageId")?;
    let mut world = context.store.world();
    let image = find(&world, (context.account, region), id)?;
    if is_at_work(&world, image, context.now) {
        let (code, message) = if image.task.is_some() {
            ("ImageIsImporting", "The specified image is being imported.")
        } else {
            ("OperationDenied.ImageCopying", "The specified image is being copied.")
        };
        return Err(AcsError::new(403, code, message));
    }
    let is_copied = |other: &&Image| other.copied_from.as_deref() == Some(id);
    let at_work = |copy: &Image| is_at_work(&world, copy, context.now);
    if world.images.iter().filter(is_copied).any(at_work) {
        return Err(AcsError::new(
            403,
            "OperationDenied.ImageCopying",
            "The specified image is being copied.",
        ));
    }
    if !image.shared_with.is_empty() && !params.flag("Force") {
        return Err(AcsError::new(
            403,
            "ImageUseShared",
            "The specified image is shared with other accounts.",
        ));
    }
    world.remove_image(id)?;
    Ok(json!({}))
}

/// Whether the image is still being made.
fn is_at_work(world: &World, image: &Image, now: Millis) -> bool {
    matches!(state(world, image, now).0, "Creating" | "Waiting")
}

fn change(image: &mut Image, params: &Params) -> Result<(), AcsError> {
    let pairs = params.pairs();
    let given =
        |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if let Some(text) = given("Description") {
        checks::description(text)?;
        text.clone_into(&mut image.description);
    }
    if let Some(text) = given("ImageFamily") {
        checks::family(text)?;
        text.clone_into(&mut image.family);
    }
    let modes = ["BIOS", "UEFI", "UEFI-Preferred"];
    let mode =
        checks::one_of(params, "BootMode", &modes, &image.boot_mode, "InvalidBootMode.Malformed")?;
    image.boot_mode = mode.to_owned();
    let nvme = checks::one_of(
        params,
        "Features.NvmeSupport",
        &["supported", "unsupported"],
        &image.nvme,
        "InvalidParameter.FeaturesNvmeSupport",
    )?;
    image.nvme = nvme.to_owned();
    let imds = checks::one_of(
        params,
        "Features.ImdsSupport",
        &["v1", "v2"],
        &image.imds,
        "InvalidParameter.FeaturesImdsSupport",
    )?;
    if image.imds == "v2" && imds == "v1" {
        return Err(AcsError::invalid(
            "InvalidParameter.FeaturesImdsSupport",
            "Features.ImdsSupport",
        ));
    }
    image.imds = imds.to_owned();
    let licence = checks::one_of(
        params,
        "LicenseType",
        &["BYOL"],
        &image.license_type,
        "InvalidLicenseType.NotSupported",
    )?;
    image.license_type = licence.to_owned();
    match params.get("Status") {
        None => {}
        Some("Deprecated") => image.deprecated = true,
        Some("Available") => image.deprecated = false,
        Some(_) => return Err(AcsError::invalid("InvalidParameter", "Status")),
    }
    Ok(())
}

/// ModifyImageAttribute.
pub(crate) fn modify(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let mut world = context.store.world();
    let mut image = find(&world, (context.account, region), params.need("ImageId")?)?.clone();
    if let Some(name) = params.get("ImageName").filter(|name| *name != image.name) {
        checks::image_name(name)?;
        unique_name(&world, (context.account, region), name)?;
        name.clone_into(&mut image.name);
    }
    change(&mut image, params)?;
    if params.flag("DryRun") {
        return Err(AcsError::dry_run());
    }
    world.images.put(image)?;
    Ok(json!({}))
}

/// JoinResourceGroup, of an image.
pub(crate) fn join_group(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let group = params.need("ResourceGroupId")?;
    if params.need("ResourceType")? != "image" {
        return Err(AcsError::invalid("InvalidResourceType.NotFound", "ResourceType"));
    }
    if !group.starts_with("rg-") {
        return Err(AcsError::new(
            404,
            "InvalidResourceGroup.NotFound",
            "The ResourceGroup provided does not exist in our records.",
        ));
    }
    let mut world = context.store.world();
    let id = params.need("ResourceId")?;
    let mut image = find(&world, (context.account, region), id)?.clone();
    group.clone_into(&mut image.resource_group);
    world.images.put(image)?;
    Ok(json!({}))
}

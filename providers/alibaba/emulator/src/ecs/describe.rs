//! Implements DescribeImages: names match partially, only `Available` images are listed unless requested
//! otherwise. The state of an image follows from its task and the clock.

use serde_json::{Value, json};

use super::checks;
use super::error::AcsError;
use super::params::Params;
use super::region;
use super::task;
use crate::clock::{self, Millis};
use crate::faults::CheckItem;
use crate::service::Context;
use crate::state::{Disk, Image, World};

/// `Waiting`, `Creating`, `Available`, `CreateFailed` or `Deprecated`, and the progress in percent.
pub(crate) fn state(world: &World, image: &Image, now: Millis) -> (&'static str, i64) {
    let task = image.task.as_ref().and_then(|id| world.tasks.get(id));
    if let Some(task) = task {
        let view = task::view(task, now);
        if view.failure.is_some() {
            return ("CreateFailed", 100);
        }
        if !view.is_over() {
            return ("Creating", view.percent);
        }
    }
    let start = image.copy_starts.unwrap_or(image.created);
    if now < start {
        return ("Waiting", 0);
    }
    if let Some(until) = image.creating_until.filter(|until| now < *until) {
        let whole = (until - start).max(1);
        return ("Creating", ((now - start) * 100 / whole).clamp(0, 99));
    }
    if image.failed {
        return ("CreateFailed", 100);
    }
    (if image.deprecated { "Deprecated" } else { "Available" }, 100)
}

/// An image of a region, or `InvalidImageId.NotFound`.
pub(crate) fn find<'a>(
    world: &'a World,
    (account, region): (&str, &str),
    id: &str,
) -> Result<&'a Image, AcsError> {
    let found = world.images.get(id).filter(|image| image.owner == account);
    found.filter(|image| image.region == region).ok_or_else(|| {
        AcsError::new(
            404,
            "InvalidImageId.NotFound",
            "The specified ImageId does not exist in this region.",
        )
    })
}

/// DescribeImages.
pub(crate) fn describe(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    if params.flag("DryRun") {
        return Err(AcsError::dry_run());
    }
    let (number, size) = params.page()?;
    let wanted: Vec<&str> = params.get("Status").unwrap_or("Available").split(',').collect();
    let ids: Option<Vec<&str>> = params.get("ImageId").map(|text| text.split(',').collect());
    if ids.as_ref().is_some_and(|ids| ids.len() > 100) {
        return Err(AcsError::invalid("InvalidParameter", "ImageId"));
    }
    let name = params.get("ImageName").map(|name| name.replace('*', ""));
    let is = |parameter: &str, value: &str| params.get(parameter).is_none_or(|want| want == value);
    let tags = params.tags();
    let world = context.store.world();
    let mut found: Vec<(&Image, &'static str, i64)> = world
        .images
        .iter()
        .filter(|image| image.owner == context.account && !context.plan.unlisted)
        .filter(|image| image.region == region && is("ImageOwnerAlias", "self"))
        .filter(|image| ids.as_ref().is_none_or(|ids| ids.contains(&image.id.as_str())))
        .filter(|image| name.as_ref().is_none_or(|name| image.name.contains(name.as_str())))
        .filter(|image| is("ImageFamily", &image.family) && is("OSType", &image.os_type))
        .filter(|image| is("Architecture", &image.architecture))
        .filter(|image| is("ResourceGroupId", &image.resource_group))
        .filter(|image| checks::has_tags(&image.tags, &tags))
        .filter(|image| {
            let snapshot = params.get("SnapshotId");
            snapshot.is_none_or(|id| image.disks.iter().any(|disk| disk.snapshot == id))
        })
        .map(|image| {
            let (state, progress) = state(&world, image, context.now);
            (image, state, progress)
        })
        .filter(|(_, state, _)| wanted.contains(state))
        .collect();
    found.sort_by(|a, b| (b.0.created, &b.0.id).cmp(&(a.0.created, &a.0.id)));
    let page: Vec<Value> = found
        .iter()
        .skip((number - 1) * size)
        .take(size)
        .map(|(image, state, progress)| fields(image, state, *progress))
        .collect();
    Ok(json!({
        "RegionId": region,
        "TotalCount": found.len(),
        "PageNumber": number,
        "PageSize": size,
        "Images": { "Image": page },
    }))
}

fn disk(disk: &Disk, state: &str, progress: i64) -> Value {
    json!({
        "SnapshotId": if state == "CreateFailed" { "" } else { &disk.snapshot },
        "Type": disk.kind,
        "Size": disk.size.to_string(),
        "Device": disk.device,
        "Format": disk.format,
        "Progress": format!("{progress}%"),
        "RemainTime": 0,
        "ImportOSSBucket": disk.bucket,
        "ImportOSSObject": disk.object,
    })
}

fn check_item(item: &CheckItem) -> Value {
    let mut value = json!({ "Name": item.name, "Value": item.value });
    if !item.risk_level.is_empty() {
        value["RiskLevel"] = item.risk_level.as_str().into();
        value["RiskCode"] = item.risk_code.as_str().into();
    }
    value
}

fn fields(image: &Image, state: &str, progress: i64) -> Value {
    let disks: Vec<Value> = image.disks.iter().map(|each| disk(each, state, progress)).collect();
    let size = image.disks.first().map_or(0, |disk| disk.size);
    let bits = if image.architecture == "i386" { 32 } else { 64 };
    let os_name = format!("{} {bits}位", image.platform);
    let mut value = json!({
        "ImageId": image.id,
        "ImageName": image.name,
        "Description": image.description,
        "ImageFamily": image.family,
        "ImageVersion": "",
        "ImageOwnerAlias": "self",
        "ImageOwnerId": image.owner.parse::<u64>().unwrap_or_default(),
        "Status": state,
        "Progress": format!("{progress}%"),
        "Size": size,
        "Architecture": image.architecture,
        "BootMode": image.boot_mode,
        "OSType": image.os_type,
        "Platform": image.platform,
        "OSName": os_name,
        "OSNameEn": format!("{} {bits} bit", image.platform),
        "Usage": "none",
        "IsPublic": image.public,
        "IsSubscribed": false,
        "IsCopied": image.task.is_none(),
        "IsSelfShared": if image.shared_with.is_empty() { "" } else { "True" },
        "IsSupportCloudinit": false,
        "IsSupportIoOptimized": true,
        "LoginAsNonRootSupported": false,
        "ProductCode": "",
        "CreationTime": clock::iso(image.created),
        "ResourceGroupId": image.resource_group,
        "Features": {
            "NvmeSupport": image.nvme,
            "ImdsSupport": image.imds,
            "CpuOnlineUpgrade": "unsupported",
            "CpuOnlineDowngrade": "unsupported",
            "MemoryOnlineUpgrade": "unsupported",
            "MemoryOnlineDowngrade": "unsupported",
        },
        "DiskDeviceMappings": { "DiskDeviceMapping": disks },
        "Tags": { "Tag": super::tag::list_of(&image.tags) },
    });
    if !image.detection.is_empty() {
        let status = if state == "Creating" { "Processing" } else { "Finished" };
        let items: Vec<Value> = if status == "Finished" {
            image.check_items.iter().map(check_item).collect()
        } else {
            Vec::new()
        };
        value["DetectionOptions"] = json!({ "Status": status, "Items": { "Item": items } });
    }
    value
}

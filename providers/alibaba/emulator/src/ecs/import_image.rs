//! Implements ImportImage: performs every check of the call itself, then creates a task, an image, and its
//! snapshots. Whether the object is a usable disk is determined afterwards and reported by the task.

use serde_json::{Value, json};

use super::checks;
use super::error::AcsError;
use super::params::Params;
use super::region;
use super::snapshot;
use super::source;
use crate::clock::Millis;
use crate::identity::role;
use crate::ids;
use crate::service::Context;
use crate::state::{Image, Snapshot, Task, Token, Verdict, World};

const PLATFORMS: [&str; 28] = [
    "Aliyun",
    "AlmaLinux",
    "Anolis",
    "CentOS",
    "CentOS Stream",
    "CoreOS",
    "Customized Linux",
    "Debian",
    "Fedora",
    "Fedora CoreOS",
    "FreeBSD",
    "Gentoo",
    "Kylin",
    "OpenSUSE",
    "Other Windows",
    "Others Linux",
    "RedHat",
    "Red Hat",
    "Rocky Linux",
    "SUSE",
    "UOS",
    "Ubuntu",
    "Windows Server 2003",
    "Windows Server 2008",
    "Windows Server 2012",
    "Windows Server 2016",
    "Windows Server 2019",
    "Windows Server 2022",
];
/// A new import: the answer, and the task whose object has to be inspected.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) answer: Value,
    /// `None` when the call repeats an earlier one.
    pub(crate) task: Option<String>,
}

/// ImportImage.
pub(crate) fn import(context: &Context<'_>, params: &Params) -> Result<Imported, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let token = client_token(params, "ImportImage", region)?;
    let fingerprint = params.fingerprint();
    let mut world = context.store.world();
    if let Some(known) = token.as_ref().and_then(|name| world.tokens.get(name)) {
        same_call(known, &fingerprint)?;
        let answer = answer(&known.image, &known.task, region);
        return Ok(Imported { answer, task: None });
    }
    let mut image = values(context, params, region)?;
    check_name(&world, &mut image, params)?;
    check_quota(context, &world, region)?;
    let name = params.get("RoleName").unwrap_or(role::IMPORT_ROLE);
    if !role::lets_ecs_read(context.config, &world, name, context.now) {
        return Err(AcsError::new(
            403,
            "NoSetRoletoECSServiceAcount",
            "ECS service account Have no right to access your OSS.",
        ));
    }
    image.disks = source::disks(&world, params, region)?;
    if params.flag("DryRun") {
        return Err(AcsError::dry_run());
    }
    let task = begin(context, &mut image, region);
    let answer = answer(&image.id, &task.id, region);
    if let Some(name) = token {
        world.tokens.put(Token {
            name,
            parameters: fingerprint,
            image: image.id.clone(),
            task: task.id.clone(),
            created: context.now,
        })?;
    }
    let id = task.id.clone();
    enter(&mut world, image, task)?;
    Ok(Imported { answer, task: Some(id) })
}

fn answer(image: &str, task: &str, region: &str) -> Value {
    json!({ "ImageId": image, "TaskId": task, "RegionId": region })
}

/// The key under which a call with a client token is stored.
pub(crate) fn client_token(
    params: &Params,
    action: &str,
    region: &str,
) -> Result<Option<String>, AcsError> {
    let Some(text) = params.get("ClientToken") else { return Ok(None) };
    checks::client_token(text)?;
    Ok(Some(format!("{action}/{region}/{text}")))
}

/// Refuses a client token that stands for a call with other parameters.
pub(crate) fn same_call(known: &Token, fingerprint: &str) -> Result<(), AcsError> {
    if known.parameters == fingerprint {
        return Ok(());
    }
    Err(AcsError::new(
        400,
        "IdempotentParameterMismatch",
        "The specified ClientToken was used with other parameters.",
    ))
}

/// Parses the values of the call that do not depend on other resources.
fn values(context: &Context<'_>, params: &Params, region: &str) -> Result<Image, AcsError> {
    let description = params.get("Description").unwrap_or_default();
    checks::description(description)?;
    let machine = Machine::read(params)?;
    let one = |name, allowed: &[&'static str], default, code| {
        checks::one_of(params, name, allowed, default, code).map(str::to_owned)
    };
    let detection =
        one("DetectionStrategy", &["Standard"], "", "InvalidParameter.DetectionStrategy")?;
    if !detection.is_empty() && machine.platform.contains("Windows") {
        return Err(AcsError::new(
            403,
            "ImageCheckUnsupported.WindowsImage",
            "Image check does not support Windows images.",
        ));
    }
    let nvme = ["supported", "unsupported"];
    let licences = ["Auto", "Aliyun", "BYOL"];
    Ok(Image {
        id: ids::resource("m"),
        region: region.to_owned(),
        name: params.get("ImageName").unwrap_or_default().to_owned(),
        description: description.to_owned(),
        family: String::new(),
        created: context.now,
        task: None,
        creating_until: None,
        copied_from: None,
        copy_starts: None,
        deprecated: false,
        failed: false,
        architecture: machine.architecture.to_owned(),
        os_type: machine.os_type.to_owned(),
        platform: machine.platform.to_owned(),
        boot_mode: machine.boot_mode.to_owned(),
        license_type: one("LicenseType", &licences, "Auto", "InvalidLicenseType.NotSupported")?,
        nvme: one(
            "Features.NvmeSupport",
            &nvme,
            "unsupported",
            "InvalidParameter.FeaturesNvmeSupport",
        )?,
        imds: one(
            "Features.ImdsSupport",
            &["v1", "v2"],
            "v1",
            "InvalidParameter.FeaturesImdsSupport",
        )?,
        detection,
        check_items: context.plan.image_check.clone(),
        resource_group: params.get("ResourceGroupId").unwrap_or_default().to_owned(),
        tags: checks::tags(params)?,
        shared_with: Vec::new(),
        public: false,
        disks: Vec::new(),
        owner: context.account.to_owned(),
    })
}

/// The machine that the image is declared to run on.
struct Machine<'a> {
    architecture: &'a str,
    os_type: &'a str,
    platform: &'a str,
    boot_mode: &'a str,
}

impl<'a> Machine<'a> {
    fn read(params: &'a Params) -> Result<Self, AcsError> {
        let one =
            |name, allowed, default, code| checks::one_of(params, name, allowed, default, code);
        let architecture = one(
            "Architecture",
            &["i386", "x86_64", "arm64"],
            "x86_64",
            "InvalidArchitecture.Malformed",
        )?;
        let os_type = one("OSType", &["linux", "windows"], "linux", "InvalidOSType.Malformed")?;
        let default = if os_type == "windows" { "Other Windows" } else { "Others Linux" };
        let platform = one("Platform", &PLATFORMS, default, "InvalidPlatform.Malformed")?;
        let arm = architecture == "arm64";
        let default = if arm { "UEFI" } else { "BIOS" };
        let boot_mode = one("BootMode", &["BIOS", "UEFI"], default, "InvalidBootMode.Malformed")?;
        if arm && boot_mode != "UEFI" {
            return Err(AcsError::invalid("InvalidBootMode.NotSupport", "BootMode"));
        }
        Ok(Self { architecture, os_type, platform, boot_mode })
    }
}

fn check_name(world: &World, image: &mut Image, params: &Params) -> Result<(), AcsError> {
    if params.get("ImageName").is_none() {
        image.name.clone_from(&image.id);
        return Ok(());
    }
    checks::image_name(&image.name)?;
    unique_name(world, (&image.owner, &image.region), &image.name)
}

/// Refuses a name that another image of the region has.
pub(crate) fn unique_name(world: &World, place: (&str, &str), name: &str) -> Result<(), AcsError> {
    let is_here = |other: &Image| (other.owner.as_str(), other.region.as_str()) == place;
    if world.images.iter().any(|other| is_here(other) && other.name == name) {
        return Err(AcsError::new(
            400,
            "InvalidImageName.Duplicated",
            "The specified Image name has already been used.",
        ));
    }
    Ok(())
}

/// Refuses an image that exceeds the quota of a region.
pub(crate) fn check_quota(
    context: &Context<'_>,
    world: &World,
    region: &str,
) -> Result<(), AcsError> {
    let images = world.images.iter().filter(|image| image.region == region).count();
    if images >= context.config.image_quota {
        return Err(AcsError::new(
            403,
            "QuotaExceed.Image",
            "The number of images in this region exceeds the quota of the account.",
        ));
    }
    Ok(())
}

/// Creates the task, with the requested failures.
fn begin(context: &Context<'_>, image: &mut Image, region: &str) -> Task {
    let lasts = Millis::try_from(context.config.import_time.as_millis()).unwrap_or(Millis::MAX / 4);
    let task = Task {
        id: ids::resource("t"),
        region: region.to_owned(),
        image: image.id.clone(),
        created: context.now,
        lasts,
        verdict: context
            .plan
            .fail_task
            .as_ref()
            .map(|fail| Verdict::Bad { code: fail.code.clone(), message: fail.message.clone() }),
        finished_though_failed: context.plan.fail_task.as_ref().is_some_and(|fail| fail.finished),
        cancelled: None,
        owner: image.owner.clone(),
    };
    image.task = Some(task.id.clone());
    image.creating_until = context.plan.keep_creating.map(|keep| task.created + lasts + keep);
    task
}

fn enter(world: &mut World, image: Image, task: Task) -> Result<(), AcsError> {
    for disk in &image.disks {
        world.snapshots.put(Snapshot {
            id: disk.snapshot.clone(),
            region: image.region.clone(),
            name: snapshot::name_of(&image.name),
            image: image.id.clone(),
            created: image.created,
            kind: disk.kind.clone(),
            size: disk.size,
            tags: std::collections::BTreeMap::new(),
            kms_key: None,
            owner: image.owner.clone(),
        })?;
    }
    world.images.put(image)?;
    world.tasks.put(task)?;
    Ok(())
}

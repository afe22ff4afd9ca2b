//! Finishes an available image, imported or copied: compares its attributes in ECS with the requested ones
//! and corrects them, tags it, reports the vendor's check, and shares it.

use build_image_plugin_api::{Context, Error, ErrorKind, Result, document::Build};
use serde_json::{Value, json};

use crate::{
    client::CALL,
    config::Config,
    describe::GIB,
    ecs::Ecs,
    guest,
    image::{Detection, Image},
    import::{architecture, boot_mode},
    marks::{self, COPY_OF, IMAGE_OF},
    monitor::Waiter,
    options::DETECTION,
    sharing::share,
};

/// An image that matches the request.
pub(crate) struct Finished {
    pub(crate) ecs: Ecs,
    pub(crate) image: Image,
    /// Accounts that the image is shared with.
    pub(crate) shared: Vec<String>,
    /// Findings of the vendor's check, if it was requested.
    pub(crate) report: Option<Value>,
}

impl Finished {
    /// The region, and the image's entry in the result document.
    pub(crate) fn facts(&self) -> (&str, Value) {
        let image = &self.image;
        let mut facts = json!({"image_id": image.image_id, "image_name": image.image_name,
            "snapshot_ids": image.snapshots()});
        if !self.shared.is_empty() {
            facts["shared_account_ids"] = json!(self.shared);
        }
        (&self.ecs.region, facts)
    }
}

/// The attributes an image must have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requested {
    architecture: String,
    boot_mode: Option<String>,
    nvme: Option<String>,
    imds: Option<String>,
    /// Minimum size in GiB; 0 = any.
    size: u64,
}

/// An attribute that differs in ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    what: &'static str,
    requested: String,
    found: String,
    /// Parameter of `ModifyImageAttribute` that sets it.
    parameter: Option<&'static str>,
    /// Whether the image does not start with the differing value.
    fatal: bool,
}

impl Requested {
    /// The attributes that the settings and the disk request.
    pub(crate) fn of(config: &Config, build: &Build) -> Self {
        let extra = |name: &str| {
            let found = config.import.extra.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        Self {
            architecture: architecture(config, build).to_owned(),
            boot_mode: boot_mode(config, build).map(str::to_owned),
            nvme: guest::nvme(config, build),
            imds: extra("Features.ImdsSupport"),
            size: build.virtual_size.div_ceil(GIB),
        }
    }

    /// What differs, in words.
    pub(crate) fn described(&self, image: &Image) -> Vec<String> {
        let differences = self.differences(image).into_iter();
        let text =
            |one: Difference| format!("{} is {}, not {}", one.what, one.found, one.requested);
        differences.map(text).collect()
    }

    fn differences(&self, image: &Image) -> Vec<Difference> {
        let mut list = Vec::new();
        let mut compare = |what, requested: &str, found: &str, parameter, fatal| {
            if !found.is_empty() && !requested.eq_ignore_ascii_case(found) {
                let (requested, found) = (requested.to_owned(), found.to_owned());
                list.push(Difference { what, requested, found, parameter, fatal });
            }
        };
        compare("architecture", &self.architecture, &image.architecture, None, true);
        if let Some(mode) = &self.boot_mode {
            compare("boot mode", mode, &image.boot_mode, Some("BootMode"), true);
        }
        // A value that the service does not report is its default.
        let or = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        if let Some(nvme) = &self.nvme {
            let found = or(&image.features.nvme_support, "unsupported");
            compare("NVMe support", nvme, &found, Some("Features.NvmeSupport"), false);
        }
        if let Some(imds) = &self.imds {
            let found = or(&image.features.imds_support, "v1");
            compare("metadata service", imds, &found, Some("Features.ImdsSupport"), false);
        }
        if let Some(size) = image.size.filter(|&size| size > 0 && size < self.size) {
            let (requested, found) = (format!("{} GiB", self.size), format!("{size} GiB"));
            let what = "size";
            list.push(Difference { what, requested, found, parameter: None, fatal: true });
        }
        list
    }
}

/// Finishes an available image.
///
/// # Errors
/// Refusals, and an image that would not start.
pub(crate) fn finish(
    waiter: &Waiter<'_>,
    config: &Config,
    build: &Build,
    requested: &Requested,
    ecs: Ecs,
    image: Image,
) -> Result<Finished> {
    let context = waiter.context;
    let image = settle(context, &ecs, image, requested)?;
    let ids = std::slice::from_ref(&image.image_id);
    let mut tags = marks::with_run(&build.tags, &build.run_id);
    tags.extend(image.copy_of().map(|copy_of| (COPY_OF.to_owned(), copy_of)));
    let mut of_snapshots = marks::with_run(&build.tags, &build.run_id);
    of_snapshots.insert(IMAGE_OF.to_owned(), image.image_id.clone());
    context.block_on(async {
        ecs.tag("image", ids, &tags, &CALL).await?;
        Ok(ecs.tag("snapshot", &image.snapshots(), &of_snapshots, &CALL).await?)
    })?;
    // Copies are not checked again: the bytes are the same.
    let report =
        if waiter.progress == 0 { detected(waiter, config, &ecs, &image.image_id)? } else { None };
    let shared = share(context, &ecs, &image.image_id, &config.share, &config.unshare)?;
    Ok(Finished { ecs, image, shared, report })
}

/// Sets attributes that differ, and reads them again.
fn settle(context: &Context, ecs: &Ecs, image: Image, requested: &Requested) -> Result<Image> {
    let differences = requested.differences(&image);
    let repairs: Vec<(&str, &str)> = differences
        .iter()
        .filter_map(|difference| Some((difference.parameter?, difference.requested.as_str())))
        .collect();
    if differences.is_empty() {
        return Ok(image);
    }
    let id = image.image_id.clone();
    let image = if repairs.is_empty() {
        image
    } else {
        tracing::info!(image = id, ?repairs, "setting what the image came without");
        context.block_on(async {
            ecs.modify_image(&id, &repairs, &CALL).await?;
            Ok(ecs.image(&id, &CALL).await?.unwrap_or(image))
        })?
    };
    for difference in requested.differences(&image) {
        let Difference { what, requested, found, fatal, .. } = difference;
        let text = format!("{what} of image `{id}` in {} is {found}, not {requested}", ecs.region);
        if fatal {
            return Err(Error::new(ErrorKind::InvalidImage, text).with_hint(
                "check ALIBABA_ARCHITECTURE and ALIBABA_BOOT_MODE against the disk, and that the region supports them",
            ));
        }
        context.warning(text, "set it in the ECS console, or choose instance types that fit")?;
    }
    Ok(image)
}

/// Returns the findings of the vendor's check of an imported image, if it was requested.
///
/// # Errors
/// A refused poll, and Ctrl-C.
pub(crate) fn detected(
    waiter: &Waiter<'_>,
    config: &Config,
    ecs: &Ecs,
    id: &str,
) -> Result<Option<Value>> {
    let is_requested = config.import.extra.iter().any(|(name, _)| *name == DETECTION);
    if is_requested { report(waiter, ecs, id) } else { Ok(None) }
}

/// Waits for the vendor's check of the image: risks are warnings, and the whole report becomes part of the
/// result.
fn report(waiter: &Waiter<'_>, ecs: &Ecs, id: &str) -> Result<Option<Value>> {
    const HINT: &str = "look at the image check in the ECS console";
    let context = waiter.context;
    match waiter.detection(ecs, id) {
        Ok(Some(report)) => {
            for text in risks(&report) {
                context.warning(format!("image check of {id}: {text}"), HINT)?;
            }
            let items = report.items().iter().map(|item| {
                json!({"name": item.name, "value": item.value, "risk_level": item.risk_level,
                    "risk_code": item.risk_code})
            });
            Ok(Some(Value::Array(items.collect())))
        }
        Ok(None) => {
            context.warning(format!("ECS has no check report for image {id}"), HINT)?;
            Ok(None)
        }
        Err(error) if error.kind == ErrorKind::Timeout => {
            context.warning(error.to_string(), HINT)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn risks(report: &Detection) -> Vec<String> {
    let risky = report.items().iter().filter(|item| !item.risk_level.is_empty());
    let line = |item: &crate::image::DetectionItem| {
        let (name, value) = (&item.name, &item.value);
        let risk = item.risk_level.to_lowercase();
        format!("{name} is `{value}` ({risk} risk, {})", item.risk_code)
    };
    risky.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(value: Value) -> Image {
        serde_json::from_value(value).unwrap()
    }

    fn requested() -> Requested {
        Requested {
            architecture: "x86_64".into(),
            boot_mode: Some("UEFI".into()),
            nvme: Some("supported".into()),
            imds: Some("v2".into()),
            size: 20,
        }
    }

    #[test]
    fn an_image_as_asked_for_has_no_differences() {
        let same = json!({"Architecture": "x86_64", "BootMode": "UEFI", "Size": 40,
            "Features": {"NvmeSupport": "supported", "ImdsSupport": "v2"}});
        assert!(requested().differences(&image(same)).is_empty());
        assert!(
            Requested { architecture: "x86_64".into(), ..Requested::default() }
                .differences(&image(json!({})))
                .is_empty()
        );
    }

    #[test]
    fn every_difference_is_found_with_the_parameter_that_sets_it() {
        let other = json!({"Architecture": "arm64", "BootMode": "BIOS", "Size": 10});
        let found = requested().differences(&image(other));
        let seen: Vec<_> = found.iter().map(|one| (one.what, one.parameter, one.fatal)).collect();
        assert_eq!(
            seen,
            [
                ("architecture", None, true),
                ("boot mode", Some("BootMode"), true),
                ("NVMe support", Some("Features.NvmeSupport"), false),
                ("metadata service", Some("Features.ImdsSupport"), false),
                ("size", None, true),
            ]
        );
    }

    #[test]
    fn risks_of_the_image_check_are_reported_with_name_and_level() {
        let report: Detection =
            serde_json::from_value(json!({"Status": "Finished", "Items": {"Item": [
            {"Name": "GUESTOS.Virtio", "Value": "missing", "RiskLevel": "High", "RiskCode": "R1"},
            {"Name": "GUESTOS.Dhcp", "Value": "yes"}]}}))
            .unwrap();
        assert_eq!(risks(&report), ["GUESTOS.Virtio is `missing` (high risk, R1)"]);
    }
}

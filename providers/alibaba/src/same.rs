//! Compares images that were made from the same disk with what a build would register: state, name, machine, tags, shares,
//! encryption, and copies.
//!
//! The service does not report the licence and the description in the form in which they were requested; they are not
//! compared.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Result,
    document::{Build, CheckReport, CheckRequest, Finding, ItemKind},
};

use crate::{
    client::CALL,
    config::Config,
    credentials::Credentials,
    ecs::Ecs,
    finish::{Finished, Requested},
    guest,
    image::Image,
    nearby::nearby,
    publish::answer,
};

/// A difference, and the command that repairs it.
struct Difference {
    text: String,
    repair: Option<String>,
}

fn differs(text: String, repair: Option<String>) -> Difference {
    Difference { text, repair }
}

/// The parameters of one comparison.
struct Comparison<'a> {
    config: &'a Config,
    build: &'a Build,
    /// The region of the build.
    home: &'a str,
    requested: Requested,
}

/// Compares the images that a request names.
///
/// # Errors
/// Settings that are missing, and what the service refuses.
pub(crate) fn compare(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &CheckRequest,
) -> Result<CheckReport> {
    let build = &request.build;
    let place = nearby(context, config, config.place()?)?;
    let (home, requested) = (place.region.as_str(), Requested::of(config, build));
    let comparison = Comparison { config, build, home, requested };
    let others = config.copy_regions.iter().filter(|region| **region != place.region);
    let regions: Vec<&String> = [&place.region].into_iter().chain(others).collect();
    let mut report = CheckReport::default();
    let mut all: Vec<Finished> = Vec::new();
    for region in &regions {
        context.check_cancelled()?;
        let here = request.same.iter().filter(|one| {
            one.kind == ItemKind::Image && one.region.as_ref().is_none_or(|of| of == *region)
        });
        let ids: Vec<String> = here.map(|one| one.id.clone()).collect();
        let ecs = Ecs::of_region(config, region, credentials)?;
        let best = context.block_on(comparison.best(&ecs, &ids))?;
        let Some((image, shared, differences)) = best else {
            let source = all.first().map(|home| &home.image.image_id);
            let repair = source
                .map(|id| format!("build-image images copy {id} --to {region} --with-access"));
            let text = "no complete image was made from the same disk".to_owned();
            report.findings.push(finding(format!("region {region}"), differs(text, repair)));
            continue;
        };
        let subject = format!("image {} in {region}", image.image_id);
        let found = differences.into_iter().map(|one| finding(subject.clone(), one));
        report.findings.extend(found);
        all.push(Finished { ecs, image, shared, report: None });
    }
    if report.findings.is_empty() {
        report.same = Some(answer(&place, None, &all));
    }
    Ok(report)
}

fn finding(subject: String, difference: Difference) -> Finding {
    let mut finding = Finding::warning(subject, difference.text, "");
    finding.hint = difference.repair;
    finding
}

impl Comparison<'_> {
    /// The available image of a region with the fewest differences, the oldest of several; with the accounts that it is
    /// shared with.
    async fn best(
        &self,
        ecs: &Ecs,
        ids: &[String],
    ) -> Result<Option<(Image, Vec<String>, Vec<Difference>)>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let mut images = ecs.images_of(ids, &CALL).await?;
        images.retain(|image| image.status == "Available");
        images.sort_by(|a, b| a.creation_time.cmp(&b.creation_time));
        let mut best: Option<(Image, Vec<String>, Vec<Difference>)> = None;
        for image in images {
            let (shared, differences) = self.differences(ecs, &image).await?;
            if best.as_ref().is_none_or(|(.., least)| differences.len() < least.len()) {
                best = Some((image, shared, differences));
            }
        }
        Ok(best)
    }

    async fn differences(
        &self,
        ecs: &Ecs,
        image: &Image,
    ) -> Result<(Vec<String>, Vec<Difference>)> {
        let mut all = self.of_image(image);
        let (id, config) = (&image.image_id, self.config);
        let shares = ecs.shares(id, &CALL).await?;
        let (shared, missing): (Vec<String>, Vec<String>) =
            config.share.iter().cloned().partition(|account| shares.contains(account));
        let extra: Vec<String> =
            config.unshare.iter().filter(|account| shares.contains(*account)).cloned().collect();
        for (accounts, is, verb) in [(missing, "is not", "share"), (extra, "is", "unshare")] {
            if !accounts.is_empty() {
                let list = accounts.join(",");
                let repair = format!("build-image images {verb} {id} --account {list}");
                all.push(differs(format!("it {is} shared with {list}"), Some(repair)));
            }
        }
        if let Some(key) = config.key_of(&ecs.region, self.home)
            && !ecs.is_encrypted(image, key, &CALL).await?
        {
            all.push(differs(format!("it is not encrypted with key {key}"), None));
        }
        Ok((shared, all))
    }

    /// What the list of images shows.
    fn of_image(&self, image: &Image) -> Vec<Difference> {
        let (config, build, id) = (self.config, self.build, &image.image_id);
        let mut all: Vec<Difference> =
            self.requested.described(image).into_iter().map(|text| differs(text, None)).collect();
        let group = config.import.extra.iter().find(|(name, _)| *name == "ResourceGroupId");
        let name = Some(&build.image_name).filter(|_| build.image_name_chosen);
        let platform = config.import.platform.as_ref().map(|_| guest::platform(config, build));
        for (what, wanted, found) in [
            ("name", name, &image.image_name),
            ("family", config.family.as_ref(), &image.image_family),
            ("platform", platform.as_ref(), &image.platform),
            ("resource group", group.map(|(_, group)| group), &image.resource_group_id),
        ] {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
                all.push(differs(format!("its {what} is `{found}`, not `{wanted}`"), None));
            }
        }
        for (key, value) in &build.tags {
            if image.tag(key) != Some(value.as_str()) {
                let found = image.tag(key).unwrap_or_default();
                let repair = format!("build-image images tag {id} --tag '{key}={value}'");
                all.push(differs(format!("tag `{key}` is `{found}`, not `{value}`"), Some(repair)));
            }
        }
        if config.keep_object {
            let text = "whether its object is in the bucket is not known".to_owned();
            all.push(differs(text, None));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::{Value, json};

    use super::*;

    /// Settings, the image as it is listed, and what differs.
    type Case = (&'static [(&'static str, &'static str)], Value, &'static [&'static str]);

    #[test]
    fn every_property_that_was_requested_is_compared() {
        let web = || {
            json!({"ImageId": "m-1", "ImageName": "web", "Architecture": "x86_64",
            "Tags": {"Tag": [{"TagKey": "owner", "TagValue": "us"}]}})
        };
        let with = |name: &str, value: Value| {
            let mut image = web();
            image[name] = value;
            image
        };
        let cases: Vec<Case> = vec![
            (&[], web(), &[]),
            (&[], with("ImageName", json!("db")), &["name"]),
            (&[], with("Architecture", json!("arm64")), &["architecture"]),
            (&[], with("Tags", json!({})), &["owner"]),
            (&[("ALIBABA_BOOT_MODE", "UEFI")], with("BootMode", json!("BIOS")), &["boot mode"]),
            (&[("ALIBABA_IMAGE_FAMILY", "web-1")], web(), &["family"]),
            (&[("ALIBABA_IMAGE_FAMILY", "web-1")], with("ImageFamily", json!("web-1")), &[]),
            (&[("ALIBABA_PLATFORM", "Debian")], with("Platform", json!("Ubuntu")), &["platform"]),
            (&[("ALIBABA_RESOURCE_GROUP_ID", "rg-1")], web(), &["resource group"]),
            (&[("ALIBABA_RESOURCE_GROUP_ID", "rg-1")], with("ResourceGroupId", json!("rg-1")), &[]),
            (&[("ALIBABA_IMDS_SUPPORT", "v2")], web(), &["metadata service"]),
        ];
        for (values, image, expected) in cases {
            let values = values.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
            let config = Config::read(&Settings::from_values(values.collect())).unwrap();
            let build = Build::default()
                .image_name("web")
                .image_name_chosen(true)
                .tags([("owner", "us".to_owned())]);
            let requested = Requested::of(&config, &build);
            let comparison =
                Comparison { config: &config, build: &build, home: "cn-hangzhou", requested };
            let image: Image = serde_json::from_value(image).unwrap();
            let found = comparison.of_image(&image);
            assert_eq!(found.len(), expected.len(), "{image:?}");
            for (one, part) in found.iter().zip(expected) {
                assert!(one.text.contains(part), "{}", one.text);
                assert_eq!(one.repair.is_some(), *part == "owner", "{}", one.text);
            }
        }
    }

    #[test]
    fn a_kept_object_that_nothing_shows_is_a_difference() {
        let values = [("ALIBABA_KEEP_OSS_OBJECT".to_owned(), json!(true))];
        let config = Config::read(&Settings::from_values(values.into())).unwrap();
        let build = Build::default();
        let requested = Requested::of(&config, &build);
        let comparison =
            Comparison { config: &config, build: &build, home: "cn-hangzhou", requested };
        assert_eq!(comparison.of_image(&Image::default()).len(), 1);
    }
}

//! Compares images that were made from the same disk with what a build would register: state, name, machine, root volume,
//! tags, shares, encryption, deprecation date, and copies.
//!
//! The description names the files of the build; it is not compared.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Context, Result,
    document::{self, Build, CheckReport, CheckRequest, Finding, ItemKind},
};

use crate::{
    attributes::GIB,
    check_calls::{all_regions, encrypts_by_default, key_metadata},
    client::CALL,
    cloud::{Cloud, Session},
    config::{Config, Way},
    ec2::Ec2,
    finish::{deprecation, is_deprecated_at},
    image::{Image, Snapshot},
    marks::IMAGE_OF,
    owner::Owner,
    publish::answer,
    sharing::{self, Permission},
};

/// Parameters of `RegisterImage` that are compared, with their names in messages. What is not requested must be absent.
const COMPARED: [(&str, &str); 12] = [
    ("Architecture", "architecture"),
    ("BootMode", "boot mode"),
    ("VirtualizationType", "virtualization type"),
    ("EnaSupport", "ENA support"),
    ("SriovNetSupport", "SR-IOV support"),
    ("ImdsSupport", "metadata service"),
    ("TpmSupport", "TPM"),
    ("RootDeviceName", "root device"),
    ("BlockDeviceMapping.1.Ebs.VolumeSize", "volume size"),
    ("BlockDeviceMapping.1.Ebs.VolumeType", "volume type"),
    ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "deletion with its instance"),
    ("BlockDeviceMapping.2.DeviceName", "second volume"),
];
/// Compared when it is requested: the service sets it for some types of volumes.
const IOPS: &str = "BlockDeviceMapping.1.Ebs.Iops";

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
    cloud: &'a Cloud<'a>,
    config: &'a Config,
    build: &'a Build,
}

/// Compares the images that a request names.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) fn compare(
    context: &Context,
    config: &Config,
    session: &Session,
    request: &CheckRequest,
) -> Result<CheckReport> {
    context.check_cancelled()?;
    context.block_on(async {
        let cloud = Cloud::open(context, config, session).await?;
        let owner = Owner::now(&cloud, &CALL).await?;
        let comparison = Comparison { cloud: &cloud, config, build: &request.build };
        comparison.run(request, &owner).await
    })
}

fn finding(subject: String, difference: Difference) -> Finding {
    let mut finding = Finding::warning(subject, difference.text, "");
    finding.hint = difference.repair;
    finding
}

impl Comparison<'_> {
    async fn run(&self, request: &CheckRequest, owner: &Owner) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        let mut all: Vec<(String, Image)> = Vec::new();
        for region in all_regions(self.cloud) {
            let here = request.same.iter().filter(|one| {
                one.kind == ItemKind::Image && one.region.as_ref().is_none_or(|of| *of == region)
            });
            let ids: Vec<String> = here.map(|one| one.id.clone()).collect();
            let ec2 = Ec2::open(self.cloud, &region)?;
            let Some((image, differences)) = self.best(&ec2, &ids).await? else {
                let source = all.first().map(|(_, home)| &home.image_id);
                let repair = source
                    .map(|id| format!("build-image images copy {id} --to {region} --with-access"));
                let text = "no complete image was made from the same disk".to_owned();
                report.findings.push(finding(format!("region {region}"), differs(text, repair)));
                continue;
            };
            let subject = format!("image {} in {region}", image.image_id);
            let found = differences.into_iter().map(|one| finding(subject.clone(), one));
            report.findings.extend(found);
            all.push((region, image));
        }
        if report.findings.is_empty()
            && let Some((region, home)) = all.first()
        {
            let images = all.iter().map(|(region, image)| {
                document::Image::new(&image.image_id, &image.name).region(region)
            });
            report.same = Some(answer(images.collect(), home, region, &owner.account));
        }
        Ok(report)
    }

    /// The available image of a region with the fewest differences, the oldest of several.
    async fn best(&self, ec2: &Ec2, ids: &[String]) -> Result<Option<(Image, Vec<Difference>)>> {
        let mut images = ec2.images_by("image-id", ids, &CALL).await?;
        // What is marked like a copy of a build and is not one belongs to others.
        images.retain(|image| {
            image.image_state == "available" && image.run().is_some() && !image.is_unfinished_copy()
        });
        images.sort_by(|a, b| a.creation_date.cmp(&b.creation_date));
        let mut best: Option<(Image, Vec<Difference>)> = None;
        for image in images {
            let differences = self.differences(ec2, &image).await?;
            if best.as_ref().is_none_or(|(_, least)| differences.len() < least.len()) {
                best = Some((image, differences));
            }
        }
        Ok(best)
    }

    async fn differences(&self, ec2: &Ec2, image: &Image) -> Result<Vec<Difference>> {
        let mut all = of_image(self.config, self.build, image)?;
        let present = sharing::permissions(ec2, &image.image_id, &CALL).await?;
        all.extend(of_shares(self.config, image, &present));
        all.extend(self.of_snapshots(ec2, image).await?);
        Ok(all)
    }

    /// The marks of snapshots are set when their image is complete. A copy without a key is encrypted as its source is.
    async fn of_snapshots(&self, ec2: &Ec2, image: &Image) -> Result<Vec<Difference>> {
        let (config, region) = (self.config, &ec2.region);
        let is_home = *region == self.cloud.region;
        let key = if is_home { config.kms_key.as_ref() } else { config.copy_keys.get(region) };
        let is_wanted = config.encrypted
            || key.is_some()
            || encrypts_by_default(self.cloud, &self.cloud.region).await
            || (!is_home && encrypts_by_default(self.cloud, region).await);
        let snapshots = ec2.snapshots_of(&image.snapshots(), &CALL).await?;
        let arn = match key {
            Some(key) => {
                key_metadata(self.cloud, region, key).await?["Arn"].as_str().map(str::to_owned)
            }
            None => None,
        };
        let mut all = Vec::new();
        let is_finished = |snapshot: &Snapshot| snapshot.tag(IMAGE_OF) == Some(&image.image_id);
        if !snapshots.iter().all(is_finished) {
            all.push(differs("its build was interrupted before it was finished".to_owned(), None));
        }
        let fits = |snapshot: &Snapshot| {
            snapshot.encrypted.unwrap_or(false) == is_wanted
                && (key.is_none() || (arn.is_some() && snapshot.kms_key_id == arn))
        };
        if !snapshots.is_empty() && snapshots.iter().all(fits) {
            return Ok(all);
        }
        let text = match (key, is_wanted) {
            (Some(key), _) => format!("it is not encrypted with key {key}"),
            (None, true) => "it is not encrypted".to_owned(),
            (None, false) => "it is encrypted".to_owned(),
        };
        all.push(differs(text, None));
        Ok(all)
    }
}

/// What the list of images shows.
fn of_image(config: &Config, build: &Build, image: &Image) -> Result<Vec<Difference>> {
    let (id, mut all) = (&image.image_id, Vec::new());
    let gib = build.virtual_size.div_ceil(GIB).max(1);
    let wanted: BTreeMap<_, _> = config.attributes.parameters(build, "", gib).into_iter().collect();
    let found: BTreeMap<_, _> = image.parameters().into_iter().collect();
    let iops = wanted.get(IOPS).map(|_| (IOPS, "IOPS"));
    for (name, label) in COMPARED.into_iter().chain(iops) {
        if wanted.get(name) != found.get(name) {
            let shown = |of: Option<&String>| of.cloned().unwrap_or_default();
            let (found, wanted) = (shown(found.get(name)), shown(wanted.get(name)));
            all.push(differs(format!("its {label} is `{found}`, not `{wanted}`"), None));
        }
    }
    if build.image_name_chosen && image.name != build.image_name {
        let text = format!("its name is `{}`, not `{}`", image.name, build.image_name);
        all.push(differs(text, None));
    }
    for (key, value) in &build.tags {
        if image.tag(key) != Some(value.as_str()) {
            let found = image.tag(key).unwrap_or_default();
            let repair = format!("build-image images tag {id} --tag '{key}={value}'");
            all.push(differs(format!("tag `{key}` is `{found}`, not `{value}`"), Some(repair)));
        }
    }
    if let Some(age) = config.deprecate_after {
        let date = deprecation(image.creation_date.as_deref(), age)?;
        if !is_deprecated_at(image, &date) {
            let repair = format!("build-image images deprecate {id} --at {date}");
            all.push(differs(format!("it is not deprecated from {date} on"), Some(repair)));
        }
    }
    if config.way == Way::S3 && config.keep_object {
        all.push(differs("whether its object is in the bucket is not known".to_owned(), None));
    }
    Ok(all)
}

/// Shares beyond those that are requested are no difference, except that everyone may use the image.
fn of_shares(config: &Config, image: &Image, present: &[Permission]) -> Vec<Difference> {
    let (id, mut all) = (&image.image_id, Vec::new());
    let wanted = config.audience.permissions();
    let missing: Vec<Permission> =
        wanted.into_iter().filter(|permission| !present.contains(permission)).collect();
    let members = sharing::members(&missing);
    if !members.is_empty() {
        let list = members.join(",");
        let repair = format!("build-image images share {id} --account {list}");
        all.push(differs(format!("it is not shared with {list}"), Some(repair)));
    }
    let is_public = sharing::is_public(present);
    if is_public != config.audience.public {
        let (is, audience) = if is_public { ("is", "private") } else { ("is not", "public") };
        let repair = format!("build-image images publish {id} --audience {audience}");
        all.push(differs(format!("it {is} public"), Some(repair)));
    }
    all
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{Architecture, BootMode, Settings};
    use serde_json::{Value, json};

    use super::*;

    /// Settings.
    type Given = &'static [(&'static str, &'static str)];
    /// What differs.
    type Texts = &'static [&'static str];

    fn image(changes: &[(&str, Value)]) -> Image {
        let mut image = json!({"imageId": "ami-1", "imageState": "available", "name": "web",
            "architecture": "x86_64", "bootMode": "legacy-bios", "virtualizationType": "hvm",
            "enaSupport": true, "sriovNetSupport": "simple", "rootDeviceName": "/dev/xvda",
            "creationDate": "2026-01-31T23:59:59.000Z",
            "blockDeviceMapping": {"item": [{"deviceName": "/dev/xvda", "ebs": {
                "snapshotId": "snap-1", "volumeSize": 3, "volumeType": "gp2", "iops": 100,
                "deleteOnTermination": true, "encrypted": false}}]},
            "tagSet": {"item": [{"key": "owner", "value": "us"}]}});
        for (pointer, value) in changes {
            match image.pointer_mut(pointer) {
                Some(member) => *member = value.clone(),
                None => image[pointer.trim_start_matches('/')] = value.clone(),
            }
        }
        serde_json::from_value(image).unwrap()
    }

    fn build() -> Build {
        Build::default()
            .image_name("web")
            .image_name_chosen(true)
            .architecture(Architecture::X86_64)
            .boot_mode(BootMode::Bios)
            .virtual_size(2 * GIB + 1)
            .tags([("owner", "us".to_owned())])
    }

    fn config(values: &[(&str, &str)]) -> Config {
        let values = values.iter().map(|(key, value)| {
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            ((*key).to_owned(), value)
        });
        Config::read(&Settings::from_values(values.collect())).unwrap()
    }

    #[test]
    fn every_property_that_was_requested_is_compared() {
        const EBS: &str = "/blockDeviceMapping/item/0/ebs";
        let volume = |name: &str, value: Value| {
            let mut ebs = json!({"snapshotId": "snap-1", "volumeSize": 3, "volumeType": "gp2",
                "iops": 100, "deleteOnTermination": true});
            ebs[name] = value;
            ebs
        };
        let volumes: [(Given, Value, Texts); 5] = [
            (&[], volume("volumeSize", json!(4)), &["volume size"]),
            (&[("AWS_VOLUME_SIZE", "4294967296")], volume("volumeSize", json!(4)), &[]),
            (&[], volume("volumeType", json!("gp3")), &["volume type"]),
            (&[], volume("deleteOnTermination", json!(false)), &["deletion"]),
            (
                &[("AWS_VOLUME_TYPE", "gp3"), ("AWS_VOLUME_IOPS", "4000")],
                volume("volumeType", json!("gp3")),
                &["IOPS"],
            ),
        ];
        for (values, ebs, expected) in volumes {
            let image = image(&[(EBS, ebs)]);
            judge(values, &image, expected);
        }
        let cases: [(Given, Texts); 11] = [
            (&[], &[]),
            (&[("AWS_BOOT_MODE", "uefi")], &["boot mode"]),
            (&[("AWS_ARCHITECTURE", "arm64"), ("AWS_BOOT_MODE", "legacy-bios")], &["architecture"]),
            (&[("AWS_ENA_SUPPORT", "false")], &["ENA"]),
            (&[("AWS_SRIOV_NET_SUPPORT", "none")], &["SR-IOV"]),
            (&[("AWS_IMDS_SUPPORT", "v2.0")], &["metadata service"]),
            (&[("AWS_TPM_SUPPORT", "v2.0")], &["TPM"]),
            (&[("AWS_ROOT_DEVICE_NAME", "/dev/sda1")], &["root device"]),
            (&[("AWS_DEPRECATE_AFTER", "86400")], &["deprecated from 2026-02-01T23:59"]),
            (&[("AWS_UPLOAD", "s3"), ("AWS_KEEP_S3_OBJECT", "true")], &["object"]),
            (&[("AWS_UPLOAD", "ebs"), ("AWS_KEEP_S3_OBJECT", "true")], &[]),
        ];
        for (values, expected) in cases {
            judge(values, &image(&[]), expected);
        }
        judge(&[], &image(&[("/name", json!("db"))]), &["name"]);
        judge(&[], &image(&[("/imdsSupport", json!("v2.0"))]), &["metadata service"]);
        judge(&[], &image(&[("/tagSet", json!({"item": []}))]), &["owner"]);
        let date = json!("2026-02-01T23:59:00.000Z");
        judge(&[("AWS_DEPRECATE_AFTER", "86400")], &image(&[("/deprecationTime", date)]), &[]);
    }

    #[track_caller]
    fn judge(values: &[(&str, &str)], image: &Image, expected: &[&str]) {
        let found = of_image(&config(values), &build(), image).unwrap();
        let texts: Vec<&str> = found.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(found.len(), expected.len(), "{values:?} {texts:?}");
        for (one, part) in found.iter().zip(expected) {
            assert!(one.text.contains(part), "{}", one.text);
            let has_command = ["owner", "deprecated"].iter().any(|start| part.starts_with(start));
            assert_eq!(one.repair.is_some(), has_command, "{}", one.text);
        }
    }

    #[test]
    fn shares_that_are_missing_and_a_wrong_audience_are_differences() {
        let account = |id: &str| Permission::parse(id).unwrap();
        let shared = [("AWS_IMAGE_SHARE_ACCOUNT_IDS", "[\"123456789012\"]")];
        let public = [("AWS_IMAGE_VISIBILITY", "public")];
        for (values, present, expected) in [
            (&[][..], vec![], &[][..]),
            (&[], vec![account("123456789012")], &[]),
            (&shared, vec![account("123456789012"), account("123456789013")], &[]),
            (&shared, vec![account("123456789013")], &["not shared with 123456789012"]),
            (&public, vec![Permission::everyone()], &[]),
            (&public, vec![], &["is not public"]),
            (&[], vec![Permission::everyone()], &["is public"]),
        ] {
            let found = of_shares(&config(values), &image(&[]), &present);
            assert_eq!(found.len(), expected.len(), "{values:?}");
            for (one, part) in found.iter().zip(expected) {
                assert!(one.text.contains(part) && one.repair.is_some(), "{}", one.text);
            }
        }
    }
}

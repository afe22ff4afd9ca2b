//! Checks that the image can be copied to the requested regions, and encrypted with the requested keys.
//!
//! The service tries a copy out only with an image that exists: another one of the account stands for the image that is built.

use std::sync::Arc;

use build_image_plugin_api::{
    Error, ErrorKind,
    document::{Build, Finding, Severity},
    retry::Policy,
};
use futures_util::future::join_all;
use serde_json::Value;

use crate::{
    check::DRY_RUN_PASSED,
    cloud::Cloud,
    config::{Config, Place},
    ecs::{Ecs, pairs},
    image::Image,
    import::beside,
    tagging::MARK,
};

const SUBJECT: &str = "copy regions";
/// Codes about the image that is copied, not about the copy.
const OF_SOURCE: [&str; 7] = [
    "OperationDeined.EncryptedSnapshot",
    "OperationDenied.EncryptSnapshotAcrossRegion",
    "OperationDenied.CommunityImage",
    "OperationDenied.ImageCopying",
    "OperationDenied.ImageCopyConflict",
    "IncorrectImageStatus",
    "InvalidImageId.NotFound",
];

/// Checks every region the image is copied to: that the region exists and that the name is free there.
/// `known` are the copies that this run has already made.
pub(crate) async fn look(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    known: &[String],
) -> Vec<Finding> {
    let mut findings = tried(cloud, config, place, build).await;
    let wanted: Vec<&String> =
        config.copy_regions.iter().filter(|region| **region != place.region).collect();
    if wanted.is_empty() {
        return findings;
    }
    let regions = match cloud.ecs.regions(&Policy::BRIEF).await {
        Ok(regions) => regions,
        Err(failure) => return vec![Finding::error(SUBJECT, &failure.error)],
    };
    let (there, unknown): (Vec<&String>, Vec<&String>) =
        wanted.into_iter().partition(|region| regions.contains(*region));
    if !unknown.is_empty() {
        // The dry run also reports them, with less detail.
        findings.clear();
        let names: Vec<String> = unknown.iter().map(|region| format!("`{region}`")).collect();
        let error = Error::config(format!("there is no region {}", names.join(", "))).with_hint(
            "check ALIBABA_IMAGE_COPY_REGIONS; list regions with: aliyun ecs DescribeRegions",
        );
        findings.push(Finding::error(SUBJECT, &error));
    }
    let looks = there.iter().map(|region| name_in(cloud, config, place, build, known, region));
    findings.extend(join_all(looks).await.into_iter().flatten());
    if findings.iter().all(|finding| finding.severity == Severity::Ok) {
        findings.push(Finding::ok(SUBJECT, format!("the image is copied to {}", list(&there))));
    }
    findings
}

/// Findings of dry runs of all copies, one of which is the encrypted image itself.
async fn tried(cloud: &Cloud, config: &Config, place: &Place, build: &Build) -> Vec<Finding> {
    let home = config.key.as_ref().map(|_| &place.region);
    let others = config.copy_regions.iter().filter(|region| **region != place.region);
    let regions: Vec<&String> = home.into_iter().chain(others).collect();
    if regions.is_empty() {
        return Vec::new();
    }
    let marked = cloud.ecs.images_with(&pairs(&[("Tag.1.Key", MARK)]), &Policy::BRIEF).await;
    let mut images = match marked {
        Ok(images) => images,
        // The check of the name reports what keeps the account from being listed.
        Err(failure) => {
            tracing::warn!(error = %failure.error, "no copy was tried out");
            return Vec::new();
        }
    };
    images.retain(|image| image.status == "Available" && !image.is_public);
    let Some(image) = images.into_iter().max_by(|a, b| a.creation_time.cmp(&b.creation_time))
    else {
        tracing::info!("the account has no image that a copy could be tried out with");
        return Vec::new();
    };
    let tries = regions.iter().map(|region| try_out(cloud, config, place, build, &image, region));
    let refused: Vec<Finding> = join_all(tries).await.into_iter().flatten().collect();
    if refused.is_empty() {
        let text = format!("ECS would make a copy in {}", list(&regions));
        return vec![Finding::ok(SUBJECT, text)];
    }
    refused
}

/// Tries one copy out; returns a refusal that the image to be built would meet as well.
async fn try_out(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    image: &Image,
    region: &str,
) -> Option<Finding> {
    let name = beside(&build.image_name, "try", &build.run_id);
    let mut parameters = pairs(&[
        ("RegionId", &place.region),
        ("ImageId", &image.image_id),
        ("DestinationRegionId", region),
        ("DestinationImageName", &name),
        ("DryRun", "true"),
    ]);
    if let Some(key) = config.key_of(region, &place.region) {
        parameters.extend(pairs(&[("Encrypted", "true"), ("KMSKeyId", key)]));
    }
    let group = config.import.extra.iter().find(|(name, _)| *name == "ResourceGroupId");
    parameters.extend(group.map(|(name, value)| ((*name).to_owned(), value.clone())));
    let what = format!("a copy in `{region}`");
    let service = &cloud.ecs.service;
    let answered = service.call::<Value>("CopyImage", &parameters, &what, &Policy::BRIEF).await;
    let failure = answered.err().filter(|failure| !failure.has_code(&DRY_RUN_PASSED))?;
    if failure.has_code(&OF_SOURCE) || !is_final(failure.error.kind) {
        tracing::info!(error = %failure.error, "whether a copy would be made is not known");
        return None;
    }
    Some(Finding::error(SUBJECT, &failure.error))
}

/// Whether a refusal of this kind also meets other images.
fn is_final(kind: ErrorKind) -> bool {
    use ErrorKind::{Auth, Config, NotFound, Quota, Unsupported};
    [Auth, Config, NotFound, Quota, Unsupported].contains(&kind)
}

fn list(regions: &[&String]) -> String {
    regions.iter().map(|region| region.as_str()).collect::<Vec<_>>().join(", ")
}

async fn name_in(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    known: &[String],
    region: &str,
) -> Option<Finding> {
    let credentials = Arc::clone(&cloud.ecs.service.http.credentials);
    let endpoint = config.ecs_of(region);
    let ecs = endpoint.and_then(|ecs| {
        let there = Place { region: region.to_owned(), ecs, ..place.clone() };
        Ecs::open(&there, credentials)
    });
    let ecs = match ecs {
        Ok(ecs) => ecs,
        Err(error) => return Some(Finding::error(SUBJECT, &error)),
    };
    let name = &build.image_name;
    let found = match ecs.images_named(name, &Policy::BRIEF).await {
        Ok(found) => found,
        Err(failure) => return Some(Finding::error(SUBJECT, &failure.error)),
    };
    let other = found
        .into_iter()
        .find(|image| !known.contains(&image.image_id) && !image.is_tagged(MARK, &build.run_id))?;
    let id = &other.image_id;
    if config.replace {
        let text = format!("image `{name}` ({id}) in {region} will be replaced and deleted");
        return Some(Finding::warning(SUBJECT, text, "unset ALIBABA_IF_EXISTS to keep it"));
    }
    let message = format!("image `{name}` exists already in {region}: {id}");
    let hint = format!(
        "choose another CLOUD_IMAGE_NAME, set ALIBABA_IF_EXISTS=replace, or delete it: aliyun ecs DeleteImage --RegionId {region} --ImageId {id}"
    );
    Some(Finding::error(SUBJECT, &Error::new(ErrorKind::Conflict, message).with_hint(hint)))
}

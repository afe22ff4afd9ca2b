//! Checks that the image can be copied to the requested regions.

use std::sync::Arc;

use build_image_plugin_api::{
    Error, ErrorKind,
    document::{Build, Finding},
    retry::Policy,
};
use futures_util::future::join_all;

use crate::{
    cloud::Cloud,
    config::{Config, Place},
    ecs::Ecs,
    tagging::MARK,
};

const SUBJECT: &str = "copy regions";

/// Checks every region the image is copied to: that the region exists and that the name is free there.
/// `known` are the copies that this run has already made.
pub(crate) async fn look(
    cloud: &Cloud,
    config: &Config,
    place: &Place,
    build: &Build,
    known: &[String],
) -> Vec<Finding> {
    let wanted: Vec<&String> =
        config.copy_regions.iter().filter(|region| **region != place.region).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let regions = match cloud.ecs.regions(&Policy::BRIEF).await {
        Ok(regions) => regions,
        Err(failure) => return vec![Finding::error(SUBJECT, &failure.error)],
    };
    let (there, unknown): (Vec<&String>, Vec<&String>) =
        wanted.into_iter().partition(|region| regions.contains(*region));
    let mut findings = Vec::new();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|region| format!("`{region}`")).collect();
        let error = Error::config(format!("there is no region {}", names.join(", "))).with_hint(
            "check ALIBABA_IMAGE_COPY_REGIONS; list regions with: aliyun ecs DescribeRegions",
        );
        findings.push(Finding::error(SUBJECT, &error));
    }
    let looks = there.iter().map(|region| name_in(cloud, config, place, build, known, region));
    findings.extend(join_all(looks).await.into_iter().flatten());
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, format!("the image is copied to {}", list(&there))));
    }
    findings
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

//! Lists what a build will create, before anything is done and without any request.

use build_image_plugin_api::{Resource, document::Build};

use crate::{
    config::{Config, Way},
    names::object_key,
    state::{IMAGE, IMPORT, MANIFEST, MULTIPART, OBJECT, SNAPSHOT},
};

/// Returns the resources that a build will create; empty while no region is set.
pub(crate) fn resources(config: &Config, build: &Build) -> Vec<Resource> {
    let Some(region) = &config.region else { return Vec::new() };
    let name = &build.image_name;
    let mut all = Vec::new();
    if let (Way::S3, Some(bucket)) = (config.way, &config.bucket) {
        let key = object_key(config, &build.run_id);
        let of = |kind: &str| Resource::new(kind, format!("{bucket}/{key}")).in_region(region);
        all.push(of(MULTIPART));
        let object = of(OBJECT);
        all.push(if config.keep_object { object.as_deliverable() } else { object });
        all.push(Resource::new(IMPORT, format!("of {name}")).in_region(region));
    }
    let others = config.copy_regions.iter().filter(|other| *other != region);
    for region in std::iter::once(region).chain(others) {
        let snapshot = Resource::new(SNAPSHOT, format!("of {name}"));
        all.push(snapshot.in_region(region).as_deliverable());
        all.push(Resource::new(IMAGE, name).in_region(region).as_deliverable());
    }
    if config.delta.is_on && config.way == Way::Ebs {
        let manifest = Resource::new(MANIFEST, format!("of {name}"));
        all.insert(1, manifest.in_region(region).as_deliverable());
    }
    all
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_resource_of_a_build_is_named() {
        let build = Build::default().run_id("r-1").image_name("web");
        let config = |more: &[(&str, Value)]| {
            let region = [("AWS_REGION", json!("eu-west-1"))];
            let all = region.iter().chain(more);
            let all = all.map(|(key, value)| ((*key).to_owned(), value.clone()));
            Config::read(&Settings::from_values(all.collect())).unwrap()
        };
        let labels = |config: &Config| -> Vec<String> {
            resources(config, &build).iter().map(Resource::label).collect()
        };
        let copies = ("AWS_IMAGE_COPY_REGIONS", json!(["eu-west-1", "us-east-1"]));
        let twice = ["snapshot `of web`", "image `web`"].repeat(2);
        assert_eq!(labels(&config(std::slice::from_ref(&copies))), twice);
        let delta = [("AWS_UPLOAD_DELTA", json!(true))];
        assert_eq!(labels(&config(&delta))[1], "manifest_snapshot `of web`");
        let by_bucket = [("AWS_UPLOAD", json!("s3")), ("AWS_BUCKET", json!("demo"))];
        let found = labels(&config(&by_bucket));
        assert_eq!(found.len(), 5);
        assert_eq!(found[1], "s3_object `demo/build-image-r-1.vmdk`");
        assert!(labels(&Config::read(&Settings::default()).unwrap()).is_empty());
    }
}

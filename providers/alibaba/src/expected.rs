//! Lists what a build will create and the permissions it needs, before anything is done and without any
//! request.

use build_image_plugin_api::{
    Resource,
    document::{Build, Purpose},
};

use crate::{
    config::{Config, Place},
    delta,
    import::{import_name, working_name},
    names,
    parts::Plan,
    state::{IMAGE, MULTIPART, OBJECT, in_bucket},
};

/// When a permission is needed.
type When = fn(&Config) -> bool;

/// Every permission of the least-privilege policy, and when it is needed. Permissions for removing the
/// intermediates of a build, or everything of a failed one, are always needed. Source: RAM documentation,
/// "RAM authorization" of OSS and ECS.
const RIGHTS: [(&str, When); 25] = [
    ("oss:GetBucketInfo", always),
    ("oss:ListMultipartUploads", always),
    ("oss:ListObjects", delta::Options::is_used),
    ("oss:PutObject", always),
    ("oss:GetObject", always),
    ("oss:DeleteObject", always),
    ("oss:AbortMultipartUpload", always),
    ("oss:ListParts", always),
    ("ecs:ImportImage", always),
    ("ecs:DescribeTaskAttribute", always),
    ("ecs:CancelTask", always),
    ("ecs:DescribeImages", always),
    ("ecs:DescribeRegions", always),
    ("ecs:ModifyImageAttribute", always),
    ("ecs:CopyImage", copies),
    ("ecs:CancelCopyImage", copies),
    ("ecs:DeleteImage", always),
    ("ecs:DescribeSnapshots", always),
    ("ecs:DeleteSnapshot", always),
    ("ecs:TagResources", always),
    ("ecs:ModifyImageSharePermission", shares),
    ("ecs:DescribeImageSharePermission", shares),
    ("ram:CreateRole", |config| config.create_role),
    ("ram:AttachPolicyToRole", |config| config.create_role),
    ("ram:PassRole", |config| config.import.extra.iter().any(|(name, _)| *name == "RoleName")),
];

fn always(_: &Config) -> bool {
    true
}

fn copies(config: &Config) -> bool {
    !config.copy_regions.is_empty() || config.key.is_some()
}

/// An image that is replaced may have been shared before.
fn shares(config: &Config) -> bool {
    !config.share.is_empty() || !config.unshare.is_empty() || config.replace
}

/// Permissions on objects that a run needs which only registers one.
const READING: [&str; 2] = ["oss:GetBucketInfo", "oss:GetObject"];

/// The permissions that a run with these settings needs.
pub(crate) fn rights(config: &Config, purpose: Purpose) -> Vec<String> {
    let is_needed = |action: &str| match purpose {
        Purpose::Upload => action.starts_with("oss:"),
        Purpose::Register => !action.starts_with("oss:") || READING.contains(&action),
        _ => true,
    };
    let needed = RIGHTS.iter().filter(|(action, when)| when(config) && is_needed(action));
    needed.map(|(action, _)| (*action).to_owned()).collect()
}

/// The resources that a run will create; empty without a bucket and a region.
pub(crate) fn resources(config: &Config, build: &Build, purpose: Purpose) -> Vec<Resource> {
    let Ok(Place { bucket, region, .. }) = config.place() else { return Vec::new() };
    let (bucket, region) = (&bucket, &region);
    let key = names::object_key(&config.prefix, &build.run_id, "", config.disk.format);
    let object = in_bucket(OBJECT, bucket, &key, region);
    let stays = config.keep_object || purpose == Purpose::Upload;
    let object = if stays { object.as_deliverable() } else { object };
    let mut upload = in_bucket(MULTIPART, bucket, &key, region);
    if let Ok(plan) = Plan::new(most(build.virtual_size), config.upload.part_size) {
        upload = upload
            .with("part_size", plan.part_size.to_string())
            .with("parts", format!("at most {}", plan.count()));
    }
    let mut all = Vec::new();
    if purpose != Purpose::Register {
        all.extend([upload, object]);
        if stays && delta::Options::is_used(config) {
            let manifest = delta::manifest_key(config, build, &key);
            all.push(in_bucket(OBJECT, bucket, &manifest, region).as_deliverable());
        }
    }
    if purpose == Purpose::Upload {
        return all;
    }
    if config.key.is_some() {
        let name = import_name(config, build);
        all.push(Resource::new(IMAGE, &name).in_region(region));
        all.push(Resource::new("snapshot", format!("of {name}")).in_region(region));
    }
    let name = working_name(config, build);
    let others = config.copy_regions.iter().filter(|other| *other != region);
    for region in [region].into_iter().chain(others) {
        all.push(Resource::new(IMAGE, &name).in_region(region).as_deliverable());
        let snapshot = Resource::new("snapshot", format!("of {name}"));
        all.push(snapshot.in_region(region).as_deliverable());
    }
    all
}

/// Maximum size in bytes of an image of such a disk: the tables of an uncompressed image are far smaller.
fn most(virtual_size: u64) -> u64 {
    virtual_size.saturating_add(virtual_size / 4096).saturating_add(1 << 20)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::{Value, json};

    use super::*;

    fn config(more: &[(&str, Value)]) -> Config {
        let place = [("ALIBABA_BUCKET", json!("demo")), ("ALIBABA_REGION", json!("cn-hangzhou"))];
        let all = place.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone()));
        Config::read(&Settings::from_values(all.collect())).unwrap()
    }

    #[test]
    fn the_rights_are_those_of_the_policy_as_far_as_settings_need_them() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```json").unwrap();
        let (policy, words) = rest.split_once("```").unwrap();
        for (action, _) in RIGHTS {
            let place = if action.starts_with("ram:") { words } else { policy };
            assert!(place.contains(action), "{action}");
        }
        let listed = policy.matches("\"oss:").count() + policy.matches("\"ecs:").count();
        assert_eq!(listed, RIGHTS.iter().filter(|(action, _)| !action.starts_with("ram:")).count());
        let count = |more: &[(&str, Value)]| rights(&config(more), Purpose::Build).len();
        let least = count(&[]);
        for (key, value, more) in [
            ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-beijing"]), 2),
            ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!(["1234567890123456"]), 2),
            ("ALIBABA_IF_EXISTS", json!("replace"), 2),
            ("ALIBABA_CREATE_ROLE", json!(true), 2),
            ("ALIBABA_ROLE_NAME", json!("other"), 1),
        ] {
            assert_eq!(count(&[(key, value)]), least + more, "{key}");
        }
        let of = |purpose| rights(&config(&[]), purpose);
        let (upload, register) = (of(Purpose::Upload), of(Purpose::Register));
        assert!(upload.iter().all(|right| right.starts_with("oss:")), "{upload:?}");
        let on_objects: Vec<&String> =
            register.iter().filter(|right| right.starts_with("oss:")).collect();
        assert_eq!(on_objects, READING.iter().collect::<Vec<_>>());
        assert_eq!(upload.len() + register.len(), least + READING.len());
    }

    #[test]
    fn a_kept_raw_disk_has_a_manifest_and_needs_the_right_to_look_for_earlier_ones() {
        let build = Build::default().run_id("r-1").image_name("web").virtual_size(64 << 20);
        let raw = ("ALIBABA_DISK_FORMAT", json!("raw"));
        let kept = ("ALIBABA_KEEP_OSS_OBJECT", json!(true));
        let base = ("ALIBABA_UPLOAD_DELTA_BASE", json!("old.raw"));
        let off = ("ALIBABA_UPLOAD_DELTA", json!("off"));
        for (settings, lists, writes) in [
            (vec![raw.clone()], false, false),
            (vec![kept.clone()], false, false),
            (vec![base.clone()], false, false),
            (vec![raw.clone(), kept.clone()], true, true),
            (vec![raw.clone(), base], true, false),
            (vec![raw, kept, off], false, false),
        ] {
            let config = config(&settings);
            let all = resources(&config, &build, Purpose::Build);
            let manifest = all.iter().find(|resource| resource.name.contains(".raw.parts-"));
            assert_eq!(manifest.is_some_and(|manifest| manifest.deliverable), writes);
            let listed =
                rights(&config, Purpose::Build).iter().any(|right| right == "oss:ListObjects");
            assert_eq!(listed, lists, "{settings:?}");
        }
    }

    #[test]
    fn every_resource_of_a_build_is_named() {
        let build = Build::default().run_id("r-1").image_name("web").virtual_size(64 << 20);
        let copies = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-beijing", "cn-hangzhou"]));
        let of = |purpose| resources(&config(std::slice::from_ref(&copies)), &build, purpose);
        let all = of(Purpose::Build);
        let labels: Vec<String> = all.iter().map(Resource::label).collect();
        assert_eq!(labels[0], "multipart_upload `demo/build-image-r-1.qcow2`");
        assert_eq!(all[0].attributes["parts"], "at most 5");
        assert_eq!(
            labels[2..],
            ["image `web`", "snapshot `of web`", "image `web`", "snapshot `of web`"]
        );
        let kept: Vec<bool> = all.iter().map(|resource| resource.deliverable).collect();
        assert_eq!(kept, [false, false, true, true, true, true]);
        assert_eq!(of(Purpose::Register), all[2..]);
        let upload = of(Purpose::Upload);
        assert_eq!(upload.len(), 2);
        assert!(upload[1].deliverable && upload[1].is(&all[1]));
        let keeps = config(&[("ALIBABA_KEEP_OSS_OBJECT", json!(true))]);
        assert!(resources(&keeps, &build, Purpose::Build)[1].deliverable);
        let nowhere = Config::read(&Settings::default()).unwrap();
        assert!(resources(&nowhere, &build, Purpose::Build).is_empty());
    }
}

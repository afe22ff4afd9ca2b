//! Tests the package for IMAGE_DIR, the README, and settings that are refused, with a host in memory.
#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use build_image_plugin_api::{
    DiskFormat, ErrorKind, Provider,
    document::{Build, DiscardReason, DiscardRequest, DiskRequest, Finding},
    testing::{
        MockHost, readme_differences,
        scripted::{build_into, findings, instance},
    },
};
use build_image_provider_aws::Aws;

/// Returns the errors among the findings of a check without an upload.
fn errors(made: &Aws, build: Build) -> Vec<Finding> {
    findings(made, build, false).expect("a report")
}

#[test]
fn the_readme_describes_every_setting() {
    let differences = readme_differences(include_str!("../README.md"), &Aws::describe());
    assert_eq!(differences, [""; 0]);
}

#[test]
fn a_package_has_a_script_and_an_upload_has_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = Arc::new(MockHost::new().with_disk(vec![1; 10]));
    let settings = [("AWS_BUCKET", "images".into()), ("AWS_REGION", "eu-central-1".into())];
    let made = instance::<Aws>(&host, &settings).expect("a provider");
    assert!(errors(&made, build_into(directory.path())).is_empty());
    let script = directory.path().join("disk.cloud.upload.sh");
    let needs = Aws::describe().disk;
    for (for_image_dir, spec) in [(false, needs.spec), (true, needs.package.expect("a package"))] {
        let request = DiskRequest::new(build_into(directory.path()), spec);
        let disk = made.create_disk(&host.context(), &request.for_image_dir(for_image_dir));
        let format = disk.expect("a disk").spec.format;
        assert_eq!(format, if for_image_dir { DiskFormat::Vmdk } else { DiskFormat::Raw });
        assert_eq!(script.exists(), for_image_dir);
    }
    let text = fs::read_to_string(&script).expect("a script");
    for command in [
        "aws s3 cp",
        "aws ec2 import-snapshot",
        "aws ec2 register-image",
        "file=",
        "member=disk.vmdk",
        "images",
        "eu-central-1",
        "my-image",
    ] {
        assert!(text.contains(command), "{command}");
    }
    let mode = fs::metadata(&script).expect("a script").permissions().mode();
    assert!(mode & 0o100 != 0);
    let request = DiscardRequest::new(DiscardReason::Failed, host.resources());
    let answer = made.discard(&host.context(), &request).expect("an answer");
    assert!(answer.remaining.is_empty() && !script.exists());
}

#[test]
fn a_directory_that_cannot_be_written_to_is_reported_for_a_package() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = Build::default().image_dir("/nonexistent/images").image_name("web");
    let made = instance::<Aws>(&Arc::new(MockHost::new()), &[]).expect("a provider");
    assert!(errors(&made, absent).iter().any(|found| found.subject == "IMAGE_DIR"));
    assert!(errors(&made, build_into(directory.path())).is_empty());
}

#[test]
fn invalid_settings_are_refused() {
    let host = Arc::new(MockHost::new());
    for (key, value) in [
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", serde_json::json!([123])),
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", serde_json::json!(["12345678901x"])),
        ("ADD_OVA_EULA", "http://example.com/x".into()),
        ("AWS_IMAGE_NAME_LENGTH_MAX", 0.into()),
    ] {
        let error = instance::<Aws>(&host, &[(key, value)]).err().expect("a refusal");
        assert!(error.kind == ErrorKind::Config && error.hint.is_some(), "{error}");
        assert!(error.message.contains(key), "{error}");
    }
    let ids = serde_json::json!([123_456_789_012_u64, "012345678901"]);
    instance::<Aws>(&host, &[("AWS_IMAGE_SHARE_ACCOUNT_IDS", ids)]).expect("good ids");
    let long = instance::<Aws>(&host, &[("AWS_IMAGE_NAME_LENGTH_MIN", 9.into())]).expect("one");
    assert_eq!(errors(&long, build_into(Path::new("/tmp")))[0].subject, "image name");
}

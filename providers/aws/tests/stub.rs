//! The provider against a host in memory.
#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use build_image_plugin_api::{
    ErrorKind, Provider as _, Result, Settings, Status,
    document::{
        Build, CheckRequest, DiscardRequest, DiskRequest, Finding, RegisterRequest, Severity,
        UploadRequest,
    },
    testing::{MockHost, readme_differences},
};
use build_image_provider_aws::Aws;
use serde_json::Value;

fn provider(host: &Arc<MockHost>, pairs: &[(&str, Value)]) -> Result<Aws> {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    Aws::create(&host.context(), Settings::from_values(values.collect()))
}

fn build(folder: &Path) -> Build {
    Build {
        image_name: "my-image".into(),
        file_stem: "disk.aws".into(),
        disk_name: "disk".into(),
        image_dir: Some(folder.display().to_string()),
        tags: [("owner".to_owned(), "it's us".to_owned())].into(),
        ..Build::default()
    }
}

/// Errors among what a check finds.
fn errors(made: &Aws, build: Build, online: bool) -> Vec<Finding> {
    let request = CheckRequest { build, online, ..CheckRequest::default() };
    let report = made.check(&Arc::new(MockHost::new()).context(), &request).expect("a report");
    report.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[test]
fn the_readme_tells_of_every_setting_and_nothing_is_required() {
    let none: [&str; 0] = [];
    let said = Aws::describe();
    assert_eq!(readme_differences(include_str!("../README.md"), &said), none);
    assert!(said.settings.iter().all(|row| !row.required));
    assert_eq!((said.status, said.uploads), (Status::Stub, true));
}

#[test]
fn a_build_that_would_upload_is_refused_before_the_long_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = provider(&Arc::new(MockHost::new()), &[]).expect("a provider");
    let found = errors(&made, build(folder.path()), true);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind.as_deref(), Some("unsupported"));
    let hint = found[0].hint.clone().expect("a hint");
    assert!(hint.contains("--no-upload") && hint.contains("disk.aws.upload.sh"), "{hint}");
    assert!(errors(&made, build(folder.path()), false).is_empty());
    let absent = Build { image_dir: Some("/nonexistent/images".into()), ..build(folder.path()) };
    assert_eq!(errors(&made, absent, false)[0].subject, "IMAGE_DIR");
}

#[test]
fn the_script_lies_beside_the_package_and_goes_with_a_failed_build() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = Arc::new(MockHost::new().with_disk(vec![1; 10]));
    let made = provider(&host, &[]).expect("a provider");
    let said = Aws::describe().disk;
    let script = folder.path().join("disk.aws.upload.sh");
    for (published, spec) in [(false, said.spec), (true, said.package.expect("a package"))] {
        let build = build(folder.path());
        let asked = DiskRequest { build, spec, published, ..DiskRequest::default() };
        made.create_disk(&host.context(), &asked).expect("a disk");
        assert_eq!(script.exists(), published);
    }
    let text = fs::read_to_string(&script).expect("the script");
    assert!(text.contains("image_name=my-image\n"), "{text}");
    let mode = fs::metadata(&script).expect("the script").permissions().mode();
    assert_eq!(mode & 0o100, 0o100, "{mode:o}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    let resources = host.resources();
    assert!(resources.iter().all(|resource| resource.product) && resources.len() == 1);
    let request = DiscardRequest { resources, ..DiscardRequest::default() };
    let answer = made.discard(&host.context(), &request).expect("an answer");
    assert_eq!((answer.removed.len(), answer.remaining.len()), (1, 0));
    assert!(!script.exists());
}

#[test]
fn steps_that_are_done_by_hand_say_how() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = Arc::new(MockHost::new());
    let made =
        provider(&host, &[("AWS_BUCKET", "images".into()), ("AWS_REGION", "eu-central-1".into())])
            .expect("a provider");
    let upload = UploadRequest { build: build(folder.path()), ..UploadRequest::default() };
    let register = RegisterRequest { build: build(folder.path()), ..RegisterRequest::default() };
    for error in [
        made.upload(&host.context(), &upload).expect_err("a refusal"),
        made.register(&host.context(), &register).expect_err("a refusal"),
    ] {
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let hint = error.hint.expect("a hint");
        for text in [
            "aws s3 cp",
            "aws ec2 import-snapshot",
            "aws ec2 register-image",
            "file=disk.aws.zip",
            "member=disk.vmdk",
            "images",
            "eu-central-1",
        ] {
            assert!(hint.contains(text), "{text} is not in {hint}");
        }
    }
}

#[test]
fn settings_that_nobody_can_mean_are_refused() {
    let host = Arc::new(MockHost::new());
    for (key, value) in [
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", serde_json::json!([123])),
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", serde_json::json!(["12345678901x"])),
        ("ADD_OVA_EULA", "http://example.com/x".into()),
        ("AWS_IMAGE_NAME_LENGTH_MAX", 0.into()),
    ] {
        let error = provider(&host, &[(key, value)]).err().expect("a refusal");
        assert!(error.kind == ErrorKind::Config && error.hint.is_some(), "{error}");
        assert!(error.message.contains(key), "{error}");
    }
    let ids = serde_json::json!([123_456_789_012_u64, "012345678901"]);
    provider(&host, &[("AWS_IMAGE_SHARE_ACCOUNT_IDS", ids)]).expect("good ids");
    let long = provider(&host, &[("AWS_IMAGE_NAME_LENGTH_MIN", 9.into())]).expect("a provider");
    assert_eq!(errors(&long, build(Path::new("/tmp")), false)[0].subject, "image name");
}

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
use build_image_provider_gce::Gce;
use serde_json::Value;

fn provider(host: &Arc<MockHost>, pairs: &[(&str, Value)]) -> Result<Gce> {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    Gce::create(&host.context(), Settings::from_values(values.collect()))
}

fn build(folder: &Path) -> Build {
    Build {
        image_name: "my-image".into(),
        file_stem: "disk.gce".into(),
        disk_name: "disk".into(),
        image_dir: Some(folder.display().to_string()),
        tags: [("owner".to_owned(), "it's us".to_owned())].into(),
        ..Build::default()
    }
}

/// Errors among what a check finds.
fn errors(made: &Gce, build: Build, online: bool) -> Vec<Finding> {
    let request = CheckRequest { build, online, ..CheckRequest::default() };
    let report = made.check(&Arc::new(MockHost::new()).context(), &request).expect("a report");
    report.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[test]
fn the_readme_tells_of_every_setting_and_nothing_is_required() {
    let none: [&str; 0] = [];
    let said = Gce::describe();
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
    assert!(hint.contains("--no-upload") && hint.contains("disk.gce.upload.sh"), "{hint}");
    assert!(errors(&made, build(folder.path()), false).is_empty());
    let absent = Build { image_dir: Some("/nonexistent/images".into()), ..build(folder.path()) };
    assert_eq!(errors(&made, absent, false)[0].subject, "IMAGE_DIR");
}

#[test]
fn the_script_lies_beside_the_package_and_goes_with_a_failed_build() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = Arc::new(MockHost::new().with_disk(vec![1; 10]));
    let made = provider(&host, &[]).expect("a provider");
    let said = Gce::describe().disk;
    let script = folder.path().join("disk.gce.upload.sh");
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
    let made = provider(&host, &[("GCE_BUCKET", "images".into())]).expect("a provider");
    let upload = UploadRequest { build: build(folder.path()), ..UploadRequest::default() };
    let register = RegisterRequest { build: build(folder.path()), ..RegisterRequest::default() };
    for error in [
        made.upload(&host.context(), &upload).expect_err("a refusal"),
        made.register(&host.context(), &register).expect_err("a refusal"),
    ] {
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let hint = error.hint.expect("a hint");
        for text in [
            "gcloud storage cp",
            "gcloud compute images create",
            "file=disk.gce.tar.gz",
            "images",
            "owner=it-s-us",
        ] {
            assert!(hint.contains(text), "{text} is not in {hint}");
        }
    }
}

#[test]
fn credentials_name_the_project_and_are_not_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key.json");
    let json = r#"{"project_id": "my-project", "private_key": "hunter2"}"#;
    fs::write(&key, json).expect("a file");
    for (given, trouble) in [
        (json.to_owned(), None),
        (key.display().to_string(), None),
        ("/nonexistent/key.json".to_owned(), Some("cannot be read")),
        ("hunter2".to_owned(), Some("neither JSON")),
        ("{hunter2".to_owned(), Some("is not JSON")),
        ("{}".to_owned(), Some("project_id")),
    ] {
        let host = MockHost::new().with_secret("GOOGLE_APPLICATION_CREDENTIALS", &given);
        let host = Arc::new(host);
        let made = provider(&host, &[]).expect("a provider");
        let found = errors(&made, build(folder.path()), false);
        assert_eq!(found.len(), usize::from(trouble.is_some()), "{given}: {found:?}");
        let told = format!("{found:?}");
        assert!(trouble.is_none_or(|text| told.contains(text)), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        let upload = UploadRequest { build: build(folder.path()), ..UploadRequest::default() };
        let error = made.upload(&host.context(), &upload).expect_err("a refusal");
        let hint = error.hint.expect("a hint");
        assert_eq!(hint.contains("my-project"), trouble.is_none(), "{hint}");
        assert!(!hint.contains("hunter2"), "{hint}");
    }
}

#[test]
fn tags_that_cannot_be_labels_are_found_before_the_long_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = provider(&Arc::new(MockHost::new()), &[]).expect("a provider");
    for (key, count) in [("Owner", 1), ("1st", 1), ("a.b", 1), ("a_b-1", 0)] {
        let tags = [(key.to_owned(), "Any Value".to_owned())].into();
        let found = errors(&made, Build { tags, ..build(folder.path()) }, false);
        assert_eq!(found.len(), count, "{key}: {found:?}");
    }
}

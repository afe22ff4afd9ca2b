//! Tests the provider with a host in memory.
#![forbid(unsafe_code)]

use std::{fs, sync::Arc};

use build_image_plugin_api::{
    Disk, Provider as _,
    document::{Build, Finding, UploadRequest},
    ready::scripted::Scripted,
    testing::{
        MockHost,
        scripted::{ScriptedUploadTest, build_into, findings, instance},
    },
};
use build_image_provider_gce::Gce;

/// Returns the errors among the findings of a check without an upload.
fn errors(made: &Scripted<Gce>, build: Build) -> Vec<Finding> {
    findings(made, build, false).expect("a report")
}

#[test]
fn the_promises_of_a_provider_without_upload_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [("GCE_BUCKET", "images".into())];
    let trial = ScriptedUploadTest::new(directory.path(), include_str!("../README.md"))
        .settings(&settings)
        .commands(&[
            "gcloud storage cp",
            "gcloud compute images create",
            "file=disk.cloud.tar.gz",
            "images",
            "owner=it-s-us",
        ]);
    assert_eq!(trial.differences::<Scripted<Gce>>().expect("answers"), [""; 0]);
}

#[test]
fn credentials_name_the_project_and_are_not_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key.json");
    let json = r#"{"project_id": "my-project", "private_key": "hunter2"}"#;
    fs::write(&key, json).expect("a file");
    for (given, problem) in [
        (json.to_owned(), None),
        (key.display().to_string(), None),
        ("/nonexistent/key.json".to_owned(), Some("cannot be read")),
        ("hunter2".to_owned(), Some("neither JSON")),
        ("{hunter2".to_owned(), Some("is not JSON")),
        ("{}".to_owned(), Some("project_id")),
    ] {
        let host = MockHost::new().with_secret("GOOGLE_APPLICATION_CREDENTIALS", &given);
        let host = Arc::new(host);
        let made = instance::<Scripted<Gce>>(&host, &[]).expect("a provider");
        let found = errors(&made, build_into(directory.path()));
        assert_eq!(found.len(), usize::from(problem.is_some()), "{given}: {found:?}");
        let debug = format!("{found:?}");
        assert!(problem.is_none_or(|text| debug.contains(text)), "{debug}");
        assert!(!debug.contains("hunter2"), "{debug}");
        let upload = UploadRequest::new(build_into(directory.path()), Disk::default());
        let error = made.upload(&host.context(), &upload).expect_err("a refusal");
        let hint = error.hint.expect("a hint");
        assert_eq!(hint.contains("my-project"), problem.is_none(), "{hint}");
        assert!(!hint.contains("hunter2"), "{hint}");
    }
}

#[test]
fn tags_that_cannot_be_labels_are_found_by_the_preflight_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = instance::<Scripted<Gce>>(&Arc::new(MockHost::new()), &[]).expect("a provider");
    for (key, count) in [("Owner", 1), ("1st", 1), ("a.b", 1), ("a_b-1", 0)] {
        let tags = [(key, "Any Value")];
        let found = errors(&made, build_into(directory.path()).tags(tags));
        assert_eq!(found.len(), count, "{key}: {found:?}");
    }
}

//! Tests the provider with a host in memory.
#![forbid(unsafe_code)]

use std::{path::Path, sync::Arc};

use build_image_plugin_api::{
    ErrorKind,
    document::{Build, Finding},
    ready::scripted::Scripted,
    testing::{
        MockHost,
        scripted::{ScriptedUploadTest, build_into, findings, instance},
    },
};
use build_image_provider_aws::Aws;

/// Returns the errors among the findings of a check without an upload.
fn errors(made: &Scripted<Aws>, build: Build) -> Vec<Finding> {
    findings(made, build, false).expect("a report")
}

#[test]
fn the_promises_of_a_provider_without_upload_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [("AWS_BUCKET", "images".into()), ("AWS_REGION", "eu-central-1".into())];
    let trial = ScriptedUploadTest::new(directory.path(), include_str!("../README.md"))
        .settings(&settings)
        .commands(&[
            "aws s3 cp",
            "aws ec2 import-snapshot",
            "aws ec2 register-image",
            "file=disk.cloud.zip",
            "member=disk.vmdk",
            "images",
            "eu-central-1",
        ]);
    assert_eq!(trial.differences::<Scripted<Aws>>().expect("answers"), [""; 0]);
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
        let error = instance::<Scripted<Aws>>(&host, &[(key, value)]).err().expect("a refusal");
        assert!(error.kind == ErrorKind::Config && error.hint.is_some(), "{error}");
        assert!(error.message.contains(key), "{error}");
    }
    let ids = serde_json::json!([123_456_789_012_u64, "012345678901"]);
    instance::<Scripted<Aws>>(&host, &[("AWS_IMAGE_SHARE_ACCOUNT_IDS", ids)]).expect("good ids");
    let long = instance::<Scripted<Aws>>(&host, &[("AWS_IMAGE_NAME_LENGTH_MIN", 9.into())])
        .expect("a provider");
    assert_eq!(errors(&long, build_into(Path::new("/tmp")))[0].subject, "image name");
}

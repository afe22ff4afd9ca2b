//! Tests the provider with a host in memory.
#![forbid(unsafe_code)]

use std::sync::Arc;

use build_image_plugin_api::{
    document::{Build, Finding},
    ready::scripted::Scripted,
    testing::{
        MockHost,
        scripted::{ScriptedUploadTest, build_into, findings, instance},
    },
};
use build_image_provider_azure::Azure;

/// Returns the errors among the findings of a check without an upload.
fn errors(made: &Scripted<Azure>, build: Build) -> Vec<Finding> {
    findings(made, build, false).expect("a report")
}

#[test]
fn the_promises_of_a_provider_without_upload_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings =
        [("AZURE_STORAGE_CONTAINER_NAME", "images".into()), ("AZURE_REGION", "West Europe".into())];
    let trial = ScriptedUploadTest::new(directory.path(), include_str!("../README.md"))
        .settings(&settings)
        .commands(&[
            "az storage blob upload",
            "az image create",
            "file=disk.cloud.vhd.tar.gz",
            "member=disk.vhd",
            "images",
            "'West Europe'",
        ]);
    assert_eq!(trial.differences::<Scripted<Azure>>().expect("answers"), [""; 0]);
}

#[test]
fn tags_that_azure_refuses_are_found_by_the_preflight_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = instance::<Scripted<Azure>>(&Arc::new(MockHost::new()), &[]).expect("a provider");
    for (key, value, count) in
        [("a/b", "x", 1), ("a=b", "x", 1), ("a", "x\ny", 1), ("a b", "x/y=z", 0)]
    {
        let tags = [(key, value)];
        let found = errors(&made, build_into(directory.path()).tags(tags));
        assert_eq!(found.len(), count, "{key}: {found:?}");
    }
}

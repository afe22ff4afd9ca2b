//! Tests the provider with a host in memory.

use std::{fs, path::Path, sync::Arc};

use build_image_plugin_api::{
    DiskSpec, ErrorKind, Provider as _, Settings,
    document::{
        Build, CheckRequest, DiscardReason, DiscardRequest, DiskRequest, RegisterRequest, Severity,
        UploadRequest,
    },
    testing::MockHost,
};
use build_image_provider_qcow2::Qcow2;

fn build(directory: &Path) -> Build {
    Build::default().image_name("img").file_stem("img").image_dir(directory.display().to_string())
}

fn upload(host: &Arc<MockHost>, build: &Build) -> build_image_plugin_api::Result<String> {
    let context = host.context();
    let provider = Qcow2::create(&context, Settings::default())?;
    let spec = DiskSpec::default();
    let disk = provider
        .create_disk(&context, &DiskRequest::new(build.clone(), spec).for_image_dir(true))?;
    let uploaded = provider.upload(&context, &UploadRequest::new(build.clone(), disk))?;
    let request = RegisterRequest::new(build.clone(), uploaded);
    Ok(provider.register(&context, &request)?.images[0].id.clone())
}

#[test]
fn the_disk_is_published_under_the_images_name() {
    let directory = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let host = Arc::new(MockHost::new().with_disk(bytes.clone()));
    let id = upload(&host, &build(directory.path())).unwrap();
    assert_eq!(id, directory.path().join("mock.qcow2").display().to_string());
    assert_eq!(fs::read(id).unwrap(), bytes);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_cancelled_copy_is_removed_and_an_older_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let older = directory.path().join("mock.qcow2");
    fs::write(&older, "older").unwrap();
    let host = Arc::new(MockHost::new().with_disk(vec![7; 5 << 20]).cancel_after_reads(2));
    let error = upload(&host, &build(directory.path())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    let context = host.context();
    let resources = host.resources();
    assert_eq!(resources.len(), 1);
    let answer =
        Qcow2.discard(&context, &DiscardRequest::new(DiscardReason::default(), resources)).unwrap();
    assert_eq!((answer.removed.len(), answer.remaining.len()), (1, 0));
    assert!(host.resources().is_empty());
    assert_eq!(fs::read_to_string(older).unwrap(), "older");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_directory_is_found_by_the_preflight_check() {
    let host = Arc::new(MockHost::new());
    let build = build(Path::new("/nonexistent/folder"));
    let request = CheckRequest::new(build);
    let report = Qcow2.check(&host.context(), &request).unwrap();
    assert_eq!(report.findings[0].severity, Severity::Error);
    assert!(report.findings[0].message.contains("/nonexistent/folder"));
}

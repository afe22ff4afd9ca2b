//! Tests the provider with a host in memory.
#![forbid(unsafe_code)]

use std::{fs, sync::Arc};

use build_image_plugin_api::{
    Provider as _,
    document::{Build, CheckRequest, DiskRequest, RegisterRequest, Severity, UploadRequest},
    testing::{MockHost, readme_differences},
};
use build_image_provider_vhd::Vhd;

#[test]
fn the_package_is_published_and_its_location_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = Arc::new(MockHost::new().with_disk(vec![7; 3_000_000]));
    let context = host.context();
    let build =
        Build { image_dir: Some(directory.path().display().to_string()), ..Build::default() };
    let spec = Vhd::describe().disk.package.expect("a package");
    let disk_request =
        DiskRequest { build: build.clone(), spec, published: true, ..DiskRequest::default() };
    let disk = Vhd.create_disk(&context, &disk_request).expect("a disk");
    assert_eq!(disk.spec.to_string(), "vhd dynamic in zip");
    let upload_request = UploadRequest { build: build.clone(), disk, ..UploadRequest::default() };
    let uploaded = Vhd.upload(&context, &upload_request).expect("a file");
    let request = RegisterRequest { build, uploaded, ..RegisterRequest::default() };
    let registered = Vhd.register(&context, &request).expect("an image");
    let location = directory.path().join("mock.zip").display().to_string();
    assert_eq!(registered.facts["location"], location);
    assert_eq!(fs::read(location).expect("the file").len(), 3_000_000);
}

#[test]
fn a_dry_run_on_a_missing_directory_creates_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = directory.path().join("images");
    for (dry_run, severity) in [(true, Severity::Ok), (false, Severity::Error)] {
        let build = Build { image_dir: Some(absent.display().to_string()), ..Build::default() };
        let request = CheckRequest { build, dry_run, ..CheckRequest::default() };
        let report = Vhd.check(&Arc::new(MockHost::new()).context(), &request).expect("a report");
        assert_eq!(report.findings[0].severity, severity, "{dry_run}");
        assert!(!absent.exists());
    }
}

#[test]
fn the_readme_lists_no_unknown_setting() {
    let none: [&str; 0] = [];
    assert_eq!(readme_differences(include_str!("../README.md"), &Vhd::describe()), none);
}

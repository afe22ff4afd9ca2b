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
    let build = Build::default().image_dir(directory.path().display().to_string());
    let spec = Vhd::describe().disk.package.expect("a package");
    let disk_request = DiskRequest::new(build.clone(), spec).for_image_dir(true);
    let disk = Vhd.create_disk(&context, &disk_request).expect("a disk");
    assert_eq!(disk.spec.to_string(), "vhd dynamic in zip");
    let upload_request = UploadRequest::new(build.clone(), disk);
    let uploaded = Vhd.upload(&context, &upload_request).expect("a file");
    let request = RegisterRequest::new(build, uploaded);
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
        let build = Build::default().image_dir(absent.display().to_string());
        let request = CheckRequest::new(build).dry_run(dry_run);
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

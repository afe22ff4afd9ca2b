//! Tests the provider with a host in memory.
#![forbid(unsafe_code)]

use std::{fs, path::Path, sync::Arc};

use build_image_plugin_api::{
    ErrorKind, Provider as _, Result, Settings,
    document::{Build, CheckRequest, DiskRequest, Severity},
    testing::{MockHost, readme_differences},
};
use build_image_provider_vmware::Vmware;

fn provider(host: &Arc<MockHost>, pairs: &[(&str, serde_json::Value)]) -> Result<Vmware> {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    Vmware::create(&host.context(), Settings::from_values(values.collect()))
}

fn build(directory: &Path, version: &str) -> Build {
    let product = [("name", "BIG-IP"), ("version", version), ("build", "0.0.1")];
    Build::default().disk_name("BIGIP").image_dir(directory.display().to_string()).product(product)
}

#[test]
fn the_machine_holds_what_the_settings_ask_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("eula.txt");
    fs::write(&text, "you may\n").expect("a file");
    let host = Arc::new(MockHost::new().with_disk(vec![1; 10]));
    let pairs =
        [("ADD_OVA_EULA", text.display().to_string().into()), ("OVA_PROP_NET_USER", true.into())];
    let old = ("OVA_MANIFEST_DIGEST", "SHA1".into());
    let made = provider(&host, &[&pairs[..], &[old]].concat()).expect("a provider");
    let spec = Vmware::describe().disk.package.expect("a package");
    let build = build(directory.path(), "16.1.4");
    let request = DiskRequest::new(build, spec).for_image_dir(true);
    let disk = made.create_disk(&host.context(), &request).expect("a disk");
    assert_eq!(disk.file_name, "mock.ova");
    let ovf = disk.spec.ovf.expect("a machine");
    assert_eq!((ovf.eula.as_deref(), ovf.hardware_version), (Some("you may\n"), 13));
    assert_eq!((ovf.configurations.len(), ovf.networks.len()), (4, 4));
    assert_eq!(ovf.manifest_digest, "SHA1");
    assert_eq!(ovf.product.expect("a product").properties.len(), 6);
}

#[test]
fn what_cannot_be_put_into_the_ova_is_found_by_the_preflight_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = Arc::new(MockHost::new());
    let worst = |pairs: &[(&str, serde_json::Value)], build: Build| {
        let request = CheckRequest::new(build);
        let made = provider(&host, pairs).expect("a provider");
        let report = made.check(&host.context(), &request).expect("a report");
        report.findings.into_iter().max_by_key(|finding| finding.severity).expect("a finding")
    };
    let properties = ("OVA_PROP_NET_USER", true.into());
    let finding = worst(std::slice::from_ref(&properties), build(directory.path(), "15.1.2"));
    assert_eq!(finding.severity, Severity::Error);
    assert!(finding.message.contains("15.1.2") && finding.hint.is_some(), "{finding:?}");
    let plain = build(directory.path(), "").product([("", ""); 0]);
    assert_eq!(worst(&[properties], plain).severity, Severity::Warning);
    let absent = ("ADD_OVA_EULA", "/nonexistent/eula.txt".into());
    let finding = worst(&[absent], build(directory.path(), "16.1.4"));
    assert!(finding.message.contains("/nonexistent/eula.txt"), "{finding:?}");
}

#[test]
fn a_licence_url_is_refused_with_a_hint() {
    let host = Arc::new(MockHost::new());
    let error = provider(&host, &[("ADD_OVA_EULA", "https://example.com/eula".into())]).err();
    let error = error.expect("an error");
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.hint.expect("a hint").contains("curl -o eula.txt"));
}

#[test]
fn the_readme_lists_every_setting() {
    let none: [&str; 0] = [];
    assert_eq!(readme_differences(include_str!("../README.md"), &Vmware::describe()), none);
}

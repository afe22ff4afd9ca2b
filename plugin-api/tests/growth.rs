//! Tests that the contract can grow in minor versions without breaking the source of providers, hosts, and test
//! doubles.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use build_image_plugin_api::{
    Context, Disk, DiskSpec, ErrorKind, Event, Host, LogRecord, Progress, Result, Secret, Steps,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
};
use serde_json::Value;

/// A host as another author wrote it for version 1.0: exactly these methods. A method that is added without a
/// default body breaks this file.
struct HostOf1_0;

impl Host for HostOf1_0 {
    fn log(&self, _: LogRecord) {}

    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        true
    }

    fn wait(&self, _: Duration) -> bool {
        true
    }

    fn event(&self, _: Event) -> Result<()> {
        Ok(())
    }

    fn secret(&self, _: &str) -> Result<Option<Secret>> {
        Ok(None)
    }

    fn checkpoint_save(&self, _: &str, _: &Value) -> Result<()> {
        Ok(())
    }

    fn checkpoint_load(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        Ok(Disk::default().spec(spec.clone()))
    }

    fn disk_read_at(&self, _: u64, _: u64, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}

/// An instance as another author wrote it for version 1.0.
struct StepsOf1_0;

impl Steps for StepsOf1_0 {
    fn check(&self, _: &CheckRequest) -> Result<CheckReport> {
        Ok(CheckReport::default())
    }

    fn create_disk(&self, _: &DiskRequest) -> Result<Disk> {
        Ok(Disk::default())
    }

    fn upload(&self, request: &UploadRequest) -> Result<Uploaded> {
        Ok(Uploaded::new(request.disk.file_name.clone()))
    }

    fn register(&self, _: &RegisterRequest) -> Result<Registered> {
        Ok(Registered::default())
    }

    fn discard(&self, _: &DiscardRequest) -> Result<Discarded> {
        Ok(Discarded::default())
    }
}

#[test]
fn hosts_and_steps_of_1_0_still_implement_their_traits() {
    let context = Context::new(Arc::new(HostOf1_0));
    assert_eq!(context.wait(Duration::ZERO).unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(context.load::<u64>("key").unwrap(), None);
    let steps: Box<dyn Steps> = Box::new(StepsOf1_0);
    let disk = context.make_disk(&DiskSpec::default()).unwrap().file_name("web.qcow2");
    let request = UploadRequest::new(Default::default(), disk);
    assert_eq!(steps.upload(&request).unwrap().location, "web.qcow2");
}

/// Types that are frozen with the ABI, or hidden from authors.
const FROZEN: [&str; 4] = ["ProviderModule", "FfiError", "FfiProgress", "Details"];

#[test]
fn every_public_type_may_gain_members_and_variants() {
    let mut seen = 0;
    for path in sources(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for (start, _) in
            text.match_indices("\npub struct ").chain(text.match_indices("\npub enum "))
        {
            let declaration = &text[start + 1..];
            let end = declaration.find("\n}").unwrap_or(declaration.len());
            let body = &declaration[..declaration.find(";\n").unwrap_or(end).min(end)];
            let name = declaration.split_whitespace().nth(2).unwrap();
            let name = name.split(['<', '(', ';']).next().unwrap();
            let is_open = declaration.starts_with("pub enum ") || body.contains("\n    pub ");
            if !is_open || FROZEN.contains(&name) {
                continue;
            }
            let attributes: Vec<&str> = text[..start]
                .lines()
                .rev()
                .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
                .collect();
            assert!(attributes.contains(&"#[non_exhaustive]"), "{name} in {}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 45, "{seen} types were found");
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

//! Reads what the emulator of Alibaba Cloud stores.

use std::{collections::BTreeMap, fs, path::Path};

use build_image_emulator_alibaba::Stored;
use serde_json::{Value, json};

use super::cloud::{Cloud, Place, Words, is_drawn};
use crate::harness::Sandbox;

/// Every image of a cloud has this name, and that of an earlier build.
const NAME: [&str; 2] = ["--cloud-image-name", "seam"];

/// Tag with the run, which is new for every build.
const RUN: &str = "build-image-run";

/// An emulator in the sandbox.
struct Alibaba {
    kept: tempfile::TempDir,
    uploads: bool,
    /// Number of requests before the build.
    before: u64,
    /// Identifier of the image of an earlier build.
    replaced: Option<String>,
}

/// The place of a build for this provider, or for one that publishes files only.
pub(super) fn place(words: Words) -> Place<'static> {
    if words[0] != "alibaba" {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 3, 1);
        return (sandbox, None);
    }
    let (sandbox, kept) = Sandbox::with_kept_cloud();
    sandbox.write("replace.yml", &sandbox.config(&[("ALIBABA_IF_EXISTS", "replace")]));
    let uploads = !words.contains(&"--no-upload");
    let mut cloud = Alibaba { kept, uploads, before: 0, replaced: None };
    if words.contains(&"replace.yml") {
        sandbox.disk("old.raw", 2, 1);
        let earlier = ["--disk", "old.raw", "-c", "config.yml", "-p", "alibaba"];
        sandbox.run(&[&earlier[..], &NAME].concat()).succeeded();
        cloud.replaced = Some(cloud.stored()[0].0.clone());
        fs::remove_dir_all(sandbox.path().join("logs")).unwrap();
    }
    sandbox.disk("disk.raw", 3, 1);
    cloud.before = cloud.requests();
    (sandbox, Some(Box::new(cloud)))
}

impl Alibaba {
    /// Identifier and other properties of each image.
    fn stored(&self) -> Vec<(String, Value)> {
        let stored = Stored::open(&self.kept.path().join("cloud")).unwrap();
        let known = stored.images().into_iter().map(|image| {
            let tags: BTreeMap<&String, &String> =
                image.tags.iter().filter(|(key, value)| *key != RUN && !is_drawn(value)).collect();
            let facts = json!({
                "name": image.name,
                "region": image.region,
                "architecture": image.architecture,
                "format": image.format,
                "tags": tags,
            });
            (image.id, facts)
        });
        known.collect()
    }
}

fn nothing_is_left(sandbox: &Sandbox, images: usize) -> Result<(), String> {
    let status = sandbox.emulator.as_ref().unwrap().status();
    for (kind, expected) in [
        ("objects", 0),
        ("open_uploads", 0),
        ("parts", 0),
        ("images", images),
        ("snapshots", images),
    ] {
        if status[kind] != expected {
            return Err(format!("the cloud has {} {kind}, not {expected}", status[kind]));
        }
    }
    Ok(())
}

impl Cloud for Alibaba {
    fn arguments(&self) -> Vec<String> {
        [&NAME[..], &["--image-tags", "[{owner: seam}]"]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    fn refuse(&self, sandbox: &Sandbox, number: Option<u64>) {
        let action = json!({"status": 403, "code": "Forbidden.RAM"});
        let rule = number.map(|nth| json!({"operation": "*", "nth": nth, "action": action}));
        let rules: Vec<Value> = rule.into_iter().collect();
        sandbox.emulator.as_ref().unwrap().set_faults(&json!(rules).to_string()).unwrap();
    }

    fn requests(&self) -> u64 {
        let log = fs::read_to_string(self.kept.path().join("requests.jsonl")).unwrap_or_default();
        log.lines().count() as u64 - self.before
    }

    fn made(&self, sandbox: &Sandbox, _: &str) -> Result<Vec<(String, Value)>, String> {
        let expected = usize::from(self.uploads);
        nothing_is_left(sandbox, expected)?;
        let images = self.stored();
        if images.len() == expected { Ok(images) } else { Err(format!("images: {images:?}")) }
    }

    fn is_untouched(&self, sandbox: &Sandbox, _: &str) -> Result<(), String> {
        let images = self.stored();
        let kept = images.len() == usize::from(self.replaced.is_some())
            && images.iter().all(|(id, facts)| {
                Some(id) == self.replaced.as_ref() && facts["name"].as_str() == Some(NAME[1])
            });
        if !kept {
            return Err(format!("the cloud has {images:?}, before {:?}", self.replaced));
        }
        nothing_is_left(sandbox, images.len())
    }

    fn holds(&self, image: &str, raw: &Path) -> Result<(), String> {
        let stored = Stored::open(&self.kept.path().join("cloud")).unwrap();
        let exported = self.kept.path().join("exported.raw");
        stored.export(image, &exported).map_err(|error| error.to_string())?;
        let equal = fs::read(&exported).unwrap() == fs::read(raw).unwrap();
        if equal { Ok(()) } else { Err("the image in the cloud is another disk".to_owned()) }
    }

    fn texts(&self, sandbox: &Sandbox) -> Vec<(String, &'static str)> {
        vec![(sandbox.emulator.as_ref().unwrap().url(), "@CLOUD@")]
    }
}

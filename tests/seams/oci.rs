//! Reads what a real docker-registry stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::cloud::{Cloud, Front, Place, Words};
use crate::{
    build_oci::build,
    harness::{OciRegistry, Sandbox},
};

/// The registry of all builds.
pub(super) struct Service {
    registry: OciRegistry,
    places: AtomicUsize,
}

/// One of its repositories.
struct Repository<'a> {
    registry: &'a OciRegistry,
    name: String,
    front: Front,
    /// Number of tags that the build sets.
    tags: usize,
    /// Tags and manifests of an earlier build.
    before: (BTreeMap<String, String>, Vec<String>),
}

impl Service {
    /// `None`: it cannot run here.
    pub(super) fn start() -> Option<Self> {
        Some(Self { registry: OciRegistry::start("plain", &[])?, places: AtomicUsize::new(0) })
    }

    /// The place of a build. One that replaces finds the tag on another image.
    pub(super) fn place(&self, words: Words) -> Place<'_> {
        // The last part of the name becomes a part of the image: equal builds are equal images.
        let name = format!("place-{}/seam", self.places.fetch_add(1, Ordering::Relaxed));
        let registry = &self.registry;
        let sandbox = Sandbox::new();
        if words.contains(&"replace") {
            let older = Sandbox::new();
            older.disk("disk.raw", 2, 1);
            build(&older, &format!("{}/{name}:1", registry.address()), &[]).succeeded();
        }
        sandbox.disk("disk.raw", 3, 1);
        let before = (registry.tags(&name), registry.manifests(&name));
        let tags = if words.contains(&"[extra]") { 2 } else { 1 };
        let front = Front::of(&registry.url());
        (sandbox, Some(Box::new(Repository { registry, name, front, tags, before })))
    }
}

impl Repository<'_> {
    fn reference(&self) -> String {
        format!("{}/{}", self.front.address(), self.name)
    }

    /// No upload is left, but one whose last answer was not recorded: Distribution refuses its older URL, and ends it
    /// by itself.
    fn has_no_upload(&self, what: &str) -> Result<(), String> {
        match self.registry.uploads(&self.name) {
            0 => Ok(()),
            1 if what == "before" => Ok(()),
            count => Err(format!("{count} uploads are left")),
        }
    }
}

impl Cloud for Repository<'_> {
    fn arguments(&self) -> Vec<String> {
        vec!["--oci-reference".to_owned(), format!("{}:1", self.reference())]
    }

    fn refuse(&self, _: &Sandbox, number: Option<u64>) {
        self.front.refuse(number);
    }

    fn requests(&self) -> u64 {
        self.front.requests()
    }

    fn made(&self, _: &Sandbox, what: &str) -> Result<Vec<(String, Value)>, String> {
        let (tags, manifests) =
            (self.registry.tags(&self.name), self.registry.manifests(&self.name));
        let digests: BTreeSet<&String> = tags.values().collect();
        // The manifest of the replaced image stays: others may use its digest.
        if tags.len() != self.tags
            || digests.len() != 1
            || manifests.len() != 1 + self.before.1.len()
        {
            return Err(format!("tags {tags:?}, manifests {manifests:?}"));
        }
        let marks = self.registry.marks(&self.name);
        // A registry that refuses the tag of a mark gets the image without it, with a warning.
        let is_marked = |one: &String| {
            marks.contains(one) || (what == "refused" && !self.before.1.contains(one))
        };
        if !marks.iter().all(|one| manifests.contains(one)) || !manifests.iter().all(is_marked) {
            return Err(format!("marks {marks:?}, manifests {manifests:?}"));
        }
        self.has_no_upload(what)?;
        let image = format!("{}@{}", self.reference(), digests.first().unwrap());
        Ok(vec![(image, json!(tags))])
    }

    fn is_untouched(&self, _: &Sandbox, what: &str) -> Result<(), String> {
        let found = (self.registry.tags(&self.name), self.registry.manifests(&self.name));
        if found != self.before {
            return Err(format!("tags and manifests are {found:?}, before {:?}", self.before));
        }
        let marks = self.registry.marks(&self.name);
        if marks.len() != self.before.1.len() {
            return Err(format!("marks {marks:?} are left"));
        }
        self.has_no_upload(what)
    }

    fn holds(&self, image: &str, raw: &Path) -> Result<(), String> {
        let image = image.replace(&self.front.address(), self.registry.address());
        self.registry.holds(&image, "qcow2", raw);
        Ok(())
    }

    fn texts(&self, _: &Sandbox) -> Vec<(String, &'static str)> {
        vec![(self.front.address(), "@REGISTRY@"), (self.name.clone(), "@REPOSITORY@")]
    }
}

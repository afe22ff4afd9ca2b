//! Reads what an account of AWS has: moto behind the strict front.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::cloud::{Cloud, Front, Place, Words, is_drawn};
use crate::{
    build_aws::{HOME, foreign},
    harness::{Aws, AwsAccount, Sandbox},
};

/// The server of all builds.
pub(super) struct Service {
    server: &'static Aws,
    places: AtomicUsize,
}

/// The account of a build, which has an older image.
struct Named {
    account: AwsAccount,
    name: String,
    replaces: bool,
    older: Value,
    front: Front,
}

impl Service {
    /// `None`: it cannot run here.
    pub(super) fn shared() -> Option<Self> {
        Some(Self { server: Aws::shared()?, places: AtomicUsize::new(0) })
    }

    /// The place of a build, which says whether an older image is replaced.
    pub(super) fn place(&self, words: Words) -> Place<'static> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let name = format!("seam-{}-{number}", process::id());
        let replaces = words.contains(&"replace");
        // Fewer looks until a state changes make fewer requests that can be refused.
        let account = self.server.account(&json!({"polls": 1}));
        let front = Front::of(self.server.url());
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 3, 1);
        let (url, bucket) = (front.url(), account.bucket().to_owned());
        let settings = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_BUCKET", &bucket)];
        sandbox.write("config.yml", &account.config(&settings));
        foreign(&account, &if replaces { name.clone() } else { format!("{name}-older") });
        let older = lasting(&account, account.owned("images").remove(0));
        (sandbox, Some(Box::new(Named { account, name, replaces, older, front })))
    }
}

/// An image without what differs between two builds, with the blocks of its snapshots.
fn lasting(account: &AwsAccount, mut image: Value) -> Value {
    let snapshots = account.owned("snapshots");
    for device in image["BlockDeviceMappings"].as_array_mut().unwrap() {
        let id = device["Ebs"]["SnapshotId"].clone();
        let mut snapshot = snapshots.iter().find(|one| one["id"] == id).cloned();
        if let Some(snapshot) = &mut snapshot {
            let members = snapshot.as_object_mut().unwrap();
            members.retain(|name, _| !["id", "file", "description"].contains(&name.as_str()));
            without_drawn(snapshot);
        }
        device["Ebs"]["SnapshotId"] = snapshot.unwrap_or_default();
    }
    let members = image.as_object_mut().unwrap();
    // An image that was registered again is pending for a while.
    let differs = ["id", "created", "state", "SourceImageId"];
    members.retain(|name, _| !differs.contains(&name.as_str()));
    without_drawn(&mut image);
    image
}

/// Removes tags whose values are drawn for each build.
fn without_drawn(object: &mut Value) {
    if let Some(tags) = object["tags"].as_object_mut() {
        tags.retain(|_, value| !is_drawn(value.as_str().unwrap_or_default()));
    }
}

/// The snapshots of an image.
fn snapshots_of(image: &Value) -> Vec<&str> {
    let devices = image["BlockDeviceMappings"].as_array().unwrap().iter();
    devices.filter_map(|device| device["Ebs"]["SnapshotId"].as_str()).collect()
}

impl Named {
    /// The images, those of the home region first. Nothing else may be there.
    fn images(&self) -> Result<Vec<Value>, String> {
        let owned = self.account.control("GET", "objects", json!({}));
        let list = |kind: &str| owned[kind].as_array().unwrap().clone();
        let mut images = list("images");
        let used: BTreeSet<&str> = images.iter().flat_map(snapshots_of).collect();
        let all = list("snapshots");
        let all: BTreeSet<&str> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
        let tasks = list("tasks");
        let active = tasks.iter().filter(|task| task["Status"] == "active").count();
        if all != used || !list("objects").is_empty() || !list("uploads").is_empty() || active > 0 {
            return Err(format!("something is left: {owned:#}"));
        }
        images.sort_by_key(|image| image["region"] != HOME);
        Ok(images)
    }

    fn is_older(image: &Value) -> bool {
        image["tags"]["of"] == "others"
    }
}

impl Cloud for Named {
    fn arguments(&self) -> Vec<String> {
        ["--cloud-image-name", &self.name, "--image-tags", "[{owner: seam}]"]
            .map(str::to_owned)
            .to_vec()
    }

    fn refuse(&self, _: &Sandbox, number: Option<u64>) {
        self.front.refuse(number);
    }

    fn requests(&self) -> u64 {
        self.front.requests()
    }

    fn made(&self, _: &Sandbox, _: &str) -> Result<Vec<(String, Value)>, String> {
        let (older, new): (Vec<_>, Vec<_>) = self.images()?.into_iter().partition(Self::is_older);
        let older: Vec<_> = older.into_iter().map(|image| lasting(&self.account, image)).collect();
        let expected = if self.replaces { vec![] } else { vec![self.older.clone()] };
        if older != expected {
            return Err(format!("older images are {older:#?}"));
        }
        let is_wrong = |image: &Value| image["name"] != *self.name || image["state"] != "available";
        if new.is_empty() || new.iter().any(is_wrong) {
            return Err(format!("images of the run: {new:#?}"));
        }
        let id = |image: &Value| image["id"].as_str().unwrap().to_owned();
        Ok(new.into_iter().map(|image| (id(&image), lasting(&self.account, image))).collect())
    }

    fn is_untouched(&self, _: &Sandbox, _: &str) -> Result<(), String> {
        let images = self.images()?;
        let images: Vec<_> =
            images.into_iter().map(|image| lasting(&self.account, image)).collect();
        if images == [self.older.clone()] {
            Ok(())
        } else {
            Err(format!("not {:#}, but {images:#?}", self.older))
        }
    }

    fn holds(&self, image: &str, raw: &Path) -> Result<(), String> {
        let images = self.account.owned("images");
        let found = images.iter().find(|one| one["id"] == image).unwrap();
        let id = snapshots_of(found)[0];
        let snapshots = self.account.owned("snapshots");
        let snapshot = snapshots.iter().find(|one| one["id"] == id).unwrap();
        // The file of a snapshot ends with its last block.
        let (mut held, mut disk) =
            (fs::read(snapshot["file"].as_str().unwrap()).unwrap(), fs::read(raw).unwrap());
        let length = held.len().max(disk.len());
        held.resize(length, 0);
        disk.resize(length, 0);
        if held == disk { Ok(()) } else { Err(format!("{image} holds another disk")) }
    }

    fn texts(&self, _: &Sandbox) -> Vec<(String, &'static str)> {
        let mut texts = vec![
            (self.front.url(), "@FRONT@"),
            (self.name.clone(), "@NAME@"),
            (self.account.id().to_owned(), "@ACCOUNT@"),
            (self.account.bucket().to_owned(), "@BUCKET@"),
        ];
        for kind in ["images", "snapshots", "tasks"] {
            let ids = self.account.owned(kind);
            texts
                .extend(ids.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), "@OBJECT@")));
        }
        texts
    }
}

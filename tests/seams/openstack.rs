//! Reads what a real Glance stores.

use std::{
    path::Path,
    process,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use super::cloud::{Cloud, Front, Place, Words, is_drawn};
use crate::{
    build_openstack::{BUILDER, disk, foreign},
    harness::{OpenStack, Sandbox},
};

/// The cloud of all builds.
pub(super) struct Service {
    cloud: &'static OpenStack,
    /// Number of requests to Keystone that an undisturbed build makes.
    logins: OnceLock<u64>,
    places: AtomicUsize,
}

/// Its images of one name.
struct Named<'a> {
    service: &'a Service,
    name: String,
    if_exists: &'static str,
    /// The image of an earlier build.
    older: Value,
    keystone: Front,
    glance: Front,
}

impl Service {
    /// `None`: it cannot run here.
    pub(super) fn shared() -> Option<Self> {
        let cloud = OpenStack::shared()?;
        Some(Self { cloud, logins: OnceLock::new(), places: AtomicUsize::new(0) })
    }

    /// The place of a build, which says what happens to older images.
    pub(super) fn place(&self, words: Words) -> Place<'_> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let name = format!("seam-{}-{number}", process::id());
        let if_exists = ["keep", "hide", "replace"].into_iter().find(|word| words.contains(word));
        let keystone = Front::of(self.cloud.text("/auth_url").trim_end_matches("/v3"));
        let glance = Front::of(self.cloud.text("/image_url"));
        let sandbox = Sandbox::new();
        disk(&sandbox, 3, 1);
        let settings = [
            ("OPENSTACK_AUTH_URL", &*format!("{}/v3", keystone.url())),
            ("OPENSTACK_IMAGE_ENDPOINT", &glance.url()),
            ("OPENSTACK_PROTECTED", "true"),
        ];
        sandbox.write("config.yml", &self.cloud.config(BUILDER.0, BUILDER.1, &settings));
        let older = foreign(self.cloud, BUILDER, &name, &json!({}));
        let older = lasting(self.cloud.image(&older));
        let named =
            Named { service: self, name, if_exists: if_exists.unwrap(), older, keystone, glance };
        (sandbox, Some(Box::new(named)))
    }
}

/// An image without its times, which differ between two builds.
fn lasting(mut image: Value) -> Value {
    let members = image.as_object_mut().unwrap();
    members.retain(|name, _| !["created_at", "updated_at"].contains(&name.as_str()));
    if let Some(tags) = members.get_mut("tags").and_then(Value::as_array_mut) {
        let value = |tag: &Value| tag.as_str()?.split_once('=').map(|(_, value)| value.to_owned());
        tags.retain(|tag| !value(tag).is_some_and(|value| is_drawn(&value)));
        tags.sort_by_key(ToString::to_string);
    }
    image
}

impl Named<'_> {
    fn images(&self) -> Vec<Value> {
        self.service.cloud.images(&self.name, BUILDER.1).into_iter().map(lasting).collect()
    }
}

impl Cloud for Named<'_> {
    fn arguments(&self) -> Vec<String> {
        ["--cloud-image-name", &self.name, "--image-tags", "[{owner: seam}]"]
            .map(str::to_owned)
            .to_vec()
    }

    fn refuse(&self, _: &Sandbox, number: Option<u64>) {
        let logins = self.service.logins.get().copied().unwrap_or_default();
        self.keystone.refuse(number);
        self.glance
            .refuse(number.and_then(|number| number.checked_sub(logins)).filter(|&at| at > 0));
    }

    fn requests(&self) -> u64 {
        self.service.logins.get_or_init(|| self.keystone.requests()) + self.glance.requests()
    }

    fn made(&self, _: &Sandbox, _: &str) -> Result<Vec<(String, Value)>, String> {
        let mut images = self.images();
        let older = images.iter().position(|image| image["id"] == self.older["id"]);
        let older = older.map(|place| images.remove(place));
        let mut expected = self.older.clone();
        expected["os_hidden"] = json!(self.if_exists == "hide");
        if older != (self.if_exists != "replace").then_some(expected) {
            return Err(format!("the older image is {older:#?}"));
        }
        let [new] = &images[..] else { return Err(format!("images of the run: {images:#?}")) };
        for (name, value) in
            [("status", json!("active")), ("os_hidden", json!(false)), ("protected", json!(true))]
        {
            if new[name] != value {
                return Err(format!("`{name}` is wrong: {new:#}"));
            }
        }
        Ok(vec![(new["id"].as_str().unwrap().to_owned(), new.clone())])
    }

    fn is_untouched(&self, _: &Sandbox, _: &str) -> Result<(), String> {
        let images = self.images();
        if images == [self.older.clone()] {
            Ok(())
        } else {
            Err(format!("the project has {images:#?}"))
        }
    }

    fn holds(&self, image: &str, raw: &Path) -> Result<(), String> {
        self.service.cloud.holds(image, raw);
        Ok(())
    }

    fn texts(&self, _: &Sandbox) -> Vec<(String, &'static str)> {
        let urls = [(self.keystone.url(), "@KEYSTONE@"), (self.glance.url(), "@GLANCE@")];
        [&urls[..], &[(self.name.clone(), "@NAME@")]].concat()
    }
}

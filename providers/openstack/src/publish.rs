//! Publishes an uploaded image: properties, tags, stores, visibility, members, protection; then shows it, and hides the
//! older ones. Every part is compared with what the service has, so that a resumed run repeats nothing.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{self, RegisterRequest, Registered},
    retry::Policy,
};
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, HASHES, Session},
    config::{Config, IfExists},
    image::Image,
    marks::{DISK, LEASE},
    members, properties, record, replace, stores,
};

/// Publishes the image of a build.
///
/// # Errors
/// Refusals; an image that is not as requested afterwards.
pub(crate) fn register(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &RegisterRequest,
) -> Result<Registered> {
    context.check_cancelled()?;
    let id = request.uploaded.facts.get("image_id").and_then(Value::as_str).unwrap_or_default();
    if id.is_empty() {
        return Err(Error::internal("the upload reported no image"));
    }
    context.block_on(async {
        let cloud = Cloud::open(context, config, session, Policy::call(config.retry_time)).await?;
        let publication = Publication { context, cloud: &cloud, config, request, id };
        publication.run().await
    })
}

struct Publication<'a> {
    context: &'a Context,
    cloud: &'a Cloud,
    config: &'a Config,
    request: &'a RegisterRequest,
    id: &'a str,
}

impl Publication<'_> {
    async fn run(&self) -> Result<Registered> {
        let Self { context, cloud, config, id, .. } = *self;
        let mut image = self.describe().await?;
        if !config.copy_stores.is_empty() {
            stores::copy(context, cloud, config, id).await?;
            image = self.image().await?;
        }
        self.set(&mut image, "visibility", json!(config.visibility)).await?;
        members::share(context, cloud, config, id).await?;
        self.set(&mut image, "protected", json!(config.protected)).await?;
        if config.if_exists == IfExists::Fail
            && let Some(other) = replace::older(cloud, &self.request.build, Some(id)).await?.first()
        {
            return Err(taken(&self.request.build.image_name, other.id()));
        }
        // From here on users see the image; it precedes the hiding of older ones, so that one is always visible.
        self.finish(&mut image).await?;
        let hidden =
            replace::hide_older(context, cloud, config, &self.request.build, &image).await?;
        let name = &self.request.build.image_name;
        context
            .milestone(format!("published image `{name}` ({id}, {})", image.text("visibility")))?;
        Ok(answer(cloud, &image, &hidden))
    }

    async fn image(&self) -> Result<Image> {
        let id = self.id;
        let image = self.cloud.image(id).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("image `{id}` was deleted before it was published"),
            )
        })?;
        if !image.belongs_to(&self.request.build.run_id, &self.cloud.project()) {
            return Err(record::foreign(&image));
        }
        if image.status() != "active" {
            let message = format!("image `{id}` is {}, not active", image.status());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(image)
    }

    /// Sets name, properties, and tags where they differ, and compares them afterwards.
    async fn describe(&self) -> Result<Image> {
        let Self { cloud, config, id, .. } = *self;
        let build = &self.request.build;
        let mut wanted: Vec<(String, Value)> = vec![
            ("name".to_owned(), json!(build.image_name)),
            ("min_disk".to_owned(), json!(config.wanted.min_disk(build.virtual_size))),
            ("min_ram".to_owned(), json!(config.wanted.min_ram())),
            ("tags".to_owned(), json!(properties::tags(&build.tags))),
        ];
        let digest = self.request.disk_digest.as_ref();
        wanted.extend(digest.map(|digest| (DISK.to_owned(), json!(digest))));
        let texts = config.wanted.properties(build, &config.disk).into_iter();
        wanted.extend(texts.map(|(name, value)| (name, value.into())));
        let differs = |image: &Image, name: &str, value: &Value| {
            if name == "tags" {
                json!(image.tags()) != *value
            } else {
                image.members.get(name) != Some(value)
            }
        };
        let image = self.image().await?;
        let operations: Vec<Value> = wanted
            .iter()
            .filter(|(name, value)| differs(&image, name, value))
            .map(|(name, value)| {
                let op = if image.members.contains_key(name) { "replace" } else { "add" };
                json!({"op": op, "path": format!("/{}", name.replace('~', "~0").replace('/', "~1")), "value": value})
            })
            .collect();
        if operations.is_empty() {
            return Ok(image);
        }
        let changed =
            cloud.patch_image(id, operations.into(), &format!("describe image `{id}`")).await?;
        match wanted.iter().find(|(name, value)| differs(&changed, name, value)) {
            None => Ok(changed),
            Some((name, _)) => Err(Error::new(
                ErrorKind::Provider,
                format!("`{name}` of image `{id}` is not as requested, although the service accepted it"),
            )
            .with_hint("ask the operator whether the cloud protects the property; otherwise unset the setting for it")),
        }
    }

    /// Shows the image, unless it is to stay hidden, and ends the claim of the run.
    async fn finish(&self, image: &mut Image) -> Result<()> {
        let mut operations = Vec::new();
        if self.cloud.minor_version >= HASHES && image.is("os_hidden") != self.config.hidden {
            let hidden = self.config.hidden;
            operations.push(json!({"op": "replace", "path": "/os_hidden", "value": hidden}));
        }
        if image.members.contains_key(LEASE) {
            operations.push(json!({"op": "remove", "path": format!("/{LEASE}")}));
        }
        if operations.is_empty() {
            return Ok(());
        }
        self.context.check_cancelled()?;
        let what = format!("publish image `{}`", self.id);
        *image = self.cloud.patch_image(self.id, operations.into(), &what).await?;
        Ok(())
    }

    /// Sets one member, unless it has the value.
    async fn set(&self, image: &mut Image, name: &str, value: Value) -> Result<()> {
        let id = self.id;
        if image.members.get(name) == Some(&value) {
            return Ok(());
        }
        self.context.check_cancelled()?;
        let what =
            format!("set `{name}` of image `{id}` to `{}`", value.to_string().trim_matches('"'));
        let operations = json!([{"op": "replace", "path": format!("/{name}"), "value": value}]);
        *image = self.cloud.patch_image(id, operations, &what).await?;
        Ok(())
    }
}

/// Returns an image that is published, and what is shown of it; `hidden` are the older ones of its name that it hides.
pub(crate) fn answer(cloud: &Cloud, image: &Image, hidden: &[String]) -> Registered {
    let facts = [
        ("project_id", json!(cloud.project())),
        ("visibility", json!(image.text("visibility"))),
        ("hash_algorithm", json!(image.text("os_hash_algo"))),
        ("hash", json!(image.text("os_hash_value"))),
        ("stores", json!(image.stores())),
        ("hidden_images", json!(hidden)),
    ];
    let mut published = document::Image::new(image.id(), image.text("name"));
    published.region.clone_from(&cloud.region);
    Registered::default().images([published]).facts(facts)
}

/// The error for a name that another image of the project has.
pub(crate) fn taken(name: &str, id: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("image `{name}` exists already: {id}")).with_hint(format!(
        "choose another CLOUD_IMAGE_NAME, set OPENSTACK_IF_EXISTS to `hide` or `replace`, or delete it: openstack image delete {id}"
    ))
}

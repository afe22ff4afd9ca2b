//! Publishes an image: puts its manifest by digest, then its tags, and reads both back. A tag is a name that other
//! images may have: it is moved only when the user asks for it, and never removed in between.
//!
//! OCI distribution specification 1.1, "Pushing Manifests".

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{Build, Image, RegisterRequest, Registered},
    http::Answer,
    retry::{Failure, Policy},
};
use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::{
    config::Config,
    flow::{Layer, digest_of},
    manifest::{self, ACCEPTED, Descriptor, Document},
    marks::Mark,
    owner::Owner,
    push::{has_blob, small_blob},
    registry::{Call, Registry, Session},
};

/// Kind of a manifest.
pub(crate) const MANIFEST: &str = "manifest";
/// Kind of a tag.
pub(crate) const TAG: &str = "tag";
/// Attribute of a tag with the digest that it got.
pub(crate) const NEW: &str = "digest";
/// Attribute of a tag with the digest that it had.
pub(crate) const OLD: &str = "replaced_digest";

/// Checkpoint with the mark of the run, and attribute of a manifest with the mark under which it was found.
pub(crate) const MARK: &str = "mark";

/// What a tag refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TagState {
    /// Nothing.
    Free,
    /// This digest.
    At(String),
}

/// Publishes the image of a build.
///
/// # Errors
/// Refusals; tags of other images; a registry that has something else than was sent.
pub(crate) fn register(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &RegisterRequest,
) -> Result<Registered> {
    context.check_cancelled()?;
    let layer = request.uploaded.facts.get("layer").cloned().unwrap_or_default();
    let layer: Layer = serde_json::from_value(layer)
        .map_err(|_| Error::internal("the upload reported no layer"))?;
    context.block_on(async {
        let policy = Policy::call(config.retry_time);
        let registry = Registry::open(context, config, session, policy).await?;
        let build = &request.build;
        let configuration = manifest::configuration(config, build, &layer);
        let descriptor = manifest::descriptor(config, &layer);
        // A registry may have collected it as garbage before the run was resumed.
        small_blob(context, &registry, &configuration.digest, &configuration.bytes).await?;
        let document = manifest::manifest(config, build, &configuration, &descriptor);
        let publication = Publication { context, registry: &registry, config, build, document };
        publication.run(&descriptor).await
    })
}

struct Publication<'a> {
    context: &'a Context,
    registry: &'a Registry,
    config: &'a Config,
    build: &'a Build,
    document: Document,
}

impl Publication<'_> {
    async fn run(&self, layer: &Descriptor) -> Result<Registered> {
        let Self { context, registry, .. } = self;
        let digest = &self.document.digest;
        if !has_blob(registry, &layer.digest, layer.size).await? {
            let message = format!("the layer `{}` is not in the repository any more", layer.digest);
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("the registry may have collected it as garbage: build again"));
        }
        let tags = self.config.all_tags(self.build);
        for tag in &tags {
            self.before(tag).await?;
        }
        self.put_manifest().await?;
        let mut replaced = serde_json::Map::new();
        for tag in &tags {
            if let Some(old) = self.put_tag(tag).await? {
                replaced.insert(tag.clone(), json!(old));
            }
        }
        let id = format!("{}@{digest}", registry.reference.name());
        context.milestone(format!("published `{id}` as {}", tags.join(", ")))?;
        let facts = [
            ("reference", json!(id)),
            ("digest", json!(digest)),
            ("media_type", json!(self.document.media_type)),
            ("tags", json!(tags)),
            ("replaced", json!(replaced)),
            ("layer", json!(layer)),
            ("layer_digest", json!(layer.digest)),
            ("layer_size", json!(layer.size)),
        ];
        let image = Image::new(id, self.config.title(self.build));
        Ok(Registered::default().images([image]).facts(facts))
    }

    /// Puts the manifest under its digest, unless the repository has it, and compares what the registry has then.
    async fn put_manifest(&self) -> Result<()> {
        let Self { context, registry, document, .. } = self;
        let digest = &document.digest;
        let resource = Owner::of(registry)
            .mark(Resource::new(MANIFEST, digest))
            .with_id(digest)
            .as_deliverable();
        let earlier = context.load::<String>(MANIFEST)?;
        let exists = get_manifest(registry, digest).await?.is_some();
        // An earlier process of this run may have put it.
        if !exists || earlier.as_ref() == Some(digest) {
            context.check_cancelled()?;
            context.will_create(&resource)?;
            context.save(MANIFEST, digest)?;
            context.check_cancelled()?;
            self.put_marked().await?;
            context.created(&resource)?;
        }
        match get_manifest(registry, digest).await? {
            Some(answer) if digest_of(&answer.body) == *digest => Ok(()),
            Some(_) => Err(altered(digest)),
            None => Err(Error::new(
                ErrorKind::Provider,
                format!("the registry accepted manifest `{digest}` and does not have it"),
            )
            .with_hint(
                "the registry may be several servers that are not equal yet: resume the run",
            )),
        }
    }

    /// Puts the manifest under the mark of the run, in one request, so that no manifest is without a mark. Where the
    /// registry refuses that tag, it is put under its digest.
    async fn put_marked(&self) -> Result<()> {
        let Self { context, registry, document, .. } = self;
        let digest = &document.digest;
        let by_digest = || put(registry, digest, document.media_type, &document.bytes);
        // A resumed run sets the same mark.
        let earlier = context.load::<String>(MARK)?;
        let Some(mark) = earlier.or_else(|| Mark::now(&self.build.run_id).tag()) else {
            return Ok(context.until_answered(by_digest()).await?);
        };
        let resource = Owner::of(registry)
            .mark(Resource::new(TAG, &mark))
            .with_id(format!("{}:{mark}", registry.reference.name()))
            .with(NEW, digest)
            .as_deliverable();
        context.will_create(&resource)?;
        context.save(MARK, &mark)?;
        context.check_cancelled()?;
        let put = put(registry, &mark, document.media_type, &document.bytes);
        match context.until_answered(put).await {
            Ok(()) => context.created(&resource),
            Err(failure) if matches!(failure.status, Some(400 | 403 | 405 | 409 | 422)) => {
                context.gone(&resource)?;
                context.until_answered(by_digest()).await?;
                context.warning(
                    format!("the registry refuses the tag `{mark}`: the image will not be listed as one of this run"),
                    "permit tags that begin with `build-image.` in the rules of the repository",
                )
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Returns what a tag refers to before it is set.
    ///
    /// # Errors
    /// A conflict for a tag of another image that must not be moved.
    async fn before(&self, tag: &str) -> Result<TagState> {
        let state = tag_state(self.registry, tag).await?;
        let TagState::At(other) = &state else { return Ok(state) };
        if *other == self.document.digest {
            return Ok(state);
        }
        // With other settings an earlier process of this run has set it to another manifest.
        match self.earlier(tag)? {
            Some(earlier) if earlier.attributes.get(NEW) == Some(other) => {
                let old = earlier.attributes.get(OLD).cloned();
                Ok(old.map_or(TagState::Free, TagState::At))
            }
            _ if self.config.replace => Ok(state),
            _ => Err(taken(self.registry, tag, other)),
        }
    }

    fn earlier(&self, tag: &str) -> Result<Option<Resource>> {
        self.context.load(&tag_key(tag))
    }

    /// Sets a tag. Returns the digest that it had, when that is another one.
    async fn put_tag(&self, tag: &str) -> Result<Option<String>> {
        let Self { context, registry, document, .. } = self;
        let digest = &document.digest;
        // It is read again, since another program may have set it meanwhile.
        let state = self.before(tag).await?;
        let mut resource = Owner::of(registry)
            .mark(Resource::new(TAG, tag))
            .with_id(format!("{}:{tag}", registry.reference.name()))
            .with(NEW, digest)
            .as_deliverable();
        match &state {
            TagState::At(now) if now == digest => return self.announce_again(tag),
            TagState::At(old) => resource = resource.with(OLD, old),
            TagState::Free => {}
        }
        context.check_cancelled()?;
        context.will_create(&resource)?;
        context.save(&tag_key(tag), &resource)?;
        context.check_cancelled()?;
        // An undo must not look at the tag before a request that was already sent takes effect.
        let put = put(registry, tag, document.media_type, &document.bytes);
        context.until_answered(put).await?;
        context.created(&resource)?;
        match tag_state(registry, tag).await? {
            TagState::At(now) if now == *digest => Ok(match state {
                TagState::At(old) => Some(old),
                TagState::Free => None,
            }),
            other => {
                let now = if let TagState::At(now) = other { now } else { "nothing".to_owned() };
                let message = format!("tag `{tag}` refers to {now} after it was set to `{digest}`");
                Err(Error::new(ErrorKind::Conflict, message).with_hint(
                    "another program writes the same tag: build again when it has ended",
                ))
            }
        }
    }

    /// A tag that an earlier process of this run has set is announced again, as it was; any other one was there before.
    /// Returns the digest that it had.
    fn announce_again(&self, tag: &str) -> Result<Option<String>> {
        match self.earlier(tag)? {
            Some(earlier) if earlier.attributes.get(NEW) == Some(&self.document.digest) => {
                self.context.will_create(&earlier)?;
                self.context.created(&earlier)?;
                Ok(earlier.attributes.get(OLD).cloned())
            }
            _ => Ok(None),
        }
    }
}

/// Checkpoint of a tag.
fn tag_key(tag: &str) -> String {
    format!("tag {tag}")
}

/// The error for a tag of another image.
pub(crate) fn taken(registry: &Registry, tag: &str, digest: &str) -> Error {
    let name = registry.reference.name();
    Error::new(ErrorKind::Conflict, format!("tag `{tag}` of `{name}` belongs to another image: {digest}"))
        .with_hint(
            "choose another tag in OCI_REFERENCE, CLOUD_IMAGE_NAME, or OCI_TAGS; or set OCI_IF_EXISTS=replace to move it",
        )
}

fn altered(digest: &str) -> Error {
    let message = format!("the manifest that the registry has under `{digest}` has another digest");
    Error::new(ErrorKind::Provider, message)
        .with_hint("a proxy, or the registry, changes manifests: do not use the image")
}

/// Puts a manifest under a tag or its digest.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn put(
    registry: &Registry,
    reference: &str,
    media_type: &str,
    bytes: &Bytes,
) -> Result<(), Failure> {
    let call = Call::new(Method::PUT, registry.url(&format!("manifests/{reference}"))?)
        .header("content-type", media_type)
        .body(bytes.clone());
    registry.call(&call, &format!("put manifest `{reference}`")).await.map(drop)
}

/// Returns the manifest of a tag or digest.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn get_manifest(
    registry: &Registry,
    reference: &str,
) -> Result<Option<Answer>, Failure> {
    let call = Call::new(Method::GET, registry.url(&format!("manifests/{reference}"))?)
        .header("accept", ACCEPTED.join(", "));
    registry.find(&call, &format!("read manifest `{reference}`")).await
}

/// Returns what a tag refers to.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn tag_state(registry: &Registry, tag: &str) -> Result<TagState, Failure> {
    // `Docker-Content-Digest` is optional ("Pulling manifests"); the digest of the bytes is not.
    let found = get_manifest(registry, tag).await?;
    Ok(found.map_or(TagState::Free, |answer| TagState::At(digest_of(&answer.body))))
}

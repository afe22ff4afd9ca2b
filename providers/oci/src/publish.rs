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
    config::{Config, Kind},
    flow::{Layer, digest_of},
    inventory,
    manifest::{self, ACCEPTED, Descriptor, Document},
    marks::{self, Mark},
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

/// Checkpoint with the first mark of the run, and attribute of a manifest with the mark under which it was found.
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
        // That of an artifact is known even when the host has not computed it.
        let known = Some(layer.diff_id).filter(|_| config.kind == Kind::Artifact);
        let disk_digest = request.disk_digest.clone().or(known);
        let publication =
            Publication { context, registry: &registry, config, build, document, disk_digest };
        publication.run(&descriptor).await
    })
}

struct Publication<'a> {
    context: &'a Context,
    registry: &'a Registry,
    config: &'a Config,
    build: &'a Build,
    document: Document,
    disk_digest: Option<String>,
}

impl Publication<'_> {
    async fn run(&self, layer: &Descriptor) -> Result<Registered> {
        let Self { context, registry, document, .. } = self;
        if !has_blob(registry, &layer.digest, layer.size).await? {
            let message = format!("the layer `{}` is not in the repository any more", layer.digest);
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("the registry may have collected it as garbage: build again"));
        }
        let tags = self.config.all_tags(self.build);
        for tag in &tags {
            self.before(tag).await?;
        }
        let begun = self.put_manifest().await?;
        let mut replaced = serde_json::Map::new();
        for tag in &tags {
            if let Some(old) = self.put_tag(tag).await? {
                replaced.insert(tag.clone(), json!(old));
            }
        }
        let complete = begun.map(|begun| begun.complete(self.disk_digest.as_deref()));
        if let Some(mark) = complete.and_then(|mark| mark.tag()) {
            self.put_mark(&mark).await??;
        }
        let id = id_of(registry, &document.digest);
        context.milestone(format!("published `{id}` as {}", tags.join(", ")))?;
        let answer = answer(registry, document, layer, &self.config.title(self.build), &tags);
        Ok(answer.fact("replaced", json!(replaced)))
    }

    /// Puts the manifest, unless the repository has it and its run completed it, and compares what the registry has then.
    /// Returns the mark under which it was put.
    async fn put_manifest(&self) -> Result<Option<Mark>> {
        let Self { context, registry, document, .. } = self;
        let digest = &document.digest;
        let resource = Owner::of(registry)
            .mark(Resource::new(MANIFEST, digest))
            .with_id(digest)
            .as_deliverable();
        let earlier = context.load::<String>(MANIFEST)?;
        let is_again = earlier.as_ref() == Some(digest);
        let exists = get_manifest(registry, digest).await?.is_some();
        let mut mark = None;
        // An earlier process of this run may have put it. That of a run that did not complete it may be removed.
        if !exists || is_again || self.is_unfinished().await {
            context.check_cancelled()?;
            context.will_create(&resource)?;
            context.save(MANIFEST, digest)?;
            context.check_cancelled()?;
            mark = self.put_marked(is_again).await?;
            context.created(&resource)?;
        }
        match get_manifest(registry, digest).await? {
            Some(answer) if digest_of(&answer.body) == *digest => Ok(mark),
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

    /// Whether a run has begun to publish the manifest, and not completed it. In a repository that does not list its tags,
    /// no command removes what such runs have left.
    async fn is_unfinished(&self) -> bool {
        let Ok(tags) = inventory::tags(self.registry).await else { return false };
        for tag in marks::unfinished(&tags) {
            let at = TagState::At(self.document.digest.clone());
            if tag_state(self.registry, tag).await.is_ok_and(|state| state == at) {
                return true;
            }
        }
        false
    }

    /// Puts the manifest under the mark of the run, in one request, so that no manifest is without a mark. Where the
    /// registry refuses that tag, it is put under its digest. `is_again`: an earlier process of the run has put it.
    async fn put_marked(&self, is_again: bool) -> Result<Option<Mark>> {
        let Self { context, registry, document, .. } = self;
        let digest = &document.digest;
        let by_digest = || put(registry, digest, document.media_type, &document.bytes);
        // A resumed run sets the same mark.
        let earlier = context.load::<String>(MARK)?.filter(|_| is_again);
        let earlier = earlier.and_then(|tag| Mark::read(&tag)).filter(Mark::is_begun);
        let mark = earlier.unwrap_or_else(|| Mark::begin(&self.build.run_id));
        let Some(tag) = mark.tag() else {
            context.until_answered(by_digest()).await?;
            return Ok(None);
        };
        context.save(MARK, &tag)?;
        match self.put_mark(&tag).await? {
            Ok(()) => Ok(Some(mark)),
            Err(failure) if matches!(failure.status, Some(400 | 403 | 405 | 409 | 422)) => {
                context.gone(&self.mark_resource(&tag))?;
                context.until_answered(by_digest()).await?;
                context.warning(
                    format!("the registry refuses the tag `{tag}`: the image will not be listed as one of this run"),
                    "permit tags that begin with `build-image.` in the rules of the repository",
                )?;
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn mark_resource(&self, tag: &str) -> Resource {
        let name = self.registry.reference.name();
        Owner::of(self.registry)
            .mark(Resource::new(TAG, tag))
            .with_id(format!("{name}:{tag}"))
            .with(NEW, &self.document.digest)
            .as_deliverable()
    }

    /// Puts the manifest under a mark of the run. The inner result is that of the registry.
    async fn put_mark(&self, tag: &str) -> Result<Result<(), Failure>> {
        let Self { context, registry, document, .. } = self;
        let resource = self.mark_resource(tag);
        context.check_cancelled()?;
        context.will_create(&resource)?;
        context.check_cancelled()?;
        let put = put(registry, tag, document.media_type, &document.bytes);
        let put = context.until_answered(put).await;
        if put.is_ok() {
            context.created(&resource)?;
        }
        Ok(put)
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

/// Returns the identifier of an image.
pub(crate) fn id_of(registry: &Registry, digest: &str) -> String {
    format!("{}@{digest}", registry.reference.name())
}

/// Returns an image that is published under tags, and what is shown of it.
pub(crate) fn answer(
    registry: &Registry,
    document: &Document,
    layer: &Descriptor,
    title: &str,
    tags: &[String],
) -> Registered {
    let id = id_of(registry, &document.digest);
    let facts = [
        ("reference", json!(id)),
        ("digest", json!(document.digest)),
        ("media_type", json!(document.media_type)),
        ("tags", json!(tags)),
        ("replaced", json!({})),
        ("layer", json!(layer)),
        ("layer_digest", json!(layer.digest)),
        ("layer_size", json!(layer.size)),
    ];
    Registered::default().images([Image::new(id, title)]).facts(facts)
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

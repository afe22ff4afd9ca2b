//! Removes what a run created: upload sessions, tags, manifests. A tag is removed only while it refers to the image of
//! the run, a manifest only when no other tag refers to it. Blobs stay: other images of the registry may share them,
//! and its garbage collection removes those that none uses.
//!
//! OCI distribution specification 1.1, "Content Management". Distribution deletes manifests with all their tags, and
//! not single tags; a registry may forbid deletion altogether.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardRequest, Discarded, Remaining},
    retry::{Failure, Policy},
};
use reqwest::Method;

use crate::{
    config::Config,
    flow::digest_of,
    http::Meaning as _,
    marks::Mark,
    owner::Owner,
    publish::{MANIFEST, MARK, NEW, OLD, TAG, TagState, get_manifest, put, tag_state},
    registry::{Call, Registry, Session},
    session::{LOCATION, Open, SESSION, STARTED, Started},
};

/// Interval at which a removal checks whether the host requests a stop.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Most tags that are compared before a manifest is deleted.
const MOST_TAGS: usize = 1000;

/// Removes resources in the given order.
///
/// # Errors
/// Only when nothing can be tried at all.
pub(crate) fn discard(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &DiscardRequest,
) -> Result<Discarded> {
    if request.resources.is_empty() {
        return Ok(Discarded::default());
    }
    // The context's own runtime gives up when a stop was requested; this one must not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::internal("cannot prepare requests to the registry").caused_by(&error)
    })?;
    let stopped_before = context.is_cancelled();
    runtime.block_on(async {
        let open = Registry::open(context, config, session, Policy::BRIEF);
        let registry = unless_stopped(context, stopped_before, open).await;
        let mut answer = Discarded::default();
        for resource in &request.resources {
            let removed = match &registry {
                Ok(registry) => {
                    let removal = Removal { context, registry, request };
                    unless_stopped(context, stopped_before, removal.remove(resource)).await
                }
                Err(error) => Err(error.clone()),
            };
            match removed {
                Ok(()) => {
                    // The answer reports it as well; a full disk must not keep the rest from being removed.
                    if let Err(error) = context.gone(resource) {
                        tracing::warn!(%error, "a removed resource was not recorded");
                    }
                    answer.removed.push(resource.clone());
                }
                Err(error) => answer.remaining.push(
                    Remaining::new(resource.clone(), error.to_string())
                        .hint(remedy(config, resource, error)),
                ),
            }
        }
        Ok(answer)
    })
}

/// Runs a call; it ends when the host requests a stop in the meantime.
async fn unless_stopped<T>(
    context: &Context,
    stopped_before: bool,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let stopped = async {
        while stopped_before || !context.is_cancelled() {
            tokio::time::sleep(STOP_POLL).await;
        }
    };
    tokio::select! {
        biased;
        result = call => result,
        () = stopped => Err(Error::cancelled()),
    }
}

struct Removal<'a> {
    context: &'a Context,
    registry: &'a Registry,
    request: &'a DiscardRequest,
}

impl Removal<'_> {
    async fn remove(&self, resource: &Resource) -> Result<()> {
        Owner::of(self.registry).may_remove(resource)?;
        match resource.kind.as_str() {
            SESSION => self.cancel(resource).await,
            TAG => self.remove_tag(resource).await,
            MANIFEST => match resource.attributes.get(MARK) {
                Some(mark) => self.remove_marked(&resource.name, mark).await,
                None => self.remove_manifest(&resource.name).await,
            },
            kind => Err(Error::unsupported(
                format!("this provider creates no resources of kind `{kind}`"),
                "use the version that created it",
            )),
        }
    }

    /// Cancels a session. The checkpoint has its newest URL. One whose URL never arrived cannot be named, and ends by
    /// itself.
    async fn cancel(&self, resource: &Resource) -> Result<()> {
        let started: Option<Started> = self.context.load(STARTED)?;
        let newest = started.and_then(|started| started.session);
        let open = newest.filter(|open| open.name == resource.name).or_else(|| {
            Some(Open {
                name: resource.name.clone(),
                location: resource.attributes.get(LOCATION)?.clone(),
                offset: 0,
                shortest_chunk: 0,
            })
        });
        match open {
            Some(open) => Ok(open.cancel(self.registry).await?),
            None => Ok(()),
        }
    }

    /// Moves a tag back to what it was, or removes it. A tag that refers to something else belongs to others by now.
    async fn remove_tag(&self, resource: &Resource) -> Result<()> {
        let (registry, tag) = (self.registry, &resource.name);
        let digest = resource.attributes.get(NEW).map_or("", String::as_str);
        if tag_state(registry, tag).await? != TagState::At(digest.to_owned()) {
            return Ok(());
        }
        if let Some(old) = resource.attributes.get(OLD) {
            return self.restore(tag, old).await;
        }
        let call = Call::new(Method::DELETE, registry.url(&format!("manifests/{tag}"))?);
        let what = format!("remove tag `{tag}`");
        let refused = match registry.call(&call, &what).await {
            Ok(_) => None,
            Err(failure) if failure.has_status(404) => None,
            // "If tag deletion is disabled, the registry MUST respond with either a 400 or a 405".
            Err(failure) if failure.has_status(400) || failure.has_status(405) => Some(failure),
            Err(failure) => return Err(failure.into()),
        };
        let is_ours = |other: &Resource| other.kind == MANIFEST && other.name == digest;
        if let Some(refusal) = refused {
            if !self.request.resources.iter().any(is_ours) {
                return Err(Error::new(ErrorKind::Unsupported, format!("cannot {what}: the registry removes no single tags, and other tags may refer to its image"))
                    .caused_by(&*refusal.error));
            }
            self.remove_manifest(digest).await?;
        }
        match tag_state(registry, tag).await? {
            // The image of another build with the same content stays, and with it the mark of this one.
            TagState::At(now) if now == digest && Mark::read(tag).is_some() => Ok(()),
            TagState::At(now) if now == digest => Err(Error::new(
                ErrorKind::Conflict,
                format!("tag `{tag}` still exists after its removal"),
            )),
            _ => Ok(()),
        }
    }

    /// Sets a tag to the manifest that it had before.
    async fn restore(&self, tag: &str, old: &str) -> Result<()> {
        let Some(answer) = get_manifest(self.registry, old).await? else {
            let message = format!(
                "tag `{tag}` cannot be moved back: `{old}`, which it had, does not exist any more"
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        if digest_of(&answer.body) != old {
            let message = format!("tag `{tag}` is not moved back: `{old}` has another digest now");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let media_type =
            answer.header("content-type").unwrap_or(crate::manifest::MANIFEST).to_owned();
        put(self.registry, tag, &media_type, &answer.body).await?;
        Ok(())
    }

    /// Deletes a manifest that was found by its mark, with all its tags, while it still has the mark. One that was not
    /// complete may have become the image of another run since.
    async fn remove_marked(&self, digest: &str, mark: &str) -> Result<()> {
        if tag_state(self.registry, mark).await? != TagState::At(digest.to_owned()) {
            return Ok(());
        }
        if Mark::read(mark).is_some_and(|mark| mark.is_begun())
            && let Some(tag) =
                self.other_tag(digest, |tag| tag == mark || is_abandoned(tag)).await?
        {
            let message = format!("tag `{tag}` refers to manifest `{digest}` by now, which stays");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("look at the image: build-image images list --all"));
        }
        self.delete(digest).await
    }

    async fn delete(&self, digest: &str) -> Result<()> {
        let registry = self.registry;
        let call = Call::new(Method::DELETE, registry.url(&format!("manifests/{digest}"))?);
        match registry.call(&call, &format!("delete manifest `{digest}`")).await {
            Err(failure) if !failure.has_status(404) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Deletes a manifest, unless a tag refers to it that this run does not remove.
    async fn remove_manifest(&self, digest: &str) -> Result<()> {
        let registry = self.registry;
        if get_manifest(registry, digest).await?.is_none() {
            return Ok(());
        }
        let is_own = |other: &&Resource| {
            other.kind == TAG && other.attributes.get(NEW).is_some_and(|one| one == digest)
        };
        let own: Vec<&Resource> = self.request.resources.iter().filter(is_own).collect();
        for tag in &own {
            // Deleting a manifest may remove its tags, so those of other images are moved back before.
            if let Some(old) = tag.attributes.get(OLD)
                && tag_state(registry, &tag.name).await? == TagState::At(digest.to_owned())
            {
                self.restore(&tag.name, old).await?;
            }
        }
        let own: Vec<&str> = own.iter().map(|tag| tag.name.as_str()).collect();
        let is_own = |tag: &str| own.contains(&tag) || is_abandoned(tag);
        if let Some(tag) = self.other_tag(digest, is_own).await? {
            // The image of another build with the same content.
            tracing::info!(%tag, %digest, "the manifest stays: a tag of another build refers to it");
            return Ok(());
        }
        self.delete(digest).await
    }

    /// Returns a tag that refers to a digest and does not count as one of the run.
    async fn other_tag(
        &self,
        digest: &str,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, Failure> {
        let registry = self.registry;
        let mut url = registry.url("tags/list")?;
        let what = "list the tags of the repository";
        let mut seen = 0;
        loop {
            let Some(answer) = registry.find(&Call::new(Method::GET, url.clone()), what).await?
            else {
                return Ok(None);
            };
            let document = answer.document(what)?;
            let tags = document["tags"].as_array().cloned().unwrap_or_default();
            for tag in tags.iter().filter_map(serde_json::Value::as_str) {
                if !is_own(tag)
                    && tag_state(registry, tag).await? == TagState::At(digest.to_owned())
                {
                    return Ok(Some(tag.to_owned()));
                }
            }
            seen += tags.len();
            // "Listing Tags": a page ends with a link to the next one.
            let next =
                answer.header("link").and_then(next_page).map(|next| registry.join(&url, next));
            match next {
                Some(next) if seen < MOST_TAGS => url = next?,
                Some(_) => {
                    let message = format!(
                        "the repository has more than {MOST_TAGS} tags, each of which may refer to `{digest}`"
                    );
                    return Err(Failure::stop(Error::new(ErrorKind::Conflict, message)));
                }
                None => return Ok(None),
            }
        }
    }
}

/// Whether a tag is the mark of a run that has begun an image, and is not at work any more.
fn is_abandoned(tag: &str) -> bool {
    Mark::read(tag).is_some_and(|mark| mark.is_begun() && !mark.is_leased())
}

/// Returns the target of `<…>; rel="next"` (RFC 8288).
pub(crate) fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(target)
}

/// The remedy for a resource that could not be removed.
fn remedy(config: &Config, resource: &Resource, error: Error) -> String {
    let name = config.reference.name();
    let is_kept = matches!(error.kind, ErrorKind::Config | ErrorKind::Auth | ErrorKind::Conflict);
    let kept = error.hint.filter(|_| is_kept);
    kept.unwrap_or_else(|| match resource.kind.as_str() {
        SESSION => "nothing needs to be done: registries end uploads by themselves".to_owned(),
        TAG if resource.attributes.contains_key(OLD) => {
            let old = resource.attributes.get(OLD).map_or("", String::as_str);
            format!("skopeo copy --all docker://{name}@{old} docker://{name}:{}", resource.name)
        }
        TAG => format!(
            "remove the tag in the registry's interface, or with `skopeo delete docker://{name}:{}`, which removes all tags of the image; Distribution needs `storage.delete.enabled: true`",
            resource.name
        ),
        _ => format!(
            "skopeo delete docker://{name}@{}; Distribution needs `storage.delete.enabled: true`",
            resource.name
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_of_a_list_is_found() {
        for (link, expected) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            ("<https://r/v2>; rel=next", Some("https://r/v2")),
            (r#"</v2>; rel="prev""#, None),
            ("", None),
        ] {
            assert_eq!(next_page(link), expected);
        }
    }
}

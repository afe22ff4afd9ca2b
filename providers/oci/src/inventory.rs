//! Lists the images of the repository that runs have created, by their marks. Reads only.
//!
//! OCI distribution specification 1.1, "Listing Tags". The specification has no list of uploads in progress, and none of
//! manifests without a tag.

use std::{collections::BTreeMap, sync::Arc};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState},
    http::Answer,
    ready::inventory,
    retry::{Failure, Policy},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::Value;

use crate::{
    config::Config,
    discard::next_page,
    flow::digest_of,
    http::{Meaning as _, foreign},
    marks::{self, Mark},
    owner::Owner,
    publish::{MANIFEST, MARK, get_manifest},
    registry::{Call, Registry, Session},
};

/// Most tags of a repository that are read.
const MOST_TAGS: usize = 10_000;
/// Manifests that are read at once.
const AT_ONCE: usize = 8;
/// Annotation with the name of an image.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";

/// Lists the repository of the settings.
///
/// # Errors
/// A registry that cannot be read.
pub(crate) fn inventory(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &InventoryRequest,
) -> Result<Inventory> {
    context.check_cancelled()?;
    context.block_on(async {
        let registry = Registry::open(context, config, session, Policy::BRIEF).await?;
        let mut answer = Inventory::default();
        for region in &request.regions {
            let message = format!("a registry has no regions, and so not `{region}`");
            let error = Error::new(ErrorKind::NotFound, message).with_hint("name no region");
            answer.findings.push(Finding::error(region, &error));
        }
        if answer.findings.is_empty() {
            answer.items = read(&registry, request).await?;
            answer.findings.extend(unseen(&registry, request));
        }
        inventory::cut(request, &mut answer);
        Ok(answer)
    })
}

/// What the registry has and does not list.
fn unseen(registry: &Registry, request: &InventoryRequest) -> Option<Finding> {
    let asked = request.kinds.is_empty() || request.kinds.contains(&ItemKind::Upload);
    let name = registry.reference.name();
    (asked && request.items.is_empty()).then(|| {
        Finding::warning(
            "uploads",
            format!("`{name}` may have unfinished uploads: registries do not list them"),
            "nothing needs to be done: a registry ends them by itself, and its garbage collection removes manifests without a tag",
        )
    })
}

async fn read(registry: &Registry, request: &InventoryRequest) -> Result<Vec<Item>> {
    let tags = tags(registry).await?;
    let unfinished = marks::unfinished(&tags);
    // Only an image without another tag is what an unfinished run has left.
    let all = request.details || !unfinished.is_empty();
    let is_read = |tag: &&String| match Mark::read(tag) {
        Some(mark) => !mark.is_begun() || unfinished.contains(tag),
        None => all,
    };
    let mut images: BTreeMap<String, Found> = BTreeMap::new();
    let mut reads = stream::iter(tags.iter().filter(is_read))
        .map(|tag| async move { Ok::<_, Failure>((tag, get_manifest(registry, tag).await?)) })
        .buffered(AT_ONCE);
    while let Some((tag, answer)) = reads.try_next().await? {
        // A tag that was removed meanwhile has no manifest.
        let Some(answer) = answer else { continue };
        let digest = digest_of(&answer.body);
        let found = images.entry(digest).or_insert_with(|| Found::new(answer));
        match Mark::read(tag) {
            Some(mark) => found.marks.push((tag.clone(), mark)),
            None => found.tags.push(tag.clone()),
        }
    }
    let mut named = Vec::new();
    for reference in &request.items {
        let digest = digest_in(registry, &reference.id).filter(|_| reference.region.is_none());
        let is_image = matches!(reference.kind, ItemKind::Image | ItemKind::Other);
        let Some(digest) = digest.filter(|_| is_image) else { continue };
        if !images.contains_key(&digest)
            && let Some(answer) = get_manifest(registry, &digest).await?
        {
            images.insert(digest.clone(), Found::new(answer));
        }
        named.push(digest);
    }
    let items =
        images.into_iter().filter(|(digest, _)| request.items.is_empty() || named.contains(digest));
    let items: Result<Vec<Item>, Failure> =
        items.map(|(digest, found)| found.item(registry, &digest, request)).collect();
    let mut items = items?;
    items.retain(|item| matches(request, item));
    Ok(items)
}

/// Returns all tags of the repository; none when it does not exist.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn tags(registry: &Registry) -> Result<Vec<String>, Failure> {
    let what = "list the tags of the repository";
    let mut url = registry.url("tags/list")?;
    let mut found = Vec::new();
    loop {
        let call = Call::new(Method::GET, url.clone());
        let listed = registry.find(&call, what).await.map_err(unlisted);
        let Some(answer) = listed? else { return Ok(found) };
        let document = answer.document(what)?;
        let page = document["tags"].as_array().into_iter().flatten();
        found.extend(page.filter_map(|tag| tag.as_str().map(str::to_owned)));
        // A page ends with a link to the next one.
        let next = answer.header("link").and_then(next_page).map(|next| registry.join(&url, next));
        match next {
            Some(next) if found.len() < MOST_TAGS => url = next?,
            Some(_) => {
                let message = format!("the repository has more than {MOST_TAGS} tags");
                let hint = "use a repository for each family of images";
                return Err(Failure::stop(Error::new(ErrorKind::Quota, message).with_hint(hint)));
            }
            None => return Ok(found),
        }
    }
}

/// Says what a registry that does not list tags means for its images.
fn unlisted(mut failure: Failure) -> Failure {
    if matches!(failure.status, Some(403 | 405 | 501)) {
        let hint = "images of builds are found by their tags: ask the registry's operator for permission to pull and to list tags";
        failure.error.hint = Some(hint.to_owned());
    }
    failure
}

/// Returns the digest in an identifier of this repository: `NAME@DIGEST`, or a digest.
pub(crate) fn digest_in(registry: &Registry, id: &str) -> Option<String> {
    let name = registry.reference.name();
    let digest = id.strip_prefix(&name).and_then(|rest| rest.strip_prefix('@')).unwrap_or(id);
    marks::is_digest(digest.strip_prefix("sha256:")?).then(|| digest.to_owned())
}

/// A manifest, and the tags that refer to it as far as they were read.
struct Found {
    answer: Answer,
    marks: Vec<(String, Mark)>,
    tags: Vec<String>,
}

impl Found {
    fn new(answer: Answer) -> Self {
        Self { answer, marks: Vec::new(), tags: Vec::new() }
    }

    fn item(
        mut self,
        registry: &Registry,
        digest: &str,
        request: &InventoryRequest,
    ) -> Result<Item, Failure> {
        let manifest =
            self.answer.json().ok_or_else(|| foreign(&format!("read manifest `{digest}`")))?;
        // Runs that have created the same manifest at once have a mark each.
        let is_wanted = |mark: &Mark| request.run_id.as_ref().is_none_or(|run| *run == mark.run_id);
        self.marks.sort_by_key(|(_, mark)| (!is_wanted(mark), mark.is_begun(), mark.created));
        let mark = self.marks.first();
        let resource = Resource::new(MANIFEST, digest).with_id(digest);
        let resource = Owner::of(registry).mark(resource).as_deliverable();
        let resource = match mark {
            Some((tag, _)) => resource.with(MARK, tag),
            None => resource,
        };
        let id = format!("{}@{digest}", registry.reference.name());
        let mut item = described(Item::new(ItemKind::Image, id, resource), &manifest)
            .state(ItemState::Available)
            .tags(self.tags.iter().map(|tag| (tag, "")));
        if let Some((_, mark)) = mark {
            item.run_id = Some(mark.run_id.clone());
            item.created = Some(mark.created);
            item.disk_digest = self.marks.iter().find_map(|(_, mark)| mark.disk_digest());
            if self.tags.is_empty() && self.marks.iter().all(|(_, mark)| mark.is_begun()) {
                item = item.state(ItemState::Pending);
                item.leased_until = self.marks.iter().map(|(_, mark)| mark.leased_until()).max();
            }
        }
        Ok(item)
    }
}

/// Adds what the manifest says.
fn described(item: Item, manifest: &Value) -> Item {
    let annotations = manifest["annotations"].as_object().into_iter().flatten();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let mut attributes: BTreeMap<String, String> = annotations.filter_map(text).collect();
    let name = attributes.remove(TITLE).unwrap_or_default();
    for member in ["mediaType", "artifactType"] {
        if let Some(value) = manifest[member].as_str() {
            attributes.insert(member.to_owned(), value.to_owned());
        }
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let layers: Vec<&Value> = layers.collect();
    if let Some(digest) = layers.first().and_then(|layer| layer["digest"].as_str()) {
        attributes.insert("layer".to_owned(), digest.to_owned());
    }
    let blobs = layers.into_iter().chain([&manifest["config"]]);
    let size = blobs.filter_map(|blob| blob["size"].as_u64()).fold(0, u64::saturating_add);
    let item = item.name(name).attributes(attributes);
    if size > 0 { item.size_bytes(size) } else { item }
}

fn matches(request: &InventoryRequest, item: &Item) -> bool {
    let created = item.created.unwrap_or_default();
    // What no run has created is listed only when it is named.
    (item.run_id.is_some() || !request.items.is_empty())
        && (request.run_id.is_none() || request.run_id == item.run_id)
        && (request.kinds.is_empty() || request.kinds.contains(&item.kind))
        && (request.names.is_empty() || request.names.contains(&item.name))
        && request.tags.iter().all(|(key, value)| item.tags.get(key) == Some(value))
        && request.created_since.is_none_or(|since| created >= since)
        && request.created_before.is_none_or(|before| created < before)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_describes_its_item() {
        let manifest = json!({
            "mediaType": "m", "artifactType": "a",
            "config": {"size": 2}, "layers": [{"size": 40, "digest": "sha256:1"}, {"size": 7}],
            "annotations": {TITLE: "disk", "team": "images"},
        });
        let item = Item::new(ItemKind::Image, "i", Resource::default());
        let found = described(item.clone(), &manifest);
        assert_eq!((found.name.as_str(), found.size_bytes), ("disk", Some(49)));
        let attributes =
            [("artifactType", "a"), ("layer", "sha256:1"), ("mediaType", "m"), ("team", "images")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found.attributes, attributes.into());
        // An index has neither layers nor a configuration.
        let found = described(item, &json!({"mediaType": "index", "manifests": []}));
        assert_eq!((found.name.as_str(), found.size_bytes), ("", None));
    }

    #[test]
    fn filters_select_items() {
        let item = Item::new(ItemKind::Image, "i", Resource::default())
            .name("n")
            .run_id("r")
            .created(100)
            .tags([("13", "")]);
        let mut foreign = item.clone();
        foreign.run_id = None;
        let request = InventoryRequest::default;
        let named = [build_image_plugin_api::document::Reference::image("i")];
        for (request, of_item, of_foreign) in [
            (request(), true, false),
            (request().run_id("r"), true, false),
            (request().run_id("s"), false, false),
            (request().kinds([ItemKind::Upload]), false, false),
            (request().names(["n"]), true, false),
            (request().names(["m"]), false, false),
            (request().tags([("13", "")]), true, false),
            (request().tags([("14", "")]), false, false),
            (request().created_since(101), false, false),
            (request().created_before(101), true, false),
            (request().items(named), true, true),
        ] {
            let found = (matches(&request, &item), matches(&request, &foreign));
            assert_eq!(found, (of_item, of_foreign), "{request:?}");
        }
    }
}

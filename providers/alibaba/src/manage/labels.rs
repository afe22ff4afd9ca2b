//! Sets and removes tags of images and of their snapshots.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result, retry::Failure};

use super::{Done, Manager, Target, count};
use crate::{client::CALL, listing::Snapshot, marks::is_mark, names::tag_problems};

/// Tags by the kind and identifier of what has them.
type Tagged = Vec<(&'static str, String, BTreeMap<String, String>)>;

impl Manager<'_> {
    /// Sets tags.
    pub(super) async fn tag(&self, target: &Target, tags: &BTreeMap<String, String>) -> Done {
        refuse_marks(tags.keys())?;
        if let Some(problem) = tag_problems(tags).into_iter().next() {
            return Err(problem.with_hint("change the tag"));
        }
        let lacks = |of: &BTreeMap<String, String>| {
            tags.iter().any(|(key, value)| of.get(key) != Some(value))
        };
        let differ = self.tagged(target).await?.into_iter().filter(|(.., of)| lacks(of));
        let differ: Tagged = differ.collect();
        if differ.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            for (kind, ids) in by_kind(&differ) {
                target.ecs.tag(kind, &ids, tags, &CALL).await?;
            }
        }
        Ok(Some(format!("{} set", count(tags.len(), "tag"))))
    }

    /// Removes tags.
    pub(super) async fn untag(&self, target: &Target, keys: &[String]) -> Done {
        refuse_marks(keys.iter())?;
        let has = |of: &BTreeMap<String, String>| keys.iter().any(|key| of.contains_key(key));
        let differ = self.tagged(target).await?.into_iter().filter(|(.., of)| has(of));
        let differ: Tagged = differ.collect();
        if differ.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            for (kind, ids) in by_kind(&differ) {
                target.ecs.untag(kind, &ids, keys, &CALL).await?;
            }
        }
        Ok(Some(format!("{} removed", count(keys.len(), "tag"))))
    }

    /// The image and its snapshots, with their tags.
    async fn tagged(&self, target: &Target) -> Result<Tagged, Failure> {
        let image = &target.image;
        let snapshots = target.ecs.snapshots_of(&image.snapshots(), &CALL).await?;
        let mut all = vec![("image", image.image_id.clone(), image.tags())];
        let of = |snapshot: Snapshot| {
            let tags = snapshot.tags();
            ("snapshot", snapshot.snapshot_id, tags)
        };
        all.extend(snapshots.into_iter().map(of));
        Ok(all)
    }
}

/// Identifiers by kind. The image is last: by its tags, a call that ends before is repeated.
fn by_kind(tagged: &Tagged) -> [(&'static str, Vec<String>); 2] {
    ["snapshot", "image"].map(|kind| {
        let those = tagged.iter().filter(|(of, ..)| *of == kind);
        (kind, those.map(|(_, id, _)| id.clone()).collect())
    })
}

fn refuse_marks<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<()> {
    match keys.find(|key| is_mark(key)) {
        None => Ok(()),
        Some(key) => Err(Error::config(format!("tag `{key}` is the mark of a build and stays"))
            .with_hint("leave out keys that begin with `build-image-`")),
    }
}

//! Implements TagResources, UntagResources, and ListTagResources for images and snapshots, and the older
//! AddTags and RemoveTags, which name one resource.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::checks;
use super::error::AcsError;
use super::params::Params;
use super::region;
use crate::service::Context;
use crate::state::World;

const MAX_RESOURCES: usize = 50;
const MAX_TAGS: usize = 20;

/// Tags in the form that images and snapshots list them.
pub(crate) fn list_of(tags: &BTreeMap<String, String>) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({ "TagKey": key, "TagValue": value })).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Snapshot,
}

impl Kind {
    fn read(params: &Params) -> Result<Self, AcsError> {
        match params.need("ResourceType")? {
            "image" => Ok(Self::Image),
            "snapshot" => Ok(Self::Snapshot),
            _ => Err(AcsError::invalid("InvalidResourceType.NotFound", "ResourceType")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Snapshot => "snapshot",
        }
    }

    fn tags(
        self,
        world: &World,
        (account, region): (&str, &str),
        id: &str,
    ) -> Option<BTreeMap<String, String>> {
        match self {
            Self::Image => {
                let image = world.images.get(id).filter(|image| image.owner == account)?;
                (image.region == region).then(|| image.tags.clone())
            }
            Self::Snapshot => {
                let snapshot = world.snapshots.get(id).filter(|found| found.owner == account)?;
                (snapshot.region == region).then(|| snapshot.tags.clone())
            }
        }
    }

    fn set(
        self,
        world: &mut World,
        id: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(), AcsError> {
        match self {
            Self::Image => {
                if let Some(mut image) = world.images.get(id).cloned() {
                    image.tags = tags;
                    world.images.put(image)?;
                }
            }
            Self::Snapshot => {
                if let Some(mut snapshot) = world.snapshots.get(id).cloned() {
                    snapshot.tags = tags;
                    world.snapshots.put(snapshot)?;
                }
            }
        }
        Ok(())
    }
}

fn resources(params: &Params) -> Result<Vec<&str>, AcsError> {
    let ids = params.list("ResourceId");
    if ids.is_empty() {
        return Err(AcsError::missing("ResourceId"));
    }
    if ids.len() > MAX_RESOURCES {
        return Err(AcsError::new(
            400,
            "NumberExceed.ResourceIds",
            "The ResourceIds parameter's number is exceed.",
        ));
    }
    Ok(ids)
}

/// Changes the tags of every resource that a call names, or of none when one is missing.
fn change(
    context: &Context<'_>,
    params: &Params,
    ids: Vec<&str>,
    edit: impl Fn(&mut BTreeMap<String, String>),
) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let kind = Kind::read(params)?;
    let mut world = context.store.world();
    let mut changed = Vec::new();
    for id in ids {
        let mut tags = kind.tags(&world, (context.account, region), id).ok_or_else(|| {
            AcsError::new(
                404,
                "InvalidResourceId.NotFound",
                "The specified ResourceIds are not found in our records.",
            )
        })?;
        edit(&mut tags);
        if tags.len() > MAX_TAGS {
            return Err(AcsError::new(
                403,
                "QuotaExceed.TagNum",
                "The number of tags of a resource exceeds 20.",
            ));
        }
        changed.push((id, tags));
    }
    for (id, tags) in changed {
        kind.set(&mut world, id, tags)?;
    }
    Ok(json!({}))
}

/// TagResources.
pub(crate) fn add(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let new = checks::tags(params)?;
    if new.is_empty() {
        return Err(AcsError::missing("Tag"));
    }
    change(context, params, resources(params)?, |tags| tags.extend(new.clone()))
}

/// AddTags.
pub(crate) fn add_old(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let new = checks::tags(params)?;
    if new.is_empty() {
        return Err(AcsError::missing("Tag.n.Key"));
    }
    change(context, params, vec![params.need("ResourceId")?], |tags| tags.extend(new.clone()))
}

/// RemoveTags: the named keys; a given value must match the tag's.
pub(crate) fn remove_old(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let gone = params.tags();
    let goes = |key: &str, value: &str| {
        gone.iter().any(|(name, wanted)| name == key && (wanted.is_empty() || wanted == value))
    };
    change(context, params, vec![params.need("ResourceId")?], |tags| {
        tags.retain(|key, value| !goes(key, value));
    })
}

/// UntagResources: the named keys, or all with `All=true`.
pub(crate) fn remove(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let keys = params.list("TagKey");
    let all = params.flag("All") && keys.is_empty();
    change(context, params, resources(params)?, |tags| {
        tags.retain(|key, _| !all && !keys.contains(&key.as_str()));
    })
}

/// ListTagResources. Everything fits on one page here: the token for the next page is always empty.
pub(crate) fn list(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let kind = Kind::read(params)?;
    let wanted = params.tags();
    let world = context.store.world();
    let ids: Vec<String> = match (params.list("ResourceId"), kind) {
        (ids, _) if !ids.is_empty() => ids.into_iter().map(str::to_owned).collect(),
        (_, Kind::Image) => world.images.iter().map(|image| image.id.clone()).collect(),
        (_, Kind::Snapshot) => world.snapshots.iter().map(|found| found.id.clone()).collect(),
    };
    let mut rows = Vec::new();
    for id in ids {
        let tags = kind.tags(&world, (context.account, region), &id).unwrap_or_default();
        if !checks::has_tags(&tags, &wanted) {
            continue;
        }
        for (key, value) in tags {
            if wanted.is_empty() || wanted.iter().any(|(name, _)| *name == key) {
                rows.push(json!({
                    "ResourceType": kind.name(),
                    "ResourceId": id,
                    "TagKey": key,
                    "TagValue": value,
                }));
            }
        }
    }
    Ok(json!({ "NextToken": "", "TagResources": { "TagResource": rows } }))
}

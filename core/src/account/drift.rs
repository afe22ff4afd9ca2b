//! Compares images with the one that they are copies of.

use std::collections::{BTreeMap, BTreeSet};

use build_image_plugin_api::document::{Action, Audience, Item, ItemState};
use serde::Serialize;

/// What the keys of marks start with: each copy has its own.
const MARKS: &str = "build-image";

/// A difference between an image and a copy of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs, such as `tag owner`.
    pub subject: String,
    /// What the image has.
    pub wanted: String,
    /// What the copy has.
    pub found: String,
    /// What makes the copy as the image is; absent where only another copy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<Action>,
}

/// Returns in what a copy differs from its image. Both must have been listed with their details.
#[must_use]
pub fn compare(image: &Item, copy: &Item) -> Vec<Difference> {
    let mut found = Vec::new();
    if copy.state == ItemState::Pending {
        return vec![different("state", "complete", "being copied", None)];
    }
    if matches!(copy.state, ItemState::Failed | ItemState::Deleting) {
        return vec![different("state", "complete", "failed or being deleted", None)];
    }
    if image.name != copy.name {
        found.push(different("name", &image.name, &copy.name, None));
    }
    attributes(image, copy, &mut found);
    tags(image, copy, &mut found);
    access(image, copy, &mut found);
    deprecation(image, copy, &mut found);
    found
}

fn different(subject: &str, wanted: &str, found: &str, repair: Option<Action>) -> Difference {
    let (subject, wanted, found) = (subject.to_owned(), wanted.to_owned(), found.to_owned());
    Difference { subject, wanted, found, repair }
}

fn attributes(image: &Item, copy: &Item, found: &mut Vec<Difference>) {
    let none = String::new();
    let keys: BTreeSet<&String> = image.attributes.keys().chain(copy.attributes.keys()).collect();
    for key in keys {
        let wanted = image.attributes.get(key).unwrap_or(&none);
        let has = copy.attributes.get(key).unwrap_or(&none);
        if wanted != has {
            found.push(different(&format!("attribute {key}"), wanted, has, None));
        }
    }
}

fn tags(image: &Item, copy: &Item, found: &mut Vec<Difference>) {
    for (key, wanted) in image.tags.iter().filter(|(key, _)| !is_mark(image, key)) {
        let has = copy.tags.get(key);
        if has != Some(wanted) {
            let tags = BTreeMap::from([(key.clone(), wanted.clone())]);
            let has = has.map_or("", String::as_str);
            let repair = Some(Action::Tag { tags });
            found.push(different(&format!("tag {key}"), wanted, has, repair));
        }
    }
    for (key, has) in copy.tags.iter().filter(|(key, _)| !is_mark(copy, key)) {
        if !image.tags.contains_key(key) {
            let repair = Some(Action::Untag { keys: vec![key.clone()] });
            found.push(different(&format!("tag {key}"), "", has, repair));
        }
    }
}

/// Whether a tag is the mark of a build.
fn is_mark(item: &Item, key: &str) -> bool {
    let value = item.tags.get(key).filter(|value| !value.is_empty());
    key.starts_with(MARKS) || value.is_some() && value == item.run_id.as_ref()
}

fn access(image: &Item, copy: &Item, found: &mut Vec<Difference>) {
    let is_known = |audience| audience != Audience::Unknown;
    if image.audience != copy.audience && is_known(image.audience) && is_known(copy.audience) {
        let repair = Some(Action::Publish { audience: image.audience });
        let (wanted, has) = (audience(image.audience), audience(copy.audience));
        found.push(different("audience", wanted, has, repair));
    }
    let (Some(wanted), Some(has)) = (&image.shared_with, &copy.shared_with) else { return };
    let missing: Vec<String> =
        wanted.iter().filter(|account| !has.contains(account)).cloned().collect();
    let extra: Vec<String> =
        has.iter().filter(|account| !wanted.contains(account)).cloned().collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        found.push(different("accounts", &names, "", Some(Action::Share { accounts: missing })));
    }
    if !extra.is_empty() {
        let names = extra.join(", ");
        let repair = Some(Action::Unshare { accounts: extra, everyone: false });
        found.push(different("accounts", "", &names, repair));
    }
}

fn deprecation(image: &Item, copy: &Item, found: &mut Vec<Difference>) {
    let is_deprecated =
        |item: &Item| item.state == ItemState::Deprecated || item.deprecated_at.is_some();
    let text = |item: &Item| match item.deprecated_at {
        Some(at) => format!("from {at}"),
        None if is_deprecated(item) => "now".to_owned(),
        None => "no".to_owned(),
    };
    if (is_deprecated(image), image.deprecated_at) == (is_deprecated(copy), copy.deprecated_at) {
        return;
    }
    let repair = if is_deprecated(image) {
        Action::Deprecate {
            at: image.deprecated_at,
            disabled_at: None,
            replacement: None,
            reason: String::new(),
        }
    } else {
        Action::Restore
    };
    found.push(different("deprecated", &text(image), &text(copy), Some(repair)));
}

/// Returns the word for an audience.
pub(crate) fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::Private => "private",
        Audience::Community => "community",
        Audience::Public => "public",
        _ => "unknown",
    }
}

//! Compares images with the one that they are copies of.

use std::collections::{BTreeMap, BTreeSet};

use build_image_plugin_api::document::{Action, Audience, Item, ItemState};
use serde::Serialize;

/// What the keys of marks start with: each copy has its own.
const MARKS: &str = "build-image";
/// Attribute of an image: `yes` or `no`.
pub(super) const ENCRYPTED: &str = "encrypted";
/// Attribute of an image: the key that encrypts it.
pub(super) const KEY: &str = "kms_key";

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
    /// What the user can do where there is nothing that repairs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Difference {
    /// Creates a difference that only the user removes.
    #[must_use]
    pub fn to_decide(subject: &str, wanted: &str, found: &str, advice: String) -> Self {
        Self { advice: Some(advice), ..different(subject, wanted, found, None) }
    }

    /// Returns the difference for a provider that changes neither names nor attributes.
    #[must_use]
    pub fn without_modify(mut self, id: &str) -> Self {
        if matches!(self.repair, Some(Action::Modify { .. })) {
            self.repair = None;
            self.advice = Some(format!(
                "change it with the tools of the cloud, or delete image {id} and repeat the command"
            ));
        }
        self
    }
}

/// Returns in what a copy differs from its image. Both must have been listed with their details.
#[must_use]
pub fn compare(image: &Item, copy: &Item) -> Vec<Difference> {
    let mut found = Vec::new();
    if copy.state == ItemState::Pending {
        let advice = "wait until it is complete, and repeat the command".to_owned();
        return vec![Difference::to_decide("state", "complete", "being copied", advice)];
    }
    if matches!(copy.state, ItemState::Failed | ItemState::Deleting) {
        let advice = format!("{}; it copies the image again", delete_first(copy));
        return vec![Difference::to_decide("state", "complete", "failed or being deleted", advice)];
    }
    if image.name != copy.name {
        let name = Some(image.name.clone());
        let repair = Some(Action::Modify { name, attributes: BTreeMap::new() });
        found.push(different("name", &image.name, &copy.name, repair));
    }
    attributes(image, copy, &mut found);
    tags(image, copy, &mut found);
    access(image, copy, &mut found);
    // The repairs are done in this order: clouds refuse some changes of deprecated images.
    if let Some(one) = deprecation(image, copy) {
        let is_restored = matches!(one.repair, Some(Action::Restore));
        found.insert(if is_restored { 0 } else { found.len() }, one);
    }
    found
}

fn different(subject: &str, wanted: &str, found: &str, repair: Option<Action>) -> Difference {
    let (subject, wanted, found) = (subject.to_owned(), wanted.to_owned(), found.to_owned());
    Difference { subject, wanted, found, repair, advice: None }
}

fn delete_first(copy: &Item) -> String {
    format!("delete it with build-image images delete {} --yes, and repeat the command", copy.id)
}

fn attributes(image: &Item, copy: &Item, found: &mut Vec<Difference>) {
    let none = String::new();
    let keys: BTreeSet<&String> = image.attributes.keys().chain(copy.attributes.keys()).collect();
    for key in keys {
        let wanted = image.attributes.get(key).unwrap_or(&none);
        let has = copy.attributes.get(key).unwrap_or(&none);
        if wanted == has || is_of_region(image, copy, key) {
            continue;
        }
        let subject = format!("attribute {key}");
        if [ENCRYPTED, KEY].contains(&key.as_str()) {
            found.push(Difference::to_decide(&subject, wanted, has, encrypt_again(copy)));
            continue;
        }
        let attributes = BTreeMap::from([(key.clone(), wanted.clone())]);
        let repair = Some(Action::Modify { name: None, attributes });
        found.push(different(&subject, wanted, has, repair));
    }
}

/// Whether each region decides about an attribute: keys belong to one region, and a copy may be encrypted where its image is
/// not. What a file declares is compared as in the same region.
fn is_of_region(image: &Item, copy: &Item, key: &str) -> bool {
    let more = || {
        image.attributes.get(ENCRYPTED).is_none_or(|value| value != "yes")
            && copy.attributes.get(ENCRYPTED).is_some_and(|value| value == "yes")
    };
    image.region != copy.region && (key == KEY || key == ENCRYPTED && more())
}

/// Says how an image gets another encryption: the data must be written again.
fn encrypt_again(copy: &Item) -> String {
    if copy.copied_from.is_some() {
        return format!(
            "{} with a file that declares a key of the region, in `keys`",
            delete_first(copy)
        );
    }
    "build the image again with the key".to_owned()
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

fn deprecation(image: &Item, copy: &Item) -> Option<Difference> {
    let is_deprecated =
        |item: &Item| item.state == ItemState::Deprecated || item.deprecated_at.is_some();
    let text = |item: &Item| match item.deprecated_at {
        Some(at) => format!("from {at}"),
        None if is_deprecated(item) => "now".to_owned(),
        None => "no".to_owned(),
    };
    if (is_deprecated(image), image.deprecated_at) == (is_deprecated(copy), copy.deprecated_at) {
        return None;
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
    Some(different("deprecated", &text(image), &text(copy), Some(repair)))
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

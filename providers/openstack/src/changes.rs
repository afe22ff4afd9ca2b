//! Determines what an action changes in the record of an image. Makes no requests.

use std::collections::BTreeSet;

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    document::{Action, Audience},
};
use serde_json::{Value, json};

use crate::{
    describe::{TAG_KEY, TAG_VALUE},
    image::Image,
    items::replacement_text,
    marks::{self, DEPRECATED_AT, REASON, REPLACEMENT},
};

/// What has to be changed, in this order; nothing when both are empty.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Operations on the record, for one request.
    pub(crate) operations: Vec<Value>,
    /// `deactivate` or `reactivate`.
    pub(crate) activation: Option<&'static str>,
    /// What it does, for people.
    pub(crate) summary: String,
}

impl Plan {
    fn of(operations: Vec<Value>, summary: impl Into<String>) -> Self {
        Self { operations, activation: None, summary: summary.into() }
    }

    /// Whether the image already is as the action wants it.
    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.activation.is_none()
    }
}

/// Returns what an action changes. `now` is in seconds since 1970-01-01 UTC; `hides`: the service can hide images.
///
/// # Errors
/// Values that the service cannot represent; a state of the image that does not permit the action.
pub(crate) fn plan(image: &Image, action: &Action, now: u64, hides: bool) -> Result<Plan> {
    match action {
        Action::Publish { audience } => publish(image, *audience),
        Action::Deprecate { at, disabled_at, replacement, reason } => {
            is_usable(image)?;
            is_hideable(hides)?;
            for (what, time) in [("deprecate", at), ("disable", disabled_at)] {
                if time.is_some_and(|time| time > now) {
                    return Err(Error::unsupported(
                        format!("the image service cannot {what} an image at a later time"),
                        "run the command at that time, without a time",
                    ));
                }
            }
            let known = image.text(DEPRECATED_AT).parse().ok();
            let text = |text: String| Some(text).filter(|text| !text.is_empty());
            let marks = [
                (DEPRECATED_AT, Some(at.or(known).unwrap_or(now).to_string())),
                (REPLACEMENT, replacement.as_ref().map(replacement_text)),
                (REASON, text(reason.clone())),
            ];
            let mut plan = Plan::of(hide(image, true), "deprecated");
            plan.operations
                .extend(marks.into_iter().filter_map(|(name, value)| set(image, name, value)));
            if disabled_at.is_some() && image.status() == "active" {
                (plan.activation, plan.summary) = (Some("deactivate"), "disabled".to_owned());
            }
            Ok(plan)
        }
        Action::Restore => {
            is_usable(image)?;
            let mut plan = Plan::of(hide(image, false), "restored");
            let marks = [DEPRECATED_AT, REPLACEMENT, REASON];
            plan.operations.extend(marks.iter().filter_map(|name| set(image, name, None)));
            plan.activation = (image.status() == "deactivated").then_some("reactivate");
            Ok(plan)
        }
        Action::Tag { tags } => {
            for (key, value) in tags {
                check_tag(key, value)?;
            }
            let mut wanted = without(image, tags.keys());
            wanted.extend(crate::properties::tags(tags));
            Ok(Plan::of(retag(image, &wanted), format!("{} set", count(tags.len(), "tag"))))
        }
        Action::Untag { keys } => {
            if let Some(key) = keys.iter().find(|key| key.starts_with(marks::PREFIX)) {
                return Err(mark(key));
            }
            let wanted = without(image, keys);
            Ok(Plan::of(retag(image, &wanted), format!("{} removed", count(keys.len(), "tag"))))
        }
        _ => Err(Error::internal("the action does not change the record of an image")),
    }
}

fn publish(image: &Image, audience: Audience) -> Result<Plan> {
    let now = image.text("visibility");
    let (wanted, summary) = match audience {
        Audience::Public => ("public", "published to everyone"),
        Audience::Community => ("community", "published to everyone who knows its id"),
        // A private image has no members: one that others could use may have had some, who keep their access.
        Audience::Private if now == "private" => ("private", ""),
        Audience::Private => ("shared", "withdrawn from everyone but its members"),
        _ => {
            return Err(Error::unsupported(
                "this release does not know the audience",
                "use `public`, `community`, or `private`",
            ));
        }
    };
    if now == wanted {
        return Ok(Plan::default());
    }
    is_usable(image)?;
    Ok(Plan::of(vec![json!({"op": "replace", "path": "/visibility", "value": wanted})], summary))
}

/// Refuses an image that is not complete.
///
/// # Errors
/// A conflict with its status.
pub(crate) fn is_usable(image: &Image) -> Result<()> {
    let (id, status) = (image.id(), image.status());
    if !matches!(status, "active" | "deactivated") {
        let message = format!("image `{id}` is {status}, not active");
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("wait until the build or import of the image ends"));
    }
    // The service would save the record as it was before.
    if image.is_importing() {
        let message = format!("the service is still importing or copying image `{id}`");
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("repeat it when the import has ended")
            .retryable());
    }
    Ok(())
}

fn is_hideable(hides: bool) -> Result<()> {
    if hides {
        return Ok(());
    }
    Err(Error::unsupported(
        "the image service is too old to hide images",
        "delete the image, or make it private",
    ))
}

fn hide(image: &Image, hidden: bool) -> Vec<Value> {
    if image.is("os_hidden") == hidden {
        return Vec::new();
    }
    vec![json!({"op": "replace", "path": "/os_hidden", "value": hidden})]
}

/// Sets or removes a property; `None` when it is so already.
fn set(image: &Image, name: &str, value: Option<String>) -> Option<Value> {
    let path = format!("/{name}");
    match (image.members.get(name), value) {
        (Some(now), Some(value)) if now.as_str() == Some(&value) => None,
        (Some(_), Some(value)) => Some(json!({"op": "replace", "path": path, "value": value})),
        (None, Some(value)) => Some(json!({"op": "add", "path": path, "value": value})),
        (Some(_), None) => Some(json!({"op": "remove", "path": path})),
        (None, None) => None,
    }
}

/// Returns the image's tags without those with these keys.
fn without<'a>(image: &Image, keys: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let keys: BTreeSet<&str> = keys.into_iter().map(String::as_str).collect();
    let key = |tag: &str| tag.split_once('=').map_or(tag, |(key, _)| key).to_owned();
    image.tags().into_iter().filter(|tag| !keys.contains(key(tag).as_str())).collect()
}

/// Sets all tags, in one operation.
fn retag(image: &Image, wanted: &BTreeSet<String>) -> Vec<Value> {
    if image.tags().into_iter().collect::<BTreeSet<_>>() == *wanted {
        return Vec::new();
    }
    vec![json!({"op": "replace", "path": "/tags", "value": wanted})]
}

fn mark(key: &str) -> Error {
    Error::config(format!("tag `{key}` is a mark of build-image"))
        .with_hint("choose a tag that does not begin with `build_image_`")
}

fn check_tag(key: &str, value: &str) -> Result<()> {
    if key.starts_with(marks::PREFIX) {
        return Err(mark(key));
    }
    let fits = |text: &str, most| text.chars().count() <= most && !text.contains(char::is_control);
    if key.is_empty() || key.contains('=') || !fits(key, TAG_KEY) || !fits(value, TAG_VALUE) {
        return Err(Error::config(format!("`{key}={value}` is not a tag")).with_hint(format!(
            "write a key of 1 to {TAG_KEY} characters without `=`, and a value of at most {TAG_VALUE}"
        )));
    }
    Ok(())
}

/// Writes a number with its noun, for people.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;

//! Deprecates images and restores them. The service knows only the state; the time and the replacement are tags.
//!
//! Source: ECS API documentation, `ModifyImageAttribute`.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, ErrorKind, Result, document::Reference};
use jiff::Timestamp;

use super::{Done, Manager, Target};
use crate::{
    client::CALL,
    describe::TAGS_OF_RESOURCE,
    image::Image,
    marks::{DEPRECATED, REPLACEMENT, write_image},
};

/// States of an image, in the words of the service.
const AVAILABLE: &str = "Available";
const OBSOLETE: &str = "Deprecated";

/// How an image is to be deprecated.
pub(super) struct Deprecation<'a> {
    pub(super) at: Option<u64>,
    pub(super) disabled_at: Option<u64>,
    pub(super) replacement: Option<&'a Reference>,
}

impl Deprecation<'_> {
    /// The marks that the image must have, and those that it must not have.
    fn marks(
        &self,
        image: &Image,
        region: &str,
        now: u64,
    ) -> Result<(BTreeMap<String, String>, Vec<String>)> {
        if self.at.is_some_and(|at| at > now) {
            return Err(Error::unsupported(
                "Alibaba Cloud deprecates an image at once, not at a later time",
                "deprecate it without a time when the time has come",
            ));
        }
        if self.disabled_at.is_some() {
            return Err(Error::unsupported(
                "Alibaba Cloud does not disable images",
                "deprecate it without a time of disabling, and delete it later",
            ));
        }
        let mut wanted = BTreeMap::new();
        if self.at.is_some() || image.status != OBSOLETE {
            wanted.insert(DEPRECATED.to_owned(), self.at.unwrap_or(now).to_string());
        }
        let mut gone = Vec::new();
        match self.replacement {
            Some(other) => {
                let region = other.region.as_deref().unwrap_or(region);
                wanted.insert(REPLACEMENT.to_owned(), write_image(region, &other.id));
            }
            None => gone.extend(image.tag(REPLACEMENT).map(|_| REPLACEMENT.to_owned())),
        }
        wanted.retain(|key, value| image.tag(key) != Some(value.as_str()));
        make_room(image, &mut wanted)?;
        Ok((wanted, gone))
    }
}

/// Leaves out the time when an image has too many tags for it. A replacement was asked for.
fn make_room(image: &Image, wanted: &mut BTreeMap<String, String>) -> Result<()> {
    let full = |wanted: &BTreeMap<String, String>| {
        let new = wanted.keys().filter(|key| image.tag(key).is_none()).count();
        image.tags().len() + new > TAGS_OF_RESOURCE
    };
    if full(wanted) && image.tag(DEPRECATED).is_none() {
        wanted.remove(DEPRECATED);
    }
    if wanted.is_empty() || !full(wanted) {
        return Ok(());
    }
    let id = &image.image_id;
    let message = format!("image `{id}` has {TAGS_OF_RESOURCE} tags, too many for its replacement");
    Err(Error::new(ErrorKind::Quota, message).with_hint("remove a tag of the image"))
}

impl Manager<'_> {
    /// Deprecates an image, or changes its replacement.
    pub(super) async fn deprecate(&self, target: &Target, wish: &Deprecation<'_>) -> Done {
        let Target { ecs, image } = target;
        check_state(image)?;
        let now = Timestamp::now().as_second().saturating_add(ecs.service.http.clock.skew());
        let (wanted, gone) = wish.marks(image, &ecs.region, u64::try_from(now).unwrap_or(0))?;
        let is_new = image.status == AVAILABLE;
        if !is_new && wanted.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        let ids = std::slice::from_ref(&image.image_id);
        // The state is changed last: a call that ends before is repeated in full.
        if !self.request.dry_run {
            ecs.tag("image", ids, &wanted, &CALL).await?;
            ecs.untag("image", ids, &gone, &CALL).await?;
        }
        if is_new {
            self.modify(target, &[("Status", OBSOLETE)]).await?;
        }
        let what = if is_new { "deprecated" } else { "deprecation changed" };
        Ok(Some(what.to_owned()))
    }

    /// Makes a deprecated image available.
    pub(super) async fn restore(&self, target: &Target) -> Done {
        let Target { ecs, image } = target;
        check_state(image)?;
        let marks = [DEPRECATED, REPLACEMENT].into_iter().filter(|key| image.tag(key).is_some());
        let gone: Vec<String> = marks.map(str::to_owned).collect();
        let is_old = image.status == OBSOLETE;
        if !is_old && gone.is_empty() {
            return Ok(None);
        }
        if is_old {
            self.modify(target, &[("Status", AVAILABLE)]).await?;
        }
        if !self.request.dry_run {
            ecs.untag("image", std::slice::from_ref(&image.image_id), &gone, &CALL).await?;
        }
        Ok(Some("restored".to_owned()))
    }
}

fn check_state(image: &Image) -> Result<()> {
    if [AVAILABLE, OBSOLETE].contains(&image.status.as_str()) {
        return Ok(());
    }
    let message = format!("image `{}` is in state {}", image.image_id, image.status);
    Err(Error::new(ErrorKind::Conflict, message).with_hint("wait until it is available"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn image(status: &str, tags: &[(&str, &str)]) -> Image {
        let tags: Vec<Value> =
            tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect();
        serde_json::from_value(json!({"ImageId": "m-1", "Status": status, "Tags": {"Tag": tags}}))
            .unwrap()
    }

    #[test]
    fn only_marks_that_differ_are_written() {
        let other = Reference::image("m-2");
        let far = Reference::image("m-2").in_region("far");
        let (time, replaced) = ((DEPRECATED, "100"), (REPLACEMENT, "here/m-2"));
        let old = |tags: &[(&str, &str)]| image(OBSOLETE, tags);
        let wish = |at, replacement| Deprecation { at, disabled_at: None, replacement };
        for (image, wish, wanted, gone) in [
            (image(AVAILABLE, &[]), wish(None, None), vec![(DEPRECATED, "500")], &[][..]),
            (old(&[time]), wish(None, None), vec![], &[]),
            (old(&[]), wish(None, None), vec![], &[]),
            (old(&[time]), wish(Some(100), None), vec![], &[]),
            (old(&[time]), wish(Some(200), None), vec![(DEPRECATED, "200")], &[]),
            (old(&[time]), wish(None, Some(&other)), vec![replaced], &[]),
            (old(&[time, replaced]), wish(None, Some(&other)), vec![], &[]),
            (old(&[replaced]), wish(None, Some(&far)), vec![(REPLACEMENT, "far/m-2")], &[]),
            (old(&[replaced]), wish(None, None), vec![], &[REPLACEMENT]),
        ] {
            let found = wish.marks(&image, "here", 500).unwrap();
            let expected: BTreeMap<String, String> =
                wanted.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            assert_eq!(found, (expected, gone.iter().map(|key| (*key).to_owned()).collect()));
        }
    }

    #[test]
    fn what_the_service_cannot_do_is_refused_by_name() {
        let image = image(AVAILABLE, &[]);
        for (at, disabled_at, word) in
            [(Some(501), None, "at a later time"), (None, Some(1), "does not disable")]
        {
            let wish = Deprecation { at, disabled_at, replacement: None };
            let error = wish.marks(&image, "here", 500).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            assert!(error.message.contains(word), "{error}");
        }
    }

    #[test]
    fn an_image_full_of_tags_is_deprecated_without_a_time() {
        let names: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
        let tags: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let (full, other) = (image(AVAILABLE, &tags), Reference::image("m-2"));
        let plain = Deprecation { at: None, disabled_at: None, replacement: None };
        assert!(plain.marks(&full, "here", 500).unwrap().0.is_empty());
        let replaced = Deprecation { replacement: Some(&other), ..plain };
        assert_eq!(replaced.marks(&full, "here", 500).unwrap_err().kind, ErrorKind::Quota);
    }
}

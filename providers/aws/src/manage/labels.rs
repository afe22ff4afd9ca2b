//! Sets and removes tags of images and of their snapshots.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, ErrorKind, Result, retry::Failure};

use super::{Done, Manager, Target, count};
use crate::{
    client::CALL,
    marks::{TAGS_OF_RESOURCE, is_mark},
};

/// Longest key and value, in characters.
const LENGTHS: (usize, usize) = (128, 256);

/// Tags by the identifier of what has them. The image is last: by its tags, a call that ends before is repeated.
type Tagged = Vec<(String, BTreeMap<String, String>)>;

impl Manager<'_> {
    /// Sets tags.
    pub(super) async fn tag(&self, target: &Target, tags: &BTreeMap<String, String>) -> Done {
        refuse_marks(tags.keys())?;
        check(tags)?;
        let mut differ = self.tagged(target).await?;
        differ.retain(|(_, of)| tags.iter().any(|(key, value)| of.get(key) != Some(value)));
        if differ.is_empty() {
            return Ok(None);
        }
        for (id, of) in &differ {
            let new = tags.keys().filter(|key| !of.contains_key(*key)).count();
            if of.len() + new > TAGS_OF_RESOURCE {
                let message = format!(
                    "`{id}` has {} tags, and at most {TAGS_OF_RESOURCE} are permitted",
                    of.len()
                );
                return Err(Error::new(ErrorKind::Quota, message).with_hint("remove a tag first"));
            }
        }
        if !self.request.dry_run {
            for (id, _) in &differ {
                target.ec2.tag(&[id], tags, &CALL).await?;
            }
        }
        Ok(Some(format!("{} set", count(tags.len(), "tag"))))
    }

    /// Removes tags.
    pub(super) async fn untag(&self, target: &Target, keys: &[String]) -> Done {
        refuse_marks(keys.iter())?;
        let mut differ = self.tagged(target).await?;
        differ.retain(|(_, of)| keys.iter().any(|key| of.contains_key(key)));
        if differ.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            for (id, _) in &differ {
                target.ec2.untag(std::slice::from_ref(id), keys, &CALL).await?;
            }
        }
        Ok(Some(format!("{} removed", count(keys.len(), "tag"))))
    }

    /// The own snapshots of the image, and the image, with their tags.
    async fn tagged(&self, target: &Target) -> Result<Tagged, Failure> {
        let snapshots = self.own_snapshots(target).await?.into_iter();
        let mut all: Tagged = snapshots
            .map(|snapshot| {
                let tags = snapshot.tags();
                (snapshot.snapshot_id, tags)
            })
            .collect();
        all.push((target.image.image_id.clone(), target.image.tags()));
        Ok(all)
    }
}

/// Checks tags by the rules of the service.
fn check(tags: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in tags {
        let wrong = if key.is_empty() || key.chars().count() > LENGTHS.0 {
            "its key has not 1 to 128 characters"
        } else if value.chars().count() > LENGTHS.1 {
            "its value has more than 256 characters"
        } else if key.to_lowercase().starts_with("aws:") {
            "keys that begin with `aws:` are the vendor's"
        } else {
            continue;
        };
        return Err(
            Error::config(format!("tag `{key}` is refused: {wrong}")).with_hint("change the tag")
        );
    }
    Ok(())
}

fn refuse_marks<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<()> {
    match keys.find(|key| is_mark(key)) {
        None => Ok(()),
        Some(key) => Err(Error::config(format!("tag `{key}` is the mark of a build and stays"))
            .with_hint("leave out keys that begin with `build-image-`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks;

    #[test]
    fn tags_that_the_service_refuses_are_named() {
        let long = "ü".repeat(129);
        for (key, value, expected) in [
            ("team", "", true),
            (&"ü".repeat(128), &"v".repeat(256), true),
            (&long, "", false),
            ("team", &"v".repeat(257), false),
            ("AWS:x", "", false),
            ("", "x", false),
        ] {
            let checked = check(&marks::tags([(key, value)]));
            assert_eq!(checked.is_ok(), expected, "{key} {value}");
        }
        assert!(refuse_marks([&"build-image-run".to_owned()].into_iter()).is_err());
        assert!(refuse_marks([&"build-image".to_owned()].into_iter()).is_ok());
    }
}

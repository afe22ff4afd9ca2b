//! Judges whether images have the name and the tags that the host sent.

use super::{Judgement, build::whole, description, settle, undeclared};
use crate::{
    conformance::{faults, optional, probe::lab::TAG, table::Evidence},
    document::Registered,
};

const UNSEEN: &str = "the tags of the image cannot be seen: declare `inventory`, or print tags in the command that lists the test cloud (`--inventory`)";

pub(in crate::conformance) fn name(evidence: &Evidence) -> Judgement {
    settle(|| {
        if description(evidence)?.image_name.is_none() {
            return Ok(Judgement::Skip(undeclared("`image_name`")));
        }
        let built = whole(evidence)?;
        let answers = built.calls.iter().filter(|call| call.step == "register");
        let registered = answers
            .filter_map(|call| serde_json::from_value::<Registered>(call.answer.clone()).ok());
        let mut problems = Vec::new();
        for image in registered.flat_map(|registered| registered.images) {
            if image.name != built.image_name {
                problems.push(format!(
                    "CLOUD_IMAGE_NAME is `{}`, the image is registered as `{}`",
                    built.image_name, image.name
                ));
            }
        }
        let (wanted, images) = optional::listed_images(evidence);
        for item in images {
            // Some clouds have no names.
            if !item.name.is_empty() && item.name != wanted {
                problems.push(format!(
                    "CLOUD_IMAGE_NAME is `{wanted}`, `inventory` lists the image as `{}`",
                    item.name
                ));
            }
        }
        Ok(Judgement::unless(&problems, built.image_name))
    })
}

pub(in crate::conformance) fn tags(evidence: &Evidence) -> Judgement {
    settle(|| {
        if description(evidence)?.tags.is_none() {
            return Ok(Judgement::Skip(undeclared("`tags`")));
        }
        let built = whole(evidence)?;
        let (key, value) = TAG;
        let (_, images) = optional::listed_images(evidence);
        let missing =
            images.iter().filter(|item| item.tags.get(key).is_none_or(|tag| tag != value));
        let problems: Vec<String> = missing
            .map(|item| format!("image `{}` is listed without the tag `{key}={value}`", item.id))
            .collect();
        let seen = built.listed.iter().any(|line| line.contains(value));
        if images.is_empty() && !seen {
            return Ok(match faults::tagged(evidence) {
                Some(true) => Judgement::pass(format!("a request contained {key}={value}")),
                Some(false) => Judgement::fail(format!(
                    "no request of a build contained {key}={value}, which IMAGE_TAGS has"
                )),
                None => Judgement::Skip(UNSEEN.to_owned()),
            });
        }
        Ok(Judgement::unless(&problems, format!("{key}={value}")))
    })
}

//! Deprecates images and restores them. The service takes only whole minutes of the future; a time in the past and the
//! replacement are tags.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html>.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result, document::Reference};
use jiff::Timestamp;

use super::{Done, Manager, Target};
use crate::{
    client::CALL,
    ec2::pairs,
    image::Image,
    inventory::deprecated_at,
    marks::{self, DEPRECATED, REPLACEMENT, write_image},
    permissions::Call,
};

/// Seconds of a minute.
const MINUTE: u64 = 60;

/// How an image is to be deprecated.
pub(super) struct Wish<'a> {
    pub(super) at: Option<u64>,
    pub(super) disabled_at: Option<u64>,
    pub(super) replacement: Option<&'a Reference>,
}

/// What makes an image as it was wished.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    /// Tags to set.
    set: BTreeMap<String, String>,
    /// Tags to remove.
    gone: Vec<String>,
    /// Date for the service, in seconds since 1970-01-01 UTC.
    date: Option<u64>,
}

/// Returns the whole minute at or after a time.
const fn whole(seconds: u64) -> u64 {
    seconds.div_ceil(MINUTE) * MINUTE
}

impl Wish<'_> {
    fn steps(&self, image: &Image, region: &str, now: u64) -> Result<Steps> {
        if self.disabled_at.is_some() {
            return Err(Error::unsupported(
                "EC2 deprecates images at a time, and does not disable them at one",
                "deprecate it without a time of disabling; aws ec2 disable-image disables it at once",
            ));
        }
        let (mut steps, present) = (Steps::default(), deprecated_at(image));
        match self.at {
            Some(at) if at > now => {
                steps.gone.extend(image.tag(DEPRECATED).map(|_| DEPRECATED.to_owned()));
                steps.date = Some(whole(at)).filter(|date| present != Some(*date));
            }
            // It is deprecated already, since whenever.
            None if present.is_some_and(|present| present <= now) => {}
            past => {
                let at = past.unwrap_or(now);
                if present != Some(at) {
                    steps.set.insert(DEPRECATED.to_owned(), at.to_string());
                    // The next minute may be over when the request arrives.
                    steps.date = Some(whole(now + MINUTE));
                }
            }
        }
        let other = self
            .replacement
            .map(|other| write_image(other.region.as_deref().unwrap_or(region), &other.id));
        match other {
            Some(other) if image.tag(REPLACEMENT) != Some(other.as_str()) => {
                steps.set.insert(REPLACEMENT.to_owned(), other);
            }
            None => steps.gone.extend(image.tag(REPLACEMENT).map(|_| REPLACEMENT.to_owned())),
            Some(_) => {}
        }
        Ok(steps)
    }
}

impl Manager<'_> {
    /// Deprecates an image, or changes its date or its replacement.
    pub(super) async fn deprecate(&self, target: &Target, wish: &Wish<'_>) -> Done {
        target.must_be_complete()?;
        let Target { ec2, image } = target;
        let steps = wish.steps(image, &ec2.region, marks::now(self.cloud.skew()))?;
        if steps == Steps::default() {
            return Ok(None);
        }
        let id = &image.image_id;
        // The date is changed last: a call that ends before is repeated in full.
        if !self.request.dry_run {
            ec2.tag(&[id], &steps.set, &CALL).await?;
            ec2.untag(std::slice::from_ref(id), &steps.gone, &CALL).await?;
        }
        if let Some(date) = steps.date {
            let date = i64::try_from(date).ok().and_then(|date| Timestamp::from_second(date).ok());
            let date = date.ok_or_else(|| {
                Error::config("the time is outside the calendar")
                    .with_hint("write at most ten years")
            })?;
            let date = date.strftime("%Y-%m-%dT%H:%M:00.000Z").to_string();
            let parameters = pairs(&[("ImageId", id), ("DeprecateAt", &date)]);
            self.send(ec2, Call::EnableImageDeprecation, parameters, &target.object()).await?;
        }
        let is_new = image.deprecation_time.is_none();
        Ok(Some(if is_new { "deprecated" } else { "deprecation changed" }.to_owned()))
    }

    /// Makes a deprecated or disabled image as it was before.
    pub(super) async fn restore(&self, target: &Target) -> Done {
        target.must_be_complete()?;
        let Target { ec2, image } = target;
        let id = &image.image_id;
        let marks = [DEPRECATED, REPLACEMENT].into_iter().filter(|key| image.tag(key).is_some());
        let gone: Vec<String> = marks.map(str::to_owned).collect();
        let calls = [
            (image.image_state == "disabled", Call::EnableImage),
            (image.deprecation_time.is_some(), Call::DisableImageDeprecation),
        ];
        let calls: Vec<Call> =
            calls.into_iter().filter(|(needed, _)| *needed).map(|(_, call)| call).collect();
        if gone.is_empty() && calls.is_empty() {
            return Ok(None);
        }
        for call in calls {
            self.send(ec2, call, pairs(&[("ImageId", id)]), &target.object()).await?;
        }
        if !self.request.dry_run {
            ec2.untag(std::slice::from_ref(id), &gone, &CALL).await?;
        }
        Ok(Some("restored".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;

    use super::*;

    fn image(date: Option<&str>, tags: &[(&str, &str)]) -> Image {
        let mut xml = String::from("<I><imageId>ami-1</imageId>");
        xml.extend(date.map(|date| format!("<deprecationTime>{date}</deprecationTime>")));
        xml.push_str("<tagSet>");
        for (key, value) in tags {
            xml.push_str(&format!("<item><key>{key}</key><value>{value}</value></item>"));
        }
        xml.push_str("</tagSet></I>");
        quick_xml::de::from_str(&xml).unwrap()
    }

    #[test]
    fn only_what_differs_is_changed() {
        let wish = |at, replacement| Wish { at, disabled_at: None, replacement };
        let other = Reference::image("ami-2");
        let far = Reference::image("ami-2").in_region("far");
        let (date, marked) = (Some("1970-01-01T00:02:00.000Z"), (DEPRECATED, "5"));
        let replaced = (REPLACEMENT, "here/ami-2");
        for (image, wish, set, gone, next) in [
            (image(None, &[]), wish(None, None), &[(DEPRECATED, "500")][..], &[][..], Some(600)),
            (image(None, &[]), wish(Some(5), None), &[marked], &[], Some(600)),
            // A mark without the date of the service is void.
            (image(None, &[marked]), wish(Some(5), None), &[marked], &[], Some(600)),
            (image(date, &[marked]), wish(Some(5), None), &[], &[], None),
            (image(date, &[marked]), wish(None, None), &[], &[], None),
            (image(date, &[]), wish(None, None), &[], &[], None),
            (image(date, &[]), wish(Some(120), None), &[], &[], None),
            (image(date, &[marked]), wish(Some(6), None), &[(DEPRECATED, "6")], &[], Some(600)),
            (image(date, &[marked]), wish(Some(601), None), &[], &[DEPRECATED], Some(660)),
            (image(None, &[]), wish(Some(660), None), &[], &[], Some(660)),
            (image(date, &[marked]), wish(None, Some(&other)), &[replaced], &[], None),
            (image(date, &[replaced]), wish(None, Some(&other)), &[], &[], None),
            (
                image(date, &[replaced]),
                wish(None, Some(&far)),
                &[(REPLACEMENT, "far/ami-2")],
                &[],
                None,
            ),
            (image(date, &[replaced]), wish(None, None), &[], &[REPLACEMENT], None),
        ] {
            let found = wish.steps(&image, "here", 500).unwrap();
            let set = set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let gone = gone.iter().map(|key| (*key).into()).collect();
            assert_eq!(found, Steps { set, gone, date: next }, "{:?}", wish.at);
        }
        let never = Wish { at: None, disabled_at: Some(1), replacement: None };
        let error = never.steps(&image(None, &[]), "here", 500).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

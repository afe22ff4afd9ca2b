//! Finishes an image in its region: waits until it is available, tags its snapshots, shares and deprecates it, and tags it.

use std::time::Duration;

use build_image_plugin_api::{Error, ErrorKind, Result};
use jiff::Timestamp;

use crate::{
    client::CALL,
    config::Polls,
    ec2::{Ec2, pairs},
    image::Image,
    marks::{self, COPY_OF, IMAGE_OF},
    permissions::Call,
    publish::{Publication, failed},
    sharing,
    snapshot::Looks,
};

/// Waits until an image is available.
///
/// # Errors
/// An image that failed or was deleted; a time-out.
pub(crate) async fn available(ec2: &Ec2, id: &str, polls: Polls) -> Result<Image> {
    let mut looks = Looks::begin(polls);
    loop {
        let found = ec2.image(id, &CALL).await?;
        // A new image is not shown everywhere at once.
        let unknown = found.is_none();
        if let Some(image) = found {
            match image.image_state.as_str() {
                "available" => return Ok(image),
                "pending" | "transient" => {}
                _ => return Err(failed(&image, &ec2.region)),
            }
        }
        if unknown && looks.is_gone() {
            let message =
                format!("image `{id}` in {} was deregistered by another client", ec2.region);
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint("look for another build of the same name, and build again"));
        }
        if !looks.wait().await {
            let what = format!("image `{id}` in {} is not available", ec2.region);
            return Err(looks.too_late(&what));
        }
    }
}

/// Tags the snapshots, shares the image, and sets its deprecation date.
///
/// # Errors
/// Refusals; an image that is not as requested afterwards.
pub(crate) async fn finish(
    publication: &Publication<'_>,
    ec2: &Ec2,
    image: &Image,
    copy_of: Option<&str>,
) -> Result<()> {
    let Publication { context, config, build, .. } = *publication;
    let id = &image.image_id;
    let mut wanted = marks::of(build);
    wanted.extend(copy_of.map(|of| (COPY_OF.to_owned(), of.to_owned())));
    let mut of_snapshots = wanted.clone();
    of_snapshots.insert(IMAGE_OF.to_owned(), id.clone());
    let snapshots = image.snapshots();
    let ids: Vec<&str> = snapshots.iter().map(String::as_str).collect();
    ec2.tag(&ids, &of_snapshots, &CALL).await?;
    let shared = sharing::share(ec2, id, &config.audience).await?;
    if shared > 0 {
        context
            .milestone(format!("shared image `{id}` in {} ({shared} permissions)", ec2.region))?;
    }
    if let Some(age) = config.deprecate_after {
        deprecate(ec2, image, age).await?;
    }
    // The image has the tags of the user since it was created; the mark of a finished copy comes last.
    let found = image.tags();
    if wanted.iter().any(|(key, value)| found.get(key) != Some(value)) {
        ec2.tag(&[id], &wanted, &CALL).await?;
    }
    Ok(())
}

/// Sets the date from which an image is deprecated, counted from its creation, so that a resumed run sets the same.
async fn deprecate(ec2: &Ec2, image: &Image, age: Duration) -> Result<()> {
    let id = &image.image_id;
    let date = deprecation(image.creation_date.as_deref(), age)?;
    if is_deprecated_at(image, &date) {
        return Ok(());
    }
    let parameters = pairs(&[("ImageId", id), ("DeprecateAt", &date)]);
    let object = format!("image `{id}`");
    ec2.call(Call::EnableImageDeprecation, &parameters, &object, &CALL).await?;
    Ok(())
}

/// Whether an image has a deprecation date, to the minute.
pub(crate) fn is_deprecated_at(image: &Image, date: &str) -> bool {
    let minute = |text: &str| text.get(..16).unwrap_or(text).to_owned();
    image.deprecation_time.as_deref().map(minute) == Some(minute(date))
}

/// Returns the date in the vendor's form; seconds do not count.
///
/// # Errors
/// Config error for an age that ends outside the calendar.
pub(crate) fn deprecation(created: Option<&str>, age: Duration) -> Result<String> {
    let created = created.and_then(|text| text.parse::<Timestamp>().ok());
    let date = created.unwrap_or_else(Timestamp::now).checked_add(age).map_err(|error| {
        Error::new(ErrorKind::Config, "AWS_DEPRECATE_AFTER ends outside the calendar")
            .caused_by(&error)
            .with_hint("write at most ten years, for example `730d`")
    })?;
    Ok(date.strftime("%Y-%m-%dT%H:%M:00.000Z").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_counted_from_the_creation_to_the_minute() {
        let date = |created, seconds| deprecation(created, Duration::from_secs(seconds));
        let created = Some("2026-01-31T23:59:59.000Z");
        assert_eq!(date(created, 2 * 86_400).unwrap(), "2026-02-02T23:59:00.000Z");
        assert_eq!(date(created, 1).unwrap(), "2026-02-01T00:00:00.000Z");
        assert!(date(None, 86_400).unwrap() > date(created, 86_400).unwrap());
        assert!(date(created, u64::MAX).unwrap_err().hint.is_some());
    }
}

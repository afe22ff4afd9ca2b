//! Lists the images that builds have created in a project, and the tasks that work on them, in every region of the
//! catalog. Reads only.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind},
    ready::inventory,
    retry::Policy,
};
use futures_util::future::join_all;

use crate::{
    cloud::{Cloud, Session},
    config::Config,
    image::{Image, RUN},
    items::{self, Place},
    owner::Owner,
};

/// What an unread region means.
const HINT: &str =
    "what is absent in this answer may exist there: list it again later, or name other regions";

/// Lists the account.
///
/// # Errors
/// A login that fails; a region that cannot be read is a finding.
pub(crate) fn inventory(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &InventoryRequest,
) -> Result<Inventory> {
    context.check_cancelled()?;
    context.block_on(async {
        let existing = Cloud::regions(context, config, session, &Policy::BRIEF).await?;
        let mut answer = Inventory::default();
        let wanted = wanted(request, &existing, &mut answer);
        let reads = wanted.iter().map(|region| {
            let region = region.as_deref();
            async move {
                let cloud = Cloud::open_in(context, config, session, Policy::BRIEF, region).await?;
                let items = read(&cloud, region, request).await?;
                Ok((cloud, items))
            }
        });
        let mut clouds = Vec::new();
        for (region, read) in wanted.iter().zip(join_all(reads).await) {
            match read {
                Ok((cloud, items)) => {
                    answer.items.extend(items);
                    answer.regions.extend(region.clone());
                    clouds.push((region.clone(), cloud));
                }
                Err(error) => answer.findings.push(unread(region.as_deref(), &error)),
            }
        }
        inventory::cut(request, &mut answer);
        if request.details {
            for (region, cloud) in &clouds {
                members(cloud, region.as_deref(), &mut answer).await;
            }
        }
        Ok(answer)
    })
}

/// Returns the regions to read; one that does not exist is a finding.
fn wanted(
    request: &InventoryRequest,
    existing: &[Option<String>],
    answer: &mut Inventory,
) -> Vec<Option<String>> {
    if request.regions.is_empty() {
        return existing.to_vec();
    }
    let names: Vec<&str> = existing.iter().flatten().map(String::as_str).collect();
    let mut wanted = Vec::new();
    for region in &request.regions {
        let one = Some(region.clone());
        if existing.contains(&one) {
            wanted.push(one);
            continue;
        }
        let message = format!("the account has no image service in region `{region}`");
        let hint = match names.as_slice() {
            [] => "the cloud, or the image endpoint in the settings, has no regions: name none"
                .to_owned(),
            names => format!("name one of: {}", names.join(", ")),
        };
        let error = Error::new(ErrorKind::NotFound, message).with_hint(hint);
        answer.findings.push(Finding::error(region, &error));
    }
    wanted
}

/// The finding for a region that could not be read.
fn unread(region: Option<&str>, error: &Error) -> Finding {
    let hint = error.hint.as_deref().map_or(HINT.to_owned(), |hint| format!("{hint}; {HINT}"));
    Finding::error(region.unwrap_or("image service"), &error.clone().with_hint(hint))
}

/// Reads a region.
async fn read(
    cloud: &Cloud,
    region: Option<&str>,
    request: &InventoryRequest,
) -> Result<Vec<Item>> {
    let project = cloud.project();
    let owner = Owner::now(cloud);
    let place = Place { owner: &owner, project: &project, region };
    let is_wanted = |kind: ItemKind| request.kinds.is_empty() || request.kinds.contains(&kind);
    let mut found = Vec::new();
    for image in images(cloud, region, request).await? {
        found.push(place.image(&image));
        if is_wanted(ItemKind::Task) && items::may_have_task(&image) {
            let tasks = cloud.tasks(image.id()).await?;
            found.extend(tasks.iter().filter_map(|task| place.task(&image, task)));
        }
    }
    found.retain(|item| inventory::matches(request, item));
    Ok(found)
}

/// Returns the images that the items of a request may be, or belong to.
async fn images(
    cloud: &Cloud,
    region: Option<&str>,
    request: &InventoryRequest,
) -> Result<Vec<Image>> {
    let is_image = |kind| matches!(kind, ItemKind::Image | ItemKind::Other);
    let mut found = Vec::new();
    if request.items.is_empty() || request.items.iter().any(|named| !is_image(named.kind)) {
        let run = request.run_id.as_deref().map(|run| (RUN, run));
        for hidden in [false, true] {
            found.extend(cloud.images_with(run, hidden).await?);
        }
        let project = cloud.project();
        found.retain(|image| image.run().is_some() && image.text("owner") == project);
    }
    for named in request.items.iter().filter(|named| is_image(named.kind)) {
        let is_here = named.region.is_none() || named.region.as_deref() == region;
        if is_here && is_id(&named.id) {
            found.extend(cloud.image(&named.id).await?);
        }
    }
    // An image that was hidden between the two lists is in both.
    found.sort_by(|one, other| one.id().cmp(other.id()));
    found.dedup_by(|one, other| one.id() == other.id());
    Ok(found)
}

/// Whether a text may be an identifier of the service. Anything else would be another path.
pub(crate) fn is_id(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    !text.is_empty() && text.len() <= 64 && text.chars().all(plain)
}

/// Fills in the members of shared images: a request for each.
async fn members(cloud: &Cloud, region: Option<&str>, answer: &mut Inventory) {
    let mut findings = Vec::new();
    let is_here = |item: &&mut Item| item.region.as_deref() == region;
    for item in answer.items.iter_mut().filter(is_here) {
        let is_shared = item.kind == ItemKind::Image
            && item.shared_with.is_none()
            && item.owner.is_none()
            && item.audience == build_image_plugin_api::document::Audience::Private;
        if !is_shared {
            continue;
        }
        match cloud.members(&item.id).await {
            Ok(members) => {
                item.shared_with = Some(members.into_iter().map(|(project, _)| project).collect());
            }
            Err(failure) => findings.push(Finding::error(&item.id, &failure.error)),
        }
    }
    answer.findings.extend(findings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_do_not_exist_are_findings() {
        let existing = [Some("one".to_owned()), Some("two".to_owned())];
        for (regions, existing, wanted_regions, hint) in [
            (vec![], &existing[..], &existing[..], None),
            (vec!["two"], &existing, &existing[1..], None),
            (vec!["three"], &existing, &[], Some("name one of: one, two")),
            (vec!["one"], &[None], &[], Some("has no regions")),
        ] {
            let request = InventoryRequest::default().regions(regions.clone());
            let mut answer = Inventory::default();
            assert_eq!(wanted(&request, existing, &mut answer), wanted_regions, "{regions:?}");
            let found = answer.findings.first().and_then(|finding| finding.hint.clone());
            assert_eq!(found.is_some(), hint.is_some(), "{regions:?}");
            assert!(found.unwrap_or_default().contains(hint.unwrap_or_default()));
        }
    }

    #[test]
    fn only_identifiers_become_a_part_of_a_path() {
        for (text, expected) in [
            ("4a4a1c7e-0000-4000-8000-000000000000", true),
            ("plain_id", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("%2e", false),
        ] {
            assert_eq!(is_id(text), expected, "{text}");
        }
    }
}

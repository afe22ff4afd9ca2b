//! Changes images that a rule names: old ones, and copies that differ.

use std::collections::BTreeMap;

use build_image_plugin_api::document::{Action, InventoryRequest, Item, ItemKind, Managed};
use clap::{ArgMatches, Command, value_parser};
use serde_json::json;

use super::{REGION, Session, change, images, print, region, show, switch, texts, words};
use crate::{
    account::{Account, Difference, Retention, check, compare, superseded},
    clock,
    error::{Error, Result},
};

const FAMILY: &str = "FAMILY";
const KEEP: &str = "KEEP";
const OLDER: &str = "OLDER";
const REPAIR: &str = "REPAIR";
const REGIONS: &str = "REGIONS";

pub(super) fn parsers() -> Vec<Command> {
    let prune = Command::new("prune")
        .about("Deletes the older images of a family. Says only what it would do unless --yes is given.")
        .arg(
            words::value(FAMILY, "family", "NAME", "what the names of the images start with")
                .required(true),
        )
        .arg(
            words::value(KEEP, "keep", "NUMBER", "builds whose images stay in each region, the newest")
                .required(true)
                .value_parser(value_parser!(u32)),
        )
        .arg(words::value(OLDER, "older-than", "AGE", "delete only images that are older"))
        .arg(region())
        .arg(change::yes());
    let drift = Command::new("drift")
        .about(
            "Prints where copies of images are missing or differ. With --repair makes them equal.",
        )
        .args(images(1..))
        .arg(words::list(REGIONS, "expect", "a region that must have a copy; repeat it for more"))
        .arg(switch(REPAIR, "repair", "make the copies as the image is"));
    vec![prune, drift]
}

/// Deletes images that newer ones of their family supersede.
pub(super) fn prune(session: &Session, words: &ArgMatches) -> Result<()> {
    let family = words::text(words, FAMILY).unwrap_or_default();
    if family.is_empty() {
        return Err(Error::usage("--family is empty, which would be every image")
            .hint("give what the names of the images start with"));
    }
    let account = session.account()?;
    let mut request = InventoryRequest::default();
    request.kinds = vec![ItemKind::Image];
    request.regions = texts(words, REGION);
    let listing = account.list(&request)?;
    session.report(&account, &listing);
    let keep = words.get_one::<u32>(KEEP).copied().unwrap_or(u32::MAX);
    let rule = Retention {
        family: family.to_owned(),
        keep: usize::try_from(keep).unwrap_or(usize::MAX),
        older_than: words::age(words, OLDER)?,
    };
    let old = superseded(&listing.items, &rule, clock::seconds());
    let dry_run = !words.get_flag(change::YES);
    let references = old.iter().map(Item::reference).collect();
    let action = Action::Delete { keep_data: false, force: false };
    let results = if old.is_empty() {
        Vec::new()
    } else {
        change::apply(&account, references, action, dry_run)?
    };
    let mut text = show::table(&old);
    if old.is_empty() {
        text = "no image is superseded\n".to_owned();
    } else {
        text += &change::text(&results, dry_run);
        if dry_run {
            text += "nothing was deleted; give --yes to delete this\n";
        }
    }
    print(session, &account, json!({"dry_run": dry_run, "items": old, "results": results}), &text);
    check(&results)
}

/// A copy that differs, or is missing.
struct Drift<'a> {
    image: &'a Item,
    copy: Option<&'a Item>,
    region: String,
    differences: Vec<Difference>,
}

/// Compares images with their copies, and repairs these on request.
pub(super) fn drift(session: &Session, words: &ArgMatches) -> Result<()> {
    let account = session.account()?;
    let named = session.named(&account, words)?;
    for image in &named {
        if let Some(original) = &image.copied_from {
            let text = format!("image `{}` is a copy of `{}`", image.id, original.id);
            return Err(Error::usage(text).hint("name the image that the copies must be like"));
        }
    }
    let mut request = InventoryRequest::default();
    request.kinds = vec![ItemKind::Image];
    request.regions = texts(words, REGION);
    request.details = true;
    let listing = account.list(&request)?;
    session.report(&account, &listing);
    let expected = texts(words, REGIONS);
    let mut found = Vec::new();
    for image in &named {
        found.extend(drifted(image, &listing.items, &expected));
    }
    let mut text = String::new();
    for one in &found {
        text += &match one.copy {
            Some(copy) => show::differing(copy, &one.differences),
            None => format!("{}: no copy is in {}\n", one.image.id, one.region),
        };
    }
    if found.is_empty() {
        text = "no image has a copy, and no region was named with --expect\n".to_owned();
    }
    let repairs = words.get_flag(REPAIR);
    let results = if repairs { repair(&account, &found)? } else { Vec::new() };
    text += &change::text(&results, false);
    let documents: Vec<_> = found
        .iter()
        .map(|one| {
            let copy = one.copy.map(Item::reference);
            json!({"image": one.image.reference(), "copy": copy, "region": one.region, "differences": one.differences})
        })
        .collect();
    print(session, &account, json!({"copies": documents, "results": results}), &text);
    check(&results)
}

/// Returns the copies of an image, and the regions without one.
fn drifted<'a>(image: &'a Item, all: &'a [Item], expected: &[String]) -> Vec<Drift<'a>> {
    let reference = image.reference();
    let is_copy = |item: &&Item| {
        let from = item.copied_from.as_ref();
        let of_image = from.is_some_and(|from| from.id == image.id);
        let of_run = item.run_id.is_some() && item.run_id == image.run_id;
        item.reference() != reference && (of_image || of_run)
    };
    let copies: Vec<&Item> = all.iter().filter(is_copy).collect();
    let mut found: Vec<Drift<'a>> = copies
        .iter()
        .map(|copy| Drift {
            image,
            copy: Some(*copy),
            region: copy.region.clone().unwrap_or_default(),
            differences: compare(image, copy),
        })
        .collect();
    let has = |region: &String| {
        image.region.as_ref() == Some(region)
            || copies.iter().any(|copy| copy.region.as_ref() == Some(region))
    };
    for region in expected.iter().filter(|region| !has(region)) {
        found.push(Drift { image, copy: None, region: region.clone(), differences: Vec::new() });
    }
    found
}

fn repair(account: &Account<'_>, found: &[Drift<'_>]) -> Result<Vec<Managed>> {
    let mut results = Vec::new();
    let mut missing: BTreeMap<&str, (&Item, Vec<String>)> = BTreeMap::new();
    for one in found {
        let Some(copy) = one.copy else {
            let of_image = missing.entry(&one.image.id);
            of_image.or_insert((one.image, Vec::new())).1.push(one.region.clone());
            continue;
        };
        for action in one.differences.iter().filter_map(|difference| difference.repair.clone()) {
            results.extend(change::apply(account, vec![copy.reference()], action, false)?);
        }
    }
    for (image, regions) in missing.into_values() {
        let action = Action::Copy { regions, name: None, with_access: true, keys: BTreeMap::new() };
        results.extend(change::apply(account, vec![image.reference()], action, false)?);
    }
    Ok(results)
}

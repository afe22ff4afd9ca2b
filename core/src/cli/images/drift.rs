//! Runs `build-image images drift`: compares images with their copies, and with a file that declares how they must be.

use std::{collections::BTreeMap, path::Path};

use build_image_plugin_api::{
    ErrorKind,
    document::{Action, InventoryRequest, Item, ItemKind, Managed, Severity},
};
use clap::{Arg, ArgMatches, Command, ValueHint};
use serde_json::json;

use super::{IMAGES, REGION, Session, change, print, region, show, switch, texts, words};
use crate::{
    account::{Account, Declared, Difference, Listing, check, compare, declarations},
    error::{Error, Result, Stage},
};

const FILE: &str = "FILE";
const REGIONS: &str = "REGIONS";
const REPAIR: &str = "REPAIR";
/// The capability of a provider that changes names and attributes.
const MODIFY: &str = "manage.modify";
/// Most rounds of a repair: a copy that the first one made may still lack what copying does not transfer.
const ROUNDS: usize = 3;

pub(super) fn parser() -> Command {
    let images = Arg::new(IMAGES)
        .num_args(1..)
        .required_unless_present(FILE)
        .help("ids of images, as `images list` prints them");
    let file =
        words::value(FILE, "file", "FILE", "a YAML file that declares images, instead of ids")
            .value_hint(ValueHint::FilePath)
            .conflicts_with_all([IMAGES, REGIONS]);
    Command::new("drift")
        .about("Prints where copies of images are missing or differ, from their image or from what a file declares. With --repair makes them equal.")
        .args([images, file, region()])
        .arg(words::list(REGIONS, "expect", "a region that must have a copy; repeat it for more"))
        .arg(switch(REPAIR, "repair", "make the copies as the image is, or as the file declares"))
}

/// An image or copy that was compared, or that is missing.
struct Drift<'a> {
    image: &'a Item,
    copy: Option<&'a Item>,
    region: String,
    differences: Vec<Difference>,
    /// Keys by region, for a copy that is missing.
    keys: BTreeMap<String, String>,
}

/// What is compared: images that the user names, or those that a file declares.
enum Wanted {
    Named { images: Vec<Item>, regions: Vec<String> },
    Declared(Vec<Declared>),
}

/// Result of a comparison.
struct Found<'a> {
    drifts: Vec<Drift<'a>>,
    /// Declarations without an image.
    missing: Vec<&'a Declared>,
}

/// Compares images, and repairs what differs on request.
pub(super) fn drift(session: &Session, words: &ArgMatches) -> Result<()> {
    let file = words::text(words, FILE);
    let declared = file.map(|file| declarations(Path::new(file))).transpose()?;
    let account = session.account()?;
    let wanted = match declared {
        Some(declared) => Wanted::Declared(declared),
        None => Wanted::Named {
            images: named(session, &account, words)?,
            regions: texts(words, REGIONS),
        },
    };
    let mut request = InventoryRequest::default().kinds([ItemKind::Image]).details(true);
    request.regions = texts(words, REGION);
    let listing = account.list(&request)?;
    session.report(&account, &listing);
    let modifies = account.can(MODIFY);
    let found = wanted.compare(&listing.items, modifies)?;
    let mut text = described(&found);
    let documents: Vec<_> = found
        .drifts
        .iter()
        .map(|one| {
            let copy = one.copy.map(Item::reference);
            json!({"image": one.image.reference(), "copy": copy, "region": one.region, "differences": one.differences})
        })
        .collect();
    let missing: Vec<_> =
        found.missing.iter().map(|one| json!({"name": one.name, "line": one.line})).collect();
    let (mut results, mut failed) = (Vec::new(), None);
    if words.get_flag(REPAIR) {
        failed = repair_all(&account, &wanted, &request, &found, &mut results).err();
    }
    text += &change::text(&results, false);
    let document = json!({"copies": documents, "missing": missing, "results": results});
    print(session, &account, document, &text);
    session.interrupt.check()?;
    failed.map_or(Ok(()), Err)?;
    check(&results)?;
    if words.get_flag(REPAIR) { everything_was_seen(&listing, &found) } else { Ok(()) }
}

/// The images that the words name, none of which is a copy.
fn named(session: &Session, account: &Account<'_>, words: &ArgMatches) -> Result<Vec<Item>> {
    let named = session.named(account, words)?;
    for image in &named {
        if let Some(original) = &image.copied_from {
            let text = format!("image `{}` is a copy of `{}`", image.id, original.id);
            return Err(Error::usage(text).hint("name the image that the copies must be like"));
        }
    }
    Ok(named)
}

/// Refuses to call an account repaired that was not read completely, or that lacks a declared image.
fn everything_was_seen(listing: &Listing, found: &Found<'_>) -> Result<()> {
    if let Some(one) = listing.findings.iter().find(|one| one.severity == Severity::Error) {
        let text = format!("{} could not be read, so its images were not compared", one.subject);
        let stage = Stage::Provider(one.kind.unwrap_or(ErrorKind::Provider));
        return Err(Error::new(stage, text).hint("name what can be read with --region"));
    }
    if let Some(one) = found.missing.first() {
        let text = format!("no complete image `{}` exists (line {})", one.name, one.line);
        return Err(Error::new(Stage::Provider(ErrorKind::NotFound), text)
            .hint("build it, or change the file"));
    }
    let stays = found.drifts.iter().find_map(|one| {
        let stays = one.differences.iter().find(|difference| difference.repair.is_none());
        stays.map(|difference| (one, difference))
    });
    let Some((one, difference)) = stays else { return Ok(()) };
    let (id, subject) = (one.copy.unwrap_or(one.image).id.as_str(), &difference.subject);
    let text = format!("image `{id}` has a difference that cannot be repaired: {subject}");
    let advice = difference.advice.clone();
    Err(Error::new(Stage::Provider(ErrorKind::Conflict), text).hint(advice.unwrap_or_else(|| {
        "delete it with build-image images delete, and repeat the command".to_owned()
    })))
}

impl Wanted {
    /// Compares; `modifies` says whether the provider can change names and attributes.
    fn compare<'a>(&'a self, items: &'a [Item], modifies: bool) -> Result<Found<'a>> {
        let mut found = self.compare_all(items)?;
        for one in found.drifts.iter_mut().filter(|_| !modifies) {
            let id = one.copy.unwrap_or(one.image).id.as_str();
            let differences = std::mem::take(&mut one.differences).into_iter();
            one.differences = differences.map(|one| one.without_modify(id)).collect();
        }
        Ok(found)
    }

    fn compare_all<'a>(&'a self, items: &'a [Item]) -> Result<Found<'a>> {
        let mut found = Found { drifts: Vec::new(), missing: Vec::new() };
        match self {
            Self::Named { images, regions } => {
                for image in images {
                    found.drifts.extend(drifted(image, items, regions));
                }
            }
            Self::Declared(declared) => {
                let mut lines: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
                for one in declared {
                    let images = one.images(items);
                    if images.is_empty() {
                        found.missing.push(one);
                    }
                    for image in images {
                        let key = (image.id.as_str(), image.region.as_deref());
                        if let Some(line) = lines.insert(key, one.line) {
                            return Err(named_twice(image, line, one.line));
                        }
                        found.drifts.extend(differing_from(one, image, items));
                    }
                }
            }
        }
        Ok(found)
    }
}

fn named_twice(image: &Item, first: usize, second: usize) -> Error {
    let (id, name) = (&image.id, &image.name);
    let text = format!("image `{id}` (`{name}`) is declared in line {first} and in line {second}");
    Error::new(Stage::Settings, text).hint("write names that stand for different images")
}

/// Copies of an image.
fn copies<'a>(image: &Item, all: &'a [Item]) -> Vec<&'a Item> {
    let reference = image.reference();
    let is_copy = |item: &&Item| {
        let from = item.copied_from.as_ref();
        let of_image = from.is_some_and(|from| from.id == image.id);
        let of_run = item.run_id.is_some() && item.run_id == image.run_id;
        item.reference() != reference && item.resource.deliverable && (of_image || of_run)
    };
    all.iter().filter(is_copy).collect()
}

/// Returns the copies of an image, and the regions without one.
fn drifted<'a>(image: &'a Item, all: &'a [Item], expected: &[String]) -> Vec<Drift<'a>> {
    let copies = copies(image, all);
    let mut found: Vec<Drift<'a>> =
        copies.iter().map(|copy| drift_of(image, copy, compare(image, copy))).collect();
    found.extend(missing(image, &copies, expected));
    found
}

fn drift_of<'a>(image: &'a Item, copy: &'a Item, differences: Vec<Difference>) -> Drift<'a> {
    let (region, keys) = (copy.region.clone().unwrap_or_default(), BTreeMap::new());
    Drift { image, copy: Some(copy), region, differences, keys }
}

/// The regions that have neither the image nor a copy.
fn missing<'a>(image: &'a Item, copies: &[&Item], expected: &[String]) -> Vec<Drift<'a>> {
    let has = |region: &String| {
        image.region.as_ref() == Some(region)
            || copies.iter().any(|copy| copy.region.as_ref() == Some(region))
    };
    let absent = expected.iter().filter(|region| !has(region));
    let drift = |region: &String| Drift {
        image,
        copy: None,
        region: region.clone(),
        differences: Vec::new(),
        keys: BTreeMap::new(),
    };
    absent.map(drift).collect()
}

/// Compares an image and its copies with a declaration.
fn differing_from<'a>(one: &Declared, image: &'a Item, all: &'a [Item]) -> Vec<Drift<'a>> {
    let copies = copies(image, all);
    let compared = std::iter::once(image).chain(copies.iter().copied()).map(|item| {
        let mut differences = compare(&one.wanted(image, item), item);
        let region = item.region.clone().unwrap_or_default();
        if let Some(regions) = one.regions.as_ref().filter(|regions| !regions.contains(&region)) {
            let advice = format!(
                "delete it with build-image images delete {} --yes, or add the region to the file",
                item.id
            );
            let wanted = regions.join(", ");
            differences.push(Difference::to_decide("region", &wanted, &region, advice));
        }
        drift_of(image, item, differences)
    });
    let mut found: Vec<Drift<'a>> = compared.collect();
    let absent = missing(image, &copies, one.regions.as_deref().unwrap_or_default());
    found.extend(absent.into_iter().map(|drift| Drift { keys: one.keys.clone(), ..drift }));
    found
}

fn described(found: &Found<'_>) -> String {
    let mut text = String::new();
    for one in &found.drifts {
        text += &match one.copy {
            Some(copy) => show::differing(copy, &one.differences),
            None => format!("{}: no copy is in {}\n", one.image.id, one.region),
        };
    }
    for one in &found.missing {
        text += &format!("{}: no complete image has this name (line {})\n", one.name, one.line);
    }
    if text.is_empty() {
        text = "no image has a copy, and no region was named with --expect\n".to_owned();
    }
    text
}

/// Repairs until nothing that can be repaired differs. Results of what was done are kept when it fails.
fn repair_all(
    account: &Account<'_>,
    wanted: &Wanted,
    request: &InventoryRequest,
    found: &Found<'_>,
    results: &mut Vec<Managed>,
) -> Result<()> {
    let mut makes_copies = repair(account, found, results)?;
    for _ in 1..ROUNDS {
        // What was refused is not tried again.
        if !makes_copies || check(results).is_err() {
            break;
        }
        let listing = account.list(request)?;
        let found = wanted.compare(&listing.items, account.can(MODIFY))?;
        makes_copies = repair(account, &found, results)?;
    }
    Ok(())
}

/// Repairs what differs, and then makes the copies that are missing; whether there were any.
fn repair(account: &Account<'_>, found: &Found<'_>, results: &mut Vec<Managed>) -> Result<bool> {
    let mut missing: BTreeMap<&str, (&Drift<'_>, Vec<String>)> = BTreeMap::new();
    for one in &found.drifts {
        let Some(copy) = one.copy else {
            let of_image = missing.entry(&one.image.id);
            of_image.or_insert((one, Vec::new())).1.push(one.region.clone());
            continue;
        };
        for action in one.differences.iter().filter_map(|difference| difference.repair.clone()) {
            change::apply(account, vec![copy.reference()], action, false, results)?;
        }
    }
    let makes_copies = !missing.is_empty();
    for (one, regions) in missing.into_values() {
        let mut keys = one.keys.clone();
        keys.retain(|region, _| regions.contains(region));
        let action = Action::Copy { regions, name: None, with_access: true, keys };
        change::apply(account, vec![one.image.reference()], action, false, results)?;
    }
    Ok(makes_copies)
}

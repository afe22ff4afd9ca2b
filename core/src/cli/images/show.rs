//! Prints what an account contains.

use build_image_plugin_api::document::{InventoryRequest, Item, ItemKind, ItemState};
use clap::{Arg, ArgMatches, Command};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{IMAGES, REGION, Session, images, print, region, switch, texts, words};
use crate::{
    account::{Difference, Listing, compare},
    clock,
    error::{Error, Result},
    report::{columns, hung},
};

const ALL: &str = "ALL";
const DETAILS: &str = "DETAILS";
const NAMES: &str = "NAME";
const OLDER: &str = "OLDER";
const RUN: &str = "RUN";
const TAGS: &str = "TAG";

pub(super) fn parsers() -> Vec<Command> {
    let list = Command::new("list")
        .about("Lists the images that builds made.")
        .arg(switch(ALL, "all", "also snapshots, objects, uploads in progress, and tasks"))
        .arg(words::list(NAMES, "name", "only with this name; repeat it for more"))
        .arg(words::value(RUN, "run", "RUN", "only of this run"))
        .arg(words::list(TAGS, "tag", "only with this tag, KEY=VALUE; repeat it for more"))
        .arg(words::value(OLDER, "older-than", "AGE", "only if they are older, for example 90d"))
        .arg(region())
        .arg(switch(DETAILS, "details", "also who may use them, at a request per image"));
    let show = Command::new("show").about("Prints everything that is known of images.");
    let diff = Command::new("diff").about("Prints in what an image and copies of it differ.").arg(
        Arg::new(IMAGES).required(true).num_args(2..).help("ids: the image, and copies of it"),
    );
    vec![list, show.args(images(1..)), diff.arg(region())]
}

/// Lists what builds made.
pub(super) fn list(session: &Session, words: &ArgMatches) -> Result<()> {
    let mut request = InventoryRequest::default();
    if !words.get_flag(ALL) {
        request.kinds = vec![ItemKind::Image];
    }
    request.run_id = words::text(words, RUN).map(str::to_owned);
    request.names = texts(words, NAMES);
    request.regions = texts(words, REGION);
    request.tags = words::tags(words, TAGS)?;
    request.details = words.get_flag(DETAILS);
    let age = words::age(words, OLDER)?;
    request.created_before = age.map(|age| clock::seconds().saturating_sub(age.as_secs()));
    let account = session.account()?;
    let mut listing = account.list(&request)?;
    session.report(&account, &listing);
    listing.items.sort_by(|a, b| (&a.region, a.created, &a.id).cmp(&(&b.region, b.created, &b.id)));
    let text = table(&listing.items, columns(std::io::stdout()));
    print(session, &account, document(&listing), &text);
    Ok(())
}

/// Prints images with everything that is known of them.
pub(super) fn show(session: &Session, words: &ArgMatches) -> Result<()> {
    let account = session.account()?;
    let items = session.named(&account, words)?;
    let text: Vec<String> = items.iter().map(described).collect();
    print(session, &account, json!({"items": items}), &text.join("\n"));
    Ok(())
}

/// Prints in what copies differ from an image.
pub(super) fn diff(session: &Session, words: &ArgMatches) -> Result<()> {
    let account = session.account()?;
    let items = session.named(&account, words)?;
    let ids: Vec<&String> = words.get_many::<String>(IMAGES).into_iter().flatten().collect();
    let first = ids.first().and_then(|id| items.iter().find(|item| item.id == ***id));
    let Some(image) = first else { return Err(Error::usage("no image is named")) };
    let (mut text, mut found) = (String::new(), Vec::new());
    for copy in items.iter().filter(|item| item.reference() != image.reference()) {
        let differences = compare(image, copy);
        text += &differing(copy, &differences);
        found.push(json!({"image": copy.reference(), "differences": differences}));
    }
    print(session, &account, json!({"image": image.reference(), "copies": found}), &text);
    Ok(())
}

/// Describes in what a copy differs.
pub(super) fn differing(copy: &Item, differences: &[Difference]) -> String {
    let mut text = format!("{}{}: ", copy.id, place(copy.region.as_deref()));
    if differences.is_empty() {
        return text + "equal\n";
    }
    text.push('\n');
    for Difference { subject, wanted, found, advice, .. } in differences {
        text += &format!("    {subject}: `{found}` instead of `{wanted}`\n");
        let hint = advice.as_ref().map(|advice| format!("        hint: {advice}\n"));
        text += &hint.unwrap_or_default();
    }
    text
}

pub(super) fn document(listing: &Listing) -> Value {
    json!({"items": listing.items, "regions": listing.regions, "findings": listing.findings})
}

/// Returns objects as lines of a table; where `width` columns are too few, as two lines for each object.
pub(super) fn table(items: &[Item], width: Option<usize>) -> String {
    if items.is_empty() {
        return "no image or object of a build was found\n".to_owned();
    }
    let mut rows =
        vec![["ID", "NAME", "REGION", "STATE", "SIZE", "CREATED", "RUN"].map(str::to_owned)];
    rows.extend(items.iter().map(row));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = 2 * (widths.len() - 1);
    if width.is_some_and(|width| widths.iter().sum::<usize>() + gaps > width) {
        return rows.iter().skip(1).map(|row| narrow(row, width)).collect();
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<String>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Returns an object of the table as two lines: its id and name, and the rest.
fn narrow([id, name, more @ ..]: &[String; 7], width: Option<usize>) -> String {
    let more: Vec<&str> = more.iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
    format!("{id}  {name}\n{}\n", hung("    ", &more.join(", "), width))
}

fn row(item: &Item) -> [String; 7] {
    let name = match item.kind {
        ItemKind::Image => item.name.clone(),
        _ if item.name.is_empty() || item.name == item.id => item.resource.kind.clone(),
        _ => format!("{} ({})", item.name, item.resource.kind),
    };
    [
        item.id.clone(),
        name,
        item.region.clone().unwrap_or_default(),
        state(item),
        item.size_bytes.map(|size| HumanBytes(size).to_string()).unwrap_or_default(),
        item.created.map(clock::text).unwrap_or_default(),
        item.run_id.clone().unwrap_or_default(),
    ]
}

fn state(item: &Item) -> String {
    let word = match item.state {
        ItemState::Available => "available",
        ItemState::Pending => "pending",
        ItemState::Deprecated => "deprecated",
        ItemState::Disabled => "disabled",
        ItemState::Failed => "failed",
        ItemState::Deleting => "deleting",
        _ => "",
    };
    match item.percent {
        Some(percent) if item.state == ItemState::Pending => format!("{word} {percent} %"),
        _ => word.to_owned(),
    }
}

fn place(region: Option<&str>) -> String {
    region.map(|region| format!(" in {region}")).unwrap_or_default()
}

/// Describes an image in lines.
fn described(item: &Item) -> String {
    let mut lines = vec![format!("{}{}", item.id, place(item.region.as_deref()))];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name:<13} {value}"));
        }
    };
    let time = |at: Option<u64>| at.map(clock::text).unwrap_or_default();
    add("name", item.name.clone());
    add("state", state(item));
    add("created", time(item.created));
    add("size", item.size_bytes.map(|size| HumanBytes(size).to_string()).unwrap_or_default());
    add("run", item.run_id.clone().unwrap_or_default());
    add("owner", item.owner.clone().unwrap_or_default());
    add("audience", crate::account::audience(item.audience).to_owned());
    add("shared with", item.shared_with.clone().unwrap_or_default().join(", "));
    add("deprecated", time(item.deprecated_at));
    let reference = |one: &Option<build_image_plugin_api::document::Reference>| {
        let one = one.as_ref();
        one.map(|one| format!("{}{}", one.id, place(one.region.as_deref()))).unwrap_or_default()
    };
    add("replaced by", reference(&item.replacement));
    add("copy of", reference(&item.copied_from));
    add("disk", item.disk_digest.clone().unwrap_or_default());
    for (key, value) in &item.attributes {
        add(key, value.clone());
    }
    for (key, value) in &item.tags {
        add("tag", format!("{key}: {value}"));
    }
    lines.join("\n") + "\n"
}

//! Deletes images that a rule names: those that newer ones of their family supersede.

use build_image_plugin_api::document::{Action, InventoryRequest, Item, ItemKind};
use clap::{ArgMatches, Command, value_parser};
use serde_json::json;

use super::{REGION, Session, change, print, region, show, texts, words};
use crate::{
    account::{Retention, check, superseded},
    clock,
    error::{Error, Result},
    report::columns,
};

const FAMILY: &str = "FAMILY";
const KEEP: &str = "KEEP";
const OLDER: &str = "OLDER";

pub(super) fn parser() -> Command {
    Command::new("prune")
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
        .arg(change::yes())
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
    let (mut results, mut failed) = (Vec::new(), None);
    if !old.is_empty() {
        failed = change::apply(&account, references, action, dry_run, &mut results).err();
    }
    let mut text = show::table(&old, columns(std::io::stdout()));
    if old.is_empty() {
        text = "no image is superseded\n".to_owned();
    } else {
        text += &change::text(&results, dry_run);
        if dry_run {
            text += "nothing was deleted; give --yes to delete this\n";
        }
    }
    print(session, &account, json!({"dry_run": dry_run, "items": old, "results": results}), &text);
    failed.map_or_else(|| check(&results), Err)
}

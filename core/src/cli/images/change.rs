//! Changes images that the user names.

use build_image_plugin_api::document::{
    Action, Audience, Change, InventoryRequest, Item, ItemKind, ManageRequest, Managed, Reference,
};
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};
use serde_json::json;

use super::{REGION, Session, images, print, switch, texts, words};
use crate::{
    account::{Account, check},
    error::{Error, Result},
    random,
};

const ACCOUNTS: &str = "ACCOUNT";
const AT: &str = "AT";
const AUDIENCE: &str = "AUDIENCE";
const DISABLED: &str = "DISABLED";
const DRY: &str = "DRY";
const ENCRYPT: &str = "ENCRYPT";
const EVERYONE: &str = "EVERYONE";
const FORCE: &str = "FORCE";
const KEEP: &str = "DATA";
const KEYS: &str = "KEY";
const NAME: &str = "COPY";
const REASON: &str = "REASON";
const REPLACEMENT: &str = "REPLACEMENT";
const TAGS: &str = "TAG";
const TO: &str = "TO";
const ACCESS: &str = "ACCESS";
pub(super) const YES: &str = "YES";
const WHEN: &str = "TIME";

pub(super) fn parsers() -> Vec<Command> {
    let verb = |name: &'static str, about: &'static str, more: Vec<Arg>| {
        Command::new(name).about(about).args(images(1..)).args(more).arg(dry_run())
    };
    let accounts =
        || words::list(ACCOUNTS, "account", "account, project, or member; repeat it for more");
    let audience = Arg::new(AUDIENCE)
        .long("audience")
        .value_parser(PossibleValuesParser::new(["public", "community", "private"]))
        .default_value("public")
        .help("who may use it");
    vec![
        verb("share", "Lets accounts use images.", vec![accounts().required(true)]),
        verb(
            "unshare",
            "Withdraws the access of accounts.",
            vec![accounts(), switch(EVERYONE, "everyone", "of every account")],
        ),
        verb("publish", "Sets whether everyone may use images.", vec![audience]),
        verb("deprecate", "Marks images as deprecated.", deprecation()),
        verb("restore", "Makes deprecated images usable again.", Vec::new()),
        verb(
            "tag",
            "Sets tags of images and of their snapshots.",
            vec![words::list(TAGS, "tag", "KEY=VALUE; repeat it for more").required(true)],
        ),
        verb(
            "untag",
            "Removes tags.",
            vec![words::list(KEYS, "key", "key of the tag; repeat it for more").required(true)],
        ),
        verb(
            "copy",
            "Copies images to other regions, with tags and attributes.",
            vec![
                words::list(TO, "to", "region; repeat it for more").required(true),
                words::value(
                    NAME,
                    "new-name",
                    "NAME",
                    "name of the copies; else that of the image",
                ),
                switch(ACCESS, "with-access", "share and publish the copies as the image is"),
                words::list(
                    ENCRYPT,
                    "key",
                    "REGION=KEY that encrypts the copy there; repeat it for more",
                ),
            ],
        ),
        verb(
            "delete",
            "Deletes images with their snapshots. Says only what it would do unless --yes is given.",
            vec![
                switch(KEEP, "keep-data", "keep the snapshots or objects"),
                switch(FORCE, "force", "also if they are protected, shared, or in use"),
                yes(),
            ],
        ),
    ]
}

fn deprecation() -> Vec<Arg> {
    vec![
        words::value(AT, "at", WHEN, "from when, for example 30d; now without it"),
        words::value(DISABLED, "disabled-at", WHEN, "from when they cannot be used"),
        words::value(REPLACEMENT, "replacement", "IMAGE", "the image to use instead"),
        words::value(REASON, "reason", "TEXT", "why, where the cloud shows it"),
    ]
}

fn dry_run() -> Arg {
    switch(DRY, "dry-run", "say what would be done, and do nothing")
}

pub(super) fn yes() -> Arg {
    switch(YES, "yes", "do it").short('y')
}

/// Applies the change that a verb names.
///
/// # Errors
/// Usage errors, and an image that was not changed.
pub(super) fn run(session: &Session, verb: &str, words: &ArgMatches) -> Result<()> {
    let action = action(verb, words)?;
    let account = session.account()?;
    let mut results = Vec::new();
    let images = match action {
        Action::Delete { .. } => to_delete(session, &account, words, &mut results)?,
        _ => session.named(&account, words)?.iter().map(Item::reference).collect(),
    };
    let is_asked = !matches!(action, Action::Delete { .. }) || words.get_flag(YES);
    let dry_run = words.get_flag(DRY) || !is_asked;
    let failed = apply(&account, images, action, dry_run, &mut results).err();
    if results.is_empty()
        && let Some(error) = failed
    {
        return Err(error);
    }
    let mut shown = text(&results, dry_run);
    if !is_asked {
        shown += "nothing was deleted; give --yes to delete this\n";
    }
    print(session, &account, json!({"dry_run": dry_run, "results": results}), &shown);
    failed.map_or_else(|| check(&results), Err)
}

/// Returns the images to delete, and those of which an earlier call left snapshots. Others that the words name are gone
/// already; at least one must exist.
fn to_delete(
    session: &Session,
    account: &Account<'_>,
    words: &ArgMatches,
    results: &mut Vec<Managed>,
) -> Result<Vec<Reference>> {
    let (found, missing) = session.found(account, words)?;
    let mut images: Vec<Reference> = found.iter().map(Item::reference).collect();
    let Some((missing, error)) = missing else { return Ok(images) };
    let mut request = InventoryRequest::default().kinds([ItemKind::Snapshot]);
    request.regions = texts(words, REGION);
    for snapshot in account.list(&request)?.items {
        if let Some(image) = snapshot.belongs_to
            && missing.contains(&image.id)
            && !images.contains(&image)
        {
            images.push(image);
        }
    }
    if images.is_empty() {
        return Err(error);
    }
    let is_gone = |id: &&String| images.iter().all(|image| image.id != **id);
    let gone = missing.iter().filter(is_gone).map(|id| Managed::unchanged(&Reference::image(id)));
    results.extend(gone);
    Ok(images)
}

/// Applies a change to images. The results of what was done are kept when it fails.
pub(super) fn apply(
    account: &Account<'_>,
    images: Vec<Reference>,
    action: Action,
    dry_run: bool,
    results: &mut Vec<Managed>,
) -> Result<()> {
    let mut request = ManageRequest::default();
    request.run_id = format!("manage-{}", random::characters(random::HEX, 12)?);
    (request.images, request.action, request.dry_run) = (images, action, dry_run);
    account.manage(&request, results)
}

/// Describes results, one per line.
pub(super) fn text(results: &[Managed], dry_run: bool) -> String {
    let mut text = String::new();
    for Managed { image, change, summary, copy, error, .. } in results {
        let region =
            image.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
        let word = match change {
            Change::Done if dry_run => "would be changed",
            Change::Done => "changed",
            Change::Unchanged => "unchanged",
            _ => "refused",
        };
        text += &format!("{}{region}  {word}", image.id);
        if !summary.is_empty() {
            text += &format!(": {summary}");
        }
        if let Some(copy) = copy {
            text += &format!(" (copy {})", copy.id);
        }
        text.push('\n');
        if let Some(error) = error {
            text += &format!("    {}\n", error.message);
            text +=
                &error.hint.as_ref().map(|hint| format!("    hint: {hint}\n")).unwrap_or_default();
        }
    }
    text
}

fn action(verb: &str, words: &ArgMatches) -> Result<Action> {
    let own = |name: &str| words::text(words, name).map(str::to_owned);
    Ok(match verb {
        "share" => Action::Share { accounts: texts(words, ACCOUNTS) },
        "unshare" => {
            let (accounts, everyone) = (texts(words, ACCOUNTS), words.get_flag(EVERYONE));
            if accounts.is_empty() && !everyone {
                return Err(Error::usage("no account is named")
                    .hint("give --account ACCOUNT, or --everyone"));
            }
            Action::Unshare { accounts, everyone }
        }
        "publish" => Action::Publish {
            audience: match own(AUDIENCE).as_deref() {
                Some("private") => Audience::Private,
                Some("community") => Audience::Community,
                _ => Audience::Public,
            },
        },
        "deprecate" => Action::Deprecate {
            at: words::time(words, AT)?,
            disabled_at: words::time(words, DISABLED)?,
            replacement: own(REPLACEMENT).map(Reference::image),
            reason: own(REASON).unwrap_or_default(),
        },
        "restore" => Action::Restore,
        "tag" => Action::Tag { tags: words::tags(words, TAGS)? },
        "untag" => Action::Untag { keys: texts(words, KEYS) },
        "copy" => Action::Copy {
            regions: texts(words, TO),
            name: own(NAME),
            with_access: words.get_flag(ACCESS),
            keys: words::tags(words, ENCRYPT)?,
        },
        _ => Action::Delete { keep_data: words.get_flag(KEEP), force: words.get_flag(FORCE) },
    })
}

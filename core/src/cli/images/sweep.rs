//! Runs `build-image gc --cloud`: removes what unfinished builds of any host left in an account.

use std::time::Duration;

use build_image_plugin_api::{
    ErrorKind,
    document::{Finding, InventoryRequest, Item, Severity},
};
use clap::Command;
use serde_json::json;

use super::{REGION, Session, change, print, region, show, switch, texts, words};
use crate::{
    account::{Account, Kept, Sweep, sweep as decide},
    cli::runs::base,
    clock,
    error::{Error, Result, Stage},
    journal::Key,
    report::{Leftover, columns},
    runs::{self, State},
    settings::{Environment, Row, Use, rows_for},
};

/// The flag that chooses this command.
pub(in crate::cli) const CLOUD: &str = "--cloud";
const AGE: &str = "AGE";
/// Age from which on what is not finished counts as left.
const DEFAULT_AGE: Duration = Duration::from_secs(24 * 3600);

fn parser(own: &[Row]) -> Command {
    let rows = [rows_for(Use::Images), own.to_vec()].concat();
    Command::new("build-image gc --cloud")
        .about("Removes what unfinished builds of any host left in an account. Says only what it would do unless --yes is given.")
        .arg(switch("CLOUD", "cloud", "ask the account, not the journals of this host"))
        .arg(words::value(AGE, "older-than", "AGE", "only if it is older [default: 24h]"))
        .arg(region())
        .arg(change::yes())
        .args(rows.iter().map(super::command::flag).collect::<Vec<_>>())
}

/// Removes what unfinished builds left in an account.
///
/// # Errors
/// Usage errors, and an object that could not be removed.
pub(in crate::cli) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let Some((session, matches)) = Session::open(args, environment, parser)? else { return Ok(()) };
    let age = words::age(&matches, AGE)?.unwrap_or(DEFAULT_AGE);
    let account = session.account()?;
    let mut request = InventoryRequest::default();
    request.regions = texts(&matches, REGION);
    let listing = account.list(&request)?;
    session.report(&account, &listing);
    let key = std::sync::Arc::new(Key::existing(&session.settings, environment)?);
    let here = runs::list(&base(&session.settings), &key);
    let known = |id: &str| {
        let run = here.iter().find(|run| run.id == id)?;
        Some(match run.state {
            State::Running => "it is at work on this host".to_owned(),
            _ => "it is known here: build-image resume continues it, build-image gc removes it"
                .to_owned(),
        })
    };
    let mut decided = decide(listing.items, clock::seconds(), age, &known);
    let dry_run = !matches.get_flag(change::YES);
    let unread: Vec<&Finding> =
        listing.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    if let (Some(first), false) = (unread.first(), dry_run) {
        // A build may be at work where nothing could be read.
        let text = format!("nothing was removed, because {} could not be read", first.subject);
        let stage = Stage::Provider(first.kind.unwrap_or(ErrorKind::Provider));
        return Err(Error::new(stage, text).hint("name what can be read with --region"));
    }
    let left = if dry_run { Vec::new() } else { remove(&session, &account, &mut decided) };
    let document = json!({
        "dry_run": dry_run,
        "remove": decided.remove,
        "kept": decided.kept,
        "left": left,
    });
    print(&session, &account, document, &text(&decided, &left, dry_run));
    left.iter().for_each(|leftover| session.reporter.left_behind(leftover));
    session.interrupt.check()?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::new(Stage::Leftovers, "not everything could be removed"))
}

/// Removes what was decided; after an interruption the other runs stay. Returns what still exists of those that were
/// removed.
fn remove(session: &Session, account: &Account<'_>, decided: &mut Sweep) -> Vec<Leftover> {
    let mut left = Vec::new();
    let runs: Vec<String> = decided.remove.keys().cloned().collect();
    for run_id in runs {
        if session.interrupt.is_set() {
            let items = decided.remove.remove(&run_id).unwrap_or_default();
            let reason = "the command was interrupted".to_owned();
            decided.kept.push(Kept { run_id, items, reason });
        } else if let Some(items) = decided.remove.get(&run_id) {
            let resources = items.iter().map(|item| item.resource.clone()).collect();
            left.extend(account.remove(&run_id, resources));
        }
    }
    left
}

/// Describes what was removed, or would be, and what stays.
fn text(decided: &Sweep, left: &[Leftover], dry_run: bool) -> String {
    let mut text = String::new();
    for Kept { run_id, reason, .. } in &decided.kept {
        text += &format!("{run_id}  stays: {reason}\n");
    }
    let is_left = |items: &[Item]| {
        let mut resources = left.iter().map(|leftover| &leftover.resource);
        resources.any(|resource| items.iter().any(|item| item.resource.is(resource)))
    };
    let width = columns(std::io::stdout()).map(|width| width.saturating_sub(4));
    for (run_id, items) in &decided.remove {
        let word = match (dry_run, is_left(items)) {
            (true, _) => "would be removed",
            (false, true) => "removed in part",
            (false, false) => "removed",
        };
        text += &format!("{run_id}  {word}\n");
        text.extend(show::table(items, width).lines().map(|line| format!("    {line}\n")));
    }
    if decided.remove.is_empty() {
        text += "no unfinished build left anything that may be removed\n";
    } else if dry_run {
        text += "nothing was removed; give --yes to remove all of this\n";
    }
    text
}

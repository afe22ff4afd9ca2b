//! Runs `build-image gc --cloud`: removes what unfinished builds of any host left in an account.

use std::time::Duration;

use build_image_plugin_api::document::{InventoryRequest, Item};
use clap::{ArgMatches, Command};

use super::{REGION, Session, change, region, show, switch, texts, words};
use crate::{
    account::sweep as decide,
    cli::runs::base,
    clock,
    error::{Error, Result, Stage},
    journal::Key,
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
    session.report(&listing);
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
    let decided = decide(listing.items, clock::seconds(), age, &known);
    for kept in &decided.kept {
        super::super::print(&format!("{}  stays: {}\n", kept.run_id, kept.reason));
    }
    let mut left = 0;
    for (run_id, items) in &decided.remove {
        super::super::print(&format!("{run_id}\n{}", indented(&show::table(items))));
        if !yes(&matches) {
            continue;
        }
        session.interrupt.check()?;
        let resources = items.iter().map(|item: &Item| item.resource.clone()).collect();
        let leftovers = account.remove(run_id, resources);
        leftovers.iter().for_each(|leftover| session.reporter.left_behind(leftover));
        left += leftovers.len();
        if leftovers.is_empty() {
            super::super::print(&format!("{run_id}  removed\n"));
        }
    }
    if decided.remove.is_empty() {
        super::super::print("no unfinished build left anything that may be removed\n");
    } else if !yes(&matches) {
        super::super::print("nothing was removed; give --yes to remove all of this\n");
    }
    match left {
        0 => Ok(()),
        _ => Err(Error::new(Stage::CleanUp, "not everything could be removed")),
    }
}

fn yes(words: &ArgMatches) -> bool {
    words.get_flag(change::YES)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

//! Runs `build-image images`: lists and changes the images of an account.
//!
//! ```text
//! mod.rs      the words of the command line, and who serves them
//! show.rs     list, show, and diff
//! change.rs   share, unshare, publish, deprecate, restore, tag, untag, copy, delete
//! many.rs     prune
//! drift.rs    drift
//! sweep.rs    gc --cloud
//! words.rs    arguments: times, ages, tags
//! ```

mod change;
mod drift;
mod many;
mod show;
mod sweep;
mod words;

use std::sync::Arc;

use build_image_plugin_api::document::{InventoryRequest, Item, ItemKind, Reference};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{args, build, command, unknown};
use crate::{
    account::{Account, Listing},
    error::{Error, Result, Stage},
    interrupt::{self, Interrupt},
    plugins::Plugin,
    report::{OutputMode, Reporter},
    settings::{Environment, Resolved, Row, Use, core_rows, found_note, rows_for},
};

pub(super) use sweep::{CLOUD, run as sweep};

const NAME: &str = "build-image images";

/// Returns the parser, with the settings of a provider.
pub(super) fn parser(own: &[Row]) -> Command {
    let rows = [rows_for(Use::Images), own.to_vec()].concat();
    // They may stand before the verb and after it.
    let flags: Vec<Arg> = rows.iter().map(|row| command::flag(row).global(true)).collect();
    let more = vec![many::parser(), drift::parser()];
    let verbs = [show::parsers(), change::parsers(), more].concat();
    Command::new(NAME)
        .about(
            "Lists and changes the images that builds made in an account, without any local file.",
        )
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .args(flags)
        .subcommands(verbs)
}

/// Lists or changes images.
///
/// # Errors
/// Usage errors, and what the provider refuses.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let args = args::normalised(args);
    let Some((session, matches)) = Session::open(&args, environment, parser)? else {
        return Ok(());
    };
    let Some((verb, words)) = matches.subcommand() else { return Ok(()) };
    match verb {
        "list" => show::list(&session, words),
        "show" => show::show(&session, words),
        "diff" => show::diff(&session, words),
        "prune" => many::prune(&session, words),
        "drift" => drift::drift(&session, words),
        verb => change::run(&session, verb, words),
    }
}

/// What a command needs: the provider, its settings, and where output goes.
struct Session {
    plugin: Plugin,
    settings: Resolved,
    environment: Environment,
    reporter: Arc<Reporter>,
    interrupt: Arc<Interrupt>,
}

impl Session {
    /// Parses the arguments; `None` when help was printed. Whether a provider is needed is known only then.
    fn open(
        args: &[String],
        environment: &Environment,
        parser: impl Fn(&[Row]) -> Command,
    ) -> Result<Option<(Self, ArgMatches)>> {
        let mut layers = args::core_layers(args, environment, None)?;
        let first = layers.resolve(&rows_for(Use::Selection))?;
        let loader = build::loader(&first, environment)?;
        let named = first.core().plugins.platform.as_ref();
        let plugin = named.map(|name| loader.load(&loader.search.find(name)?)).transpose()?;
        let own = plugin.as_ref().map(Plugin::rows).unwrap_or_default();
        let Some(matches) = command::matches(parser(&own), args)? else { return Ok(None) };
        let plugin = plugin.ok_or_else(|| build::no_platform(&loader.search))?;
        let rows = [core_rows(), own].concat();
        let words = matches.subcommand().map_or(&matches, |(_, words)| words);
        layers.command_line = command::texts(&rows, words);
        let settings = layers.resolve(&rows)?;
        let reporter = Arc::new(Reporter::new(OutputMode::of(&settings, environment)));
        if let Some(file) = &layers.file {
            found_note(file).iter().for_each(|text| reporter.note(text));
            unknown::keys(file, &rows, &plugin.name, &loader, &reporter)?;
        }
        build::check_missing(&plugin, &settings)?;
        let interrupt = Arc::new(Interrupt::default());
        interrupt::listen(Arc::clone(&interrupt), || build::leave(&[]))?;
        let environment = environment.clone();
        Ok(Some((Self { plugin, settings, environment, reporter, interrupt }, matches)))
    }

    fn account(&self) -> Result<Account<'_>> {
        let (reporter, interrupt) = (Arc::clone(&self.reporter), Arc::clone(&self.interrupt));
        Account::open(&self.plugin, &self.settings, &self.environment, reporter, interrupt)
    }

    fn as_json(&self) -> bool {
        self.settings.core().output.json
    }

    /// Reports regions that could not be read.
    fn report(&self, account: &Account<'_>, listing: &Listing) {
        let shown = |text: &str| account.redactor().text(text);
        for finding in &listing.findings {
            let text = shown(&format!("{}: {}", finding.subject, finding.message));
            self.reporter.warning(&text, finding.hint.as_deref().map(shown).as_deref());
        }
    }

    /// Returns the images that the words name, with their details.
    fn named(&self, account: &Account<'_>, words: &ArgMatches) -> Result<Vec<Item>> {
        let (found, missing) = self.found(account, words)?;
        missing.map_or(Ok(found), |(_, error)| Err(error))
    }

    /// Returns those of the images that the words name that exist, and the others with an error for the first.
    fn found(
        &self,
        account: &Account<'_>,
        words: &ArgMatches,
    ) -> Result<(Vec<Item>, Option<Missing>)> {
        let ids: Vec<&String> = words.get_many::<String>(IMAGES).into_iter().flatten().collect();
        let mut request = InventoryRequest::default();
        request.kinds = vec![ItemKind::Image];
        request.regions = texts(words, REGION);
        request.details = true;
        request.items = ids.iter().map(|id| Reference::image(id.as_str())).collect();
        let listing = account.list(&request)?;
        self.report(account, &listing);
        let found = |id: &&String| listing.items.iter().any(|item| item.id == ***id);
        let missing: Vec<String> =
            ids.iter().filter(|id| !found(id)).map(|id| (*id).clone()).collect();
        let Some(first) = missing.first() else { return Ok((listing.items, None)) };
        let regions = listing.regions.join(", ");
        let place = if regions.is_empty() { "the account".to_owned() } else { regions };
        let text = format!("no image `{first}` is in {place}");
        let error = Error::new(Stage::Provider(build_image_plugin_api::ErrorKind::NotFound), text)
            .hint("build-image images list prints the ids; --region names other regions");
        Ok((listing.items, Some((missing, error))))
    }
}

/// Ids of images that do not exist, with an error for the first.
type Missing = (Vec<String>, Error);

const IMAGES: &str = "IMAGE";
const REGION: &str = "REGION";

/// The arguments that name images.
fn images(count: impl Into<clap::builder::ValueRange>) -> [Arg; 2] {
    [
        Arg::new(IMAGES)
            .required(true)
            .num_args(count)
            .help("ids of images, as `images list` prints them"),
        region(),
    ]
}

fn region() -> Arg {
    words::list(REGION, "region", "only in this region; repeat it for more")
}

fn switch(name: &'static str, long: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(long).action(ArgAction::SetTrue).help(help)
}

/// Returns the texts of an argument, each once.
fn texts(words: &ArgMatches, name: &str) -> Vec<String> {
    words::texts(words, name)
}

/// Prints a document or a text, without the secrets of the settings: an account may contain any text.
fn print(session: &Session, account: &Account<'_>, document: serde_json::Value, text: &str) {
    if session.as_json() {
        super::print(&format!("{:#}\n", account.redactor().value(document)));
    } else {
        super::print(&account.redactor().text(text));
    }
}

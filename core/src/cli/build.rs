//! Runs a build: the command line without a verb, compatible with the old tool.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use build_image_plugin_api::Status;

use super::{
    args,
    command::{self, Parsed},
    exposed,
    group::{self, Choice},
    halves, info, iso_only,
    named::{self, Entered},
    output::Output,
    unknown,
};
use crate::{
    bundle,
    error::{Error, Problem, Result, Stage},
    exit,
    interrupt::{self, Interrupt},
    journal::{Journal, Key, open_resources},
    once::Once,
    pipeline::{Member, Pipeline, PipelineParams},
    plan::{Draws, Plan, Suffixes},
    plugins::{Loader, Lock, Plugin, SearchPath, expect_end},
    random,
    report::{LOGS, LogFile, LogNames, Outcome, OutputMode, PluginEntry, Reporter, print_line},
    runs::Run,
    settings::{
        Environment, Layers, Resolved, Row, Use, core_rows, found_note, keys, rows_for, rows_of,
    },
    source,
};

/// Everything that is known before a plan is made.
pub(super) struct Prepared {
    pub(super) plugin: Plugin,
    pub(super) settings: Resolved,
}

/// Result of the preparation.
pub(super) enum Preparation {
    /// The user requested help, the version or facts; this is the text.
    Text(String),
    /// A build can be planned.
    Ready(Box<Prepared>),
}

/// A run of an earlier process that is resumed.
pub(super) struct Resumed {
    /// The run.
    pub(super) run: Run,
    /// The arguments typed now: they override those the run was started with, and their relative paths start in the
    /// current working directory.
    pub(super) typed: Vec<String>,
}

/// Runs a build and reports it; returns the exit code. With `resumed`, the arguments are those typed now, followed
/// by those of the earlier process. Arguments may be secrets: they are dropped as soon as they are parsed.
pub(super) fn run(
    mut args: Vec<String>,
    environment: &Environment,
    resumed: Option<&Resumed>,
) -> u8 {
    if args.is_empty() && resumed.is_none() && !args::names_input(environment) {
        print_line(command::short_help().trim_end());
        return exit::USAGE;
    }
    args = args::normalised(&args);
    let mut outcome = Outcome {
        start_time: crate::clock::now(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        uuid: random::characters(random::HEX, 32).unwrap_or_default(),
        ..Outcome::default()
    };
    let mut output = Output::default();
    let result = attempt(args, environment, resumed, &mut outcome, &mut output);
    match result {
        Ok(Ended::Text(text)) => {
            super::print(&text);
            exit::DONE
        }
        Ok(Ended::Group(code)) => code,
        other => output.finish(&other.map(|_| ()), &mut outcome),
    }
}

/// How a command ended that did not fail.
enum Ended {
    /// The user requested help, the version or facts; this is the text.
    Text(String),
    /// A build has ended.
    Built,
    /// A build with several targets has ended and was reported; this is the exit code.
    Group(u8),
}

fn attempt(
    args: Vec<String>,
    environment: &Environment,
    resumed: Option<&Resumed>,
    outcome: &mut Outcome,
    output: &mut Output,
) -> Result<Ended> {
    output.learn(&args::without_file(&args, environment, resumed));
    let layers = args::with_file(&args, environment, resumed)?;
    output.learn(&layers);
    let layers = match group::chosen(&args, layers, resumed.is_some())? {
        Choice::One(layers) => *layers,
        Choice::Several(layers, targets) => {
            return Ok(Ended::Group(group::run(args, *layers, targets, output)));
        }
    };
    let prepared = match prepare(&args, layers, resumed, outcome)? {
        Preparation::Text(text) => return Ok(Ended::Text(text)),
        Preparation::Ready(prepared) => prepared,
    };
    output.set(&prepared.settings, &[core_rows(), prepared.plugin.rows()].concat(), environment);
    output.probe()?;
    match named::enter(&prepared, environment, resumed)? {
        Entered::Begins(once) => {
            let words = recorded(&args, &prepared);
            drop(args);
            let begun = Begun { prepared: &prepared, environment, resumed, words, once };
            begun.run(outcome, output)?;
        }
        Entered::Done(earlier) => *outcome = Outcome { repeated: true, ..*earlier },
        Entered::Unfinished(run) => {
            let all = [run.words.clone(), args.clone()].concat();
            let earlier = Resumed { run: *run, typed: args };
            return attempt(all, environment, Some(&earlier), outcome, output);
        }
    }
    Ok(Ended::Built)
}

/// Returns the command line of a run, without secrets.
fn recorded(args: &[String], prepared: &Prepared) -> Vec<String> {
    let mut words = args::without_secrets(args, &prepared.plugin.rows());
    // A later process finds the target even if the file lists others by then.
    words.extend(prepared.settings.target().map(args::platform_flag));
    words
}

/// A build with one target, whose settings are valid.
struct Begun<'a> {
    prepared: &'a Prepared,
    environment: &'a Environment,
    resumed: Option<&'a Resumed>,
    /// The command line without secrets.
    words: Vec<String>,
    once: Option<Box<Once>>,
}

impl Begun<'_> {
    /// Opens the log, listens for signals, and runs the build.
    fn run(self, outcome: &mut Outcome, output: &mut Output) -> Result<()> {
        let Begun { prepared, environment, resumed, words, once } = self;
        let draws = match resumed {
            Some(resumed) => Draws::of(&resumed.run)?,
            None => {
                let target = prepared.settings.target().unwrap_or(&prepared.plugin.name);
                Suffixes::of_this(&prepared.settings, environment)?.draws(target)?
            }
        };
        outcome.run_id.clone_from(&draws.run_id);
        let log = log_file(&prepared.plugin, &prepared.settings, &draws.run_id, resumed)?;
        outcome.log_file = Some(log.path.display().to_string());
        output.set_log(log);
        let interrupt = Arc::new(Interrupt::default());
        let at_work = Arc::new(OnceLock::<PathBuf>::new());
        let run_directory = Arc::clone(&at_work);
        let leave =
            move || leave(run_directory.get().map(std::slice::from_ref).unwrap_or_default());
        interrupt::listen(Arc::clone(&interrupt), leave)?;
        let start = Start {
            prepared,
            environment,
            draws: &draws,
            words,
            reporter: Arc::new(Reporter::new(output.mode)),
            interrupt,
            resumed: resumed.map(|resumed| &resumed.run),
            member: None,
            once,
            at_work: &|run| drop(at_work.set(run.to_owned())),
        };
        execute(start, outcome)
    }
}

/// What a build starts with.
pub(super) struct Start<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) environment: &'a Environment,
    pub(super) draws: &'a Draws,
    /// The command line without secrets.
    pub(super) words: Vec<String>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) interrupt: Arc<Interrupt>,
    /// The run that is resumed.
    pub(super) resumed: Option<&'a Run>,
    /// The target, if the build has several.
    pub(super) member: Option<Member>,
    /// The name of the build, locked, if it has one.
    pub(super) once: Option<Box<Once>>,
    /// Is called with the directory of the run before anything is created.
    pub(super) at_work: &'a (dyn Fn(&Path) + Sync),
}

/// Plans and runs a build.
///
/// # Errors
/// The first failure; see [`Pipeline::run`].
pub(super) fn execute(start: Start<'_>, outcome: &mut Outcome) -> Result<()> {
    let Start {
        prepared,
        environment,
        draws,
        words,
        reporter,
        interrupt,
        resumed,
        member,
        once,
        at_work,
    } = start;
    let (plugin, settings) = (&prepared.plugin, &prepared.settings);
    iso_only::warn(settings, &reporter);
    super::unsupported::check(&plugin.name, plugin.description(), settings, &reporter)?;
    let key = Arc::new(Key::of(settings, environment)?);
    let leave = source::Remote::Leave;
    let peeked = source::peek(&source::SourceContext::new(settings, &reporter, &interrupt), leave)?;
    let mut plan = Plan::new(&plugin.name, plugin.description(), settings, peeked, draws)?;
    if let Some(run) = resumed {
        plan.resume(run)?;
    }
    outcome.image_name.clone_from(&plan.build.image_name);
    let once = named::begin(once, prepared, &draws.run_id, resumed.is_some())?;
    at_work(&plan.run);
    let keep = plan.keep;
    let params = PipelineParams {
        plan,
        plugin,
        settings,
        environment,
        journal: None,
        words,
        once,
        key,
        reporter,
        interrupt,
        member,
    };
    let mut pipeline = Pipeline::new(params)?;
    pipeline.run(outcome)?;
    if !keep {
        pipeline.take_downloads().into_iter().for_each(source::Slot::remove);
    }
    Ok(())
}

/// Turns arguments into settings: finds the provider, parses all flags and all values.
pub(super) fn prepare(
    args: &[String],
    mut layers: Layers,
    resumed: Option<&Resumed>,
    outcome: &mut Outcome,
) -> Result<Preparation> {
    let first = layers.resolve(&rows_for(Use::Selection))?;
    let loader = loader(&first, &layers.environment)?;
    let plugin = match &first.core().plugins.platform {
        Some(name) => {
            name.clone_into(&mut outcome.platform);
            let found = loader.search.find(name).map_err(|error| unknown::provider(error, &first));
            Some(loader.load(&found?)?)
        }
        None => None,
    };
    let own = plugin.as_ref().map(Plugin::rows).unwrap_or_default();
    let rows = [core_rows(), own].concat();
    layers.command_line = match command::parse(command::command("build-image", &rows), &rows, args)?
    {
        Parsed::Text(text) => return Ok(Preparation::Text(text)),
        Parsed::Texts(texts) => texts,
    };
    if let Some(resumed) = resumed {
        args::start_here(&mut layers.command_line, &resumed.typed, &rows)?;
    }
    if let Some(text) = information(&layers)? {
        return Ok(Preparation::Text(text));
    }
    let plugin = plugin.ok_or_else(|| no_platform(&loader.search))?;
    outcome.plugin = Some(plugin_entry(&plugin));
    let settings = layers.resolve(&rows)?;
    outcome.modules = settings.by_name().text("MODULES").map(str::to_owned);
    outcome.boot_locations = settings.by_name().text("BOOT_LOCATIONS").map(str::to_owned);
    let reporter = Reporter::new(OutputMode::of(&settings, &layers.environment));
    settings.ignored_variables().iter().for_each(|text| reporter.warning(text, None));
    unknown::variables(&layers.environment, &rows, &plugin.name, &reporter);
    if let Some(file) = &layers.file {
        found_note(file).iter().for_each(|text| reporter.note(text));
        unknown::keys(file, &rows, &plugin.name, &loader, &reporter)?;
        exposed::warn_of_file(file, &rows, &reporter);
    }
    exposed::warn_of_arguments(&layers.command_line, &rows, &reporter);
    check_required(&plugin, &settings)?;
    Ok(Preparation::Ready(Box::new(Prepared { plugin, settings })))
}

/// Returns facts about this host if they were requested.
pub(super) fn information(layers: &Layers) -> Result<Option<String>> {
    if !layers.resolve(&rows_of(&[keys::INFO]))?.core().run.info {
        return Ok(None);
    }
    let qemu = layers.resolve(&rows_of(&[keys::QEMU]))?;
    Ok(Some(info::text(&qemu, &layers.environment)))
}

/// Determines how these settings find and load plugins.
///
/// # Errors
/// When the lock file cannot be read.
pub(super) fn loader(settings: &Resolved, environment: &Environment) -> Result<Loader> {
    let set = &settings.core().plugins;
    let executable = std::env::current_exe().ok();
    let search = SearchPath::new(
        environment,
        set.directory.clone(),
        set.file.clone(),
        executable.as_deref(),
    );
    let (named, config) = (set.lock_file.as_deref(), set.config_file.as_deref());
    let lock = Lock::open(named, config, environment, set.locked)?;
    Ok(Loader { search, lock, isolate: set.isolate, environment: environment.clone() })
}

pub(super) fn no_platform(search: &SearchPath) -> Error {
    let mut names: Vec<String> = search.all().into_iter().map(|candidate| candidate.name).collect();
    names.dedup();
    Error::new(Stage::Settings, format!("{} is not set", keys::PLATFORM)).hint(
        if names.is_empty() {
            "give the provider with -p; none is installed, see build-image providers list"
                .to_owned()
        } else {
            let names = names.join(", ");
            format!(
                "give the provider with -p, one of {names}; `build-image --help` shows the rest"
            )
        },
    )
}

/// Reports all required settings that are missing, and switches that contradict the provider.
pub(super) fn check_required(plugin: &Plugin, settings: &Resolved) -> Result<()> {
    let uploads = plugin.description().uploads;
    halves::check(plugin, settings)?;
    let registers = uploads && plugin.description().status != Status::DiskOnly;
    check_bundle(&plugin.name, registers, settings)?;
    if settings.core().run.no_upload {
        if uploads {
            return Ok(());
        }
        return Err(Error::new(
            Stage::Settings,
            format!(
                "{} is set, but provider `{}` uploads nothing anyway",
                keys::NO_UPLOAD,
                plugin.name
            ),
        )
        .hint("leave --no-upload out"));
    }
    check_missing(plugin, settings)
}

/// Reports all required settings that are missing.
pub(super) fn check_missing(plugin: &Plugin, settings: &Resolved) -> Result<()> {
    let rows = plugin.rows();
    let required = rows.iter().filter(|row: &&Row| row.setting.required);
    let missing = required.filter(|row| settings.of(row).is_none());
    let problems: Vec<Problem> = missing
        .map(|row| Problem::new(format!("{} is not set", row.key())).hint(where_to_set(row)))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("provider `{}` needs more settings", plugin.name);
    Err(Error::several(Stage::Settings, text, problems))
}

/// Refuses settings of bundles that contradict the provider or each other.
fn check_bundle(name: &str, registers: bool, settings: &Resolved) -> Result<()> {
    let set = settings.core();
    let error = |text: String, hint: &str| Err(Error::new(Stage::Settings, text).hint(hint));
    let (written, from) = (keys::BUNDLE, keys::FROM_BUNDLE);
    let is_set = |key: &crate::settings::Key| settings.get(*key).is_some();
    if let Some(key) = [written, from].into_iter().find(|key| is_set(key) && !registers) {
        let text =
            format!("{key} is set, but provider `{name}` registers no images, it writes files");
        return error(text, "use a provider that uploads, or copy the file that this one writes");
    }
    if set.bundle.file.is_some() && set.bundle.published.is_none() && !set.run.no_upload {
        let text = format!("{written} is set without {}", keys::NO_UPLOAD);
        return error(text, "give --no-upload; build-image publish uploads the bundle later");
    }
    // Before the long steps: a bundle is written at the end of the build.
    if let Some(list) = &set.bundle.regions {
        bundle::texts(list, keys::BUNDLE_REGIONS.name())?;
    }
    set.bundle.expires.map(bundle::expiry).transpose()?;
    for key in [keys::BUNDLE_EXPIRES, keys::BUNDLE_REGIONS] {
        if settings.get(key).is_some() && set.bundle.file.is_none() {
            return error(
                format!("{key} is set without {written}"),
                "give --bundle, or leave it out",
            );
        }
    }
    Ok(())
}

/// Describes where a missing setting may be set. A secret on the command line can be read by every user of this host.
fn where_to_set(row: &Row) -> String {
    let other = if row.setting.secret {
        format!("as F5_{} in the environment", row.key())
    } else {
        format!("give --{}", row.long())
    };
    format!("{}: set it in the configuration file, or {other}", row.setting.summary)
}

pub(super) fn plugin_entry(plugin: &Plugin) -> PluginEntry {
    let description = plugin.description();
    let status = serde_json::to_value(description.status).ok();
    PluginEntry {
        name: plugin.name.clone(),
        version: description.version.clone(),
        status: status.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
        path: plugin.path.display().to_string(),
        sha256: plugin.sha256.clone(),
    }
}

/// Opens the run's log. The name that the old tool used for its log is a link to the latest one.
fn log_file(
    plugin: &Plugin,
    settings: &Resolved,
    run_id: &str,
    resumed: Option<&Resumed>,
) -> Result<LogFile> {
    let shape =
        match (settings.by_name().text("MODULES"), settings.by_name().text("BOOT_LOCATIONS")) {
            (Some(modules), Some(slots)) => format!("-{modules}-{slots}slot"),
            _ => String::new(),
        };
    let names = LogNames {
        file: format!("{run_id}.log"),
        links: vec!["latest".to_owned(), format!("image-{}{shape}", plugin.name)],
        fallback: resumed
            .and_then(|resumed| Some(resumed.run.directory.ancestors().nth(2)?.join(LOGS))),
    };
    LogFile::start(settings, &names)
}

/// Handles the second signal: exits at once and reports what the journals of the runs record.
#[expect(clippy::disallowed_methods, reason = "the user interrupted twice: nothing is awaited")]
pub(super) fn leave(runs: &[PathBuf]) {
    print_line("interrupted twice, leaving at once");
    let journals = runs.iter().filter_map(|run| Journal::snapshot(run).ok());
    let left: Vec<_> = journals.flat_map(|journal| open_resources(&journal.entries)).collect();
    for resource in &left {
        print_line(&format!("  still there: {}", resource.label()));
    }
    if !left.is_empty() {
        print_line("  hint: build-image gc --yes removes it, build-image resume goes on");
    }
    expect_end();
    std::process::exit(i32::from(exit::INTERRUPTED));
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{Setting, SettingKind};

    use super::*;

    #[test]
    fn the_hint_for_a_missing_secret_does_not_name_a_flag() {
        let row = |setting| Row::new(setting);
        let open = Setting::new("ACME_BUCKET", SettingKind::Text, "where to");
        assert!(where_to_set(&row(open.clone())).ends_with("or give --acme-bucket"));
        let hint = where_to_set(&row(open.secret()));
        assert!(!hint.contains("--") && hint.contains("as F5_ACME_BUCKET in"), "{hint}");
    }
}

//! Runs a build: the command line without a verb, compatible with the old tool.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use build_image_plugin_api::Status;

use super::{
    args,
    command::{self, Information, Parsed},
    exposed, halves, info, iso_only,
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
    pipeline::{Pipeline, PipelineParams},
    plan::{Draws, Plan},
    plugins::{Loader, Lock, Plugin, SearchPath, expect_end},
    random,
    report::{LOGS, LogFile, LogNames, Outcome, OutputMode, PluginEntry, Reporter, print_line},
    runs::Run,
    settings::{Environment, Layers, Resolved, Row, Use, core_rows, keys, rows_for, rows_of},
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
        Ok(Some(text)) => {
            super::print(&text);
            exit::DONE
        }
        other => output.finish(&other.map(|_| ()), &mut outcome),
    }
}

fn attempt(
    args: Vec<String>,
    environment: &Environment,
    resumed: Option<&Resumed>,
    outcome: &mut Outcome,
    output: &mut Output,
) -> Result<Option<String>> {
    output.learn(&args::without_file(&args, environment, resumed));
    let layers = args::core_layers(&args, environment, resumed)?;
    output.learn(&layers);
    let prepared = match prepare(&args, layers, resumed, outcome)? {
        Preparation::Text(text) => return Ok(Some(text)),
        Preparation::Ready(prepared) => prepared,
    };
    let (plugin, settings) = (&prepared.plugin, &prepared.settings);
    output.set(settings, &[core_rows(), plugin.rows()].concat(), environment);
    output.probe()?;
    let key = Arc::new(Key::of(settings, environment)?);
    let once = match named::enter(&prepared, &key, resumed)? {
        Entered::Begins(once) => once,
        Entered::Done(earlier) => {
            named::report(*earlier, outcome, output.mode);
            return Ok(None);
        }
        Entered::Unfinished(run) => {
            let all = [run.words.clone(), args.clone()].concat();
            let earlier = Resumed { run: *run, typed: args };
            return attempt(all, environment, Some(&earlier), outcome, output);
        }
    };
    let recorded_args = args::without_secrets(&args, &plugin.rows());
    drop(args);
    let draws = match resumed {
        Some(resumed) => Draws::of(&resumed.run)?,
        None => Draws::new()?,
    };
    outcome.run_id.clone_from(&draws.run_id);
    let log = log_file(plugin, settings, &draws.run_id, resumed)?;
    outcome.log_file = Some(log.path.display().to_string());
    output.set_log(log);
    let interrupt = Arc::new(Interrupt::default());
    let at_work = Arc::new(OnceLock::<PathBuf>::new());
    let run_directory = Arc::clone(&at_work);
    interrupt::listen(Arc::clone(&interrupt), move || leave(run_directory.get()))?;
    let reporter = Arc::new(Reporter::new(output.mode));
    iso_only::warn(settings, &reporter);
    super::unsupported::check(&plugin.name, plugin.description(), settings, &reporter)?;
    let leave = source::Remote::Leave;
    let peeked = source::peek(&source::SourceContext::new(settings, &reporter, &interrupt), leave)?;
    let mut plan = Plan::new(&plugin.name, plugin.description(), settings, peeked, &draws)?;
    if let Some(resumed) = resumed {
        plan.resume(&resumed.run)?;
    }
    outcome.image_name.clone_from(&plan.build.image_name);
    let once = named::begin(once, &prepared, &draws.run_id, resumed)?;
    let _ = at_work.set(plan.run.clone());
    let (words, keep) = (recorded_args, plan.keep);
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
    };
    let mut pipeline = Pipeline::new(params)?;
    pipeline.run(outcome)?;
    if !keep {
        pipeline.take_downloads().into_iter().for_each(source::Slot::remove);
    }
    Ok(None)
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
            Some(loader.load(&loader.search.find(name)?)?)
        }
        None => None,
    };
    let own = plugin.as_ref().map(Plugin::rows).unwrap_or_default();
    let rows = [core_rows(), own].concat();
    layers.command_line = match command::parse(command::command("build-image", &rows), &rows, args)?
    {
        Parsed::Information(Information::Help | Information::Version, text) => {
            return Ok(Preparation::Text(text));
        }
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
    if let Some(file) = &layers.file {
        let reporter = Reporter::new(OutputMode::of(&settings, &layers.environment));
        unknown::keys(file, &rows, &plugin.name, &loader, &reporter)?;
        exposed::warn(file, &rows, &reporter);
    }
    check_required(&plugin, &settings)?;
    Ok(Preparation::Ready(Box::new(Prepared { plugin, settings })))
}

/// Returns facts about this host if they were requested.
fn information(layers: &Layers) -> Result<Option<String>> {
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
fn check_required(plugin: &Plugin, settings: &Resolved) -> Result<()> {
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

fn plugin_entry(plugin: &Plugin) -> PluginEntry {
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

/// Handles the second signal: exits at once and reports what the journal of the run records.
#[expect(clippy::disallowed_methods, reason = "the user interrupted twice: nothing is awaited")]
pub(super) fn leave(run: Option<&PathBuf>) {
    print_line("interrupted twice, leaving at once");
    let left = run.and_then(|run| Journal::snapshot(run).ok()).map(|snapshot| snapshot.entries);
    let left = open_resources(&left.unwrap_or_default());
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

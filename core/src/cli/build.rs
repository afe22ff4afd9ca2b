//! The build: no verb, the old tool's command line.

use std::sync::Arc;

use super::{
    args,
    command::{self, Information, Parsed},
    unknown,
};
use crate::{
    error::{Error, Problem, Result, Stage},
    exit,
    interrupt::{self, Interrupt},
    pipeline::Pipeline,
    plan::Plan,
    plugins::{Plugin, SearchPath},
    random,
    report::{
        Failure, ImageEntry, LogFile, Outcome, PluginEntry, Reporter, print_error, print_line,
    },
    settings::{Environment, FileLayer, Layers, Resolved, Row, core_rows},
    source,
};

/// Everything that is known before a plan is made.
pub(super) struct Prepared {
    pub(super) plugin: Plugin,
    pub(super) settings: Resolved,
}

/// What became of preparing.
pub(super) enum Preparation {
    /// Help or version was asked for; this is its text.
    Text(String),
    /// A build can be planned.
    Ready(Box<Prepared>),
}

/// Runs a build and reports it; returns the exit code.
pub(super) fn run(words: &[String], environment: &Environment) -> u8 {
    let words = args::normalised(words);
    let mut outcome = Outcome {
        start_time: crate::clock::now(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        uuid: random::characters(random::HEX, 32).unwrap_or_default(),
        ..Outcome::default()
    };
    let mut output = Output::default();
    let result = attempt(&words, environment, &mut outcome, &mut output);
    match result {
        Ok(Some(text)) => {
            super::print(&text);
            exit::DONE
        }
        other => output.finish(&other.map(|_| ()), &mut outcome),
    }
}

fn attempt(
    words: &[String],
    environment: &Environment,
    outcome: &mut Outcome,
    output: &mut Output,
) -> Result<Option<String>> {
    output.learn(words, environment, None);
    let layers = args::first_look(words, environment.clone())?;
    output.learn(words, environment, layers.file.as_ref());
    let prepared = match prepare(words, layers, outcome)? {
        Preparation::Text(text) => return Ok(Some(text)),
        Preparation::Ready(prepared) => prepared,
    };
    let (plugin, settings) = (&prepared.plugin, &prepared.settings);
    let log = log_file(plugin, settings)?;
    outcome.log_file = Some(log.path.display().to_string());
    let interrupt = Arc::new(Interrupt::default());
    interrupt::listen(Arc::clone(&interrupt), leave)?;
    let reporter = Arc::new(Reporter::new(settings.is_on("QUIET")));
    let plan = Plan::new(&plugin.name, plugin.description(), settings, source::open(settings)?)?;
    outcome.run_id.clone_from(&plan.build.run_id);
    outcome.image_name.clone_from(&plan.build.image_name);
    let pipeline = Pipeline::new(&plan, plugin, settings, environment, reporter, interrupt)?;
    pipeline.run(outcome)?;
    if outcome.images.is_empty() {
        outcome.image_id.clone_from(&outcome.image_name);
        outcome.images =
            vec![ImageEntry { name: outcome.image_name.clone(), ..ImageEntry::default() }];
    }
    Ok(None)
}

/// From words to settings: finds the provider, parses all flags, understands all values.
pub(super) fn prepare(
    words: &[String],
    mut layers: Layers,
    outcome: &mut Outcome,
) -> Result<Preparation> {
    let core = core_rows();
    let first = layers.resolve(&core[..])?;
    let search = search_path(&first, &layers.environment);
    let plugin = match first.text("PLATFORM") {
        Some(name) => {
            name.clone_into(&mut outcome.platform);
            Some(Plugin::load(&search.find(name)?)?)
        }
        None => None,
    };
    let own = plugin.as_ref().map(Plugin::rows).unwrap_or_default();
    let rows = [core, own.clone()].concat();
    layers.command_line =
        match command::parse(command::command("build-image", &rows), &rows, words)? {
            Parsed::Information(Information::Help | Information::Version, text) => {
                return Ok(Preparation::Text(text));
            }
            Parsed::Texts(texts) => texts,
        };
    let plugin = plugin.ok_or_else(|| no_platform(&search))?;
    outcome.plugin = Some(plugin_entry(&plugin));
    let settings = layers.resolve(&rows)?;
    outcome.modules = settings.text("MODULES").map(str::to_owned);
    outcome.boot_locations = settings.text("BOOT_LOCATIONS").map(str::to_owned);
    if let Some(file) = &layers.file {
        let mut rows = rows.clone();
        rows.extend(own);
        unknown::keys(file, &rows, &search, &Reporter::new(settings.is_on("QUIET")))?;
    }
    check_required(&plugin, &settings)?;
    Ok(Preparation::Ready(Box::new(Prepared { plugin, settings })))
}

/// The plugin search path of these settings.
pub(super) fn search_path(settings: &Resolved, environment: &Environment) -> SearchPath {
    let executable = std::env::current_exe().ok();
    SearchPath::new(
        environment,
        settings.path("PROVIDER_DIR"),
        settings.path("PROVIDER_FILE"),
        executable.as_deref(),
    )
}

fn no_platform(search: &SearchPath) -> Error {
    let mut names: Vec<String> = search.all().into_iter().map(|candidate| candidate.name).collect();
    names.dedup();
    Error::new(Stage::Settings, "PLATFORM is not set").hint(if names.is_empty() {
        "give the provider with -p; none is installed, see build-image providers list".to_owned()
    } else {
        format!("give the provider with -p, one of {}", names.join(", "))
    })
}

/// All required settings that are missing, and switches that contradict the provider.
fn check_required(plugin: &Plugin, settings: &Resolved) -> Result<()> {
    let uploads = plugin.description().uploads;
    if settings.is_on("NO_UPLOAD") {
        if uploads {
            return Ok(());
        }
        return Err(Error::new(
            Stage::Settings,
            format!("NO_UPLOAD is set, but provider `{}` uploads nothing anyway", plugin.name),
        )
        .hint("leave --no-upload out"));
    }
    let rows = plugin.rows();
    let required = rows.iter().filter(|row: &&Row| row.setting.required);
    let missing = required.filter(|row| settings.get(row.key()).is_none());
    let problems: Vec<Problem> = missing
        .map(|row| {
            let hint = format!(
                "{}: set it in the configuration file, or give --{}",
                row.setting.summary,
                row.long()
            );
            Problem::new(format!("{} is not set", row.key())).hint(hint)
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("provider `{}` needs more settings", plugin.name);
    Err(Error::several(Stage::Settings, text, problems))
}

fn plugin_entry(plugin: &Plugin) -> PluginEntry {
    let said = plugin.description();
    let status = serde_json::to_value(said.status).ok();
    PluginEntry {
        name: plugin.name.clone(),
        version: said.version.clone(),
        status: status.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
        path: plugin.path.display().to_string(),
        sha256: plugin.sha256.clone(),
    }
}

fn log_file(plugin: &Plugin, settings: &Resolved) -> Result<LogFile> {
    let shape = match (settings.text("MODULES"), settings.text("BOOT_LOCATIONS")) {
        (Some(modules), Some(slots)) => format!("-{modules}-{slots}slot"),
        _ => String::new(),
    };
    let name = format!("image-{}{shape}", plugin.name);
    let level = settings.text("LOG_LEVEL").unwrap_or("info");
    LogFile::start(settings.text("LOG_FILE"), &name, level)
}

/// The second signal: leave at once. The journal holds what exists.
#[expect(clippy::disallowed_methods, reason = "the user asked twice not to wait for anything")]
fn leave() {
    print_line(
        "interrupted twice, leaving at once; what was created is listed in the run's journal below artifacts/runs",
    );
    std::process::exit(i32::from(exit::INTERRUPTED));
}

/// Where the result goes; known as early as possible, so that early failures are reported too.
#[derive(Default)]
struct Output {
    json: bool,
    quiet: bool,
    file: Option<String>,
}

impl Output {
    fn learn(&mut self, words: &[String], environment: &Environment, file: Option<&FileLayer>) {
        let key = "OUTPUT_JSON_FILE";
        let typed = args::first_words(words).remove(key);
        let file = file.and_then(|file| file.get(key)?.value.as_str().map(str::to_owned));
        let variable = environment.setting(key).map(|(_, text)| text.to_owned());
        self.file = typed.or(file).or(variable);
        let typed = |long: &str| words.iter().any(|word| word == long);
        self.json = typed("--json") || typed("--json=true");
        self.quiet = typed("--quiet") || typed("-q");
    }

    fn finish(&self, result: &Result<()>, outcome: &mut Outcome) -> u8 {
        outcome.end_time = crate::clock::now();
        let mut code = match result {
            Ok(()) => exit::DONE,
            Err(error) => error.exit_code(),
        };
        if code != exit::DONE && !outcome.leftovers.is_empty() {
            code = exit::LEFTOVERS;
        }
        outcome.result = if code == exit::DONE { "SUCCESS" } else { "FAILURE" }.to_owned();
        if let Err(error) = result {
            outcome.error = Some(Failure::of(error, code));
            print_error(error);
        }
        for leftover in &outcome.leftovers {
            print_line(&format!(
                "  left behind: {}: {}",
                leftover.resource.label(),
                leftover.reason
            ));
            if let Some(hint) = &leftover.hint {
                print_line(&format!("    hint: {hint}"));
            }
        }
        if let (Err(_), Some(log)) = (result, &outcome.log_file) {
            print_line(&format!("  log: {log}"));
        }
        if let Some(path) = &self.file
            && let Err(error) = outcome.write(path.as_ref())
        {
            print_error(&error);
            code = if code == exit::DONE { error.exit_code() } else { code };
        }
        if self.json {
            super::print(&format!("{}\n", outcome.text()));
        } else if code == exit::DONE {
            self.summary(outcome);
        }
        code
    }

    fn summary(&self, outcome: &Outcome) {
        if self.quiet {
            return;
        }
        for image in &outcome.images {
            let region =
                image.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
            let id = if image.id.is_empty() { String::new() } else { format!("{} ", image.id) };
            super::print(&format!("image {id}({}){region}\n", image.name));
        }
        if let Some(location) = &outcome.location {
            super::print(&format!("published in {location}\n"));
        }
    }
}

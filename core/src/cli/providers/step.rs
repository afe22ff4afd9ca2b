//! Runs `build-image providers run-step FILE STEP`: one step of a provider, for its author. What a build would remember
//! is kept in a directory, so that the next step, a repeated one and `discard` find it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_plugin_api::{
    Architecture, BootMode, Host, Step,
    document::{Build, CheckRequest, DiscardReason, DiscardRequest, HostFacts},
};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use super::members::{self, Unknown};
use crate::{
    cli::{build, check, unknown::nearest_word, unsupported},
    error::{Error, Result, Stage},
    interrupt::{self, Interrupt},
    journal::{Entry, Journal, Key},
    plan::check_name,
    plugins::{BaseDisk, Loader, Plugin, RunHost, TRACE_TO_STANDARD_ERROR, TRACE_VARIABLE},
    random,
    report::{OutputMode, Reporter},
    settings::{Environment, Layers, Resolved, core_rows, keys},
    tags::{self, Tags},
};

/// The word for the description, which is not a step.
const DESCRIBE: &str = "describe";
/// Size of the disk when none is given, in bytes: a few reads of a provider.
const DISK_BYTES: u64 = 16 << 20;
/// Longest request, in bytes.
const REQUEST_LIMIT: u64 = 64 << 20;

/// Returns the parser of the verb.
pub(super) fn command() -> Command {
    let steps = Step::ALL.iter().map(|step| step.name());
    let path = |id: &'static str, long: &'static str, value: &'static str| {
        Arg::new(id).long(long).value_name(value).value_parser(value_parser!(PathBuf))
    };
    Command::new("run-step")
        .about("run one step of a provider, and show the messages between host and provider")
        .after_help(
            "The answer of the step is printed on standard output, every message on standard error.\n\
             The request is made from a sample build of a 16 MiB disk; the members of --request replace its own.\n\
             With -c (--config), `check` queries the account, as a build does.\n\
             Steps that create something need --state, whose directory keeps what a build would remember: resources,\n\
             checkpoints and answers. `run-step FILE discard --state DIR` removes what the steps have left.",
        )
        .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)).help("the plugin"))
        .arg(
            Arg::new("STEP")
                .required(true)
                .value_parser(std::iter::once(DESCRIBE).chain(steps).collect::<Vec<_>>())
                .help("the step"),
        )
        .arg(path("STATE", "state", "DIR").help("directory of what the steps remember"))
        .arg(
            path("REQUEST", "request", "FILE")
                .help("members of the request, a JSON object; `-` reads standard input"),
        )
        .arg(path("RAW", "raw", "FILE").help("raw disk for the step, instead of a sample"))
        .arg(check::isolate())
        .arg(check::trace_flag("write the messages into a file instead"))
}

/// Runs the step and prints its answer.
///
/// # Errors
/// The provider's, and usage errors.
pub(super) fn run(matches: &ArgMatches, layers: &Layers, environment: &Environment) -> Result<()> {
    let file = matches.get_one::<PathBuf>("FILE").cloned().unwrap_or_default();
    let trace = check::trace(matches)?;
    let trace = trace.as_deref().map_or(TRACE_TO_STANDARD_ERROR.into(), Path::to_string_lossy);
    let environment = environment.clone().with(TRACE_VARIABLE, &trace);
    let plugin = Loader::examine(&file, matches.get_flag("APART"), &environment)?;
    let name = matches.get_one::<String>("STEP").map(String::as_str).unwrap_or_default();
    let Some(step) = Step::from_name(name) else {
        super::super::print(&format!("{:#}\n", json!(plugin.description())));
        return Ok(());
    };
    let settings = layers.resolve(&[core_rows(), plugin.rows()].concat())?;
    build::check_missing(&plugin, &settings)?;
    let reporter = Reporter::new(OutputMode::of_stderr(&environment));
    unsupported::check(&plugin.name, plugin.description(), &settings, &reporter)?;
    let request = request(matches)?;
    warn_of_unknown(step, &request, &reporter);
    let has_account = check::has_config(layers);
    let bench = Bench::new(matches, &plugin, &settings, &environment, (step, has_account))?;
    let answer = bench.call(step, request)?;
    super::super::print(&format!("{answer:#}\n"));
    Ok(())
}

/// Reads the members that the user gave.
fn request(matches: &ArgMatches) -> Result<Map<String, Value>> {
    let Some(path) = matches.get_one::<PathBuf>("REQUEST") else { return Ok(Map::new()) };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(REQUEST_LIMIT).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(REQUEST_LIMIT).read_to_string(&mut text))
    };
    let named = format!("--request `{}`", path.display());
    read.map_err(|error| Error::usage(format!("cannot read {named}")).caused_by(&error))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::usage(format!("{named} is not a JSON object")).caused_by(&error))
}

/// Warns of members that no reader uses.
fn warn_of_unknown(step: Step, request: &Map<String, Value>, reporter: &Reporter) {
    for Unknown { path, name, known } in members::unknown(step, request) {
        let hint = match nearest_word(known.iter().copied(), &name) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the members here are {}", known.join(", ")),
        };
        let text = format!("--request: step {} knows no member `{path}`", step.name());
        reporter.warning(&text, Some(&hint));
    }
}

/// Returns whether the step may create something that has to be removed later, or removes it.
const fn leaves_something(step: Step) -> bool {
    matches!(step, Step::Upload | Step::Register | Step::Discard | Step::Manage)
}

/// The surroundings of a step.
struct Bench<'a> {
    plugin: &'a Plugin,
    settings: &'a Resolved,
    host: Arc<RunHost>,
    interrupt: Arc<Interrupt>,
    build: Build,
    /// Whether settings were given, which lead to an account: `check` queries it.
    has_account: bool,
    /// Removed when the step has ended.
    _scratch: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(
        matches: &ArgMatches,
        plugin: &'a Plugin,
        settings: &'a Resolved,
        environment: &Environment,
        (step, has_account): (Step, bool),
    ) -> Result<Self> {
        let state = matches.get_one::<PathBuf>("STATE");
        if state.is_none() && leaves_something(step) {
            let text = format!("step {} needs --state", step.name());
            return Err(Error::usage(text).hint(
                "add --state DIR: the directory keeps what the step creates, so that `discard` can remove it",
            ));
        }
        let scratch = tempfile::tempdir().map_err(|error| {
            Error::new(Stage::Disk, "cannot create a temporary directory").caused_by(&error)
        })?;
        let journal = match state {
            Some(directory) => {
                Journal::open(directory, &Arc::new(Key::of(settings, environment)?))?
            }
            None => Journal::in_memory(&Arc::new(Key::existing(settings, environment)?))?,
        };
        let kept = journal.entries().iter().find_map(|entry| match entry {
            Entry::InputsKnown { build, .. } => Some(build.as_ref().clone()),
            _ => None,
        });
        let is_fresh = kept.is_none();
        let raw = matches.get_one::<PathBuf>("RAW").map(PathBuf::as_path);
        let directory = state.map_or(scratch.path(), PathBuf::as_path);
        let origin = disk(raw, directory, kept.as_ref(), plugin)?;
        let chosen = Chosen::of(settings, plugin)?;
        let build = match kept {
            Some(build) => chosen.checked_against(build)?,
            None => chosen.applied_to(sample(origin.virtual_size, directory)?),
        };
        let interrupt = Arc::new(Interrupt::default());
        interrupt::listen(Arc::clone(&interrupt), || build::leave(&[]))?;
        let reporter = Arc::new(Reporter::new(OutputMode::None));
        let secrets = settings.secrets(&plugin.rows());
        let host = RunHost::new(journal, reporter, Arc::clone(&interrupt), secrets);
        host.set_disk(origin, &build.file_stem);
        host.write_images_to(scratch.path(), false, false);
        if is_fresh {
            host.record(Entry::InputsKnown { build: Box::new(build.clone()), artifacts: None })?;
        }
        let host = Arc::new(host);
        Ok(Self { plugin, settings, host, interrupt, build, has_account, _scratch: scratch })
    }

    /// Runs the step. Returns its answer.
    fn call(&self, step: Step, members: Map<String, Value>) -> Result<Value> {
        let provider_error = |name: &str, error| {
            Error::provider(&self.plugin.name, name, self.host.shown_error(error))
        };
        let lent: Arc<dyn Host> = self.host.clone();
        let made = self.plugin.create(lent, &self.settings.for_provider(&self.plugin.rows()));
        let steps = made.map_err(|error| provider_error("create", error))?;
        let mut request = Value::Object(self.sample_request(step, &members)?);
        merge(&mut request, Value::Object(members));
        let request = request.to_string();
        let answered = steps.call(step, &request);
        // The end of an instance may still report something.
        drop(steps);
        self.host.drop_images();
        let answer = answered.map_err(|error| provider_error(step.name(), error))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| {
            let text = format!("the answer of `{}` is not JSON", step.name());
            Error::new(Stage::Plugin, text).caused_by(&error)
        })?;
        let redactor = self.host.redactor();
        if redactor.finds(&answer) {
            let text =
                format!("the answer of `{}` holds the value of a secret setting", step.name());
            return Err(Error::new(Stage::Plugin, text)
                .hint("answer with what was derived from the secret, or leave it out"));
        }
        self.host
            .record(Entry::StepDone { step: step.name().to_owned(), facts: answer.clone() })?;
        self.interrupt.check()?;
        Ok(answer)
    }

    /// Returns the request that a build would send, as far as it follows from the state.
    fn sample_request(
        &self,
        step: Step,
        members: &Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        let build = &self.build;
        let sample = match step {
            Step::Check => {
                let host = HostFacts::default()
                    .version(env!("CARGO_PKG_VERSION").to_owned())
                    .disks(RunHost::disks());
                json!(CheckRequest::new(build.clone()).host(host).online(self.has_account))
            }
            Step::CreateDisk => {
                json!({"build": build, "spec": self.plugin.description().disk.spec})
            }
            Step::Upload => {
                let disk = match members.get("disk") {
                    Some(disk) => disk.clone(),
                    None => self.make_disk()?,
                };
                json!({"build": build, "disk": disk})
            }
            Step::Register if members.contains_key("uploaded") => json!({"build": build}),
            Step::Register => {
                let uploaded = self.uploaded().ok_or_else(|| {
                    Error::usage("step register needs what upload has returned")
                        .hint("run the step upload with the same --state first, or give `uploaded` with --request")
                })?;
                json!({"build": build, "uploaded": uploaded})
            }
            Step::Discard => {
                let request = DiscardRequest::new(DiscardReason::Failed, self.host.resources());
                json!(request.run_id(&build.run_id))
            }
            Step::Manage => json!({"run_id": build.run_id}),
            _ => json!({}),
        };
        match sample {
            Value::Object(members) => Ok(members),
            _ => Ok(Map::new()),
        }
    }

    /// Returns what the last upload has returned, unless it was discarded.
    fn uploaded(&self) -> Option<Value> {
        let entries = self.host.entries();
        let last = entries.iter().rev().find_map(|entry| match entry {
            Entry::StepDone { step, facts } if *step == Step::Upload.name() => Some(Some(facts)),
            Entry::StepDone { step, .. } if *step == Step::Discard.name() => Some(None),
            _ => None,
        });
        last.flatten().cloned()
    }

    /// Makes the image that the description asks for.
    fn make_disk(&self) -> Result<Value> {
        let made = self.host.make_disk(&self.plugin.description().disk.spec);
        let made = made.map_err(|error| Error::provider(&self.plugin.name, "make_disk", error))?;
        Ok(json!(made))
    }
}

/// The name and the tags that the settings request.
struct Chosen {
    name: Option<String>,
    tags: Option<Tags>,
}

impl Chosen {
    /// Reads the settings as a build does. Those that the provider does not support have no effect.
    fn of(settings: &Resolved, plugin: &Plugin) -> Result<Self> {
        let (image, description) = (&settings.core().image, plugin.description());
        let mut chosen = Self { name: None, tags: None };
        if let (Some(name), Some(rules)) = (&image.name, &description.image_name) {
            check_name(name, rules)?;
            chosen.name = Some(name.clone());
        }
        if let (Some(add), Some(rules)) = (&image.tags, &description.tags) {
            let tags = tags::compose(Tags::new(), Some(add), image.excluded_tags.as_ref())?;
            tags::check(&tags, rules)?;
            chosen.tags = Some(tags);
        }
        Ok(chosen)
    }

    fn applied_to(self, mut build: Build) -> Build {
        if let Some(name) = self.name {
            (build.image_name, build.image_name_chosen) = (name, true);
        }
        build.tags = self.tags.unwrap_or_default();
        build
    }

    /// Returns the build of earlier steps, which must have had the same name and tags.
    fn checked_against(self, build: Build) -> Result<Build> {
        let name = self.name.filter(|name| *name != build.image_name);
        let key = match (name, self.tags.filter(|tags| *tags != build.tags)) {
            (Some(_), _) => keys::CLOUD_IMAGE_NAME,
            (None, Some(_)) => keys::IMAGE_TAGS,
            (None, None) => return Ok(build),
        };
        let text = format!("{key} differs from that of the earlier steps");
        Err(Error::usage(text).hint("give the same settings as before, or another --state"))
    }
}

/// Replaces members of a document with those of another one, at every depth.
fn merge(document: &mut Value, with: Value) {
    match (document, with) {
        (Value::Object(members), Value::Object(with)) => {
            for (name, value) in with {
                merge(members.entry(name).or_insert(Value::Null), value);
            }
        }
        (document, with) => *document = with,
    }
}

/// Returns the disk of the step: the file that the user gave, or a sample.
fn disk(
    raw: Option<&Path>,
    directory: &Path,
    kept: Option<&Build>,
    plugin: &Plugin,
) -> Result<BaseDisk> {
    let (path, virtual_size) = match raw {
        Some(path) => {
            let length = fs::metadata(path).map_err(|error| {
                let text = format!("cannot read the raw disk `{}`", path.display());
                Error::new(Stage::Source, text).caused_by(&error)
            })?;
            (path.to_owned(), length.len())
        }
        None => {
            let needs = &plugin.description().disk;
            let size = needs.minimum_bytes.unwrap_or_default().max(DISK_BYTES);
            let size = size.next_multiple_of(needs.multiple_of_bytes.unwrap_or(1).max(1));
            let path = directory.join("sample.raw");
            // A step that is repeated finds the same file, and continues where it was.
            if fs::metadata(&path).map_or(true, |found| found.len() != size) {
                check::sample_disk(&path, size)?;
            }
            (path, size)
        }
    };
    if let Some(build) = kept.filter(|build| build.virtual_size != virtual_size) {
        let text = format!(
            "the disk has {virtual_size} bytes, that of the earlier steps {}",
            build.virtual_size
        );
        return Err(Error::usage(text).hint("give the same --raw as before, or another --state"));
    }
    let disk_name = "run-step".to_owned();
    Ok(BaseDisk { path, is_raw: true, virtual_size, disk_name, ..BaseDisk::default() })
}

/// Returns the build of the steps.
fn sample(virtual_size: u64, directory: &Path) -> Result<Build> {
    let images = directory.join("images");
    let cannot_create = |error: std::io::Error| {
        let text = format!("cannot create the directory `{}`", images.display());
        Error::new(Stage::Disk, text).caused_by(&error)
    };
    fs::create_dir_all(&images).map_err(cannot_create)?;
    let images = images.canonicalize().map_err(cannot_create)?;
    let id = random::characters(random::HEX, 12)?;
    Ok(Build::default()
        .run_id(format!("run-step-{id}"))
        .image_name(format!("run-step-{id}"))
        .description("made by `build-image providers run-step`".to_owned())
        .architecture(Architecture::X86_64)
        .boot_mode(BootMode::Bios)
        .virtual_size(virtual_size)
        .image_dir(images.display().to_string())
        .file_stem("run-step".to_owned())
        .disk_name("run-step".to_owned()))
}

//! Runs `build-image providers check FILE`: tests whether a provider fulfils the contract. The conformance suite is
//! part of plugin-api; this file supplies the host's ways of loading plugins and making disks, and the settings of a
//! file.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::Arc,
    time::Duration,
};

use build_image_disk::view::View;
use build_image_plugin_api::{
    Description, DiskSpec, Error as Failure,
    conformance::{
        DiskBytes, Refusal, Report, Subject, Suite, Ways, can_disturb, check_ids, plain_disk, serve,
    },
};
use clap::{Arg, ArgAction, ArgMatches, Command, builder::NonEmptyStringValueParser, value_parser};

use super::unknown::nearest_word;
use crate::{
    error::{Error, Result, Stage},
    plugins::{BaseDisk, Loader, TRACE_VARIABLE, begin_trace},
    report::{OutputMode, Reporter},
    settings::{Environment, Layers, Row, keys},
};

/// Hidden verb of the child processes in which providers are tested.
pub(super) const PROBE: &str = "probe";
/// Bytes copied at once.
const BLOCK: usize = 1 << 20;

/// Returns the parser of the verb.
pub(super) fn command() -> Command {
    Command::new("check")
        .about("check whether a provider keeps the contract: one row per demand, with its remedy")
        .after_help(
            "FILE is a library or a program. With --isolate a library is checked as builds with --isolate run it.\n\
             Without -c (--config), steps that need a cloud are skipped. With it, the settings must lead to a\n\
             fake cloud or a test account: a small disk is uploaded about ten times, registered and removed.\n\
             A file that only the environment names is not used.\n\
             --only runs what the named checks need, and reports these checks.\n\
             --faults runs more builds, through a proxy that refuses requests (429, 5xx, 401), resets connections,\n\
             and cuts, loses and delays answers; each must make one image, or fail and leave nothing.\n\
             \n\
             Exit codes: 0 it keeps the contract, 2 the command line or a setting, 3 it does not.",
        )
        .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)).help("the plugin"))
        .arg(isolate())
        .arg(
            Arg::new("ONLY")
                .long("only")
                .value_name("CHECK")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .help("run these checks, by the words in the report; repeatable, or with commas"),
        )
        .arg(
            Arg::new("INVENTORY")
                .long("inventory")
                .value_name("COMMAND")
                // An empty command would list nothing, and so find nothing that was left.
                .value_parser(NonEmptyStringValueParser::new())
                .help("shell command that lists the test cloud, one thing per line: leftovers are found"),
        )
        .arg(
            Arg::new("FAULTS")
                .long("faults")
                .value_name("SETTING[=URL]")
                .action(ArgAction::Append)
                .help("disturb the requests to the test server at URL (http://…), whose address SETTING has; repeatable"),
        )
        .arg(trace_flag("record the messages between host and provider as JSON lines"))
        .arg(
            Arg::new("LIMIT")
                .long("time-limit")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..))
                .help("longest time for one call [default: 10, for steps with a cloud 600]"),
        )
}

/// Returns the flag that names the file of the trace.
pub(super) fn trace_flag(help: &'static str) -> Arg {
    let flag = Arg::new("TRACE").long("trace-protocol").value_name("FILE");
    flag.value_parser(value_parser!(PathBuf)).help(help)
}

pub(super) fn isolate() -> Arg {
    let arg = Arg::new("APART").long("isolate").action(ArgAction::SetTrue);
    arg.help("run the library in processes of its own, as builds with --isolate do")
}

/// Returns the parser of the verb of the child processes.
pub(super) fn probe_command() -> Command {
    Command::new(PROBE).hide(true).arg(isolate())
}

/// Runs the suite and prints its report.
///
/// # Errors
/// When a check fails, or settings are invalid.
pub(super) fn run(
    matches: &ArgMatches,
    mut layers: Layers,
    environment: &Environment,
    as_json: bool,
) -> Result<()> {
    let file = matches.get_one::<PathBuf>("FILE").cloned().unwrap_or_default();
    if !has_config(&layers) {
        // Settings of real builds may be in the file of the environment.
        layers.file = None;
        if let Some(flag) = ["INVENTORY", "FAULTS"].iter().find(|id| matches.contains_id(id)) {
            let text = format!("--{} needs the settings of a test account", flag.to_lowercase());
            return Err(Error::usage(text).hint("name a file of settings with -c"));
        }
    }
    let apart = matches.get_flag("APART");
    let trace = trace(matches)?;
    let mut suite = Suite::new(&file, move || child(apart, trace.as_deref()));
    for id in chosen(matches)? {
        suite = suite.only(id);
    }
    let reporter = Arc::new(Reporter::new(OutputMode::of_stderr(environment)));
    reporter.begin_as("check", None, "checking the plugin");
    let progress = Arc::clone(&reporter);
    suite = suite.on_progress(move |part| {
        progress.alive(&format!("{} of {}: {}", part.number, part.count, part.activity));
    });
    if let Some(command) = matches.get_one::<String>("INVENTORY") {
        suite = suite.inventory(command);
    }
    if let Some(&limit) = matches.get_one::<u64>("LIMIT") {
        suite = suite.time_limit(Duration::from_secs(limit));
    }
    if let Some(description) = suite.describe().map_err(|error| temporary_files_error(&error))?
        && layers.file.is_some()
    {
        let faults = matches.get_many::<String>("FAULTS").into_iter().flatten();
        suite = with_settings(suite, &description, &layers, faults)?;
    }
    let report = suite.run();
    reporter.clear();
    let report = report.map_err(|error| temporary_files_error(&error))?;
    if as_json {
        super::print(&format!("{:#}\n", serde_json::json!(report)));
    } else {
        super::print(&report.text());
    }
    verdict(&report)
}

/// Returns whether the command line names a file of settings.
pub(super) fn has_config(layers: &Layers) -> bool {
    layers.command_line.contains_key(keys::CONFIG_FILE.name())
}

/// Returns the checks that were chosen.
fn chosen(matches: &ArgMatches) -> Result<Vec<&str>> {
    let names = matches.get_many::<String>("ONLY").into_iter().flatten();
    let names: Vec<&str> = names.map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    let has_faults = matches.contains_id("FAULTS");
    for name in &names {
        if check_ids().all(|id| id != *name) {
            let near = nearest_word(check_ids(), name);
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let all = check_ids().collect::<Vec<_>>().join(", ");
            return Err(Error::usage(format!("--only: check `{name}` does not exist"))
                .hint(format!("{near}the checks are {all}")));
        }
        if name.starts_with("fault-") && !has_faults {
            return Err(Error::usage(format!("--only: check `{name}` needs --faults"))
                .hint("add --faults SETTING=URL, with the address of the test server"));
        }
    }
    Ok(names)
}

/// Starts the trace of messages that the user requested.
pub(super) fn trace(matches: &ArgMatches) -> Result<Option<PathBuf>> {
    let Some(path) = matches.get_one::<PathBuf>("TRACE") else { return Ok(None) };
    let cannot_write = |error: std::io::Error| {
        let text = format!("cannot write the protocol trace `{}`", path.display());
        Error::new(Stage::Disk, text).caused_by(&error)
    };
    let path = std::path::absolute(path).map_err(cannot_write)?;
    begin_trace(&path).map_err(cannot_write)?;
    Ok(Some(path))
}

fn verdict(report: &Report) -> Result<()> {
    if report.conforms {
        return Ok(());
    }
    let failed: Vec<&str> = report.failed().map(|row| row.id).collect();
    let (count, what) = (failed.len(), failed.join(", "));
    let file = report.file.display();
    let text = format!("plugin `{file}` does not keep the contract, {count} checks failed: {what}");
    Err(Error::new(Stage::Plugin, text).hint("see the remedy of each check"))
}

fn temporary_files_error(error: &std::io::Error) -> Error {
    Error::new(Stage::Disk, "the checks find no place for temporary files").caused_by(error)
}

/// Adds the settings of the file, parsed as a build parses them.
fn with_settings<'a>(
    mut suite: Suite,
    description: &Description,
    layers: &Layers,
    faults: impl Iterator<Item = &'a String>,
) -> Result<Suite> {
    let rows: Vec<Row> = description.settings.iter().cloned().map(Row::new).collect();
    let resolved = layers.resolve(&rows)?;
    for row in &rows {
        if let Some(value) = resolved.of(row).filter(|_| !row.setting.secret) {
            suite = suite.setting(row.key(), value.json.clone());
        }
    }
    for (key, secret) in resolved.secrets(&rows) {
        if let Some(secret) = secret {
            suite = suite.secret(&key, secret.reveal());
        }
    }
    for fault in faults {
        let (key, url) = fault
            .split_once('=')
            .map_or((fault.as_str(), None), |(key, url)| (key, Some(url.to_owned())));
        let row = rows.iter().find(|row| row.key() == key && !row.setting.secret);
        let row = row.ok_or_else(|| {
            let text =
                format!("--faults: `{key}` is not a setting of provider `{}`", description.name);
            Error::usage(text).hint("name the setting that has the address of the server")
        })?;
        let configured = || resolved.of(row)?.json.as_str().map(str::to_owned);
        let url = url.or_else(configured).unwrap_or_default();
        if !can_disturb(&url) {
            return Err(Error::usage(format!("--faults: the address for `{key}` is `{url}`"))
                .hint("give an address of the form http://HOST:PORT: --faults SETTING=URL"));
        }
        suite = suite.faults(key, &url);
    }
    Ok(suite.with_cloud())
}

/// Starts another process of this program, to test a provider in it.
#[expect(clippy::disallowed_methods, reason = "the child runs this program itself")]
fn child(apart: bool, trace: Option<&Path>) -> Process {
    let mut child = Process::new(std::env::current_exe().unwrap_or_default());
    child.args(["providers", PROBE]).args(apart.then_some("--isolate"));
    child.envs(trace.map(|path| (TRACE_VARIABLE, path)));
    child
}

/// Runs the child's part of a check.
///
/// # Errors
/// When it was not started by a check.
pub(super) fn probe(matches: &ArgMatches) -> Result<()> {
    let open = if matches.get_flag("APART") { open_apart } else { open_here };
    serve(Ways::new(open, disk)).map_err(|error| {
        Error::usage("`providers probe` is started by `providers check`").caused_by(&error)
    })
}

/// Opens a plugin as a build does. A separate check covers its name.
fn open_here(path: &Path) -> Result<Box<dyn Subject>, Refusal> {
    open(path, false)
}

/// Opens a plugin as a build with ISOLATE does.
fn open_apart(path: &Path) -> Result<Box<dyn Subject>, Refusal> {
    open(path, true)
}

fn open(path: &Path, apart: bool) -> Result<Box<dyn Subject>, Refusal> {
    let plugin = Loader::examine(path, apart, &Environment::of_process()).map_err(|error| {
        let problems = error.problems.iter().map(|problem| problem.message.clone());
        let causes = error.causes.iter().cloned();
        let parts = std::iter::once(error.message.clone()).chain(problems).chain(causes);
        Refusal::new(parts.collect::<Vec<String>>().join("; "), error.hint)
    })?;
    Ok(Box::new(plugin))
}

/// Makes a disk as builds make them, from a raw file that is removed with it.
fn disk(spec: &DiskSpec, size: u64) -> build_image_plugin_api::Result<Arc<dyn DiskBytes>> {
    let disk_error =
        |error: std::io::Error| Failure::io("the checks find no place for a disk", &error);
    let directory = tempfile::tempdir().map_err(disk_error)?;
    let path = directory.path().join("disk.raw");
    write_sample(&path, size).map_err(disk_error)?;
    let disk_name = "conformance".to_owned();
    let origin =
        BaseDisk { path, is_raw: true, virtual_size: size, disk_name, ..BaseDisk::default() };
    let view = origin.finished(spec, &directory.path().join("image"))?;
    Ok(Arc::new(OwnDisk { view, _directory: directory }))
}

/// Writes a raw disk with a boot signature and some data.
///
/// # Errors
/// When it cannot be written.
pub(super) fn sample_disk(path: &Path, size: u64) -> Result<()> {
    write_sample(path, size).map_err(|error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", path.display())).caused_by(&error)
    })
}

fn write_sample(path: &Path, size: u64) -> std::io::Result<()> {
    let raw = plain_disk(&DiskSpec::default(), size).map_err(std::io::Error::other)?;
    let mut block = vec![0; BLOCK];
    // Only the beginning contains data.
    let count = raw.read_at(0, &mut block).map_err(std::io::Error::other)?;
    let mut file = File::create(path)?;
    file.write_all(&block[..count])?;
    file.set_len(size)
}

struct OwnDisk {
    view: Arc<dyn View>,
    _directory: tempfile::TempDir,
}

impl DiskBytes for OwnDisk {
    fn length(&self) -> u64 {
        self.view.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> build_image_plugin_api::Result<usize> {
        self.view.read_at(buffer, offset).map_err(|error| {
            Failure::internal("the disk of the checks cannot be read").caused_by(&error)
        })
    }
}

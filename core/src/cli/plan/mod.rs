//! Prints what a build would do (`build-image plan …`). Reads settings and headers of the source; downloads,
//! unpacks and writes nothing.

mod estimate;
mod text;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use build_image_plugin_api::{
    DiskSpec, Error as ProviderError, ErrorKind, Step,
    document::{CheckReport, Finding, Severity},
};

use clap::Command;
use serde_json::{Value, json};

use self::estimate::{Estimate, Temporary};
use super::{
    args,
    build::{self, Preparation, Prepared},
    command,
    group::{self, Choice},
    iso_only, tree,
};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    journal::{Journal, Key},
    pipeline::{self, PUBLISH, Pipeline, PipelineParams, State},
    plan::{
        Installation, Plan, Suffixes, check_space, compression_advice, free_space, space_needs,
    },
    report::{GuestEntry, Outcome, OutputMode, Reporter, colored, harmless},
    settings::{Environment, Resolved, core_rows, keys, rows_of},
    source,
};

/// Flag that also runs the provider's checks in the cloud; it must not be a setting, because a build always checks.
const CHECK: &str = "--check";

/// Everything that can be printed about a build before it starts.
struct PlanSummary<'a> {
    plan: &'a Plan,
    /// The source, when it must be downloaded or unpacked before its content is known.
    unread: Option<String>,
    /// The disk as the provider chose it, or as its description declares it.
    spec: &'a DiskSpec,
    settings: &'a Resolved,
    report: &'a CheckReport,
    estimate: Estimate,
    /// The setting that lets less be sent.
    compression: Option<String>,
    guest: Option<GuestEntry>,
    /// Whether the provider was asked in its cloud.
    is_online: bool,
    /// Whether people see all of it.
    is_verbose: bool,
}

/// Returns the parser of `plan`, for its help; a plan has all flags of a build.
fn parser() -> Command {
    Command::new("build-image plan")
        .about(
            "Prints what a build with the same options would do. Downloads, unpacks, and writes nothing.",
        )
        .override_usage("build-image plan [--check] [OPTIONS OF A BUILD]")
        .arg(tree::check_flag())
        .args(rows_of(&[keys::VERBOSE, keys::JSON]).iter().map(command::flag))
        .disable_help_flag(true)
        .after_help(
            "build-image plan --help also lists the options of a build, with -p NAME those of that provider too.",
        )
}

/// Returns the help of `plan`; `text` is that of a build, or other information that was requested.
fn explained(args: &[String], text: String) -> String {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    match text.split_once("\nOptions:\n") {
        _ if has("-h") => parser().render_help().to_string(),
        Some((_, flags)) if has("--help") => {
            format!("{}\nOptions of a build:\n{flags}", parser().render_help())
        }
        _ => text,
    }
}

/// Prints the plan of a build; with `--check` also what the provider finds in its cloud.
///
/// # Errors
/// Everything that would keep the build from starting.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let (checks, args): (Vec<String>, Vec<String>) =
        args::normalised(args).into_iter().partition(|arg| arg == CHECK);
    let layers = args::with_file(&args, environment, None)?;
    let checks = !checks.is_empty();
    let layers = match group::chosen(&args, layers, false)? {
        Choice::One(layers) => *layers,
        Choice::Several(layers, targets) => {
            return group::print_plans(&args, &layers, targets, checks);
        }
    };
    let prepared = match build::prepare(&args, layers, None, &mut Outcome::default())? {
        Preparation::Text(text) => {
            super::print(&explained(&args, text));
            return Ok(());
        }
        Preparation::Ready(prepared) => prepared,
    };
    let as_json = prepared.settings.core().output.json;
    let reporter = Reporter::new(OutputMode::of(&prepared.settings, environment));
    let planned = plan(&prepared, environment, checks, Arc::new(reporter))?;
    if as_json {
        super::print(&format!("{:#}\n", planned.document));
    } else if OutputMode::colors_stdout(&prepared.settings, environment) {
        super::print_as_is(&colored(&harmless(&planned.text)));
    } else {
        super::print(&planned.text);
    }
    planned.result
}

/// The plan of a target.
pub(super) struct Planned {
    pub(super) document: Value,
    /// The same for people, with what the provider found.
    pub(super) text: String,
    /// Why the build would not be made, if so.
    pub(super) result: Result<()>,
}

/// Plans a build; with `checks` the provider is asked in its cloud.
///
/// # Errors
/// Everything that keeps the build from being planned.
pub(super) fn plan(
    prepared: &Prepared,
    environment: &Environment,
    checks: bool,
    reporter: Arc<Reporter>,
) -> Result<Planned> {
    let (plugin, settings) = (&prepared.plugin, &prepared.settings);
    iso_only::warn(settings, &reporter);
    super::unsupported::check(&plugin.name, plugin.description(), settings, &reporter)?;
    let interrupt = Arc::new(Interrupt::default());
    // A plan creates no key.
    let key = Arc::new(Key::existing(settings, environment)?);
    let ask = source::Remote::Ask;
    let peeked = source::peek(&source::SourceContext::new(settings, &reporter, &interrupt), ask)?;
    let target = settings.target().unwrap_or(&plugin.name);
    let draws = Suffixes::of_next(settings, environment)?.draws(target)?;
    let plan = Plan::new(&plugin.name, plugin.description(), settings, peeked, &draws)?;
    let is_unread = plan.provisional && plan.object.is_none();
    let unread = is_unread.then(|| source::shown_source(settings));
    let params = PipelineParams {
        plan,
        plugin,
        settings,
        environment,
        // What the provider records is not needed later.
        journal: Some(Journal::in_memory(&key)?),
        words: Vec::new(),
        once: None,
        key: Arc::clone(&key),
        reporter,
        interrupt,
        member: None,
    };
    let mut pipeline = Pipeline::new(params)?;
    let found = pipeline.inspect_given()?;
    let plan = pipeline.plan();
    let mut report = pipeline.ask(checks && plan.upload, true)?;
    pipeline.check_bundle(&report)?;
    let guest = found.map(|found| pipeline.judged(&found, &report));
    let mode = settings.core().run.guest_check;
    report.findings.extend(guest.iter().flat_map(|guest| pipeline::as_findings(guest, mode)));
    report.findings.extend(pipeline.existing_file().map(|file| replaced(&pipeline, &file)));
    let spec = report.disk.as_ref().unwrap_or(&plan.spec);
    let estimate = Estimate::of(plan, spec, &report, &key);
    let compression = estimate
        .image_bytes
        .and_then(|bytes| compression_advice(plan, spec, bytes, &plugin.description().settings));
    let result = match check_space(plan) {
        Ok(()) if !pipeline.may_skip_despite(&report.findings) => refuse(plan, &report),
        other => other,
    };
    let summary = PlanSummary {
        plan,
        unread,
        spec,
        settings,
        report: &report,
        estimate,
        compression,
        guest,
        is_online: checks,
        is_verbose: settings.core().output.verbose,
    };
    let text = text::text(&summary, &[core_rows(), plugin.rows()].concat(), &result);
    Ok(Planned { document: document(&summary), text, result })
}

/// Returns whether the build may replace the file that has the name of the published one, as a finding.
fn replaced(pipeline: &Pipeline<'_>, file: &Path) -> Finding {
    let subject = keys::FILE_IF_EXISTS.name();
    match pipeline.may_replace(file) {
        Ok(()) => {
            let text = format!("`{}` is replaced when the new image is complete", file.display());
            Finding::ok(subject, text)
        }
        Err(error) => {
            let refused = ProviderError::new(ErrorKind::Conflict, error.message);
            Finding::error(subject, &refused.with_hint(error.hint.unwrap_or_default()))
        }
    }
}

/// Returns the error of a plan whose provider or disk has a finding that stops the build.
fn refuse(plan: &Plan, report: &CheckReport) -> Result<()> {
    let Some(wrong) = report.findings.iter().find(|one| one.severity == Severity::Error) else {
        return Ok(());
    };
    let kind = wrong.kind.unwrap_or(ErrorKind::Provider);
    let text = if wrong.subject == pipeline::GUEST {
        format!("the disk would be refused for machines of `{}`", plan.platform)
    } else if wrong.subject == keys::FILE_IF_EXISTS.name() {
        wrong.message.clone()
    } else {
        format!("provider `{}` would refuse the build", plan.platform)
    };
    Err(Error::new(Stage::Provider(kind), text))
}

/// Returns the names of the steps in their order; steps that have no effect in this build are omitted.
fn steps(plan: &Plan) -> Vec<&'static str> {
    let states = plan.flow().states(plan.installs);
    let mut steps: Vec<&str> = Vec::new();
    for row in states {
        match row.state {
            State::Fetched if plan.object.is_some() => steps.push(Step::Locate.name()),
            State::Fetched if !plan.provisional => {}
            State::Planned | State::Attested | State::Released | State::Notified => {}
            _ => steps.push(row.step),
        }
        if row.state == State::Converted && plan.publish.is_some() {
            steps.push(PUBLISH);
        }
    }
    steps
}

/// Returns the plan for programs; members are only ever added.
fn document(summary: &PlanSummary<'_>) -> Value {
    let PlanSummary { plan, unread, spec, settings, report, estimate, guest, .. } = summary;
    let settings: BTreeMap<&str, Value> = settings
        .shown()
        .map(|(key, text, origin)| (key, json!({"value": text, "origin": origin.to_string()})))
        .collect();
    let source = match (&plan.installation, &plan.disk) {
        (Some(installation), _) => source_document(installation),
        (None, Some(disk)) => {
            json!({"disk": disk.path, "facts": disk.described(), "occupied": disk.occupied})
        }
        (None, None) => match &plan.from_bundle {
            Some(bundle) => json!({"bundle": bundle.path(), "image_sha256": bundle.image_sha256()}),
            None => match &plan.object {
                Some(object) => json!({"object": object.id}),
                None => json!({"unread": unread}),
            },
        },
    };
    let space: Vec<Value> = space_needs(plan)
        .into_iter()
        .map(|need| {
            json!({"folder": need.directory, "needed": need.bytes, "free": free_space(&need.directory)})
        })
        .collect();
    json!({
        "platform": plan.platform,
        "image_name": plan.build.image_name,
        "virtual_size": Some(plan.build.virtual_size).filter(|size| *size > 0),
        "disk": spec.to_string(),
        "source": source,
        "steps": steps(plan),
        "artifacts": plan.artifacts,
        "space": space,
        "published_in": plan.publish,
        "estimate": estimate,
        "creates": if plan.upload { &report.creates[..] } else { &[] },
        "permissions": if plan.upload { &report.permissions[..] } else { &[] },
        "tags": plan.build.tags,
        "settings": settings,
        "findings": report.findings,
        "guest": guest,
    })
}

/// Describes an installation for programs: every further ISO that its installer knows is a member.
fn source_document(installation: &Installation) -> Value {
    let system = &installation.document().system;
    let mut document = json!({
        "iso": installation.iso,
        "product": system.product,
        "version": system.version,
        "build": system.build,
    });
    for setting in installation.installer.media() {
        let medium = installation.media.iter().find(|medium| medium.medium.setting == *setting);
        document[setting.name] = json!(medium.map(|medium| &medium.medium.path));
    }
    document
}

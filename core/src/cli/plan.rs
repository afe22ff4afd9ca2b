//! Prints what a build would do (`build-image plan …`). Reads settings and headers of the source; downloads,
//! unpacks and writes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use build_image_plugin_api::{
    DiskSpec, ErrorKind, Step,
    document::{CheckReport, Severity},
};

use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{
    args,
    build::{self, Preparation, Prepared},
    estimate::{Estimate, Temporary},
    group::{self, Choice},
    iso_only,
};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    journal::{Journal, Key},
    pipeline::{self, Flow, PUBLISH, Pipeline, PipelineParams, State},
    plan::{Draws, Installation, Plan, check_space, free_space, space_needs},
    report::{GuestEntry, Outcome, OutputMode, Reporter, seconds_text},
    settings::{Environment, Resolved},
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
    guest: Option<GuestEntry>,
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
            super::print(&text);
            return Ok(());
        }
        Preparation::Ready(prepared) => prepared,
    };
    let as_json = prepared.settings.core().output.json;
    let reporter = Reporter::new(OutputMode::of(&prepared.settings, environment));
    let planned = plan(&prepared, environment, checks, Arc::new(reporter))?;
    super::print(&if as_json { format!("{:#}\n", planned.document) } else { planned.text });
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
    let plan = Plan::new(&plugin.name, plugin.description(), settings, peeked, &Draws::new()?)?;
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
    let spec = report.disk.as_ref().unwrap_or(&plan.spec);
    let estimate = Estimate::of(plan, spec, &report, &key);
    let summary = PlanSummary { plan, unread, spec, settings, report: &report, estimate, guest };
    let mut planned =
        Planned { document: document(&summary), text: text(&summary), result: check_space(plan) };
    if planned.result.is_ok() {
        planned.text.push_str(&findings(&report));
        if !pipeline.may_skip_despite(&report.findings) {
            planned.result = refuse(plan, &report);
        }
    }
    Ok(planned)
}

/// Returns the error of a plan whose provider or disk has a finding that stops the build.
fn refuse(plan: &Plan, report: &CheckReport) -> Result<()> {
    let Some(wrong) = report.findings.iter().find(|one| one.severity == Severity::Error) else {
        return Ok(());
    };
    let kind = wrong.kind.unwrap_or(ErrorKind::Provider);
    let text = if wrong.subject == pipeline::GUEST {
        format!("the disk would be refused for machines of `{}`", plan.platform)
    } else {
        format!("provider `{}` would refuse the build", plan.platform)
    };
    Err(Error::new(Stage::Provider(kind), text))
}

/// Formats the provider's findings.
fn findings(report: &CheckReport) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut text = "checks\n".to_owned();
    for finding in &report.findings {
        let mark = match finding.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            _ => "error",
        };
        let causes: String = finding.causes.iter().map(|cause| format!(": {cause}")).collect();
        text.push_str(&format!("  {mark:<8} {}: {}{causes}\n", finding.subject, finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("           hint: {hint}\n"));
        }
    }
    text
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
    let PlanSummary { plan, unread, spec, settings, report, estimate, guest } = summary;
    let settings: BTreeMap<&str, Value> = settings
        .shown()
        .map(|(key, text, origin)| (key, json!({"value": text, "origin": origin.to_string()})))
        .collect();
    let source = match (&plan.installation, &plan.disk) {
        (Some(installation), _) => source_document(installation),
        (None, Some(disk)) => {
            json!({"disk": disk.path, "facts": disk.told(), "occupied": disk.occupied})
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

fn text(summary: &PlanSummary<'_>) -> String {
    let PlanSummary { plan, unread, spec, settings, report, estimate, guest } = summary;
    let size = match plan.build.virtual_size {
        0 => "size unknown".to_owned(),
        size => HumanBytes(size).to_string(),
    };
    let mut lines = vec![
        format!("platform      {}", plan.platform),
        format!("image name    {}", plan.build.image_name),
        format!("disk          {size}, as {spec}"),
    ];
    // An upload has no image, and the disk of an object is known when it is located.
    lines.retain(|line| match plan.flow() {
        Flow::Upload => !line.starts_with("image name"),
        Flow::Register => !line.starts_with("disk"),
        _ => true,
    });
    if let Some(source) = unread {
        lines.push(format!("from          {source}, not fetched or unpacked yet"));
    }
    lines.extend(source_lines(plan));
    let system = guest.as_ref().and_then(|guest| pipeline::described(&guest.attributes));
    lines.extend(system.map(|system| format!("it holds      {system}")));
    lines.push(format!("steps         {}", steps(plan).join(" → ")));
    lines.push(format!("artifacts     {}", plan.artifacts.display()));
    for need in space_needs(plan) {
        let free = free_space(&need.directory)
            .map_or_else(|| "?".to_owned(), |free| HumanBytes(free).to_string());
        lines.push(format!(
            "space         {} in {}, {free} free",
            HumanBytes(need.bytes),
            need.directory.display()
        ));
    }
    if let Some(directory) = &plan.publish {
        lines.push(format!("published in  {}", directory.display()));
    }
    lines.extend(estimate_lines(estimate));
    if plan.upload {
        lines.extend(cloud_lines(plan, report));
    }
    if !plan.build.tags.is_empty() && !plan.upload_only {
        lines.push("tags".to_owned());
        lines.extend(plan.build.tags.iter().map(|(key, value)| format!("  {key}: {value}")));
    }
    lines.push("settings".to_owned());
    lines.extend(
        settings.shown().map(|(key, text, origin)| format!("  {key} = {text}  ({origin})")),
    );
    lines.join("\n") + "\n"
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

/// Describes what the image is made from.
fn source_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(installation) = &plan.installation {
        let system = &installation.document().system;
        let build = Some(&system.build).filter(|build| !build.is_empty());
        let build = build.map(|build| format!(" build {build}")).unwrap_or_default();
        lines.push(format!("install       {}{build}", system.name()));
        lines.push(format!("from          {}", installation.iso.display()));
        for medium in &installation.media {
            let medium = &medium.medium;
            lines.push(format!("{:<13} {}", medium.setting.name, medium.path.display()));
        }
    }
    if let Some(disk) = &plan.disk {
        let packing = disk.wrapping.map_or("", |wrapping| wrapping.name());
        let packing = if packing.is_empty() { String::new() } else { format!(" ({packing})") };
        lines.push(format!("from          {}{packing}", disk.path.display()));
        lines.push(format!("it says       {}", disk.told()));
        lines.push(format!("it occupies   {}", HumanBytes(disk.occupied)));
    }
    lines.extend(plan.object.iter().map(|object| format!("from          {}", object.id)));
    if let Some(bundle) = &plan.from_bundle {
        let signature = bundle.signature();
        lines.push(format!("from          {} (bundle, {signature})", bundle.path().display()));
        let length = HumanBytes(bundle.image_length());
        let spec = &bundle.document().image.spec;
        lines.push(format!("image         {length}, as {spec}, verified before it is sent"));
    }
    lines
}

/// Formats bytes and time, as far as the estimate has them.
fn estimate_lines(estimate: &Estimate) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(most) = estimate.sends_at_most {
        lines.push(format!("sends         at most {}", HumanBytes(most)));
    }
    if let Some(Temporary { directory, at_most }) = &estimate.temporary {
        let directory = directory.display();
        lines.push(format!("temporary     at most {} in {directory}", HumanBytes(*at_most)));
    }
    let time_text = |seconds| seconds_text(Duration::from_secs(seconds));
    if let (Some(rate), Some(seconds)) = (estimate.bytes_per_second, estimate.seconds_at_that_rate)
    {
        lines.push(format!(
            "upload        {} for all of it at {}/s",
            time_text(seconds),
            HumanBytes(rate)
        ));
    }
    lines.push(match &estimate.former_build {
        Some(former) => {
            format!("time          {} last time ({})", time_text(former.seconds), former.run)
        }
        None => "time          unknown; with --reuse finished builds are remembered".to_owned(),
    });
    lines
}

/// Formats what the provider reports that a build will create in its cloud, and which permissions that requires. The
/// run of a build is not known yet.
fn cloud_lines(plan: &Plan, report: &CheckReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.creates.is_empty() {
        lines.push("creates".to_owned());
    }
    for resource in &report.creates {
        let region = resource.region.as_ref().map(|region| format!(" in {region}"));
        let more: Vec<String> =
            resource.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        let fate = if resource.deliverable { "stays" } else { "removed when it is done" };
        let line = format!("  {}{}{more}: {fate}", resource.label(), region.unwrap_or_default());
        lines.push(line.replace(&plan.build.run_id, "RUN"));
    }
    if !report.permissions.is_empty() {
        lines.push(format!("permissions   {}", report.permissions.join(" ")));
    }
    lines
}

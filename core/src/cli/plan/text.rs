//! Formats a plan for people: the verdict and the checks first, then what would be created, sizes, and the settings
//! that are set. VERBOSE adds the rest.

use std::{collections::BTreeMap, time::Duration};

use build_image_plugin_api::{
    Resource, SettingKind,
    document::{Finding, Severity},
};
use indicatif::HumanBytes;

use super::{PlanSummary, Temporary, steps};
use crate::{
    error::Result,
    pipeline::{self, Flow},
    plan::{Plan, free_space, space_needs},
    report::{columns, hung, seconds_text},
    settings::{Origin, Row},
};

/// Width of the labels, columns.
const LABEL: usize = 10;

/// Lines with labels, wrapped to the width of the terminal.
struct Page {
    text: String,
    /// Columns; `None` = lines are not wrapped.
    width: Option<usize>,
}

impl Page {
    /// Adds a line; a label that is empty continues the one above.
    fn row(&mut self, label: &str, text: &str) {
        self.hung(&format!("{label:<LABEL$}"), text);
    }

    /// Adds a line whose continuations are indented by the length of its start.
    fn hung(&mut self, start: &str, text: &str) {
        self.text.push_str(hung(start, text, self.width).trim_end());
        self.text.push('\n');
    }
}

/// Formats a plan; `result` is whether the build would begin.
pub(super) fn text(summary: &PlanSummary<'_>, rows: &[Row], result: &Result<()>) -> String {
    let PlanSummary { plan, report, .. } = summary;
    let mut page = Page { text: String::new(), width: columns(std::io::stdout()) };
    let what = match plan.flow() {
        Flow::Upload => format!("upload for {}", plan.platform),
        Flow::Package => format!("{} for {}", package_name(plan), plan.platform),
        _ => format!("image {} for {}", plan.build.image_name, plan.platform),
    };
    page.row("plan", &what);
    page.row("verdict", &verdict(summary, result));
    for finding in &report.findings {
        checked(&mut page, finding);
    }
    if plan.upload {
        created(&mut page, summary);
    }
    source(&mut page, summary);
    sizes(&mut page, summary);
    if summary.is_verbose {
        details(&mut page, summary);
    }
    settings(&mut page, summary, rows);
    page.text
}

/// Returns the name of the file that a package is written to.
fn package_name(plan: &Plan) -> String {
    match &plan.bundle {
        Some(bundle) => format!("bundle {}", bundle.display()),
        None => format!("{}.{}", plan.build.file_stem, plan.package.file_suffix()),
    }
}

fn verdict(summary: &PlanSummary<'_>, result: &Result<()>) -> String {
    let findings = &summary.report.findings;
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let counted = |count: usize, what: &str| {
        (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
    };
    let passed = counted(count(Severity::Ok), "check").map(|text| format!("{text} passed"));
    let numbers = [
        counted(count(Severity::Error), "error"),
        counted(count(Severity::Warning), "warning"),
        passed,
    ];
    let numbers: Vec<String> = numbers.into_iter().flatten().collect();
    let word = if result.is_ok() { "ready" } else { "a build would fail" };
    let mut text = word.to_owned();
    if !numbers.is_empty() {
        text = format!("{text}: {}", numbers.join(", "));
    }
    if summary.plan.upload && !summary.is_online {
        text.push_str("; --check also asks the cloud");
    }
    text
}

fn checked(page: &mut Page, finding: &Finding) {
    let mark = match finding.severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        _ => "error",
    };
    let causes: String = finding.causes.iter().map(|cause| format!(": {cause}")).collect();
    let start = format!("  {mark:<8}");
    page.hung(&start, &format!("{}: {}{causes}", finding.subject, finding.message));
    if let Some(hint) = &finding.hint {
        page.hung(&" ".repeat(LABEL), &format!("hint: {hint}"));
    }
}

/// Lists what the build creates in the cloud. The run of a build is not known yet.
fn created(page: &mut Page, summary: &PlanSummary<'_>) {
    let (plan, report) = (summary.plan, summary.report);
    let described = |resource: &Resource| {
        let region = resource.region.as_ref().map(|region| format!(" in {region}"));
        let attributes: Vec<String> =
            resource.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let more = if attributes.is_empty() || !summary.is_verbose {
            String::new()
        } else {
            format!(" ({})", attributes.join(", "))
        };
        let line = format!("{}{}{more}", resource.label(), region.unwrap_or_default());
        line.replace(&plan.build.run_id, "RUN")
    };
    for (label, deliverable) in [("creates", true), ("temporary", false)] {
        let resources = report.creates.iter().filter(|one| one.deliverable == deliverable);
        for (number, resource) in resources.enumerate() {
            page.row(if number == 0 { label } else { "" }, &described(resource));
        }
    }
}

/// Describes what the image is made from.
fn source(page: &mut Page, summary: &PlanSummary<'_>) {
    let plan = summary.plan;
    if let Some(source) = &summary.unread {
        page.row("from", &format!("{source}, which a build fetches or unpacks"));
    }
    if let Some(installation) = &plan.installation {
        let system = &installation.document().system;
        let build = Some(&system.build).filter(|build| !build.is_empty());
        let build = build.map(|build| format!(" build {build}")).unwrap_or_default();
        page.row("installs", &format!("{}{build}", system.name()));
        page.row("from", &installation.iso.display().to_string());
        for medium in &installation.media {
            let medium = &medium.medium;
            page.row("", &format!("{} {}", medium.setting.name, medium.path.display()));
        }
    }
    if let Some(disk) = &plan.disk {
        let packing =
            disk.wrapping.map_or(String::new(), |packing| format!(" ({})", packing.name()));
        page.row("from", &format!("{}{packing}", disk.path.display()));
        let system =
            summary.guest.as_ref().and_then(|guest| pipeline::described(&guest.attributes));
        let system = system.map(|system| format!("{system}; ")).unwrap_or_default();
        page.row("", &format!("{system}{}", disk.described()));
    }
    if let Some(object) = &plan.object {
        page.row("from", &object.id);
    }
    if let Some(bundle) = &plan.from_bundle {
        let signature = bundle.signature();
        page.row("from", &format!("{} (bundle, {signature})", bundle.path().display()));
    }
}

/// Formats sizes, space, and time, as far as they are known.
fn sizes(page: &mut Page, summary: &PlanSummary<'_>) {
    let PlanSummary { plan, spec, estimate, .. } = summary;
    if plan.flow() != Flow::Register {
        let size = match plan.build.virtual_size {
            0 => "size unknown".to_owned(),
            size => HumanBytes(size).to_string(),
        };
        let used = plan.disk.as_ref().map(|disk| format!(", {} used", HumanBytes(disk.occupied)));
        let spec = if plan.flow() == Flow::Package { &plan.package } else { *spec };
        page.row("disk", &format!("{size}{}, as {spec}", used.unwrap_or_default()));
    }
    let sends = match (estimate.image_bytes, estimate.sends_at_most) {
        (Some(bytes), Some(_)) => Some(HumanBytes(bytes).to_string()),
        (None, Some(most)) => Some(format!("at most {}", HumanBytes(most))),
        (_, None) => None,
    };
    if let Some(sends) = sends {
        let time_text = |seconds| seconds_text(Duration::from_secs(seconds));
        let rate = estimate.bytes_per_second.zip(estimate.seconds_at_that_rate);
        let rate = rate.map(|(rate, seconds)| {
            format!(", {} for all of it at {}/s", time_text(seconds), HumanBytes(rate))
        });
        page.row("sends", &format!("{sends}{}", rate.unwrap_or_default()));
        if let Some(advice) = &summary.compression {
            page.row("", advice);
        }
    }
    if let Some(Temporary { directory, at_most }) = &estimate.temporary {
        let directory = directory.display();
        page.row(
            "writes",
            &format!("at most {} in {directory}, temporarily", HumanBytes(*at_most)),
        );
    }
    for need in space_needs(plan) {
        let free = free_space(&need.directory)
            .map_or_else(|| "?".to_owned(), |free| HumanBytes(free).to_string());
        let (bytes, directory) = (HumanBytes(need.bytes), need.directory.display());
        page.row("writes", &format!("about {bytes} in {directory}, {free} free"));
    }
    if let Some(former) = &estimate.former_build {
        let time = seconds_text(Duration::from_secs(former.seconds));
        page.row("time", &format!("{time} last time ({})", former.run));
    } else if summary.is_verbose {
        page.row("time", "unknown; with --reuse finished builds are remembered");
    }
}

/// Adds what VERBOSE asks for.
fn details(page: &mut Page, summary: &PlanSummary<'_>) {
    let PlanSummary { plan, report, .. } = summary;
    page.row("steps", &steps(plan).join(" → "));
    page.row("artifacts", &plan.artifacts.display().to_string());
    if plan.upload && !report.permissions.is_empty() {
        page.row("needs", &format!("permissions {}", report.permissions.join(" ")));
    }
    if !plan.upload_only {
        for (number, (key, value)) in plan.build.tags.iter().enumerate() {
            page.row(if number == 0 { "tags" } else { "" }, &format!("{key}: {value}"));
        }
    }
}

/// Lists settings by their origin; defaults only with VERBOSE.
fn settings(page: &mut Page, summary: &PlanSummary<'_>, rows: &[Row]) {
    let mut origins: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for (key, text, origin) in summary.settings.shown() {
        let place = match origin {
            Origin::CommandLine => (0, "command line".to_owned()),
            Origin::File(path, _) => (1, path.display().to_string()),
            Origin::Environment(_) => (2, "environment".to_owned()),
            Origin::Default if summary.is_verbose => (3, "default".to_owned()),
            Origin::Default => continue,
        };
        let key = match origin {
            Origin::Environment(name) => name,
            _ => key,
        };
        let kind = rows.iter().find(|row| row.key() == key).map(|row| row.setting.kind);
        origins.entry(place).or_default().push(format!("{key}={}", shown(&text, kind)));
    }
    let mut label = "settings";
    for ((_, place), settings) in origins {
        page.row(label, &format!("{place}: {}", settings.join(", ")));
        label = "";
    }
    if !summary.is_verbose {
        page.row("", "(--verbose adds defaults, tags, permissions and steps)");
    }
}

/// Formats a value as a user would write it: numbers of bytes and seconds with their units.
fn shown(text: &str, kind: Option<SettingKind>) -> String {
    let units: &[(u64, &str)] = match kind {
        Some(SettingKind::Size) => {
            &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        }
        Some(SettingKind::Duration) => &[(3600, "h"), (60, "m"), (1, "s")],
        _ => &[],
    };
    let number = text.parse::<u64>().ok().filter(|&number| number > 0);
    let unit = |number: u64| units.iter().find(|(unit, _)| number.is_multiple_of(*unit));
    match number.and_then(|number| Some((number, unit(number)?))) {
        Some((number, (unit, name))) => format!("{}{name}", number / unit),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_shown_with_their_units() {
        use SettingKind::{Duration, Integer, Size};
        for (text, kind, expected) in [
            ("16777216", Some(Size), "16MiB"),
            ("1048577", Some(Size), "1048577"),
            ("7200", Some(Duration), "2h"),
            ("90", Some(Duration), "90s"),
            ("0", Some(Size), "0"),
            ("7200", Some(Integer), "7200"),
            ("x", Some(Size), "x"),
            ("7200", None, "7200"),
        ] {
            assert_eq!(shown(text, kind), expected, "{text}");
        }
    }
}

//! `build-image plan …`: what a build would do. Reads the source and the settings, touches nothing.

use super::{
    args,
    build::{self, Preparation},
    iso_only,
};
use crate::{
    error::Result,
    plan::Plan,
    report::{Outcome, Reporter},
    settings::{Environment, Resolved},
    source,
};

/// Prints the plan of a build.
///
/// # Errors
/// Whatever would keep the build from starting.
pub(super) fn run(words: &[String], environment: &Environment) -> Result<()> {
    let words = args::normalised(words);
    let layers = args::first_look(&words, environment)?;
    match build::prepare(&words, layers, &mut Outcome::default())? {
        Preparation::Text(text) => super::print(&text),
        Preparation::Ready(prepared) => {
            let (plugin, settings) = (&prepared.plugin, &prepared.settings);
            iso_only::warn(settings, &Reporter::new(settings.is_on("QUIET")));
            let source = source::open(settings)?;
            let plan = Plan::new(&plugin.name, plugin.description(), settings, source)?;
            super::print(&text(&plan, settings));
        }
    }
    Ok(())
}

fn text(plan: &Plan, settings: &Resolved) -> String {
    let mut lines = vec![
        format!("platform      {}", plan.platform),
        format!("image name    {}", plan.build.image_name),
        format!(
            "disk          {} GiB, as {}",
            plan.build.virtual_size.div_ceil(1 << 30),
            plan.spec.format.word()
        ),
    ];
    if let Some(installation) = &plan.installation {
        let facts = &installation.facts;
        lines.push(format!(
            "install       {} {} build {}",
            facts.product, facts.version, facts.build
        ));
        lines.push(format!("from          {}", installation.iso.display()));
    }
    if let Some(disk) = &plan.disk {
        lines.push(format!("from          {}", disk.display()));
    }
    let mut steps = Vec::new();
    if plan.upload || plan.publish.is_none() {
        steps.push("check");
    }
    if plan.installation.is_some() {
        steps.push("install");
    }
    steps.push("disk");
    if plan.publish.is_some() {
        steps.push("publish");
    }
    if plan.upload || plan.publish.is_none() {
        steps.extend(["upload", "register"]);
    }
    lines.push(format!("steps         {}", steps.join(" → ")));
    lines.push(format!("artifacts     {}", plan.artifacts.display()));
    if let Some(folder) = &plan.publish {
        lines.push(format!("published in  {}", folder.display()));
    }
    if !plan.build.tags.is_empty() {
        lines.push("tags".to_owned());
        lines.extend(plan.build.tags.iter().map(|(key, value)| format!("  {key}: {value}")));
    }
    lines.push("settings".to_owned());
    lines.extend(
        settings.shown().map(|(key, text, origin)| format!("  {key} = {text}  ({origin})")),
    );
    lines.join("\n") + "\n"
}

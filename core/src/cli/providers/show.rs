//! Runs `providers list` and `inspect`: prints what the plugins declare, queried in separate processes, which may
//! crash.

use build_image_plugin_api::{Description, DiskNeeds, DiskSpec, Setting, Status, Step};
use serde_json::{Value, json};

use crate::{
    cli::{print, print_folded},
    error::{Error, Result},
    plugins::{Candidate, Loader, Plugin, trust},
    report::{columns, hung},
};

/// One plugin of the list.
struct Found {
    candidate: Candidate,
    plugin: Result<Plugin>,
    /// A directory that is searched earlier contains a plugin of this name.
    shadowed: bool,
}

/// Prints all plugins, including those that do not load.
pub(super) fn list(loader: &Loader, as_json: bool) {
    let mut rows: Vec<Found> = Vec::new();
    for candidate in loader.search.all() {
        let shadowed = rows.last().is_some_and(|last| last.candidate.name == candidate.name);
        rows.push(Found { plugin: loader.ask(&candidate), candidate, shadowed });
    }
    let directories = loader.search.directories();
    if as_json {
        let documents: Vec<Value> = rows.iter().map(document).collect();
        let lock = loader.lock.path().filter(|path| path.exists());
        let whole = json!({"providers": documents, "folders": directories, "lock": lock});
        print(&format!("{whole:#}\n"));
        return;
    }
    if rows.is_empty() {
        let directories: String =
            directories.iter().map(|directory| format!("  {}\n", directory.display())).collect();
        print(&format!("no provider was found; directories that are searched:\n{directories}"));
    }
    for found in &rows {
        print_folded(&text(found));
    }
}

fn text(found: &Found) -> String {
    let note = if found.shadowed { " (shadowed by the one above)" } else { "" };
    let path = found.candidate.path.display();
    match &found.plugin {
        Ok(plugin) => {
            let description = plugin.description();
            let stub = plugin.status_mark();
            format!(
                "{:<10} {:<8} {}{stub}{note}\n{:<10} {path}\n{:<10} {}, ABI {}, sha256 {}{}\n",
                plugin.name,
                description.version,
                description.summary,
                "",
                "",
                plugin.kind.word(),
                description.abi.built,
                plugin.sha256,
                if plugin.locked { ", locked" } else { "" },
            )
        }
        Err(error) => {
            let name = &found.candidate.name;
            let mut text = format!("{name:<10} does not load{note}\n{:<10} {path}\n", "");
            let hint = error.hint.iter().map(|hint| format!("hint: {hint}"));
            let causes = error.causes.iter().map(|cause| format!("because: {cause}"));
            for line in std::iter::once(error.message.clone()).chain(causes).chain(hint) {
                text.push_str(&format!("{:<10} {line}\n", ""));
            }
            text
        }
    }
}

fn document(found: &Found) -> Value {
    let candidate = &found.candidate;
    let mut document = json!({
        "name": candidate.name,
        "kind": candidate.kind.word(),
        "path": candidate.path,
        "shadowed": found.shadowed,
        "loads": found.plugin.is_ok(),
        "state": state(found),
    });
    let more = match &found.plugin {
        Ok(plugin) => json!({
            "version": plugin.description().version,
            "status": plugin.description().status,
            "summary": plugin.description().summary,
            "abi": plugin.description().abi,
            "sha256": plugin.sha256,
            "locked": plugin.locked,
        }),
        Err(error) => refused(candidate, error),
    };
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    document
}

fn state(found: &Found) -> &'static str {
    match (&found.plugin, found.shadowed) {
        (Err(_), _) => "refused",
        (Ok(_), true) => "shadowed",
        (Ok(_), false) => "ok",
    }
}

/// Describes a plugin that does not load: why, and the metadata that its file contains without being run.
fn refused(candidate: &Candidate, error: &Error) -> Value {
    let metadata = Loader::metadata(candidate);
    json!({
        "version": metadata.as_ref().map(|description| &description.version),
        "abi": metadata.as_ref().map(|description| json!({"built": description.abi})),
        "sha256": trust(&candidate.path).ok().map(|file| file.sha256),
        "reason": error.message,
        "causes": error.causes,
        "hint": error.hint,
    })
}

/// Prints everything a plugin declares.
///
/// # Errors
/// When no plugin has this name, or it does not load.
pub(super) fn inspect(loader: &Loader, name: &str, as_json: bool) -> Result<()> {
    let width = columns(std::io::stdout());
    let plugin = loader.ask(&loader.search.find(name)?)?;
    let description = plugin.description();
    if as_json {
        let mut document = json!(description);
        let own = json!({
            "operations": operations(description),
            "kind": plugin.kind.word(),
            "path": plugin.path,
            "sha256": plugin.sha256,
            "locked": plugin.locked,
        });
        if let (Some(document), Value::Object(own)) = (document.as_object_mut(), own) {
            document.extend(own);
        }
        print(&format!("{document:#}\n"));
        return Ok(());
    }
    let title = format!("{} {}: ", plugin.name, description.version);
    let mut lines = vec![hung(&title, &description.summary, width)];
    for (name, value) in facts(&plugin) {
        if !value.is_empty() {
            lines.push(hung(&format!("{name:<13} "), &value, width));
        }
    }
    let shown: Vec<&Setting> =
        description.settings.iter().filter(|setting| !setting.hidden).collect();
    if !shown.is_empty() {
        lines.push("settings".to_owned());
        lines.extend(shown.into_iter().map(|one| setting(one, width)));
    }
    print(&(lines.join("\n") + "\n"));
    Ok(())
}

/// Returns the steps that the provider implements; the others return unsupported.
fn operations(description: &Description) -> Vec<&'static str> {
    let by_hand = |step: Step| {
        description.status == Status::DiskOnly
            && matches!(step, Step::Upload | Step::Register | Step::Discard)
    };
    let steps = Step::ALL.iter().copied().filter(|step| !by_hand(*step));
    steps.filter(|step| step.is_declared_by(description)).map(Step::name).collect()
}

fn facts(plugin: &Plugin) -> Vec<(&'static str, String)> {
    let description = plugin.description();
    let status = json!(description.status).as_str().unwrap_or_default().to_owned();
    let locked = if plugin.locked { " (locked)" } else { "" };
    let limits = description.tags.as_ref().map(|tags| tags.maximum).filter(|&most| most > 0);
    vec![
        ("file", plugin.path.display().to_string()),
        ("kind", plugin.kind.word().to_owned()),
        ("sha256", format!("{}{locked}", plugin.sha256)),
        ("ABI", format!("built {}, requires {}", description.abi.built, description.abi.requires)),
        ("status", status),
        ("homepage", description.homepage.clone()),
        ("license", description.license.clone()),
        ("disk", disk(&description.disk)),
        (
            "published as",
            description.disk.package.as_ref().map_or_else(String::new, DiskSpec::to_string),
        ),
        (
            "image name",
            description
                .image_name
                .as_ref()
                .map_or_else(String::new, |rules| rules.explanation.clone()),
        ),
        ("tags", limits.map_or_else(String::new, |most| format!("at most {most}"))),
        ("operations", operations(description).join(", ")),
        ("capabilities", description.capabilities.join(", ")),
    ]
}

fn disk(needs: &DiskNeeds) -> String {
    let mut text = needs.spec.to_string();
    for (label, limit) in needs.limits() {
        text.push_str(&format!(", {label} {}", indicatif::HumanBytes(limit)));
    }
    text
}

fn setting(setting: &Setting, width: Option<usize>) -> String {
    let marks = [(setting.required, " (required)"), (setting.secret, " (secret)")];
    let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    let kind = json!(setting.kind).as_str().unwrap_or_default().to_owned();
    let choices = match setting.choices.as_slice() {
        [] => String::new(),
        choices => format!(" [{}]", choices.join(", ")),
    };
    let default = setting.default.as_ref();
    let default = default.map_or_else(String::new, |text| format!(" [default: {text}]"));
    let summary = hung("      ", &format!("{}{choices}{default}", setting.summary), width);
    format!("  {} {kind}{marks}\n{summary}", setting.key)
}

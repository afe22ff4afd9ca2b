//! `build-image providers …`: which plugins there are, whether they load, what they declare.

use serde_json::json;

use super::{args, build};
use crate::{
    error::{Error, Result},
    plugins::{Candidate, Plugin, SearchPath},
    report::print_error,
    settings::{Environment, core_rows},
};

const USAGE: &str =
    "build-image providers list [--json] | inspect NAME [--json] [--provider-dir DIR]";

/// Runs `list` or `inspect`.
///
/// # Errors
/// Usage errors, and plugins that do not load when one was named.
pub(super) fn run(words: &[String], environment: &Environment) -> Result<()> {
    let words = args::normalised(words);
    let layers = args::first_look(&words, environment.clone())?;
    let search = build::search_path(&layers.resolve(&core_rows())?, environment);
    let as_json = words.iter().any(|word| word == "--json");
    let mut plain = words.iter().map(String::as_str).filter(|word| *word != "--json");
    match (plain.next(), plain.next()) {
        (Some("list"), _) => {
            list(&search, as_json);
            Ok(())
        }
        (Some("inspect"), Some(name)) if !name.starts_with('-') => inspect(&search, name, as_json),
        _ => Err(Error::usage("providers needs `list` or `inspect NAME`").hint(USAGE)),
    }
}

fn list(search: &SearchPath, as_json: bool) {
    let mut rows = Vec::new();
    let mut previous = None;
    for candidate in search.all() {
        let shadowed = previous.as_ref() == Some(&candidate.name);
        previous = Some(candidate.name.clone());
        rows.push((shadowed, Plugin::load(&candidate), candidate));
    }
    if as_json {
        let documents: Vec<_> = rows
            .iter()
            .map(|(shadowed, loaded, candidate)| document(*shadowed, loaded, candidate))
            .collect();
        super::print(&format!(
            "{:#}\n",
            json!({"providers": documents, "folders": search.folders()})
        ));
        return;
    }
    if rows.is_empty() {
        let folders: Vec<String> =
            search.folders().iter().map(|folder| format!("  {}\n", folder.display())).collect();
        super::print(&format!(
            "no provider was found; folders that are searched:\n{}",
            folders.concat()
        ));
    }
    for (shadowed, loaded, candidate) in &rows {
        let note = if *shadowed { " (shadowed by the one above)" } else { "" };
        match loaded {
            Ok(plugin) => {
                let said = plugin.description();
                super::print(&format!(
                    "{:<10} {:<8} {}{note}\n{:<10} {} (plugin API {})\n",
                    plugin.name,
                    said.version,
                    said.summary,
                    "",
                    plugin.path.display(),
                    plugin.library.api_version(),
                ));
            }
            Err(error) => {
                super::print(&format!("{:<10} does not load{note}\n", candidate.name));
                print_error(error);
            }
        }
    }
}

fn document(shadowed: bool, loaded: &Result<Plugin>, candidate: &Candidate) -> serde_json::Value {
    match loaded {
        Ok(plugin) => json!({
            "name": plugin.name,
            "version": plugin.description().version,
            "status": plugin.description().status,
            "summary": plugin.description().summary,
            "abi": plugin.description().abi,
            "path": plugin.path,
            "sha256": plugin.sha256,
            "shadowed": shadowed,
            "loads": true,
        }),
        Err(error) => json!({
            "name": candidate.name,
            "path": candidate.path,
            "shadowed": shadowed,
            "loads": false,
            "reason": error.message,
            "hint": error.hint,
        }),
    }
}

fn inspect(search: &SearchPath, name: &str, as_json: bool) -> Result<()> {
    let plugin = Plugin::load(&search.find(name)?)?;
    let said = plugin.description();
    if as_json {
        super::print(&format!("{:#}\n", json!(said)));
        return Ok(());
    }
    let mut text = format!("{} {}: {}\n", plugin.name, said.version, said.summary);
    text.push_str(&format!("file      {}\nsha256    {}\n", plugin.path.display(), plugin.sha256));
    text.push_str(&format!("ABI       built {}, requires {}\n", said.abi.built, said.abi.requires));
    text.push_str(&format!("disk      {}\n", said.disk.spec.format.word()));
    text.push_str("settings\n");
    for setting in said.settings.iter().filter(|setting| !setting.hidden) {
        let marks = [(setting.required, " (required)"), (setting.secret, " (secret)")];
        let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
        text.push_str(&format!("  {}{marks}\n      {}\n", setting.key, setting.summary));
    }
    super::print(&text);
    Ok(())
}

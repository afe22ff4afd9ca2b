//! `build-image providers …`: which plugins there are, whether they load, what they declare.

use clap::{Arg, ArgMatches, Command, error::ErrorKind};
use serde_json::json;

use super::{args, build, command};
use crate::{
    error::{Error, Result},
    plugins::{Candidate, Plugin, SearchPath},
    report::print_error,
    settings::{Environment, Row, core_rows, first_rows},
};

/// Settings that count here: which plugins there are, and how they are shown.
const KEYS: [&str; 4] = ["CONFIG_FILE", "PROVIDER_DIR", "PROVIDER_FILE", "JSON"];

fn rows() -> Vec<Row> {
    core_rows().into_iter().filter(|row| KEYS.contains(&row.key())).collect()
}

fn parser() -> Command {
    let name = Arg::new("NAME").required(true).help("name of a provider, as after -p");
    let flags = rows().iter().map(|row| command::flag(row).global(true)).collect::<Vec<Arg>>();
    Command::new("build-image providers")
        .about("Lists and inspects provider plugins.")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(flags)
        .subcommand(Command::new("list").about("list plugins and say whether they load"))
        .subcommand(Command::new("inspect").about("show what a provider declares").arg(name))
}

/// Runs `list` or `inspect`.
///
/// # Errors
/// Usage errors, and plugins that do not load when one was named.
pub(super) fn run(words: &[String], environment: &Environment) -> Result<()> {
    let words = args::normalised(words);
    let argv = std::iter::once("build-image providers").chain(words.iter().map(String::as_str));
    let matches: ArgMatches = match parser().try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            super::print(&error.to_string());
            return Ok(());
        }
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            return Err(Error::usage("providers needs `list` or `inspect NAME`")
                .hint("build-image providers --help"));
        }
        Err(error) => return Err(command::usage(&error, "build-image providers --help")),
    };
    let layers = args::first_look(&words, environment)?;
    let search = build::search_path(&layers.resolve(&first_rows())?, environment);
    let as_json = layers.resolve(&rows())?.is_on("JSON");
    match matches.subcommand() {
        Some(("inspect", named)) => {
            let name = named.get_one::<String>("NAME").map(String::as_str);
            inspect(&search, name.unwrap_or_default(), as_json)
        }
        _ => {
            list(&search, as_json);
            Ok(())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_stand_in_any_order_and_unknown_ones_are_refused() {
        for line in [
            "list",
            "--json list",
            "list --json=no -c c.yml",
            "inspect x --provider-dir d",
            "--provider-dir d inspect x --json",
            "inspect --provider-dir=d x",
        ] {
            let words = std::iter::once("x").chain(line.split(' '));
            parser().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for (line, kind) in [
            ("x", ErrorKind::MissingSubcommand),
            ("x list --nonsense", ErrorKind::UnknownArgument),
            ("x inspect", ErrorKind::MissingRequiredArgument),
            ("x list x", ErrorKind::UnknownArgument),
            ("x --help", ErrorKind::DisplayHelp),
            ("x inspect -h", ErrorKind::DisplayHelp),
        ] {
            let error = parser().try_get_matches_from(line.split(' ')).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}");
        }
    }
}

//! Runs `providers install`, `update`, `remove` and `verify`: providers from a publisher's signed index, or from a
//! plugin file with a known SHA-256.

use std::{path::Path, sync::Arc};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::{
    cli::{
        build, command,
        consent::{Answer, ask},
        print,
    },
    error::{Error, Problem, Result, Stage},
    interrupt::{self, Interrupt},
    packages::{
        Consent, Installed, Installer, Outcome, Package, Place, Publishers, Question, Standing,
        Wanted, not_installed,
    },
    plugins::{Loader, user_directory},
    report::{OutputMode, Reporter},
    settings::{Layers, Resolved, Row, keys, rows_of},
    signature::MinisignKey,
    source::{DownloadOptions, Downloader},
};

/// Settings of the verbs that download.
const SETTINGS: [crate::settings::Key; 4] =
    [keys::DOWNLOAD_RETRIES, keys::DOWNLOAD_TIMEOUT, keys::PROGRESS, keys::QUIET];
/// Longest file of a public key, in bytes.
const KEY_LIMIT: u64 = 64 << 10;

/// Returns the parsers of the verbs.
pub(super) fn commands() -> [Command; 4] {
    let rows = rows_of(&SETTINGS);
    let flags = || rows.iter().map(command::flag).collect::<Vec<Arg>>();
    let names = |help: &'static str| Arg::new("NAME").num_args(0..).help(help);
    let switch = |id: &'static str, long: &'static str, help: &'static str| {
        Arg::new(id).long(long).action(ArgAction::SetTrue).help(help)
    };
    let plain =
        || switch("PLAIN", "plain-http", "ask a registry without TLS, also beyond loopback");
    let install = Command::new("install")
        .about("install providers from a publisher's signed index")
        .after_help(
            "SOURCE is an index: a path, a directory or a .tar archive with `index.json`,\n\
             an http or https URL, or oci://HOST/NAME:TAG. Or it is a single plugin file,\n\
             as a path or a URL, with --sha256. Without NAME, the only provider of the\n\
             index is installed. NAME@VERSION installs that version.",
        )
        .arg(Arg::new("SOURCE").required(true).help("index, archive, registry, or plugin file"))
        .arg(names("providers to install, NAME or NAME@VERSION"))
        .arg(
            Arg::new("KEY").long("trust-key").value_name("KEY").help(
                "public key of the publisher (minisign), a file or its line; pinned from now on",
            ),
        )
        .arg(
            switch("YES", "yes", "trust the key beside the index of a publisher that is new here")
                .short('y'),
        )
        .arg(
            Arg::new("SHA256")
                .long("sha256")
                .value_name("HEX")
                .conflicts_with_all(["KEY", "YES"])
                .help("SHA-256 of a single plugin file"),
        )
        .arg(plain())
        .args(flags());
    let update = Command::new("update")
        .about("replace installed providers with what their publishers offer now")
        .arg(names("providers to update [default: all]"))
        .arg(plain())
        .args(flags());
    let remove = Command::new("remove")
        .about("remove providers that `install` installed")
        .arg(names("providers to remove").required(true));
    let verify = Command::new("verify")
        .about("compare installed providers with what was installed; exit code 3 when one differs")
        .arg(names("providers to verify [default: all]"));
    [install, update, remove, verify]
}

/// What the verbs work with.
pub(super) struct Context<'a> {
    pub(super) loader: &'a Loader,
    pub(super) layers: &'a Layers,
    /// The provider directory that the user named.
    pub(super) directory: Option<&'a Path>,
    pub(super) as_json: bool,
}

impl Context<'_> {
    /// Runs a verb.
    ///
    /// # Errors
    /// Usage errors, and whatever keeps the verb from its end.
    pub(super) fn run(&self, verb: &str, matches: &ArgMatches) -> Result<()> {
        let user = user_directory(&self.loader.environment);
        let place = Place::new(self.directory, user)?;
        let names: Vec<String> =
            matches.get_many::<String>("NAME").into_iter().flatten().cloned().collect();
        match verb {
            "verify" => self.verify(&place, &names),
            _ => self.change(verb, matches, &place, &names),
        }
    }

    fn change(
        &self,
        verb: &str,
        matches: &ArgMatches,
        place: &Place,
        names: &[String],
    ) -> Result<()> {
        let rows: Vec<Row> = if verb == "remove" { Vec::new() } else { rows_of(&SETTINGS) };
        let settings: Resolved = self.layers.resolve(&rows)?;
        let reporter = Reporter::new(OutputMode::of(&settings, &self.loader.environment));
        let interrupt = Arc::new(Interrupt::default());
        interrupt::listen(Arc::clone(&interrupt), || build::leave(&[]))?;
        let options = DownloadOptions::of(&settings);
        let downloader = Downloader::new(options, &reporter, &interrupt)?;
        let is_agreed = verb == "install" && matches.get_flag("YES");
        let installer = Installer {
            place,
            publishers: &Publishers::of(&self.loader.environment)?,
            loader: self.loader,
            downloader: &downloader,
            reporter: &reporter,
            interrupt: &interrupt,
            consent: Consent {
                key: if verb == "install" { trusted_key(matches)? } else { None },
                sha256: if verb == "install" { sha256(matches)? } else { None },
                plain_http: verb != "remove" && matches.get_flag("PLAIN"),
                trusts: &|question| trusts(question, is_agreed, &reporter),
            },
        };
        match verb {
            "install" => {
                let source = matches.get_one::<String>("SOURCE").map_or("", String::as_str);
                let wanted = Wanted::parse_all(names)?;
                let done = installer.install(source, &wanted)?;
                self.show_installed(&done, place, &reporter);
                Ok(())
            }
            "update" => self.update(&installer, names),
            _ => {
                let removed = installer.remove(names)?;
                self.show_removed(&removed, place);
                Ok(())
            }
        }
    }

    /// Updates several providers; one that cannot be updated does not keep others from it.
    fn update(&self, installer: &Installer<'_>, names: &[String]) -> Result<()> {
        let packages = chosen(installer.place, names)?;
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        for package in &packages {
            // Without names, those that have no index are left as they are.
            if names.is_empty() && package.publisher.is_none() {
                let text =
                    format!("`{}` was installed from a file; it is left as it is", package.name);
                installer.reporter.milestone(&text);
                continue;
            }
            match installer.update(package) {
                Ok(more) => done.extend(more),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() || !done.is_empty() {
            self.show_installed(&done, installer.place, installer.reporter);
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            count => {
                let text = format!("{count} of {} providers were not updated", packages.len());
                let interrupted = errors.iter().any(|error| error.stage == Stage::Interrupted);
                let stage = if interrupted { Stage::Interrupted } else { Stage::Plugin };
                let problems = errors.into_iter().map(|error| {
                    let causes = error.causes.iter().map(|cause| format!(": {cause}"));
                    Problem::new(format!("{}{}", error.message, causes.collect::<String>()))
                });
                Err(Error::several(stage, text, problems.collect()))
            }
        }
    }

    fn verify(&self, place: &Place, names: &[String]) -> Result<()> {
        let packages = chosen(place, names)?;
        let directory = place.directory();
        let found: Vec<(Package, Standing)> = packages
            .into_iter()
            .map(|package| {
                let standing = package.standing(directory);
                (package, standing)
            })
            .collect();
        if self.as_json {
            let rows: Vec<Value> = found
                .iter()
                .map(|(package, standing)| {
                    let mut row = row(package, directory);
                    row["state"] = json!(word(standing));
                    row
                })
                .collect();
            print(&format!("{:#}\n", json!({"directory": directory, "providers": rows})));
        } else if found.is_empty() {
            print(&format!("nothing is installed in {}\n", directory.display()));
        } else {
            for (package, standing) in &found {
                print(&format!("{:<8} {}\n", word(standing), line(package, directory)));
            }
        }
        let problems: Vec<Problem> = found
            .iter()
            .filter_map(|(package, standing)| problem(package, standing, directory))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        let text = format!("{} of {} installed providers differ", problems.len(), found.len());
        Err(Error::several(Stage::Plugin, text, problems)
            .hint("look at the file; when it is removed, `install` or `update` installs it again"))
    }

    fn show_installed(&self, done: &[Installed], place: &Place, reporter: &Reporter) {
        let directory = place.directory();
        for one in done {
            let path = one.package.path(directory);
            let found = self.loader.search.find(&one.package.name).map(|found| found.path);
            if let Some(first) = found.ok().filter(|first| *first != path) {
                let text = format!("`{}` comes before `{}`", first.display(), path.display());
                let hint = "docs/plugins.md lists the directories in their order";
                reporter.warning(&text, Some(hint));
            }
        }
        if self.as_json {
            let rows: Vec<Value> = done
                .iter()
                .map(|one| {
                    let mut row = row(&one.package, directory);
                    row["outcome"] = json!(outcome(one.outcome));
                    row
                })
                .collect();
            print(&format!("{:#}\n", json!({"directory": directory, "providers": rows})));
            return;
        }
        if done.is_empty() {
            print(&format!("nothing to update in {}\n", directory.display()));
        }
        for one in done {
            print(&format!("{:<9} {}\n", outcome(one.outcome), line(&one.package, directory)));
        }
    }

    fn show_removed(&self, removed: &[Package], place: &Place) {
        let directory = place.directory();
        if self.as_json {
            let rows: Vec<Value> = removed.iter().map(|package| row(package, directory)).collect();
            print(&format!("{:#}\n", json!({"directory": directory, "removed": rows})));
            return;
        }
        for package in removed {
            print(&format!("removed   {}\n", line(package, directory)));
        }
    }
}

/// Returns the packages of these names, or all.
fn chosen(place: &Place, names: &[String]) -> Result<Vec<Package>> {
    let records = place.records()?;
    if names.is_empty() {
        return Ok(records.packages().to_vec());
    }
    names
        .iter()
        .map(|name| {
            records.find(name).cloned().ok_or_else(|| not_installed(name, place.directory()))
        })
        .collect()
}

/// Asks whether the key of a new publisher is trusted.
fn trusts(question: &Question<'_>, is_agreed: bool, reporter: &Reporter) -> Result<bool> {
    let Question { publisher, key, id, source } = question;
    let text =
        format!("publisher `{publisher}` is new here; the key beside its index is {key} (id {id})");
    if is_agreed {
        reporter.warning(&format!("{text}; it is trusted from now on"), None);
        return Ok(true);
    }
    reporter.clear();
    match ask(&format!("{text}\ntrust it from now on? [y/N]")) {
        Answer::Yes => Ok(true),
        Answer::No => Ok(false),
        Answer::NoTerminal => {
            let text = format!("publisher `{publisher}` of `{source}` is not known here");
            let mut error = Error::new(Stage::Plugin, text);
            error.causes = vec![format!("the key beside its index is {key} (id {id})")];
            Err(error.hint(format!(
                "compare that key with what the publisher says, then add: --trust-key {key}"
            )))
        }
    }
}

/// Reads the key that the user named: the path of its file, or the line in it.
fn trusted_key(matches: &ArgMatches) -> Result<Option<MinisignKey>> {
    let Some(text) = matches.get_one::<String>("KEY") else { return Ok(None) };
    let key_error = |what: &str| {
        Error::usage(format!("--trust-key: {what}")).hint(
            "give the file minisign.pub of the publisher, or its second line, which begins with RW",
        )
    };
    if let Ok(key) = MinisignKey::of_text(text) {
        return Ok(Some(key));
    }
    let path = Path::new(text);
    let content = match crate::trust::read_regular(path, KEY_LIMIT) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(error) => {
            let what = format!("`{text}` is neither a key nor a file that can be read");
            return Err(key_error(&what).caused_by(&error));
        }
    };
    let key = MinisignKey::of_text(&content);
    key.map(Some).map_err(|what| key_error(&format!("`{text}` is not a public key: {what}")))
}

fn sha256(matches: &ArgMatches) -> Result<Option<String>> {
    let Some(text) = matches.get_one::<String>("SHA256") else { return Ok(None) };
    let digits = text.to_lowercase();
    if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(Some(digits));
    }
    Err(Error::usage(format!("--sha256: `{text}` is not a SHA-256"))
        .hint("give the 64 hexadecimal digits that sha256sum prints"))
}

fn row(package: &Package, directory: &Path) -> Value {
    json!({
        "name": package.name,
        "version": package.version,
        "kind": package.kind.word(),
        "path": package.path(directory),
        "sha256": package.sha256,
        "publisher": package.publisher,
        "source": package.source,
        "installed": package.installed,
    })
}

fn line(package: &Package, directory: &Path) -> String {
    let origin = match &package.publisher {
        Some(publisher) => format!("publisher {publisher}"),
        None => "a single file".to_owned(),
    };
    let Package { name, version, .. } = package;
    format!("{name:<10} {version:<8} {origin}, {}", package.path(directory).display())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Installed => "installed",
        Outcome::Replaced => "replaced",
        Outcome::Unchanged => "unchanged",
    }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Intact => "intact",
        Standing::Changed(_) => "changed",
        Standing::Missing => "missing",
        Standing::Unreadable(_) => "unread",
    }
}

fn problem(package: &Package, standing: &Standing, directory: &Path) -> Option<Problem> {
    let path = package.path(directory);
    let text = match standing {
        Standing::Intact => return None,
        Standing::Changed(sha256) => {
            format!("`{}` has SHA-256 {sha256}, installed was {}", path.display(), package.sha256)
        }
        Standing::Missing => format!("`{}` is missing", path.display()),
        Standing::Unreadable(why) => format!("`{}` cannot be read: {why}", path.display()),
    };
    Some(Problem::new(text))
}

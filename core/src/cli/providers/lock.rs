//! Runs `providers lock`: records which plugins may be loaded, to the byte.

use serde_json::json;

use crate::{
    cli::print,
    error::{Error, Problem, Result, Stage},
    plugins::{Loader, Locked},
    report::print_line,
};

/// Locks every plugin that loads. Without `update`, plugins that were locked stay as they were, and
/// differences are an error.
///
/// # Errors
/// When nothing can be locked, something differs, or the file cannot be written.
pub(super) fn write(mut loader: Loader, update: bool, as_json: bool) -> Result<()> {
    // A plugin that is about to be locked need not be locked yet.
    let lock = std::mem::take(&mut loader.lock);
    let (found, refused) = plugins(&loader);
    for error in &refused {
        print_line(&format!("  warning: not locked: {}", error.message));
    }
    let locked_entry = |name: &str| lock.entries().iter().find(|entry| entry.name == name);
    let differs = |entry: &&Locked| {
        locked_entry(&entry.name).is_some_and(|locked| locked.sha256 != entry.sha256)
    };
    let problems: Vec<Problem> = found.iter().filter(differs).map(problem).collect();
    if !update && !problems.is_empty() {
        let text = "plugins are not the ones that were locked; nothing was written";
        return Err(Error::several(Stage::Plugin, text, problems)
            .hint("see what they are; build-image providers lock --update accepts them"));
    }
    // A locked plugin that is missing here may exist on another machine.
    let absent =
        lock.entries().iter().filter(|entry| !found.iter().any(|one| one.name == entry.name));
    let absent: Vec<Locked> = if update { Vec::new() } else { absent.cloned().collect() };
    if found.is_empty() && absent.is_empty() {
        return Err(Error::new(Stage::Plugin, "there is no plugin that could be locked")
            .hint("build-image providers list shows what was found and why it does not load"));
    }
    let entries = [found, absent].concat();
    let path = lock.write(entries.clone())?;
    if as_json {
        print(&format!("{:#}\n", json!({"lock": path, "providers": entries})));
        return Ok(());
    }
    for entry in &entries {
        print(&format!("{:<10} {:<8} {}\n", entry.name, entry.version, entry.sha256));
    }
    print(&format!("locked in {}\n", path.display()));
    Ok(())
}

/// Returns the plugins that would be used, and why others do not load.
fn plugins(loader: &Loader) -> (Vec<Locked>, Vec<Error>) {
    let mut candidates = loader.search.all();
    candidates.dedup_by(|later, first| later.name == first.name);
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match loader.ask(&candidate) {
            Ok(plugin) => found.push(Locked {
                version: plugin.description().version.clone(),
                name: plugin.name,
                sha256: plugin.sha256,
                path: plugin.path,
            }),
            Err(error) => refused.push(error),
        }
    }
    (found, refused)
}

fn problem(entry: &Locked) -> Problem {
    Problem::new(format!(
        "`{}`: `{}` has SHA-256 {} (version {})",
        entry.name,
        entry.path.display(),
        entry.sha256,
        entry.version
    ))
}

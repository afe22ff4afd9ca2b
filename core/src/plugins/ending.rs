//! Reports a plugin that ends this process: exit(3) is not a panic that could be caught, and exit code 0 would
//! look like a success to the caller of the build.

use std::sync::{Mutex, PoisonError};

use build_image_plugin_api::process_end;

use crate::{
    error::{Error, Stage},
    report::{OutputMode, Reporter},
};

/// Providers whose code runs in this process.
static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records that a provider's code runs in this process from now on.
pub(super) fn watch(name: &str) {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if !names.iter().any(|other| other == name) {
        names.push(name.to_owned());
    }
    process_end::watch_end(unexpected);
}

/// Records that this program ends intentionally from now on.
pub fn expect_end() {
    process_end::expect_end();
}

fn unexpected() -> u8 {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let which = if names.len() > 1 { "one of the providers" } else { "provider" };
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    let text = format!("{which} {names} ended this process in the middle of the build");
    let error = Error::new(Stage::Bug, text).hint(
        "this is a bug of the provider; with --isolate it can end its own process only. \
         build-image gc removes what the build created",
    );
    let code = error.exit_code();
    // Programs that read --progress json treat a line that is not a document as plain text.
    Reporter::new(OutputMode::PLAIN).error_at_exit(&error, code);
    code
}

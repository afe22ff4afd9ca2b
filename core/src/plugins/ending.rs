//! What is said when a plugin ends this process: exit(3) is no panic that could be caught, and code 0
//! would look like a success to whoever started the build.

use std::sync::{Mutex, PoisonError};

use build_image_plugin_api::wire::ending;

use crate::{
    error::{Error, Stage},
    report::{OutputMode, Reporter},
};

/// Provider whose code runs in this process.
static NAME: Mutex<String> = Mutex::new(String::new());

/// A provider's code runs in this process from now on.
pub(super) fn watch(name: &str) {
    name.clone_into(&mut NAME.lock().unwrap_or_else(PoisonError::into_inner));
    ending::watch_end(unexpected);
}

/// This program ends by its own will now.
pub fn expect_end() {
    ending::expect_end();
}

fn unexpected() -> u8 {
    let name = NAME.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = format!("provider `{name}` ended this process in the middle of the build");
    let error = Error::new(Stage::Bug, text).hint(
        "this is a bug of the provider; with --isolate it can end its own process only. \
         build-image gc removes what the build created",
    );
    let code = error.exit_code();
    // Who watches the build with --progress json takes a line that is no document for what it is.
    Reporter::new(OutputMode::Plain).error_at_exit(&error, code);
    code
}

//! Warns of settings that only an installation uses, when a build installs nothing.

use crate::{
    report::Reporter,
    settings::{Resolved, core_rows, unused},
};

/// Warns of settings that have no effect because a disk image is given.
pub(super) fn warn(settings: &Resolved, reporter: &Reporter) {
    let (loud, silent) = iso_only(settings);
    if !silent.is_empty() {
        tracing::info!(settings = silent.join(", "), "without effect: only an ISO uses them");
    }
    if !loud.is_empty() {
        let text = format!("{} without effect: a disk image is taken as it is", loud.join(", "));
        reporter.warning(&text, None);
    }
}

/// Returns the settings to warn of, and the settings to mention in the log.
fn iso_only(settings: &Resolved) -> (Vec<String>, Vec<String>) {
    if settings.core().source.disk.is_none() {
        return (Vec::new(), Vec::new());
    }
    unused(settings, &core_rows())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{Environment, FileLayer, Layers};

    #[test]
    fn settings_of_this_build_are_warned_of() {
        let typed = |source: &str| Layers {
            command_line: [(source, "x"), ("BOOT_LOCATIONS", "1")]
                .map(|(key, text)| (key.to_owned(), text.to_owned()))
                .into(),
            file: FileLayer::parse(
                Path::new("c.yml"),
                "MODULES: some\nUPDATE_LV_SIZES: {a: 1}\nDISABLE_SPLASH: no\n",
            )
            .ok(),
            environment: Environment::of([("CONSOLE_DEVICES", "tty1")]),
            ..Layers::default()
        };
        let resolved = typed("DISK").resolve(&core_rows()).unwrap();
        let keys = |keys: [&str; 2]| keys.map(str::to_owned).to_vec();
        let expected =
            (keys(["BOOT_LOCATIONS", "UPDATE_LV_SIZES"]), keys(["MODULES", "CONSOLE_DEVICES"]));
        assert_eq!(iso_only(&resolved), expected);
        let resolved = typed("ISO").resolve(&core_rows()).unwrap();
        assert_eq!(iso_only(&resolved), (vec![], vec![]));
    }
}

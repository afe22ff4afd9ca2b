//! Warns of settings that only an installation uses, when a build installs nothing.

use build_image_disk::installer::Attributes;

use crate::{
    installers,
    report::Reporter,
    settings::{Origin, Resolved},
};

/// Settings of the engine that only an ISO uses.
const KEYS: [&str; 2] = ["ISO_SIG", "ISO_SHA256"];

/// Warns of settings that have no effect because a disk image is given.
pub(super) fn warn(settings: &Resolved, reporter: &Reporter) {
    let (loud, silent) = unused(settings);
    if !silent.is_empty() {
        tracing::info!(settings = silent.join(", "), "without effect: only an ISO uses them");
    }
    if !loud.is_empty() {
        let text = format!("{} without effect: a disk image is taken as it is", loud.join(", "));
        reporter.warning(&text, None);
    }
}

/// Returns the settings to warn of, and the settings to mention in the log.
fn unused(settings: &Resolved) -> (Vec<String>, Vec<String>) {
    let (mut loud, mut silent) = (Vec::new(), Vec::new());
    if settings.get("DISK").is_none() {
        return (loud, silent);
    }
    let own = KEYS.map(|key| (key.to_owned(), Attributes::default()));
    for (key, attributes) in installers::attributes().into_iter().chain(own) {
        let Some(value) = settings.get(&key).filter(|value| value.json != false) else { continue };
        match value.origin {
            Origin::CommandLine => loud.push(key),
            Origin::File(..) if attributes.shared => silent.push(key),
            Origin::File(..) => loud.push(key),
            Origin::Environment(_) => silent.push(key),
            Origin::Default => {}
        }
    }
    (loud, silent)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{Environment, FileLayer, Layers, core_rows};

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
            base: None,
            environment: Environment::of([("CONSOLE_DEVICES", "tty1")]),
        };
        let resolved = typed("DISK").resolve(&core_rows()).unwrap();
        let keys = |keys: [&str; 2]| keys.map(str::to_owned).to_vec();
        let expected =
            (keys(["BOOT_LOCATIONS", "UPDATE_LV_SIZES"]), keys(["MODULES", "CONSOLE_DEVICES"]));
        assert_eq!(unused(&resolved), expected);
        let resolved = typed("ISO").resolve(&core_rows()).unwrap();
        assert_eq!(unused(&resolved), (vec![], vec![]));
    }
}

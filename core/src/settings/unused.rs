//! Finds settings that are set, but have no effect on a build.

use build_image_disk::installer::Attributes;

use super::{Origin, Resolved};

/// Returns which of these settings are set and worth a warning, and which are only worth a line of the log: those of
/// the environment, and those of shared configuration files.
pub(crate) fn unused(
    settings: &Resolved,
    keys: impl IntoIterator<Item = (String, Attributes)>,
) -> (Vec<String>, Vec<String>) {
    let (mut loud, mut silent) = (Vec::new(), Vec::new());
    for (key, attributes) in keys {
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

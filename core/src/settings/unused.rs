//! Finds settings that are set, but have no effect on a build.

use super::{AppliesTo, Origin, Resolved, Row};

/// Returns which of these rows only installations use, are set, and are worth a warning, and which are only worth a
/// line of the log: those of the environment, and those of shared configuration files.
pub(crate) fn unused(settings: &Resolved, rows: &[Row]) -> (Vec<String>, Vec<String>) {
    let (mut loud, mut silent) = (Vec::new(), Vec::new());
    for row in rows {
        let AppliesTo::Installation { expected } = row.applies_to else { continue };
        let Some(value) = settings.of(row).filter(|value| value.json != false) else { continue };
        let key = row.key().to_owned();
        match value.origin {
            Origin::CommandLine => loud.push(key),
            Origin::File(..) if expected => silent.push(key),
            Origin::File(..) => loud.push(key),
            Origin::Environment(_) => silent.push(key),
            Origin::Default => {}
        }
    }
    (loud, silent)
}

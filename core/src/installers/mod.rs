//! Knows the installers that `main.rs` registers: their settings, and which of them installs an ISO.
//!
//! ```text
//! bridge.rs   settings, paths, and errors in the installers' documents
//! testing.rs  an installer for unit tests
//! ```

mod bridge;
#[cfg(test)]
mod testing;

use std::sync::OnceLock;

use build_image_disk::{
    installer::{Attributes, InputFile, Installer, MediumSetting},
    iso::Iso,
};
use build_image_plugin_api::{Setting, SettingKind};

use crate::{
    error::{Error, Result, Stage},
    settings::{AppliesTo, Resolved, Row, Use, keys},
};

pub(crate) use bridge::{Paths, refused, values};

/// An installer with its settings.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The installer.
    pub installer: &'static dyn Installer,
    /// Returns its settings.
    pub rows: fn() -> Vec<(Setting, Attributes)>,
}

/// The setting that chooses an installer.
const INSTALLER: &str = "INSTALLER";
/// The value that leaves the choice to the program, as if it was not set.
const AUTO: &str = "auto";

static TABLE: OnceLock<&'static [Entry]> = OnceLock::new();

/// Registers the installers, once at the start of the program. Later calls have no effect.
pub fn register(table: &'static [Entry]) {
    let _ = TABLE.set(table);
}

fn table() -> &'static [Entry] {
    #[cfg(test)]
    let unregistered: &[Entry] = &testing::TABLE;
    #[cfg(not(test))]
    let unregistered: &[Entry] = &[];
    TABLE.get().copied().unwrap_or(unregistered)
}

/// Returns the settings of all installers, and the one that chooses among them.
pub(crate) fn rows() -> Vec<Row> {
    let own = table().iter().flat_map(|entry| (entry.rows)());
    own.map(|(setting, attributes)| row(setting, attributes)).chain(choice()).collect()
}

/// Converts a row of an installer: only an installation uses it.
fn row(setting: Setting, attributes: Attributes) -> Row {
    let Attributes {
        after,
        flag,
        prefixed_only,
        unsupported,
        example,
        on_resume,
        shared,
        names_files,
    } = attributes;
    let mut row = Row::new(setting)
        .applies_to(AppliesTo::Installation { expected: shared })
        .on_resume(on_resume)
        // An early error must not replace a file that the build reads.
        .used_by(if names_files { &[Use::Report] } else { &[] });
    // Files of this host go into the image.
    row.setting.explicit_only = names_files;
    row.after = Some(after).filter(|after| !after.is_empty());
    row.flag = flag;
    row.prefixed_only = prefixed_only;
    row.unsupported = unsupported;
    row.example = example;
    row
}

/// Adds what can be installed to the summary of the ISO.
pub(crate) fn described(mut rows: Vec<Row>) -> Vec<Row> {
    if let Some(row) = rows.iter_mut().find(|row| keys::ISO == **row) {
        row.setting.summary = format!("{}{}", systems(), row.setting.summary);
    }
    rows
}

/// Declares the setting that chooses an installer, where there is a choice.
fn choice() -> Option<Row> {
    let names = table().iter().map(|entry| entry.installer.name());
    let names: Vec<&str> = std::iter::once(AUTO).chain(names).collect();
    let summary = "what installs the ISO; auto is the first one that recognises it";
    let setting = Setting::new(INSTALLER, SettingKind::Text, summary).group("Source");
    let attributes = Attributes::after(keys::ISO.name()).prefixed_only().decides();
    (table().len() > 1).then(|| row(setting.choices(&names), attributes))
}

/// Returns the systems that can be installed, as the start of "installer ISO".
fn systems() -> String {
    let systems: Vec<&str> = table().iter().map(|entry| entry.installer.systems()).collect();
    if systems.is_empty() { String::new() } else { format!("{} ", systems.join(" or ")) }
}

/// The hint for a source that is neither an ISO that can be installed nor a disk.
pub(crate) fn source_hint() -> String {
    format!("give a {}installer ISO with -i, or a disk image with --disk", systems())
}

/// Returns an example of an installation for the help: the ISO, and the flags it needs.
pub(crate) fn example() -> Option<(&'static str, &'static str)> {
    let example = table().iter().find_map(|entry| entry.installer.example())?;
    Some((example.iso, example.flags))
}

/// Returns the installers among which the program may choose.
fn candidates(settings: &Resolved) -> impl Iterator<Item = &'static dyn Installer> + use<> {
    let chosen = settings.by_name().text(INSTALLER).filter(|name| *name != AUTO).map(str::to_owned);
    let all = table().iter().map(|entry| entry.installer);
    all.filter(move |installer| chosen.as_ref().is_none_or(|name| name == installer.name()))
}

/// Returns the installer whose settings are given: the first one that has all it needs.
///
/// # Errors
/// What the first installer needs, when no installer has all of it.
pub(crate) fn by_settings(settings: &Resolved) -> Result<&'static dyn Installer> {
    let values = values(settings);
    let mut refusals = Vec::new();
    for installer in candidates(settings) {
        match installer.check_settings(&values) {
            Ok(()) => return Ok(installer),
            Err(refusal) => refusals.push((installer, refused(refusal))),
        }
    }
    let mut refusals = refusals.into_iter();
    let Some((_, mut error)) = refusals.next() else {
        return Err(Error::new(Stage::Bug, "no installer is registered"));
    };
    let others: Vec<String> = refusals
        .map(|(installer, _)| {
            format!("--installer {} for {}", installer.name(), installer.systems())
        })
        .collect();
    if error.hint.is_none() && !others.is_empty() {
        error.hint = Some(format!("or choose another installer: {}", others.join(", ")));
    }
    Err(error)
}

/// Returns the installer of an ISO: the first one that recognises it, and otherwise the one whose settings are given,
/// which explains why it refuses the ISO.
///
/// # Errors
/// What the installer needs.
pub(crate) fn of_iso(iso: &Iso, settings: &Resolved) -> Result<&'static dyn Installer> {
    let values = values(settings);
    for installer in candidates(settings) {
        if let Some(evidence) = installer.recognise(iso, &values) {
            tracing::info!(installer = installer.name(), evidence, "the ISO is recognised");
            installer.check_settings(&values).map_err(refused)?;
            return Ok(installer);
        }
    }
    by_settings(settings)
}

/// Returns the files that settings of the installers name, with the key of the setting. Values that an installer does
/// not accept are left to the code that reports them.
pub(crate) fn input_files(settings: &Resolved) -> Vec<InputFile> {
    let values = values(settings);
    candidates(settings)
        .filter_map(|installer| installer.input_files(&values, &Paths(settings)).ok())
        .flatten()
        .collect()
}

/// Returns the rows that only other installers use.
pub(crate) fn rows_of_others(installer: &dyn Installer) -> Vec<Row> {
    let rows = |is_wanted: bool| {
        let entries = table()
            .iter()
            .filter(move |entry| (entry.installer.name() == installer.name()) == is_wanted);
        entries.flat_map(|entry| (entry.rows)())
    };
    let own: Vec<String> = rows(true).map(|(setting, _)| setting.key).collect();
    rows(false)
        .filter(|(setting, _)| !own.contains(&setting.key))
        .map(|(setting, attributes)| row(setting, attributes))
        .collect()
}

/// Returns the further ISOs that are set, before it is known which installer reads the base ISO.
pub(crate) fn media(settings: &Resolved) -> Vec<(MediumSetting, &str)> {
    let media = candidates(settings).flat_map(|installer| installer.media());
    media.filter_map(|medium| Some((*medium, settings.by_name().text(medium.key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{OnResume, core_rows};

    #[test]
    fn rows_of_installers_have_the_attributes_that_the_installers_state() {
        let rows = core_rows();
        let find = |key: &str| rows.iter().find(|row| row.key() == key).unwrap();
        let installation = |expected| AppliesTo::Installation { expected };
        let modules = find("MODULES");
        assert_eq!((modules.flag, modules.after), (Some('m'), Some(keys::CONFIG_FILE.name())));
        assert_eq!(modules.applies_to, installation(true));
        assert_eq!((modules.on_resume, modules.is_used_by(Use::Report)), (OnResume::Fixed, false));
        let files = find("UPDATE_IMAGE_FILES");
        assert_eq!((files.example, files.is_used_by(Use::Report)), (Some("[a]"), true));
        assert_eq!(files.applies_to, installation(false));
        let signature = find("EHF_ISO_SIG");
        assert_eq!(signature.on_resume, OnResume::UntilRegistered);
        assert!(!signature.prefixed_only && find("EHF_ISO_SHA256").prefixed_only);
        assert!(find(keys::ISO.name()).setting.summary.starts_with("Acme installer ISO"));
    }

    #[test]
    fn only_other_installers_use_none_of_an_installers_settings() {
        assert!(rows_of_others(testing::TABLE[0].installer).is_empty());
    }
}

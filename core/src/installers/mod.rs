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
    installer::{Attributes, InputFile, Installer, MediumSetting, OnResume},
    iso::Iso,
};
use build_image_plugin_api::{Setting, SettingKind};

use crate::{
    error::{Error, Result, Stage},
    settings::{Resolved, Row},
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

/// The setting that names the ISO.
const ISO: &str = "ISO";
/// The setting that chooses an installer.
pub(crate) const INSTALLER: &str = "INSTALLER";
/// The setting with the size of the disk.
const DISK_SIZE: &str = "DISK_SIZE";
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

fn own_rows() -> Vec<(Setting, Attributes)> {
    table().iter().flat_map(|entry| (entry.rows)()).collect()
}

/// Returns the keys of all installers' settings with their attributes.
pub(crate) fn attributes() -> Vec<(String, Attributes)> {
    own_rows().into_iter().map(|(setting, attributes)| (setting.key, attributes)).collect()
}

/// Returns whether a resumed run must keep a setting of an installer.
pub(crate) fn on_resume(key: &str) -> OnResume {
    if key == INSTALLER {
        return OnResume::Fixed;
    }
    let own = attributes().into_iter().find(|(own, _)| own == key);
    own.map_or(OnResume::Free, |(_, attributes)| attributes.on_resume)
}

/// Adds the rows of the installers to those of the engine, each behind the row that it follows.
pub(crate) fn with_rows(mut rows: Vec<Row>) -> Vec<Row> {
    for (setting, attributes) in own_rows() {
        let before = rows.iter().position(|row| row.key() == attributes.after);
        let position = before.map_or(rows.len(), |position| position + 1);
        let mut row = Row::new(setting);
        row.flag = attributes.flag;
        row.unsupported = attributes.unsupported;
        row.prefixed_only = attributes.prefixed_only;
        row.example = attributes.example;
        rows.insert(position, row);
    }
    if let Some(row) = rows.iter_mut().find(|row| row.key() == ISO) {
        row.setting.summary = format!("{}{}", systems(), row.setting.summary);
    }
    if let Some(row) = choice() {
        let iso = rows.iter().position(|row| row.key() == ISO);
        rows.insert(iso.map_or(rows.len(), |position| position + 1), row);
    }
    rows
}

/// Declares the setting that chooses an installer, where there is a choice.
fn choice() -> Option<Row> {
    let names = table().iter().map(|entry| entry.installer.name());
    let names: Vec<&str> = std::iter::once(AUTO).chain(names).collect();
    let summary = "what installs the ISO; auto is the first one that recognises it";
    let setting = Setting::new(INSTALLER, SettingKind::Text, summary).group("Source");
    (table().len() > 1).then(|| Row::new(setting.choices(&names)).prefixed_only())
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
    let chosen = settings.text(INSTALLER).filter(|name| *name != AUTO).map(str::to_owned);
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

/// Refuses the size of a disk that follows from the ISO.
fn refuse_disk_size(settings: &Resolved, installer: &dyn Installer) -> Result<()> {
    if installer.takes_disk_size() || settings.get(DISK_SIZE).is_none() {
        return Ok(());
    }
    let text = format!("{DISK_SIZE} is set, but {} ISOs decide it", installer.systems());
    Err(Error::new(Stage::Settings, text).hint(format!("leave {DISK_SIZE} out")))
}

/// Returns whether the size of the disk may be set: an installer needs it, and its other settings are given.
pub(crate) fn takes_disk_size(settings: &Resolved) -> bool {
    match by_settings(settings) {
        Ok(installer) => installer.takes_disk_size(),
        // The user chose the installer, and what it lacks is reported later.
        Err(_) => candidates(settings).all(|installer| installer.takes_disk_size()),
    }
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
            refuse_disk_size(settings, installer)?;
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

/// Returns the settings that only other installers use.
pub(crate) fn of_others(installer: &dyn Installer) -> Vec<(String, Attributes)> {
    let rows = |is_wanted: bool| {
        let entries = table()
            .iter()
            .filter(move |entry| (entry.installer.name() == installer.name()) == is_wanted);
        entries.flat_map(|entry| (entry.rows)())
    };
    let own: Vec<String> = rows(true).map(|(setting, _)| setting.key).collect();
    rows(false)
        .map(|(setting, attributes)| (setting.key, attributes))
        .filter(|(key, _)| !own.contains(key))
        .collect()
}

/// Returns whether a setting of an installer names files that a build reads.
pub(crate) fn names_files(key: &str) -> bool {
    attributes().iter().any(|(own, attributes)| own == key && attributes.names_files)
}

/// Returns the further ISOs that are set, before it is known which installer reads the base ISO.
pub(crate) fn media(settings: &Resolved) -> Vec<(MediumSetting, &str)> {
    let media = candidates(settings).flat_map(|installer| installer.media());
    media.filter_map(|medium| Some((*medium, settings.text(medium.key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_installers_follow_the_rows_that_they_name() {
        let row = |key: &str| Row::new(Setting::new(key, SettingKind::Text, "x"));
        let rows = with_rows(vec![row("CONFIG_FILE"), row("ISO_SHA256"), row("OTHER")]);
        let keys: Vec<&str> = rows.iter().map(Row::key).collect();
        let position = |key: &str| keys.iter().position(|other| *other == key).unwrap();
        assert_eq!(position("MODULES"), position("CONFIG_FILE") + 1);
        assert_eq!(position("BOOT_LOCATIONS"), position("MODULES") + 1);
        assert_eq!(position("EHF_ISO"), position("ISO_SHA256") + 1);
        assert_eq!(rows[position("MODULES")].flag, Some('m'));
    }
}

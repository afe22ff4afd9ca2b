//! Declares and reads the settings of delta uploads.

use build_image_plugin_api::{Setting, SettingKind, Settings};

pub(super) const MODE: &str = "AWS_UPLOAD_DELTA";
pub(super) const BASE: &str = "AWS_UPLOAD_DELTA_BASE";

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) is_on: bool,
    /// The snapshot to begin with, when the user names one.
    pub(super) base: Option<String>,
}

/// The rows of the settings.
pub(crate) fn settings() -> Vec<Setting> {
    vec![
        Setting::new(
            MODE,
            SettingKind::Boolean,
            "Send only what changed since an earlier snapshot of the same disk, and keep a small snapshot with the digests of all blocks for the next build",
        )
        .default_value("no"),
        Setting::new(
            BASE,
            SettingKind::Text,
            "Snapshot that the new one is an increment of, with AWS_UPLOAD_DELTA; unset: the newest of a disk of the same name",
        )
        .pattern("snap-[0-9a-f]+"),
    ]
}

impl Options {
    /// Reads the settings.
    pub(crate) fn read(settings: &Settings) -> Self {
        let base = settings.text(BASE).filter(|text| !text.is_empty());
        Self { is_on: settings.boolean(MODE), base: base.map(str::to_owned) }
    }

    /// Whether another snapshot is named than this one.
    pub(crate) fn names_other(&self, snapshot: &str) -> bool {
        self.base.as_deref().is_some_and(|base| base != snapshot)
    }
}

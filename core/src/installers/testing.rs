//! Stands in for a registered installer in unit tests: rows, and the files that they name.

use std::sync::Arc;

use build_image_disk::{
    installer::{
        Attributes, Checked, Example, InputFile, Installation, Installer, Lookup, MediumSetting,
        Refusal, Request, Settings, System,
    },
    iso::Iso,
};
use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::Entry;

pub(super) static TABLE: [Entry; 1] = [Entry { installer: &StandIn, rows }];

/// Installs nothing.
struct StandIn;

fn nothing<T>() -> Result<T, Refusal> {
    Err(Refusal::source("the stand-in installs nothing"))
}

impl Installer for StandIn {
    fn name(&self) -> &'static str {
        "acme"
    }

    fn systems(&self) -> &'static str {
        "Acme"
    }

    fn example(&self) -> Option<Example> {
        None
    }

    fn media(&self) -> &'static [MediumSetting] {
        &[]
    }

    fn configures_network(&self) -> bool {
        false
    }

    fn check_settings(&self, settings: &Settings) -> Result<(), Refusal> {
        match settings.get("MODULES") {
            Some(_) => Ok(()),
            None => Err(Refusal::settings("MODULES is not set")),
        }
    }

    fn directory(&self, _: &Settings) -> String {
        String::new()
    }

    fn recognise(&self, _: &Iso, _: &Settings) -> Option<String> {
        None
    }

    fn examine(&self, _: &Iso, _: &Settings) -> Result<System, Refusal> {
        nothing()
    }

    fn examine_further(&self, _: &MediumSetting, _: &Iso, _: &System) -> Result<System, Refusal> {
        nothing()
    }

    fn check(&self, _: &Iso, _: System) -> Result<Checked, Refusal> {
        nothing()
    }

    fn input_files(
        &self,
        settings: &Settings,
        lookup: &dyn Lookup,
    ) -> Result<Vec<InputFile>, Refusal> {
        let items = settings.json("UPDATE_IMAGE_FILES").and_then(|list| list.as_array());
        let sources = items.into_iter().flatten().filter_map(|item| item.get("source")?.as_str());
        let file = |source: &str| {
            Ok(InputFile {
                key: "UPDATE_IMAGE_FILES",
                place: "UPDATE_IMAGE_FILES".to_owned(),
                target: "/x".to_owned(),
                source: lookup.resolve(source).map_err(Refusal::settings)?.into(),
                url: None,
            })
        };
        sources.map(file).collect()
    }

    fn prepare(&self, _: &Request<'_>) -> Result<Arc<dyn Installation>, Refusal> {
        nothing()
    }
}

fn rows() -> Vec<(Setting, Attributes)> {
    let row = |key: &str, kind| Setting::new(key, kind, "for tests").group("Tests");
    let after = Attributes::after;
    vec![
        (
            row("MODULES", Kind::Text).choices(&["all", "some"]),
            after("CONFIG_FILE").flag('m').decides().shared(),
        ),
        (
            row("BOOT_LOCATIONS", Kind::Text).choices(&["1", "2"]),
            after("MODULES").flag('b').decides().shared(),
        ),
        (row("UPDATE_LV_SIZES", Kind::Map), after("DOWNLOAD_TIMEOUT").example("{a: 1}").decides()),
        (
            row("UPDATE_IMAGE_FILES", Kind::List),
            after("UPDATE_LV_SIZES").example("[a]").decides().names_files(),
        ),
        (row("CONSOLE_DEVICES", Kind::List), after("UPDATE_LV_SIZES").example("[a]").decides()),
        (row("DISABLE_SPLASH", Kind::Switch), after("CONSOLE_DEVICES").decides()),
        (row("REQUIRE_RELABEL", Kind::Switch), after("ACCEL").prefixed_only().decides()),
        (row("EHF_ISO", Kind::Path), after("ISO_SHA256").flag('e').decides()),
        (row("EHF_ISO_SIG", Kind::Path), after("EHF_ISO").flag('x').until_registered()),
        (
            row("EHF_ISO_SHA256", Kind::Text),
            after("EHF_ISO_SIG").prefixed_only().until_registered(),
        ),
    ]
}

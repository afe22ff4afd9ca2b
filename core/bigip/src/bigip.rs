//! Implements the installer: recognises ISOs, reads their facts, and prepares installations.

use std::sync::Arc;

use build_image_disk::{
    Kind,
    installer::{
        Checked, Example, InputFile, Installation, Installer, Lookup, MediumSetting, Note, Problem,
        Refusal, Request, Settings, System,
    },
    iso::Iso,
};
use serde::{Deserialize, Serialize};

use crate::{
    Facts, Result, Shape, VeInfo, boot,
    facts::product_directory,
    injected,
    names::{directory, iso_name},
    prepared::Prepared,
    read_facts, read_hotfix_facts,
    rows::{BOOT_LOCATIONS, EHF_ISO, EHF_ISO_SHA256, EHF_ISO_SIG, MODULES},
};

/// Largest `ve.info.json` that is read, in bytes.
const VE_INFO_LIMIT: u64 = 1 << 20;

/// Installs BIG-IP.
#[derive(Clone, Copy, Debug)]
pub struct BigIp;

/// What the installer keeps about an ISO in its [`System`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) facts: Facts,
    /// The sizes of its volumes; absent in a hotfix, and before they are read.
    pub(crate) info: Option<VeInfo>,
}

impl Details {
    /// Reads what this installer stored.
    pub(crate) fn of(system: &System) -> Result<Self> {
        Self::deserialize(&system.details).map_err(|error| {
            Refusal::source("the facts of the ISO are not those of this installer")
                .caused_by(&error)
        })
    }

    /// Describes the system for the engine.
    pub(crate) fn system(&self) -> System {
        let facts = &self.facts;
        System {
            product: facts.product.clone(),
            version: facts.version.clone(),
            build: facts.build.clone(),
            architecture: "x86_64".to_owned(),
            boot_mode: "bios".to_owned(),
            facts: facts.document(),
            iso_name: iso_name(facts),
            details: serde_json::to_value(self).unwrap_or_default(),
        }
    }
}

/// Returns the modules and install slots of the image.
///
/// # Errors
/// Which of them are not set.
pub(crate) fn shape(settings: &Settings) -> Result<Shape> {
    let mut problems = Vec::new();
    for (key, flag) in [(MODULES, "-m all or -m ltm"), (BOOT_LOCATIONS, "-b 1 or -b 2")] {
        if settings.get(key).is_none() {
            problems.push(Problem::new(format!("{key} is not set")).hint(format!("give {flag}")));
        }
    }
    if !problems.is_empty() {
        return Err(
            Refusal::settings("installing an ISO needs more settings").with_problems(problems)
        );
    }
    Ok(Shape {
        all_modules: settings.text(MODULES) == Some("all"),
        slots: if settings.text(BOOT_LOCATIONS) == Some("1") { 1 } else { 2 },
    })
}

impl Installer for BigIp {
    fn name(&self) -> &'static str {
        "bigip"
    }

    fn systems(&self) -> &'static str {
        "BIG-IP"
    }

    fn example(&self) -> Option<Example> {
        Some(Example { iso: "BIGIP-15.0.0-0.0.39.iso", flags: "-m ltm -b 1" })
    }

    fn media(&self) -> &'static [MediumSetting] {
        &[MediumSetting {
            name: "hotfix",
            key: EHF_ISO,
            signature: EHF_ISO_SIG,
            sha256: EHF_ISO_SHA256,
        }]
    }

    fn configures_network(&self) -> bool {
        true
    }

    fn check_settings(&self, settings: &Settings) -> Result<()> {
        shape(settings).map(drop)
    }

    fn directory(&self, settings: &Settings) -> String {
        let text = |key| settings.text(key).unwrap_or_default();
        directory(text(MODULES), text(BOOT_LOCATIONS))
    }

    fn recognise(&self, iso: &Iso, _: &Settings) -> Option<String> {
        product_directory(iso).map(|name| format!("the directory `/{name}`"))
    }

    fn examine(&self, iso: &Iso, _: &Settings) -> Result<System> {
        let facts = read_facts(iso, iso.path())?;
        Ok(Details { facts, info: None }.system())
    }

    fn examine_further(&self, _: &MediumSetting, iso: &Iso, base: &System) -> Result<System> {
        let facts = read_hotfix_facts(iso, iso.path(), &Details::of(base)?.facts)?;
        Ok(Details { facts, info: None }.system())
    }

    /// Reads the sizes of the volumes that the ISO installs.
    fn check(&self, iso: &Iso, system: System) -> Result<Checked> {
        let (path, mut warnings) = (iso.path(), Vec::new());
        let Details { facts, .. } = Details::of(&system)?;
        facts.check_age(path)?;
        boot::check(iso)?;
        let name = format!("{}/install/ve.info.json", facts.directory);
        let info = match iso.read(&name, VE_INFO_LIMIT) {
            Ok(text) => VeInfo::parse(&text).map_err(|what| {
                Refusal::source(format!("`{}`: `{name}`: {what}", path.display()))
                    .hint("the ISO is damaged or of an unknown kind")
            })?,
            Err(error) if error.kind() == Kind::NotFound => {
                let text = format!(
                    "`{}` has no `{name}`: the built-in sizes of version 14.1.0 are used",
                    path.display()
                );
                let hint = "UPDATE_LV_SIZES makes volumes larger that turn out to be too small";
                warnings.push(Note { text, hint: Some(hint.to_owned()) });
                VeInfo::built_in()
            }
            Err(error) => return Err(Refusal::unreadable(path, error)),
        };
        Ok(Checked { system: Details { facts, info: Some(info) }.system(), warnings })
    }

    fn input_files(&self, settings: &Settings, lookup: &dyn Lookup) -> Result<Vec<InputFile>> {
        let files = injected(settings.json(injected::KEY), lookup)?;
        Ok(files.iter().enumerate().map(|(position, file)| file.input(position)).collect())
    }

    fn prepare(&self, request: &Request<'_>) -> Result<Arc<dyn Installation>> {
        Ok(Arc::new(Prepared::new(request)?))
    }
}

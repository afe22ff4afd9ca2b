//! Implements the installer: finds the boot files of an ISO, and prepares installations.

use std::{path::PathBuf, sync::Arc};

use build_image_disk::{
    installer::{
        Checked, Example, InputFile, Installation, Installer, Lookup, MediumSetting, Refusal,
        Request, Settings, System,
    },
    iso::Iso,
};

use crate::{
    Result, layout,
    prepared::Prepared,
    rows::{ANSWER_FILE, DISK_SIZE},
};

/// Longest file name that is derived from the label of an ISO, in characters.
const LONGEST: usize = 60;

/// Installs any Linux.
#[derive(Clone, Copy, Debug)]
pub struct Generic;

impl Installer for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn systems(&self) -> &'static str {
        "Linux"
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

    fn check_settings(&self, settings: &Settings) -> Result<()> {
        match settings.number(DISK_SIZE) {
            None => {
                return Err(Refusal::settings(format!("{DISK_SIZE} is not set"))
                    .hint("give the size of the disk to install, such as --disk-size 8GiB"));
            }
            Some(0) => return Err(Refusal::settings(format!("{DISK_SIZE} is 0"))),
            Some(_) => {}
        }
        layout::check_settings(settings)
    }

    fn directory(&self, _: &Settings) -> String {
        self.name().to_owned()
    }

    /// Without the settings that only this installer needs, the ISO belongs to another installer.
    fn recognise(&self, iso: &Iso, settings: &Settings) -> Option<String> {
        self.check_settings(settings).ok()?;
        let files = layout::find(iso, settings).ok()?;
        Some(format!("`{}` and `{}`", files.kernel, files.initrd))
    }

    fn examine(&self, iso: &Iso, settings: &Settings) -> Result<System> {
        let files = layout::find(iso, settings)?;
        let product = &product(iso.label());
        let details = serde_json::to_value(&files).map_err(|error| {
            Refusal::source("the boot files have names that are not text").caused_by(&error)
        })?;
        Ok(System {
            product: product.clone(),
            version: String::new(),
            build: String::new(),
            architecture: "x86_64".to_owned(),
            boot_mode: "bios".to_owned(),
            facts: [("name".to_owned(), product.clone())].into(),
            iso_name: iso_name(product),
            details,
        })
    }

    fn examine_further(&self, medium: &MediumSetting, _: &Iso, _: &System) -> Result<System> {
        Err(Refusal::settings(format!("{} is not used for Linux ISOs", medium.key)))
    }

    fn check(&self, iso: &Iso, system: System) -> Result<Checked> {
        let files = Prepared::boot_files(&system)?;
        for path in [&files.kernel, &files.initrd] {
            iso.open_file(path).map_err(|error| Refusal::unreadable(iso.path(), error))?;
        }
        Ok(Checked { system, warnings: Vec::new() })
    }

    fn input_files(&self, settings: &Settings, lookup: &dyn Lookup) -> Result<Vec<InputFile>> {
        let Some(text) = settings.text(ANSWER_FILE) else { return Ok(Vec::new()) };
        let wrong = |what: String| Refusal::settings(format!("{ANSWER_FILE}: {what}"));
        let url = lookup.url(text).map_err(wrong)?;
        let source = if url.is_some() { PathBuf::new() } else { PathBuf::from(text) };
        if url.is_none() && !source.is_file() {
            return Err(Refusal::settings(format!("{ANSWER_FILE}: `{text}` is not a file"))
                .hint("give an existing file, or a URL"));
        }
        let (place, target) = (ANSWER_FILE.to_owned(), "answer file".to_owned());
        Ok(vec![InputFile { key: ANSWER_FILE, place, target, source, url }])
    }

    fn prepare(&self, request: &Request<'_>) -> Result<Arc<dyn Installation>> {
        let files = self.input_files(request.settings, request.lookup)?;
        Ok(Arc::new(Prepared::new(request, files)?))
    }
}

/// Returns the label of an ISO as the name of a system: it is printed, and providers receive it.
fn product(label: &str) -> String {
    let printable = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    let name: String = label.chars().filter(printable).collect();
    let name = name.trim();
    (if name.is_empty() { "Linux" } else { name }).to_owned()
}

/// Returns a file name made of the label of an ISO.
fn iso_name(label: &str) -> String {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name: String = label
        .chars()
        .take(LONGEST)
        .map(|letter| if legal(letter) { letter } else { '-' })
        .collect();
    let name = name.trim_matches(['.', '-']);
    format!("{}.iso", if name.is_empty() { "Linux" } else { name })
}

#[cfg(test)]
mod tests {
    use build_image_disk::installer::Value;
    use serde_json::json;

    use super::*;

    fn settings(pairs: &[(&str, serde_json::Value)]) -> Settings {
        let value = |json: &serde_json::Value| Value { json: json.clone(), origin: String::new() };
        pairs.iter().map(|(key, json)| ((*key).to_owned(), value(json))).collect()
    }

    #[test]
    fn labels_become_file_names() {
        for (label, name) in [
            ("Debian 12.5.0 amd64 n", "Debian-12.5.0-amd64-n.iso"),
            ("../../etc/passwd", "etc-passwd.iso"),
            ("...", "Linux.iso"),
            ("ä", "Linux.iso"),
        ] {
            assert_eq!(iso_name(label), name);
        }
        assert_eq!(product("\u{1b}[2J Debian\n"), "[2J Debian");
        assert_eq!(product(" \u{7} "), "Linux");
        assert!(iso_name(&"x".repeat(500)).len() < 255);
    }

    #[test]
    fn a_missing_size_or_half_of_the_boot_files_is_refused() {
        for (pairs, text) in [
            (vec![], "DISK_SIZE is not set"),
            (vec![("DISK_SIZE", json!(0))], "DISK_SIZE is 0"),
            (
                vec![("DISK_SIZE", json!(1)), ("INSTALLER_KERNEL", json!("/k"))],
                "INSTALLER_KERNEL is set, but INSTALLER_INITRD is not",
            ),
            (
                vec![("DISK_SIZE", json!(1)), ("INSTALLER_INITRD", json!("/i"))],
                "INSTALLER_INITRD is set, but INSTALLER_KERNEL is not",
            ),
        ] {
            let error = Generic.check_settings(&settings(&pairs)).unwrap_err();
            assert_eq!(error.message, text);
        }
        Generic.check_settings(&settings(&[("DISK_SIZE", json!(1))])).unwrap();
    }
}

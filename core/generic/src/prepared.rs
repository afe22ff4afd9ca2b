//! Decides an installation: one pass of the ISO's own installer, which ends with a power-off.

use std::{collections::BTreeMap, path::PathBuf};

use build_image_disk::{
    initrd::{Addition, Content},
    installer::{
        Document, InputFile, Installation, IsoFile, Names, Pass, Record, RecordContext, Refusal,
        Request, System,
    },
};
use serde::Deserialize as _;

use crate::{
    Result,
    layout::BootFiles,
    rows::{ANSWER_FILE, ARGUMENTS, DISK_SIZE, SUCCESS},
};

/// Serial log.
const LOG: &str = "qemu.install.log";
/// Printed by the kernel at every log level when the guest powers off (Linux, kernel/reboot.c).
const POWERED_OFF: &str = "reboot: Power down";
/// Printed likewise when the guest reboots.
const REBOOTED: &str = "reboot: Restarting system";
/// Where debian-installer looks for an answer file in its initrd.
const PRESEED: &str = "preseed.cfg";
/// Arguments with which debian-installer asks nothing that its answer file answers.
const UNATTENDED: &str = "auto=true priority=critical";

/// Longest command line that a kernel of this architecture reads, in bytes (Linux, COMMAND_LINE_SIZE, with its NUL).
const LONGEST_LINE: usize = 2047;

/// One installation.
pub(crate) struct Prepared {
    document: Document,
    iso: PathBuf,
    boot: BootFiles,
    arguments: String,
    /// Path of the answer file in the initrd.
    answer: Option<String>,
    success: Option<String>,
}

impl Prepared {
    /// Reads the boot files that were found on an ISO.
    pub(crate) fn boot_files(system: &System) -> Result<BootFiles> {
        BootFiles::deserialize(&system.details).map_err(|error| {
            Refusal::source("the boot files are not those of this installer").caused_by(&error)
        })
    }

    /// Decides everything; `files` has the answer file, if there is one.
    ///
    /// # Errors
    /// When the answer file has no usable name.
    pub(crate) fn new(request: &Request<'_>, files: Vec<InputFile>) -> Result<Self> {
        let settings = request.settings;
        let boot = Self::boot_files(request.system)?;
        let answer = files.first().map(|file| name_in_initrd(file, boot.preseeds)).transpose()?;
        let arguments = arguments(settings.text(ARGUMENTS), boot.preseeds && answer.is_some())?;
        let success = settings.text(SUCCESS).map(str::to_owned);
        let stem = request.iso.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = settings.number(DISK_SIZE).unwrap_or_default();
        let fingerprint = vec![
            format!("{} {}", boot.kernel, boot.initrd),
            arguments.clone(),
            success.clone().unwrap_or_default(),
        ];
        let document = Document {
            system: request.system.clone(),
            disk_bytes: bytes,
            least_bytes: bytes,
            smaller: format!("set {DISK_SIZE} to a smaller size"),
            names: Names {
                file_stem: format!("{stem}.{}", request.platform),
                seed: stem.clone(),
                disk_name: stem,
            },
            tags: BTreeMap::new(),
            files,
            fingerprint,
            first_boot: None,
            attributes: BTreeMap::new(),
            step_members: BTreeMap::new(),
            image_members: BTreeMap::new(),
            snapshot_files: vec![LOG.to_owned()],
        };
        let iso = request.iso.to_owned();
        Ok(Self { document, iso, boot, arguments, answer, success })
    }
}

impl Installation for Prepared {
    fn document(&self) -> &Document {
        &self.document
    }

    fn passes(&self, files: &[InputFile]) -> Result<Vec<Pass>> {
        let answers = files.iter().zip(&self.answer).map(|(file, path)| Addition {
            path: path.clone(),
            mode: 0o644,
            content: Content::File(file.source.clone()),
        });
        let on_iso = |path: &str| IsoFile { iso: self.iso.clone(), path: path.to_owned() };
        // With a text of the user's, it does not matter how the guest ends.
        let (success, failure) = match &self.success {
            Some(text) => (text.clone(), Vec::new()),
            None => (POWERED_OFF.to_owned(), vec![REBOOTED.to_owned()]),
        };
        Ok(vec![Pass {
            name: "install".to_owned(),
            done: "installed".to_owned(),
            log: LOG.to_owned(),
            cdrom: self.iso.clone(),
            kernel: on_iso(&self.boot.kernel),
            initrd: on_iso(&self.boot.initrd),
            additions: answers.collect(),
            arguments: self.arguments.clone(),
            success: vec![success],
            failure,
            lighter: format!("make {ANSWER_FILE} smaller"),
        }])
    }

    fn records_of_start(&self, _: &RecordContext<'_>) -> Vec<Record> {
        Vec::new()
    }

    fn records_of_end(&self, _: &RecordContext<'_>) -> Vec<Record> {
        Vec::new()
    }
}

/// Returns the path of the answer file in the initrd.
fn name_in_initrd(file: &InputFile, preseeds: bool) -> Result<String> {
    if preseeds {
        return Ok(PRESEED.to_owned());
    }
    let name = match &file.url {
        Some(url) => url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()),
        None => file.source.file_name().and_then(|name| name.to_str()),
    };
    // A file of the initrd itself must not be replaced by accident.
    let is_usable = |name: &&str| !name.is_empty() && name.contains('.') && *name != "..";
    name.filter(is_usable).map(str::to_owned).ok_or_else(|| {
        Refusal::settings(format!("{ANSWER_FILE}: the file has no name with a suffix"))
            .hint("rename it, for example to `ks.cfg`: its name is its path in the initrd")
    })
}

/// Returns the command line of the kernel: its console is the serial one, which the engine reads.
///
/// # Errors
/// When the kernel would not read all of it.
fn arguments(given: Option<&str>, is_preseeded: bool) -> Result<String> {
    let words = match given {
        Some(text) => text,
        None if is_preseeded => UNATTENDED,
        None => "",
    };
    let has_console = words.split_whitespace().any(|word| word.starts_with("console="));
    let console = if has_console { "" } else { " console=ttyS0" };
    let line = format!("{words}{console}").trim().to_owned();
    if line.chars().any(char::is_control) {
        return Err(Refusal::settings(format!(
            "{ARGUMENTS}: control characters are not arguments"
        ))
        .hint("separate the arguments with blanks"));
    }
    if line.len() > LONGEST_LINE {
        let length = line.len();
        return Err(Refusal::settings(format!(
            "{ARGUMENTS}: the command line of the kernel would have {length} bytes, at most {LONGEST_LINE} are read"
        ))
        .hint(format!("move answers to {ANSWER_FILE}")));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gets_a_serial_console_unless_the_user_names_one() {
        for (given, is_preseeded, expected) in [
            (None, false, "console=ttyS0"),
            (None, true, "auto=true priority=critical console=ttyS0"),
            (Some("quiet"), true, "quiet console=ttyS0"),
            (Some("console=ttyS0,9600 x"), false, "console=ttyS0,9600 x"),
        ] {
            assert_eq!(arguments(given, is_preseeded).unwrap(), expected);
        }
        for (given, text) in
            [("x".repeat(3000), "3014 bytes"), ("quiet\nsplash".to_owned(), "control characters")]
        {
            let error = arguments(Some(&given), false).unwrap_err();
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn an_answer_file_has_the_name_that_its_installer_looks_for() {
        let file = |source: &str, url: Option<&str>| InputFile {
            key: ANSWER_FILE,
            place: String::new(),
            target: String::new(),
            source: source.into(),
            url: url.map(str::to_owned),
        };
        for (file, preseeds, expected) in [
            (file("/a/my.cfg", None), true, Some("preseed.cfg")),
            (file("/a/ks.cfg", None), false, Some("ks.cfg")),
            (file("", Some("https://host/dir/ks.cfg?sign=x")), false, Some("ks.cfg")),
            (file("/a/init", None), false, None),
            (file("", Some("https://host/")), false, None),
        ] {
            assert_eq!(name_in_initrd(&file, preseeds).ok().as_deref(), expected);
        }
    }
}

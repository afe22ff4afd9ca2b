//! Writes the packages on a disk as a bill of materials. A build publishes it beside the provenance statement, which
//! names it by its digest.

use build_image_guest::{
    Inspection,
    sbom::{Document, Packages},
};
use serde_json::{Value, json};

use crate::{
    clock,
    error::{Error, Result, Stage},
    random,
    settings::{Key, Resolved, SbomFormat, keys},
};

/// The setting.
const KEY: Key = keys::SBOM;

/// Refuses a bill of materials without a statement, whose path decides where it is written.
///
/// # Errors
/// Names both settings.
pub(super) fn check_settings(settings: &Resolved) -> Result<()> {
    let publication = &settings.core().publication;
    if publication.sbom.is_none() || publication.provenance.is_some() {
        return Ok(());
    }
    let statement = keys::PROVENANCE_FILE;
    let text = format!("{KEY} is set, and {statement} is not: it is written beside the statement");
    Err(Error::new(Stage::Settings, text).hint(format!(
        "set {statement}, or use `build-image inspect --sbom`, which needs no build"
    )))
}

/// Returns the suffix of the file, in place of `.json`, and the media type. Sources: CycloneDX specification, "Recognized
/// file patterns"; SPDX specification 2.3, section 1.7; IANA media types.
pub(super) fn file_kind(format: SbomFormat) -> (&'static str, &'static str) {
    match format {
        SbomFormat::Cyclonedx => (".cdx.json", "application/vnd.cyclonedx+json"),
        SbomFormat::Spdx => (".spdx.json", "application/spdx+json"),
    }
}

/// Returns the text of the document.
///
/// # Errors
/// When the packages are not known completely; `subject` names the disk.
pub(crate) fn text(
    found: &Inspection,
    packages: &Packages,
    format: SbomFormat,
    (subject, name): (&str, &str),
) -> Result<String> {
    if let Some(why) = unknown(found, packages) {
        let text = format!("the packages of {subject} are not known: {why}");
        return Err(Error::new(Stage::Source, text)
            .hint("list them in a machine that was started from the image"));
    }
    let (uuid, time) = (uuid()?, clock::now());
    let document =
        Document { name, uuid: &uuid, time: &time, tool_version: env!("CARGO_PKG_VERSION") };
    let written = match format {
        SbomFormat::Spdx => packages.spdx(&document),
        SbomFormat::Cyclonedx => packages.cyclonedx(&document),
    };
    Ok(format!("{written:#}\n"))
}

/// Returns why the packages of a disk are not known completely.
fn unknown(found: &Inspection, packages: &Packages) -> Option<String> {
    if !found.complete {
        return Some("the inspection reached a limit".to_owned());
    }
    if let Some(database) = packages.not_inspected.first() {
        return Some(database.clone());
    }
    packages.packages.is_empty().then(|| {
        let unread = found.volumes.iter().find(|volume| volume.not_inspected.is_some());
        match unread {
            Some(volume) => format!("{} holds {}, which is not read", volume.name, volume.content),
            None => "the disk has no database of dpkg, rpm, or apk".to_owned(),
        }
    })
}

/// Returns the subject of a statement for the document in a file.
pub(super) fn subject(file: &str, format: SbomFormat, sha256: &str) -> Value {
    let (_, media_type) = file_kind(format);
    json!({"name": file, "uri": file, "mediaType": media_type, "digest": {"sha256": sha256}})
}

/// Returns a random UUID (RFC 9562, version 4).
fn uuid() -> Result<String> {
    let digits = random::characters(random::HEX, 30)?;
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    ))
}

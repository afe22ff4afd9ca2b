//! Runs `build-image inspect FILE`: reads what is inside a disk image, without running or changing it.

use std::path::Path;

use build_image_disk::format::GuestReader;
use build_image_guest::{
    Attributes, Finding, Inspection, Limits, Requirements, Severity, check, inspect_with_packages,
};
use clap::{Arg, Command, builder::PossibleValuesParser};
use serde_json::json;

use super::{args, command};
use crate::{
    error::Result,
    pipeline::{self, described, located},
    settings::{Environment, SbomFormat, Use, keys, rows_for},
    source::not_accepted,
};

const SPDX: &str = "spdx";

/// Returns the parser of `inspect`.
pub(super) fn parser() -> Command {
    Command::new("build-image inspect")
        .about("Reads what is inside a disk image, without running or changing it.")
        .args(rows_for(Use::Inspect).iter().map(command::flag).collect::<Vec<Arg>>())
        .arg(
            Arg::new(keys::SBOM.name())
                .long("sbom")
                .value_name("KIND")
                .value_parser(PossibleValuesParser::new(SbomFormat::WORDS.iter().copied()))
                .help("print the installed packages instead, as CycloneDX 1.5 or SPDX 2.3"),
        )
        .arg(command::disk_file())
}

/// Inspects a file and prints what it holds, or its packages.
///
/// # Errors
/// When the disk cannot be read, or its packages are not known completely.
pub(super) fn run(args: &[String], environment: &Environment) -> Result<()> {
    let rows = rows_for(Use::Inspect);
    let Some((matches, layers)) = args::of_verb(parser(), &rows, args, environment)? else {
        return Ok(());
    };
    let settings = layers.resolve(&rows)?;
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let file = Path::new(text("FILE").unwrap_or_default());
    let source_error = |error| not_accepted(file, error);
    let disk = GuestReader::open(file).map_err(source_error)?;
    let (found, packages) =
        inspect_with_packages(&disk, Limits::default()).map_err(source_error)?;
    disk.check_unchanged().map_err(source_error)?;
    if let Some(word) = text(keys::SBOM.name()) {
        let format = if word == SPDX { SbomFormat::Spdx } else { SbomFormat::Cyclonedx };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let subject = format!("`{}`", file.display());
        super::print(&pipeline::sbom_text(&found, &packages, format, (&subject, &name))?);
        return Ok(());
    }
    let (attributes, findings) = (Attributes::of(&found), check(&found, &Requirements::default()));
    if settings.core().output.json {
        let document = json!({"attributes": attributes, "findings": findings, "inspection": found});
        super::print(&format!("{document:#}\n"));
    } else {
        super::print(&summary(&found, &attributes, &findings));
    }
    Ok(())
}

/// Returns the system, the volumes, and the findings, one per line.
fn summary(found: &Inspection, attributes: &Attributes, findings: &[Finding]) -> String {
    let system = described(attributes).unwrap_or_else(|| "no system was found".to_owned());
    let mut text = format!("{system}\n");
    for volume in &found.volumes {
        let why = volume.not_inspected.as_ref().map(|why| format!(" (not inspected: {why})"));
        text += &format!("{}: {}{}\n", volume.name, volume.content, why.unwrap_or_default());
    }
    for finding in findings {
        let mark = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        text += &format!("  {mark:<8} {}\n           hint: {}\n", located(finding), finding.remedy);
    }
    text
}

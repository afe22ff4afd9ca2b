//! Prints what is inside a disk as JSON, and the findings for machines with virtio and NVMe; then the packages as
//! CycloneDX if `--packages` is given, and as SPDX if `--spdx` is. For work on the inspection, and for measurements.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its result")]

use std::path::Path;
use std::time::Instant;

use build_image_disk::GuestReader;
use build_image_guest::sbom::Document;
use build_image_guest::{Attributes, Limits, check, inspect_with_packages};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path =
        arguments.next().ok_or("usage: inspect DISK [REQUIREMENTS.json | --packages | --spdx]")?;
    let option = arguments.next();
    let disk = GuestReader::open(Path::new(&path))?;
    let begun = Instant::now();
    let (found, packages) = inspect_with_packages(&disk, Limits::default())?;
    let took = begun.elapsed();
    match option.as_deref() {
        Some(format @ ("--packages" | "--spdx")) => {
            let uuid = "00000000-0000-4000-8000-000000000000";
            let document =
                Document { name: &path, uuid, time: "2026-01-01T00:00:00Z", tool_version: "0" };
            let is_spdx = format == "--spdx";
            let text =
                if is_spdx { packages.spdx(&document) } else { packages.cyclonedx(&document) };
            println!("{text:#}");
        }
        other => {
            let text = other.map(std::fs::read_to_string).transpose()?;
            let needs = text.map(|text| serde_json::from_str(&text)).transpose()?;
            println!("{}", serde_json::to_string_pretty(&found)?);
            println!("{}", serde_json::to_string_pretty(&Attributes::of(&found))?);
            println!(
                "{}",
                serde_json::to_string_pretty(&check(&found, &needs.unwrap_or_default()))?
            );
        }
    }
    let count = packages.packages.len();
    eprintln!("{count} packages, {} ms", took.as_millis());
    Ok(())
}

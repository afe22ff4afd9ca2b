//! Derives the names of a build: of files, directories and the image.

use std::path::{Path, PathBuf};

use build_image_plugin_api::{Archive, Description, DiskSpec};

use super::{Source, decide::shape};
use crate::{
    error::{Error, Result, Stage},
    product,
    settings::{
        Package, Resolved,
        keys::{HYPERVISOR_IMAGE_NAME, IMAGE_DIR},
    },
};

/// Returns the file stem and the seed of the image's name.
pub(super) fn names(
    source: &Source,
    platform: &str,
    description: &Description,
    settings: &Resolved,
) -> Result<(String, String)> {
    let (stem, seed) = match source {
        Source::Iso { facts, .. } => {
            let facts = source.facts().unwrap_or(facts);
            let shape = shape(settings)?;
            (product::file_stem(facts, shape, platform), product::seed(facts, shape))
        }
        Source::Disk(disk) => {
            let stem = disk.stem();
            (format!("{stem}.{platform}"), stem)
        }
        Source::Unread(unread) => (format!("{}.{platform}", unread.stem), unread.stem.clone()),
    };
    match &settings.core().publication.file_stem {
        Some(name) if name.contains('/') => Err(Error::new(
            Stage::Settings,
            format!("{HYPERVISOR_IMAGE_NAME}: `{name}` is a path, not a file name"),
        )
        .hint(format!("set the directory with {IMAGE_DIR}"))),
        // Packages of clouds keep the names that the old tool gave them.
        Some(name) if !description.uploads => {
            let whole =
                name.ends_with(platform) || package(description, settings).archive == Archive::Ova;
            Ok((if whole { name.clone() } else { format!("{name}.{platform}") }, seed))
        }
        _ => Ok((stem, seed)),
    }
}

/// Returns what is written into IMAGE_DIR: the provider's package, or the bare image when the user wants no archive.
pub(super) fn package(description: &Description, settings: &Resolved) -> DiskSpec {
    let package = description.disk.package.as_ref().unwrap_or(&description.disk.spec);
    match settings.core().publication.package {
        Package::None => package.bare(),
        Package::Archive => package.clone(),
    }
}

/// Returns the name of the disk inside a package, without suffix.
pub(super) fn disk_name(source: &Source) -> String {
    match source {
        Source::Iso { facts, .. } => product::internal_name(facts),
        Source::Disk(disk) => disk.stem(),
        Source::Unread(unread) => unread.stem.clone(),
    }
}

fn disk_stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "disk".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

pub(super) fn image_name(
    description: &Description,
    settings: &Resolved,
    seed: &str,
    stem: &str,
    drawn: &str,
) -> Result<(String, bool)> {
    let Some(rules) = &description.image_name else { return Ok((stem.to_owned(), false)) };
    if let Some(name) = &settings.core().image.name {
        product::check_name(name, rules)?;
        return Ok((name.clone(), true));
    }
    Ok((product::compose_name(seed, drawn, rules)?, false))
}

pub(super) fn artifacts_name(source: &Source, platform: &str, settings: &Resolved) -> PathBuf {
    let (stem, is_iso) = match source {
        Source::Iso { path, .. } => (disk_stem(path), true),
        Source::Disk(disk) => (disk.stem(), false),
        Source::Unread(unread) => (unread.stem.clone(), unread.is_iso),
    };
    let directory = Path::new(&stem).join(platform);
    if !is_iso {
        return directory;
    }
    let modules = settings.by_name().text("MODULES").unwrap_or_default();
    let slots = settings.by_name().text("BOOT_LOCATIONS").unwrap_or_default();
    directory.join(format!("{modules}_{slots}slot"))
}

//! Derives the names of a build: of files, directories and the image.

use std::path::{Path, PathBuf};

use build_image_disk::installer::Names;
use build_image_plugin_api::{Archive, Description, DiskSpec};

use super::{
    Source,
    image_name::{check_name, compose_name},
};
use crate::{
    error::{Error, Result, Stage},
    installers,
    settings::{
        Package, Resolved,
        keys::{BUNDLE, HYPERVISOR_IMAGE_NAME, IMAGE_DIR},
    },
};

/// Returns the names that follow from a source; `installed` are those of the installation.
pub(super) fn of_source(source: &Source, installed: Option<&Names>, platform: &str) -> Names {
    let stem = match (source, installed) {
        (_, Some(names)) => return names.clone(),
        (Source::Bundle(bundle), None) => {
            let request = &bundle.document().register;
            return Names {
                file_stem: request.file_stem.clone(),
                seed: request.image_name.clone(),
                disk_name: request.disk_name.clone(),
            };
        }
        (Source::Disk(disk), None) => disk.stem(),
        (Source::Object(object), None) => object.stem(),
        (Source::Unread(unread), None) => unread.stem.clone(),
        (Source::Iso(iso), None) => disk_stem(&iso.path),
    };
    Names { file_stem: format!("{stem}.{platform}"), seed: stem.clone(), disk_name: stem }
}

/// Returns the file stem, which the user may choose for files of this machine.
pub(super) fn file_stem(
    stem: String,
    platform: &str,
    description: &Description,
    settings: &Resolved,
) -> Result<String> {
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
            Ok(if whole { name.clone() } else { format!("{name}.{platform}") })
        }
        _ => Ok(stem),
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

/// Returns the directory of files that are published on this machine: that of the bundle, or IMAGE_DIR.
pub(super) fn images(settings: &Resolved, bundle: Option<&Path>) -> Result<PathBuf> {
    match bundle.and_then(Path::parent) {
        Some(directory) => Ok(directory.to_owned()),
        None => settings.absolute(settings.core().publication.images()),
    }
}

/// Returns the path of the bundle that is written, absolute.
pub(super) fn bundle(settings: &Resolved) -> Result<Option<PathBuf>> {
    let Some(path) = &settings.core().bundle.file else { return Ok(None) };
    let path = settings.absolute(path)?;
    // A trailing slash names a directory; a path of only `/` has no name.
    if path.file_name().and_then(|name| name.to_str()).is_none() || path.is_dir() {
        let text = format!("{}: `{}` is not the path of a file", BUNDLE, path.display());
        return Err(Error::new(Stage::Settings, text).hint("give the path of a new file"));
    }
    Ok(Some(path))
}

fn disk_stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "disk".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

pub(super) fn image_name(
    description: &Description,
    settings: &Resolved,
    source: &Source,
    seed: &str,
    stem: &str,
    drawn: &str,
) -> Result<(String, bool)> {
    let Some(rules) = &description.image_name else { return Ok((stem.to_owned(), false)) };
    if let Some(name) = &settings.core().image.name {
        check_name(name, rules)?;
        return Ok((name.clone(), true));
    }
    if let Source::Bundle(bundle) = source {
        // Its builder chose or drew the name.
        let request = &bundle.document().register;
        check_name(&request.image_name, rules)?;
        return Ok((request.image_name.clone(), request.image_name_chosen));
    }
    Ok((compose_name(seed, drawn, rules)?, false))
}

/// Returns the artifacts directory of a build, below the directory of all builds.
///
/// # Errors
/// When settings of an installation are missing.
pub(super) fn artifacts_name(
    source: &Source,
    platform: &str,
    settings: &Resolved,
) -> Result<PathBuf> {
    let (stem, installer) = match source {
        Source::Iso(iso) => (disk_stem(&iso.path), Some(iso.installer)),
        Source::Disk(disk) => (disk.stem(), None),
        Source::Bundle(bundle) => (disk_stem(bundle.path()), None),
        Source::Object(object) => (object.stem(), None),
        Source::Unread(unread) if unread.is_iso => {
            (unread.stem.clone(), Some(installers::by_settings(settings)?))
        }
        Source::Unread(unread) => (unread.stem.clone(), None),
    };
    // Targets of one provider have a directory each.
    let directory = Path::new(&stem).join(settings.target().unwrap_or(platform));
    Ok(match installer {
        Some(installer) => directory.join(installer.directory(&installers::values(settings))),
        None => directory,
    })
}

//! Checks free space: how much a build needs in which directory, before anything is downloaded or unpacked.
//!
//! The size of an installed disk is not known beforehand. The estimate is three times the ISO (its unpacked packages,
//! and the files that they write on their first boot) plus 2 GiB for the files that every installation creates, but
//! never more than the disk's size. A published image is at most as large. An existing disk is published with the
//! allocated size of its file.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use indicatif::HumanBytes;

use super::Plan;
use crate::{
    error::{Error, Problem, Result, Stage},
    settings::{Key, keys},
};

/// Maximum factor between the size of the ISO and of an installed system.
const GROWTH: u64 = 3;
/// Bytes that every installation creates: volumes' tables, logs, databases.
const OWN: u64 = 2 << 30;
/// Unit of MIN_FREE_DISK_STORAGE_MB, bytes.
pub(super) const MB: u64 = 1_000_000;
/// Bytes of a block in `stat`.
const BLOCK: u64 = 512;

/// Space that is needed in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The directory; it may not exist yet.
    pub(crate) directory: PathBuf,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Setting that chooses the directory.
    pub(crate) setting: Key,
}

/// Returns the space that a build needs, by directory.
pub(crate) fn needs(plan: &Plan) -> Vec<Need> {
    let occupied = |path: &Path| fs::metadata(path).map_or(0, |file| file.blocks() * BLOCK);
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let mut needs = Vec::new();
    let image = match (&plan.installation, &plan.disk) {
        (Some(installation), _) => {
            let isos = installation.isos();
            let source = isos.fold(0, |sum: u64, (_, path, _)| sum.saturating_add(length(path)));
            let grown = source.saturating_mul(GROWTH).saturating_add(OWN);
            let disk = grown.min(plan.build.virtual_size);
            let missing = disk.saturating_sub(occupied(&plan.raw_disk()));
            let bytes = plan.minimum_free.unwrap_or(missing);
            let directory = plan.artifacts.clone();
            needs.push(Need { directory, bytes, setting: keys::ARTIFACTS_DIR });
            disk
        }
        (None, Some(disk)) => disk.occupied,
        // The size is checked once it is known.
        (None, None) => return needs,
    };
    let images = plan.build.image_dir.as_ref().filter(|_| plan.needs_image_dir());
    if let Some(directory) = images {
        let setting = if plan.bundle.is_some() { keys::BUNDLE } else { keys::IMAGE_DIR };
        needs.push(Need { directory: directory.into(), bytes: image, setting });
    }
    needs
}

/// Refuses a build when there is too little space.
///
/// # Errors
/// Every file system that is too full, with the files it should hold.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    judge(&needs(plan), &|directory| Some((device(directory)?, free_space(directory)?)))
}

/// Judges the needs. `look` returns a directory's file system and its free bytes; directories for which it returns
/// `None` are skipped.
fn judge(needs: &[Need], look: &dyn Fn(&Path) -> Option<(u64, u64)>) -> Result<()> {
    let mut systems: Vec<(u64, u64, Vec<&Need>)> = Vec::new();
    for need in needs {
        let Some((device, free)) = look(&need.directory) else { continue };
        match systems.iter_mut().find(|(other, ..)| *other == device) {
            Some((.., same)) => same.push(need),
            None => systems.push((device, free, vec![need])),
        }
    }
    let problems = systems.into_iter().filter_map(|(_, free, needs)| {
        let sum = needs.iter().fold(0, |sum: u64, need| sum.saturating_add(need.bytes));
        (sum > free).then(|| Problem::new(shortage(&needs, sum, free)).hint(hint(&needs)))
    });
    let problems: Vec<Problem> = problems.collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::several(Stage::Disk, "there is too little free space", problems))
}

fn shortage(needs: &[&Need], sum: u64, free: u64) -> String {
    let describe =
        |need: &&Need| format!("`{}` {}", need.directory.display(), HumanBytes(need.bytes));
    let directories: Vec<String> = needs.iter().map(describe).collect();
    let together =
        if needs.len() > 1 { format!(", together {}", HumanBytes(sum)) } else { String::new() };
    format!("{} needed{together}, {} free", directories.join(" and "), HumanBytes(free))
}

fn hint(needs: &[&Need]) -> String {
    let settings: Vec<&str> = needs.iter().map(|need| need.setting.name()).collect();
    format!("free some space, or set {} to a larger file system", settings.join(" or "))
}

/// Returns the nearest existing directory at or above a path.
fn existing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|directory| directory.exists())
}

fn device(directory: &Path) -> Option<u64> {
    Some(fs::metadata(existing(directory)?).ok()?.dev())
}

/// Returns the bytes that this user may still write to the file system of a directory, which may not exist yet.
pub(crate) fn free_space(directory: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(existing(directory)?).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(directory: &str, bytes: u64, setting: Key) -> Need {
        Need { directory: directory.into(), bytes, setting }
    }

    #[test]
    fn needs_on_one_file_system_are_added() {
        let needs = [
            need("/a/artifacts", 6 << 30, keys::ARTIFACTS_DIR),
            need("/a/images", 5 << 30, keys::IMAGE_DIR),
        ];
        let apart = |directory: &Path| {
            let device = u64::from(directory.ends_with("images"));
            Some((device, 10 << 30))
        };
        judge(&needs, &apart).unwrap();
        judge(&needs, &|_| None).unwrap();
        judge(&needs, &|_| Some((1, 11 << 30))).unwrap();
        let error = judge(&needs, &|_| Some((1, 10 << 30))).unwrap_err();
        assert_eq!(
            error.problems[0].message,
            "`/a/artifacts` 6.00 GiB and `/a/images` 5.00 GiB needed, together 11.00 GiB, 10.00 GiB free"
        );
        let hint = error.problems[0].hint.as_deref().unwrap();
        assert!(hint.contains("ARTIFACTS_DIR or IMAGE_DIR"), "{hint}");
        let error = judge(&needs, &|directory| Some((apart(directory)?.0, 1))).unwrap_err();
        assert_eq!(error.problems.len(), 2);
    }

    #[test]
    fn a_missing_directory_is_on_the_file_system_of_its_parents() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("x/y");
        assert_eq!(device(&absent), device(directory.path()));
        assert!(free_space(&absent).is_some_and(|free| free > 0));
    }
}

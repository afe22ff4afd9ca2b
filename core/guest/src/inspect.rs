//! Inspects a disk: volumes, file systems, boot loaders, and the system on the root file system.

use std::rc::Rc;

use build_image_disk::facts::Facts;
use build_image_disk::{Error, GuestReader, Kind};

use crate::boot;
use crate::model::{BootEntry, FstabEntry, Inspection, VolumeFacts};
use crate::sbom::{self, Packages};
use crate::source::{Fault, Limits, Source, Stop};
use crate::system;
use crate::tree::{Mounted, Remarks, Tree};
use crate::volume::{self, Named};

/// Maximum number of file systems that are opened.
const MAX_MOUNTED: usize = 32;

/// Inspects a disk within limits. Nothing is written, and no program of the disk is run.
///
/// # Errors
/// Fails when the disk cannot be read, or with [`Kind::Cancelled`]. The content of the disk is never an error: what
/// cannot be interpreted is a remark, and a limit that was reached leaves [`Inspection::complete`] `false`.
pub fn inspect(disk: &GuestReader, limits: Limits) -> Result<Inspection, Error> {
    let (found, _) = run(disk, limits, false)?;
    Ok(found)
}

/// Inspects a disk as [`inspect`] does, and reads the databases of its package managers.
///
/// # Errors
/// See [`inspect`].
pub fn inspect_with_packages(
    disk: &GuestReader,
    limits: Limits,
) -> Result<(Inspection, Packages), Error> {
    run(disk, limits, true)
}

fn run(
    disk: &GuestReader,
    limits: Limits,
    packages: bool,
) -> Result<(Inspection, Packages), Error> {
    let facts = Facts::read(disk)?;
    let source = Source::new(Some(disk.clone()), limits);
    let remarks = Remarks::default();
    for remark in &facts.remarks {
        remarks.add(remark.clone());
    }
    let mut found = Inspection { scheme: facts.scheme.name().to_owned(), ..Inspection::default() };
    let mut installed = Packages::default();
    match volume::find(&source, &facts) {
        Ok(named) => {
            let tree = files(&source, &facts, named, &remarks, &mut found);
            if let Some(tree) = tree.filter(|_| packages) {
                installed = sbom::read(&tree, &source);
            }
        }
        Err(Fault::Damaged(why)) => remarks.add(format!("the volumes cannot be read: {why}")),
        Err(Fault::Missing | Fault::Stopped) => {}
    }
    found.complete = true;
    match source.take_stop() {
        None => {}
        Some(Stop::Failed(error)) => return Err(error),
        Some(Stop::Cancelled) => {
            return Err(
                Error::new(Kind::Cancelled, "the inspection was cancelled of").at(disk.path())
            );
        }
        Some(Stop::Limit(limit)) => {
            found.complete = false;
            remarks.add(format!("the inspection ended early, after {limit}"));
        }
    }
    found.remarks = remarks.take();
    Ok((found, installed))
}

/// Reads everything that is in files; returns the tree of the system.
fn files(
    source: &Source,
    facts: &Facts,
    named: Vec<Named>,
    remarks: &Remarks,
    found: &mut Inspection,
) -> Option<Tree> {
    let mut mounted = Vec::new();
    for one in named {
        let (volume, opened) = mount(source, one, remarks, mounted.len() < MAX_MOUNTED);
        found.volumes.push(volume);
        mounted.extend(opened.map(Rc::new));
    }
    let aliases: Vec<String> =
        found.volumes.iter().flat_map(|volume| volume.aliases.clone()).collect();
    let all_read = found.volumes.iter().all(|volume| volume.not_inspected.is_none());
    let boot = boot::read(source, facts, &mounted, &aliases, all_read);
    (found.loaders, found.entries) = (boot.loaders, boot.entries);
    found.unknown_searches = boot.unknown_searches;
    let files = mounted.iter().map(Rc::as_ref);
    found.windows = boot::windows::find(source, facts, &found.volumes, files);
    let root = root(&mounted, found)?;
    let mut tree = Tree::new(Rc::clone(&root));
    let fstab = tree.text("/etc/fstab");
    let fstab = fstab.map(|text| system::fstab_entries(&text, &found.volumes)).unwrap_or_default();
    mount_all(&mut tree, &fstab, &mounted);
    found.kernels = system::kernels(&tree);
    found.system = Some(system::read(&tree, &root.name, fstab));
    guess_versions(&mut found.entries, &found.kernels);
    Some(tree)
}

fn mount(
    source: &Source,
    named: Named,
    remarks: &Remarks,
    has_room: bool,
) -> (VolumeFacts, Option<Mounted>) {
    let volume = named.volume.as_ref().filter(|_| has_room);
    let opened = volume.and_then(|volume| crate::fs::open(volume, &named.content));
    let is_file_system = ["ext4", "vfat"].contains(&named.content.kind);
    let too_many = (is_file_system && !has_room).then(|| "the disk has too many".to_owned());
    let mut facts = VolumeFacts {
        name: named.name.clone(),
        len: named.volume.as_ref().map_or(0, |volume| volume.len),
        content: named.content.kind.to_owned(),
        aliases: named.aliases.clone(),
        is_esp: named.is_esp,
        inspected: false,
        not_inspected: named.reason.or(too_many),
    };
    let fs = match opened {
        None => return (facts, None),
        Some(Ok(fs)) => fs,
        Some(Err(fault)) => {
            facts.not_inspected = Some(match fault {
                Fault::Damaged(why) => format!("its file system cannot be read: {why}"),
                Fault::Missing | Fault::Stopped => "the inspection ended early".to_owned(),
            });
            return (facts, None);
        }
    };
    facts.inspected = true;
    let Named { name, aliases, is_esp, .. } = named;
    let (kind, source, remarks) = (named.content.kind, source.clone(), remarks.clone());
    (facts, Some(Mounted { name, aliases, is_esp, kind, source, fs, remarks }))
}

/// Returns the root file system: the one that the default boot entry names, or the first that looks like one.
fn root(mounted: &[Rc<Mounted>], found: &mut Inspection) -> Option<Rc<Mounted>> {
    let candidates: Vec<&Rc<Mounted>> =
        mounted.iter().filter(|one| one.kind != "vfat" && system::is_root(one)).collect();
    let named = found.entries.iter().filter(|entry| entry.is_default).find_map(|entry| {
        let device = root_argument(&entry.arguments)?;
        candidates
            .iter()
            .find(|one| one.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(device)))
    });
    named.or(candidates.first()).map(|root| Rc::clone(root))
}

/// Returns the device of `root=`; the last one counts.
pub(crate) fn root_argument(arguments: &str) -> Option<&str> {
    let mut devices = arguments.split_whitespace().filter_map(|word| word.strip_prefix("root="));
    devices.next_back().map(|device| device.trim_matches(['"', '\'']))
}

/// Mounts what fstab names, as far as it can be read.
fn mount_all(tree: &mut Tree, fstab: &[FstabEntry], mounted: &[Rc<Mounted>]) {
    for entry in fstab.iter().filter(|entry| entry.point.starts_with('/') && entry.point != "/") {
        let volume = mounted.iter().find(|one| Some(&one.name) == entry.volume.as_ref());
        if let Some(volume) = volume.filter(|_| !system::is_remote(entry)) {
            tree.mount(&entry.point, Rc::clone(volume));
        }
    }
}

/// An entry without a version starts the only kernel that is installed.
fn guess_versions(entries: &mut [BootEntry], kernels: &[crate::model::Kernel]) {
    let [only] = kernels else { return };
    for entry in entries.iter_mut().filter(|entry| entry.version.is_none()) {
        entry.version = Some(only.version.clone());
    }
}

//! Makes a disk from trees of files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use build_image_disk::GuestReader;
use tempfile::TempDir;

use super::parts;
use super::tools::{program, run};
use crate::{Finding, Inspection, Limits, Requirements, check, inspect};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const ROOT_UUID: &str = "11111111-2222-4333-8444-555555555555";
pub(super) const BOOT_UUID: &str = "99999999-8888-4777-8666-555555555555";
/// As it is printed; mkfs.vfat takes it without the dash.
pub(super) const ESP_UUID: &str = "ABCD-1234";

/// Files of a file system by path.
pub(super) type Tree = BTreeMap<String, Node>;

#[derive(Clone)]
pub(super) enum Node {
    File(Vec<u8>),
    Link(String),
    Directory,
}

/// What a partition holds.
#[derive(Clone)]
pub(super) enum Holds {
    Nothing,
    Bytes(Vec<u8>),
    Ext {
        uuid: &'static str,
        tree: Tree,
    },
    Fat {
        tree: Tree,
    },
    /// A logical volume with this file system; the text has its segments.
    Lvm {
        uuid: &'static str,
        tree: Tree,
        segments: String,
    },
}

#[derive(Clone)]
pub(super) struct Partition {
    /// Line of sfdisk without start and size.
    pub(super) line: &'static str,
    pub(super) mib: u64,
    pub(super) holds: Holds,
}

/// A disk.
#[derive(Clone)]
pub(super) struct Disk {
    /// `gpt` or `dos`.
    pub(super) label: &'static str,
    pub(super) partitions: Vec<Partition>,
    /// Bytes that are written at the end, by their offset.
    pub(super) patches: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    /// Returns the tree of the partition with this position.
    pub(super) fn tree(&mut self, number: usize) -> &mut Tree {
        match &mut self.partitions[number].holds {
            Holds::Ext { tree, .. } | Holds::Fat { tree } | Holds::Lvm { tree, .. } => tree,
            Holds::Nothing | Holds::Bytes(_) => panic!("partition {number} has no tree"),
        }
    }

    /// Returns a file of a tree as text.
    pub(super) fn edit(
        &mut self,
        number: usize,
        path: &str,
        change: impl FnOnce(String) -> String,
    ) {
        let tree = self.tree(number);
        let Some(Node::File(bytes)) = tree.get(path) else { panic!("{path} is missing") };
        let text = change(String::from_utf8(bytes.clone()).unwrap());
        tree.insert(path.to_owned(), Node::File(text.into_bytes()));
    }

    pub(super) fn put(&mut self, number: usize, path: &str, content: impl Into<Vec<u8>>) {
        self.tree(number).insert(path.to_owned(), Node::File(content.into()));
    }

    pub(super) fn remove(&mut self, number: usize, path: &str) {
        assert!(self.tree(number).remove(path).is_some(), "{path} is missing");
    }

    /// Writes the disk; `None` if a program is missing.
    pub(super) fn write(&self) -> Option<Written> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let file = File::create(&path).unwrap();
        let total = self.partitions.iter().map(|partition| partition.mib).sum::<u64>() + 3;
        file.set_len(total * MIB).unwrap();
        let mut script = format!("label: {}\n", self.label);
        let mut start = 1;
        for partition in &self.partitions {
            script += &format!("start={start}MiB, size={}MiB, {}\n", partition.mib, partition.line);
            start += partition.mib;
        }
        let (sfdisk, shell) = (program("sfdisk")?, program("sh")?);
        let text = directory.path().join("script");
        fs::write(&text, script).unwrap();
        let line = "\"$0\" -q --no-reread --no-tell-kernel \"$1\" < \"$2\"";
        run(&shell, &[&"-c", &line, &sfdisk, &path, &text]);
        let mut start = MIB;
        for partition in &self.partitions {
            let len = partition.mib * MIB;
            if let Some(bytes) = content(&partition.holds, len, directory.path())? {
                write_sparse(&file, &bytes, start);
            }
            start += len;
        }
        for (at, bytes) in &self.patches {
            file.write_all_at(bytes, *at).unwrap();
        }
        Some(Written { _directory: directory, path })
    }
}

fn write_sparse(file: &File, bytes: &[u8], start: u64) {
    for (chunk, at) in bytes.chunks(64 << 10).zip((start..).step_by(64 << 10)) {
        if chunk.iter().any(|byte| *byte != 0) {
            file.write_all_at(chunk, at).unwrap();
        }
    }
}

/// Returns the bytes of a partition; the inner `None` is an empty one.
fn content(holds: &Holds, len: u64, directory: &Path) -> Option<Option<Vec<u8>>> {
    Some(match holds {
        Holds::Nothing => None,
        Holds::Bytes(bytes) => Some(bytes.clone()),
        Holds::Ext { uuid, tree } => Some(ext(uuid, tree, len, directory)?),
        Holds::Fat { tree } => Some(fat(tree, len, directory)?),
        Holds::Lvm { uuid, tree, segments } => {
            // The last four MiB of the partition are not a whole extent.
            let root = ext(uuid, tree, len - 8 * MIB, directory)?;
            Some(parts::physical_volume(&root, segments))
        }
    })
}

fn lay_out(tree: &Tree, directory: &Path) -> PathBuf {
    let top = directory.join("tree");
    let _ = fs::remove_dir_all(&top);
    fs::create_dir(&top).unwrap();
    for (path, node) in tree {
        let place = top.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match node {
            Node::File(bytes) => fs::write(&place, bytes).unwrap(),
            Node::Link(target) => symlink(target, &place).unwrap(),
            Node::Directory => fs::create_dir_all(&place).unwrap(),
        }
    }
    top
}

pub(super) fn ext(uuid: &str, tree: &Tree, len: u64, directory: &Path) -> Option<Vec<u8>> {
    let mke2fs = program("mke2fs")?;
    let (top, image) = (lay_out(tree, directory), directory.join("ext"));
    let size = format!("{}k", len / 1024);
    run(&mke2fs, &[&"-q", &"-F", &"-t", &"ext4", &"-U", &uuid, &"-d", &top, &image, &size]);
    let bytes = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    Some(bytes)
}

fn fat(tree: &Tree, len: u64, directory: &Path) -> Option<Vec<u8>> {
    let (mkfs, mcopy) = (program("mkfs.vfat")?, program("mcopy")?);
    let (top, image) = (lay_out(tree, directory), directory.join("fat"));
    File::create(&image).unwrap().set_len(len).unwrap();
    run(&mkfs, &[&"-i", &ESP_UUID.replace('-', ""), &"-n", &"BOOT", &image]);
    for entry in fs::read_dir(&top).unwrap() {
        run(&mcopy, &[&"-s", &"-i", &image, &entry.unwrap().path(), &"::"]);
    }
    let bytes = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    Some(bytes)
}

/// A disk that was written; it is removed with this value.
pub(super) struct Written {
    _directory: TempDir,
    pub(super) path: PathBuf,
}

impl Written {
    pub(super) fn reader(&self) -> GuestReader {
        GuestReader::open_raw(&self.path).unwrap()
    }

    pub(super) fn inspect(&self) -> Inspection {
        inspect(&self.reader(), Limits::default()).unwrap()
    }

    pub(super) fn check(&self, needs: &Requirements) -> Vec<Finding> {
        check(&self.inspect(), needs)
    }
}

//! Adds files to an initrd by appending one gzip member that holds a newc cpio archive. The kernel unpacks
//! members in order, so the existing content is neither unpacked nor repacked.
//! Sources: Linux, Documentation/driver-api/early-userspace/buffer-format.rst; RFC 1952.
//! Everything belongs to root and has the same date, so the same input produces the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::error::{Error, Kind};
use crate::field::index;
use crate::staged::Staged;

/// The time of every member in seconds since 1970: 1980-01-01, which no tool interprets as a missing date.
const MTIME: u32 = 315_532_800;
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// Mode of directories that were not requested but that contain an added file.
const PARENT_MODE: u32 = 0o755;

/// A file, directory, or symbolic link to add.
#[derive(Clone, Debug)]
pub struct Addition {
    /// The path from the root of the initrd, without a leading `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The type and the content.
    pub content: Content,
}

/// The content of an [`Addition`].
#[derive(Clone, Debug)]
pub enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the content of this file, which is read during the write.
    File(PathBuf),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(String),
}

/// Sizes in bytes, to calculate the memory of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The original initrd.
    pub base: u64,
    /// The new initrd.
    pub total: u64,
    /// The appended archive, uncompressed.
    pub added: u64,
}

/// Writes `base` and the additions to `dest`, which appears complete or not at all; an existing file is
/// replaced.
///
/// Parent directories are written before their content. Memory use does not depend on any size. A file of 4
/// GiB or more is refused, because newc cannot hold it.
pub fn append(base: &mut dyn Read, additions: &[Addition], dest: &Path) -> Result<Written, Error> {
    let members = plan(additions)?;
    let staged = Staged::create(dest)?;
    let (base, added) = write(base, &members, &staged, dest)?;
    let total = staged.file().metadata().map_err(|source| staged.write_error(source))?.len();
    // An initrd is for one boot: syncing it would only cost time.
    staged.finish_unsynced()?;
    Ok(Written { base, total, added })
}

/// Writes the initrd; returns the lengths of the base and of the uncompressed archive.
fn write(
    base: &mut dyn Read,
    members: &[Member<'_>],
    staged: &Staged,
    dest: &Path,
) -> Result<(u64, u64), Error> {
    let write_error = |source| staged.write_error(source);
    let mut out = BufWriter::with_capacity(1 << 20, staged.file());
    let base_len = copy_base(base, &mut out, dest)?;
    // The kernel skips zeros between members and requires an archive to start at a multiple of four.
    let padding = (4 - base_len % 4) % 4;
    out.write_all(&[0; 3][..index(padding)]).map_err(write_error)?;
    let gzip = GzBuilder::new().mtime(0).write(out, Compression::fast());
    let mut archive = Archive { out: gzip, inode: 0, len: 0, dest };
    for member in members {
        archive.member(member)?;
    }
    archive.trailer()?;
    let added = archive.len;
    let out = archive.out.finish().map_err(write_error)?;
    out.into_inner().map_err(|e| write_error(e.into_error()))?;
    Ok((base_len, added))
}

fn copy_base(base: &mut dyn Read, out: &mut dyn Write, dest: &Path) -> Result<u64, Error> {
    let mut buf = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let len = match base.read(&mut buf) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(Error::new(Kind::Io, "cannot read the initrd to be extended")
                    .caused_by(source)
                    .at_offset(done));
            }
        };
        if len == 0 && done == 0 {
            return Err(Error::new(Kind::Malformed, "the initrd to be extended is empty"));
        }
        if len == 0 {
            return Ok(done);
        }
        out.write_all(&buf[..len]).map_err(|source| Error::io("cannot write", dest, source))?;
        done += len as u64;
    }
}

/// A member of the archive. Members are written in order.
struct Member<'a> {
    path: &'a str,
    mode: u32,
    content: Source<'a>,
}

enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a Path, u32),
    Nothing,
}

/// Checks all additions and places every directory before its content.
fn plan(additions: &[Addition]) -> Result<Vec<Member<'_>>, Error> {
    let directories: BTreeMap<&str, u32> = additions
        .iter()
        .filter(|addition| matches!(addition.content, Content::Directory))
        .map(|addition| (addition.path.as_str(), addition.mode))
        .collect();
    let mut written = BTreeSet::new();
    let mut leaves = BTreeSet::new();
    let mut members = Vec::new();
    for addition in additions {
        let path = addition.path.as_str();
        check_path(path)?;
        let ends = path.match_indices('/').map(|(at, _)| at);
        for parent in ends.map(|at| &path[..at]) {
            if leaves.contains(parent) {
                return Err(member_error(
                    path,
                    "is below another addition that is not a directory",
                ));
            }
            push_directory(&mut members, &mut written, &directories, parent);
        }
        let content = match &addition.content {
            Content::Directory => {
                push_directory(&mut members, &mut written, &directories, path);
                continue;
            }
            Content::Bytes(bytes) => Source::Bytes(bytes),
            Content::Symlink(target) => Source::Bytes(target.as_bytes()),
            Content::File(file) => Source::File(file, file_len(file)?),
        };
        let kind = if matches!(addition.content, Content::Symlink(_)) { SYMLINK } else { FILE };
        if written.contains(path) || !leaves.insert(path) {
            return Err(member_error(path, "is added twice"));
        }
        members.push(Member { path, mode: kind | (addition.mode & 0o7777), content });
    }
    // A directory is requested after a file of the same name.
    match written.intersection(&leaves).next() {
        Some(path) => Err(member_error(path, "is added as a directory and as a file")),
        None => Ok(members),
    }
}

fn push_directory<'a>(
    members: &mut Vec<Member<'a>>,
    written: &mut BTreeSet<&'a str>,
    asked_for: &BTreeMap<&str, u32>,
    path: &'a str,
) {
    if written.insert(path) {
        let mode = asked_for.get(path).copied().unwrap_or(PARENT_MODE);
        members.push(Member { path, mode: FOLDER | (mode & 0o7777), content: Source::Nothing });
    }
}

fn member_error(path: &str, why: &str) -> Error {
    Error::new(Kind::Unsupported, format!("the initrd addition `{path}` {why}"))
}

fn check_path(path: &str) -> Result<(), Error> {
    let broken = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(broken) || path.contains('\0') || path.len() > 4000 {
        return Err(member_error(path, "is not a plain relative path"));
    }
    Ok(())
}

fn file_len(file: &Path) -> Result<u32, Error> {
    let metadata = fs::metadata(file).map_err(|source| Error::io("cannot read", file, source))?;
    if !metadata.is_file() {
        return Err(
            Error::new(Kind::Unsupported, "cannot add anything but a file, unlike").at(file)
        );
    }
    u32::try_from(metadata.len()).map_err(|_| {
        Error::new(Kind::Unsupported, "4 GiB or more do not fit an initrd:")
            .at(file)
            .with_hint("add a smaller file and fetch the rest on first boot")
    })
}

struct Archive<'a, W> {
    out: W,
    inode: u32,
    len: u64,
    dest: &'a Path,
}

impl<W: Write> Archive<'_, W> {
    fn member(&mut self, member: &Member<'_>) -> Result<(), Error> {
        let len = match member.content {
            Source::Nothing => 0,
            Source::File(_, len) => len,
            Source::Bytes(bytes) => u32::try_from(bytes.len())
                .map_err(|_| member_error(member.path, "has 4 GiB or more"))?,
        };
        self.inode += 1;
        self.header(member.path, self.inode, member.mode, len)?;
        match member.content {
            Source::Nothing => {}
            Source::Bytes(bytes) => self.write(bytes)?,
            Source::File(file, len) => self.copy(file, len)?,
        }
        self.pad()
    }

    fn trailer(&mut self) -> Result<(), Error> {
        self.header("TRAILER!!!", 0, 0, 0)
    }

    /// Writes thirteen numbers of eight hexadecimal digits, the name, a zero, and padding.
    fn header(&mut self, name: &str, inode: u32, mode: u32, len: u32) -> Result<(), Error> {
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let name_len = u32::try_from(name.len() + 1).expect("path lengths are checked");
        let mtime = if inode == 0 { 0 } else { MTIME };
        let fields = [inode, mode, 0, 0, links, mtime, len, 0, 0, 0, 0, name_len, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(name);
        header.push('\0');
        self.write(header.as_bytes())?;
        self.pad()
    }

    fn copy(&mut self, file: &Path, len: u32) -> Result<(), Error> {
        let read_error = |source| Error::io("cannot read", file, source);
        let mut input = File::open(file).map_err(read_error)?;
        let mut buf = vec![0; 64 << 10];
        let mut done = 0;
        loop {
            let piece = input.read(&mut buf).map_err(read_error)?;
            done += piece as u64;
            if done > u64::from(len) || (piece == 0 && done < u64::from(len)) {
                return Err(Error::new(Kind::Io, "the size changed while it was read:").at(file));
            }
            if piece == 0 {
                return Ok(());
            }
            self.write(&buf[..piece])?;
        }
    }

    fn pad(&mut self) -> Result<(), Error> {
        let padding = (4 - self.len % 4) % 4;
        self.write(&[0; 3][..index(padding)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.len += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| Error::io("cannot write", self.dest, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use flate2::read::GzDecoder;

    fn add(path: &str, mode: u32, content: Content) -> Addition {
        Addition { path: path.into(), mode, content }
    }

    /// Parses the appended archive into (name, mode, uid, gid, bytes).
    fn unpack(initrd: &[u8], base: usize) -> Vec<(String, u32, u32, u32, Vec<u8>)> {
        let start = base.next_multiple_of(4);
        assert!(initrd[base..start].iter().all(|byte| *byte == 0));
        let mut cpio = Vec::new();
        GzDecoder::new(&initrd[start..]).read_to_end(&mut cpio).unwrap();
        let (mut at, mut found) = (0, Vec::new());
        loop {
            assert_eq!(&cpio[at..at + 6], b"070701");
            let field = |number: usize| {
                let digits = &cpio[at + 6 + number * 8..][..8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (len, name_len) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(cpio[at + 110..at + 109 + name_len].to_vec()).unwrap();
            let data = (at + 110 + name_len).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(data, cpio.len());
                return found;
            }
            found.push((name, field(1), field(2), field(3), cpio[data..data + len].to_vec()));
            at = (data + len).next_multiple_of(4);
        }
    }

    #[test]
    fn parents_come_first_and_belong_to_root() {
        let directory = tempfile::tempdir().unwrap();
        let (file, dest) = (directory.path().join("f"), directory.path().join("initrd"));
        fs::write(&file, noise(3, 200_001)).unwrap();
        let additions = [
            add("etc/injected_files/file0/src", 0o640, Content::File(file)),
            add("etc/post-install", 0o755, Content::Bytes(b"#!/bin/bash\n".to_vec())),
            add("etc/injected_files", 0o700, Content::Directory),
            add("etc/link", 0o777, Content::Symlink("post-install".into())),
            add("etc/.marker", 0o644, Content::Bytes(vec![])),
        ];
        let base = noise(1, 1001);
        let written = append(&mut &base[..], &additions, &dest).unwrap();
        let bytes = fs::read(&dest).unwrap();
        assert_eq!((written.base, written.total), (1001, bytes.len() as u64));
        assert_eq!(bytes[..1001], base);
        let got = unpack(&bytes, 1001);
        let names: Vec<(&str, u32)> = got.iter().map(|m| (m.0.as_str(), m.1)).collect();
        let want = [
            ("etc", 0o040_755),
            ("etc/injected_files", 0o040_700),
            ("etc/injected_files/file0", 0o040_755),
            ("etc/injected_files/file0/src", 0o100_640),
            ("etc/post-install", 0o100_755),
            ("etc/link", 0o120_777),
            ("etc/.marker", 0o100_644),
        ];
        assert_eq!(names, want);
        assert!(got.iter().all(|member| (member.2, member.3) == (0, 0)));
        assert_eq!(got[3].4, noise(3, 200_001));
        assert_eq!(got[5].4, b"post-install");
        append(&mut &base[..], &additions, &dest).unwrap();
        assert!(fs::read(&dest).unwrap() == bytes, "the same input gives the same bytes");
    }

    #[test]
    fn bad_additions_are_refused_and_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let huge = directory.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 32).unwrap();
        let dest = directory.path().join("initrd");
        let bytes = || Content::Bytes(vec![1]);
        let cases: Vec<(Kind, Vec<Addition>)> = vec![
            (Kind::Unsupported, vec![add("/etc/x", 0o644, bytes())]),
            (Kind::Unsupported, vec![add("etc/../x", 0o644, bytes())]),
            (Kind::Unsupported, vec![add("", 0o644, bytes())]),
            (Kind::Unsupported, vec![add("a", 0o644, bytes()), add("a", 0o644, bytes())]),
            (Kind::Unsupported, vec![add("a", 0o644, bytes()), add("a/b", 0o644, bytes())]),
            (Kind::Unsupported, vec![add("a/b", 0o644, bytes()), add("a", 0o644, bytes())]),
            (
                Kind::Unsupported,
                vec![add("a", 0o644, bytes()), add("a", 0o755, Content::Directory)],
            ),
            (Kind::Unsupported, vec![add("huge", 0o644, Content::File(huge))]),
            (Kind::Unsupported, vec![add("d", 0o644, Content::File(directory.path().into()))]),
            (Kind::NotFound, vec![add("n", 0o644, Content::File(directory.path().join("none")))]),
        ];
        for (kind, additions) in cases {
            let error = append(&mut &b"base"[..], &additions, &dest).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert_eq!(append(&mut io::empty(), &[], &dest).unwrap_err().kind(), Kind::Malformed);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

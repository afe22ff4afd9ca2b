//! Reads the databases of rpm: all packages that `rpm -qa` lists, except `gpg-pubkey`, which are keys.
//!
//! ```text
//! sqlite.rs ─▶ wal.rs    rpmdb.sqlite, with the transactions that are only in its write-ahead log
//! ndb.rs                 Packages.db      hash.rs    Packages, a hash of Berkeley DB
//! header.rs              the header of one package, the same in all of them
//! ```
//!
//! A database is in memory while it is read, because its pages are in no order. Every page is used at most once, so no
//! database costs more than its length. A database that is not read completely gives no packages, but a reason.

mod hash;
mod header;
mod ndb;
mod sqlite;
#[cfg(test)]
mod tests;
mod wal;

use std::io::Read;

use super::Package;
use crate::bytes::index;
use crate::source::{Fault, Source};
use crate::tree::Tree;

/// The newest place comes first; the old one is often a link to it.
const DIRECTORIES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// Databases in the order of their age; an older one stays when rpm changes to another.
const FILES: [(&str, Format); 3] =
    [("rpmdb.sqlite", Format::Sqlite), ("Packages.db", Format::Ndb), ("Packages", Format::Hash)];
/// Maximum length of a database, and of its log, in bytes.
const MAX_LEN: usize = 128 << 20;
/// Maximum number of packages, and of bytes of all values that are kept.
const MAX_PACKAGES: usize = 50_000;
const MAX_KEPT: usize = 16 << 20;
/// First bytes of a journal whose transaction was interrupted; a finished one is empty, or begins with zeros.
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Sqlite,
    Ndb,
    Hash,
}

/// Returns the packages of the first database that has some, and databases that cannot be read, each with the reason.
pub(super) fn read(tree: &Tree, source: &Source) -> (Vec<Package>, Vec<String>) {
    let mut not_inspected = Vec::new();
    for directory in DIRECTORIES {
        for (name, format) in FILES {
            let path = format!("{directory}/{name}");
            if !tree.has(&path) {
                continue;
            }
            match database(tree, source, &path, format) {
                Ok(packages) if packages.is_empty() => {}
                Ok(packages) => return (packages, not_inspected),
                Err(fault) => {
                    let why = match fault {
                        Fault::Damaged(why) => why,
                        Fault::Missing => "it cannot be opened".to_owned(),
                        Fault::Stopped => "the inspection ended early".to_owned(),
                    };
                    let text = format!("the database of rpm at {path} is not read: {why}");
                    not_inspected.push(text);
                    return (Vec::new(), not_inspected);
                }
            }
        }
    }
    (Vec::new(), not_inspected)
}

fn database(
    tree: &Tree,
    source: &Source,
    path: &str,
    format: Format,
) -> Result<Vec<Package>, Fault> {
    let mut log = Vec::new();
    if format == Format::Sqlite {
        let journal = tree.head(&format!("{path}-journal"), JOURNAL.len());
        if journal.is_some_and(|head| head == JOURNAL) {
            return Err(Fault::damaged("its last transaction was interrupted, see its journal"));
        }
        let place = format!("{path}-wal");
        if tree.has(&place) {
            log = load(tree, source, &place)?;
        }
    }
    parse(&load(tree, source, path)?, &log, format, source)
}

/// Returns the content of a file.
fn load(tree: &Tree, source: &Source, path: &str) -> Result<Vec<u8>, Fault> {
    let opened = tree.open(path).ok_or(Fault::Missing)?;
    let too_long = || Fault::damaged(format!("it is longer than {} MiB", MAX_LEN >> 20));
    if opened.len > MAX_LEN as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    bytes.reserve_exact(index(opened.len));
    let read = opened.reader.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes);
    match read {
        Ok(len) if len <= MAX_LEN => Ok(bytes),
        Ok(_) => Err(too_long()),
        Err(_) if source.is_stopped() => Err(Fault::Stopped),
        Err(error) => Err(Fault::damaged(error.to_string())),
    }
}

fn parse(
    database: &[u8],
    log: &[u8],
    format: Format,
    source: &Source,
) -> Result<Vec<Package>, Fault> {
    let mut found = Found { source, packages: Vec::new(), kept: 0 };
    match format {
        Format::Sqlite => sqlite::read(database, log, &mut found)?,
        Format::Ndb => ndb::read(database, &mut found)?,
        Format::Hash => hash::read(database, &mut found)?,
    }
    Ok(found.packages)
}

/// Reads the same bytes as a database of every kind; `log` is that of SQLite.
pub(crate) fn every(database: &[u8], log: &[u8], source: &Source) -> Vec<Result<usize, Fault>> {
    let formats = FILES.into_iter();
    let found = formats.map(|(_, format)| parse(database, log, format, source));
    let mut found: Vec<_> = found.map(|found| found.map(|packages| packages.len())).collect();
    found.push(header::package(database).map(|package| usize::from(package.is_some())));
    found
}

/// The packages that were found in a database, within limits.
struct Found<'a> {
    source: &'a Source,
    packages: Vec<Package>,
    kept: usize,
}

impl Found<'_> {
    /// Counts one page.
    fn step(&self) -> Result<(), Fault> {
        self.source.step()
    }

    /// Adds the package of a header.
    fn add(&mut self, header: &[u8]) -> Result<(), Fault> {
        self.step()?;
        let Some(package) = header::package(header)? else { return Ok(()) };
        let texts = [&package.source, &package.maintainer, &package.licence];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        let names = package.name.len() + package.version.len() + package.architecture.len();
        self.kept += texts + names;
        self.packages.push(package);
        if self.packages.len() > MAX_PACKAGES || self.kept > MAX_KEPT {
            let most = format!("{MAX_PACKAGES} packages, or {} MiB of names", MAX_KEPT >> 20);
            return Err(Fault::damaged(format!("it has more than {most}")));
        }
        Ok(())
    }
}

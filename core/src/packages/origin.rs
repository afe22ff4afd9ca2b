//! Reads an index and its packages from where a publisher or a mirror keeps them: a directory, a tar archive of it, a
//! web server, or a container registry.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use reqwest::Url;

use super::{
    index::is_url,
    refused,
    registry::{self, Repository},
};
use crate::{
    error::{Error, Result, Stage},
    settings::Environment,
    source::{Address, Downloader, display_url},
    trust::{open_regular, read_regular},
};

/// Name of an index where the source names only a directory.
const INDEX: &str = "index.json";
/// Name of the publisher's public key beside its index.
const KEY: &str = "minisign.pub";
/// Suffix of the signature beside an index.
const SIGNATURE: &str = ".minisig";
/// Longest index, and longest signature or key, in bytes.
const INDEX_LIMIT: u64 = 16 << 20;
const SMALL_LIMIT: u64 = 64 << 10;
/// Largest archive of a mirror, in bytes.
pub(super) const ARCHIVE_LIMIT: u64 = 4 << 30;
/// Most members of an archive.
const MOST_MEMBERS: usize = 10_000;
/// Most bytes of headers in an archive, long names included: they are read into memory.
const HEADERS_LIMIT: u64 = 32 << 20;

/// What the user named as the source of packages.
pub(super) enum Source {
    /// An index and the packages that it names.
    Index(Origin),
    /// A plugin file.
    File(Origin, String),
    /// An archive on a web server, which is downloaded first.
    RemoteArchive(Url),
}

/// A file in an archive.
pub(super) struct Member {
    name: String,
    offset: u64,
    length: u64,
}

/// Where files of a publisher are read from.
pub(super) struct Origin {
    /// Name of the index, relative to the base.
    index: String,
    base: Base,
}

enum Base {
    Directory(PathBuf),
    Archive {
        /// The URL that it was fetched from.
        url: Option<Url>,
        path: PathBuf,
        file: File,
        members: Vec<Member>,
    },
    Web(Url),
    Registry(Box<Repository>),
}

impl Source {
    /// Parses a source. `plain_http` permits a registry without TLS.
    ///
    /// # Errors
    /// When it is neither an existing file or directory, nor a usable URL.
    pub(super) fn parse(text: &str, plain_http: bool, environment: &Environment) -> Result<Self> {
        if let Some(name) = registry::name_in(text) {
            let base = Base::Registry(Box::new(Repository::parse(name, plain_http, environment)?));
            return Ok(Self::Index(Origin { index: INDEX.to_owned(), base }));
        }
        match Address::of("SOURCE", text).map_err(|error| Error { stage: Stage::Usage, ..error })? {
            Address::Url(url) => Ok(Self::of_url(url)),
            Address::File(path) => Self::of_path(&path),
        }
    }

    fn of_url(mut url: Url) -> Self {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let mut name = name.to_owned();
        if name.ends_with(".tar") {
            return Self::RemoteArchive(url);
        }
        let is_index = name.is_empty() || name.ends_with(".json");
        if name.is_empty() {
            INDEX.clone_into(&mut name);
            let path = format!("{}{INDEX}", url.path());
            url.set_path(&path);
        }
        let origin = Origin { index: name.clone(), base: Base::Web(url) };
        if is_index { Self::Index(origin) } else { Self::File(origin, name) }
    }

    fn of_path(path: &Path) -> Result<Self> {
        let open_error = |error: &io::Error| {
            Error::usage(format!("cannot open `{}`", path.display()))
                .caused_by(error)
                .hint("give an index, a directory with one, a .tar archive of it, or a plugin file")
        };
        let metadata = path.metadata().map_err(|error| open_error(&error))?;
        if metadata.is_dir() {
            let base = Base::Directory(path.to_owned());
            return Ok(Self::Index(Origin { index: INDEX.to_owned(), base }));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tar") {
            return Origin::archive(path, None).map(Self::Index);
        }
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let origin = Origin { index: name.clone(), base: Base::Directory(directory) };
        Ok(if name.ends_with(".json") { Self::Index(origin) } else { Self::File(origin, name) })
    }
}

impl Origin {
    /// The archive of a mirror at a path, and the URL that it was fetched from.
    ///
    /// # Errors
    /// When it is not an archive of the one accepted form.
    pub(super) fn archive(path: &Path, url: Option<Url>) -> Result<Self> {
        let display = url.as_ref().map_or_else(|| path.display().to_string(), display_url);
        let archive_error = |error: &(dyn std::error::Error + 'static)| {
            refused(format!("`{display}` is not an archive of a mirror"))
                .caused_by(error)
                .hint("give an uncompressed tar archive of the directory with `index.json`")
        };
        let file = open_regular(path).map_err(|error| archive_error(&error))?;
        let members = members_of(&file).map_err(|error| archive_error(&error))?;
        let base = Base::Archive { url, path: path.to_owned(), file, members };
        Ok(Self { index: INDEX.to_owned(), base })
    }

    /// Returns what is named in messages: the index, without passwords.
    pub(super) fn display(&self) -> String {
        match &self.base {
            Base::Directory(directory) => directory.join(&self.index).display().to_string(),
            Base::Archive { url: None, path, .. } => path.display().to_string(),
            Base::Archive { url: Some(url), .. } | Base::Web(url) => display_url(url),
            Base::Registry(repository) => repository.display(),
        }
    }

    /// Returns what is recorded for a later update: without password and query.
    pub(super) fn recorded(&self) -> String {
        let (Base::Web(url) | Base::Archive { url: Some(url), .. }) = &self.base else {
            return self.display();
        };
        let mut url = url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// Reads the index and its signature.
    ///
    /// # Errors
    /// When one of them is absent or cannot be read.
    pub(super) fn index(&self, downloader: &Downloader<'_>) -> Result<(Vec<u8>, String)> {
        let display = self.display();
        let index = self.document(&self.index, INDEX_LIMIT, downloader)?.ok_or_else(|| {
            refused(format!("no index was found at `{display}`"))
                .hint("check the address of the publisher's index")
        })?;
        let name = format!("{}{SIGNATURE}", self.index);
        let signature = self.document(&name, SMALL_LIMIT, downloader)?.ok_or_else(|| {
            refused(format!("the index at `{display}` has no signature (`{name}`)"))
                .hint("an index that is not signed is not used; a single plugin file is installed with --sha256")
        })?;
        Ok((index, String::from_utf8_lossy(&signature).into_owned()))
    }

    /// Reads the publisher's key beside the index, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn key(&self, downloader: &Downloader<'_>) -> Result<Option<String>> {
        let key = self.document(KEY, SMALL_LIMIT, downloader)?;
        Ok(key.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn document(
        &self,
        name: &str,
        limit: u64,
        downloader: &Downloader<'_>,
    ) -> Result<Option<Vec<u8>>> {
        match &self.base {
            Base::Directory(directory) => {
                let path = directory.join(name);
                match read_regular(&path, limit) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(cannot_read(&path, &error)),
                }
            }
            Base::Archive { path, file, members, .. } => {
                let Some(member) = members.iter().find(|member| member.name == name) else {
                    return Ok(None);
                };
                let mut bytes = Vec::new();
                let read = content(file, member)
                    .and_then(|content| content.take(limit).read_to_end(&mut bytes));
                read.map_err(|error| cannot_read(path, &error))?;
                Ok(Some(bytes))
            }
            Base::Web(_) => {
                let url = self.url(name)?;
                let reply = downloader.ask(&url, &[], limit)?;
                match reply.refusal {
                    None => Ok(Some(reply.body)),
                    Some(_) if matches!(reply.status, 404 | 410) => Ok(None),
                    Some(error) => Err(error),
                }
            }
            Base::Registry(repository) => repository.document(name, limit, downloader),
        }
    }

    /// Copies a file of at most `limit` bytes to a new path. Returns its length.
    ///
    /// # Errors
    /// When it is absent, longer, or cannot be read or written.
    pub(super) fn save(
        &self,
        location: &str,
        to: &Path,
        limit: u64,
        downloader: &Downloader<'_>,
    ) -> Result<u64> {
        let absent = || {
            refused(format!("`{}` has no file `{location}`", self.display()))
                .hint("ask the publisher, or copy the mirror again with all its files")
        };
        match &self.base {
            Base::Web(_) => downloader.fetch_whole(&self.url(location)?, &[], to, limit),
            _ if is_url(location) => {
                let url = Url::parse(location).map_err(|_| absent())?;
                downloader.fetch_whole(&url, &[], to, limit)
            }
            Base::Directory(directory) => {
                let path = directory.join(location);
                match open_regular(&path) {
                    Ok(file) => copy(file, to, limit, &path),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent()),
                    Err(error) => Err(cannot_read(&path, &error)),
                }
            }
            Base::Archive { path, file, members, .. } => {
                let member = members.iter().find(|member| member.name == location);
                let content = content(file, member.ok_or_else(absent)?);
                copy(content.map_err(|error| cannot_read(path, &error))?, to, limit, path)
            }
            Base::Registry(repository) => {
                repository.save(location, to, limit, downloader)?.ok_or_else(absent)
            }
        }
    }

    /// Returns the URL of a file beside the index. Relative ones take over user, password and query of the index: a
    /// signature in the query may cover the whole directory.
    fn url(&self, location: &str) -> Result<Url> {
        let Base::Web(base) = &self.base else {
            return Err(Error::new(Stage::Bug, "only a web server has URLs"));
        };
        let joined = base.join(location).map_err(|error| {
            refused(format!("`{location}` is not a usable location")).caused_by(&error)
        })?;
        if base.scheme() == "https" && joined.scheme() == "http" {
            let text = format!("`{}` leads from https to http", self.display());
            return Err(refused(text).hint("ask the publisher for an https address"));
        }
        let mut joined = joined;
        if !is_url(location) {
            joined.set_query(base.query());
        }
        Ok(joined)
    }
}

/// Reads the headers of an archive, which skips the contents. Fails when they are longer than any mirror's.
struct Headers<'a> {
    file: &'a File,
    left: u64,
}

impl io::Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| {
            io::Error::other(format!("its headers have more than {HEADERS_LIMIT} bytes"))
        })?;
        Ok(count)
    }
}

impl io::Seek for Headers<'_> {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.file.seek(place)
    }
}

/// Returns the regular files of an archive. What they contain is verified like that of any other source.
pub(super) fn members_of(file: &File) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    let length = file.metadata()?.len();
    let headers = Headers { file, left: HEADERS_LIMIT };
    for entry in tar::Archive::new(headers).entries_with_seek()? {
        let entry = entry?;
        if members.len() == MOST_MEMBERS {
            return Err(io::Error::other(format!("it has more than {MOST_MEMBERS} members")));
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            members.push(Member { name, offset, length: size });
        }
    }
    Ok(members)
}

/// Returns the name and the length of a member, and at most `limit` bytes of its content; for the fuzz targets.
pub(super) fn prefix_of(
    file: &File,
    member: &Member,
    limit: u64,
) -> Option<(String, u64, Vec<u8>)> {
    let mut bytes = Vec::new();
    content(file, member).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some((member.name.clone(), member.length, bytes))
}

/// Returns a reader of a member's content.
fn content(file: &File, member: &Member) -> io::Result<io::Take<File>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(member.offset))?;
    Ok(file.take(member.length))
}

/// Copies at most `limit` bytes to a new file. Returns the number of bytes.
fn copy(from: impl io::Read, to: &Path, limit: u64, path: &Path) -> Result<u64> {
    let write_error = |error: &io::Error| {
        Error::new(Stage::Disk, format!("cannot copy `{}` to `{}`", path.display(), to.display()))
            .caused_by(error)
    };
    let mut file = File::create_new(to).map_err(|error| write_error(&error))?;
    let copied = io::copy(&mut from.take(limit.saturating_add(1)), &mut file);
    let length = copied.map_err(|error| write_error(&error))?;
    if length > limit {
        let text = format!("`{}` has more than {limit} bytes", path.display());
        return Err(refused(text).hint("copy it again from where it came from"));
    }
    Ok(length)
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    refused(format!("cannot read `{}`", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Long names are read into memory before anything is verified.
    #[test]
    fn an_archive_with_an_endless_name_is_refused() {
        for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
            let mut file = tempfile::tempfile().unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(2 * HEADERS_LIMIT);
            header.set_entry_type(kind);
            header.set_cksum();
            file.write_all(header.as_bytes()).unwrap();
            file.set_len(3 * HEADERS_LIMIT).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let error = members_of(&file).err().unwrap();
            assert!(error.to_string().contains("headers"), "{kind:?}: {error}");
        }
    }
}

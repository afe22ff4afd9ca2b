//! Defines the error type of this crate: kind, context (path, offset, details), message, and source.
//! A new disk format adds no kind. The message never repeats the source, because callers print the whole
//! chain.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The kind of an error, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A file, or a file inside an ISO, does not exist.
    NotFound,
    /// The operating system reported an error for a read, a write, or another call.
    Io,
    /// The file system (or the quota) is full.
    NoSpace,
    /// The bytes violate their own format.
    Malformed,
    /// The data ends before an offset that its own tables refer to.
    Truncated,
    /// Valid, but not supported by this crate.
    Unsupported,
    /// A required program is missing, cannot be started, or failed by itself.
    Tool,
    /// The guest ran and failed, or ended without reporting success.
    Guest,
    /// A watchdog ended the guest.
    Timeout,
    /// Another process has the file open for writing.
    Busy,
    /// The file was written, replaced, or removed while it was read.
    Changed,
    /// The caller cancelled the operation.
    Cancelled,
}

/// An error with its kind, the object that it is about, and a hint.
///
/// `Display` prints the message and the object, but neither the source nor the hint.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    details: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error with a message: a lower-case fragment that names the object in backticks.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                path: None,
                offset: None,
                details: Vec::new(),
                hint: None,
                source: None,
            }),
        }
    }

    /// Creates an error from what the operating system reported for `path` during `action` ("cannot read").
    ///
    /// A full file system or quota becomes [`Kind::NoSpace`] with a hint, a missing file [`Kind::NotFound`],
    /// a file that ends early [`Kind::Truncated`], and everything else [`Kind::Io`].
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let kind = io_kind(source.kind());
        let error = Self::new(kind, action).at(path).caused_by(source);
        if kind == Kind::NoSpace {
            error.with_hint("free some space or choose another folder, then run again")
        } else {
            error
        }
    }

    /// Sets the file that the error is about.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.inner.path = Some(path.to_owned());
        self
    }

    /// Sets the offset in the file, in bytes.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.inner.offset = Some(offset);
        self
    }

    /// Adds a longer piece of evidence, such as the end of a log; not part of `Display`.
    #[must_use]
    pub fn with_detail(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.inner.details.push((name, text.into()));
        self
    }

    /// Sets the hint: what the user can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Sets the underlying error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Returns the hint, if the error has one.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Returns the file that the error is about.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Returns the offset in that file, in bytes.
    pub fn offset(&self) -> Option<u64> {
        self.inner.offset
    }

    /// Returns longer evidence as (name, text), for instance `("log", the last lines)`.
    pub fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.inner.details.iter().map(|(name, text)| (*name, text.as_str()))
    }
}

fn io_kind(kind: io::ErrorKind) -> Kind {
    if kind == io::ErrorKind::NotFound {
        Kind::NotFound
    } else if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        Kind::NoSpace
    } else if kind == io::ErrorKind::UnexpectedEof {
        Kind::Truncated
    } else {
        Kind::Io
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(path) = &self.inner.path {
            write!(f, " `{}`", path.display())?;
        }
        if let Some(offset) = self.inner.offset {
            write!(f, " at byte {offset}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_kind_and_a_hint() {
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let error = Error::io("cannot write", Path::new("/d/x.raw"), full);
        assert_eq!(error.kind(), Kind::NoSpace);
        assert!(error.hint().is_some());
        assert_eq!(error.path(), Some(Path::new("/d/x.raw")));
        let quota = io::Error::from_raw_os_error(rustix::io::Errno::DQUOT.raw_os_error());
        assert_eq!(Error::io("cannot write", Path::new("x"), quota).kind(), Kind::NoSpace);
    }

    #[test]
    fn the_text_names_the_object_and_leaves_the_source_to_the_chain() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::io("cannot open", Path::new("/d/x"), missing).at_offset(7);
        assert_eq!(error.to_string(), "cannot open `/d/x` at byte 7");
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.source().is_some());
    }

    #[test]
    fn details_stay_out_of_the_text() {
        let error = Error::new(Kind::Guest, "guest failed").with_detail("log", "line");
        assert_eq!(error.to_string(), "guest failed");
        assert_eq!(error.details().collect::<Vec<_>>(), [("log", "line")]);
    }
}

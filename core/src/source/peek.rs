//! Examines the source without downloading, unpacking or verifying it, so that everything else can be checked
//! early. Nothing is written.

use std::path::{Path, PathBuf};

use build_image_disk::{facts::Facts, format::GuestReader, packed};
use reqwest::Url;

use super::{
    SourceContext,
    address::Address,
    disk, not_accepted,
    open::{self, Named, last_segment},
    pipe::{self, STDIN_FILE},
    verify::Verifier,
};
use crate::{
    error::Result,
    installers,
    plan::{Source, Unread},
};

/// Number of bytes that are fetched from the start of a remote file: they contain the headers of all disk
/// formats, the volume descriptor of an ISO, and a GUID partition table.
const HEAD: u64 = 64 << 10;

/// Whether the start of a remote source is requested from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// Requests it, with one small ranged GET.
    Ask,
    /// Does not request it: the download follows anyway.
    Leave,
}

/// Returns the facts that are known before the source is downloaded: all facts of a local file that is not packed.
///
/// # Errors
/// When none or two sources are named, or the named one is refused.
pub(crate) fn peek(context: &SourceContext<'_>, remote: Remote) -> Result<Source> {
    let settings = context.settings;
    if let Some(object) = open::object(settings)? {
        return Ok(Source::Object(Box::new(object)));
    }
    if let Some(bundle) = open::bundle(settings)? {
        return Ok(Source::Bundle(bundle));
    }
    let (address, is_iso) = match open::named(settings)? {
        Named::Iso(address) => (address, true),
        Named::Disk(address) => (address, false),
        Named::Pipe => {
            Verifier::of_disks(context)?;
            // A plan reads nothing.
            if remote == Remote::Leave {
                pipe::refuse_terminal()?;
            }
            return Ok(unread(Path::new(STDIN_FILE), false, None));
        }
    };
    if is_iso {
        if let Address::File(path) = &address
            && let Some(error) = super::missing(path)
        {
            return Err(error);
        }
        installers::by_settings(settings)?;
        // An unusable key is reported before anything is downloaded.
        Verifier::new(context)?;
    }
    let path = match &address {
        Address::File(path) => path,
        Address::Url(url) => return unread_url(context, url, is_iso, remote),
    };
    if !is_iso {
        return local_disk(context, path);
    }
    // A build reads the source again, and warns then.
    let reporter = Some(context.reporter).filter(|_| remote == Remote::Ask);
    let mut further = Vec::new();
    for (setting, address) in open::further(settings)? {
        match address {
            Address::Url(_) => return Ok(unread(path, true, None)),
            Address::File(file) => further.push((setting, file)),
        }
    }
    open::local_installer(reporter, settings, path, further)
}

fn local_disk(context: &SourceContext<'_>, path: &Path) -> Result<Source> {
    let source_error = |error| not_accepted(path, error);
    if packed::wrapping(path).map_err(source_error)?.is_some() {
        return Ok(unread(path, false, None));
    }
    let format = context.settings.core().source.disk_format;
    let reader = GuestReader::open_as(path, format).map_err(source_error)?;
    disk::check(context.settings, path, None, &reader)?;
    let reader = disk::grown(context, path, reader)?;
    let facts = Facts::read(&reader).map_err(source_error)?;
    disk::check_whole(context, path, &reader, &facts)?;
    Ok(Source::Disk(disk::GivenDisk::unpacked(path, reader, facts)))
}

fn unread_url(
    context: &SourceContext<'_>,
    url: &Url,
    is_iso: bool,
    remote: Remote,
) -> Result<Source> {
    let name = PathBuf::from(last_segment(url));
    let size = match remote {
        Remote::Leave => None,
        Remote::Ask => {
            let head = context.downloader()?.fetch_head(url, HEAD)?;
            virtual_size(&head).filter(|_| !is_iso)
        }
    };
    Ok(unread(&name, is_iso, size))
}

/// Returns the size that the guest sees, if the header of a disk contains it (qcow2: bytes 24 to 31,
/// big-endian; QEMU's docs/interop/qcow2). The size of a packed or raw file is unknown: it depends on the
/// content.
fn virtual_size(head: &[u8]) -> Option<u64> {
    let size = head.get(24..32).filter(|_| head.starts_with(b"QFI\xfb"))?;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

fn unread(path: &Path, is_iso: bool, virtual_size: Option<u64>) -> Source {
    let is_packed = path
        .extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| !is_iso && disk::layer(ending).is_some());
    let stem = disk::stem(path, is_packed);
    Source::Unread(Unread { path: path.to_owned(), stem, is_iso, virtual_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_header_gives_the_size_of_a_remote_disk() {
        let mut head = vec![0; 512];
        assert_eq!(virtual_size(&head), None);
        head[..4].copy_from_slice(b"QFI\xfb");
        head[24..32].copy_from_slice(&(20_u64 << 30).to_be_bytes());
        assert_eq!(virtual_size(&head), Some(20 << 30));
        assert_eq!(virtual_size(&head[..30]), None);
    }

    #[test]
    fn names_of_unread_sources_have_no_suffixes() {
        for (name, is_iso, expected) in [
            ("debian-12.raw.xz", false, "debian-12"),
            ("debian-12.qcow2", false, "debian-12"),
            ("System-15.0.0-0.0.39.iso", true, "System-15.0.0-0.0.39"),
            (".gz", false, ".gz"),
        ] {
            let Source::Unread(found) = unread(Path::new(name), is_iso, None) else { panic!() };
            assert_eq!(found.stem, expected, "{name}");
        }
    }
}

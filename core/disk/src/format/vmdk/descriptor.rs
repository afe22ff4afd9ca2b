//! Parses the text that describes a VMDK: its create type and the files it consists of.
//! Source: VMware, "Virtual Disk Format 5.0", "The Descriptor File".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::header::SECTOR;
use crate::error::{Error, Kind};
use crate::format::image::Image;

/// Number of bytes of a file that [`is_descriptor`] needs.
pub(super) const HEAD: usize = 1024;
/// The usual first line.
const FIRST_LINE: &[u8] = b"# Disk DescriptorFile";
/// Maximum length of a separate descriptor in bytes; a descriptor with two thousand 2 GB extents has about
/// 100 KB.
const MAX_LEN: u64 = 1 << 20;
const NO_PARENT: &str = "ffffffff";

/// The create types, with the names that the probe reports.
const TYPES: [&str; 12] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
    "vmfsSparse",
    "vmfsThin",
    "seSparse",
    "fullDevice",
    "partitionedDevice",
    "custom",
];

/// The source of a range of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The bytes of a file beside the descriptor, from this offset. Names are bytes: descriptors have encodings.
    Flat { file: OsString, offset: u64 },
    /// A sparse extent in a file beside the descriptor.
    Sparse { file: OsString },
    /// Zeros.
    Zero,
}

/// Returns whether a file that begins with these bytes is a descriptor: the usual first line, or, like in QEMU, a
/// version as the first line that is neither empty nor a comment.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    if head.get(..FIRST_LINE.len()).is_some_and(|line| line.eq_ignore_ascii_case(FIRST_LINE)) {
        return true;
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    first.is_some_and(|line| [&b"version=1"[..], b"version=2", b"version=3"].contains(&line))
}

/// A parsed descriptor. Lengths are bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptor {
    pub(super) create_type: Option<&'static str>,
    pub(super) parent: Option<String>,
    pub(super) extents: Vec<(u64, Extent)>,
}

impl Descriptor {
    /// Reads a descriptor file.
    pub(super) fn of_file(image: &Image) -> Result<Self, Error> {
        if image.len > MAX_LEN {
            return Err(image.malformed(&format!("a VMDK descriptor of {} bytes", image.len)));
        }
        let text = text(image, 0, image.len)?;
        Self::parse(&text, true).map_err(|error| error.at(&image.path))
    }

    /// Reads the descriptor inside a sparse extent; `None` when it is empty, as in the extents of a disk in
    /// several files. Its extent lines are ignored: the only extent is the file itself, whatever its name was
    /// when it was written.
    pub(super) fn embedded(image: &Image, at: u64, len: u64) -> Result<Option<Self>, Error> {
        let text = text(image, at, len)?;
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        Self::parse(&text, false).map(Some).map_err(|error| error.at(&image.path))
    }

    fn parse(text: &[u8], with_extents: bool) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut has_parent = false;
        for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if with_extents && let Some(extent) = extent(line)? {
                found.extents.push(extent);
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "createType" => {
                    found.create_type = TYPES.into_iter().find(|name| *name == value);
                }
                "parentCID" => has_parent = !value.eq_ignore_ascii_case(NO_PARENT),
                "parentFileNameHint" => found.parent = Some(value.to_owned()),
                _ => {}
            }
        }
        found.parent =
            has_parent.then(|| found.parent.take().unwrap_or_else(|| "unknown".to_owned()));
        Ok(found)
    }
}

/// Reads `len` bytes of text, which ends at the first zero byte.
fn text(image: &Image, at: u64, len: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; crate::field::index(len)];
    image.read(&mut bytes, at)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

/// Parses an extent line: `RW 4192256 FLAT "name" 0`. `None` when the line is not an extent line.
fn extent(bytes: &[u8]) -> Result<Option<(u64, Extent)>, Error> {
    let line = String::from_utf8_lossy(bytes);
    let mut fields = line.split_whitespace();
    let access = fields.next().unwrap_or_default();
    if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
        return Ok(None);
    }
    let malformed = || {
        let excerpt: String = line.chars().take(100).collect();
        Error::new(Kind::Malformed, format!("`{excerpt}` is no extent of a disk, in"))
    };
    let sectors = fields.next().and_then(|field| field.parse::<u64>().ok());
    let len = sectors.and_then(|count| count.checked_mul(SECTOR)).ok_or_else(malformed)?;
    let kind = fields.next().ok_or_else(malformed)?;
    let kind = if access == "NOACCESS" { access } else { kind };
    if kind == "ZERO" {
        return Ok(Some((len, Extent::Zero)));
    }
    let name = bytes.split(|byte| *byte == b'"').nth(1).ok_or_else(malformed)?;
    let offset = line.splitn(3, '"').nth(2).unwrap_or_default().split_whitespace().next();
    let file = OsStr::from_bytes(name).to_owned();
    if name.is_empty()
        || name.contains(&b'/')
        || name.contains(&b'\\')
        || name == b".."
        || name == b"."
    {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the extent `{}` is not a file in the same directory, in", file.display()),
        )
        .with_hint("put the extents beside the descriptor and name them without a path"));
    }
    match kind {
        "FLAT" | "VMFS" => {
            let sectors = offset.map_or(Ok(0), str::parse::<u64>).map_err(|_| malformed())?;
            let offset = sectors.checked_mul(SECTOR).ok_or_else(malformed)?;
            Ok(Some((len, Extent::Flat { file, offset })))
        }
        "SPARSE" => Ok(Some((len, Extent::Sparse { file }))),
        other => Err(Error::new(
            Kind::Unsupported,
            format!("VMDK extents of type `{other}` are not read, in"),
        )
        .with_hint(
            "write a complete image with `qemu-img convert -O qcow2`, or export the disk as OVF",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vmware_writes_is_understood() {
        let text = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=123a\n\
            parentCID=ffffffff\nisNativeSnapshot=\"no\"\ncreateType=\"twoGbMaxExtentFlat\"\n\n\
            # Extent description\nRW 4192256 FLAT \"a disk-f001.vmdk\" 0\r\nRW 2048 ZERO\n\
            RDONLY 8 SPARSE \"b.vmdk\"\nRW 16 VMFS \"c.vmdk\"\n\n#DDB\nddb.adapterType = \"ide\"\n";
        let found = Descriptor::parse(text.as_bytes(), true).unwrap();
        assert_eq!((found.create_type, &found.parent), (Some("twoGbMaxExtentFlat"), &None));
        let flat = |file: &str| Extent::Flat { file: file.into(), offset: 0 };
        let sparse = Extent::Sparse { file: "b.vmdk".into() };
        assert_eq!(
            found.extents,
            [
                (4_192_256 * 512, flat("a disk-f001.vmdk")),
                (1 << 20, Extent::Zero),
                (4096, sparse),
                (8192, flat("c.vmdk")),
            ]
        );
        let child = "parentCID=12345678\nparentFileNameHint=\"base.vmdk\"";
        assert_eq!(
            Descriptor::parse(child.as_bytes(), true).unwrap().parent.as_deref(),
            Some("base.vmdk")
        );
    }

    #[test]
    fn names_are_bytes_and_comments_may_come_first() {
        let line = b"RW 16 FLAT \"K\xf6ln.vmdk\" 0";
        let (_, extent) = extent(line).unwrap().unwrap();
        let file = OsStr::from_bytes(b"K\xf6ln.vmdk").to_owned();
        assert_eq!(extent, Extent::Flat { file, offset: 0 });
        for (head, is) in [
            ("# Disk DescriptorFile\nversion=1", true),
            ("# disk descriptorfile", true),
            ("# another comment\n\n  # and one\r\nversion=1\r\nCID=1", true),
            ("version=3\n", true),
            ("version=4\n", false),
            ("version=10\n", false),
            ("# only a comment", false),
            ("text\nversion=1\n", false),
            ("", false),
        ] {
            assert_eq!(is_descriptor(head.as_bytes()), is, "{head}");
        }
    }

    #[test]
    fn extents_that_cannot_be_are_refused() {
        for (line, kind) in [
            ("RW", Kind::Malformed),
            ("RW many FLAT \"x\" 0", Kind::Malformed),
            ("RW 18446744073709551615 FLAT \"x\" 0", Kind::Malformed),
            ("RW 1 FLAT x 0", Kind::Malformed),
            ("RW 1 FLAT \"x\" zero", Kind::Malformed),
            ("RW 1 FLAT \"x\" 99999999999999999999", Kind::Malformed),
            ("RW 1 FLAT \"/etc/passwd\" 0", Kind::Unsupported),
            ("RW 1 FLAT \"..\" 0", Kind::Unsupported),
            ("RW 1 FLAT \"a\\b\" 0", Kind::Unsupported),
            ("RW 1 FLAT \"\" 0", Kind::Unsupported),
            ("RW 1 VMFSSPARSE \"x\"", Kind::Unsupported),
            ("RW 1 SESPARSE \"x\"", Kind::Unsupported),
            ("RW 1 VMFSRDM \"x\"", Kind::Unsupported),
            ("NOACCESS 1 FLAT \"x\" 0", Kind::Unsupported),
        ] {
            let error = Descriptor::parse(line.as_bytes(), true).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}: {error}");
        }
    }
}

//! Parses the text that describes a VMDK: its create type and the files it consists of.
//! Source: VMware, "Virtual Disk Format 5.0", "The Descriptor File".

use super::header::SECTOR;
use crate::error::{Error, Kind};
use crate::format::image::Image;

pub(super) const FIRST_LINE: &[u8; 21] = b"# Disk DescriptorFile";
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
    /// The bytes of a file beside the descriptor, from this offset.
    Flat { file: String, offset: u64 },
    /// A sparse extent in a file beside the descriptor.
    Sparse { file: String },
    /// Zeros.
    Zero,
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
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse(&text, false).map(Some).map_err(|error| error.at(&image.path))
    }

    fn parse(text: &str, with_extents: bool) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut has_parent = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if with_extents && let Some(extent) = extent(line)? {
                found.extents.push(extent);
                continue;
            }
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
fn text(image: &Image, at: u64, len: u64) -> Result<String, Error> {
    let mut bytes = vec![0; crate::field::index(len)];
    image.read(&mut bytes, at)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Parses an extent line: `RW 4192256 FLAT "name" 0`. `None` when the line is not an extent line.
fn extent(line: &str) -> Result<Option<(u64, Extent)>, Error> {
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
    let mut quoted = line.splitn(3, '"').skip(1);
    let file = quoted.next().ok_or_else(malformed)?.to_owned();
    let offset = quoted.next().unwrap_or_default().split_whitespace().next();
    if file.is_empty() || file.contains(['/', '\\']) || file == ".." || file == "." {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the extent `{file}` is not a file in the same folder, in"),
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
        let found = Descriptor::parse(text, true).unwrap();
        assert_eq!((found.create_type, &found.parent), (Some("twoGbMaxExtentFlat"), &None));
        let flat = |file: &str| Extent::Flat { file: file.to_owned(), offset: 0 };
        let sparse = Extent::Sparse { file: "b.vmdk".to_owned() };
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
        assert_eq!(Descriptor::parse(child, true).unwrap().parent.as_deref(), Some("base.vmdk"));
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
            let error = Descriptor::parse(line, true).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}: {error}");
        }
    }
}

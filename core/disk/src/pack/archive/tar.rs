//! Builds headers of tar archives. Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual,
//! "Basic Tar Format" (old GNU magic, base-256 sizes).

use crate::error::{Error, Kind};
use crate::view::Stamp;

/// The length of a header and the unit of padding, in bytes.
pub(in crate::pack) const BLOCK: u64 = 512;
/// Archives are padded to records of this size in bytes, as by tar without options.
const RECORD: u64 = 20 * BLOCK;
/// Maximum length of a name in bytes.
pub(super) const LONGEST_NAME: usize = 100;
/// The first size that eleven octal digits cannot represent: 8 GiB.
const FIRST_LARGE: u64 = 1 << 33;

/// The format of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pack) enum Flavour {
    /// `tar --format=oldgnu`.
    OldGnu,
    /// POSIX; sizes from 8 GiB on use the GNU encoding, as every tar writes and reads them.
    Ustar,
}

/// Builds the header of a regular file, mode 644, owner 0:0.
pub(in crate::pack) fn header(
    name: &str,
    size: u64,
    flavour: Flavour,
    stamp: &Stamp,
) -> Result<[u8; 512], Error> {
    check_name(name)?;
    let mut out = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < FIRST_LARGE {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80]);
        put(128, &size.to_be_bytes());
    }
    let time = stamp.unix_seconds().min(FIRST_LARGE - 1);
    put(136, format!("{time:011o}\0").as_bytes());
    put(148, b"        "); // the checksum counts itself as blanks
    put(156, b"0");
    match flavour {
        Flavour::OldGnu => put(257, b"ustar  \0"),
        Flavour::Ustar => {
            put(257, b"ustar\x0000");
            put(329, b"0000000\x000000000\0");
        }
    }
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = out.iter().map(|byte| u32::from(*byte)).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(out)
}

/// Refuses names that an archive cannot store or that would leave a directory.
pub(in crate::pack) fn check_name(name: &str) -> Result<(), Error> {
    let odd = |c: char| c == '/' || c == '\\' || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.contains(odd) {
        let message = format!("`{name}` is not a name for a member of an archive");
        return Err(Error::new(Kind::Unsupported, message).with_hint("use a plain file name"));
    }
    if name.len() > LONGEST_NAME {
        let message = format!("`{name}` is too long for a member of an archive");
        let hint = format!("use a name of at most {LONGEST_NAME} bytes");
        return Err(Error::new(Kind::Unsupported, message).with_hint(hint));
    }
    Ok(())
}

/// Returns the number of zeros after a member of `size` bytes.
pub(in crate::pack) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// Returns the number of zeros after the last member of an archive of `end` bytes: two blocks, then up to a
/// whole record.
pub(in crate::pack) fn trailer(end: u64) -> u64 {
    (end + 2 * BLOCK).next_multiple_of(RECORD) - end
}

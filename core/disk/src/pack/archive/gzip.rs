//! Writes a gzipped tar archive with one member. Source: RFC 1952.

use std::path::Path;
use std::sync::Arc;

use super::tar::{self, Flavour};
use super::{ArchiveOptions, Member};
use crate::error::Error;
use crate::field::index;
use crate::pack::control::{Control, Progress};
use crate::pack::deflate::{deflate, longest};
use crate::pack::growing::{Growing, Outline};
use crate::pack::output::Output;
use crate::pack::steps::Segment;

/// Bytes before and after the deflate stream.
const FRAME: u64 = 10 + 8;

/// Starts to write a gzipped tar archive with one member, mode 644, owner 0:0, in the header format of old
/// GNU tar (`tar --format=oldgnu`), which every importer of such archives supports. The bytes become final in
/// order. Long runs of zeros need almost no time and one thousandth of their length.
pub fn tar_gz(
    member: Member,
    options: &ArchiveOptions,
    dest: &Path,
    control: &Control,
) -> Result<Growing, Error> {
    let content = member.content.segment();
    let size = content.len();
    let header = tar::header(&member.name, size, Flavour::OldGnu, &options.stamp)?;
    let padding = tar::padding(size);
    let zeros = padding + tar::trailer(tar::BLOCK + size + padding);
    let segments = [bytes(&header), content, bytes(&vec![0; index(zeros)])];
    let total = segments.iter().map(Segment::len).sum();
    let outline = Outline {
        length_limit: longest(total) + FRAME,
        deferred_prefix_len: 0,
        digests: options.digests,
    };
    let (level, time) = (options.level, options.stamp.unix_seconds());
    Growing::start(dest, outline, control, move |out| {
        out.append(&gzip_header(time))?;
        let mut progress = Progress { done: 0, total };
        let sum = deflate(out, &segments, level, &mut progress)?;
        out.append(&sum.crc.to_le_bytes())?;
        append_length(out, sum.plain)
    })
}

fn bytes(bytes: &[u8]) -> Segment {
    Segment::Bytes(Arc::from(bytes))
}

/// Builds the header: deflate, no flags, the time (0 if it does not fit), no hint about the level, Unix.
fn gzip_header(unix_seconds: u64) -> [u8; 10] {
    let [a, b, c, d] = u32::try_from(unix_seconds).unwrap_or(0).to_le_bytes();
    [0x1f, 0x8b, 8, 0, a, b, c, d, 0, 3]
}

/// Appends the length modulo 2^32, the end of the trailer.
fn append_length(out: &mut Output, plain: u64) -> Result<(), Error> {
    out.append(&plain.to_le_bytes()[..4])
}

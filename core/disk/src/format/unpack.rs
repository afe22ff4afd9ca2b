//! Decompresses one cluster or grain. Both compressions are limited by the room given: what would
//! not fit is never made.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};
use ruzstd::decoding::StreamingDecoder;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Largest window of a zstd frame; 8 MiB is what every decoder must take (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW: u64 = 8 << 20;

/// How a cluster is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Deflate without a header (qcow2); RFC 1951.
    Deflate,
    /// Deflate in a zlib stream (VMDK); RFC 1950.
    Zlib,
    /// A zstd frame (qcow2); RFC 8878.
    Zstd,
}

/// Unpacks into `room` and returns how much of it was filled. Bytes behind the packed stream are
/// ignored: the caller knows its length in sectors only.
pub(super) fn unpack(packing: Packing, packed: &[u8], room: &mut [u8]) -> Result<usize, Cause> {
    match packing {
        Packing::Deflate => inflate(packed, room, false),
        Packing::Zlib => inflate(packed, room, true),
        Packing::Zstd => {
            let mut decoder = StreamingDecoder::new_with_max_window_size(packed, ZSTD_WINDOW)?;
            let mut done = 0;
            while done < room.len() {
                match decoder.read(&mut room[done..])? {
                    0 => break,
                    more => done += more,
                }
            }
            Ok(done)
        }
    }
}

fn inflate(packed: &[u8], room: &mut [u8], header: bool) -> Result<usize, Cause> {
    let mut inflater = Decompress::new(header);
    inflater.decompress(packed, room, FlushDecompress::Finish)?;
    Ok(usize::try_from(inflater.total_out())?)
}

//! Decompresses one cluster or grain. The output of both methods is limited by the buffer; anything beyond it
//! is not decompressed.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};
use ruzstd::decoding::StreamingDecoder;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Maximum window of a zstd frame; every decoder must support 8 MiB (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW: u64 = 8 << 20;

/// The compression of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Deflate without a header (qcow2); RFC 1951.
    Deflate,
    /// Deflate in a zlib stream (VMDK); RFC 1950.
    Zlib,
    /// A zstd frame (qcow2); RFC 8878.
    Zstd,
}

/// Decompresses into `room` and returns the number of bytes written. Bytes after the packed stream are
/// ignored, because the caller knows its length only in sectors.
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

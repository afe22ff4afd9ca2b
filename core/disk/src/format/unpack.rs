//! Decompresses one cluster or grain. The output of both methods is limited by the buffer; anything beyond it
//! is not decompressed.

use flate2::{Decompress, FlushDecompress};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Base-2 logarithm of the maximum window of a zstd frame; every decoder must support 8 MiB (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_LOG: u32 = 23;

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
        Packing::Zstd => decompress(packed, room),
    }
}

fn decompress(packed: &[u8], room: &mut [u8]) -> Result<usize, Cause> {
    let zstd_error = |code| Cause::from(zstd_safe::get_error_name(code));
    let mut decoder = DCtx::try_create().ok_or("no memory for a zstd decoder")?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(zstd_error)?;
    let most = room.len();
    let (mut input, mut output) = (InBuffer::around(packed), OutBuffer::around(room));
    loop {
        let before = (input.pos(), output.pos());
        let left = decoder.decompress_stream(&mut output, &mut input).map_err(zstd_error)?;
        if left == 0 || output.pos() == most {
            return Ok(output.pos());
        }
        if (input.pos(), output.pos()) == before {
            return Err("the zstd frame ends too early".into());
        }
    }
}

fn inflate(packed: &[u8], room: &mut [u8], header: bool) -> Result<usize, Cause> {
    let mut inflater = Decompress::new(header);
    inflater.decompress(packed, room, FlushDecompress::Finish)?;
    Ok(usize::try_from(inflater.total_out())?)
}

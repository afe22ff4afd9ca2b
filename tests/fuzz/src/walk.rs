//! Reads a disk at its start, extent by extent, in its middle and at its end.

use std::path::Path;

use build_image_disk::{GuestReader, probe};

const EXTENTS: usize = 64;
const PIECE: usize = 8 << 10;

/// Probes and opens a file, and reads from it when it is a disk.
pub fn image(path: &Path) {
    let Ok(reader) = GuestReader::open(path) else {
        // An image that cannot be opened, such as a differencing image, can still be probed.
        let _ = probe(path);
        return;
    };
    let probed = reader.probe();
    assert_eq!(probed.virtual_size, reader.stored_size());
    assert!(probed.backing_file.is_none() && !probed.encrypted);
    disk(&reader);
}

/// Reads from a disk. It must never return more than it has, and must return zeros for the extents it reports as
/// zero.
pub fn disk(reader: &GuestReader) {
    let size = reader.virtual_size();
    let mut buffer = vec![0xa5; PIECE];
    let mut at = 0;
    for _ in 0..EXTENTS {
        let Ok(Some(extent)) = reader.extent_at(at) else { break };
        assert!(extent.len > 0 && extent.len <= size - at, "extent of {} at {at}", extent.len);
        let wanted = usize::try_from(extent.len).unwrap_or(PIECE).min(PIECE);
        buffer[..wanted].fill(0xa5);
        if let Ok(read) = reader.read_at(&mut buffer[..wanted], at) {
            assert_eq!(read, wanted);
            assert!(
                !extent.zero || buffer[..wanted].iter().all(|byte| *byte == 0),
                "zeros at {at}"
            );
        }
        at += extent.len;
    }
    for place in [size / 2 + 1, size.saturating_sub(513), size, u64::MAX] {
        if let Ok(read) = reader.read_at(&mut buffer, place) {
            assert!(read as u64 <= size.saturating_sub(place));
        }
        let _ = reader.extent_at(place);
    }
}

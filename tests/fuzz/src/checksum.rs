//! Corrects the checksums of a VHDX, of a GUID partition table, and of a write-ahead log of SQLite. An input of the first
//! two whose length is odd keeps its own checksums.

use crc_fast::{CrcAlgorithm, checksum};

/// The pieces of a file: offset, bytes.
pub type Pieces = Vec<(u64, Vec<u8>)>;

/// The bytes of a range of the file, zeros outside of the pieces.
fn collect(pieces: &Pieces, at: u64, len: usize) -> Vec<u8> {
    let mut found = vec![0; len];
    for (offset, bytes) in pieces {
        for (position, byte) in bytes.iter().enumerate() {
            let place = (offset + position as u64).wrapping_sub(at);
            if let Some(slot) = usize::try_from(place).ok().and_then(|place| found.get_mut(place)) {
                *slot = *byte;
            }
        }
    }
    found
}

fn crc(algorithm: CrcAlgorithm, bytes: &[u8]) -> [u8; 4] {
    u32::try_from(checksum(algorithm, bytes)).expect("a CRC of 32 bits").to_le_bytes()
}

/// Both headers and both region tables: CRC-32C of the structure with its own field zero, [MS-VHDX] 2.2.
pub fn vhdx(pieces: &mut Pieces) {
    for (at, len) in
        [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)]
    {
        let mut raw = collect(pieces, at, len);
        if raw.iter().all(|byte| *byte == 0) {
            continue;
        }
        raw[4..8].fill(0);
        let sum = crc(CrcAlgorithm::Crc32Iscsi, &raw);
        // A later piece overwrites an earlier one.
        pieces.push((at, [raw[..4].to_vec(), sum.to_vec()].concat()));
    }
}

/// The header in sector 1 and the table it names: CRC-32, UEFI 2.10, 5.3.2.
pub fn gpt(pieces: &mut Pieces) {
    for sector in [512_u64, 4096] {
        let mut header = collect(pieces, sector, 512);
        let number =
            |at: usize| u64::from(u32::from_le_bytes(header[at..at + 4].try_into().unwrap()));
        let table = u64::from_le_bytes(header[72..80].try_into().unwrap());
        let bytes = number(80) * number(84);
        let len = usize::try_from(number(12)).expect("64 bits");
        if header[..8] != *b"EFI PART" || bytes > 1 << 20 || !(92..=512).contains(&len) {
            continue;
        }
        if let Some(table) = table.checked_mul(sector) {
            let entries = collect(pieces, table, usize::try_from(bytes).expect("64 bits"));
            header[88..92].copy_from_slice(&crc(CrcAlgorithm::Crc32IsoHdlc, &entries));
        }
        header[16..20].fill(0);
        let sum = crc(CrcAlgorithm::Crc32IsoHdlc, &header[..len]);
        header[16..20].copy_from_slice(&sum);
        pieces.push((sector, header));
    }
}

/// The header and the frames of a write-ahead log, which all get the salts of the header: SQLite, "Database File
/// Format", 4.2.
pub fn write_ahead_log(log: &mut [u8]) {
    let Some((header, frames)) = log.split_at_mut_checked(32) else { return };
    let is_big_endian = header[3] & 1 == 1;
    let page = u32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
    let mut sum = (0_u32, 0_u32);
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            let word = |raw: &[u8]| {
                let raw = raw.try_into().expect("four bytes");
                if is_big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
            };
            sum.0 = sum.0.wrapping_add(word(&pair[..4])).wrapping_add(sum.1);
            sum.1 = sum.1.wrapping_add(word(&pair[4..])).wrapping_add(sum.0);
        }
        [sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat()
    };
    let of_header = add(&header[..24]);
    header[24..].copy_from_slice(&of_header);
    for frame in frames.chunks_exact_mut(24 + (page as usize).min(1 << 16)) {
        let (head, content) = frame.split_at_mut(24);
        head[8..16].copy_from_slice(&header[16..24]);
        add(&head[..8]);
        let of_frame = add(content);
        head[16..].copy_from_slice(&of_frame);
    }
}

/// Corrects the checksums of tar headers: eight bytes at this place, which count as blanks.
pub fn tar_headers(pieces: &mut Vec<(u64, Vec<u8>)>) {
    const SUM: std::ops::Range<usize> = 148..156;
    for (_, bytes) in pieces {
        let Some(header) = bytes.get_mut(..512) else { continue };
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

//! Corrects the CRCs of a VHDX and of a GUID partition table. An input whose length is odd keeps its own CRCs.

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

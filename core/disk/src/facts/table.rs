//! Reads partition tables. Sources: UEFI 2.10 section 5.2 (MBR) and 5.3 (GPT); the Discoverable Partitions
//! Specification for the types of root and /usr partitions.

use crc_fast::{CrcAlgorithm, checksum};

use super::Architecture;
use crate::error::Error;
use crate::field::{index, le32, le64};
use crate::format::GuestReader;

/// Sector sizes in use; the partition table of a disk with 4096-byte sectors counts in them.
const SECTORS: [u64; 2] = [512, 4096];
/// Maximum length of a table in bytes. The usual table has 128 entries of 128 bytes; much larger tables are
/// valid but do not occur in practice.
const MAX_TABLE: u64 = 1 << 20;
const BOOT_CODE: std::ops::Range<usize> = 0..440;
const ENTRIES: std::ops::Range<usize> = 446..510;
const PROTECTIVE: u8 = 0xee;
const EFI_SYSTEM: u8 = 0xef;
/// Types of an extended partition, which holds logical ones.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Maximum number of logical partitions that are read; the kernel reads about as many.
const MAX_LOGICAL: u32 = 60;
const ACTIVE: u8 = 0x80;
/// Offset of the signature of a disk in its boot record.
const SIGNATURE: usize = 440;

/// Partition types by GUID, in its printed form.
const TYPES: [(u128, Role); 10] = [
    (0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b, Role::EfiSystem),
    (0x2168_6148_6449_6e6f_744e_6565_6445_4649, Role::BiosBoot),
    (0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709, Role::System(Architecture::X86_64)),
    (0x8484_680c_9521_48c6_9c11_b072_0656_f69e, Role::System(Architecture::X86_64)),
    (0x4447_9540_f297_41b2_9af7_d131_d5f0_458a, Role::System(Architecture::I386)),
    (0x7525_0d76_8cc6_458e_bd66_bd47_cc81_a812, Role::System(Architecture::I386)),
    (0xb921_b045_1df0_41c3_af44_4c6f_280d_3fae, Role::System(Architecture::Aarch64)),
    (0xb0e0_1050_ee5f_4390_949a_9101_b171_04e9, Role::System(Architecture::Aarch64)),
    (0x72ec_70a6_cf74_40e6_bd49_4bda_08e8_f224, Role::System(Architecture::Riscv64)),
    (0xbeae_c34b_8442_439b_a40b_9843_81ed_097d, Role::System(Architecture::Riscv64)),
];

/// A partitioning scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A GUID partition table.
    Gpt,
    /// A boot record with at least one partition.
    Mbr,
    /// No partitions: a bare file system, or an empty disk.
    None,
}

impl Scheme {
    /// Returns the name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
            Self::None => "no partition table",
        }
    }
}

/// The role of a partition in booting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// UEFI searches here for boot loaders.
    EfiSystem,
    /// Holds the BIOS boot loader of a GPT disk.
    BiosBoot,
    /// The root or /usr file system for this architecture.
    System(Architecture),
    /// Anything else.
    Other,
}

/// A partition. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The number, counted from 1.
    pub number: u32,
    /// The start offset.
    pub start: u64,
    /// The length.
    pub len: u64,
    /// The role.
    pub role: Role,
    /// What distinguishes the partition from those of other disks.
    pub identity: Identity,
    /// Whether the boot record marks the partition as active, which some boot records need.
    pub active: bool,
}

impl Partition {
    /// Returns the PARTUUID as Linux prints it: a GUID, or the signature of the disk and the number.
    pub fn partuuid(&self) -> String {
        match self.identity {
            Identity::Guid(guid) => {
                let text = format!("{guid:032x}");
                let (a, b, c, d) = (&text[..8], &text[8..12], &text[12..16], &text[16..20]);
                format!("{a}-{b}-{c}-{d}-{}", &text[20..])
            }
            Identity::Signature(signature) => format!("{signature:08x}-{:02x}", self.number),
        }
    }
}

/// The identity of a partition, from which its PARTUUID is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The unique GUID of a GUID partition table, as it is printed.
    Guid(u128),
    /// The signature of the disk in its boot record.
    Signature(u32),
}

/// The content of the partition tables.
pub(super) struct Found {
    pub(super) scheme: Scheme,
    pub(super) sector: u64,
    pub(super) partitions: Vec<Partition>,
    pub(super) boot_code: bool,
    /// The start of the extended partition.
    extended: Option<u64>,
    /// The end of the backup of a GUID partition table, according to the table.
    pub(super) backup_end: Option<u64>,
    pub(super) remarks: Vec<String>,
}

impl Found {
    pub(super) fn has(&self, role: Role) -> bool {
        self.partitions.iter().any(|partition| partition.role == role)
    }
}

/// Reads the boot record, the GUID partition table, or its backup.
pub(super) fn read(disk: &GuestReader) -> Result<Found, Error> {
    let mut record = [0; 512];
    disk.read_at(&mut record, 0)?;
    let signed = record[510..] == [0x55, 0xaa];
    let mut found = Found {
        scheme: Scheme::None,
        sector: SECTORS[0],
        partitions: Vec::new(),
        boot_code: signed && record[BOOT_CODE].iter().any(|byte| *byte != 0),
        extended: None,
        backup_end: None,
        remarks: Vec::new(),
    };
    let entries = &record[ENTRIES];
    let protective = signed && entries.chunks(16).any(|entry| entry[4] == PROTECTIVE);
    if gpt(disk, &mut found, protective)? {
        found.scheme = Scheme::Gpt;
    } else if signed && mbr(&record, &mut found) {
        found.scheme = Scheme::Mbr;
        logical(disk, le32(&record, SIGNATURE), &mut found)?;
    }
    Ok(found)
}

/// Adds the partitions of a boot record to `found`; returns `false` if it has none.
fn mbr(record: &[u8], found: &mut Found) -> bool {
    let entries = &record[ENTRIES];
    // Byte 0 of an entry is 0x00 or 0x80, byte 4 is the type (0 = unused). Text or code does not match.
    if entries.chunks(16).any(|entry| entry[0] & 0x7f != 0) {
        return false;
    }
    for (entry, number) in entries.chunks(16).zip(1..) {
        let (start, len) = (u64::from(le32(entry, 8)) * 512, u64::from(le32(entry, 12)) * 512);
        if entry[4] == 0 || entry[4] == PROTECTIVE || len == 0 {
            continue;
        }
        let role = if entry[4] == EFI_SYSTEM { Role::EfiSystem } else { Role::Other };
        if EXTENDED.contains(&entry[4]) {
            found.extended = Some(start);
        }
        let identity = Identity::Signature(le32(record, SIGNATURE));
        let active = entry[0] == ACTIVE;
        found.partitions.push(Partition { number, start, len, role, identity, active });
    }
    !found.partitions.is_empty()
}

/// Adds the logical partitions, which are numbered from 5. Each has a record with the next one's place; the
/// number of records is limited, so a loop ends.
fn logical(disk: &GuestReader, signature: u32, found: &mut Found) -> Result<(), Error> {
    let Some(extended) = found.extended else { return Ok(()) };
    let mut place = extended;
    for number in 5..5 + MAX_LOGICAL {
        let mut record = [0; 512];
        disk.read_at(&mut record, place)?;
        if record[510..] != [0x55, 0xaa] {
            return Ok(());
        }
        let entry = &record[ENTRIES];
        // The partition is relative to its record, the next record to the extended partition.
        let (start, len) = (u64::from(le32(entry, 8)) * 512, u64::from(le32(entry, 12)) * 512);
        if entry[4] == 0 || len == 0 {
            return Ok(());
        }
        found.partitions.push(Partition {
            number,
            start: place + start,
            len,
            role: if entry[4] == EFI_SYSTEM { Role::EfiSystem } else { Role::Other },
            identity: Identity::Signature(signature),
            active: false,
        });
        let next = &entry[16..];
        if !EXTENDED.contains(&next[4]) {
            return Ok(());
        }
        place = extended + u64::from(le32(next, 8)) * 512;
    }
    Ok(())
}

/// Adds the partitions of a GUID partition table or its backup to `found`; returns `false` when neither is
/// intact.
fn gpt(disk: &GuestReader, found: &mut Found, protective: bool) -> Result<bool, Error> {
    let mut damaged = false;
    for sector in SECTORS {
        let last = (disk.virtual_size() / sector).saturating_sub(1) * sector;
        // If the disk was enlarged, the backup is at the end of the stored part, not at the end of the disk.
        let stored = (disk.stored_size() / sector).saturating_sub(1) * sector;
        for (place, backup) in [(sector, false), (last, true), (stored, true)] {
            if place < sector || backup && !(protective || damaged) {
                continue;
            }
            match header(disk, place, sector)? {
                Header::Absent => {}
                Header::Damaged => damaged = true,
                Header::Whole { partitions, other } => {
                    found.sector = sector;
                    found.partitions = partitions;
                    if backup {
                        let text = "the partition table is damaged; its backup was read instead";
                        found.remarks.push(text.to_owned());
                    } else {
                        found.backup_end = other.checked_add(sector);
                    }
                    return Ok(true);
                }
            }
        }
    }
    if damaged || protective {
        let text = "the GUID partition table is damaged or missing, and so is its backup";
        found.remarks.push(text.to_owned());
    }
    Ok(false)
}

enum Header {
    Absent,
    Damaged,
    Whole {
        partitions: Vec<Partition>,
        /// Offset of the other copy of the header, bytes.
        other: u64,
    },
}

/// Computes the CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc32IsoHdlc, bytes)
}

fn header(disk: &GuestReader, place: u64, sector: u64) -> Result<Header, Error> {
    let mut raw = [0; 512];
    disk.read_at(&mut raw, place)?;
    if raw[..8] != *b"EFI PART" {
        return Ok(Header::Absent);
    }
    let len = index(u64::from(le32(&raw, 12)));
    let stored = u64::from(le32(&raw, 16));
    raw[16..20].fill(0);
    if !(92..=512).contains(&len) || crc32(&raw[..len]) != stored {
        return Ok(Header::Damaged);
    }
    let (count, size) = (u64::from(le32(&raw, 80)), u64::from(le32(&raw, 84)));
    let table = le64(&raw, 72).checked_mul(sector);
    let bytes = count * size;
    if size < 128 || !size.is_multiple_of(8) || bytes > MAX_TABLE {
        return Ok(Header::Damaged);
    }
    let mut entries = vec![0; index(bytes)];
    let Some(table) = table else { return Ok(Header::Damaged) };
    let got = disk.read_at(&mut entries, table)?;
    if got != entries.len() || crc32(&entries) != u64::from(le32(&raw, 88)) {
        return Ok(Header::Damaged);
    }
    let used = entries.chunks_exact(index(size)).zip(1..);
    let used = used.filter(|(entry, _)| entry[..16].iter().any(|byte| *byte != 0));
    let partitions = used.filter_map(|(entry, number)| partition(entry, number, sector)).collect();
    Ok(Header::Whole { partitions, other: le64(&raw, 32).saturating_mul(sector) })
}

fn partition(entry: &[u8], number: u32, sector: u64) -> Option<Partition> {
    let start = le64(entry, 32).checked_mul(sector)?;
    let end = le64(entry, 40).checked_add(1)?.checked_mul(sector)?;
    let len = end.checked_sub(start).filter(|len| *len > 0)?;
    let partition_type = TYPES.into_iter().find(|(guid, _)| stored_guid(*guid) == entry[..16]);
    Some(Partition {
        number,
        start,
        len,
        role: partition_type.map_or(Role::Other, |(_, role)| role),
        identity: Identity::Guid(printed_guid(&entry[16..32])),
        active: false,
    })
}

/// Returns a stored GUID as it is printed.
fn printed_guid(stored: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(stored);
    // Both orders are the same exchange of bytes.
    u128::from_be_bytes(stored_guid(u128::from_be_bytes(bytes)))
}

/// The first three groups of a GUID are stored with the least significant byte first.
fn stored_guid(printed: u128) -> [u8; 16] {
    let mut bytes = printed.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

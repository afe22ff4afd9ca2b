//! Recognises Windows by what is outside of its NTFS file system, whose files are not read: the boot manager on the EFI
//! system partition, or the boot record of the active partition. Sources: Microsoft, "UEFI/GPT-based hard drive
//! partitions"; the boot records that `bootsect /nt60` and `/nt52` write, which name the file that they load.
//!
//! A partition that Windows has formatted has such a boot record also if it holds only data: it counts on the active
//! partition alone.

use build_image_disk::facts::{Facts, Scheme};

use super::pe;
use crate::model::{Evidence, VolumeFacts};
use crate::source::Source;
use crate::tree::Mounted;

/// The boot manager that UEFI starts.
const MANAGER: &str = "/EFI/Microsoft/Boot/bootmgfw.efi";
/// Contents that the system's partition may have, with the names of `blkid`.
const SYSTEM: [&str; 2] = ["ntfs", "BitLocker"];
/// Texts of boot records: of Windows Vista and later, and of earlier ones.
const LOADERS: [&[u8]; 2] = [b"BOOTMGR", b"NTLDR"];
/// Length of a boot record in bytes.
const RECORD: usize = 512;

/// Returns what shows that the disk has Windows.
pub(crate) fn find<'a>(
    source: &Source,
    facts: &Facts,
    volumes: &[VolumeFacts],
    mounted: impl IntoIterator<Item = &'a Mounted>,
) -> Option<Evidence> {
    let is_system = |volume: &&VolumeFacts| SYSTEM.contains(&volume.content.as_str());
    volumes.iter().find(is_system)?;
    let is_program = |one: &&Mounted| {
        one.is_esp && one.head(MANAGER, pe::HEAD).is_some_and(|head| pe::parse(&head).is_some())
    };
    if let Some(system) = mounted.into_iter().find(is_program) {
        return Some(system.evidence(MANAGER));
    }
    if facts.scheme != Scheme::Mbr {
        return None;
    }
    let active = facts.partitions.iter().filter(|partition| partition.active);
    active.into_iter().find_map(|partition| {
        let name = format!("partition {}", partition.number);
        volumes.iter().filter(is_system).find(|volume| volume.name == name)?;
        let mut record = [0; RECORD];
        source.read(&mut record, partition.start).ok()?;
        let has = |text: &[u8]| record.windows(text.len()).any(|window| window == text);
        let names_loader = LOADERS.into_iter().any(has);
        names_loader.then(|| Evidence::of(&name, "").quoting("boot record"))
    })
}

//! Imports real disks, each to answer one question.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::{Stage, vhd::fixed_vhd};

/// One question to the cloud: a disk, how it is registered, what the result shows.
pub(crate) struct Trial {
    pub(crate) question: &'static str,
    pub(crate) disk: Vec<u8>,
    pub(crate) virtual_size: u64,
    pub(crate) extra: Vec<(&'static str, Value)>,
}

/// A disk of zeros except for a boot signature: enough for an import, not for a start.
pub(crate) fn raw() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// A qcow2 image of one written cluster, which contains the boot sector, uncompressed or deflated.
fn qcow2(virtual_size: u64, deflated: bool) -> Vec<u8> {
    const CLUSTER: usize = 64 << 10;
    let (table, block, l1, l2, data) = (1, 2, 3, 4, 5);
    let at = |cluster: usize| (cluster * CLUSTER) as u64;
    let mut image = vec![0; 6 * CLUSTER];
    let mut put = |position: usize, bytes: &[u8]| {
        image[position..position + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &virtual_size.to_be_bytes());
    let l1_entries = u32::try_from(virtual_size.div_ceil(512 << 20)).unwrap();
    put(36, &l1_entries.to_be_bytes());
    put(40, &at(l1).to_be_bytes());
    put(48, &at(table).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    // Refcounts of 16 bits, a header of 104 bytes.
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(table * CLUSTER, &at(block).to_be_bytes());
    for cluster in 0..=data {
        put(block * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    put(l1 * CLUSTER, &(at(l2) | 1 << 63).to_be_bytes());
    let sector = &raw()[..CLUSTER];
    if deflated {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(sector).unwrap();
        let bytes = encoder.finish().unwrap();
        let more_sectors = (bytes.len() as u64).div_ceil(512) - 1;
        put(data * CLUSTER, &bytes);
        put(l2 * CLUSTER, &(1 << 62 | more_sectors << 54 | at(data)).to_be_bytes());
    } else {
        put(data * CLUSTER, sector);
        put(l2 * CLUSTER, &(at(data) | 1 << 63).to_be_bytes());
    }
    image
}

pub(crate) fn trials(stage: &Stage) -> Vec<Trial> {
    let trial = |question, disk: Vec<u8>, virtual_size, extra: &[(&'static str, Value)]| {
        let mut extra = extra.to_vec();
        let format = match &disk {
            disk if disk.starts_with(b"QFI") => "qcow2",
            disk if disk[disk.len() - 512..].starts_with(b"conectix") => "vhd",
            _ => "raw",
        };
        extra.push(("ALIBABA_DISK_FORMAT", json!(format)));
        Trial { question, disk, virtual_size, extra }
    };
    let copies = stage.copy_region.as_ref().map(|region| json!([region])).unwrap_or(json!([]));
    vec![
        trial("does a small raw disk import, how long does it take", raw(), 1 << 20, &[]),
        trial("does qcow2 import", qcow2(1 << 30, false), 1 << 30, &[]),
        trial("does qcow2 with deflated clusters import", qcow2(1 << 30, true), 1 << 30, &[]),
        trial("does a fixed VHD import", fixed_vhd(&raw()), 1 << 20, &[]),
        trial("is a size below the virtual one refused, when", qcow2(2 << 30, false), 1 << 30, &[]),
        trial("what does a disk without any structure end in", vec![7; 1 << 20], 1 << 20, &[]),
        trial(
            "does a copy keep what was set",
            raw(),
            1 << 20,
            &[("ALIBABA_NVME_SUPPORT", json!("supported")), ("ALIBABA_IMAGE_COPY_REGIONS", copies)],
        ),
        trial(
            "what does the image check say",
            raw(),
            1 << 20,
            &[("ALIBABA_DETECTION_STRATEGY", json!("Standard"))],
        ),
    ]
}

//! Makes what disks are made of: initramfs files, kernels, UEFI programs, boot records, physical volumes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

pub(crate) const VERSION: &str = "6.1.0-18-amd64";

/// Writes a cpio archive in the format newc.
pub(crate) fn cpio(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members.iter().chain([&("TRAILER!!!", &[][..])]) {
        let fields = [1, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend(b"070701");
        for field in fields {
            out.extend(format!("{field:08x}").into_bytes());
        }
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(*content);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns the archive of initramfs-tools with these modules for [`VERSION`].
pub(crate) fn archive(modules: &[&str]) -> Vec<u8> {
    let mut names = vec![
        "conf/initramfs.conf".to_owned(),
        "init".to_owned(),
        "sbin/lvm".to_owned(),
        format!("lib/modules/{VERSION}/modules.dep"),
    ];
    names.extend(modules.iter().map(|name| format!("lib/modules/{VERSION}/kernel/{name}.ko.xz")));
    // Enough of it that a truncated file ends inside of the archive.
    let content: Vec<u8> =
        (0..60_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let all: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"x"[..]))
        .chain([("filler", &content[..])])
        .collect();
    cpio(&all)
}

pub(crate) fn initramfs(modules: &[&str]) -> Vec<u8> {
    gzip(&archive(modules))
}

/// Returns the start of a kernel for x86 with a version, and optionally with a signature.
pub(crate) fn kernel(version: &str, signed: bool) -> Vec<u8> {
    let mut out = pe(signed, &[]);
    out.resize(0x8000, 0);
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x20e..0x210].copy_from_slice(&0x3000_u16.to_le_bytes());
    let text = format!("{version} (debian-kernel@lists.debian.org) #1 SMP");
    out[0x3200..0x3200 + text.len()].copy_from_slice(text.as_bytes());
    out
}

/// Returns a UEFI program for x86-64 with sections.
pub(crate) fn pe(signed: bool, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![0; 0x400];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x80;
    out[0x80..0x84].copy_from_slice(b"PE\0\0");
    out[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    out[0x86] = u8::try_from(sections.len()).unwrap();
    out[0x94] = 240;
    out[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
    out[0x98 + 108] = 16;
    if signed {
        out[0x98 + 112 + 32..][..8].copy_from_slice(&[0, 8, 0, 0, 0, 1, 0, 0]);
    }
    for (number, (name, content)) in sections.iter().enumerate() {
        let at = 0x98 + 240 + 40 * number;
        let (offset, len) = (out.len(), u32::try_from(content.len()).unwrap().to_le_bytes());
        out[at..at + name.len()].copy_from_slice(name.as_bytes());
        out[at + 8..at + 12].copy_from_slice(&len);
        out[at + 16..at + 20].copy_from_slice(&len);
        out[at + 20..at + 24].copy_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
        out.extend(*content);
    }
    out
}

/// A program of UEFI that contains a text.
pub(crate) fn efi(text: &str, signed: bool) -> Vec<u8> {
    [pe(signed, &[]), text.as_bytes().to_vec()].concat()
}

/// The header of a program for a machine: 62 is x86-64, 183 is aarch64.
pub(crate) fn elf(machine: u8) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..6].copy_from_slice(b"\x7fELF\x02\x01");
    out[18] = machine;
    out
}

/// The places and bytes of a boot record of GRUB with its core behind it.
pub(crate) fn grub_record() -> Vec<(u64, Vec<u8>)> {
    let mut core = vec![0x52; 1024];
    core[500..508].copy_from_slice(&2_u64.to_le_bytes());
    core[508..510].copy_from_slice(&1_u16.to_le_bytes());
    vec![
        (0, vec![0xeb, 0x63, 0x90]),
        (0x5a, 0x8000_u16.to_le_bytes().to_vec()),
        (0x5c, 1_u64.to_le_bytes().to_vec()),
        (0x188, b"GRUB \0".to_vec()),
        (512, core),
    ]
}

/// The boot record of SYSLINUX, which starts the active partition.
pub(crate) fn syslinux_record() -> Vec<(u64, Vec<u8>)> {
    vec![(0, vec![0x33, 0xc0]), (0x150, b"Operating system load error.".to_vec())]
}

/// Returns a physical volume with one logical volume, `vg-a/root`, which has this content.
pub(crate) fn physical_volume(content: &[u8], segments: &str) -> Vec<u8> {
    const EXTENT: usize = 4 << 20;
    let start = 1 << 20;
    let extents = content.len().div_ceil(EXTENT);
    let id = "abcdefghijklmnopqrstuvwxyz012345";
    let dashed = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345";
    let segments = segments.replace("EXTENTS", &extents.to_string());
    let text = format!(
        "vg-a {{\nid = \"x\"\nseqno = 3\nextent_size = {}\nphysical_volumes {{\npv0 {{\nid = \"{dashed}\"\n\
         pe_start = {}\n}}\n}}\nlogical_volumes {{\nroot {{\nid = \"y\"\nstatus = [\"READ\", \"VISIBLE\"]\n{segments}\n}}\n}}\n}}\n\
         contents = \"Text Format Volume Group\"\nversion = 1\n\0",
        EXTENT / 512,
        start / 512,
    );
    let mut out = vec![0; start];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(512, b"LABELONE");
    put(512 + 20, &32_u32.to_le_bytes());
    put(512 + 24, b"LVM2 001");
    put(512 + 32, id.as_bytes());
    // Data from 1 MiB on; metadata from 4 KiB on.
    put(512 + 32 + 40, &(start as u64).to_le_bytes());
    put(512 + 32 + 72, &4096_u64.to_le_bytes());
    put(512 + 32 + 80, &(start as u64 - 4096).to_le_bytes());
    put(4096 + 4, b" LVM2 x[5A%r0N*>");
    put(4096 + 20, &1_u32.to_le_bytes());
    put(4096 + 40, &512_u64.to_le_bytes());
    put(4096 + 48, &(text.len() as u64).to_le_bytes());
    put(4096 + 512, text.as_bytes());
    out.extend(content);
    out.resize(start + extents * EXTENT, 0);
    out
}

pub(crate) const LINEAR: &str = "segment_count = 1\nsegment1 {\nstart_extent = 0\nextent_count = EXTENTS\n\
    type = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", 0\n]\n}";

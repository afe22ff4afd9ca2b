//! Parses the qcow2 header. Source: QEMU, docs/interop/qcow2.txt, section "Header".

use crate::error::Error;
use crate::field::{be32, be64, index};
use crate::format::Compression;
use crate::format::image::Image;

pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// QEMU's own limits for tables that it loads at once; QEMU refuses larger tables as well.
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65536;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The header fields that are required for reading, each of them checked. Offsets are bytes in the file.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) virtual_size: u64,
    pub(super) encrypted: bool,
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) refcount_offset: u64,
    pub(super) refcount_clusters: u64,
    pub(super) snapshots: u32,
    pub(super) dirty: bool,
    pub(super) compression: Compression,
    pub(super) backing_file: Option<String>,
}

impl Header {
    pub(super) fn read(image: &Image) -> Result<Self, Error> {
        // A version 3 header with the compression type byte has 105 bytes; 112 after padding.
        let raw = image.head::<112>(0)?;
        if image.len < 72 {
            return Err(image.truncated("the qcow2 header", 72));
        }
        let version = be32(&raw, 4);
        let (incompatible, header_length, refcount_order) = match version {
            2 => (0, 72, 4),
            3 if image.len < 104 => return Err(image.truncated("the qcow2 header", 104)),
            3 => (be64(&raw, 72), be32(&raw, 100), be32(&raw, 96)),
            other => return Err(image.unsupported(&format!("qcow2 version {other}"))),
        };
        let cluster_bits = be32(&raw, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(image.malformed(&format!("impossible cluster_bits {cluster_bits}")));
        }
        check_features(image, incompatible)?;
        let crypt_method = be32(&raw, 32);
        if crypt_method > 2 {
            return Err(image.malformed(&format!("unknown crypt_method {crypt_method}")));
        }
        if version == 3 {
            check_v3(image, header_length, cluster_bits, refcount_order)?;
        }
        let header = Self {
            version,
            cluster_bits,
            virtual_size: be64(&raw, 24),
            encrypted: crypt_method != 0,
            l1_entries: u64::from(be32(&raw, 36)),
            l1_offset: be64(&raw, 40),
            refcount_offset: be64(&raw, 48),
            refcount_clusters: u64::from(be32(&raw, 56)),
            snapshots: be32(&raw, 60),
            dirty: incompatible & DIRTY != 0,
            compression: compression(image, &raw, incompatible, header_length)?,
            backing_file: backing_file(image, be64(&raw, 8), be32(&raw, 16), cluster_bits)?,
        };
        header.check_tables(image, be64(&raw, 64))?;
        Ok(header)
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns the number of entries of an L2 table.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_size() / 8
    }

    fn check_tables(&self, image: &Image, snapshots_offset: u64) -> Result<(), Error> {
        if !self.virtual_size.is_multiple_of(512) {
            let size = self.virtual_size;
            return Err(image.malformed(&format!("size {size} is not a multiple of 512")));
        }
        let per_l1_entry = self.cluster_size() * self.l2_entries();
        if self.l1_entries < self.virtual_size.div_ceil(per_l1_entry) {
            let (entries, size) = (self.l1_entries, self.virtual_size);
            return Err(
                image.malformed(&format!("{entries} L1 entries are too few for the size {size}"))
            );
        }
        let refcount_bytes = self.refcount_clusters << self.cluster_bits;
        if self.l1_entries * 8 > MAX_L1_BYTES || refcount_bytes > MAX_REFCOUNT_TABLE_BYTES {
            return Err(image.malformed("the L1 or refcount table is absurdly large"));
        }
        if self.refcount_clusters == 0 {
            return Err(image.malformed("there is no refcount table"));
        }
        self.check_table(image, "the L1 table", self.l1_offset, self.l1_entries * 8)?;
        self.check_table(image, "the refcount table", self.refcount_offset, refcount_bytes)?;
        if self.snapshots > MAX_SNAPSHOTS {
            return Err(image.malformed("there are more than 65536 snapshots"));
        }
        // A snapshot entry has at least 40 bytes.
        let bytes = u64::from(self.snapshots) * 40;
        self.check_table(image, "the snapshot table", snapshots_offset, bytes)
    }

    fn check_table(&self, image: &Image, what: &str, offset: u64, len: u64) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        if offset == 0 || !offset.is_multiple_of(self.cluster_size()) {
            return Err(image.malformed(&format!("{what} does not start on a cluster")));
        }
        if image.holds(offset, len) {
            Ok(())
        } else {
            Err(image.truncated(what, offset.saturating_add(len)))
        }
    }
}

fn check_features(image: &Image, incompatible: u64) -> Result<(), Error> {
    if incompatible & CORRUPT != 0 {
        return Err(image
            .malformed("the image is marked as corrupt")
            .with_hint("repair it with `qemu-img check -r all`, or create it again"));
    }
    let refused = [
        (EXTERNAL_DATA, "an external data file is used"),
        (EXTENDED_L2, "extended L2 entries are used"),
        (!(DIRTY | COMPRESSION_TYPE), "an unknown incompatible feature is used"),
    ];
    for (bit, what) in refused {
        if incompatible & bit != 0 {
            return Err(image
                .unsupported(what)
                .with_hint("write a plain image with `qemu-img convert -O qcow2`"));
        }
    }
    Ok(())
}

fn check_v3(image: &Image, length: u32, cluster_bits: u32, order: u32) -> Result<(), Error> {
    if length < 104 || !length.is_multiple_of(8) || u64::from(length) > 1 << cluster_bits {
        return Err(image.malformed(&format!("impossible header length {length}")));
    }
    if order > 6 {
        return Err(image.malformed(&format!("impossible refcount_order {order}")));
    }
    Ok(())
}

fn compression(
    image: &Image,
    raw: &[u8; 112],
    incompatible: u64,
    header_length: u32,
) -> Result<Compression, Error> {
    let kind = if header_length > 104 { raw[104] } else { 0 };
    let flagged = incompatible & COMPRESSION_TYPE != 0;
    match (kind, flagged) {
        (0, false) => Ok(Compression::Zlib),
        (1, true) => Ok(Compression::Zstd),
        _ => Err(image.malformed("compression type and feature bits contradict each other")),
    }
}

fn backing_file(
    image: &Image,
    offset: u64,
    len: u32,
    cluster_bits: u32,
) -> Result<Option<String>, Error> {
    if offset == 0 {
        return Ok(None);
    }
    // The name is in the first cluster and has at most 1023 bytes.
    let inside = offset.checked_add(u64::from(len)).is_some_and(|end| end <= 1 << cluster_bits);
    if len > 1023 || !inside {
        return Err(image.malformed("the backing file's name lies outside the first cluster"));
    }
    let mut name = vec![0; index(u64::from(len))];
    image.read(&mut name, offset)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

//! Reads the guest content of a qcow2 image without a backing file and encryption.

use std::sync::Arc;

use super::header::Header;
use super::table::{Cluster, decode_l1, read_table};
use crate::error::Error;
use crate::field::index;
use crate::format::content::Content;
use crate::format::image::Image;
use crate::format::recent::Recent;
use crate::format::unpack::{Packing, unpack};
use crate::format::{Compression, Extent};

/// Number of cached tables, and of cached decompressed clusters. Each of them has at most 2 MiB.
const KEPT: usize = 8;

/// Decompresses a cluster.
pub(super) fn unpack_cluster(
    image: &Image,
    header: &Header,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Error> {
    let there = len.min(image.len.saturating_sub(offset));
    let mut packed = vec![0; index(there)];
    image.read(&mut packed, offset)?;
    let mut cluster = vec![0; index(header.cluster_size())];
    let (packing, message) = match header.compression {
        Compression::Zlib => (Packing::Deflate, "a compressed cluster does not inflate"),
        Compression::Zstd => (Packing::Zstd, "a cluster is no zstd frame"),
    };
    let decompress_error = || image.malformed(message).at_offset(offset);
    let done = unpack(packing, &packed, &mut cluster)
        .map_err(|cause| decompress_error().caused_by(cause))?;
    // Other data may follow the stream in its last sector; only a full cluster is valid.
    if done == cluster.len() { Ok(cluster) } else { Err(decompress_error()) }
}

#[derive(Debug)]
struct Guest {
    header: Header,
    l1: Vec<u64>,
    l2: Recent<Vec<u64>>,
    unpacked: Recent<Vec<u8>>,
}

/// Opens an image that [`super::probe`] accepted.
pub(in crate::format) fn open(image: &Image) -> Result<Box<dyn Content>, Error> {
    let header = Header::read(image)?;
    let unsupported_feature = if header.backing_file.is_some() {
        Some("the content depends on a backing file")
    } else if header.encrypted {
        Some("the content is encrypted")
    } else {
        None
    };
    if let Some(why) = unsupported_feature {
        return Err(image
            .unsupported(why)
            .with_hint("write a complete plain image with `qemu-img convert -O qcow2`"));
    }
    let l1 = read_table(image, header.l1_offset, header.l1_entries)?;
    Ok(Box::new(Guest { header, l1, l2: Recent::new(KEPT), unpacked: Recent::new(KEPT) }))
}

impl Content for Guest {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn piece(&self) -> u64 {
        self.header.cluster_size()
    }

    /// Returns the extent at `offset`, up to the end of its cluster or of the range without an L2 table.
    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
        let l1_bits = self.header.cluster_bits * 2 - 3;
        let (cluster, bits) = if self.l2_offset(image, offset)? == 0 {
            (Cluster::Unallocated, l1_bits)
        } else {
            (self.cluster(image, offset)?, self.header.cluster_bits)
        };
        let len = (1_u64 << bits) - (offset & ((1 << bits) - 1));
        let zero = matches!(cluster, Cluster::Unallocated | Cluster::Zero);
        Ok(Extent { len: len.min(self.header.virtual_size - offset), zero })
    }

    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let inside = offset & (self.header.cluster_size() - 1);
        match self.cluster(image, offset)? {
            Cluster::Unallocated | Cluster::Zero => buf.fill(0),
            Cluster::Data(at) => image.read(buf, at + inside)?,
            Cluster::Compressed { offset: at, len } => {
                let make = || unpack_cluster(image, &self.header, at, len);
                let cluster = self.unpacked.get(at, make)?;
                buf.copy_from_slice(&cluster[index(inside)..][..buf.len()]);
            }
        }
        Ok(())
    }
}

impl Guest {
    fn l2_offset(&self, image: &Image, offset: u64) -> Result<u64, Error> {
        let at = index(offset >> (self.header.cluster_bits * 2 - 3));
        let entry = self.l1.get(at).copied().unwrap_or(0);
        decode_l1(entry, &self.header)
            .map_err(|why| image.malformed(&format!("L1 entry {at} {why}")))
    }

    fn cluster(&self, image: &Image, offset: u64) -> Result<Cluster, Error> {
        let table_at = self.l2_offset(image, offset)?;
        if table_at == 0 {
            return Ok(Cluster::Unallocated);
        }
        let table = self.l2_table(image, table_at)?;
        let at = (offset >> self.header.cluster_bits) & (self.header.l2_entries() - 1);
        Cluster::decode(table[index(at)], &self.header)
            .map_err(|why| image.malformed(&format!("the L2 entry of guest byte {offset} {why}")))
    }

    fn l2_table(&self, image: &Image, at: u64) -> Result<Arc<Vec<u64>>, Error> {
        self.l2.get(at, || read_table(image, at, self.header.l2_entries()))
    }
}

//! The guest content of a qcow2 image without backing file and encryption.
//! Two caches of one entry each (L2 table, inflated cluster) serve sequential readers; others read
//! a table per call, which is right but slow.

use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::header::Header;
use super::table::{Cluster, decode_l1, read_table};
use crate::error::Error;
use crate::field::index;
use crate::format::image::Image;
use crate::format::{Compression, Extent};

/// qcow2 deflates with a window of 4 KiB; inflating takes any window up to the largest.
pub(super) fn inflate(
    image: &Image,
    header: &Header,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Error> {
    let there = len.min(image.len.saturating_sub(offset));
    let mut packed = vec![0; index(there)];
    image.read(&mut packed, offset)?;
    let mut cluster = vec![0; index(header.cluster_size())];
    let mut inflater = Decompress::new(false);
    let broken = || image.malformed("a compressed cluster does not inflate").at_offset(offset);
    let status = inflater
        .decompress(&packed, &mut cluster, FlushDecompress::Finish)
        .map_err(|source| broken().caused_by(source))?;
    // The stream may be followed by other data of its last sector; only a full cluster counts.
    let full = inflater.total_out() == header.cluster_size();
    match status {
        Status::StreamEnd | Status::Ok | Status::BufError if full => Ok(cluster),
        Status::StreamEnd | Status::Ok | Status::BufError => Err(broken()),
    }
}

#[derive(Debug)]
pub(in crate::format) struct Guest {
    header: Header,
    l1: Vec<u64>,
    l2: Mutex<Option<(u64, Arc<Vec<u64>>)>>,
    inflated: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl Guest {
    /// For an image that [`super::probe`] has accepted.
    pub(in crate::format) fn open(image: &Image) -> Result<Self, Error> {
        let header = Header::read(image)?;
        let refused = if header.backing_file.is_some() {
            Some("the content depends on a backing file")
        } else if header.encrypted {
            Some("the content is encrypted")
        } else if header.compression == Compression::Zstd {
            Some("clusters are compressed with zstd")
        } else {
            None
        };
        if let Some(why) = refused {
            return Err(image
                .unsupported(why)
                .with_hint("write a complete plain image with `qemu-img convert -O qcow2`"));
        }
        let l1 = read_table(image, header.l1_offset, header.l1_entries)?;
        Ok(Self { header, l1, l2: Mutex::new(None), inflated: Mutex::new(None) })
    }

    pub(in crate::format) fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    /// What lies at `offset`, up to the end of its cluster or of the area without an L2 table.
    pub(in crate::format) fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
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

    /// Fills `buf`, which must not cross a cluster's end.
    pub(in crate::format) fn read(
        &self,
        image: &Image,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<(), Error> {
        let inside = offset & (self.header.cluster_size() - 1);
        match self.cluster(image, offset)? {
            Cluster::Unallocated | Cluster::Zero => buf.fill(0),
            Cluster::Data(at) => image.read(buf, at + inside)?,
            Cluster::Compressed { offset: at, len } => {
                let cluster = self.inflated(image, at, len)?;
                buf.copy_from_slice(&cluster[index(inside)..][..buf.len()]);
            }
        }
        Ok(())
    }

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
        let mut cache = self.l2.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, table)) = &*cache
            && *cached == at
        {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(read_table(image, at, self.header.l2_entries())?);
        *cache = Some((at, Arc::clone(&table)));
        Ok(table)
    }

    fn inflated(&self, image: &Image, at: u64, len: u64) -> Result<Arc<Vec<u8>>, Error> {
        let cached = |cache: &Option<(u64, Arc<Vec<u8>>)>| match cache {
            Some((cached, cluster)) if *cached == at => Some(Arc::clone(cluster)),
            _ => None,
        };
        // Inflating happens outside the lock, so that readers do not wait for each other.
        if let Some(hit) = cached(&self.inflated.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(hit);
        }
        let cluster = Arc::new(inflate(image, &self.header, at, len)?);
        *self.inflated.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((at, Arc::clone(&cluster)));
        Ok(cluster)
    }

    pub(in crate::format) fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }
}

//! Reads and writes the manifest of an object: the SHA-256 and CRC-64 of each of its blocks, in JSON. It is untrusted
//! input until its checksums lead to that of the object, which the service computed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::blocks::{Block, Blocks, is_usable, length_of};
use crate::reader::combine;

/// Maximum size of a manifest in bytes; one of the largest disk is slightly shorter.
pub(crate) const LONGEST: u64 = 8 << 20;
/// Identifies the document.
const FORMAT: &str = "build-image-parts";
/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// Bytes of a SHA-256.
const SHA256: usize = 32;

/// The object that a manifest belongs to, as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) key: String,
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) crc: u64,
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    /// Key of the object.
    object: String,
    etag: String,
    /// Bytes of the object.
    size: u64,
    /// CRC-64 of the object, in decimal as the service writes it.
    crc64: String,
    /// Bytes per block.
    block_size: u64,
    /// SHA-256 of every block, one after the other, in base64.
    block_sha256: String,
    /// CRC-64 of every block, one after the other, big-endian, in base64.
    block_crc64: String,
}

/// Blocks of an object, as its manifest lists them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Bytes of the object.
    pub(crate) size: u64,
    /// Bytes per block.
    pub(crate) block_size: u64,
    pub(crate) blocks: Vec<Block>,
}

/// The text of a manifest.
pub(crate) fn write(object: &Described, block_size: u64, blocks: &[Block]) -> Vec<u8> {
    let sha256: Vec<u8> = blocks.iter().flat_map(|block| block.sha256).collect();
    let crc64: Vec<u8> = blocks.iter().flat_map(|block| block.crc.to_be_bytes()).collect();
    let document = Document {
        format: FORMAT.to_owned(),
        version: VERSION,
        object: object.key.clone(),
        etag: object.etag.clone(),
        size: object.size,
        crc64: object.crc.to_string(),
        block_size,
        block_sha256: STANDARD.encode(sha256),
        block_crc64: STANDARD.encode(crc64),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Reads the manifest of an object.
///
/// # Errors
/// Why it is not one, or does not belong to the object.
pub(crate) fn read(text: &[u8], object: &Described) -> Result<Manifest, String> {
    if text.len() as u64 > LONGEST {
        return Err(format!("its manifest is longer than {LONGEST} bytes"));
    }
    let document: Document = serde_json::from_slice(text)
        .map_err(|error| format!("its manifest is invalid: {error}"))?;
    if document.format != FORMAT || document.version != VERSION {
        let Document { format, version, .. } = document;
        let format: String = format.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(format!("its manifest has the form `{format}` {version}, which is unknown"));
    }
    let theirs = (&document.object, &document.etag, document.size, document.crc64.as_str());
    if theirs != (&object.key, &object.etag, object.size, object.crc.to_string().as_str()) {
        return Err("its manifest describes another object".to_owned());
    }
    let Document { size, block_size, .. } = document;
    let blocks = blocks(&document).ok_or("its manifest has invalid blocks")?;
    let whole = blocks.iter().enumerate().fold(0, |whole, (index, block)| {
        combine(whole, block.crc, length_of(size, block_size, index))
    });
    if whole != object.crc {
        return Err("the checksums of its manifest are not those of the object".to_owned());
    }
    Ok(Manifest { size, block_size, blocks })
}

fn blocks(document: &Document) -> Option<Vec<Block>> {
    if document.size == 0 || !is_usable(document.block_size, document.size) {
        return None;
    }
    let count = usize::try_from(document.size.div_ceil(document.block_size)).ok()?;
    let sha256 = STANDARD.decode(&document.block_sha256).ok()?;
    let crc64 = STANDARD.decode(&document.block_crc64).ok()?;
    if sha256.len() != count * SHA256 || crc64.len() != count * size_of::<u64>() {
        return None;
    }
    let blocks = sha256.chunks_exact(SHA256).zip(crc64.chunks_exact(size_of::<u64>()));
    let block = |(sha256, crc): (&[u8], &[u8])| {
        Some(Block {
            sha256: sha256.try_into().ok()?,
            crc: u64::from_be_bytes(crc.try_into().ok()?),
        })
    };
    blocks.map(block).collect()
}

impl Manifest {
    /// The ranges of a disk that are equal in the object, in whole blocks; `None` when the disk is divided otherwise, or
    /// was not read.
    pub(crate) fn unchanged(&self, disk: &Blocks) -> Option<Vec<(u64, u64)>> {
        if disk.size != self.block_size {
            return None;
        }
        let ours = disk.all()?;
        let pairs = ours.iter().zip(&self.blocks).enumerate();
        let equal = pairs.filter(|(index, (ours, theirs))| {
            ours == theirs
                && disk.length_of(*index) == length_of(self.size, self.block_size, *index)
        });
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (index, _) in equal {
            let (offset, length) = (index as u64 * disk.size, disk.length_of(index));
            match runs.last_mut() {
                Some(last) if last.0 + last.1 == offset => last.1 += length,
                _ => runs.push((offset, length)),
            }
        }
        Some(runs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::delta::blocks::{RangeDigest, SMALLEST_BLOCK};

    fn blocks(disk: &[u8]) -> Blocks {
        let length = disk.len() as u64;
        let blocks = Blocks::new(length, SMALLEST_BLOCK);
        RangeDigest::new(Some(&blocks), 0, length).update(disk);
        blocks
    }

    fn disk(blocks: usize, tail: usize) -> Vec<u8> {
        let size = usize::try_from(SMALLEST_BLOCK).unwrap();
        let number = |n| u8::try_from(n / size + 1).unwrap();
        (0..blocks * size + tail).map(number).collect()
    }

    fn object(disk: &[u8]) -> Described {
        let size = disk.len() as u64;
        let crc = blocks(disk).crc(0, size).unwrap();
        Described { key: "k".into(), etag: "E-4".into(), size, crc }
    }

    fn manifest(disk: &[u8]) -> Vec<u8> {
        write(&object(disk), SMALLEST_BLOCK, &blocks(disk).all().unwrap())
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let disk = disk(3, 100);
        let read = read(&manifest(&disk), &object(&disk)).unwrap();
        assert_eq!(read.blocks, blocks(&disk).all().unwrap());
        assert_eq!((read.size, read.block_size), (disk.len() as u64, SMALLEST_BLOCK));
    }

    #[test]
    fn a_manifest_that_does_not_fit_its_object_is_refused() {
        let disk = disk(3, 100);
        let text: Value = serde_json::from_slice(&manifest(&disk)).unwrap();
        let digests = text["block_sha256"].as_str().unwrap();
        for (name, value) in [
            ("format", json!("other")),
            ("version", json!(2)),
            ("version", json!("1")),
            ("object", json!("other")),
            ("etag", json!("other")),
            ("size", json!(disk.len() + 1)),
            ("size", json!(u64::MAX)),
            ("crc64", json!("1")),
            ("crc64", json!(1)),
            ("block_size", json!(0)),
            ("block_size", json!(1)),
            ("block_size", json!(2 * SMALLEST_BLOCK)),
            ("block_size", json!(u64::MAX)),
            ("block_sha256", json!(digests[4..])),
            ("block_sha256", json!("*")),
            ("block_crc64", json!("")),
            ("block_crc64", json!(STANDARD.encode([0; 32]))),
        ] {
            let mut other = text.clone();
            other[name] = value.clone();
            let other = serde_json::to_vec(&other).unwrap();
            assert!(read(&other, &object(&disk)).is_err(), "{name}: {value}");
        }
        let whole = manifest(&disk);
        for text in [&whole[..whole.len() - 1], b"", b"[]", b"{}", b"\xff", &[b'['; 100_000]] {
            assert!(read(text, &object(&disk)).is_err());
        }
        let long = vec![b' '; usize::try_from(LONGEST).unwrap() + 1];
        assert!(read(&long, &object(&disk)).unwrap_err().contains("longer"));
    }

    #[test]
    fn only_equal_blocks_of_equal_length_are_unchanged() {
        let size = SMALLEST_BLOCK;
        let old = disk(4, 100);
        let read = read(&manifest(&old), &object(&old)).unwrap();
        let mut changed = old.clone();
        changed[usize::try_from(size).unwrap() + 5] ^= 1;
        let mut grown = old.clone();
        grown.push(9);
        for (name, disk, expected) in [
            ("same", old.clone(), vec![(0, 4 * size + 100)]),
            ("changed", changed, vec![(0, size), (2 * size, 2 * size + 100)]),
            ("grown", grown, vec![(0, 4 * size)]),
            ("shrunk", old[..usize::try_from(size).unwrap() + 7].to_vec(), vec![(0, size)]),
            ("other", vec![0; 5], vec![]),
        ] {
            assert_eq!(read.unchanged(&blocks(&disk)), Some(expected), "{name}");
        }
        assert_eq!(read.unchanged(&Blocks::new(old.len() as u64, size)), None);
        assert_eq!(read.unchanged(&Blocks::new(1, 2 * size)), None);
    }
}

//! Writes and reads the manifest of a snapshot: a line of JSON with the blocks that the snapshot has, and the SHA-256 of
//! each, one after the other. It fills whole blocks, the last of which ends with zeros.

use serde::{Deserialize, Serialize};

use crate::{
    blocks::{BLOCK, Blocks},
    ebs::Digest,
    reader::zero_digest,
};

/// Maximum length of a manifest in blocks: 64 MiB, which is a disk of 512 GiB without a block of zeros.
pub(super) const LONGEST: u64 = 128;
/// Maximum number of blocks that are described.
const MOST: u64 = 1 << 20;
/// Bytes of a SHA-256.
const SHA256: usize = 32;
/// Identifies the document.
const FORMAT: &str = "build-image-blocks";
/// The version that this program writes and reads.
const VERSION: u32 = 1;
/// Blocks of a GiB.
const GIB: u64 = (1 << 30) / BLOCK;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    /// Identifier of the snapshot.
    snapshot: String,
    /// Size of its volume.
    gib: u64,
    /// The blocks that it has.
    blocks: Blocks,
}

/// The blocks of a snapshot, with the SHA-256 of each in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) blocks: Blocks,
    pub(crate) digests: Vec<Digest>,
}

impl Manifest {
    /// The blocks of zeros, which the service need not list.
    pub(crate) fn zeros(&self) -> Blocks {
        let zero = zero_digest();
        let zeros = self.blocks.iter().zip(&self.digests).filter(|(_, digest)| **digest == zero);
        let mut found = Blocks::default();
        for (block, _) in zeros {
            found.insert(block);
        }
        found
    }

    /// Returns the document for a snapshot; `None` when it would be too long.
    pub(super) fn write(&self, snapshot: &str, gib: u64) -> Option<Vec<u8>> {
        if self.blocks.len() > MOST {
            return None;
        }
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
            snapshot: snapshot.to_owned(),
            gib,
            blocks: self.blocks.clone(),
        };
        let mut document = serde_json::to_vec(&head).ok()?;
        document.push(b'\n');
        document.extend(self.digests.iter().flatten());
        let length = (document.len() as u64).div_ceil(BLOCK);
        document.resize(usize::try_from(length * BLOCK).ok()?, 0);
        (length <= LONGEST).then_some(document)
    }

    /// Reads the manifest of a snapshot.
    ///
    /// # Errors
    /// Why it is not one, or does not belong to the snapshot.
    pub(super) fn read(document: &[u8], snapshot: &str, gib: u64) -> Result<Self, String> {
        let end = document.iter().position(|byte| *byte == b'\n').ok_or("its manifest is cut")?;
        let head: Head = serde_json::from_slice(&document[..end])
            .map_err(|error| format!("its manifest is invalid: {error}"))?;
        if head.format != FORMAT || head.version != VERSION {
            return Err("its manifest has an unknown form".to_owned());
        }
        if head.snapshot != snapshot || head.gib != gib {
            return Err("its manifest describes another snapshot".to_owned());
        }
        if !head.blocks.is_valid(gib.saturating_mul(GIB)) || head.blocks.len() > MOST {
            return Err("its manifest lists impossible blocks".to_owned());
        }
        let count = usize::try_from(head.blocks.len()).unwrap_or(usize::MAX);
        let rest = &document[end + 1..];
        let (rows, padding) =
            rest.split_at_checked(count.saturating_mul(SHA256)).ok_or("its manifest is cut")?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err("its manifest lists fewer blocks than it describes".to_owned());
        }
        let (digests, _) = rows.as_chunks::<SHA256>();
        Ok(Self { blocks: head.blocks, digests: digests.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        for (block, digest) in [(0, [7; 32]), (3, zero_digest()), (2047, [9; 32])] {
            manifest.blocks.insert(block);
            manifest.digests.push(digest);
        }
        manifest
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_in_whole_blocks() {
        let document = manifest().write("snap-1", 1).unwrap();
        assert_eq!(document.len() as u64, BLOCK);
        assert_eq!(Manifest::read(&document, "snap-1", 1), Ok(manifest()));
        assert_eq!(serde_json::to_string(&manifest().zeros()).unwrap(), "[[3,4]]");
        let empty = Manifest::default();
        let document = empty.write("snap-1", 1).unwrap();
        assert_eq!(Manifest::read(&document, "snap-1", 1), Ok(empty));
    }

    #[test]
    fn what_does_not_belong_to_the_snapshot_is_refused() {
        let document = manifest().write("snap-1", 1).unwrap();
        let text = String::from_utf8_lossy(&document).into_owned();
        let head = |blocks: &str| {
            let line = text.lines().next().unwrap().to_owned();
            let from = line.find("\"blocks\":").unwrap();
            let mut changed = format!("{}\"blocks\":{blocks}}}\n", &line[..from]).into_bytes();
            changed.resize(usize::try_from(BLOCK).unwrap(), 0);
            changed
        };
        for (document, snapshot, gib, part) in [
            (document.clone(), "snap-2", 1, "another snapshot"),
            (document.clone(), "snap-1", 2, "another snapshot"),
            (document[..20].to_vec(), "snap-1", 1, "cut"),
            (document[..200].to_vec(), "snap-1", 1, "cut"),
            (b"{}\n".to_vec(), "snap-1", 1, "invalid"),
            (vec![0; 600], "snap-1", 1, "cut"),
            (head("[[0,0]]"), "snap-1", 1, "impossible"),
            (head("[[5,9],[0,2]]"), "snap-1", 1, "impossible"),
            (head("[[0,2],[2,3]]"), "snap-1", 1, "impossible"),
            (head("[[0,2049]]"), "snap-1", 1, "impossible"),
            (head("[[0,18446744073709551615]]"), "snap-1", 1, "impossible"),
            (head("[[0,1],[3,4]]").into_iter().chain([1]).collect(), "snap-1", 1, "fewer"),
        ] {
            let why = Manifest::read(&document, snapshot, gib).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}

//! Uploads only what has changed since an earlier object of the bucket: the service copies unchanged parts from there.
//!
//! A manifest beside every kept raw object lists the digests of its blocks. The next build of the same lineage reads its
//! disk once, compares the digests, and divides the disk into parts that are copied and parts that are sent. Nothing in
//! a manifest is trusted: the CRC-64 that the service computed decides about every copied part and about the whole
//! object; what differs is sent.
//!
//! Reading order: `earlier` (which earlier object) → `manifest`, `blocks` (what it has) → `layout` (which parts) → `prepare`
//! → `copying` (during the upload) → `keep` (the new manifest) → `calls`.

mod blocks;
mod calls;
mod copying;
mod earlier;
mod keep;
mod layout;
mod look;
mod manifest;
mod prepare;
mod settings;

use serde::{Deserialize, Serialize};

use self::manifest::Described;
pub(crate) use self::{
    blocks::{Blocks, RangeDigest},
    copying::Copying,
    earlier::manifest_key,
    keep::Keeper,
    layout::{Piece, Range, divide},
    look::{look, offline},
    prepare::{Prepared, prepare},
    settings::{Options, settings},
};

/// What a resumed run needs to know of a delta upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeltaState {
    /// Bytes per block.
    block_size: u64,
    /// The earlier object, if there is one.
    #[serde(default)]
    base: Option<Base>,
}

/// An earlier object, and what of the disk it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    key: String,
    etag: String,
    size: u64,
    crc: u64,
    /// Offset and length of the ranges that are copied.
    unchanged: Vec<Range>,
}

impl Base {
    fn described(&self) -> Described {
        let Self { key, etag, size, crc, .. } = self.clone();
        Described { key, etag, size, crc }
    }
}

impl DeltaState {
    /// Whether parts come from an earlier object: then the service has to prove the checksum of the whole.
    pub(crate) fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// The same, without the earlier object. Returns its key.
    pub(crate) fn forget_base(&mut self) -> Option<String> {
        self.base.take().map(|base| base.key)
    }
}

/// The manifest of the run's own object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestState {
    pub(crate) key: String,
    /// Whether it is complete and describes the present object.
    pub(crate) is_written: bool,
}

//! Unpacks LZ4 as Linux uses it: the legacy frame of `lz4 -l`. Source: lz4, doc/lz4_Frame_format.md, "Legacy frame":
//! blocks of at most 8 MiB, each behind its packed length, up to the end of the file.

use std::io::{self, Read};

use lz4_flex::block::decompress_into;

pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Length of an unpacked block in bytes.
const BLOCK: usize = 8 << 20;
/// Maximum length of a packed block: what does not compress grows by a 255th.
const MAX_PACKED: usize = BLOCK + BLOCK / 255 + 16;

pub(super) struct Lz4<R> {
    input: R,
    block: Vec<u8>,
    at: usize,
    len: usize,
}

impl<R: Read> Lz4<R> {
    /// Wraps packed data, which starts with the magic.
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        input.read_exact(&mut [0; 4])?;
        Ok(Self { input, block: vec![0; BLOCK], at: 0, len: 0 })
    }

    /// Unpacks the next block; returns `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        let mut raw = [0; 4];
        let len = loop {
            match self.input.read_exact(&mut raw) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                other => other?,
            }
            match raw {
                // Frames may follow one another; zeros may follow the last one.
                MAGIC => {}
                [0, 0, 0, 0] => return Ok(false),
                raw => break usize::try_from(u32::from_le_bytes(raw)).unwrap_or(usize::MAX),
            }
        };
        if len > MAX_PACKED {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block is too long"));
        }
        let mut packed = vec![0; len];
        self.input.read_exact(&mut packed)?;
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        self.len = decompress_into(&packed, &mut self.block).map_err(wrong)?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.len {
            if !self.next()? {
                return Ok(0);
            }
        }
        let block = self.block.get(self.at..self.len).unwrap_or_default();
        let len = block.len().min(buf.len());
        let (there, _) = buf.split_at_mut(len);
        there.copy_from_slice(&block[..len]);
        self.at += len;
        Ok(len)
    }
}

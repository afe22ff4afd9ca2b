//! Splits a stream of bytes into steps that depend only on their offsets, with zeros separated from data.

use std::sync::Arc;

use crate::error::{Error, Kind};
use crate::field::index;
use crate::view::View;

/// Length of a step in bytes: large enough to compress well separately, small enough that many fit into
/// memory.
pub(super) const STEP: u64 = 1 << 20;
/// Maximum number of zero steps that are passed on at once, so that the work can be stopped within a huge
/// hole.
const MOST_ZEROS: u64 = 1024;

/// A part of a stream.
#[derive(Clone)]
pub(super) enum Segment {
    Bytes(Arc<[u8]>),
    View(Arc<dyn View>),
}

impl Segment {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::View(view) => view.len(),
        }
    }

    /// Returns the number of zeros at `at` that are known without reading.
    fn zeros_at(&self, at: u64) -> Result<u64, Error> {
        match self {
            Self::Bytes(_) => Ok(0),
            Self::View(view) => view.zeros_at(at),
        }
    }

    /// Fills the whole `buf` from offset `at`.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Error> {
        match self {
            Self::Bytes(bytes) => {
                let from = index(at);
                buf.copy_from_slice(&bytes[from..from + buf.len()]);
                Ok(())
            }
            Self::View(view) => {
                let got = view.read_at(buf, at)?;
                if got == buf.len() {
                    return Ok(());
                }
                let message = "the image to pack ended too early";
                Err(Error::new(Kind::Truncated, message).at_offset(at + got as u64))
            }
        }
    }
}

/// A step of a stream: its segment and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `len` bytes, at most [`STEP`], from offset `at` of this segment.
    Data { segment: usize, at: u64, len: u64 },
    /// A number of whole steps of zeros.
    Zeros { steps: u64 },
}

/// Splits segments into steps; a step never spans two segments. Ends after the first error.
pub(super) struct Steps<'a> {
    segments: &'a [Segment],
    segment: usize,
    at: u64,
    /// Zeros are known from `at` up to this offset.
    zeros_until: u64,
}

impl<'a> Steps<'a> {
    pub(super) fn new(segments: &'a [Segment]) -> Self {
        Self { segments, segment: 0, at: 0, zeros_until: 0 }
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = loop {
            let segment = self.segments.get(self.segment)?;
            if self.at < segment.len() {
                break segment;
            }
            (self.segment, self.at, self.zeros_until) = (self.segment + 1, 0, 0);
        };
        let end = segment.len();
        if self.zeros_until <= self.at {
            match segment.zeros_at(self.at) {
                Ok(zeros) => self.zeros_until = end.min(self.at + zeros),
                Err(error) => {
                    self.segment = self.segments.len();
                    return Some(Err(error));
                }
            }
        }
        let steps = ((self.zeros_until - self.at) / STEP).min(MOST_ZEROS);
        if steps > 0 {
            self.at += steps * STEP;
            return Some(Ok(Step::Zeros { steps }));
        }
        let len = STEP.min(end - self.at);
        let step = Step::Data { segment: self.segment, at: self.at, len };
        self.at += len;
        Some(Ok(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    /// A segment of zeros from `from` on.
    struct Hole {
        len: u64,
        from: u64,
    }

    impl View for Hole {
        fn format(&self) -> Format {
            Format::Raw
        }
        fn virtual_size(&self) -> u64 {
            self.len
        }
        fn len(&self) -> u64 {
            self.len
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, Error> {
            Ok(0)
        }
        fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
            Ok(if offset >= self.from { self.len - offset } else { 0 })
        }
    }

    #[test]
    fn steps_start_at_multiples_and_whole_steps_of_zeros_are_separated() {
        let data = |at, len| Step::Data { segment: 0, at, len };
        let zeros = |steps| Step::Zeros { steps };
        let cases = [
            (0, 0, vec![]),
            (1, 0, vec![data(0, 1)]),
            (STEP, 0, vec![zeros(1)]),
            (STEP + 1, 0, vec![zeros(1), data(STEP, 1)]),
            (3 * STEP, STEP - 1, vec![data(0, STEP), zeros(2)]),
            (3 * STEP, STEP + 1, vec![data(0, STEP), data(STEP, STEP), zeros(1)]),
            (1025 * STEP, 0, vec![zeros(1024), zeros(1)]),
        ];
        for (len, from, want) in cases {
            let segments = [Segment::View(Arc::new(Hole { len, from }))];
            let got: Vec<_> = Steps::new(&segments).map(Result::unwrap).collect();
            assert_eq!(got, want, "{len} {from}");
        }
        let bytes = |len: usize| Segment::Bytes(vec![0; len].into());
        let segments = [bytes(0), bytes(7), bytes(1)];
        let got: Vec<_> = Steps::new(&segments).map(Result::unwrap).collect();
        let of = |segment, len| Step::Data { segment, at: 0, len };
        assert_eq!(got, [of(1, 7), of(2, 1)]);
    }

    #[test]
    fn an_image_which_ends_early_is_an_error() {
        let segment = Segment::View(Arc::new(Hole { len: 10, from: 99 }));
        assert_eq!(segment.read(&mut [0; 10], 0).unwrap_err().kind(), Kind::Truncated);
    }
}

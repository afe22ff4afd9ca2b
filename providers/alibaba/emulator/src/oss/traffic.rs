//! Implements `x-oss-traffic-limit`: a client limits one of its requests to a rate in bits per second, by
//! header or query parameter. Source: the vendor's page on single-connection bandwidth throttling.

use std::sync::Arc;

use super::error::OssError;
use super::operation::Operation;
use crate::http::{Head, Throttle};

const NAME: &str = "x-oss-traffic-limit";
const LEAST: u64 = 245_760;
const MOST: u64 = 838_860_800;

fn given(head: &Head, operation: Operation) -> Option<&str> {
    let moves_bytes = matches!(
        operation,
        Operation::PutObject
            | Operation::GetObject
            | Operation::UploadPart
            | Operation::CopyObject
            | Operation::UploadPartCopy
    );
    head.header(NAME).or_else(|| head.given(NAME)).filter(|_| moves_bytes)
}

fn bits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bits| (LEAST..=MOST).contains(bits))
}

/// Refuses a rate beyond the limits.
pub(super) fn check(head: &Head, operation: Operation) -> Result<(), OssError> {
    match given(head, operation) {
        Some(text) if bits(text).is_none() => Err(OssError::argument(
            NAME,
            text,
            "The traffic limit must be an integer from 245760 to 838860800 (bit/s).",
        )),
        Some(_) | None => Ok(()),
    }
}

/// The rate that a call is limited to.
pub(crate) fn pace(head: &Head, operation: Operation) -> Option<Arc<Throttle>> {
    let bits = bits(given(head, operation)?)?;
    Some(Arc::new(Throttle::new(bits / 8)))
}

//! Implements UploadPartCopy: a part whose bytes come from an object, whole or a range of it. The bytes are
//! copied, so that the finished object is one file as with uploaded parts.

use std::io;
use std::os::unix::fs::FileExt as _;

use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};

use super::error::OssError;
use super::multipart::{self, Place};
use super::object::{self, MAX_PUT};
use super::receive::Received;
use super::xml::Xml;
use super::{copy, range};
use crate::clock;
use crate::http::{Answer, FileRun, Head};
use crate::service::Context;

/// Bytes copied before other calls get their turn.
const STEP: u64 = 1 << 20;

/// UploadPartCopy.
pub(super) async fn copy(
    context: &Context<'_>,
    head: &Head,
    (bucket, key): (&str, &str),
) -> Result<Answer, OssError> {
    let number = multipart::part_number(head)?;
    let (runs, length) = open(context, head, bucket)?;
    let place = multipart::reserve(context, head, (bucket, key), number, length)?;
    let has_md5 = !context.config.fast_etags;
    let received = fill(&place, runs, has_md5).await.map_err(|error| OssError::internal(&error))?;
    let part = multipart::enter(context, &place, &received)?;
    let etag = format!("\"{}\"", part.etag);
    let mut xml = Xml::new("CopyPartResult");
    xml.leaf("LastModified", &clock::iso_zeros(part.modified)).leaf("ETag", &etag);
    Ok(Answer::text(200, "application/xml", xml.finish()).with("etag", &etag))
}

/// Opens the bytes to copy, and returns their number.
fn open(context: &Context<'_>, head: &Head, bucket: &str) -> Result<(Vec<FileRun>, u64), OssError> {
    let world = context.store.world();
    let source = copy::source(&world, head, bucket)?;
    let wanted = head.header("x-oss-copy-source-range");
    let (first, length) =
        wanted.and_then(|text| range::inside(text, source.length)).unwrap_or((0, source.length));
    if length > MAX_PUT {
        return Err(OssError::new(400, "EntityTooLarge", "A part has at most 5 GB."));
    }
    Ok((object::runs(context, &source, (first, length))?, length))
}

async fn fill(place: &Place<'_>, runs: Vec<FileRun>, has_md5: bool) -> io::Result<Received> {
    let mut crc = Crc::new(CrcAlgorithm::Crc64Xz);
    let mut md5 = has_md5.then(Md5::new);
    let mut length = 0;
    let mut buffer = vec![0; usize::try_from(STEP).expect("a step fits in memory")];
    for mut run in runs {
        while run.length > 0 {
            let step = run.length.min(STEP);
            let data = &mut buffer[..usize::try_from(step).expect("a step fits in memory")];
            run.file.read_exact_at(data, run.offset)?;
            crc.update(data);
            if let Some(md5) = &mut md5 {
                md5.update(&*data);
            }
            place.file.write_all_at(data, place.offset + length)?;
            run.offset += step;
            run.length -= step;
            length += step;
            tokio::task::yield_now().await;
        }
    }
    let md5 = md5.map(|md5| md5.finalize().into());
    Ok(Received { length, crc64: crc.finalize(), md5 })
}

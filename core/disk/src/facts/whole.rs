//! Finds what the tables and file systems of a disk place behind its end, as in a file whose copy ended early.

use super::table::Found;
use crate::error::Error;
use crate::format::GuestReader;
use crate::signature::{Content, recognise};

/// A part of the disk that is not there, or not completely.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The part, such as `partition 2`.
    pub what: String,
    /// Where it ends, in bytes from the start of the disk.
    pub end: u64,
}

/// Returns the parts that end behind the stored content; what a larger disk would add is zeros, not content.
pub(super) fn missing(disk: &GuestReader, found: &mut Found) -> Result<Vec<Missing>, Error> {
    let size = disk.stored_size();
    let mut parts = Vec::new();
    for partition in &found.partitions {
        let (number, start) = (partition.number, partition.start);
        parts.push((format!("partition {number}"), start.saturating_add(partition.len)));
        let Some((content, length)) = content(disk, start, partition.len)? else { continue };
        let kind = content.kind;
        parts.push((format!("the {kind} in partition {number}"), start.saturating_add(length)));
        if length > partition.len {
            found
                .remarks
                .push(format!("the {kind} in partition {number} is larger than the partition"));
        }
    }
    if found.partitions.is_empty()
        && let Some((content, length)) = content(disk, 0, size)?
    {
        parts.push((format!("the {}", content.kind), length));
    }
    if let Some(end) = found.backup_end {
        parts.push(("the backup of the partition table".to_owned(), end));
    }
    parts.retain(|(_, end)| *end > size);
    Ok(parts.into_iter().map(|(what, end)| Missing { what, end }).collect())
}

/// Recognises content that states its length, in bytes.
fn content(disk: &GuestReader, start: u64, length: u64) -> Result<Option<(Content, u64)>, Error> {
    let content = recognise(|at, most| {
        let left = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        let there = start.checked_add(at).map_or(Ok(0), |at| disk.read_at(&mut bytes, at))?;
        bytes.truncate(there);
        Ok::<_, Error>(bytes)
    })?;
    Ok(content.and_then(|content| content.length.map(|length| (content, length))))
}

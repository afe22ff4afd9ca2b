//! Implements OSS: buckets, objects, multipart uploads, as far as an uploader and an image import need them.

mod acceleration;
mod bucket;
mod complete;
mod conditions;
mod copy;
mod copy_part;
mod delete_many;
mod encryption;
pub(crate) mod error;
#[cfg(test)]
mod fuzz;
mod list;
mod list_uploads;
mod multipart;
pub(crate) mod names;
mod object;
pub(crate) mod operation;
mod range;
mod read_xml;
mod receive;
pub(crate) mod route;
mod serve;
pub(crate) mod traffic;
pub(crate) mod xml;

pub(crate) use serve::{refuse, serve};

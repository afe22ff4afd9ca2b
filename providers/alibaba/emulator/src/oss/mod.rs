//! OSS: buckets, objects, multipart uploads, as far as an uploader and an image import need them.

mod bucket;
mod complete;
pub(crate) mod error;
mod list;
mod list_uploads;
mod multipart;
pub(crate) mod names;
mod object;
mod range;
mod receive;
pub(crate) mod route;
mod serve;
pub(crate) mod xml;

pub(crate) use serve::{refuse, serve};

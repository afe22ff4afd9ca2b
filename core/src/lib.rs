//! From an installer ISO or a disk image to a registered cloud image.
//!
//! Reading order: `cli` (what was typed) → `settings` (what is meant) → `plan` (what will be done) →
//! `pipeline` (doing it) with `product` (BIG-IP), `plugins` (providers), `journal` (what is done) and
//! `report` (what is said). No cloud is known here by name; providers are asked what they can do.
#![forbid(unsafe_code)]

use build_image_files::lock;

pub mod artifacts;
pub mod cli;
pub mod clock;
pub mod error;
pub mod exit;
pub mod install;
pub mod interrupt;
pub mod journal;
pub mod pipeline;
pub mod plan;
pub mod plugins;
pub mod product;
pub mod publication;
pub mod random;
pub mod records;
mod registry;
pub mod report;
pub mod runs;
pub mod settings;
pub mod signature;
mod source;
pub mod tags;
pub mod trust;

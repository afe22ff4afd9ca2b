//! Plans a build: every decision is made before anything is created.
//!
//! ```text
//! draws.rs      the run's identifier, and the suffix of the image's name
//! source.rs     the source of the image            decide.rs  combines everything into a plan
//! names.rs      names of files and directories     resume.rs  continues a run of another process
//! image_name.rs the image's name                   space.rs   free space
//! disk_size.rs  within the provider's limits guest.rs   what was found on the disk
//! compression.rs  the setting that lets less be sent
//! ```

mod compression;
mod decide;
pub(crate) mod disk_size;
mod draws;
mod guest;
mod image_name;
mod names;
mod resume;
mod source;
mod space;

pub(crate) use compression::advice as compression_advice;
pub(crate) use decide::base_directory;
pub use decide::{Installation, MachinePlan, Plan};
pub use draws::{Draws, Suffixes, new_id};
pub(crate) use guest::guest_facts;
pub use image_name::{check_name, compose_name};
pub use source::{Iso, Medium, RemoteObject, Source, Unread};
pub(crate) use space::{check as check_space, free_space, needs as space_needs};

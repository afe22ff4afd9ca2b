//! Plans a build: every decision is made before anything is created.
//!
//! ```text
//! source.rs     the source of the image            decide.rs  combines everything into a plan
//! names.rs      names of files and the image       resume.rs  continues a run of another process
//! disk_size.rs  within the provider's limits       space.rs   free space
//! ```

mod decide;
mod disk_size;
mod names;
mod resume;
mod source;
mod space;

pub use decide::{Draws, Installation, MachinePlan, Plan};
pub(crate) use decide::{base_directory, shape as check_shape};
pub use source::{Hotfix, Source, Unread};
pub(crate) use space::{check as check_space, free_space, needs as space_needs};

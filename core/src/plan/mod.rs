//! What will be done, decided before anything is.
//!
//! ```text
//! source.rs     what the image is made from      decide.rs  everything becomes one value
//! names.rs      of files and the image           resume.rs  a run that another process began
//! disk_size.rs  within the provider's limits     space.rs   free space
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

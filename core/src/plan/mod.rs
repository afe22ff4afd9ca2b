//! What will be done, decided before anything is.

mod decide;
mod disk_size;
mod space;

pub use decide::{Hotfix, Installation, MachinePlan, Plan, Source};
pub(crate) use decide::{base_folder, shape as check_shape};
pub(crate) use space::{check as check_space, free_space, needs as space_needs};

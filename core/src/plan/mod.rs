//! What will be done, decided before anything is.

mod decide;
mod disk_size;

pub use decide::{Hotfix, Installation, MachinePlan, Plan, Source};

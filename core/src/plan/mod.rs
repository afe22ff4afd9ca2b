//! What will be done, decided before anything is.

mod decide;
mod disk_size;

pub use decide::{Installation, MachinePlan, Plan, Source};

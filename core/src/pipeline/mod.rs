//! Doing what a plan says.
//!
//! ```text
//! order.rs  which step follows which, what happens when one fails     steps.rs  each step
//! publish.rs  the package in IMAGE_DIR            provenance.rs  what an image was made of
//! undo.rs   removing what was created, in reverse order
//! ```

mod order;
mod provenance;
mod publish;
mod steps;
mod undo;

pub use order::{Pipeline, Start};
pub use undo::clean;

//! Does what a plan says.
//!
//! ```text
//! state.rs    the states of a build, in their order    order.rs    walks them
//! steps.rs    each step                                release.rs  what follows the release
//! publish.rs  the package in IMAGE_DIR                 provenance.rs  what an image was made of
//! install.rs  installs an ISO                          inputs.rs   the files it is made from
//! undo.rs     removes what was created, in reverse order
//! changed.rs  what changed settings mean to a run that is resumed
//! reuse.rs    whether the disk of an earlier build is used again
//! ```

mod changed;
mod inputs;
mod install;
mod order;
mod provenance;
mod publish;
mod release;
mod reuse;
mod state;
mod steps;
mod undo;

pub use order::{Pipeline, PipelineParams};
pub use provenance::{publish_statement, statement_of};
pub use state::{Entrance, Flow, PUBLISH, Row, State, TABLE, Undo};
pub use undo::clean;

//! Executes a plan.
//!
//! ```text
//! state.rs    the states of a build, in their order    order.rs    walks them
//! steps.rs    each step                                release.rs  the steps from the release on
//! publish.rs  the package in IMAGE_DIR                 provenance.rs  the provenance statement
//! guest.rs    inspects the disk for checks and steps     sbom.rs     its packages, beside the statement
//! install.rs  installs an ISO                          inputs.rs   the files a build is made from
//! undo.rs     removes what was created, in reverse order     ending.rs  ends a build, failed or released
//! changed.rs  changed settings of a run that is resumed
//! boot.rs     boots the image before it is sent
//! bundle.rs   writes a bundle; verifies and publishes one
//! locate.rs   an uploaded object that is registered later, by another run
//! same.rs     finds images of the account that were made from the same disk
//! deprecate.rs  deprecates older images of the family
//! reuse.rs    decides whether the disk of an earlier build is used again
//! shared.rs   preparations that the targets of a build share      once.rs  makes a value once for all threads
//! ```

mod boot;
mod bundle;
mod changed;
mod deprecate;
mod ending;
mod guest;
mod inputs;
mod install;
mod locate;
mod once;
mod order;
mod provenance;
mod publish;
mod release;
mod reuse;
mod same;
mod sbom;
mod shared;
mod state;
mod steps;
mod undo;

pub(crate) use guest::{SUBJECT as GUEST, as_findings, described, located};
pub use order::{Pipeline, PipelineParams};
pub use provenance::{publish_statement, statement_of};
pub(crate) use sbom::text as sbom_text;
pub use shared::{Ending, Member, Preparations, Shared};
pub use state::{Entrance, Flow, PUBLISH, Row, State, TABLE, Undo};
pub use undo::clean;
pub(crate) use undo::discard;

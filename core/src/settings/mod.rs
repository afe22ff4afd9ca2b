//! Resolves settings: rows (declarations) → layers (texts of flags, file, environment) → values (parsed).
//!
//! Precedence: command line, configuration file, environment, default. An empty text counts as unset.

mod advice;
mod builder;
mod env;
mod file;
mod home;
mod parse;
mod resolve;
mod row;
mod schema;
mod unused;

pub(crate) use advice::{example, stated};
pub use builder::Builder;
pub use env::Environment;
pub(crate) use env::PREFIX;
pub use file::{Entry, FileLayer};
pub use parse::parse_text;
pub use resolve::{Layers, Origin, Resolved, Value};
pub use row::{CommandLine, Row};
pub use schema::{first_rows, rows as core_rows};
pub(crate) use unused::unused;

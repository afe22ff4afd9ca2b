//! Resolves settings: rows (declarations) → layers (texts of flags, file, environment) → values (parsed).
//!
//! Precedence: command line, configuration file, environment, default. An empty text counts as unset.

mod advice;
mod builder;
mod choice;
mod env;
mod file;
mod guest;
mod home;
mod key;
mod parse;
mod resolve;
mod row;
mod schema;
mod typed;

pub(crate) use advice::{example, stated};
pub use builder::Builder;
pub use choice::{LogLevel, OnFailure, Package, ProgressMode};
pub use env::Environment;
pub(crate) use env::PREFIX;
pub use file::{Entry, FileLayer};
pub use key::Key;
pub use parse::parse_text;
pub use resolve::{ByName, Layers, Origin, Resolved, Value};
pub use row::{AppliesTo, CommandLine, OnResume, Row, Use, Written};
pub(crate) use schema::core_row;
pub use schema::{core_rows, keys, rows_for, rows_of};
pub use typed::{
    CoreSettings, Download, Image, Machine, Output, Plugins, Publication, Registry, Run,
    Signatures, Source,
};

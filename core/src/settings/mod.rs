//! Resolves settings: rows (declarations) → layers (texts of flags, file, environment) → values (parsed).
//!
//! Precedence: command line, configuration file, environment, default. An empty text counts as unset.
//!
//! ```text
//! schema.rs  the table of rows                                 key.rs      keys
//! groups.rs  the structs of values
//! row.rs     a row with its attributes                        rows.rs     lists of rows
//! define.rs  the macros of both                               typed.rs    values into fields
//! file.rs, env.rs  texts of files and of the environment     parse.rs    texts into values
//! precedence.rs  which text counts                            resolve.rs  the values
//! found_file.rs the file of the working directory, and what it may set
//! unused.rs  values without effect                            advice.rs   hints for wrong values
//! boot.rs    words of the settings of boot tests             targets.rs the list of targets in the file
//! ```

mod advice;
mod builder;
mod define;
mod env;
mod file;
mod found_file;
mod groups;
mod home;
mod key;
mod parse;
mod precedence;
mod resolve;
mod row;
mod rows;
mod schema;
mod targets;
mod typed;
mod unused;
mod words;

pub(crate) use advice::{example, stated};
pub use builder::Builder;
pub use env::Environment;
pub(crate) use env::PREFIX;
pub(crate) use file::yaml_with_lines;
pub use file::{Entry, FileLayer};
pub use found_file::FOUND_FILE;
pub(crate) use found_file::{find as find_file, note as found_note};
pub use groups::*;
pub(crate) use home::{STDIN, names_file};
pub use key::Key;
pub use parse::parse_text;
pub use precedence::Layers;
pub use resolve::{ByName, Origin, Resolved, Value};
pub use row::{AppliesTo, CommandLine, Named, OnResume, Row, Use, Written};
pub(crate) use rows::core_row;
pub use rows::{core_rows, rows_for, rows_of};
pub use schema::*;
pub use targets::{ChosenTarget, TargetList};
pub(crate) use unused::unused;
pub use words::*;

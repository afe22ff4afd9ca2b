//! Defines what an installer is: it turns an ISO into a raw disk by running guests, and the engine runs them.
//!
//! An installer declares, reads, and decides; it starts nothing and writes nothing. The engine owns downloads,
//! verification, qemu, the journal, and the files of a build. Read in this order: [`Installer`] (one system
//! family), [`System`] (what an ISO installs), [`Installation`] (one installation with all decisions made),
//! [`Pass`] (one guest).

mod documents;
mod refusal;
mod row;
mod settings;

use std::sync::Arc;

pub use documents::{
    Checked, Document, Example, Expected, FirstBoot, FurtherMedium, InputFile, IsoFile,
    MediumSetting, Names, Note, Pass, Record, RecordContext, Request, System,
};
pub use refusal::{Fault, Problem, Refusal};
pub use row::{Attributes, OnResume};
pub use settings::{Lookup, Settings, Value};

use crate::iso::Iso;

/// Installs one family of systems. Implementations are stateless.
pub trait Installer: Send + Sync {
    /// Returns its name, a lower-case word.
    fn name(&self) -> &'static str;

    /// Returns the systems that it installs, as texts name them: "give a … installer ISO".
    fn systems(&self) -> &'static str;

    /// Returns an example for the help, if it has one.
    fn example(&self) -> Option<Example>;

    /// Returns the settings of ISOs that are installed on top of the base ISO, in this order.
    fn media(&self) -> &'static [MediumSetting];

    /// Returns whether the installed system configures its network and reads the cloud's data by its own programs.
    fn configures_network(&self) -> bool;

    /// Checks the settings that every installation needs, before an ISO is read or downloaded.
    ///
    /// # Errors
    /// All settings that are missing.
    fn check_settings(&self, settings: &Settings) -> Result<(), Refusal>;

    /// Returns the last part of the artifacts directory; the settings have been checked.
    fn directory(&self, settings: &Settings) -> String;

    /// Returns the evidence that this installer installs an ISO; `None` when there is no evidence.
    fn recognise(&self, iso: &Iso, settings: &Settings) -> Option<String>;

    /// Reads what an ISO installs. A downloaded ISO gets its file name from the result.
    ///
    /// # Errors
    /// Why the ISO does not belong to this installer.
    fn examine(&self, iso: &Iso, settings: &Settings) -> Result<System, Refusal>;

    /// Reads what the ISO of a further medium changes, and checks that it fits the base.
    ///
    /// # Errors
    /// Why it does not fit.
    fn examine_further(
        &self,
        medium: &MediumSetting,
        iso: &Iso,
        base: &System,
    ) -> Result<System, Refusal>;

    /// Checks that an examined ISO can be installed, and reads what else the plan needs from it.
    ///
    /// # Errors
    /// What is missing on the ISO.
    fn check(&self, iso: &Iso, system: System) -> Result<Checked, Refusal>;

    /// Returns the local and remote files that the settings name, beside the ISOs.
    ///
    /// # Errors
    /// Every entry that is not accepted.
    fn input_files(
        &self,
        settings: &Settings,
        lookup: &dyn Lookup,
    ) -> Result<Vec<InputFile>, Refusal>;

    /// Makes all decisions of an installation.
    ///
    /// # Errors
    /// Settings, or wishes of the provider, that the ISO cannot meet.
    fn prepare(&self, request: &Request<'_>) -> Result<Arc<dyn Installation>, Refusal>;
}

/// One installation with all decisions made.
pub trait Installation: Send + Sync {
    /// Returns the decisions.
    fn document(&self) -> &Document;

    /// Returns the guests to run, in order. `files` are those of the document, now all local.
    ///
    /// # Errors
    /// A file or an ISO that cannot be read.
    fn passes(&self, files: &[InputFile]) -> Result<Vec<Pass>, Refusal>;

    /// Returns the records to write for other programs before the first pass.
    fn records_of_start(&self, context: &RecordContext<'_>) -> Vec<Record>;

    /// Returns the records to write for other programs once the disk is installed.
    fn records_of_end(&self, context: &RecordContext<'_>) -> Vec<Record>;
}

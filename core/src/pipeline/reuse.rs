//! Decides whether the disk that an earlier build installed is used again, and claims its directory.

use std::{path::Path, sync::PoisonError};

use super::Pipeline;
use crate::{
    artifacts::Claim, error::Result, install::InstallFingerprint, settings::keys::ARTIFACTS_DIR,
};

impl Pipeline<'_> {
    /// Returns the directory with the disk of an earlier build, if that was made from the same inputs, is unchanged,
    /// and only this user could have changed it.
    ///
    /// # Errors
    /// When another build uses the directory, it belongs to another user, the disk cannot be read, or the user
    /// cancels.
    pub(super) fn reusable(
        &self,
        directory: &Path,
        disk: &Path,
        inputs: &str,
    ) -> Result<Option<Claim>> {
        let Some(claim) = Claim::earlier(directory, &self.plan.build.run_id)? else {
            return Ok(None);
        };
        if let Some(why) = InstallFingerprint::doubt(directory, disk) {
            let text = format!("the disk installed before is not trusted, installing again: {why}");
            let hint =
                format!("set {ARTIFACTS_DIR} to a directory that only this user may write to");
            self.reporter.warning(&text, Some(&hint));
            return Ok(None);
        }
        Ok(InstallFingerprint::is_in(directory, disk, inputs, &|| self.check_cancelled())?
            .then_some(claim))
    }

    /// Holds a directory until this process ends or removes it.
    pub(super) fn hold(&self, claim: Claim) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
    }

    /// Holds the directory that an earlier process of the run installed into, if there is one.
    pub(super) fn hold_earlier(&self) {
        if self.plan.installs {
            let earlier = Claim::earlier(&self.plan.artifacts, &self.plan.build.run_id);
            *self.claim.lock().unwrap_or_else(PoisonError::into_inner) =
                earlier.unwrap_or_default();
        }
    }

    /// Creates the directory of this build, or empties that of an earlier build.
    ///
    /// # Errors
    /// As [`Claim::take`].
    pub(super) fn take_artifacts(&self, directory: &Path) -> Result<Claim> {
        Claim::take(directory, &self.plan.build.run_id, &self.inputs_of_build())
    }
}

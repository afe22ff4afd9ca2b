//! What a provider implements.

use crate::{
    Context, Description, Disk, Error, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
};

/// A cloud, or any other place images go to.
///
/// Order of calls: `describe` (any time, any thread, without anything else) → `create` → `check` →
/// `create_disk` → `upload` → `register` → `discard` (of means on success, of everything on failure) →
/// drop. A resumed run calls the steps again; use [`Context::load`] to find what was done.
///
/// Methods are synchronous; use threads or [`Context::block_on`] inside. They may be called from any
/// thread, one at a time per instance. A panic becomes an error of kind `panic`. A step that finds
/// [`Context::is_cancelled`] true returns [`Error::cancelled`] within two seconds.
pub trait Provider: Sized + Send + Sync + 'static {
    /// Who this is and what it can do. Pure: no I/O, no threads, the same answer every time.
    fn describe() -> Description;

    /// Makes an instance from settings that fit the description's rows. Cheap, no network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for settings that contradict each other.
    fn create(context: &Context, settings: Settings) -> Result<Self>;

    /// Finds within seconds, before the long work, whatever would make a later step fail.
    ///
    /// # Errors
    /// Only what keeps the check itself from running; problems are findings.
    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        let (_, _) = (context, request);
        Ok(CheckReport::default())
    }

    /// Gives the disk its form. The default asks the host for what the description wants.
    ///
    /// # Errors
    /// Whatever keeps the disk from being made.
    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        context.make_disk(&request.spec)
    }

    /// Brings the image to the cloud.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented.
    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        let (_, _) = (context, request);
        Err(no_step("upload"))
    }

    /// Makes a registered image of what was uploaded.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented.
    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        let (_, _) = (context, request);
        Err(no_step("register"))
    }

    /// Removes resources. Idempotent; what is gone already counts as removed.
    ///
    /// # Errors
    /// Only what keeps all of it from being tried; single failures are listed in the answer.
    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        let _ = context;
        if request.resources.is_empty() {
            return Ok(Discarded::default());
        }
        Err(no_step("discard"))
    }
}

fn no_step(step: &str) -> Error {
    Error::unsupported(
        format!("this provider does not {step}"),
        "stop before this step with --no-upload and continue by hand",
    )
}

/// The steps of an instance, as a host sees them: loaded from a plugin or linked in.
pub trait Steps: Send + Sync {
    /// See [`Provider::check`].
    ///
    /// # Errors
    /// The provider's.
    fn check(&self, request: &CheckRequest) -> Result<CheckReport>;
    /// See [`Provider::create_disk`].
    ///
    /// # Errors
    /// The provider's.
    fn create_disk(&self, request: &DiskRequest) -> Result<Disk>;
    /// See [`Provider::upload`].
    ///
    /// # Errors
    /// The provider's.
    fn upload(&self, request: &UploadRequest) -> Result<Uploaded>;
    /// See [`Provider::register`].
    ///
    /// # Errors
    /// The provider's.
    fn register(&self, request: &RegisterRequest) -> Result<Registered>;
    /// See [`Provider::discard`].
    ///
    /// # Errors
    /// The provider's.
    fn discard(&self, request: &DiscardRequest) -> Result<Discarded>;
}

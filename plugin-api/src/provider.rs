//! Defines the trait that a provider implements.

use crate::{
    Context, Description, Disk, Error, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
};

/// A cloud, or any other destination of images.
///
/// Order of calls: `describe` (any time, any thread, before everything else) → `create` → `check` → `create_disk`
/// → `upload` → `register` → `discard` (of intermediates on success, of everything on failure) → drop. A resumed
/// run calls the steps again; use [`Context::load`] to find what was done.
///
/// Methods are synchronous; use threads or [`Context::block_on`] inside. They may be called from any thread, one
/// at a time per instance. A panic becomes an error of kind `panic`. A step that finds [`Context::is_cancelled`]
/// true returns [`Error::cancelled`] within two seconds.
pub trait Provider: Sized + Send + Sync + 'static {
    /// Returns the provider's name and capabilities. Pure: no I/O, no threads, the same answer every time.
    fn describe() -> Description;

    /// Creates an instance from settings that match the description's rows. Cheap, without network access.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for settings that contradict each other.
    fn create(context: &Context, settings: Settings) -> Result<Self>;

    /// Finds within seconds, before the installation or download, every problem that would make a later step fail.
    ///
    /// # Errors
    /// Only failures that prevent the check from running; problems are findings.
    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        let (_, _) = (context, request);
        Ok(CheckReport::default())
    }

    /// Requests the disk in the image format that the provider needs. The default requests the format in the
    /// description.
    ///
    /// # Errors
    /// Any failure that prevents the disk from being made.
    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        context.make_disk(&request.spec)
    }

    /// Uploads the image to the cloud.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented.
    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        let (_, _) = (context, request);
        Err(no_step("upload"))
    }

    /// Registers an image from the uploaded data.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented.
    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        let (_, _) = (context, request);
        Err(no_step("register"))
    }

    /// Removes resources. Idempotent; a resource that no longer exists counts as removed.
    ///
    /// # Errors
    /// Only failures that prevent every removal from being attempted; single failures are listed in the answer.
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

/// The steps of an instance as a host calls them: loaded from a plugin or linked in. Methods that a later minor version
/// adds have default bodies.
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

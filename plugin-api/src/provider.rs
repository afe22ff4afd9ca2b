//! Defines the trait that a provider implements, and the table of its steps.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Context, Description, Disk, Error, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Inventory,
        InventoryRequest, LocateRequest, Located, ManageOutcome, ManageRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
    wire::print,
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

    /// Lists what carries the marks of builds in the account: images, snapshots, objects, uploads in progress, tasks.
    /// Reads only. It belongs to no run: [`Context::save`] and resources are not available for it. A provider that
    /// implements it declares the capability `inventory`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented. A region that cannot be read is a finding.
    fn inventory(&self, context: &Context, request: &InventoryRequest) -> Result<Inventory> {
        let (_, _) = (context, request);
        Err(Error::unsupported(
            "this provider does not list what builds left in the account",
            "`build-image runs` lists the runs of this machine; look for the run id in the tags that the cloud shows",
        ))
    }

    /// Changes registered images: shares, publishes, deprecates, tags, copies, deletes. Idempotent, and changes nothing in a
    /// dry run. Images are found by identifier, never by name alone. A provider that implements it declares a
    /// capability for each action, see [`crate::document::Action::capability`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented, and for actions that are not declared. What concerns a
    /// single image is a result of that image.
    fn manage(&self, context: &Context, request: &ManageRequest) -> Result<ManageOutcome> {
        let (_, _) = (context, request);
        Err(Error::unsupported(
            "this provider does not change registered images",
            "change the image with the cloud's console or command line",
        ))
    }

    /// Finds an object that was uploaded before, by another run or another tool, so that `register` can use it. Checks
    /// that it exists, and that its size and format are those of an image. Reads only, and records no resource: the
    /// object belongs to the user, and neither a failure nor `gc` may remove it. A provider that implements it declares
    /// the capability `locate`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] unless implemented, [`crate::ErrorKind::NotFound`] when the object does not
    /// exist, [`crate::ErrorKind::InvalidImage`] when it holds no image that can be registered, and
    /// [`crate::ErrorKind::Config`] when it is elsewhere than the settings say, or a setting must state what the object
    /// does not show.
    fn locate(&self, context: &Context, request: &LocateRequest) -> Result<Located> {
        let (_, _) = (context, request);
        Err(Error::unsupported(
            "this provider does not register objects that are there already",
            "build the image with this provider, or register the object with the cloud's own tools",
        ))
    }
}

fn no_step(step: &str) -> Error {
    Error::unsupported(
        format!("this provider does not {step}"),
        "stop before this step with --no-upload and continue by hand",
    )
}

/// THE STEP TABLE. A row is a step: its name in Rust, its method (which is also its name on the wire, in the `exec`
/// protocol and in messages), the documents it receives and returns, and the minor version of ABI 1 that added it.
///
/// Generated from it: [`Step`] and [`Steps`] below, the plugin's half (`wire/export.rs`), the host's half
/// (`wire/lend.rs`), and through [`Step`] the calls of both transports. Written by hand beside it: the author's
/// [`Provider`] above, with its default bodies, and the frozen text of the ABI (`wire/abi.rs`). A row without its method
/// there does not compile.
macro_rules! step_table {
    ($generate:ident) => {
        $generate! {
            Check check(CheckRequest) -> CheckReport, since 0;
            CreateDisk create_disk(DiskRequest) -> Disk, since 0;
            Upload upload(UploadRequest) -> Uploaded, since 0;
            Register register(RegisterRequest) -> Registered, since 0;
            Discard discard(DiscardRequest) -> Discarded, since 0;
            Inventory inventory(InventoryRequest) -> Inventory, since 1;
            Manage manage(ManageRequest) -> ManageOutcome, since 1;
            Locate locate(LocateRequest) -> Located, since 1;
        }
    };
}
pub(crate) use step_table;

macro_rules! define_steps {
    ($($step:ident $method:ident($request:ty) -> $answer:ty, since $minor:literal;)*) => {
        /// A step of a provider: a row of the step table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Step {
            $(
                #[doc = concat!("See [`Provider::", stringify!($method), "`].")]
                $step,
            )*
        }

        impl Step {
            /// All steps, oldest first.
            pub const ALL: &'static [Self] = &[$(Self::$step),*];

            /// Returns the name in calls, messages and traces.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$step => stringify!($method),)* }
            }

            /// Returns the minor version of ABI 1 that added the step.
            #[must_use]
            pub const fn since(self) -> u32 {
                match self { $(Self::$step => $minor,)* }
            }
        }

        /// The steps of an instance as a host calls them, whatever the transport. A transport implements
        /// [`Steps::call`]; the typed methods follow from it.
        pub trait Steps: Send + Sync {
            /// Calls a step with its request as JSON text; returns its answer as JSON text. The methods below use it;
            /// an instance implements it, or those of them that it supports.
            ///
            /// # Errors
            /// The provider's, and failures of the transport.
            fn call(&self, step: Step, request: &str) -> Result<String> {
                let _ = request;
                Err(Error::unsupported(
                    format!("step {} of this instance", step.name()),
                    "implement `Steps::call`, or the method of the step",
                ))
            }

            $(
                #[doc = concat!("See [`Provider::", stringify!($method), "`].")]
                ///
                /// # Errors
                /// The provider's.
                fn $method(&self, request: &$request) -> Result<$answer> {
                    typed(self, Step::$step, request)
                }
            )*
        }
    };
}
step_table!(define_steps);

fn typed<S: Steps + ?Sized, Q: Serialize, A: DeserializeOwned>(
    steps: &S,
    step: Step,
    request: &Q,
) -> Result<A> {
    let answer = steps.call(step, &print(request)?)?;
    serde_json::from_str(&answer).map_err(|error| {
        Error::internal(format!("the answer to {} is malformed", step.name())).caused_by(&error)
    })
}

impl Step {
    /// Returns the step of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.name() == name)
    }

    /// Returns whether a provider may leave the step out: one that a minor version added. Such a step is declared in
    /// [`Description::capabilities`]: by its name, or by a word that begins with its name and a dot.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        self.since() > 0
    }

    /// Returns whether the provider declares the step. Steps of ABI 1.0 need no declaration.
    #[must_use]
    pub fn is_declared_by(self, description: &Description) -> bool {
        let begins = |word: &String| word.split('.').next() == Some(self.name());
        !self.is_optional() || description.capabilities.iter().any(begins)
    }

    /// Checks whether the provider was built for an ABI that has the step.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] with both versions.
    pub fn check_built(self, description: &Description) -> Result<()> {
        let built = &description.abi.built;
        let minor = built.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        if minor.unwrap_or_default() >= self.since() {
            return Ok(());
        }
        let (provider, step, since) = (&description.name, self.name(), self.since());
        Err(Error::unsupported(
            format!(
                "provider `{provider}` was built for plugin ABI {built}; step `{step}` exists since 1.{since}"
            ),
            format!(
                "use a release of the provider that was built for plugin ABI 1.{since} or later"
            ),
        ))
    }
}

//! Lists and changes what builds made in an account of a cloud, without any file of these builds: the account is the
//! truth.
//!
//! ```text
//! mod.rs     asks the provider: an inventory with all its pages, a change, a removal
//! sweep.rs   which objects unfinished builds left
//! retain.rs  which images are older than those that stay
//! drift.rs   what differs between an image and its copies
//! declared.rs  the file that declares how images must be
//! ```

mod declared;
mod drift;
mod retain;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use build_image_plugin_api::{
    Error as ProviderError, ErrorKind, Host, Resource, Steps,
    document::{
        Action, Change, DiscardReason, DiscardRequest, Finding, Inventory, InventoryRequest, Item,
        ManageRequest, Managed, Reference,
    },
};

pub use declared::{Declared, declarations};
pub(crate) use drift::audience;
pub use drift::{Difference, compare};
pub(crate) use retain::outdated;
pub use retain::{Retention, superseded};
pub use sweep::{Kept, Sweep, sweep};

use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    journal::{Journal, Key},
    pipeline::discard,
    plugins::{Plugin, Redactor, RunHost},
    report::{Leftover, Reporter},
    settings::{Environment, Resolved},
};

/// Most pages of an inventory: a provider that never ends would fill the memory.
const MOST_PAGES: usize = 10_000;
/// The capability of a provider that lists what is in an account.
const INVENTORY: &str = "inventory";

/// An account, as the settings of a provider name it.
pub struct Account<'a> {
    plugin: &'a Plugin,
    host: Arc<RunHost>,
    steps: Box<dyn Steps>,
    interrupt: Arc<Interrupt>,
}

/// What an account contains.
#[derive(Clone, Default)]
pub struct Listing {
    /// The objects.
    pub items: Vec<Item>,
    /// Regions that were read completely.
    pub regions: Vec<String>,
    /// Problems, such as a region that could not be read.
    pub findings: Vec<Finding>,
}

impl<'a> Account<'a> {
    /// Opens an account.
    ///
    /// # Errors
    /// When the provider refuses its settings.
    pub fn open(
        plugin: &'a Plugin,
        settings: &Resolved,
        environment: &Environment,
        reporter: Arc<Reporter>,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self> {
        let key = Arc::new(Key::existing(settings, environment)?);
        // It is not needed later: what these calls create carries marks.
        let journal = Journal::in_memory(&key)?;
        let rows = plugin.rows();
        let secrets = settings.secrets(&rows);
        let host = Arc::new(RunHost::new(journal, reporter, Arc::clone(&interrupt), secrets));
        let lent: Arc<dyn Host> = host.clone();
        let made = plugin.create(lent, &settings.for_provider(&rows));
        let steps = made.map_err(|error| {
            Error::provider(&plugin.name, "create", host.redactor().error(error))
        })?;
        Ok(Self { plugin, host, steps, interrupt })
    }

    /// Lists objects.
    ///
    /// # Errors
    /// When the provider has no inventory, or cannot read the account.
    pub fn list(&self, request: &InventoryRequest) -> Result<Listing> {
        self.needs(INVENTORY, "list what is in an account")?;
        let lister = Lister {
            name: &self.plugin.name,
            host: &self.host,
            steps: self.steps.as_ref(),
            interrupt: &self.interrupt,
        };
        lister.list(request)
    }

    /// Changes images, one after the other; copies are made at the same time. The results of those that were changed are
    /// kept also when it fails: the others get results that say so. An image without a result counts as refused.
    ///
    /// # Errors
    /// When the provider does not have the action, or fails as a whole, and when the user cancels.
    pub fn manage(&self, request: &ManageRequest, results: &mut Vec<Managed>) -> Result<()> {
        let capability = request.action.capability();
        self.needs(capability, &format!("do `{capability}`"))?;
        let calls = if matches!(request.action, Action::Copy { .. }) {
            vec![request.clone()]
        } else {
            let single = |image: &Reference| {
                let mut call = request.clone();
                call.images = vec![image.clone()];
                call
            };
            request.images.iter().map(single).collect()
        };
        let mut calls = calls.into_iter();
        while let Some(call) = calls.next() {
            let answer = match self.interrupt.check() {
                Ok(()) => self.steps.manage(&call).map_err(|error| self.manage_error(error)),
                Err(error) => {
                    results.extend(untried(&call));
                    results.extend(calls.flat_map(|call| untried(&call)));
                    return Err(error);
                }
            };
            match answer {
                Ok(answer) => results.extend(complete(answer.results, &call)),
                Err(error) => {
                    results.extend(unanswered(&call, &error));
                    results.extend(calls.flat_map(|call| untried(&call)));
                    return Err(error);
                }
            }
        }
        self.interrupt.check()
    }

    /// Returns whether the provider declares a capability.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.plugin.description().capabilities.iter().any(|one| one == capability)
    }

    /// Removes objects of a run. Returns what still exists.
    #[must_use]
    pub fn remove(&self, run_id: &str, resources: Vec<Resource>) -> Vec<Leftover> {
        let request = DiscardRequest::new(DiscardReason::Leftover, resources).run_id(run_id);
        discard(&self.host, self.steps.as_ref(), &request)
    }

    /// Redacts secrets in what is printed.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        self.host.redactor()
    }

    fn needs(&self, capability: &str, what: &str) -> Result<()> {
        if self.can(capability) {
            return Ok(());
        }
        let text = format!("provider `{}` cannot {what}", self.plugin.name);
        Err(Error::new(Stage::Provider(ErrorKind::Unsupported), text)
            .hint("use the cloud's console, or a newer version of the plugin"))
    }

    fn manage_error(&self, error: ProviderError) -> Error {
        if self.interrupt.is_set() {
            return Error::interrupted();
        }
        Error::provider(&self.plugin.name, "manage", self.host.redactor().error(error))
    }
}

/// Asks a provider that declares `inventory` for all pages of its answer.
pub(crate) struct Lister<'a> {
    /// Name of the provider.
    pub(crate) name: &'a str,
    /// Redacts what it answers.
    pub(crate) host: &'a RunHost,
    /// The provider.
    pub(crate) steps: &'a dyn Steps,
    /// Cancels the listing.
    pub(crate) interrupt: &'a Interrupt,
}

impl Lister<'_> {
    /// Lists objects.
    ///
    /// # Errors
    /// When the provider cannot read the account, and when the user cancels.
    pub(crate) fn list(&self, request: &InventoryRequest) -> Result<Listing> {
        let (mut found, mut request) = (Listing::default(), request.clone());
        for _ in 0..MOST_PAGES {
            self.interrupt.check()?;
            let page = self.steps.inventory(&request).map_err(|error| {
                if self.interrupt.is_set() {
                    return Error::interrupted();
                }
                Error::provider(self.name, INVENTORY, self.host.redactor().error(error))
            })?;
            let Inventory { items, regions, truncated, next, findings, .. } = page;
            found.items.extend(items);
            found.findings.extend(findings);
            for region in regions {
                if !found.regions.contains(&region) {
                    found.regions.push(region);
                }
            }
            match next {
                Some(next) if Some(&next) != request.after.as_ref() => request.after = Some(next),
                _ if truncated => return Err(self.too_many()),
                _ => return Ok(found),
            }
        }
        Err(self.too_many())
    }

    fn too_many(&self) -> Error {
        let text = format!("provider `{}` has more objects than it lists", self.name);
        Error::new(Stage::Provider(ErrorKind::Internal), text)
            .hint("narrow the list, for example by --region or --name")
    }
}

/// Results of images whose change was not begun.
fn untried(request: &ManageRequest) -> Vec<Managed> {
    let error = ProviderError::new(ErrorKind::Cancelled, "it was not tried");
    request.images.iter().map(|image| Managed::refused(image, &error)).collect()
}

/// Results of images whose change was begun, and whose end is not known.
fn unanswered(request: &ManageRequest, cause: &Error) -> Vec<Managed> {
    let text = format!("it may be changed in part: {}", cause.message);
    let error = ProviderError::new(ErrorKind::Cancelled, text)
        .with_hint("repeat the command, which finishes it");
    request.images.iter().map(|image| Managed::refused(image, &error)).collect()
}

/// Adds a refusal for each result that is missing: one per image, and for a copy one per image and region.
fn complete(mut results: Vec<Managed>, request: &ManageRequest) -> Vec<Managed> {
    let wanted = match &request.action {
        Action::Copy { regions, .. } => regions.len(),
        _ => 1,
    };
    for image in &request.images {
        let found = results.iter().filter(|result| result.image == *image).count();
        for _ in found..wanted {
            let error = ProviderError::internal("the provider has no result for the image");
            results.push(Managed::refused(image, &error));
        }
    }
    results
}

/// Checks that every image is as the action wants it.
///
/// # Errors
/// For images that were not changed, with the kind of the first refusal.
pub fn check(results: &[Managed]) -> Result<()> {
    let changed = |result: &&Managed| matches!(result.change, Change::Done | Change::Unchanged);
    let refused: Vec<&Managed> = results.iter().filter(|result| !changed(result)).collect();
    let Some(first) = refused.first() else { return Ok(()) };
    let code = first.error.as_ref().map_or("", |error| error.kind.as_str());
    let text = match refused.len() {
        1 => "1 image was not changed".to_owned(),
        count => format!("{count} images were not changed"),
    };
    Err(Error::new(Stage::Provider(ErrorKind::from_code(code)), text)
        .hint("see why beside each image, and repeat the command"))
}

//! Copies images to further stores of their region (import method `copy-image`). The service has no other copy: in
//! another region an image is another object, which a build or a download and an upload create.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{self, ManageRequest, Managed, Reference},
};

use crate::{
    changes::is_usable,
    cloud::Cloud,
    config::Config,
    glance::store_names,
    image::Image,
    items::OF_IMAGE,
    owner::Owner,
    record::RUN_ID,
    stores::{self, COPY},
};

/// Kind of the data of an image in a further store.
pub(crate) const STORE_COPY: &str = "image_in_store";
/// Attribute of such a copy.
const STORE: &str = "store";

/// Copies an image for one request.
pub(crate) struct Copier<'a> {
    pub(crate) context: &'a Context,
    pub(crate) config: &'a Config,
    pub(crate) cloud: &'a Cloud,
    /// Regions of the account.
    pub(crate) regions: &'a [Option<String>],
    pub(crate) request: &'a ManageRequest,
}

impl Copier<'_> {
    /// Copies an image to a store, and waits until it is there.
    ///
    /// # Errors
    /// What the service does not offer; refusals; a copy that fails or does not end.
    pub(crate) async fn copy(
        &self,
        reference: &Reference,
        image: &Image,
        store: &str,
        name: Option<&str>,
        keys: &BTreeMap<String, String>,
    ) -> Result<Managed> {
        let Self { context, config, cloud, .. } = *self;
        self.is_possible(image, store, name, keys).await?;
        let id = image.id();
        let mut copy = document::Image::new(id, image.text("name"));
        copy.region.clone_from(&cloud.region);
        if image.stores().contains(&store) {
            return Ok(Managed::unchanged(reference).copy(copy));
        }
        if !cloud.import_methods().await?.iter().any(|method| method == COPY) {
            return Err(Error::unsupported(
                format!("the service does not offer the import method `{COPY}`"),
                "ask the operator, or build again with OPENSTACK_STORE",
            ));
        }
        // A copy that an earlier call has started is waited for.
        if !image.is_importing() {
            is_usable(image)?;
        }
        let done = Managed::done(reference, format!("copied to store `{store}`"));
        if self.request.dry_run {
            return Ok(done);
        }
        context.check_cancelled()?;
        let resource = resource(cloud, id, store, &self.request.run_id);
        context.will_create(&resource)?;
        let config = Config { copy_stores: vec![store.to_owned()], ..config.clone() };
        if let Err(error) = stores::copy(context, cloud, &config, id).await {
            if self.is_absent(id, store).await {
                context.gone(&resource)?;
            }
            return Err(without_setting(error));
        }
        context.created(&resource.with_id(id))?;
        Ok(done.copy(copy))
    }

    /// Whether a store neither has the data nor receives it, as far as the service shows.
    async fn is_absent(&self, id: &str, store: &str) -> bool {
        match self.cloud.image(id).await {
            Ok(Some(image)) => {
                let begun = image.stores_in("os_glance_importing_to_stores").contains(&store);
                !begun && !image.is_importing() && !image.stores().contains(&store)
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Refuses what no copy can be.
    async fn is_possible(
        &self,
        image: &Image,
        store: &str,
        name: Option<&str>,
        keys: &BTreeMap<String, String>,
    ) -> Result<()> {
        let known = store_names(&self.cloud.about("/v2/info/stores").await?.unwrap_or_default());
        if !known.iter().any(|one| one == store) {
            let region = Some(store.to_owned());
            if self.regions.contains(&region) || self.cloud.region == region {
                return Err(Error::unsupported(
                    format!(
                        "the image service cannot copy an image to another region, here `{store}`"
                    ),
                    format!(
                        "build it there with OPENSTACK_REGION={store}, or use `openstack image save` and `openstack image create`"
                    ),
                ));
            }
            let message = format!("`{store}` is neither a store nor a region of the account");
            let hint = match known.as_slice() {
                [] => "the service has one store: an image cannot be copied".to_owned(),
                names => format!("name one of the stores: {}", names.join(", ")),
            };
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
        }
        if name.is_some_and(|name| name != image.text("name")) {
            return Err(Error::unsupported(
                "a copy in another store is the same image, and has its name",
                "leave the name out",
            ));
        }
        if keys.contains_key(store) {
            return Err(Error::unsupported(
                format!("the image service does not encrypt a copy with a key, here for `{store}`"),
                "leave the key out, and copy to a store that encrypts its data",
            ));
        }
        Ok(())
    }
}

/// The hint of a build names its setting, which has nothing to do with this copy.
fn without_setting(mut error: Error) -> Error {
    if error.hint.as_ref().is_some_and(|hint| hint.contains("OPENSTACK_COPY_STORES")) {
        error.hint = Some("ask the operator for the state of the store".to_owned());
    }
    error
}

/// Returns a copy as the host records it.
fn resource(cloud: &Cloud, id: &str, store: &str, run: &str) -> Resource {
    let resource = Resource::new(STORE_COPY, format!("{id}@{store}"))
        .with(OF_IMAGE, id)
        .with(STORE, store)
        .with(RUN_ID, run)
        .as_deliverable();
    let resource = match &cloud.region {
        Some(region) => resource.in_region(region),
        None => resource,
    };
    Owner::now(cloud).mark(resource)
}

/// Deletes a copy. The image keeps its data in its other stores.
///
/// # Errors
/// Refusals and broken connections; a copy that is still being made.
pub(crate) async fn remove(cloud: &Cloud, resource: &Resource) -> Result<()> {
    let text = |name: &str| resource.attributes.get(name).map_or("", String::as_str);
    let (id, store) = (text(OF_IMAGE), text(STORE));
    let Some(image) = cloud.image(id).await? else { return Ok(()) };
    if image.stores_in("os_glance_importing_to_stores").contains(&store) {
        let message = format!("the service is still copying image `{id}` to store `{store}`");
        return Err(Error::new(ErrorKind::Conflict, message).retryable());
    }
    if image.stores().contains(&store) {
        cloud.delete_from_store(id, store).await?;
    }
    Ok(())
}

/// Returns the command that deletes a copy.
pub(crate) fn remedy(resource: &Resource) -> String {
    let text = |name: &str| resource.attributes.get(name).map_or("", String::as_str);
    format!("openstack image delete --store {} {}", text(STORE), text(OF_IMAGE))
}

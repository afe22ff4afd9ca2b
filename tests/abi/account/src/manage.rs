//! Changes images of the account.

use std::io;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Action, Audience, Image, ManageOutcome, ManageRequest, Managed, Reference},
};

use crate::{
    HOME, resource,
    store::{Properties, Store, now},
};

pub(crate) fn manage(
    store: &Store,
    context: &Context,
    request: &ManageRequest,
) -> Result<ManageOutcome> {
    let mut outcome = ManageOutcome::default();
    for image in &request.images {
        context.check_cancelled()?;
        let single = |result: Result<Managed>| {
            result.unwrap_or_else(|error| Managed::refused(image, &error))
        };
        match &request.action {
            Action::Copy { regions, name, with_access, .. } => {
                let copier = Copier { store, context, request, name, with_access: *with_access };
                let copies = regions.iter().map(|region| single(copier.copy(image, region)));
                outcome.results.extend(copies);
            }
            Action::Delete { .. } => outcome.results.push(single(delete(store, image, request))),
            Action::Unknown => {
                return Err(Error::unsupported(
                    "this provider does not know the action",
                    "use a newer release of the provider",
                ));
            }
            action => outcome.results.push(single(change(store, image, action, request.dry_run))),
        }
    }
    Ok(outcome)
}

fn region(image: &Reference) -> &str {
    image.region.as_deref().unwrap_or(HOME)
}

fn found(store: &Store, image: &Reference) -> Result<Properties> {
    store.read(region(image), &image.id)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no image `{}`", image.id))
            .with_hint("list the images of the account")
    })
}

/// Changes the properties of an image.
fn change(store: &Store, image: &Reference, action: &Action, dry_run: bool) -> Result<Managed> {
    let before = found(store, image)?;
    let mut after = before.clone();
    let summary = apply(&mut after, action)?;
    if after == before {
        return Ok(Managed::unchanged(image));
    }
    if !dry_run {
        store.write(region(image), &image.id, &after)?;
    }
    Ok(Managed::done(image, summary))
}

fn apply(image: &mut Properties, action: &Action) -> Result<String> {
    Ok(match action {
        Action::Share { accounts } => {
            image.shared_with.extend(accounts.iter().cloned());
            image.shared_with.sort();
            image.shared_with.dedup();
            format!("shared with {} accounts", accounts.len())
        }
        Action::Unshare { accounts, everyone } => {
            image.shared_with.retain(|account| !everyone && !accounts.contains(account));
            "access withdrawn".to_owned()
        }
        Action::Publish { audience: Audience::Community } => {
            return Err(Error::unsupported(
                "an image cannot be for the community here",
                "publish it, or share it with accounts",
            ));
        }
        Action::Publish { audience } => {
            image.audience = *audience;
            "audience set".to_owned()
        }
        Action::Deprecate { at, replacement, .. } => {
            // Without a time, an image that is deprecated already stays as it is.
            image.deprecated_at = at.or(image.deprecated_at).or_else(|| Some(now()));
            image.replacement.clone_from(replacement);
            "deprecated".to_owned()
        }
        Action::Modify { name, attributes } => {
            if let Some(attribute) = attributes.keys().next() {
                return Err(Error::unsupported(
                    format!("images have no attribute `{attribute}` here"),
                    "leave it out",
                ));
            }
            image.name = name.clone().unwrap_or_else(|| image.name.clone());
            "renamed".to_owned()
        }
        Action::Restore => {
            (image.deprecated_at, image.replacement) = (None, None);
            "restored".to_owned()
        }
        Action::Tag { tags } => {
            image.tags.extend(tags.clone());
            format!("{} tags set", tags.len())
        }
        Action::Untag { keys } if keys.iter().any(|key| key == "run") => {
            return Err(Error::config("tag `run` is the mark of a build and stays"));
        }
        Action::Untag { keys } => {
            image.tags.retain(|key, _| !keys.contains(key));
            format!("{} tags removed", keys.len())
        }
        _ => return Err(Error::internal("the action does not change properties")),
    })
}

fn delete(store: &Store, image: &Reference, request: &ManageRequest) -> Result<Managed> {
    if store.data(region(image), &image.id)?.is_none() {
        return Ok(Managed::unchanged(image));
    }
    if !request.dry_run {
        store.remove(region(image), &image.id, false)?;
    }
    Ok(Managed::done(image, "deleted"))
}

struct Copier<'a> {
    store: &'a Store,
    context: &'a Context,
    request: &'a ManageRequest,
    name: &'a Option<String>,
    with_access: bool,
}

impl Copier<'_> {
    fn copy(&self, image: &Reference, to: &str) -> Result<Managed> {
        let (store, original) = (self.store, found(self.store, image)?);
        if !store.regions()?.iter().any(|region| region == to) {
            return Err(Error::new(ErrorKind::NotFound, format!("unknown region `{to}`")));
        }
        let id = format!("{}-{to}", image.id);
        let copy = Image::new(&id, self.name.as_ref().unwrap_or(&original.name)).region(to);
        if store.read(to, &id)?.is_some_and(|there| there.copied_from.as_ref() == Some(image)) {
            return Ok(Managed::unchanged(image).copy(copy));
        }
        let done = Managed::done(image, format!("copied to {to}"));
        if self.request.dry_run {
            return Ok(done);
        }
        let planned = resource(&id, to);
        self.context.will_create(&planned)?;
        let mut data = store.create_data(to, &id)?;
        self.context.created(&planned.with_id(&id))?;
        let written = store.open_data(region(image), &image.id)?;
        io::copy(&mut &written, &mut data)
            .map_err(|error| Error::io(format!("cannot copy image `{}`", image.id), &error))?;
        let mut properties =
            Properties { name: copy.name.clone(), copied_from: Some(image.clone()), ..original };
        properties.tags.insert("run".into(), self.request.run_id.clone());
        if !self.with_access {
            properties.shared_with.clear();
            properties.audience = Audience::Private;
        }
        store.write(to, &id, &properties)?;
        Ok(done.copy(copy))
    }
}

//! Registers images in a directory that stands for an account: `ACCOUNT_DIR/REGION/ID.img` is the data of an image,
//! `ID.json` its properties. Data without properties is an upload in progress.
#![forbid(unsafe_code)]

mod inventory;
mod manage;
mod store;

use build_image_plugin_api::{
    Context, Description, Error, ErrorKind, NameRules, Provider, Resource, Result, Setting,
    SettingKind, Settings, TagRules,
    document::{
        Action, Change, CheckReport, CheckRequest, DiscardRequest, Discarded, Finding, Image,
        Inventory, InventoryRequest, Item, LocateRequest, Located, ManageOutcome, ManageRequest,
        Managed, RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
};

use crate::store::{Properties, Store};

/// The region in which images are registered.
const HOME: &str = "home";

struct Account {
    store: Store,
    /// What it does wrong, so that the conformance suite can be tested.
    fault: String,
}

/// Kind of the data of a registered image.
const SNAPSHOT: &str = "snapshot";

/// The image of a run, as the host records it.
fn resource(id: &str, region: &str) -> Resource {
    Resource::new("image", id).in_region(region).as_deliverable()
}

fn name_taken(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("an image `{name}` exists already"))
        .with_hint("choose another CLOUD_IMAGE_NAME")
}

impl Provider for Account {
    fn describe() -> Description {
        Description::new("account", "1.0.0")
            .summary("a directory that stands for an account")
            .settings([
                Setting::new("ACCOUNT_DIR", SettingKind::Path, "directory of the account")
                    .required(),
                Setting::new("ACCOUNT_KEY", SettingKind::Text, "key of the account").secret(),
                Setting::new("ACCOUNT_FAULT", SettingKind::Text, "what it does wrong"),
            ])
            .image_name(NameRules::default())
            .tags(TagRules::default())
            .uploads(true)
            .capabilities([
                "upload.only",
                "locate",
                "inventory",
                "same",
                "manage.share",
                "manage.unshare",
                "manage.publish",
                "manage.deprecate",
                "manage.modify",
                "manage.restore",
                "manage.tag",
                "manage.untag",
                "manage.copy",
                "manage.delete",
            ])
    }

    fn create(_: &Context, settings: Settings) -> Result<Self> {
        let store = Store::new(settings.require("ACCOUNT_DIR")?);
        Ok(Self { store, fault: settings.text("ACCOUNT_FAULT").unwrap_or_default().to_owned() })
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        if !request.same.is_empty() {
            return self.same(request);
        }
        let mut report = CheckReport::default();
        let name = &request.build.image_name;
        if request.online && self.store.has_name(HOME, name)? {
            report.findings.push(Finding::error("CLOUD_IMAGE_NAME", &name_taken(name)));
        }
        Ok(report)
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        context.check_cancelled()?;
        let id = format!("img-{}", request.build.run_id);
        context.will_create(&resource(&id, HOME))?;
        let mut file = self.store.create_data(HOME, &id)?;
        context.created(&resource(&id, HOME).with_id(&id))?;
        let bytes_sent = context.copy_disk(&request.disk, &mut file)?;
        Ok(Uploaded::new(id.clone()).id(id).bytes_sent(bytes_sent))
    }

    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        context.check_cancelled()?;
        let (build, id) = (&request.build, &request.uploaded.location);
        if self.store.has_name(HOME, &build.image_name)? {
            return Err(name_taken(&build.image_name));
        }
        let mut tags = build.tags.clone();
        if self.fault == "ignores-tags" {
            tags.clear();
        }
        tags.insert("run".into(), build.run_id.clone());
        tags.extend(request.disk_digest.clone().map(|digest| ("disk".into(), digest)));
        let ignores_name = self.fault == "ignores-the-name";
        let name = if ignores_name { "image".to_owned() } else { build.image_name.clone() };
        let properties = Properties { name, tags, ..Properties::now() };
        self.store.write(HOME, id, &properties)?;
        let image = Image::new(id.clone(), properties.name).region(HOME);
        Ok(Registered::default().images([image]))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        context.discard_each(request, |resource| {
            let region = resource.region.as_deref().unwrap_or(HOME);
            self.store.remove(region, &resource.name, resource.kind == SNAPSHOT)
        })
    }

    fn inventory(&self, _: &Context, request: &InventoryRequest) -> Result<Inventory> {
        let mut request = request.clone();
        match self.fault.as_str() {
            "lists-every-run" => request.run_id = None,
            "has-no-limit" => request.limit = 0,
            _ => {}
        }
        let mut found = inventory::inventory(&self.store, &request)?;
        match self.fault.as_str() {
            "lists-nothing" => found.items.clear(),
            "forgets-the-run" => found.items.iter_mut().for_each(|item| item.run_id = None),
            "lists-no-resource" => {
                found.items.iter_mut().for_each(|item| item.resource = Resource::default());
            }
            "lists-intermediates" => {
                found.items.iter_mut().for_each(|item| item.resource.deliverable = false);
            }
            "lists-the-removed" if found.items.is_empty() => {
                let run_id = request.run_id.filter(|run_id| run_id.contains("optional"));
                found.items.extend(run_id.map(|run_id| Item::default().run_id(run_id)));
            }
            _ => {}
        }
        Ok(found)
    }

    fn locate(&self, context: &Context, request: &LocateRequest) -> Result<Located> {
        let id = &request.id;
        let found = self.store.data(HOME, id)?.map(|(length, _)| length);
        let found = if self.fault == "finds-everything" { found.or(Some(0)) } else { found };
        let length = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("image `{id}` does not exist in `{HOME}`"))
                .with_hint("use the identifier that `build-image upload` printed")
        })?;
        if self.fault == "owns-what-it-finds" {
            context.created(&resource(id, HOME).with_id(id))?;
        }
        let uploaded = Uploaded::new(id.clone());
        let uploaded = if self.fault == "forgets-the-id" { uploaded } else { uploaded.id(id) };
        Ok(Located::new(uploaded).length(length))
    }

    fn manage(&self, context: &Context, request: &ManageRequest) -> Result<ManageOutcome> {
        let mut request = request.clone();
        match self.fault.as_str() {
            "changes-in-a-dry-run" => request.dry_run = false,
            "changes-nothing" => request.dry_run = true,
            "takes-every-action" if request.action == Action::Unknown => {
                return Ok(ManageOutcome::default());
            }
            _ => {}
        }
        let mut outcome = manage::manage(&self.store, context, &request)?;
        match self.fault.as_str() {
            "invents-images" => outcome.results.iter_mut().for_each(|result| {
                if result.change == Change::Refused {
                    *result = Managed::done(&result.image, "done");
                }
            }),
            "has-no-results" => outcome.results.clear(),
            _ => {}
        }
        Ok(outcome)
    }
}

impl Account {
    /// Compares images from the same disk with a build.
    fn same(&self, request: &CheckRequest) -> Result<CheckReport> {
        let (build, mut report) = (&request.build, CheckReport::default());
        for image in &request.same {
            let region = image.region.as_deref().unwrap_or(HOME);
            let Some(found) = self.store.read(region, &image.id)? else { continue };
            let mut differences = Vec::new();
            let mut add = |message: String, hint: String| {
                differences.push(Finding::warning(&image.id, message, hint));
            };
            if build.image_name_chosen && found.name != build.image_name {
                add(format!("its name is `{}`", found.name), "choose its name".into());
            }
            for (key, value) in &build.tags {
                if found.tags.get(key) != Some(value) {
                    let hint = format!("build-image images tag {} --tag {key}={value}", image.id);
                    add(format!("tag `{key}` differs"), hint);
                }
            }
            if differences.is_empty() && region == HOME {
                let image = Image::new(&image.id, found.name).region(HOME);
                report.same = Some(Registered::default().images([image]));
            }
            report.findings.extend(differences);
        }
        Ok(report)
    }
}

export_provider!(Account);

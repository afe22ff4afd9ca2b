//! Publishes the disk into IMAGE_DIR as a good provider does, except for one deed, which is named by the
//! variable HOSTILE (or the setting HOSTILE_DEED, for hosts that keep variables to themselves).

mod deeds;

use std::{fs, path::Path, sync::Mutex};

use build_image_plugin_api::{
    Context, Description, Error, ErrorKind, Provider, Resource, Result, Setting, SettingKind,
    Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, Image, Inventory, InventoryRequest,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
};

struct Hostile {
    deed: String,
    secret: String,
    removed: Mutex<Vec<String>>,
    /// A directory that stands for a cloud: images are there and not in IMAGE_DIR.
    cloud: Option<String>,
}

fn of_environment() -> String {
    // A process that is only asked for its description sees few variables, LANG among them.
    let lang = std::env::var("LANG").unwrap_or_default();
    let deed = lang.strip_prefix("hostile.").map(str::to_owned);
    std::env::var("HOSTILE").ok().or(deed).unwrap_or_default()
}

impl Provider for Hostile {
    fn describe() -> Description {
        let deed = of_environment();
        deeds::anywhere("describe", &deed);
        let mut said = Description::new("hostile", "1.0.0")
            .summary("does on demand what a provider must not do")
            .settings([
                Setting::new("HOSTILE_DEED", SettingKind::Text, "what it does"),
                Setting::new("HOSTILE_CLOUD", SettingKind::Path, "where images are"),
                Setting::new("HOSTILE_KEY", SettingKind::Text, "a secret").secret(),
            ]);
        match deed.as_str() {
            "describe-huge" => said.homepage = "x".repeat(100 << 20),
            "describe-large" => said.homepage = "x".repeat(2 << 20),
            "describe-differs" => said.homepage = format!("{:?}", std::time::SystemTime::now()),
            "many-settings" => said.settings.extend((0..10_000).map(|number| {
                Setting::new(&format!("HOSTILE_{number}"), SettingKind::Text, "one of many")
            })),
            "bad-settings" => {
                said.settings.push(Setting::new("lower", SettingKind::Text, "a bad key"));
            }
            "secret-default" => said.settings[2].default = Some("hunter22".into()),
            "no-summary" => said.summary.clear(),
            "asks-for-a-look" => said.uploads = true,
            "wrong-name" => said.name = "innocent".into(),
            "bad-name" => said.name = "Hostile-One".into(),
            "needs-newer" => {
                said.abi.requires = "1.9".into();
            }
            "lies-about-abi" => {
                said.abi.built = "0.1".into();
            }
            _ => {}
        }
        said
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        let deed = settings.text("HOSTILE_DEED").map_or_else(of_environment, str::to_owned);
        deeds::anywhere("create", &deed);
        match deed.as_str() {
            "create-thread" => deeds::leave_a_thread(),
            "create-file" => std::mem::forget(fs::File::open("/proc/self/exe")),
            "create-refuses" => return Err(Error::new(ErrorKind::Internal, "no reason at all")),
            "refuses-unknown" if settings.is_set("A_SETTING_OF_A_LATER_VERSION") => {
                return Err(Error::config("A_SETTING_OF_A_LATER_VERSION is not known"));
            }
            "unwraps" if settings.is_set("HOSTILE_DEED") => {
                let _ = settings.text("HOSTILE_DEED").expect("a text");
            }
            _ => {}
        }
        let secret = context.secret("HOSTILE_KEY")?;
        let secret = secret.map(|secret| secret.reveal().to_owned()).unwrap_or_default();
        let cloud = settings.text("HOSTILE_CLOUD").map(str::to_owned);
        Ok(Self { deed, secret, removed: Mutex::default(), cloud })
    }

    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        deeds::anywhere("check", &self.deed);
        context.check_cancelled()?;
        match self.deed.as_str() {
            "secret-log" => tracing::info!("signing in with {}", self.secret),
            "changes-variable" => deeds::change_variable(),
            "changes-folder" => std::env::set_current_dir("/").unwrap_or_default(),
            "asks-for-a-look" => return Ok(deeds::taken(self.cloud.as_deref(), &request.build)),
            _ => {}
        }
        Ok(CheckReport::default())
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        match self.deed.as_str() {
            "begins-after-stop" if context.is_cancelled() => deeds::begin(context, request)?,
            "hides-after-stop" if context.is_cancelled() => deeds::leave_a_file(request)?,
            "ignores-cancel" => {}
            _ => context.check_cancelled()?,
        }
        deeds::anywhere("upload", &self.deed);
        deeds::during_upload(&self.deed, context, request, &self.secret)?;
        let directory = self.cloud.clone().or(request.build.image_dir.clone()).unwrap_or_default();
        let name = match &self.cloud {
            Some(_) => &request.build.image_name,
            None => &request.disk.file_name,
        };
        let path = format!("{directory}/{name}");
        let (path, temporary) = match self.deed.as_str() {
            "one-file" => (format!("{directory}/../one-file"), format!("{directory}/../one-file")),
            "in-place" => (path.clone(), path),
            _ => (path.clone(), format!("{path}.{}.part", request.build.run_id)),
        };
        let mut resource =
            Resource::new("file", path.clone()).with("temporary", &temporary).as_deliverable();
        if self.deed != "ignores-cancel" {
            context.check_cancelled()?;
        }
        if self.deed == "asks-for-a-look" && Path::new(&path).exists() {
            return Err(deeds::is_taken());
        }
        if self.deed != "tells-late" {
            context.will_create(&resource)?;
        }
        let failed = |error| Error::io(format!("cannot write `{path}`"), &error);
        let open = || fs::File::options().write(true).create_new(true).open(&temporary);
        let mut file = if self.deed == "one-file" { open() } else { fs::File::create(&temporary) }
            .map_err(failed)?;
        let bytes_sent = deeds::copy(&self.deed, context, request, &mut file)?;
        if self.deed != "forgets-the-inode" {
            resource = resource.with("inode", deeds::inode(&temporary).map_err(failed)?);
        }
        if self.deed != "tells-late" {
            context.will_create(&resource)?;
        }
        fs::rename(&temporary, &path).map_err(failed)?;
        context.created(&resource.clone().with_id(&path))?;
        if self.deed == "one-identity" {
            context.will_create(&resource)?;
            context.created(&resource.clone().with_id(format!("{path} again")))?;
        }
        let mut uploaded = Uploaded::new(path).bytes_sent(bytes_sent);
        if self.deed == "huge-answer" {
            uploaded.facts.insert("huge".into(), "x".repeat(100 << 20).into());
        }
        if self.deed == "secret-fact" {
            uploaded.facts.insert("session".into(), self.secret.clone().into());
        }
        if self.deed == "late-event" {
            deeds::tell_later(context.clone());
        }
        Ok(uploaded)
    }

    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        deeds::anywhere("register", &self.deed);
        if self.deed == "no-image" {
            return Ok(Registered::default());
        }
        context.check_cancelled()?;
        let id = request.uploaded.location.clone();
        let images = vec![Image::new(id, request.build.image_name.clone())];
        Ok(Registered::default().images(images))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        deeds::anywhere("discard", &self.deed);
        match self.deed.as_str() {
            "removes-nothing" => {
                let removed = request.resources.clone();
                return Ok(Discarded::default().removed(removed));
            }
            "removes-once" => {
                let mut removed = self.removed.lock().unwrap_or_else(|lock| lock.into_inner());
                if !removed.is_empty() {
                    return Err(Error::new(ErrorKind::NotFound, "it is gone already"));
                }
                removed.push("all".into());
            }
            _ => {}
        }
        if self.deed == "removes-silently" {
            request.resources.iter().try_for_each(|resource| deeds::remove("", resource))?;
            let removed = request.resources.clone();
            return Ok(Discarded::default().removed(removed));
        }
        context.discard_each(request, |resource| deeds::remove(&self.deed, resource))
    }

    fn inventory(&self, _: &Context, _: &InventoryRequest) -> Result<Inventory> {
        if self.deed == "answers-undeclared" {
            return Ok(Inventory::default());
        }
        Err(Error::unsupported("it lists nothing", "look into IMAGE_DIR"))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        deeds::anywhere("drop", &self.deed);
    }
}

export_provider!(Hostile);

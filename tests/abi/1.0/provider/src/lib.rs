//! Uses every step and every service of ABI 1.0 and copies the disk into IMAGE_DIR.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use build_image_plugin_api::{
    Context, Description, Disk, DiskFormat, DiskNeeds, DiskSpec, Error, ErrorKind, Provider,
    Resource, Result, Setting, SettingKind, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Finding, Image,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
};

struct Veteran;

fn expect(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Internal, format!("{what} does not hold"))) }
}

impl Provider for Veteran {
    fn describe() -> Description {
        Description {
            name: "veteran".into(),
            version: "1.0.0".into(),
            summary: "a provider of the first hour".into(),
            settings: vec![
                Setting::new("VETERAN_WORD", SettingKind::Text, "a word").default_value("old"),
                Setting::new("VETERAN_SECRET", SettingKind::Text, "a secret").secret(),
            ],
            disk: DiskNeeds {
                spec: DiskSpec { format: DiskFormat::Raw, ..DiskSpec::default() },
                ..DiskNeeds::default()
            },
            ..Description::default()
        }
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        expect(settings.text("VETERAN_WORD") == Some("old"), "the default of VETERAN_WORD")?;
        expect(context.secret("VETERAN_SECRET")?.is_none(), "that VETERAN_SECRET is not set")?;
        expect(context.secret("OTHER").is_err(), "that other secrets are refused")?;
        Ok(Self)
    }

    fn check(&self, context: &Context, _: &CheckRequest) -> Result<CheckReport> {
        context.wait(Duration::from_millis(1))?;
        let missing = context.load::<u32>("absent")?;
        expect(missing.is_none(), "that nothing was kept")?;
        Ok(CheckReport {
            findings: vec![Finding::ok("age", "still going strong")],
            ..CheckReport::default()
        })
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        context.save("steps", &1)?;
        context.make_disk(&request.spec)
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        expect(context.load("steps")? == Some(1), "the checkpoint")?;
        let folder = request.build.image_dir.clone().unwrap_or_default();
        let path = format!("{folder}/{}.copy", request.build.file_stem);
        let resource = Resource::new("file", path.clone()).as_product();
        context.will_create(&resource)?;
        let bytes = context.block_on(async {
            let length = usize::try_from(request.disk.finished_length()?).unwrap_or_default();
            let mut bytes = vec![0; length];
            let read = context.read_disk(&request.disk, 0, &mut bytes)?;
            expect(read == length, "that the whole disk was read")?;
            Ok(bytes)
        })?;
        context.progress_bytes(request.disk.length_limit, request.disk.length_limit);
        fs::write(&path, bytes).map_err(|error| {
            Error::new(ErrorKind::Provider, format!("cannot write `{path}`")).because(&error)
        })?;
        context.created(&resource.with_id(path.clone()))?;
        context.milestone("copied")?;
        Ok(Uploaded { location: path, bytes_sent: request.disk.length_limit, ..Uploaded::default() })
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        let image = Image { id: request.uploaded.location.clone(), ..Image::default() };
        let facts = [("seen".to_owned(), "all steps".into())].into();
        Ok(Registered { images: vec![image], facts, ..Registered::default() })
    }

    fn discard(&self, _: &Context, request: &DiscardRequest) -> Result<Discarded> {
        let mut answer = Discarded::default();
        for resource in &request.resources {
            let _ = fs::remove_file(&resource.name);
            answer.removed.push(resource.clone());
        }
        Ok(answer)
    }
}

export_provider!(Veteran);

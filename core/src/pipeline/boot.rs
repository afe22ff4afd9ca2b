//! Boots the image before a byte of it is sent.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_disk::{Format, Kind, facts::Facts, nbd::Export, view::RawView};
use build_image_plugin_api::{Archive, Disk};

use super::Pipeline;
use crate::{
    boot_test::{BootContext, export},
    error::{Result, Stage},
    interrupt::Interrupt,
    plugins::ImageHandle,
    report::Outcome,
    source::from_disk,
};

/// An image that a provider requested, as qemu reads it.
struct Handed {
    image: Arc<ImageHandle>,
    length: u64,
    interrupt: Arc<Interrupt>,
}

impl Export for Handed {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, build_image_disk::Error> {
        let watch = || {
            if self.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.image.read_at(buf, offset, &watch).map_err(|error| {
            let cancelled = error.kind == build_image_plugin_api::ErrorKind::Cancelled;
            let kind = if cancelled { Kind::Cancelled } else { Kind::Io };
            build_image_disk::Error::new(kind, error.to_string())
        })
    }
}

impl Pipeline<'_> {
    /// Boots the image that is uploaded, if the settings want it: the bytes that the provider will read. Inside an
    /// archive no machine can boot it; then the disk is booted from which it was made.
    ///
    /// # Errors
    /// When it does not come up, or cannot be tested.
    pub(super) fn boot_image(&self, disk: Option<&Disk>, outcome: &mut Outcome) -> Result<()> {
        let Some(qemu) = self.qemu.as_ref().filter(|_| self.settings.core().boot.enabled) else {
            return Ok(());
        };
        let origin = self.host.open_disk().map_err(|error| self.step_error("boot", error))?;
        let facts = Facts::read(&origin).map_err(|error| from_disk(Stage::Source, error))?;
        let bare = disk.filter(|disk| disk.spec.archive == Archive::None);
        let (image, format) = match bare.map(|disk| self.handed(disk)).transpose()?.flatten() {
            Some((handed, format)) => (export(handed), format),
            None => (export(Arc::new(RawView::of(origin))), Format::Raw),
        };
        let files = self.boot_files(outcome);
        let [log, picture] =
            [0, 1].map(|number| files.as_ref().map(|files| files[number].as_path()));
        let context = BootContext {
            settings: self.settings,
            qemu,
            image,
            format,
            name: "the image",
            facts: Some(&facts),
            log,
            picture,
            reporter: &self.reporter,
            interrupt: &self.interrupt,
        };
        let tested = context.run()?;
        self.interrupt.check()?;
        outcome.durations.insert("boot".to_owned(), tested.seconds);
        let failed = tested.error("the image");
        outcome.boot_test = Some(tested);
        failed.map_or(Ok(()), Err)
    }

    /// Returns an image that was handed to the provider, and its format, once its length is known.
    fn handed(&self, disk: &Disk) -> Result<Option<(Handed, Format)>> {
        let Some(image) = self.host.made(disk.id) else { return Ok(None) };
        let format: Format =
            disk.spec.format.word().parse().map_err(|error| from_disk(Stage::Disk, error))?;
        let interrupt = Arc::clone(&self.interrupt);
        let length = self.length_of_image(&image, disk)?;
        Ok(Some((Handed { image, length, interrupt }, format)))
    }

    /// Returns the files for console and screen, beside the log of the run; none if it has no log file.
    fn boot_files(&self, outcome: &Outcome) -> Option<[PathBuf; 2]> {
        let log = outcome.log_file.as_deref().map(Path::new).filter(|log| log.is_file())?;
        let directory = log.parent()?;
        let id = &self.plan.build.run_id;
        Some(["log", "png"].map(|suffix| directory.join(format!("{id}.boot.{suffix}"))))
    }
}

impl Pipeline<'_> {
    /// Returns the length of an image that was handed out; of one that is still being written, once it is complete.
    ///
    /// # Errors
    /// When it cannot be read, or the user cancels.
    pub(super) fn length_of_image(&self, image: &Arc<ImageHandle>, disk: &Disk) -> Result<u64> {
        let (image, interrupt) = (Arc::clone(image), Arc::clone(&self.interrupt));
        let handed = Handed { image, length: disk.length_limit, interrupt };
        disk.length.map_or_else(|| length_of(&handed), Ok)
    }
}

/// Returns the length of an image that is still being written: where reading it ends.
fn length_of(image: &Handed) -> Result<u64> {
    let read_error = |error| from_disk(Stage::Disk, error);
    let mut buf = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match image.read_at(&mut buf, offset).map_err(read_error)? {
            0 => return Ok(offset),
            len => offset += len as u64,
        }
    }
}

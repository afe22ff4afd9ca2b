//! Installs an ISO onto a raw disk: the installer's pass, then the first boot of the disk itself.

use std::{
    fs::{self, File, Metadata},
    io::copy,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use build_image_disk::{
    Kind,
    initrd::{self, Addition, Content},
    iso::Iso,
    process::Environment,
    qemu::{Accel, AccelWish, Boot, Kernel, Machine, Outcome, Qemu, RunOptions, Verdict},
    raw,
};

use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plan::Installation,
    product::{self, Added, Installer},
    report::Reporter,
    source::{from_disk, not_accepted},
};

const KERNEL: &str = "/isolinux/vmlinuz";
const INITRD: &str = "/isolinux/initrd.img";
const CONFIG: &str = "/isolinux/isolinux.cfg";
/// Largest `isolinux.cfg` that is read, in bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Longest silence of a guest under kvm before it is tried without.
const KVM_SILENCE: Duration = Duration::from_secs(300);

/// Why a pass failed, and whether the guest just hung.
struct Failed {
    error: Error,
    hung: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, hung: false }
    }
}

/// What an installation works with.
pub struct Workshop<'a> {
    /// What to do.
    pub installation: &'a Installation,
    /// Provider.
    pub platform: &'a str,
    /// Disk to make.
    pub disk: &'a Path,
    /// Size of the disk, bytes.
    pub size: u64,
    /// Folder for temporary files.
    pub work: &'a Path,
    /// Folder the serial logs stay in.
    pub logs: &'a Path,
    /// qemu and how guests run on it.
    pub qemu: &'a Qemu,
    /// Acceleration.
    pub accel: &'a Verdict,
    /// For telling.
    pub reporter: &'a Reporter,
    /// For stopping.
    pub interrupt: &'a Interrupt,
}

/// Finds qemu.
///
/// # Errors
/// When there is none.
pub fn find_qemu(installation: &Installation, environment: &Environment) -> Result<Qemu> {
    let given = installation.machine.qemu.as_deref();
    Qemu::find(given, environment).map_err(|error| from_disk(Stage::Disk, error))
}

/// Decides how guests run: acceleration is proven, not assumed.
///
/// # Errors
/// When the wanted acceleration does not work.
pub fn choose_accel(installation: &Installation, qemu: &Qemu) -> Result<Verdict> {
    let disk = |error| from_disk(Stage::Disk, error);
    let wish: AccelWish = installation.machine.accel.parse().map_err(disk)?;
    let verdict = qemu.choose_accel(wish).map_err(disk)?;
    tracing::info!(qemu = qemu.version(), accel = %verdict.accel, reason = verdict.reason, "qemu found");
    Ok(verdict)
}

impl Workshop<'_> {
    /// Makes the disk.
    ///
    /// # Errors
    /// What the ISO lacks, what the guest said, or what the file system refused.
    pub fn install(&self) -> Result<()> {
        let accel = self.accel.accel;
        match self.passes(accel) {
            Ok(()) => Ok(()),
            // Probes came back, the real guest did not: seen on hosts with nested virtualization.
            Err(failed) if failed.hung && accel == Accel::Kvm && self.may_choose() => {
                let text = format!("{}; starting again without kvm", failed.error.message);
                self.reporter.warning(&text, None);
                self.passes(Accel::Tcg).map_err(|failed| failed.error)
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// Whether the acceleration is this program's choice.
    fn may_choose(&self) -> bool {
        self.installation.machine.accel == "auto"
    }

    fn passes(&self, accel: Accel) -> Result<(), Failed> {
        let disk = |error| from_disk(Stage::Disk, error);
        let kernel = self.kernel()?;
        raw::create(self.disk, self.size, raw::Existing::Replace).map_err(disk)?;
        let cdrom = Some(self.installation.iso.clone());
        let machine = self.machine(accel, cdrom, Some(kernel), Boot::Cdrom)?;
        let markers = [product::RTM_MARKER.to_owned()];
        let took = self.pass("install", "qemu.iso.log", &machine, &markers)?;
        self.reporter.milestone(&format!("installed in {} s", took.duration.as_secs()));
        self.interrupt.check()?;
        let markers = match self.installation.guest.hypervisor {
            Some(_) => product::RELABEL_MARKERS.map(str::to_owned).to_vec(),
            None => Vec::new(),
        };
        let machine = self.machine(accel, None, None, Boot::Disk)?;
        let took = self.pass("first boot", "qemu.selinux_relabeling.log", &machine, &markers)?;
        self.reporter.milestone(&format!("first boot done in {} s", took.duration.as_secs()));
        Ok(())
    }

    /// Kernel and initrd from the ISO, with the tool's additions.
    fn kernel(&self) -> Result<Kernel> {
        let path = &self.installation.iso;
        let refused = |error| not_accepted(path, error);
        let iso = Iso::open(path).map_err(refused)?;
        let config = iso.read(CONFIG, CONFIG_LIMIT).map_err(refused)?;
        let append =
            product::kernel_arguments(&String::from_utf8_lossy(&config)).map_err(|what| {
                Error::new(Stage::Source, format!("`{}`: `{CONFIG}`: {what}", path.display())).hint(
                    "the ISO's boot loader configuration is not the one of a BIG-IP installer",
                )
            })?;
        let image = self.work.join("vmlinuz");
        let mut content = iso.open_file(KERNEL).map_err(refused)?;
        File::create(&image)
            .and_then(|mut file| copy(&mut content, &mut file))
            .map_err(|error| cannot_write(&image, &error))?;
        let initrd = self.work.join("initrd.img");
        let mut base = iso.open_file(INITRD).map_err(refused)?;
        let written = initrd::append(&mut base, &self.additions()?, &initrd)
            .map_err(|error| from_disk(Stage::Disk, error))?;
        tracing::debug!(base = written.base, total = written.total, "initrd written");
        Ok(Kernel { image, initrd, append })
    }

    fn additions(&self) -> Result<Vec<Addition>> {
        let installation = self.installation;
        let installer = Installer {
            facts: &installation.facts,
            shape: installation.shape,
            sizes: installation.sizes,
            guest: &installation.guest,
            platform: self.platform,
        };
        let mut additions = Vec::new();
        for added in installer.additions() {
            match added {
                Added::Text(path, text, mode) => {
                    additions.push(Addition {
                        path,
                        mode,
                        content: Content::Bytes(text.into_bytes()),
                    });
                }
                Added::Path(path, source) => add_tree(&mut additions, path, &source)?,
            }
        }
        Ok(additions)
    }

    fn machine(
        &self,
        accel: Accel,
        cdrom: Option<PathBuf>,
        kernel: Option<Kernel>,
        boot: Boot,
    ) -> Result<Machine> {
        let small = |key: &str, number: u64| {
            u32::try_from(number)
                .map_err(|_| Error::new(Stage::Settings, format!("{key}: {number} is too large")))
        };
        let machine = &self.installation.machine;
        Ok(Machine {
            memory_mib: small("QEMU_MEMORY", machine.memory_mib)?,
            cpus: small("QEMU_CPUS", machine.cpus)?,
            accel,
            disk: self.disk.to_owned(),
            cdrom,
            kernel,
            boot,
        })
    }

    fn pass(
        &self,
        what: &str,
        log: &str,
        machine: &Machine,
        markers: &[String],
    ) -> Result<Outcome, Failed> {
        let log = self.logs.join(log);
        tracing::info!(pass = what, log = %log.display(), "starting {}", self.qemu.command_line(machine));
        // A guest that kvm does not really run says nothing at all; do not wait for it as for a slow one.
        let unsure = machine.accel == Accel::Kvm && self.may_choose();
        let silence = self.installation.machine.silence;
        let silence = if unsure { silence.min(KVM_SILENCE) } else { silence };
        let failure_markers = [product::FAILURE_MARKER.to_owned()];
        let options = RunOptions {
            log: &log,
            success_markers: markers,
            failure_markers: &failure_markers,
            total_timeout: self.installation.machine.total,
            silence_timeout: silence,
            on_line: &mut |line| {
                tracing::debug!(target: "guest", "{line}");
                self.reporter.alive(line);
            },
            cancelled: &|| self.interrupt.is_set(),
        };
        let outcome = self.qemu.run(machine, options);
        self.reporter.clear();
        outcome.map_err(|error| {
            let hung = error.kind() == Kind::Timeout;
            let mut error = from_disk(Stage::Disk, error);
            error.message = format!("{what}: {}", error.message);
            error.context.push(("serial log".to_owned(), log.display().to_string()));
            Failed { error, hung }
        })
    }
}

/// A file or a tree with its modes. What the user named is followed when it is a link; links inside a
/// named folder stay links.
fn add_tree(additions: &mut Vec<Addition>, path: String, source: &Path) -> Result<()> {
    let metadata = source.metadata().map_err(|error| unreadable(source, &error))?;
    add(additions, path, source, &metadata)
}

fn add(
    additions: &mut Vec<Addition>,
    path: String,
    source: &Path,
    metadata: &Metadata,
) -> Result<()> {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_symlink() {
        let target = fs::read_link(source).map_err(|error| unreadable(source, &error))?;
        let target = utf8(target.as_os_str(), source)?;
        additions.push(Addition { path, mode: 0o777, content: Content::Symlink(target) });
    } else if metadata.is_dir() {
        additions.push(Addition { path: path.clone(), mode, content: Content::Directory });
        let entries = fs::read_dir(source).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut entries = entries.map_err(|error| unreadable(source, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = utf8(&entry.file_name(), &entry.path())?;
            let inner = entry.metadata().map_err(|error| unreadable(&entry.path(), &error))?;
            add(additions, format!("{path}/{name}"), &entry.path(), &inner)?;
        }
    } else if metadata.is_file() {
        let content = Content::File(source.to_owned());
        additions.push(Addition { path, mode, content });
    } else {
        let text = format!("`{}` is neither file, folder nor link", source.display());
        return Err(Error::new(Stage::Settings, format!("UPDATE_IMAGE_FILES: {text}")));
    }
    Ok(())
}

fn unreadable(source: &Path, error: &std::io::Error) -> Error {
    let text = format!("UPDATE_IMAGE_FILES: cannot read `{}`", source.display());
    Error::new(Stage::Settings, text)
        .because(error)
        .hint("check that the file is there and may be read")
}

/// Names go into the image as they are; one that is no UTF-8 would be changed on the way.
fn utf8(name: &std::ffi::OsStr, source: &Path) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        let text = format!("UPDATE_IMAGE_FILES: {name:?} at `{}` is not UTF-8", source.display());
        Error::new(Stage::Settings, text).hint("rename it")
    })
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
        .because(error)
        .hint("free some space, or set ARTIFACTS_DIR to a larger file system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_hidden_files_blanks_links_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".hidden file"), "x").unwrap();
        fs::set_permissions(tree.join(".hidden file"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("/nowhere", tree.join("link")).unwrap();
        let mut additions = Vec::new();
        add_tree(&mut additions, "etc/injected_files/file0/src".to_owned(), &tree).unwrap();
        let paths: Vec<(&str, u32)> =
            additions.iter().map(|addition| (addition.path.as_str(), addition.mode)).collect();
        assert_eq!(paths[1], ("etc/injected_files/file0/src/.hidden file", 0o640));
        assert!(matches!(&additions[2].content, Content::Symlink(target) if target == "/nowhere"));
    }
}

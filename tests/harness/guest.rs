//! Builds stand-in installer ISOs, once per variant.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use super::{locked, root, target_directory};

/// A stand-in ISO.
pub(crate) struct Iso(pub(crate) PathBuf);

static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

impl Iso {
    /// The ISO of a variant; see `tests/fixtures/INDEX.md`.
    #[track_caller]
    pub(crate) fn of(variant: &str) -> Self {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = made.get(variant) {
            return Self(path.clone());
        }
        let _one = locked("stand-in-iso");
        let directory = target_directory().join("stand-in-iso");
        std::fs::create_dir_all(directory.join("made")).unwrap();
        let path = directory.join("made").join(format!("{variant}.iso"));
        let output = Command::new("python3")
            .arg(root().join("tests/fixtures/stand-in-iso/build"))
            .args(["--variant", variant, "--output"])
            .arg(&path)
            .arg("--cache")
            .arg(&directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made.insert(variant.to_owned(), path.clone());
        Self(path)
    }

    /// Its path as a command-line argument.
    pub(crate) fn word(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

/// The right to run guests. At most two guests run at a time, however many tests and test processes exist: each
/// guest uses a processor and most of a GiB.
pub(crate) struct Turn(#[expect(dead_code, reason = "dropping it releases its lock")] File);

impl Turn {
    /// Waits until a guest may run.
    #[track_caller]
    pub(crate) fn take() -> Self {
        let slot = |number: usize| {
            File::create(target_directory().join(format!("guests-turn.{number}"))).unwrap()
        };
        let mut slots = [slot(0), slot(1)];
        if let Some(free) = slots.iter().position(|slot| slot.try_lock().is_ok()) {
            slots.swap(0, free);
        } else {
            // Waiters are spread by their time of arrival.
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_micros();
            slots.swap(0, usize::from(now % 2 == 1));
            slots[0].lock().unwrap();
        }
        let [slot, _] = slots;
        Self(slot)
    }
}

/// Whether guests can be run here.
#[track_caller]
pub(crate) fn needs_qemu() -> bool {
    needs(&["qemu-system-x86_64", "qemu-img", "xorriso", "python3"])
}

/// Whether the Python example can be run here; reports as [`needs_qemu`] does.
#[track_caller]
pub(crate) fn needs_python() -> bool {
    needs(&["python3", "openssl"])
}

/// Whether these tools are installed. Prints what is skipped; with BUILD_IMAGE_NO_SKIP=1, which the full test run
/// sets, a skip is a failure.
#[track_caller]
pub(crate) fn needs(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Unprivileged users do not have the last two in PATH; scripts here do.
    let directories: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let is_there = |tool: &str| directories.iter().any(|directory| directory.join(tool).is_file());
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    let text = format!("SKIPPED: {} not found; run tests/install-tools", missing.join(", "));
    assert!(std::env::var_os("BUILD_IMAGE_NO_SKIP").is_none(), "{text}");
    eprintln!("{text}");
    false
}

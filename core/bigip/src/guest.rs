//! Describes BIG-IP's installer: the files to add to its initrd, its kernel arguments, and the texts it prints.

use std::fmt::Write as _;

use build_image_disk::{
    initrd::{Addition, Content},
    installer::Refusal,
};
use serde_json::{Value, json};

use crate::{Facts, Injected, Result, Shape, Sizes, tree};

/// A pass of the installer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The base ISO onto an empty disk ("release to manufacturing").
    Rtm,
    /// A hotfix ISO on top of it.
    Hotfix,
}

impl Pass {
    /// Printed by the installer when it succeeds.
    #[must_use]
    pub fn success_marker(self) -> &'static str {
        match self {
            Self::Rtm => "MKVM FINAL STATUS = SUCCESS",
            Self::Hotfix => "HOTFIXVM FINAL STATUS = SUCCESS",
        }
    }

    /// Printed by the installer when it fails.
    #[must_use]
    pub fn failure_marker(self) -> &'static str {
        match self {
            Self::Rtm => "MKVM FINAL STATUS = FAILURE",
            Self::Hotfix => "HOTFIXVM FINAL STATUS = FAILURE",
        }
    }
}

/// Arguments that the installer needs in every pass.
const COMMON_ARGUMENTS: &str = " mkvm_pid=Z100 mkvm_log_level=0";
/// Arguments of a first installation onto the virtual disk.
const RTM_ARGUMENTS: &str = " mkvm_cpu_lm mkvm_device=/dev/vda";
/// Console from which the serial log is read; always the last one.
const LOG_CONSOLE: &str = "ttyS0";
/// The tool's script that runs at the end of the installation.
const POST_INSTALL: &str = include_str!("post-install");

/// The user's settings for the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// The cloud that the guest is prepared for.
    pub hypervisor: Option<String>,
    /// Consoles, the log's console last; empty means as installed.
    pub consoles: Vec<String>,
    /// Skip the installer's last step for the boot loader.
    pub skip_boot_fixup: bool,
    /// Disable the boot splash.
    pub disable_splash: bool,
    /// Files to inject into the image, in this order.
    pub files: Vec<Injected>,
}

/// What the additions to the initrds of one installation are made of.
pub struct Additions<'a> {
    /// Facts of the ISO.
    pub facts: &'a Facts,
    /// The shape of the image.
    pub shape: Shape,
    /// Sizes of its volumes.
    pub sizes: Sizes,
    /// The user's settings for the guest.
    pub guest: &'a Guest,
    /// Provider.
    pub platform: &'a str,
}

impl Additions<'_> {
    /// The additions to the initrd of a pass. A hotfix uses the disk of the first pass, so it gets neither
    /// sizes nor markers. The contents of injected files are not read.
    ///
    /// # Errors
    /// Injected files that no image can hold.
    pub fn of(&self, pass: Pass) -> Result<Vec<Addition>> {
        let text = |path: &str, content: String, mode| Addition {
            path: path.to_owned(),
            mode,
            content: Content::Bytes(content.into_bytes()),
        };
        let mut added = vec![
            text("etc/post-install", POST_INSTALL.to_owned(), 0o755),
            text("etc/build-image/options", self.options(), 0o644),
        ];
        if pass == Pass::Rtm {
            added.push(text("etc/profile.d/vm.install.sh", self.exports(), 0o755));
            if self.shape.slots == 1 {
                added.push(text("etc/.one_slot_marker", String::new(), 0o644));
            }
            if self.shape.all_modules {
                added.push(text("etc/.all_modules_marker", String::new(), 0o644));
            }
        }
        let mut directories = Vec::new();
        for (number, file) in self.guest.files.iter().enumerate() {
            let directory = format!("etc/injected_files/file{number}");
            tree::add(&mut added, format!("{directory}/src"), &file.source)?;
            added.push(text(
                &format!("{directory}/dest"),
                format!("{}\n", file.destination),
                0o644,
            ));
            if let Some(mode) = &file.mode {
                added.push(text(&format!("{directory}/mode"), format!("{mode}\n"), 0o644));
            }
            directories.push(directory);
        }
        let directory = format!("etc/injected_files/file{}", directories.len());
        added.push(text(&format!("{directory}/src"), self.build_info(), 0o644));
        added.push(text(&format!("{directory}/dest"), "/build_info.json\n".to_owned(), 0o644));
        Ok(added)
    }

    fn exports(&self) -> String {
        let volumes = &self.sizes.volumes;
        let mut script = "#!/bin/bash\n".to_owned();
        let sizes = [
            ("CONFIG", volumes.config),
            ("ROOT", volumes.root),
            ("USR", volumes.usr),
            ("VAR", volumes.var),
            ("BOOT", volumes.boot),
            ("SWAP", self.sizes.swap_partition),
            ("SWAPVOL", volumes.swap),
            ("SHARE", volumes.shared),
            ("APPDATA", volumes.appdata),
            ("LOG", volumes.log),
        ];
        // Always one: the installer creates the second slot's volumes itself.
        script.push_str("export TMI_VOLUME_SET_COUNT=1\n");
        for (name, size) in sizes {
            let _ = writeln!(script, "export TMI_VOLUME_FIX_{name}_MIB={size}");
        }
        if let Some(hypervisor) = &self.guest.hypervisor {
            let _ = writeln!(script, "export TMI_VADC_HYPERVISOR={hypervisor}");
        }
        script
    }

    fn options(&self) -> String {
        format!(
            "HYPERVISOR={}\nSKIP_FIXUP={}\nDISABLE_SPLASH={}\nCONSOLES={}\n",
            self.guest.hypervisor.as_deref().unwrap_or_default(),
            u8::from(self.guest.skip_boot_fixup),
            u8::from(self.guest.disable_splash),
            self.guest.consoles.join(" "),
        )
    }

    /// The description of the build that the image contains: no facts about the machine it was built on.
    fn build_info(&self) -> String {
        let info = json!({
            "tool": concat!("build-image ", env!("CARGO_PKG_VERSION")),
            "product": self.facts.product,
            "productVersion": self.facts.version,
            "productBuild": self.facts.build,
            "productBaseBuild": self.facts.base_build,
            "platform": self.platform,
            "module": if self.shape.all_modules { "all" } else { "ltm" },
            "bootLocations": self.shape.slots,
            "consoleDevicesInput": self.guest.consoles.join(" console="),
            "disableSplash": self.guest.disable_splash,
        });
        format!("{info:#}\n")
    }
}

/// Returns the kernel arguments of a pass, from the text of the base ISO's `isolinux.cfg`.
///
/// The boot loader accepts its keywords in any case. A line that begins with `append` in lower case, as the
/// vendor writes it, takes precedence over others.
///
/// # Errors
/// Why the arguments cannot be determined: the line is missing, empty, or not unique.
pub fn kernel_arguments(config: &str, pass: Pass) -> Result<String, String> {
    let lines = |is_wanted: fn(&str) -> bool| -> Vec<&str> {
        let split = config.lines().map(|line| {
            let line = line.trim();
            line.split_once([' ', '\t']).unwrap_or((line, ""))
        });
        split.filter(|(keyword, _)| is_wanted(keyword)).map(|(_, rest)| rest.trim()).collect()
    };
    let mut found = lines(|keyword| keyword == "append");
    if found.is_empty() {
        found = lines(|keyword| keyword.eq_ignore_ascii_case("append"));
    }
    match found.as_slice() {
        [""] => Err("its `append` line names no kernel arguments".to_owned()),
        [arguments] => {
            let own = if pass == Pass::Rtm { RTM_ARGUMENTS } else { "" };
            Ok(format!("{arguments}{COMMON_ARGUMENTS}{own}"))
        }
        [] if config.trim().is_empty() => Err("it is empty".to_owned()),
        [] => Err(match lines(|keyword| keyword.eq_ignore_ascii_case("include")).as_slice() {
            [] => {
                "no line of it begins with `append`, so the kernel arguments are unknown".to_owned()
            }
            [file, ..] => format!(
                "no line of it begins with `append`, and the file it includes, `{file}`, is not read"
            ),
        }),
        several => Err(format!("it has {} `append` lines, one is expected", several.len())),
    }
}

/// Parses CONSOLE_DEVICES.
///
/// # Errors
/// When it is not a list of device names.
pub fn consoles(value: Option<&Value>) -> Result<Vec<String>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let device_error = |item: &Value| {
        Refusal::settings(format!("CONSOLE_DEVICES: `{item}` is no device name"))
            .hint("CONSOLE_DEVICES is a list such as `[ttyS1, tty1]`")
    };
    let mut names = Vec::new();
    for item in value.as_array().into_iter().flatten() {
        let name = item.as_str().ok_or_else(|| device_error(item))?;
        let legal = !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || ",_-".contains(letter));
        if !legal {
            return Err(device_error(item));
        }
        if name != LOG_CONSOLE {
            names.push(name.to_owned());
        }
    }
    names.push(LOG_CONSOLE.to_owned());
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VeInfo, Version, compute};

    #[test]
    fn the_boot_fix_up_is_left_out_where_the_provider_asks_for_that() {
        for (skip_boot_fixup, line) in [(true, "SKIP_FIXUP=1\n"), (false, "SKIP_FIXUP=0\n")] {
            let guest = Guest { skip_boot_fixup, ..Guest::default() };
            with_additions(&guest, |additions| {
                for pass in [Pass::Rtm, Pass::Hotfix] {
                    let added = additions.of(pass).unwrap();
                    let options = added.iter().find(|item| item.path == "etc/build-image/options");
                    let Content::Bytes(text) = &options.unwrap().content else { panic!("a file") };
                    assert!(std::str::from_utf8(text).unwrap().contains(line), "{pass:?}");
                }
            });
        }
    }

    #[test]
    fn kernel_arguments_come_from_the_only_append_line() {
        let config = "default x\nlabel x\n  kernel vmlinuz\n  append initrd=initrd.img quiet word\nAPPEND no\n";
        let common = "initrd=initrd.img quiet word mkvm_pid=Z100 mkvm_log_level=0";
        let of = |config| kernel_arguments(config, Pass::Rtm);
        assert_eq!(of(config).unwrap(), format!("{common} mkvm_cpu_lm mkvm_device=/dev/vda"));
        assert_eq!(kernel_arguments(config, Pass::Hotfix).unwrap(), common);
        for loud in ["LABEL x\n\tAPPEND\tinitrd=x  quiet \n", "Append initrd=x  quiet"] {
            assert_eq!(
                kernel_arguments(loud, Pass::Hotfix).unwrap(),
                "initrd=x  quiet mkvm_pid=Z100 mkvm_log_level=0"
            );
        }
        for (config, text) in [
            ("kernel x\nappendix y", "no line of it begins with `append`, so"),
            ("kernel x\n# append y", "no line of it begins with `append`, so"),
            (
                "UI menu.c32\n INCLUDE menu/live.cfg",
                "the file it includes, `menu/live.cfg`, is not read",
            ),
            (" \n", "it is empty"),
            ("append a\nappend b", "2 `append` lines"),
            ("APPEND a\nAppend b\nAPPEND c", "3 `append` lines"),
            ("append \nAPPEND a", "names no kernel arguments"),
        ] {
            let error = of(config).unwrap_err();
            assert!(error.contains(text), "{config:?}: {error}");
        }
    }

    #[test]
    fn consoles_end_with_the_log_console() {
        assert_eq!(consoles(Some(&json!(["ttyS0", "tty1"]))).unwrap(), ["tty1", "ttyS0"]);
        assert!(consoles(None).unwrap().is_empty());
        assert!(consoles(Some(&json!(["a b"]))).is_err());
    }

    /// Calls `check` with the additions for an image with one slot.
    fn with_additions(guest: &Guest, check: impl FnOnce(&Additions<'_>)) {
        let facts = Facts {
            directory: "/BIGIP1500".into(),
            hotfix: false,
            product: "BIG-IP".into(),
            version: "15.0.0".into(),
            build: "0.0.39".into(),
            base_build: "0.0.39".into(),
            project: None,
            number: Version::of(15_000_000),
            lines: Vec::new(),
        };
        let shape = Shape { all_modules: false, slots: 1 };
        let info = VeInfo::built_in();
        let sizes = compute(&info, shape, &[].into(), false).unwrap();
        let additions = Additions { facts: &facts, shape, sizes, guest, platform: "acme" };
        check(&additions);
    }

    #[test]
    fn the_initrd_gets_what_the_installer_looks_for() {
        let guest = Guest { hypervisor: Some("acme".into()), ..Guest::default() };
        with_additions(&guest, judge_additions);
    }

    fn judge_additions(additions: &Additions<'_>) {
        let added = additions.of(Pass::Rtm).unwrap();
        let content = |expected_path: &str| {
            added.iter().find_map(|item| match &item.content {
                Content::Bytes(text) if item.path == expected_path => {
                    std::str::from_utf8(text).ok()
                }
                _ => None,
            })
        };
        let exports = content("etc/profile.d/vm.install.sh").unwrap();
        assert_eq!(exports.lines().filter(|line| line.starts_with("export TMI_")).count(), 12);
        assert!(exports.contains("export TMI_VADC_HYPERVISOR=acme\n"));
        assert!(exports.contains("export TMI_VOLUME_FIX_SWAP_MIB=10\n"));
        assert_eq!(content("etc/.one_slot_marker"), Some(""));
        assert_eq!(content("etc/.all_modules_marker"), None);
        assert_eq!(content("etc/injected_files/file0/dest"), Some("/build_info.json\n"));
        let info: Value =
            serde_json::from_str(content("etc/injected_files/file0/src").unwrap()).unwrap();
        assert_eq!(info["productVersion"], "15.0.0");
        let again = additions.of(Pass::Hotfix).unwrap();
        let paths: Vec<&str> = again.iter().map(path_of).collect();
        let same = added.iter().map(path_of);
        let not_again = ["etc/profile.d/vm.install.sh", "etc/.one_slot_marker"];
        assert_eq!(paths, same.filter(|path| !not_again.contains(path)).collect::<Vec<_>>());
    }

    fn path_of(item: &Addition) -> &str {
        &item.path
    }
}

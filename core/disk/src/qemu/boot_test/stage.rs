//! Determines from the text on console and screen how far a guest has booted, and whether it can boot further.
//!
//! The rules are texts of programs: SeaBIOS, OVMF, GRUB 2, SYSLINUX, the boot record of DOS, Linux, initramfs-tools
//! (scripts/functions), dracut (dracut-emergency), mkinitcpio (init_functions), systemd (emergency.service,
//! sulogin), and cloud-init (`final_message`). A later text of a later stage overrides an earlier failure: boot
//! loaders print errors of attempts that are not their last.

use std::fmt;

/// How far a guest has booted. The order is that of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootStage {
    /// The firmware, which looks for something to boot.
    Firmware,
    /// The boot loader.
    BootLoader,
    /// The kernel.
    Kernel,
    /// The programs of the initramfs, which look for the root file system.
    Initramfs,
    /// The programs of the root file system.
    System,
}

/// What the end of a boot was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootEnd {
    /// The guest is up.
    Ready,
    /// The guest stopped at this stage, with a message.
    Failed(BootStage),
    /// The kernel panicked.
    Panic,
    /// systemd started the emergency or the rescue mode.
    Emergency,
    /// Nothing was printed after the firmware had started the disk.
    Silent,
    /// The time was over at this stage.
    TimedOut(BootStage),
    /// The machine was switched off at this stage.
    PoweredOff(BootStage),
}

impl BootEnd {
    /// Returns the name of the stage for programs and people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Panic => "panic",
            Self::Emergency => "emergency mode",
            Self::Silent => "silent",
            Self::Failed(stage) | Self::TimedOut(stage) | Self::PoweredOff(stage) => stage.name(),
        }
    }
}

impl BootStage {
    fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::BootLoader => "boot loader",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::System => "system",
        }
    }
}

impl fmt::Display for BootEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// This stage was reached.
    Reached(BootStage),
    /// The boot ends here.
    Ends(BootEnd),
}

use BootEnd::{Emergency, Failed, Panic, Ready};
use BootStage::{BootLoader, Firmware, Initramfs, Kernel, System};
use Means::{Ends, Reached};

/// Texts and their meaning. The first rule that matches a line counts.
const RULES: [(&str, Means); 58] = [
    // Ready.
    ("Reached target Multi-User System", Ends(Ready)),
    ("Reached target multi-user.target", Ends(Ready)),
    ("Reached target Graphical Interface", Ends(Ready)),
    ("Reached target graphical.target", Ends(Ready)),
    // The end of the last service of cloud-init: `Cloud-init v. 22.4.2 finished at …`.
    ("Cloud-init v. ", Ends(Ready)),
    // Firmware.
    ("No bootable device", Ends(Failed(Firmware))),
    ("No bootable option or device was found", Ends(Failed(Firmware))),
    ("UEFI Interactive Shell", Ends(Failed(Firmware))),
    // Boot loaders.
    ("grub rescue>", Ends(Failed(BootLoader))),
    ("Minimal BASH-like line editing is supported", Ends(Failed(BootLoader))),
    ("you need to load the kernel first", Ends(Failed(BootLoader))),
    ("Missing operating system", Ends(Failed(BootLoader))),
    ("Error loading operating system", Ends(Failed(BootLoader))),
    ("Operating system load error", Ends(Failed(BootLoader))),
    ("Invalid partition table", Ends(Failed(BootLoader))),
    ("No DEFAULT or UI configuration directive found", Ends(Failed(BootLoader))),
    ("Could not find kernel image", Ends(Failed(BootLoader))),
    ("Failed to load ldlinux", Ends(Failed(BootLoader))),
    // SYSLINUX 6: `Loading vmlinuz... failed: No such file or directory`.
    ("... failed: No such file or directory", Ends(Failed(BootLoader))),
    ("BOOTMGR is missing", Ends(Failed(BootLoader))),
    ("NTLDR is missing", Ends(Failed(BootLoader))),
    // Kernel.
    ("Kernel panic - not syncing", Ends(Panic)),
    ("Initramfs unpacking failed", Ends(Failed(Kernel))),
    // Initramfs: initramfs-tools, dracut, mkinitcpio.
    // The next line names the device that was not found.
    ("Gave up waiting for root", Reached(Initramfs)),
    ("does not exist.  Dropping to a shell!", Ends(Failed(Initramfs))),
    ("No init found. Try passing init=", Ends(Failed(Initramfs))),
    ("(initramfs)", Ends(Failed(Initramfs))),
    ("/run/initramfs/rdsosreport.txt", Ends(Failed(Initramfs))),
    ("dracut-initqueue timeout - starting timeout scripts", Reached(Initramfs)),
    ("Entering emergency mode. Exit the shell to continue", Ends(Failed(Initramfs))),
    ("You are now being dropped into an emergency shell", Ends(Failed(Initramfs))),
    // Emergency mode of the system.
    ("You are in emergency mode", Ends(Emergency)),
    ("You are in rescue mode", Ends(Emergency)),
    ("Give root password for maintenance", Ends(Emergency)),
    ("Cannot open access to console, the root account is locked", Ends(Emergency)),
    // How far it came, from the end.
    ("Welcome to GRUB", Reached(BootLoader)),
    ("systemd[1]: Switching root", Reached(System)),
    ("Reached target Basic System", Reached(System)),
    ("INIT: version", Reached(System)),
    ("OpenRC", Reached(System)),
    ("systemd[1]: systemd", Reached(Initramfs)),
    ("as init process", Reached(Initramfs)),
    ("Begin: Running /scripts", Reached(Initramfs)),
    ("Loading, please wait", Reached(Initramfs)),
    ("dracut", Reached(Initramfs)),
    ("Linux version ", Reached(Kernel)),
    ("Booting the kernel", Reached(Kernel)),
    ("Decompressing Linux", Reached(Kernel)),
    ("EFI stub:", Reached(Kernel)),
    ("Loading vmlinuz", Reached(BootLoader)),
    ("Loading Linux", Reached(BootLoader)),
    ("GRUB", Reached(BootLoader)),
    ("SYSLINUX", Reached(BootLoader)),
    ("EXTLINUX", Reached(BootLoader)),
    ("ISOLINUX", Reached(BootLoader)),
    ("LILO", Reached(BootLoader)),
    ("systemd-boot", Reached(BootLoader)),
    ("Boot failed: not a bootable disk", Reached(Firmware)),
];

/// Lines with which the firmware announces that it starts the disk; if nothing follows, the guest is silent.
const STARTS_DISK: [&str; 2] = ["Booting from Hard Disk", "BdsDxe: starting Boot"];
/// Banners of firmware: one more of them is one more start of the machine.
const BANNERS: [&str; 2] = ["SeaBIOS (version", "BdsDxe: starting Boot"];
/// Number of starts from which on a guest restarts for ever. An image may restart once or twice at its first boot.
const STARTS: u32 = 5;

/// Follows one boot.
#[derive(Debug)]
pub(super) struct Progress {
    /// The text that means success instead of the usual ones.
    marker: Option<String>,
    reached: BootStage,
    /// Whether anything was printed after the firmware's own lines.
    spoke: bool,
    starts: u32,
    end: Option<(BootEnd, String)>,
}

impl Progress {
    pub(super) fn new(marker: Option<&str>) -> Self {
        let marker = marker.map(str::to_owned);
        Self { marker, reached: Firmware, spoke: false, starts: 0, end: None }
    }

    /// Returns the end that the text proves, with the line that proves it.
    pub(super) fn end(&self) -> Option<&(BootEnd, String)> {
        self.end.as_ref()
    }

    /// Returns what the end is if nothing more comes: the guest was ended by the clock.
    pub(super) fn at_time_out(&self) -> BootEnd {
        if self.spoke || self.reached > Firmware {
            BootEnd::TimedOut(self.reached)
        } else {
            BootEnd::Silent
        }
    }

    /// Returns what the end is if the machine was switched off.
    pub(super) fn at_power_off(&self) -> BootEnd {
        BootEnd::PoweredOff(self.reached)
    }

    /// Interprets a line of the console or of the screen; `complete` is false for one that may continue.
    pub(super) fn line(&mut self, line: &str, complete: bool) {
        let text = line.trim();
        if text.is_empty() || self.end.as_ref().is_some_and(|(end, _)| *end == Ready) {
            return;
        }
        if let Some(marker) = &self.marker
            && text.contains(marker.as_str())
        {
            self.end = Some((Ready, text.to_owned()));
            return;
        }
        if complete && BANNERS.iter().any(|banner| text.contains(banner)) {
            self.restart(text);
        }
        let begins = STARTS_DISK.iter().any(|start| text.contains(start));
        let rule = RULES.iter().find(|(rule, _)| text.contains(rule)).map(|(_, means)| *means);
        // Early messages of the kernel: `[    0.000000] …`.
        let rule = rule.or_else(|| text.starts_with("[    0.").then_some(Reached(Kernel)));
        match rule {
            Some(Reached(stage)) => self.reach(stage),
            Some(Ends(Ready)) if self.marker.is_some() => self.reach(System),
            Some(Ends(Ready)) if !is_end(text) => self.reach(System),
            // A later program printed what looks like the message of an earlier one.
            Some(Ends(Failed(stage))) if stage < self.reached => {}
            Some(Ends(end)) => {
                let (_, evidence) = self.end.get_or_insert_with(|| (end, text.to_owned()));
                // The same line, of which more was printed.
                if text.starts_with(evidence.as_str()) {
                    text.clone_into(evidence);
                }
            }
            None if is_login(text) => {
                if self.marker.is_some() {
                    self.reach(System);
                } else {
                    self.end = Some((Ready, text.to_owned()));
                }
            }
            None => {}
        }
        self.spoke |= !begins && !is_of_firmware(text);
    }

    fn restart(&mut self, text: &str) {
        self.starts += 1;
        if self.starts >= STARTS {
            let line = format!("the machine restarts again and again ({text})");
            self.end.get_or_insert((Failed(self.reached), line));
        }
    }

    fn reach(&mut self, stage: BootStage) {
        self.reached = self.reached.max(stage);
        // A boot loader's failed attempt was not its last.
        self.end.take_if(|(end, _)| matches!(end, Failed(failed) if *failed < stage));
    }
}

/// Returns whether a line with the name of cloud-init is its last message.
fn is_end(text: &str) -> bool {
    !text.contains("Cloud-init v. ") || text.contains("finished at")
}

/// Returns whether a line is a login prompt; `Last login: …` is not.
fn is_login(text: &str) -> bool {
    text.ends_with(" login:") && !text.starts_with("Last ")
}

fn is_of_firmware(text: &str) -> bool {
    ["SeaBIOS", "iPXE", "Machine UUID", "Press ", "Booting from", "Boot failed", "BdsDxe"]
        .iter()
        // A line is also seen while it is being printed.
        .any(|begin| text.starts_with(begin) || begin.starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(marker: Option<&str>, text: &str) -> (Option<BootEnd>, BootEnd) {
        let mut progress = Progress::new(marker);
        let (lines, last) = text.rsplit_once('\n').unwrap_or(("", text));
        lines.lines().for_each(|line| progress.line(line, true));
        progress.line(last, false);
        (progress.end().map(|(end, _)| *end), progress.at_time_out())
    }

    const BIOS: &str = "SeaBIOS (version 1.16.2-debian-1.16.2-1)\nBooting from Hard Disk...\n";

    #[test]
    fn ends_are_recognised_by_the_words_of_each_program() {
        for (text, want) in [
            ("[  OK  ] Reached target Multi-User System.\n", Ready),
            ("[  OK  ] Reached target multi-user.target - Multi-User System.\n", Ready),
            ("[  OK  ] Reached target graphical.target - Graphical Interface.\n", Ready),
            ("Debian GNU/Linux 12 debian ttyS0\n\ndebian login:", Ready),
            ("Cloud-init v. 22.4.2 finished at Sat, 28 Nov 2026 20:00:00 +0000. Up 9 s\n", Ready),
            ("Boot failed: not a bootable disk\n\nNo bootable device.\n", Failed(Firmware)),
            ("BdsDxe: No bootable option or device was found.\n", Failed(Firmware)),
            ("error: no such device: 1234.\ngrub rescue>", Failed(BootLoader)),
            ("Missing operating system.\n", Failed(BootLoader)),
            ("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\n", Panic),
            ("No init found. Try passing init= bootarg.\n(initramfs) ", Failed(Initramfs)),
            ("ALERT!  UUID=1 does not exist.  Dropping to a shell!\n", Failed(Initramfs)),
            ("Generating \"/run/initramfs/rdsosreport.txt\"\n", Failed(Initramfs)),
            ("You are in emergency mode. After logging in, type\n", Emergency),
        ] {
            assert_eq!(end_of(None, &format!("{BIOS}{text}")).0, Some(want), "{text}");
        }
    }

    #[test]
    fn lines_that_look_alike_are_not_ends() {
        for text in [
            "Last login: Sat Nov 28 20:00:00 UTC 2026 on ttyS0\n",
            "Cloud-init v. 22.4.2 running 'init-local' at Sat, 28 Nov 2026\n",
            "[  OK  ] Reached target Basic System.\n",
            "[    0.000000] Kernel command line: panic=1\n",
            "password login: disabled for\n",
        ] {
            assert_eq!(end_of(None, text).0, None, "{text}");
        }
    }

    #[test]
    fn the_evidence_is_the_whole_line_although_it_is_recognised_early() {
        let mut progress = Progress::new(None);
        for text in ["Kernel panic - not syncing", "Kernel panic - not syncing: VFS: no root"] {
            progress.line(text, false);
        }
        progress.line("(initramfs)", false);
        let want = "Kernel panic - not syncing: VFS: no root".to_owned();
        assert_eq!(progress.end(), Some(&(Panic, want)));
    }

    #[test]
    fn a_marker_replaces_the_usual_signs_of_success() {
        let text = "Reached target Multi-User System\ndebian login:";
        assert_eq!(end_of(Some("application is up"), text).0, None);
        let text = format!("{text}\nthe application is up now\n");
        assert_eq!(end_of(Some("application is up"), &text).0, Some(Ready));
        let panic = "Kernel panic - not syncing: x\n";
        assert_eq!(end_of(Some("application is up"), panic).0, Some(Panic));
    }

    #[test]
    fn a_boot_that_stops_without_a_message_is_named_by_its_stage() {
        for (text, want) in [
            ("", BootEnd::Silent),
            (BIOS, BootEnd::Silent),
            ("Booting from Fl", BootEnd::Silent),
            ("GRUB loading.\n", BootEnd::TimedOut(BootLoader)),
            // What a boot loader prints may follow on the firmware's line.
            ("Booting from Hard Disk..GRUB loading.\n", BootEnd::TimedOut(BootLoader)),
            ("[    0.000000] Linux version 6.1.0\n", BootEnd::TimedOut(Kernel)),
            ("[    0.9] Run /init as init process\n", BootEnd::TimedOut(Initramfs)),
            ("[    3.0] systemd[1]: Switching root.\n", BootEnd::TimedOut(System)),
        ] {
            let text = if text.is_empty() { String::new() } else { format!("{BIOS}{text}") };
            assert_eq!(end_of(None, &text), (None, want), "{text}");
        }
    }

    #[test]
    fn an_error_before_a_later_stage_is_not_the_end_and_restarts_are_counted() {
        let text = "Could not find kernel image: a\nDecompressing Linux\ndebian login:";
        assert_eq!(end_of(None, text).0, Some(Ready));
        let text = "Decompressing Linux\nmodprobe... failed: No such file or directory\n";
        assert_eq!(end_of(None, text).0, None);
        assert_eq!(end_of(None, &BIOS.repeat(3)).0, None);
        assert_eq!(end_of(None, &BIOS.repeat(5)).0, Some(Failed(Firmware)));
    }

    #[test]
    fn every_rule_can_match() {
        for (number, (text, means)) in RULES.iter().enumerate() {
            let hidden = RULES[..number].iter().find(|(earlier, _)| text.contains(earlier));
            let same = hidden.is_none_or(|(_, earlier)| earlier == means);
            assert!(same, "`{text}` is hidden by {hidden:?}");
        }
    }
}

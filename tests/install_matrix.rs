//! Runs whole installations of the stand-in ISO, judged by what the guest itself found: every shape, with and
//! without a hotfix, and every option for the installed system.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::{Answer, Iso, Sandbox, Turn, Web, needs, needs_qemu, tool};

/// Sizes of the stand-in's volumes, MiB: all modules, `ltm`.
const SIZES: [(&str, u64, u64); 7] = [
    ("config", 2300, 500),
    ("var", 3100, 960),
    ("root", 450, 450),
    ("usr", 5100, 5100),
    ("log", 2900, 520),
    ("appdata", 25_000, 40),
    ("share", 15_000, 510),
];

/// One installation.
struct Row<'a> {
    modules: &'a str,
    slots: u64,
    hotfix: bool,
    provider: &'a str,
    /// Lines of the configuration file.
    config: Value,
    /// Volumes whose size differs from the default of this shape, MiB.
    grown: &'a [(&'a str, u64)],
}

impl Row<'_> {
    /// The volumes that must exist, MiB.
    fn volumes(&self) -> BTreeMap<String, u64> {
        let all = self.modules == "all";
        let mut size: BTreeMap<&str, u64> = SIZES
            .iter()
            .map(|(name, full, micro)| (*name, if all { *full } else { *micro }))
            .collect();
        match (all, self.slots) {
            (true, 1) => size.extend([("appdata", 21_000)]),
            (false, 2) => size.extend([("log", 1000), ("share", 15_000)]),
            _ => {}
        }
        size.extend(self.grown.iter().copied());
        let mut volumes = BTreeMap::from([("dat.swapvol".into(), 900), ("dat.maint".into(), 310)]);
        for name in ["log", "appdata", "share"] {
            volumes.insert(format!("dat.{name}"), size[name]);
        }
        for slot in 1..=self.slots {
            volumes.insert(format!("set.{slot}.root"), size["root"]);
            for name in ["config", "var", "usr"] {
                volumes.insert(format!("set.{slot}._{name}"), size[name]);
            }
        }
        volumes
    }
}

/// The contents of the serial logs of an installation.
struct Logs {
    install: String,
    hotfix: String,
    boot: String,
}

impl Logs {
    /// The rest of the first line that contains this text.
    #[track_caller]
    fn after<'a>(log: &'a str, text: &str) -> &'a str {
        let line = log.lines().find_map(|line| line.split_once(text));
        line.unwrap_or_else(|| panic!("no `{text}` in\n{log}")).1.trim_end()
    }

    /// Checks that the lists of the installed system have these lines.
    #[track_caller]
    fn has(&self, lines: &[&str]) {
        let found: Vec<&str> = self.boot.lines().map(str::trim_end).collect();
        for line in lines {
            assert!(found.contains(line), "`{line}` is missing in\n{}", self.boot);
        }
    }
}

/// Runs a build and checks the common requirements of every installation.
#[track_caller]
fn install(sandbox: &Sandbox, row: &Row<'_>) -> Logs {
    sandbox.write("own.yml", &row.config.to_string());
    let slots = row.slots.to_string();
    let (iso, hotfix) = (Iso::of("ok"), Iso::of("hotfix"));
    let mut args =
        vec!["-i", iso.word(), "-p", row.provider, "-m", row.modules, "-b", &slots, "--reuse"];
    args.extend(["-c", "own.yml"]);
    let cloud = !["qcow2", "vhd", "vmware"].contains(&row.provider);
    if cloud {
        args.push("--no-upload");
    }
    if row.hotfix {
        args.extend(["-e", hotfix.word()]);
    }
    let run = sandbox.run(&args);
    run.succeeded();
    let directory = sandbox
        .path()
        .join(format!("artifacts/ok/{}/{}_{}slot", row.provider, row.modules, row.slots));
    let read = |name: &str| {
        let bytes = fs::read(directory.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let logs = Logs {
        install: read("qemu.iso.log"),
        hotfix: read("qemu.hotfix.log"),
        boot: read("qemu.selinux_relabeling.log"),
    };
    for log in [&logs.install, &logs.hotfix, &logs.boot] {
        assert!(!log.contains("FAILED CHECK"), "{log}");
    }
    let kind = if row.modules == "all" { "default" } else { "micro" };
    assert_eq!(Logs::after(&logs.install, " slots: "), format!("{}, sizes: {kind}", row.slots));
    let volumes = Logs::after(&logs.install, " volumes: ").split_whitespace().map(|word| {
        let (name, size) = word.split_once('=').unwrap();
        (name.to_owned(), size.strip_suffix(".00").unwrap().parse().unwrap())
    });
    assert_eq!(volumes.collect::<BTreeMap<String, u64>>(), row.volumes());
    let hypervisor = if cloud { row.provider } else { "" };
    assert!(logs.install.contains(&format!(" exports: hypervisor={hypervisor} ")));
    assert_eq!(logs.boot.contains("Cloud setup succeeded."), cloud);
    assert!(logs.boot.contains("relabelling finished"), "{}", logs.boot);
    logs.has(&["stand-in: now: ./.vadc_first_boot|f|644|0:0|0|"]);
    let version = logs.boot.lines().any(|line| line.trim_end().ends_with("  ./VERSION"));
    assert_eq!((version, !logs.hotfix.is_empty()), (row.hotfix, row.hotfix), "{}", logs.boot);
    let file = run.member("file").as_str().unwrap();
    let stem = if row.hotfix { "/Hotfix-BIGIP-15.0.0-0.0.44." } else { "/BIGIP-15.0.0-0.0.39." };
    assert!(file.contains(stem), "{file}");
    holds_the_disk(sandbox, row.provider, Path::new(file), &directory);
    logs
}

/// Checks with other tools that what was published unpacks to the disk that was installed.
#[track_caller]
fn holds_the_disk(sandbox: &Sandbox, provider: &str, file: &Path, artifacts: &Path) {
    let (unpack, format): (&[&str], &str) = match provider {
        "vmware" => (&["tar", "-xf"], "vmdk"),
        "aws" => (&["unzip", "-q"], "vmdk"),
        "vhd" => (&["unzip", "-q"], "vpc"),
        "qcow2" => (&["unzip", "-q"], "qcow2"),
        "azure" => (&["tar", "-xSzf"], "vpc"),
        _ => (&["tar", "-xSzf"], "qcow2"),
    };
    let unpacked = sandbox.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tool(&unpacked, &[unpack, &[file.to_str().unwrap()]].concat());
    let suffix = if format == "vpc" { "vhd" } else { format };
    let (image, raw) = (ending_with(&unpacked, suffix), ending_with(artifacts, "raw"));
    let (image, raw) = (image.to_str().unwrap(), raw.to_str().unwrap());
    tool(&unpacked, &["qemu-img", "compare", "-f", "raw", "-F", format, raw, image]);
}

/// The file in a directory with this suffix.
#[track_caller]
fn ending_with(directory: &Path, suffix: &str) -> PathBuf {
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|end| end == suffix)).unwrap()
}

/// Installs the last row, which has a hotfix and the most options; with BUILD_IMAGE_SOAK_INSTALLS=1 all of them.
fn rows(rows: &[Row<'_>]) {
    if !needs_qemu() || !needs(&["unzip", "tar"]) {
        return;
    }
    let all = std::env::var_os("BUILD_IMAGE_SOAK_INSTALLS").is_some();
    for row in if all { rows } else { &rows[rows.len() - 1..] } {
        let _turn = Turn::take();
        install(&Sandbox::new(), row);
    }
}

#[test]
fn ltm_with_two_slots() {
    let row = Row {
        modules: "ltm",
        slots: 2,
        hotfix: false,
        provider: "vmware",
        config: json!({}),
        grown: &[],
    };
    rows(&[Row { config: json!({}), ..row }, Row { hotfix: true, provider: "alibaba", ..row }]);
}

#[test]
fn all_modules_with_one_slot() {
    let row = Row {
        modules: "all",
        slots: 1,
        hotfix: false,
        provider: "aws",
        config: json!({}),
        grown: &[],
    };
    rows(&[Row { config: json!({}), ..row }, Row { hotfix: true, provider: "vhd", ..row }]);
}

#[test]
fn all_modules_with_two_slots_and_larger_volumes() {
    let sizes = json!({"UPDATE_LV_SIZES": {
        "appdata": 25_001, "config": 2500, "log": 3000, "shared": 16_000, "var": 3200
    }});
    let grown =
        [("appdata", 25_001), ("config", 2500), ("log", 3000), ("share", 16_000), ("var", 3200)];
    let row = Row {
        modules: "all",
        slots: 2,
        hotfix: false,
        provider: "alibaba",
        config: json!({}),
        grown: &[],
    };
    rows(&[
        Row { config: json!({}), provider: "qcow2", ..row },
        Row { hotfix: true, config: sizes, grown: &grown, ..row },
    ]);
}

#[test]
fn consoles_without_a_splash() {
    if !needs_qemu() || !needs(&["tar"]) {
        return;
    }
    let _turn = Turn::take();
    let row = Row {
        modules: "ltm",
        slots: 1,
        hotfix: false,
        provider: "azure",
        config: json!({"CONSOLE_DEVICES": ["ttyS1", "ttyS0", "tty1"], "DISABLE_SPLASH": true}),
        grown: &[],
    };
    let logs = install(&Sandbox::new(), &row);
    let kernel = Logs::after(&logs.install, "grub.conf:     kernel ");
    assert!(kernel.ends_with(" console=ttyS1 console=tty1 console=ttyS0"), "{kernel}");
    assert!(!logs.install.contains("splashimage"), "{}", logs.install);
    // Of the serial ports the kernel uses the first one that is named.
    assert_eq!(Logs::after(&logs.boot, "active consoles: "), "ttyS1 tty1");
}

/// Files of every kind, in an order that matters, and the expected result.
fn files(directory: &Path) -> Value {
    let write = |name: &str, text: &str, mode| {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    write("tree/.hidden", "hidden", 0o600);
    write("tree/etc/a b/new file.conf", "blank", 0o644);
    write("tree/etc/group", "root:x:0:\n", 0o644);
    write("tree/var/tmp/deep/down", "shared", 0o755);
    std::os::unix::fs::symlink("a b", directory.join("tree/etc/link")).unwrap();
    // An existing directory keeps its permissions, whatever these are.
    for name in ["tree", "tree/etc", "tree/var/tmp"] {
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let key = write("key", "ssh-ed25519 A\n", 0o644);
    let mut entries = vec![
        json!({"source": directory.join("tree"), "destination": "/"}),
        json!({"source": key, "destination": "/root/.ssh/authorized_keys", "mode": "600"}),
        json!({"source": key, "destination": "/var/tmp/key"}),
        json!({"source": directory.join("tree/etc"), "destination": "/config/new", "mode": "0750"}),
    ];
    // More than ten: the last one must win, not the one whose name sorts last.
    for number in 0..12 {
        let source = write(&format!("order/{number}"), &format!("this is {number}"), 0o644);
        entries.push(json!({"source": source, "destination": "/config/my order", "mode": 640}));
    }
    json!(entries)
}

#[test]
fn files_of_the_user_and_a_later_boot() {
    if !needs_qemu() || !needs(&["tar"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let web = Web::start(|request| Answer::file(request, b"fetched"));
    let mut entries = files(&sandbox.path().join("own files"));
    let fetched = json!({"source": web.url("/f"), "destination": "/config/fetched"});
    entries.as_array_mut().unwrap().push(fetched);
    let config = json!({"UPDATE_IMAGE_FILES": entries});
    let row =
        Row { modules: "ltm", slots: 1, hotfix: true, provider: "alibaba", config, grown: &[] };
    let logs = install(&sandbox, &row);
    for log in [&logs.install, &logs.hotfix] {
        assert!(log.contains("injected: file4 -> /config/my order (mode 640)"), "{log}");
        assert!(log.contains("injected: file17 -> /build_info.json"), "{log}");
    }
    logs.has(&[
        "stand-in: now: ./.hidden|f|600|0:0|6|",
        "stand-in: now: ./etc/a b|d|755|0:0||",
        "stand-in: now: ./etc/a b/new file.conf|f|644|0:0|5|",
        "stand-in: now: ./etc/link|l|777|0:0|3|a b",
        "stand-in: now: ./etc/group|f|644|0:0|10|",
        "stand-in: now: ./root/.ssh/authorized_keys|f|600|0:0|14|",
        "stand-in: now: ./config/new|d|750|0:0||",
        "stand-in: now: ./config/new/link|l|777|0:0|3|a b",
        "stand-in: now: ./config/my order|f|640|0:0|10|",
        "stand-in: now: ./config/fetched|f|644|0:0|7|",
        "stand-in: shared: /shared/tmp/key|f|644|0:0",
        "stand-in: shared: /shared/tmp/deep/down|f|755|0:0",
        // sha256sum of "this is 11".
        "stand-in: content: f99ece5da7760c06fc862d14208602fa2055ec7264deacd12e8cd8e6a46219bb  ./config/my order",
    ]);
    for kept in ["now: .|d|", "now: ./etc|d|", "now: ./var|d|", "was: ./root/.ssh|"] {
        assert!(!logs.boot.contains(kept), "rights of a folder changed: {}", logs.boot);
    }
    later_boot(&sandbox.path().join("artifacts/ok/alibaba/ltm_1slot"));
}

/// Boots the finished disk once more, without changing it.
fn later_boot(directory: &Path) {
    let disk = ending_with(directory, "raw");
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
    let output = Command::new("timeout")
        .args([
            "300",
            "qemu-system-x86_64",
            "-nographic",
            "-nic",
            "none",
            "-no-reboot",
            "-m",
            "1024",
        ])
        .args(["-accel", "tcg,tb-size=64", "-drive", &drive])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("later boot: the relabelling had come to its end"), "{text}");
}

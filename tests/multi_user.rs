//! Checks what other users of the host can do with the files of a build, and how a build handles links that they
//! put where it will write.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::{
    Answer, Run, Sandbox, TinyIso, Web, needs, sandbox_walk, stand_in_qemu, tool,
};

/// The builds and their arguments.
const BUILDS: [(&str, &[&str]); 7] = [
    ("disk in the cloud", &["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"]),
    ("package", &["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--no-upload"]),
    ("file", &["--disk", "disk.raw", "-p", "qcow2"]),
    ("OVA file", &["--disk", "disk.raw", "-p", "vmware"]),
    ("script", &["--disk", "disk.raw", "-p", "aws", "--no-upload"]),
    ("downloaded disk", &DOWNLOAD),
    ("installation", &INSTALL),
];
const DOWNLOAD: [&str; 4] = ["--disk", "@URL@/disk.raw", "-p", "qcow2"];
const INSTALL: [&str; 12] = [
    "-i",
    "base.iso",
    "-m",
    "ltm",
    "-b",
    "1",
    "--qemu",
    "./qemu",
    "-c",
    "config.yml",
    "-p",
    "alibaba",
];
/// Additional outputs of every build. Its directory of files stays.
const MORE: [&str; 5] =
    ["--provenance-file", "said/statement.json", "--image-sig-private-key", "key.pem", "--reuse"];
/// Outputs for other users: published images, the result, the statement.
const PUBLISHED: [&str; 3] = ["images", "result.json", "said"];

/// A directory with all inputs of the builds.
struct Host<'a> {
    sandbox: Sandbox,
    web: &'a Web,
    before: BTreeSet<PathBuf>,
}

impl<'a> Host<'a> {
    fn new(web: &'a Web) -> Self {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 4, 1);
        tool(sandbox.path(), &["openssl", "genrsa", "-out", "key.pem", "2048"]);
        TinyIso::base().write(&sandbox.path().join("base.iso"));
        stand_in_qemu(&sandbox);
        // A file of the stand-in itself.
        sandbox.write("children", "");
        let mut host = Self { sandbox, web, before: BTreeSet::new() };
        host.before = host.everything();
        host
    }

    fn everything(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        sandbox_walk(self.sandbox.path(), &mut |path| {
            found.insert(path.to_owned());
        });
        found
    }

    /// The files that builds created.
    fn made(&self) -> Vec<PathBuf> {
        // The mode of a link has no meaning; its target is in the list.
        let made = self.everything();
        made.difference(&self.before).filter(|path| !path.is_symlink()).cloned().collect()
    }

    /// Runs a build with this umask; the journal kills it at the crash point `trial`.
    fn run(&self, mask: &str, args: &[&str], trial: &str) -> Run {
        let address = self.web.url("");
        let word = |word: &str| word.replace("@URL@", address.trim_end_matches('/'));
        let args: Vec<String> = args.iter().chain(&MORE).map(|text| word(text)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let inner = self.sandbox.command(&args);
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"umask "$0"; exec "$@""#, mask]);
        shell.arg(inner.get_program()).args(inner.get_args());
        shell.current_dir(self.sandbox.path()).env_clear().stdin(Stdio::null());
        shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("F5_OUTPUT_JSON_FILE", "result.json").env("BUILD_IMAGE_FAILPOINT", trial);
        Run::of(&shell.output().unwrap(), None)
    }

    /// What other users could do with the files, but should not.
    fn wrong(&self) -> (usize, Vec<String>) {
        let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
        let (base, made) = (self.sandbox.path(), self.made());
        let mut wrong = Vec::new();
        for path in &made {
            let name = path.strip_prefix(base).unwrap();
            let own = mode(path);
            if own & 0o7022 != 0 {
                wrong.push(format!("{} may be written to: {own:o}", name.display()));
            }
            let published = PUBLISHED.iter().any(|start| name.starts_with(start));
            let mut above = path.ancestors().skip(1).take_while(|above| *above != base);
            let closed = above.any(|directory| mode(directory) & 0o011 == 0);
            if !path.is_dir() && !published && own & 0o044 != 0 && !closed {
                wrong.push(format!("{} may be read: {own:o}", name.display()));
            }
        }
        (made.len(), wrong)
    }
}

/// A disk of 1 MiB that begins with a boot sector.
fn boot_sector() -> Vec<u8> {
    let mut disk = vec![7; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn other_users_can_write_nothing_and_read_only_what_is_published() {
    if !needs(&["xorriso", "mkfifo", "dd", "openssl"]) {
        return;
    }
    let (mut audited, mut builds) = (0, 0);
    let web = Web::start(|request| Answer::file(request, &boot_sector()));
    let refuse = r#"[{"operation":"ImportImage","action":{"status":403,"code":"Forbidden.RAM"}}]"#;
    for (mask, ending) in [("022", ""), ("000", ""), ("000", "after:4"), ("000", "keep")] {
        for (name, args) in BUILDS {
            let host = Host::new(&web);
            let kept = ["--on-failure", "keep"];
            let (more, trial) = match ending {
                "keep" => (&kept[..], ""),
                trial => (&[][..], trial),
            };
            if ending == "keep" {
                host.sandbox.emulator.as_ref().unwrap().set_faults(refuse).unwrap();
            }
            let run = host.run(mask, &[args, more].concat(), trial);
            let cloud = args.contains(&"alibaba") && !args.contains(&"--no-upload");
            let expected = match ending {
                "after:4" => -1,
                "keep" if cloud => 6,
                _ => 0,
            };
            assert_eq!(run.code, expected, "{name}, mask {mask}, {ending}: {}", run.stderr);
            let (count, wrong) = host.wrong();
            assert!(wrong.is_empty(), "{name}, mask {mask}, {ending}: {wrong:#?}");
            (audited, builds) = (audited + count, builds + 1);
        }
    }
    println!("{audited} files and folders of {builds} builds were looked at");
}

/// Files of another user, and their original contents.
struct Precious {
    directory: tempfile::TempDir,
    planted: Vec<(PathBuf, PathBuf)>,
}

impl Precious {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), planted: Vec::new() }
    }

    /// Replaces a file with a link to a separate file.
    fn plant(&mut self, place: &Path) {
        let target = self.directory.path().join(self.planted.len().to_string());
        fs::write(&target, "precious").unwrap();
        let _ = fs::remove_file(place);
        symlink(&target, place).unwrap();
        self.planted.push((place.to_owned(), target));
    }

    #[track_caller]
    fn is_untouched(&self) {
        for (place, target) in &self.planted {
            let text = fs::read_to_string(target).unwrap_or_default();
            assert_eq!(text, "precious", "it was written through {}", place.display());
        }
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), self.planted.len());
    }
}

#[test]
fn links_where_a_build_writes_are_replaced_or_refused_and_never_followed() {
    if !needs(&["xorriso", "mkfifo", "dd", "openssl"]) {
        return;
    }
    let web = Web::start(|request| Answer::file(request, &boot_sector()));
    let mut places = 0;
    for (name, args) in [BUILDS[1], BUILDS[2], BUILDS[5], BUILDS[6]] {
        let host = Host::new(&web);
        host.run("022", args, "").succeeded();
        let made: Vec<PathBuf> = host.made().into_iter().filter(|path| path.is_file()).collect();
        // Files that a build locks, appends to, or identifies its directory by.
        let refusal = |path: &Path| {
            let name = path.strip_prefix(host.sandbox.path()).unwrap();
            if name.ends_with("generator-info.json") {
                return Some("files of another origin");
            }
            name.ends_with("lock").then_some("a link stands in its place")
        };
        // At the places of all files at once, including temporary files.
        let mut precious = Precious::new();
        for place in made.iter().filter(|path| refusal(path).is_none()) {
            precious.plant(place);
            let mut temporary = place.clone().into_os_string();
            temporary.push(".part");
            precious.plant(Path::new(&temporary));
        }
        let run = host.run("022", args, "");
        precious.is_untouched();
        run.succeeded();
        places += precious.planted.len();
        for (place, says) in made.iter().filter_map(|path| Some((path, refusal(path)?))) {
            let mut precious = Precious::new();
            let directory = place.parent().unwrap();
            fs::create_dir_all(directory).unwrap();
            precious.plant(place);
            let run = host.run("022", args, "");
            precious.is_untouched();
            assert!((2..=5).contains(&run.code), "{name}: {}", run.stderr);
            run.failed(run.code, &[says, directory.file_name().unwrap().to_str().unwrap()]);
            // The next build starts from scratch, and its log has its place.
            let nearest = if says.contains("another origin") { directory } else { place };
            let _ = fs::remove_file(place);
            if nearest.is_dir() {
                fs::remove_dir_all(nearest).unwrap();
            }
            places += 1;
        }
        // The directory of a build must not be a link to another directory.
        if args == INSTALL {
            let directory = host.sandbox.path().join("artifacts/base/alibaba/ltm_1slot");
            let precious = Precious::new();
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(directory.parent().unwrap()).unwrap();
            symlink(precious.directory.path(), &directory).unwrap();
            host.run("022", args, "").failed(5, &["ltm_1slot", "a link stands in its place"]);
            precious.is_untouched();
            places += 1;
        }
    }
    println!("{places} links were planted, none was followed");
}

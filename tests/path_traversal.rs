//! Checks content that refers to files outside of it: disks, ISOs, archives and URLs that point at files of the
//! user. These files are neither written nor disclosed, and no build waits for a pipe.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::harness::{Answer, Sandbox, TinyIso, Web, needs, sandbox_walk, stand_in_qemu, tool};

/// The contents of the files outside, which no image may contain.
const INSIDE: &str = "nobody may see this";

/// A directory unrelated to every build: two files and a pipe.
struct Outside {
    directory: tempfile::TempDir,
    before: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl Outside {
    fn new() -> Self {
        let mut outside = Self { directory: tempfile::tempdir().unwrap(), before: BTreeMap::new() };
        let directory = outside.directory.path();
        fs::write(directory.join("text"), INSIDE).unwrap();
        // Every tool recognizes this as a disk.
        let mut disk = INSIDE.as_bytes().repeat(1 << 16);
        disk.truncate(1 << 20);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(directory.join("disk"), disk).unwrap();
        tool(directory, &["mkfifo", "pipe"]);
        outside.before = outside.now();
        outside
    }

    fn now(&self) -> BTreeMap<PathBuf, (SystemTime, u64)> {
        let mut found = BTreeMap::new();
        sandbox_walk(self.directory.path(), &mut |path| {
            let metadata = path.symlink_metadata().unwrap();
            found.insert(path.to_owned(), (metadata.modified().unwrap(), metadata.len()));
        });
        found
    }

    /// Path of a file in it, absolute or as seen from a directory beside it.
    fn path(&self, name: &str, absolute: bool) -> String {
        let path = self.directory.path().join(name);
        if absolute {
            return path.to_str().unwrap().to_owned();
        }
        let directory = self.directory.path().file_name().unwrap().to_str().unwrap();
        format!("../{directory}/{name}")
    }
}

/// Creates a source that points at a file outside: arguments of the build, or none when the tools cannot create
/// it.
type Made = fn(&Sandbox, &str) -> Vec<String>;

fn disk(name: &str) -> Vec<String> {
    ["--disk", name, "-p", "qcow2"].map(str::to_owned).to_vec()
}

/// A qcow2 image with a name in its header, as qemu-img writes one; qemu-img does not open that file.
fn backed(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let made = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", name, "d.qcow2", "1M"];
    tool(sandbox.path(), &[&["qemu-img"][..], &made].concat());
    disk("d.qcow2")
}

/// A qcow2 image whose bytes are in another file.
fn external(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let made =
        ["create", "-q", "-f", "qcow2", "-o", "data_file=d.raw,data_file_raw=on", "d.qcow2", "1M"];
    tool(sandbox.path(), &[&["qemu-img"][..], &made].concat());
    // The tool requires the file to exist; the name is changed afterwards, truncated or padded at its end.
    let path = sandbox.path().join("d.qcow2");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|word| word == b"d.raw").unwrap();
    let length = u32::try_from(name.len()).unwrap().to_be_bytes();
    bytes[at - 4..at].copy_from_slice(&length);
    let end = at + name.len().next_multiple_of(8);
    bytes[at..end].fill(0);
    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    fs::write(path, bytes).unwrap();
    disk("d.qcow2")
}

fn descriptor(sandbox: &Sandbox, extent: &str, more: &str) -> Vec<String> {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=123a\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\n{more}\n{extent}\n"
    );
    sandbox.write("d.vmdk", &text);
    disk("d.vmdk")
}

fn extent(sandbox: &Sandbox, name: &str) -> Vec<String> {
    descriptor(sandbox, &format!("RW 2048 FLAT \"{name}\" 0"), "")
}

/// The extent has the expected path, but is a link.
fn linked_extent(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let link = sandbox.path().join("d-flat.vmdk");
    symlink(name, link).unwrap();
    extent(sandbox, "d-flat.vmdk")
}

fn parent(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let more = format!("parentFileNameHint=\"{name}\"").replace("ffffffff", "12345678");
    let args = descriptor(sandbox, "RW 2048 ZERO", &more);
    let path = sandbox.path().join("d.vmdk");
    let text = fs::read_to_string(&path).unwrap().replace("ffffffff", "12345678");
    fs::write(path, text).unwrap();
    args
}

/// Archives written by Python, with members that no archiver of ours writes: a name outside, a link to it and a
/// file behind the link, a device, one name twice.
const ARCHIVES: &str = r#"
import io, sys, tarfile, zipfile
kind, name = sys.argv[1:]
disk = bytes(510) + b"\x55\xaa" + bytes(1 << 20)
if kind == "zip":
    with zipfile.ZipFile("d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (name, "d.raw", "d.raw"):
            archive.writestr(member, disk)
else:
    mode = {"d.tar": "w", "d.ova": "w", "d.tar.gz": "w:gz", "d.tar.xz": "w:xz"}[kind]
    with tarfile.open(kind, mode) as archive:
        for member, type, link in (
            (name, tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, name),
            ("link", tarfile.REGTYPE, ""),
            ("hard", tarfile.LNKTYPE, name),
            ("device", tarfile.BLKTYPE, ""),
            ("d.raw", tarfile.REGTYPE, ""),
            ("d.raw", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = type, link
            info.size = len(disk) if type == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(disk) if info.size else None)
"#;

fn archive(sandbox: &Sandbox, kind: &str, name: &str) -> Vec<String> {
    let end = if kind == "zip" { "d.zip" } else { kind };
    let mut python = Command::new("python3");
    python.args(["-W", "ignore", "-c", ARCHIVES, kind, name]).current_dir(sandbox.path());
    let status = python.status().unwrap();
    assert!(status.success());
    disk(end)
}

/// Packed three times.
fn nested(sandbox: &Sandbox, name: &str) -> Vec<String> {
    archive(sandbox, "d.tar.gz", name);
    for (from, to) in [("d.tar.gz", "e.gz"), ("e.gz", "d.raw.gz")] {
        let script = format!("gzip -c <{from} >{to}");
        tool(sandbox.path(), &["sh", "-c", &script]);
    }
    disk("d.raw.gz")
}

/// An installer that has a link to the outside among its files.
fn iso(sandbox: &Sandbox, file: &str, name: &str) -> Vec<String> {
    let tree = sandbox.path().join("tree");
    let plain = sandbox.path().join("plain.iso");
    TinyIso::base().write(&plain);
    tool(
        sandbox.path(),
        &["xorriso", "-osirrox", "on", "-indev", "plain.iso", "-extract", "/", "tree"],
    );
    tool(sandbox.path(), &["chmod", "-R", "u+w", "tree"]);
    fs::remove_file(tree.join(file)).unwrap();
    symlink(name, tree.join(file)).unwrap();
    let made =
        ["xorriso", "-as", "mkisofs", "-quiet", "-V", "BIGIP", "-r", "-J", "-o", "x.iso", "tree"];
    tool(sandbox.path(), &made);
    stand_in_qemu(sandbox);
    let args = ["-i", "x.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-p", "qcow2"];
    args.map(str::to_owned).to_vec()
}

/// What is tried, the function that creates it, and what the error names.
const TRIALS: [(&str, Made, &str); 18] = [
    ("backing file of a qcow2", backed, "backing file"),
    (
        "backing file in JSON",
        |s, name| backed(s, &format!("json:{{\"file.filename\":\"{name}\"}}")),
        "backing file",
    ),
    ("data file of a qcow2", external, "data file"),
    ("extent of a VMDK", extent, "is not a file in the same directory"),
    ("linked extent of a VMDK", linked_extent, "outside of the descriptor's directory"),
    ("parent of a VMDK", parent, "parent"),
    ("tar", |s, name| archive(s, "d.tar", name), "leaves its directory"),
    ("OVA", |s, name| archive(s, "d.ova", name), "leaves its directory"),
    ("tar.gz", |s, name| archive(s, "d.tar.gz", name), "leaves its directory"),
    ("tar.xz", |s, name| archive(s, "d.tar.xz", name), "leaves its directory"),
    ("zip", |s, name| archive(s, "zip", name), "leaves its directory"),
    ("tar.gz in gzip in gzip", nested, "leaves its directory"),
    ("version file of an ISO", |s, name| iso(s, "BIGIP1500/VERSION", name), "VERSION"),
    ("kernel of an ISO", |s, name| iso(s, "isolinux/vmlinuz", name), "vmlinuz"),
    ("initrd of an ISO", |s, name| iso(s, "isolinux/initrd.img", name), "initrd.img"),
    (
        "boot configuration of an ISO",
        |s, name| iso(s, "isolinux/isolinux.cfg", name),
        "isolinux.cfg",
    ),
    ("a pipe as a disk", |_, name| disk(name), "must be a file"),
    ("a pipe as an extent", linked_extent, "d-flat.vmdk"),
];

#[test]
fn content_that_names_files_outside_of_it_reaches_none() {
    if !needs(&["qemu-img", "python3", "xorriso", "mkfifo", "gzip", "dd"]) {
        return;
    }
    let mut tried = 0;
    for (what, made, says) in TRIALS {
        for (file, absolute) in [("disk", true), ("disk", false), ("text", true), ("pipe", true)] {
            if what.contains("a pipe") != (file == "pipe") && !what.ends_with("of a qcow2") {
                continue;
            }
            let (outside, sandbox) = (Outside::new(), Sandbox::new());
            let args = made(&sandbox, &outside.path(file, absolute));
            let run = sandbox.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
            let about = format!("{what}, {file}: {}", run.stderr);
            assert!((4..=5).contains(&run.code), "{about}");
            assert!(run.stderr.contains(says), "{about}");
            run.failed(run.code, &[]);
            assert!(!run.stderr.contains(INSIDE), "{about}");
            assert_eq!(outside.now(), outside.before, "{about}");
            let made = sandbox.files();
            assert!(!made.iter().any(|name| name.starts_with("images/")), "{about}{made:?}");
            tried += 1;
        }
    }
    println!("{tried} sources were refused");
}

#[test]
fn an_address_names_no_file_outside_of_the_directory_of_downloads() {
    let web = Web::start(|request| Answer::file(request, &[7; 1 << 16]));
    for path in [
        "/..%2f..%2f..%2fx.raw",
        "/%2e%2e",
        "/.%2e/",
        "/..%5c..%5cx",
        "/about.json",
        "/lock",
        "/%00",
        "/",
    ] {
        let sandbox = Sandbox::new();
        let directory = sandbox.path().join("work");
        fs::create_dir(&directory).unwrap();
        let url = web.url(path);
        let mut command = sandbox.command(&[
            "--disk",
            &url,
            "-p",
            "qcow2",
            "--artifacts-dir",
            "a/b/c",
            "--on-failure",
            "keep",
        ]);
        let output = command.current_dir(&directory).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("panicked"), "{path}: {text}");
        for made in sandbox.files() {
            let inside =
                Path::new(&made).strip_prefix("work").unwrap_or_else(|_| panic!("{path}: {made}"));
            let legal = ["a", "images", "logs"].iter().any(|start| inside.starts_with(start));
            assert!(legal || made == "work", "{path}: {made}");
        }
    }
}

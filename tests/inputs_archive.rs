//! Checks `--disk` with disks inside of other files: every format in every container arrives as the disk it is, damaged
//! ones are refused, and everything that build-image makes is accepted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    concurrent_builds::is_equal,
    harness::{Sandbox, names, needs, tool},
};

/// One input in this many is tried, or as BUILD_IMAGE_SOAK_INPUTS sets.
const STEP: usize = 7;
/// Formats: name for qemu-img, its options, suffix.
const FORMATS: [(&str, &[&str], &str); 9] = [
    ("raw", &[], "raw"),
    ("qcow2", &[], "qcow2"),
    ("qcow2", &["-c"], "qcow2"),
    ("vmdk", &["-o", "subformat=monolithicSparse"], "vmdk"),
    ("vmdk", &["-o", "subformat=streamOptimized"], "vmdk"),
    ("vpc", &["-o", "subformat=dynamic,force_size=on"], "vhd"),
    ("vpc", &["-o", "subformat=fixed,force_size=on"], "vhd"),
    ("vhdx", &[], "vhdx"),
    ("vdi", &[], "vdi"),
];
/// Containers: suffix and the command that makes `$0.SUFFIX` of the file `$0`.
const CONTAINERS: [(&str, &str); 12] = [
    ("gz", "gzip -1 -k $0"),
    ("xz", "xz -0 -k $0"),
    ("zst", "zstd -q -1 $0"),
    ("pzst", "pzstd -q -1 -k $0 -o $0.pzst"),
    ("bz2", "bzip2 -1 -k $0"),
    ("lz4", "lz4 -q -1 $0 $0.lz4"),
    ("lzma", "xz -0 -k --format=lzma $0"),
    ("tar", "tar -cf $0.tar $0"),
    ("v7.tar", "tar -cf $0.v7.tar --format=v7 $0"),
    ("tar.gz", "tar -czSf $0.tar.gz --format=oldgnu $0"),
    ("tar.zst", "tar -cf $0.tar.zst --zstd $0"),
    ("zip", "zip -q -1 $0.zip $0"),
];
const TOOLS: [&str; 10] =
    ["qemu-img", "sh", "gzip", "xz", "zstd", "pzstd", "bzip2", "lz4", "zip", "tar"];
/// What is done to a container so that it must be refused, with a part of the message.
type Fault = (&'static str, fn(&mut Vec<u8>));
const FAULTS: [Fault; 3] = [
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("cut at the start", |bytes| bytes.truncate(700)),
    ("changed in the middle", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xa5);
    }),
];

/// Providers, with the words with which they make files on this machine.
pub(crate) const MAKERS: [&[&str]; 12] = [
    &["qcow2"],
    &["qcow2", "--package", "none"],
    &["vhd"],
    &["vhd", "--package", "none"],
    &["vmware"],
    &["vmware", "--package", "none"],
    &["aws", "--no-upload"],
    &["azure", "--no-upload"],
    &["gce", "--no-upload", "--disk-size", "1GiB"],
    &["alibaba", "--no-upload", "-c", "config.yml"],
    &["openstack", "--no-upload"],
    &["oci", "--no-upload", "--oci-reference", "registry.example.com/disk:1"],
];

/// Builds an image of a file in a separate directory; the file of the image, or exit code and messages.
fn build(sandbox: &Sandbox, given: &Path, more: &[&str]) -> Result<PathBuf, (i32, String)> {
    let _ = fs::remove_dir_all(sandbox.path().join("again"));
    let words = ["--disk", given.to_str().unwrap(), "-p", "qcow2", "--package", "none"];
    let run = sandbox.run(&[&words[..], &["--image-dir", "again"], more].concat());
    assert!(!sandbox.path().join("artifacts").exists(), "{given:?} left {:?}", sandbox.files());
    if run.code != 0 {
        return Err((run.code, run.stderr));
    }
    Ok(PathBuf::from(run.member("file").as_str().unwrap()))
}

#[test]
fn every_format_in_every_container_arrives_or_is_refused_when_damaged() {
    if !needs(&TOOLS) {
        return;
    }
    let step = std::env::var("BUILD_IMAGE_SOAK_INPUTS");
    let step = step.map_or(STEP, |step| step.parse().unwrap());
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("source.raw", 12, 2);
    let (mut all, mut tried, mut wrong) = (0, 0, Vec::new());
    for (number, (format, options, suffix)) in FORMATS.into_iter().enumerate() {
        let name = format!("disk{number}.{suffix}");
        let arguments =
            [&["qemu-img", "convert", "-O", format], options, &["source.raw", &name]].concat();
        tool(sandbox.path(), &arguments);
        for (container, command) in CONTAINERS {
            let file = sandbox.path().join(format!("{name}.{container}"));
            let damages = FAULTS.map(|(what, damage)| (what, Some(damage)));
            for (what, damage) in [("whole", None)].into_iter().chain(damages) {
                all += 1;
                if all % step != 0 {
                    continue;
                }
                tried += 1;
                if !file.exists() {
                    tool(sandbox.path(), &["sh", "-c", command, &name]);
                }
                let mut bytes = fs::read(&file).unwrap();
                if let Some(damage) = damage {
                    damage(&mut bytes);
                }
                let given = sandbox.path().join(format!("given.{container}"));
                fs::write(&given, bytes).unwrap();
                let expected = match (build(&sandbox, &given, &[]), damage) {
                    (Ok(made), None) => is_equal(&raw, &(made, "qcow2")),
                    // Not every format and container has a checksum: what arrives unnoticed is the damage of the input.
                    (Ok(_), Some(_)) => what == "changed in the middle",
                    // Tables are checked when the disk is opened, compressed pieces when they are read.
                    (Err((code, message)), Some(_)) => {
                        [4, 5].contains(&code) && message.contains("hint:")
                    }
                    (Err(_), None) => false,
                };
                if !expected {
                    wrong.push(format!("{name}.{container}, {what}"));
                }
            }
            let _ = fs::remove_file(file);
        }
    }
    println!("{tried} of {all} inputs, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn everything_that_is_made_is_accepted_as_input() {
    if !needs(&["qemu-img"]) {
        return;
    }
    for words in MAKERS {
        let sandbox = Sandbox::with_cloud();
        sandbox.write("config.yml", &sandbox.config(&[]));
        let raw = sandbox.disk("source.raw", 12, 2);
        returns(&sandbox, &raw, words, &[]);
    }
}

/// Lets a provider make its files of a raw disk, and checks that each of them is accepted and holds the same disk.
#[track_caller]
pub(crate) fn returns(sandbox: &Sandbox, raw: &Path, words: &[&str], more: &[&str]) {
    let images = sandbox.path().join("images");
    let _ = fs::remove_dir_all(&images);
    let named: &[&str] = match words[0] {
        "qcow2" | "vhd" | "vmware" => &[],
        _ => &["--cloud-image-name", "again"],
    };
    let given = ["--disk", raw.to_str().unwrap(), "-p"];
    sandbox.run(&[&given[..], words, named, more].concat()).succeeded();
    let side = [".md5", ".sha256", ".sig", ".json", ".sh", ".ovf", ".mf"];
    let made: Vec<String> = names(&images)
        .into_iter()
        .filter(|name| !side.iter().any(|suffix| name.ends_with(suffix)))
        .collect();
    assert!(!made.is_empty(), "{words:?}: {:?}", names(&images));
    for name in made {
        let again = match build(sandbox, &images.join(&name), &[]) {
            // A raw disk is in it, which needs the same words as the given one.
            Err((_, message)) if message.contains("--disk-format raw") => {
                build(sandbox, &images.join(&name), more)
            }
            other => other,
        };
        let again = again.unwrap_or_else(|error| panic!("{words:?}, {name}: {error:?}"));
        assert!(is_equal(raw, &(again, "qcow2")), "{words:?}: {name}");
    }
}

#[test]
fn an_archive_with_several_disks_needs_a_name_and_its_digest_is_that_of_the_file() {
    if !needs(&["tar", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (first, _) = (sandbox.disk("one.raw", 4, 1), sandbox.disk("two.raw", 5, 1));
    tool(sandbox.path(), &["tar", "-cf", "disks.tar", "one.raw", "two.raw"]);
    tool(sandbox.path(), &["tar", "-czf", "disks.tar.gz", "one.raw", "two.raw"]);
    for name in ["disks.tar", "disks.tar.gz"] {
        let given = sandbox.path().join(name);
        let (code, message) = build(&sandbox, &given, &[]).unwrap_err();
        assert!(code == 4 && message.contains("more than one disk image"), "{message}");
        assert!(message.contains("--disk-member: `one.raw`, `two.raw`"), "{message}");
        let sum = tool(sandbox.path(), &["sha256sum", name]);
        let digest = sum.split_whitespace().next().unwrap();
        let words = ["--disk-member", "one.raw", "--disk-sha256", digest];
        let made = build(&sandbox, &given, &words).unwrap();
        assert!(is_equal(&first, &(made, "qcow2")), "{name}");
        let other = digest.replace(|letter: char| letter.is_ascii_digit(), "0");
        let words = ["--disk-member", "one.raw", "--disk-sha256", &other];
        let (code, message) = build(&sandbox, &given, &words).unwrap_err();
        assert!(code == 4 && message.contains("DISK_SHA256"), "{message}");
        let (_, message) = build(&sandbox, &given, &["--disk-member", "none.raw"]).unwrap_err();
        assert!(message.contains("no member `none.raw`"), "{message}");
    }
}

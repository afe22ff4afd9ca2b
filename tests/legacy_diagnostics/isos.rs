//! Lists ISOs that are invalid or incomplete, whose tables contain wrong values, or that do not match each other.

use std::fs;

use super::{Mistake, check, words};
use crate::harness::{Iso, Sandbox, TinyIso, needs_qemu};

const INSTALL: &str = "-i x.iso -p qcow2 -m ltm -b 1";

/// An installation of this ISO.
fn iso(sandbox: &Sandbox, iso: &TinyIso) -> Vec<String> {
    iso.write(&sandbox.path().join("x.iso"));
    words(INSTALL)
}

/// An installation with this file in place of the base ISO's.
fn with(sandbox: &Sandbox, path: &str, text: &str) -> Vec<String> {
    iso(sandbox, &TinyIso::base().with(path, text))
}

/// An installation with this version file.
fn version(sandbox: &Sandbox, text: &str) -> Vec<String> {
    with(sandbox, "BIGIP1500/VERSION", text)
}

fn file(version: &str, build: &str) -> String {
    TinyIso::version_file(version, build, build)
}

/// An installation with this hotfix ISO.
fn hotfix(sandbox: &Sandbox, hotfix: &TinyIso) -> Vec<String> {
    hotfix.write(&sandbox.path().join("fix.iso"));
    [iso(sandbox, &TinyIso::base()), words("-e fix.iso")].concat()
}

/// An installation with this version file in the hotfix ISO.
fn fix(sandbox: &Sandbox, text: &str) -> Vec<String> {
    hotfix(sandbox, &TinyIso::hotfix().with("VERSION.LTM", text))
}

/// An ISO whose bytes are changed when it is created.
fn patched(sandbox: &Sandbox, change: fn(&mut Vec<u8>)) -> Vec<String> {
    let words = iso(sandbox, &TinyIso::base());
    let path = sandbox.path().join("x.iso");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    words
}

/// Offset of the directory record of a name: ECMA-119, section 9.1. Names of Rock Ridge, of Joliet and of path
/// tables have no such record in front.
fn record(bytes: &[u8], name: &str) -> usize {
    let names = bytes.windows(name.len()).enumerate();
    let mut places = names.filter(|(_, window)| *window == name.as_bytes()).map(|(at, _)| at - 33);
    let found = places.find(|at| {
        usize::from(bytes[at + 32]) >= name.len()
            && bytes[*at] >= 34
            && bytes[at + 2..at + 6].iter().eq(bytes[at + 6..at + 10].iter().rev())
    });
    found.unwrap()
}

/// A number in both byte orders, as in directory records.
fn set(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
}

fn rename(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

macro_rules! made {
    ($old:literal, $code:literal, $says:expr, $made:expr) => {
        Mistake { old: $old, made: $made, code: $code, says: &$says }
    };
}

macro_rules! lacks {
    ($old:literal, $variant:literal, $says:literal) => {
        Mistake {
            old: $old,
            made: |_| words(&INSTALL.replace("x.iso", Iso::of($variant).word())),
            code: 4,
            says: &[concat!($variant, ".iso"), $says],
        }
    };
}

macro_rules! lie {
    ($what:literal, $says:literal, $change:expr) => {
        Mistake {
            old: $what,
            made: |sandbox| patched(sandbox, $change),
            code: 4,
            says: &["x.iso", $says],
        }
    };
}

const NONE: [Mistake; 6] = [
    made!("takes it for a URL and asks curl", 4, ["x.iso", "No such file"], |_| words(INSTALL)),
    made!("isoinfo's usage text", 4, ["x.iso", "no ISO 9660 volume"], |sandbox| {
        sandbox.write("x.iso", "this is no ISO");
        words(INSTALL)
    }),
    made!("isoinfo's usage text", 4, ["x.iso", "no ISO 9660 volume"], |sandbox| {
        sandbox.disk("x.iso", 4, 1);
        words(INSTALL)
    }),
    made!("takes any folder for the product's", 4, ["no product folder"], |sandbox| iso(
        sandbox,
        &TinyIso::empty().with("BIGIP-x/VERSION", "x")
    )),
    made!("goes on with an empty version file", 4, ["/BIGIP1500/VERSION"], |sandbox| iso(
        sandbox,
        &TinyIso::empty().with("BIGIP1500/README", "x")
    )),
    made!("takes a hotfix for an installer", 4, ["no product folder"], |sandbox| iso(
        sandbox,
        &TinyIso::hotfix()
    )),
];

/// Variants of the stand-in ISO that lack something.
const LACKING: [Mistake; 10] = [
    lacks!("isoinfo's usage text", "not-an-iso", "no ISO 9660 volume"),
    lacks!("fails in the guest, after minutes", "truncated", "incomplete"),
    lacks!("refused: no Joliet listing", "no-joliet", "Joliet"),
    lacks!("aborts: product prefix not found", "no-product-dir", "no product folder"),
    lacks!("aborts: several product prefixes", "two-product-dirs", "two product folders"),
    lacks!("aborts: a key of the version file is missing", "no-version-key", "is missing"),
    lacks!("goes on with an empty command line", "no-append", "no line of it begins with `append`"),
    lacks!("passes two command lines at once", "two-appends", "2 `append` lines"),
    lacks!("qemu complains about an empty kernel", "missing-kernel", "vmlinuz"),
    lacks!("gunzip complains about an empty file", "missing-initrd", "initrd.img"),
];

const VERSIONS: [Mistake; 15] = [
    made!("aborts: Version is missing", 4, ["`Version: …` is missing"], |sandbox| version(
        sandbox, ""
    )),
    made!("reads it all", 4, ["VERSION", "70000"], |sandbox| version(sandbox, &"x".repeat(70_000))),
    made!("a Python traceback: two parts at `: `", 4, ["line 1 is not `Key: value`"], |sandbox| {
        version(sandbox, "\u{0}\u{1}\u{1b}[2J")
    }),
    made!("uses it as a path", 4, ["`Build: …` has `../../x`"], |sandbox| version(
        sandbox,
        &file("15.0.0", "../../x")
    )),
    made!("passes it on as an option", 4, ["`Build: …` has `-rf`"], |sandbox| version(
        sandbox,
        &file("15.0.0", "-rf")
    )),
    made!("the file system refuses the name", 4, ["`Build: …`", "too long"], |sandbox| version(
        sandbox,
        &file("15.0.0", &"1".repeat(200))
    )),
    made!("printf complains", 4, ["`fifteen` is not a version"], |sandbox| version(
        sandbox,
        &file("fifteen", "1")
    )),
    made!("makes files without a name", 4, ["`Product: …`"], |sandbox| version(
        sandbox,
        &file("15.0.0", "1").replace("BIG-IP", "-")
    )),
    made!(
        "builds what does not start",
        4,
        ["x.iso", "installs BIG-IP 13.1.5", "use the ISO of 14.1 or newer", "1.13"],
        |sandbox| version(sandbox, &file("13.1.5", "0.0.32"))
    ),
    made!(
        "aborts: the version is below the platform's",
        4,
        ["needs 14.1.0.3 or newer"],
        |sandbox| {
            version(sandbox, &file("14.1.0.2", "1"));
            words(&INSTALL.replace("qcow2", "alibaba --no-upload"))
        }
    ),
    made!("jq's message", 4, ["ve.info.json"], |sandbox| with(
        sandbox,
        "BIGIP1500/install/ve.info.json",
        "{"
    )),
    made!("jq's message", 4, ["ve.info.json"], |sandbox| with(
        sandbox,
        "BIGIP1500/install/ve.info.json",
        "[]"
    )),
    made!("jq's message", 4, ["ve.info.json"], |sandbox| with(
        sandbox,
        "BIGIP1500/install/ve.info.json",
        &"[".repeat(100_000)
    )),
    made!("reads it all", 4, ["ve.info.json", "2097152"], |sandbox| with(
        sandbox,
        "BIGIP1500/install/ve.info.json",
        &" ".repeat(2 << 20)
    )),
    made!("printf complains", 4, ["`15.100` is not a version"], |sandbox| version(
        sandbox,
        &file("15.100", "1")
    )),
];

const HOTFIXES: [Mistake; 7] = [
    made!("takes it for a URL and asks curl", 4, ["fix.iso", "No such file"], |sandbox| [
        iso(sandbox, &TinyIso::base()),
        words("-e fix.iso")
    ]
    .concat()),
    made!(
        "aborts, after download and signatures: versions differ",
        4,
        ["for version `15.0.1`, but the base ISO has version `15.0.0`"],
        |sandbox| fix(sandbox, &TinyIso::version_file("15.0.1", "0.0.44", "0.0.39"))
    ),
    made!(
        "aborts, after download and signatures: builds differ",
        4,
        ["for build `0.0.38`, but the base ISO has build `0.0.39`"],
        |sandbox| fix(sandbox, &TinyIso::version_file("15.0.0", "0.0.44", "0.0.38"))
    ),
    made!(
        "aborts, after download and signatures: products differ",
        4,
        ["product `BIG-IQ`"],
        |sandbox| fix(
            sandbox,
            &TinyIso::version_file("15.0.0", "0.0.44", "0.0.39").replace("BIG-IP", "BIG-IQ")
        )
    ),
    made!("aborts: BaseBuild is missing", 4, ["`BaseBuild: …` is missing"], |sandbox| fix(
        sandbox,
        "Product: BIG-IP\nVersion: 15.0.0\nBuild: 1\n"
    )),
    made!("a Python traceback: two parts at `: `", 4, ["line 1 is not `Key: value`"], |sandbox| {
        fix(sandbox, "no lines of a version file")
    }),
    made!(
        "goes on with an empty version file",
        4,
        ["no `/VERSION.LTM`; this is no hotfix ISO"],
        |sandbox| hotfix(sandbox, &TinyIso::base())
    ),
];

const LIES: [Mistake; 8] = [
    lie!("a file beyond the end", "VERSION", |bytes| {
        let at = record(bytes, "VERSION.");
        set(bytes, at + 2, u32::MAX);
    }),
    lie!("a file longer than the ISO", "x.iso", |bytes| {
        let at = record(bytes, "VERSION.");
        set(bytes, at + 10, 60_000);
        bytes.truncate(bytes.len() - 300_000);
    }),
    lie!("an absurd length", "VERSION", |bytes| {
        let at = record(bytes, "VERSION.");
        set(bytes, at + 10, u32::MAX);
    }),
    lie!("a folder of an absurd length", "not believable", |bytes| {
        let at = record(bytes, "BIGIP150");
        set(bytes, at + 10, u32::MAX);
    }),
    lie!("a folder that is its own parent", "x.iso", |bytes| {
        let (root, at) = (156 + 16 * 2048, record(bytes, "BIGIP150"));
        let extent: [u8; 16] = bytes[root + 2..root + 18].try_into().unwrap();
        bytes[at + 2..at + 18].copy_from_slice(&extent);
    }),
    lie!("a name that leaves its folder", "x.iso", |bytes| rename(
        bytes,
        b"BIGIP1500",
        b"../../etc"
    )),
    lie!("such a name for readers of Joliet", "x.iso", |bytes| {
        rename(bytes, &wide("BIGIP1500"), &wide("../../etc"));
    }),
    lie!("no end of volume descriptors", "x.iso", |bytes| {
        for sector in 17..64 {
            let head: [u8; 7] = *b"\x02CD001\x01";
            bytes[sector * 2048..sector * 2048 + 7].copy_from_slice(&head);
        }
    }),
];

#[test]
fn isos_that_cannot_be_installed_are_refused_by_name() {
    if needs_qemu() {
        check(&NONE);
        check(&LACKING);
    }
}

#[test]
fn version_files_that_make_no_sense_are_refused() {
    if needs_qemu() {
        check(&VERSIONS);
    }
}

#[test]
fn a_hotfix_of_something_else_is_refused_by_name() {
    if needs_qemu() {
        check(&HOTFIXES);
    }
}

#[test]
fn isos_with_wrong_tables_are_refused_by_name() {
    if needs_qemu() {
        check(&LIES);
    }
}

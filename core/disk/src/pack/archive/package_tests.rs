//! Tests OVF packages with tar, unzip, sha256sum, and qemu-img.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{ArchiveOptions, OvfPackage};
use crate::format::GuestReader;
use crate::ovf::{Appliance, ManifestDigest, Product, Signature};
use crate::pack::{Control, DigestKinds, Digests, Level, StreamVmdk};
use crate::testing::{noise, program, run};
use crate::view::Stamp;
use crate::{Error, Kind};

const EVERY: DigestKinds = DigestKinds { md5: true, sha1: true, sha256: true, ..DigestKinds::NONE };

fn stamp() -> Stamp {
    Stamp::new("test", 1_700_000_000)
}

fn package(raw: &Path, manifest: ManifestDigest, signed: bool) -> OvfPackage {
    let disk = StreamVmdk::of(GuestReader::open_raw(raw).unwrap(), "x-disk1.vmdk", &stamp());
    let sign = |manifest: &[u8]| Ok([b"signed: ", manifest].concat());
    let signature = Signature { name: "x.cert".into(), sign: Box::new(sign) };
    OvfPackage {
        stem: "x".into(),
        appliance: Appliance::new("x", Product::default()),
        disk: disk.unwrap(),
        manifest,
        signature: signed.then_some(signature),
        extra: if signed { vec![("x.pub".into(), b"a key".to_vec())] } else { vec![] },
    }
}

fn raw(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("raw");
    let file = File::create(&path).unwrap();
    file.set_len(70 << 20).unwrap();
    file.write_all_at(&noise(1, 3 << 20), 1 << 20).unwrap();
    file.write_all_at(&noise(2, 100_000), 60 << 20).unwrap();
    path
}

/// Checks the unpacked members in `directory` against each other and the disk.
fn check_members(directory: &Path, raw: &Path, manifest: ManifestDigest, signed: bool) {
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let tool = if manifest == ManifestDigest::Sha1 { "sha1sum" } else { "sha256sum" };
    let text = String::from_utf8(read("x.mf")).unwrap();
    for name in ["x.ovf", "x-disk1.vmdk"] {
        let Some(tool) = program(tool) else { return };
        let sum = String::from_utf8(run(&tool, &[&directory.join(name)]).stdout).unwrap();
        let digest = sum.split(' ').next().unwrap();
        assert!(text.contains(&format!("{}({name})= {digest}\n", manifest.name())), "{text}");
    }
    let length = read("x-disk1.vmdk").len();
    let ovf = String::from_utf8(read("x.ovf")).unwrap();
    assert!(ovf.contains(&format!("ovf:size=\"{length}\"")), "{ovf}");
    assert!(ovf.contains(&format!("ovf:capacity=\"{}\"", 70 << 20)), "{ovf}");
    if signed {
        assert_eq!(read("x.cert"), [b"signed: ", text.as_bytes()].concat());
        assert_eq!(read("x.pub"), b"a key");
    }
    let Some(qemu_img) = program("qemu-img") else { return };
    let disk = directory.join("x-disk1.vmdk");
    run(&qemu_img, &[&"compare", &"-f", &"raw", &"-F", &"vmdk", &raw, &disk]);
    if let Some(xmllint) = program("xmllint") {
        run(&xmllint, &[&"--noout", &directory.join("x.ovf")]);
    }
}

#[test]
fn an_ova_holds_its_members_in_the_order_of_the_standard() {
    let Some(tar) = program("tar") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (raw(directory.path()), directory.path().join("x.ova"));
    for (manifest, signed) in [(ManifestDigest::Sha1, false), (ManifestDigest::Sha256, true)] {
        let package = package(&raw, manifest, signed);
        let growing = package.ova(&stamp(), EVERY, &dest, &Control::new()).unwrap();
        let limit = growing.length_limit();
        let packed = growing.finish().unwrap();
        assert!(packed.length <= limit && packed.length.is_multiple_of(10_240));
        assert_eq!(packed.digests, Digests::of(&fs::read(&dest).unwrap(), EVERY));
        let list = String::from_utf8(run(&tar, &[&"-tf", &dest]).stdout).unwrap();
        let want: &[&str] = if signed {
            &["x.ovf", "x.mf", "x.cert", "x-disk1.vmdk", "x.pub"]
        } else {
            &["x.ovf", "x.mf", "x-disk1.vmdk"]
        };
        assert_eq!(list.lines().collect::<Vec<_>>(), want);
        let unpacked = tempfile::tempdir().unwrap();
        run(&tar, &[&"-C", &unpacked.path(), &"-xf", &dest]);
        check_members(unpacked.path(), &raw, manifest, signed);
    }
}

#[test]
fn a_zip_holds_the_same_members() {
    let Some(unzip) = program("unzip") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (raw(directory.path()), directory.path().join("x.zip"));
    let options = ArchiveOptions { level: Level::default(), stamp: stamp(), digests: EVERY };
    for (manifest, signed) in [(ManifestDigest::Sha1, true), (ManifestDigest::Sha256, false)] {
        let package = package(&raw, manifest, signed);
        let growing = package.zip(&options, &dest, &Control::new()).unwrap();
        let limit = growing.length_limit();
        let packed = growing.finish().unwrap();
        assert!(packed.length <= limit, "{} of {limit}", packed.length);
        assert_eq!(packed.digests, Digests::of(&fs::read(&dest).unwrap(), EVERY));
        let unpacked = tempfile::tempdir().unwrap();
        run(&unzip, &[&"-q", &"-d", &unpacked.path(), &dest]);
        check_members(unpacked.path(), &raw, manifest, signed);
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (raw(directory.path()), directory.path().join("x.ova"));
    let mut first = None;
    for threads in [1, 2, 8] {
        let control = Control::new().with_threads(threads);
        let package = package(&raw, ManifestDigest::Sha1, true);
        package.ova(&stamp(), DigestKinds::NONE, &dest, &control).unwrap().finish().unwrap();
        let got = fs::read(&dest).unwrap();
        assert!(*first.get_or_insert_with(|| got.clone()) == got, "{threads}");
    }
}

/// A change that makes a package invalid.
type Change<'a> = &'a dyn Fn(&mut OvfPackage);

#[test]
fn refused_or_failed_packages_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, dest) = (raw(directory.path()), directory.path().join("x.ova"));
    let start = |change: Change<'_>| {
        let mut package = package(&raw, ManifestDigest::Sha1, true);
        change(&mut package);
        let started = package.ova(&stamp(), DigestKinds::NONE, &dest, &Control::new());
        started.and_then(|growing| growing.finish().map(drop)).unwrap_err()
    };
    let sign = |sign: fn(&[u8]) -> Result<Vec<u8>, Error>| {
        Some(Signature { name: "x.sig".into(), sign: Box::new(sign) })
    };
    let cases: [(&str, Kind, Change<'_>); 5] = [
        ("folder in a name", Kind::Unsupported, &|p| p.stem = "a/b".into()),
        ("two members of a name", Kind::Unsupported, &|p| p.extra[0].0 = "x.mf".into()),
        ("bad text", Kind::Unsupported, &|p| p.appliance.name = "\u{1}".into()),
        ("signing fails", Kind::Tool, &|p| {
            p.signature = sign(|_| Err(Error::new(Kind::Tool, "no key")));
        }),
        ("signature grows", Kind::Tool, &|p| {
            p.signature = sign(|manifest| {
                let draft = manifest.windows(40).any(|digits| digits == [b'0'; 40]);
                Ok(vec![1; if draft { 512 } else { 513 }])
            });
        }),
    ];
    for (what, kind, change) in cases {
        assert_eq!(start(change).kind(), kind, "{what}");
    }
    let control = Control::new().with_watch(|_| ControlFlow::Break(()));
    let package = package(&raw, ManifestDigest::Sha1, false);
    let growing = package.ova(&stamp(), DigestKinds::NONE, &dest, &control).unwrap();
    assert_eq!(growing.finish().unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

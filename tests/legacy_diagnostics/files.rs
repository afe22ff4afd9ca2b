//! Lists mistakes with files for the image, sizes of its volumes, and the machine that installs.

use std::{fs, os::unix::net::UnixListener};

use super::{Mistake, check, words};
use crate::harness::{Sandbox, TinyIso, needs_qemu};

const INSTALL: &str = "-i x.iso -p alibaba --no-upload -m ltm -b 1";

/// An installation with this setting.
fn with(sandbox: &Sandbox, key: &str, value: &str) -> Vec<String> {
    TinyIso::base().write(&sandbox.path().join("x.iso"));
    [words(INSTALL), vec![key.to_owned(), value.to_owned()]].concat()
}

/// A file for the image.
fn file(sandbox: &Sandbox, entry: &str) -> Vec<String> {
    let tree = sandbox.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    drop(UnixListener::bind(tree.join("sub/socket")).unwrap());
    fs::create_dir(sandbox.path().join("out")).unwrap();
    std::os::unix::fs::symlink("../../secret", sandbox.path().join("out/link")).unwrap();
    fs::File::create(sandbox.path().join("huge")).unwrap().set_len(1 << 32).unwrap();
    sandbox.disk("large", 40, 40);
    with(sandbox, "--update-image-files", &format!("[{entry}]"))
}

macro_rules! file {
    ($old:literal, $entry:literal, $code:literal, $says:expr) => {
        Mistake { old: $old, made: |sandbox| file(sandbox, $entry), code: $code, says: &$says }
    };
}

macro_rules! sizes {
    ($old:literal, $sizes:literal, $says:expr) => {
        Mistake {
            old: $old,
            made: |sandbox| with(sandbox, "--update-lv-sizes", $sizes),
            code: 2,
            says: &$says,
        }
    };
}

const FILES: [Mistake; 13] = [
    file!(
        "aborts: source is mandatory",
        r#"{"destination": "/x"}"#,
        2,
        ["entry 1", "`source` is missing"]
    ),
    file!(
        "aborts: destination is mandatory",
        r#"{"source": "x.iso"}"#,
        2,
        ["entry 1", "`destination` is missing"]
    ),
    file!(
        "aborts: destination must be absolute",
        r#"{"source": "x.iso", "destination": "x"}"#,
        2,
        ["`x` is not an absolute path"]
    ),
    file!(
        "aborts: mode must be octal",
        r#"{"source": "x.iso", "destination": "/x", "mode": "9"}"#,
        2,
        ["`9` is not one to four octal digits"]
    ),
    file!(
        "aborts: source does not exist",
        r#"{"source": "absent", "destination": "/x"}"#,
        2,
        ["`absent` does not exist"]
    ),
    file!("a Python traceback", r#""x.iso""#, 2, ["UPDATE_IMAGE_FILES"]),
    file!(
        "writes outside the image's folder",
        r#"{"source": "x.iso", "destination": "/config/../x"}"#,
        2,
        ["destination `/config/../x`"]
    ),
    file!(
        "copies a file over a folder",
        r#"{"source": "x.iso", "destination": "/config/"}"#,
        2,
        ["add the file's name"]
    ),
    file!(
        "cpio complains, the build goes on",
        r#"{"source": "tree", "destination": "/x"}"#,
        2,
        ["tree/sub/socket` is a socket"]
    ),
    file!(
        "copies a link that leads elsewhere in the image",
        r#"{"source": "out", "destination": "/x"}"#,
        2,
        ["out/link` is a link to `../../secret`"]
    ),
    file!("cpio cuts it off", r#"{"source": "huge", "destination": "/x"}"#, 5, ["4 GiB", "huge"]),
    file!(
        "a connection is refused after the download of the ISO",
        r#"{"source": "http://127.0.0.1:9/x", "destination": "/x"}"#,
        7,
        ["entry 1", "no connection"]
    ),
    Mistake {
        old: "the guest finds no room for its initrd and never starts",
        made: |sandbox| {
            let entry = r#"{"source": "large", "destination": "/shared/large"}"#;
            [file(sandbox, entry), words("--qemu-memory 100MiB")].concat()
        },
        code: 2,
        says: &["MiB of memory, but it has 100", "hint: give --qemu-memory 256MiB"],
    },
];

const SIZES: [Mistake; 8] = [
    sizes!("aborts: not one of the volumes", r#"{"root": 9000}"#, ["`root`", "adjustable are"]),
    sizes!("aborts: not larger than it is", r#"{"var": 1}"#, ["`var`", "has 950 MiB already"]),
    sizes!("aborts: not an integer", r#"{"var": "x"}"#, ["var"]),
    sizes!("aborts: not an integer", r#"{"var": 1.5}"#, ["var"]),
    sizes!("aborts: empty", "[]", ["UPDATE_LV_SIZES"]),
    sizes!(
        "has no upper limit",
        r#"{"var": 18446744073709551615}"#,
        ["`var`", "at most 67108864 (64 TiB)"]
    ),
    sizes!("has no upper limit", r#"{"log": 67108865}"#, ["`log` is to be 67108865 MiB", "64 TiB"]),
    sizes!(
        "makes a disk the cloud does not take",
        r#"{"var": 3000000}"#,
        ["provider `alibaba` takes at most 2048 GiB", "UPDATE_LV_SIZES"]
    ),
];

const MACHINE: [Mistake; 4] = [
    Mistake {
        old: "the shell finds no qemu, after the initrd was made",
        made: |sandbox| with(sandbox, "--qemu", "/absent/qemu"),
        code: 5,
        says: &["/absent/qemu"],
    },
    Mistake {
        old: "wants 20 GB in the current folder, whatever is used",
        made: |sandbox| with(sandbox, "--min-free-disk-storage-mb", "18446744073709551615"),
        code: 5,
        says: &["too little free space", "artifacts", "ARTIFACTS_DIR"],
    },
    Mistake {
        old: "a Python traceback",
        made: |sandbox| with(sandbox, "--console-devices", r#"["a b"]"#),
        code: 2,
        says: &["CONSOLE_DEVICES", "a b"],
    },
    Mistake {
        old: "crashes: the limits of names were not loaded",
        made: |sandbox| with(sandbox, "--cloud-image-name", "1-starts-with-a-digit"),
        code: 2,
        says: &["1-starts-with-a-digit", "CLOUD_IMAGE_NAME"],
    },
];

#[test]
fn files_no_image_can_hold_are_refused_by_name() {
    if needs_qemu() {
        check(&FILES);
    }
}

#[test]
fn sizes_no_disk_can_have_are_errors_and_not_wrapped_or_shrunk() {
    if needs_qemu() {
        check(&SIZES);
    }
}

#[test]
fn what_a_build_lacks_is_found_before_anything_is_done() {
    if needs_qemu() {
        check(&MACHINE);
    }
}

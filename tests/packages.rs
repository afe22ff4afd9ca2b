//! Checks the contents of IMAGE_DIR after a build: packages, their checksums and signatures, judged by other
//! tools.

use std::fs;

use crate::harness::{Sandbox, names, needs, tool};

#[test]
fn a_cloud_image_that_stays_here_is_a_tar_file_with_valid_digests_and_signature() {
    if !needs(&["qemu-img", "tar", "md5sum", "sha256sum", "openssl"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 70, 3);
    let directory = sandbox.path();
    tool(directory, &["openssl", "genrsa", "-out", "key.pem", "2048"]);
    tool(directory, &["openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"];
    let run = sandbox.run(&[&args[..], &["--image-sig-private-key", "key.pem"]].concat());
    run.succeeded();
    let images = directory.join("images");
    let package = "disk.alibaba.tar.gz";
    let beside = ["", ".3512.sig", ".md5", ".sha256"].map(|suffix| format!("{package}{suffix}"));
    assert_eq!(names(&images), beside, "nothing else is left");
    assert_eq!(run.member("file"), images.join(package).to_str().unwrap());
    assert_eq!(run.member("image_length"), fs::metadata(images.join(package)).unwrap().len());
    tool(&images, &["md5sum", "-c", &beside[2]]);
    tool(&images, &["sha256sum", "-c", &beside[3]]);
    let verify = ["openssl", "dgst", "-sha3-512", "-verify", "../public.pem", "-signature"];
    tool(&images, &[&verify[..], &[&beside[1], package]].concat());
    assert_eq!(tool(&images, &["tar", "-tzf", package]), "disk.alibaba.qcow2\n");
    tool(&images, &["tar", "-xzf", package]);
    tool(&images, &["qemu-img", "compare", "../disk.raw", "disk.alibaba.qcow2"]);
}

#[test]
fn a_local_image_is_a_zip_file_of_an_old_qcow2() {
    if !needs(&["qemu-img", "unzip", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 3);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "qcow2"];
    sandbox.run(&[&args[..], &["--hypervisor-image-name", "mine"]].concat()).succeeded();
    let images = sandbox.path().join("images");
    assert_eq!(names(&images), ["mine.qcow2.zip", "mine.qcow2.zip.md5", "mine.qcow2.zip.sha256"]);
    sandbox.run(&args).succeeded();
    tool(&images, &["sha256sum", "-c", "disk.qcow2.zip.sha256"]);
    tool(&images, &["unzip", "-q", "disk.qcow2.zip"]);
    tool(&images, &["qemu-img", "compare", "../disk.raw", "disk.qcow2"]);
    assert!(tool(&images, &["qemu-img", "info", "disk.qcow2"]).contains("compat: 0.10"));
}

#[test]
fn a_key_that_cannot_sign_is_found_before_the_long_part() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 4, 1);
    sandbox.write("key.pem", "no key");
    let args = ["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"];
    let run = sandbox.run(&[&args[..], &["--image-sig-private-key", "key.pem"]].concat());
    run.failed(2, &["key.pem"]);
    assert!(
        !sandbox.path().join("images").exists() || names(&sandbox.path().join("images")).is_empty()
    );
}

//! Builds for every platform, from a disk image to the finished file, judged by other tools; runs the scripts of
//! stubs with stand-ins of the vendors' command lines.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use build_image::plan::{check_name, compose_name};
use build_image_bigip::{Facts, Shape, Version, seed};
use build_image_plugin_api::{Description, Status};

use crate::{
    concurrent_builds::unpacked,
    harness::{Iso, OpenStack, Run, Sandbox, Turn, names, needs, needs_qemu, tool},
};

/// Checks each field of a VHD's footer at its offset; fails unless checksum and sizes are right. Source: Microsoft
/// "Virtual Hard Disk Image Format Specification".
const VHD_FOOTER: &str = r#"
import os, struct, sys
path, kind = sys.argv[1], int(sys.argv[2])
with open(path, "rb") as file:
    file.seek(-512, os.SEEK_END)
    footer = file.read()
assert footer[:8] == b"conectix", footer[:8]
size, = struct.unpack(">Q", footer[48:56])
assert struct.unpack(">I", footer[60:64])[0] == kind, footer[60:64]
assert size % (1 << 20) == 0, size
whole = sum(footer[:64]) + sum(footer[68:])
assert struct.unpack(">I", footer[64:68])[0] == ~whole & 0xffffffff
if kind == 2:
    assert os.path.getsize(path) == size + 512
print(size)
"#;

/// Builds the disk for a platform, dated, with a separate image directory.
fn build(sandbox: &Sandbox, disk: &Path, platform: &str, images: &str, more: &[&str]) -> Run {
    let args = ["--disk", disk.to_str().unwrap(), "-p", platform, "--image-dir", images];
    let result = sandbox.path().join("result.json");
    let mut command = sandbox.command(&[&args[..], more].concat());
    command.env("F5_OUTPUT_JSON_FILE", &result).env("SOURCE_DATE_EPOCH", "1700000000");
    let output = command.output().unwrap();
    let document = serde_json::from_slice(&fs::read(&result).unwrap()).ok();
    Run::of(&output, document)
}

/// The package of a stub, built twice; both are the same byte for byte.
#[track_caller]
fn built_twice(sandbox: &Sandbox, disk: &Path, platform: &str, package: &str) -> PathBuf {
    let directories = ["first", "second"].map(|images| {
        let run = build(sandbox, disk, platform, images, &["--no-upload"]);
        run.succeeded();
        let next = run.member("next").as_str().unwrap().to_owned();
        assert!(next.ends_with("upload.sh") && Path::new(&next).is_file(), "{next}");
        assert!(run.stderr.ends_with(&format!("next  {next}\n")), "{}", run.stderr);
        let images = sandbox.path().join(images);
        let script = format!("disk.{platform}.upload.sh");
        let (md5, sha256) = (format!("{package}.md5"), format!("{package}.sha256"));
        let mut expected = vec![package.to_owned(), md5, sha256, script];
        expected.sort();
        assert_eq!(names(&images), expected, "nothing else is left");
        tool(&images, &["sha256sum", "--quiet", "-c", &format!("{package}.sha256")]);
        images
    });
    let bytes = directories.each_ref().map(|images| fs::read(images.join(package)).unwrap());
    assert!(bytes[0] == bytes[1], "two builds of {package} differ");
    directories[0].clone()
}

/// A stand-in of a vendor's command line: records its arguments, one line per call, keeps a copy of the file to
/// upload, and answers `answer`.
fn stand_in(sandbox: &Sandbox, name: &str, upload: &str, answer: &str) {
    let directory = sandbox.path().display();
    let text = format!(
        "#!/bin/bash\n(IFS='|'; printf '%s\\n' \"$*\") >>'{directory}/calls'\n\
         case \"$*\" in {upload}) for word; do [ -f \"$word\" ] && cp \"$word\" '{directory}/uploaded'; done ;; esac\n\
         case \"$*\" in {answer} esac\nexit 0\n"
    );
    let path = sandbox.write(&format!("bin/{name}"), &text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the script of a stub with stand-ins in PATH and these variables.
fn run_script(sandbox: &Sandbox, script: &Path, variables: &[(&str, &str)]) -> (Output, String) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = std::process::Command::new(script)
        .env_clear()
        .env("PATH", format!("{}:{path}", sandbox.path().join("bin").display()))
        .envs(variables.iter().copied())
        .current_dir("/")
        .output()
        .unwrap();
    (output, fs::read_to_string(sandbox.path().join("calls")).unwrap_or_default())
}

#[track_caller]
fn is_the_disk(sandbox: &Sandbox, image: &Path, format: &str) {
    let image = image.to_str().unwrap();
    let args = ["qemu-img", "compare", "-f", "raw", "-F", format, "disk.raw", image];
    tool(sandbox.path(), &args);
}

#[test]
fn vhd_is_a_dynamic_disk_in_a_zip_file() {
    if !needs(&["qemu-img", "unzip", "python3"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 3);
    let run = build(&sandbox, &disk, "vhd", "images", &[]);
    run.succeeded();
    let images = sandbox.path().join("images");
    assert_eq!(run.member("vhd_location"), images.join("disk.vhd.zip").to_str().unwrap());
    tool(&images, &["unzip", "-q", "disk.vhd.zip", "-d", ".."]);
    let image = sandbox.path().join("disk.vhd");
    is_the_disk(&sandbox, &image, "vpc");
    let size = tool(sandbox.path(), &["python3", "-c", VHD_FOOTER, "disk.vhd", "3"]);
    assert_eq!(size.trim(), (70_u64 << 20).to_string());
    assert!(fs::metadata(&image).unwrap().len() < 8 << 20, "holes take no room");
}

#[test]
fn vmware_is_an_ova_with_everything_a_user_is_asked() {
    if !needs(&["qemu-img", "tar", "xmllint", "sha256sum", "sed", "openssl"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 3);
    sandbox.write("eula.txt", "do what you like & <enjoy>\n");
    let directory = sandbox.path();
    tool(directory, &["openssl", "genrsa", "-out", "key.pem", "2048"]);
    tool(directory, &["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let keys = ["--image-sig-private-key", "key.pem", "--image-sig-public-key", "public.pem"];
    let own = ["--add-ova-eula", "eula.txt", "--ova-prop-net-user", "--ova-cpus", "6"];
    let more = [&own[..], &keys].concat();
    let run = build(&sandbox, &disk, "vmware", "images", &more);
    run.succeeded();
    assert!(run.stderr.contains("product is not known"), "{}", run.stderr);
    let images = sandbox.path().join("images");
    assert_eq!(run.member("vmware_location"), images.join("disk.vmware.ova").to_str().unwrap());
    let members = tool(&images, &["tar", "-tf", "disk.vmware.ova"]);
    assert_eq!(members, "disk.ovf\ndisk.mf\ndisk.sig\ndisk.vmdk\ndisk.pub\n");
    tool(&images, &["tar", "-xf", "disk.vmware.ova", "-C", ".."]);
    let check = "sed 's/^SHA256(\\(.*\\))= \\(.*\\)$/\\2  \\1/' disk.mf | sha256sum --quiet -c -";
    tool(directory, &["sh", "-c", check]);
    let signed = ["-verify", "public.pem", "-signature", "disk.sig", "disk.mf"];
    tool(directory, &[&["openssl", "dgst", "-sha3-512"][..], &signed].concat());
    tool(directory, &["cmp", "disk.pub", "public.pem"]);
    tool(directory, &["qemu-img", "check", "disk.vmdk"]);
    is_the_disk(&sandbox, &directory.join("disk.vmdk"), "vmdk");
    let say = |path: &str| tool(directory, &["xmllint", "--xpath", path, "disk.ovf"]);
    for (path, text) in [
        ("string(//*[local-name()='License'])", "do what you like & <enjoy>\n\n"),
        ("count(//*[local-name()='NetworkSection']/*[local-name()='Network'])", "1\n"),
        ("string(//*[local-name()='VirtualSystemType'])", "vmx-13\n"),
        ("count(//*[local-name()='Configuration'])", "0\n"),
        ("count(//*[local-name()='Reservation'])", "0\n"),
        (
            "string(//*[*[local-name()='ResourceType']='3']/*[local-name()='VirtualQuantity'])",
            "6\n",
        ),
        ("count(//*[local-name()='Property'])", "4\n"),
        ("count(//*[local-name()='Property'][@*[local-name()='password']])", "2\n"),
    ] {
        assert_eq!(say(path).trim_end(), text.trim_end(), "{path}");
    }
    let run = build(&sandbox, &disk, "vmware", "other", &["--add-ova-eula", "https://x/eula"]);
    run.failed(2, &["ADD_OVA_EULA: `https://x/eula` is an address", "curl -o eula.txt"]);
    let run = build(&sandbox, &disk, "vmware", "other", &["--ova-cpus", "1000"]);
    run.failed(2, &["OVA_CPUS: 1000 is not from 1 to 768"]);
}

#[test]
fn aws_is_a_vmdk_in_a_package_and_its_script_registers_it() {
    if !needs(&["qemu-img", "unzip", "xmllint", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 3);
    let images = built_twice(&sandbox, &disk, "aws", "disk.aws.zip");
    let directory = sandbox.path();
    tool(&images, &["unzip", "-q", "disk.aws.zip", "-d", ".."]);
    tool(directory, &["xmllint", "--noout", "disk.ovf"]);
    tool(directory, &["qemu-img", "check", "disk.vmdk"]);
    is_the_disk(&sandbox, &directory.join("disk.vmdk"), "vmdk");
    stand_in(
        &sandbox,
        "aws",
        "s3*cp*",
        "*ImportTaskId*) echo import-1 ;; *Detail.Status*) echo completed ;; \
         *Detail.SnapshotId*) echo snap-1 ;; *ImageId*) echo ami-1 ;; *State*) echo available ;;",
    );
    let script = images.join("disk.aws.upload.sh");
    let (output, calls) = run_script(&sandbox, &script, &[]);
    assert!(!output.status.success() && calls.is_empty(), "no bucket is known: {calls}");
    let variables = [("AWS_BUCKET", "images"), ("AWS_REGION", "eu-central-1")];
    let (output, calls) = run_script(&sandbox, &script, &variables);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{calls}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("image ami-1 (disk-"), "{printed}");
    assert_eq!(
        fs::read(directory.join("uploaded")).unwrap(),
        fs::read(directory.join("disk.vmdk")).unwrap()
    );
    for text in [
        "ec2|import-snapshot|",
        "|Format=VMDK,UserBucket={S3Bucket=images,S3Key=",
        "|DeviceName=/dev/xvda,Ebs={SnapshotId=snap-1,DeleteOnTermination=true,VolumeType=gp2}|",
        "ec2|create-tags|--resources|ami-1|--tags|[{\"Key\":",
        "s3|rm|",
    ] {
        assert!(calls.contains(text), "{text} is not in\n{calls}");
    }
    assert!(!calls.contains("delete-snapshot"), "{calls}");
    assert_eq!(names(&images).len(), 4, "the script leaves nothing here");
}

#[test]
fn azure_is_a_fixed_vhd_and_its_script_makes_an_image_of_it() {
    if !needs(&["qemu-img", "tar", "python3", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 3);
    let images = built_twice(&sandbox, &disk, "azure", "disk.azure.vhd.tar.gz");
    let directory = sandbox.path();
    assert_eq!(tool(&images, &["tar", "-tzf", "disk.azure.vhd.tar.gz"]), "disk.vhd\n");
    tool(&images, &["tar", "-xSzf", "disk.azure.vhd.tar.gz", "-C", ".."]);
    is_the_disk(&sandbox, &directory.join("disk.vhd"), "vpc");
    tool(directory, &["python3", "-c", VHD_FOOTER, "disk.vhd", "2"]);
    stand_in(&sandbox, "az", "*blob*upload*", "*blob*url*) echo https://acme/disk.vhd ;;");
    let (output, calls) = run_script(
        &sandbox,
        &images.join("disk.azure.upload.sh"),
        &[
            ("AZURE_STORAGE_CONNECTION_STRING", "secret"),
            ("AZURE_STORAGE_CONTAINER_NAME", "images"),
            ("AZURE_RESOURCE_GROUP", "group"),
            ("AZURE_REGION", "West Europe"),
        ],
    );
    assert!(output.status.success(), "{calls}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        fs::read(directory.join("uploaded")).unwrap(),
        fs::read(directory.join("disk.vhd")).unwrap()
    );
    for text in [
        "storage|blob|upload|--type|page|--container-name|images|--name|disk-",
        "image|create|--resource-group|group|--location|West Europe|--name|disk-",
        "|--source|https://acme/disk.vhd|--os-type|Linux|--hyper-v-generation|V1|",
        "|platform=azure|",
    ] {
        assert!(calls.contains(text), "{text} is not in\n{calls}");
    }
    assert!(!calls.contains("secret"), "{calls}");
}

#[test]
fn gce_is_a_raw_disk_in_an_old_tar_file_and_its_script_makes_an_image_of_it() {
    if !needs(&["tar", "cmp", "gzip", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let odd = sandbox.disk("odd.raw", 70, 1);
    let run = build(&sandbox, &odd, "gce", "images", &["--no-upload"]);
    run.failed(4, &["multiples of 1073741824 bytes", "hint: --disk-size=1073741824"]);
    let disk = sandbox.disk("disk.raw", 1024, 3);
    let images = built_twice(&sandbox, &disk, "gce", "disk.gce.tar.gz");
    assert_eq!(tool(&images, &["tar", "-tzf", "disk.gce.tar.gz"]), "disk.raw\n");
    tool(&images, &["sh", "-c", "tar -xSzOf disk.gce.tar.gz disk.raw | cmp - ../disk.raw"]);
    let magic = "gzip -dc disk.gce.tar.gz | head -c 265 | tail -c 8";
    assert_eq!(tool(&images, &["sh", "-c", magic]), "ustar  \0", "GNU's old format");
    stand_in(&sandbox, "gcloud", "storage*cp*", "*images*create*) echo https://gce/disk ;;");
    let script = images.join("disk.gce.upload.sh");
    let variables = [("GCE_BUCKET", "images"), ("GCE_PROJECT", "mine")];
    let (output, calls) = run_script(&sandbox, &script, &variables);
    assert!(output.status.success(), "{calls}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "https://gce/disk\n");
    let package = fs::read(images.join("disk.gce.tar.gz")).unwrap();
    assert!(fs::read(sandbox.path().join("uploaded")).unwrap() == package);
    for text in [
        "compute|images|create|disk-",
        "|--project=mine|--source-uri=gs://images/",
        "|--architecture=X86_64|--labels=",
        "platform=gce",
        "storage|rm|--quiet|gs://images/",
    ] {
        assert!(calls.contains(text), "{text} is not in\n{calls}");
    }
}

#[test]
fn stubs_are_called_so_and_refuse_to_upload_before_the_long_part() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 1024, 1);
    let list = sandbox.run(&["providers", "list"]);
    for (platform, code) in [("azure", 6), ("gce", 6)] {
        let named = list.stdout.lines().find(|line| line.starts_with(&format!("{platform} ")));
        assert!(named.is_some_and(|line| line.contains("(stub")), "{}", list.stdout);
        let help = sandbox.run(&["-p", platform, "--help"]);
        assert!(help.stdout.contains(&format!("Provider {platform} (stub")), "{}", help.stdout);
        let run = build(&sandbox, &disk, platform, "images", &[]);
        let script = format!("disk.{platform}.upload.sh");
        run.failed(code, &["stub", "build with --no-upload, then run", &script]);
        assert!(!sandbox.path().join("images").exists(), "it was made by this build");
    }
}

/// What a provider reports about itself.
fn description(sandbox: &Sandbox, platform: &str) -> Description {
    let run = sandbox.run(&["providers", "inspect", platform, "--json"]);
    serde_json::from_str(&run.succeeded().stdout).unwrap()
}

#[test]
fn the_boot_fix_up_is_left_out_for_compute_engine_alone() {
    let sandbox = Sandbox::new();
    for platform in ["alibaba", "aws", "azure", "gce", "oci", "openstack", "qcow2", "vhd", "vmware"]
    {
        let skips = description(&sandbox, platform).guest.skip_boot_fixup;
        assert_eq!(skips, platform == "gce", "{platform}");
    }
}

#[test]
fn image_names_are_those_of_the_old_tool_on_every_cloud() {
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
    let seed = seed(&facts, Shape { all_modules: false, slots: 1 });
    let sandbox = Sandbox::new();
    for (platform, random, name, status) in [
        ("alibaba", "FNH6PZTR0", "F5-BIGIP-15-0-0-0-0-39-BYOL-ltm-1slot-FNH6PZTR0", Status::Stable),
        ("aws", "TELIMLTF7", "F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot-TELIMLTF7", Status::Stable),
        ("azure", "AN52DHEC8", "F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot-AN52DHEC8", Status::DiskOnly),
        ("gce", "6XP6LP603", "f5-bigip-15-0-0-0-0-39-byol-ltm-1slot-6xp6lp603", Status::DiskOnly),
    ] {
        let provider = description(&sandbox, platform);
        let rules = provider.image_name.unwrap();
        assert_eq!(
            (compose_name(&seed, random, &rules).unwrap(), provider.status),
            (name.into(), status)
        );
        let long = format!("{}{}", "x".repeat(rules.maximum_length), "y".repeat(2));
        assert!(compose_name(&long, random, &rules).is_err(), "{platform}");
        let chosen = |name: &str| check_name(name, &rules).is_ok();
        let (good, bad): (&[&str], &[&str]) = match platform {
            "alibaba" => (&["a.b-c_d"], &["1a", "a b", "a"]),
            "aws" => (&["(a)/b.c-d_e", "1ab"], &["ab", "a b c", "a+bc"]),
            "azure" => (&["a", "1.b-c_"], &["a.", "-a", "a b", "a-"]),
            _ => (&["a", "a-1"], &["A", "1a", "a-", "a.b"]),
        };
        for (names, fine) in [(good, true), (bad, false)] {
            for name in names {
                assert_eq!(chosen(name), fine, "{platform}: {name}");
            }
        }
    }
}

#[test]
fn an_iso_becomes_a_package_for_gce() {
    if !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let iso = Iso::of("ok");
    let args = ["-i", iso.word(), "-p", "gce", "-m", "ltm", "-b", "1", "--no-upload"];
    let run = sandbox.run(&args);
    run.succeeded();
    let images = sandbox.path().join("images");
    let package = "BIGIP-15.0.0-0.0.39.LTM_1SLOT.gce.tar.gz";
    assert_eq!(tool(&images, &["tar", "-tzf", package]), "disk.raw\n");
    let script = images.join("BIGIP-15.0.0-0.0.39.LTM_1SLOT.gce.upload.sh");
    let text = fs::read_to_string(script).unwrap();
    for line in [&format!("file={package}\n"), "image_name=f5-bigip-15-0-0-0-0-39-byol-ltm-1slot-"]
    {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn an_iso_becomes_an_active_image_of_openstack() {
    if !needs_qemu() {
        return;
    }
    let Some(cloud) = OpenStack::shared() else { return };
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", &cloud.config("builder", "builders", &[]));
    let iso = Iso::of("ok");
    let args = ["-i", iso.word(), "-p", "openstack", "-m", "ltm", "-b", "1", "-c", "config.yml"];
    // IMAGE_DIR receives the installed disk as well, for the comparison.
    let run = sandbox.run(
        &[&args[..], &["--image-dir", "images", "--cloud-image-name", "from-an-iso"]].concat(),
    );
    run.succeeded();
    let image = cloud.image(run.member("image_id").as_str().unwrap());
    assert_eq!((&image["status"], &image["os_version"]), (&"active".into(), &"15.0.0".into()));
    let format = cloud.save(image["id"].as_str().unwrap(), &sandbox.path().join("saved"));
    let images = sandbox.path().join("images");
    let package = names(&images)
        .into_iter()
        .find(|name| [".zip", ".qcow2", ".tar.gz"].iter().any(|ending| name.ends_with(ending)));
    let scratch = sandbox.path().join("unpacked");
    let (disk, published) = unpacked(&images.join(package.unwrap()), &scratch);
    let formats = ["qemu-img", "compare", "-f", published, "-F", &format];
    tool(sandbox.path(), &[&formats[..], &[disk.to_str().unwrap(), "saved"]].concat());
}

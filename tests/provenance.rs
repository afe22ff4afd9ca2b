//! Checks the provenance statement of a build with other tools.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::{SECRET, Sandbox, TinyIso, needs, stand_in_qemu, tool, until};

fn sha256(path: &Path) -> String {
    let line = tool(Path::new("/"), &["sha256sum", path.to_str().unwrap()]);
    line.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_statement_names_image_inputs_tool_and_plugin_by_their_digests() {
    if !needs(&["sha256sum", "openssl"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let directory = sandbox.path();
    let disk = sandbox.disk("disk.raw", 8, 3);
    tool(directory, &["openssl", "genrsa", "-out", "key.pem", "2048"]);
    tool(directory, &["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--package", "none"];
    let more = ["--provenance-file", "said/by us.json", "--image-sig-private-key", "key.pem"];
    // The same image, as a local file and as a cloud image.
    for last in [&["--no-upload"][..], &[]] {
        let run = sandbox.run(&[&args[..], &more, last].concat());
        run.succeeded();
        let statement_path = directory.join("said/by us.json");
        let text = fs::read_to_string(&statement_path).unwrap();
        assert!(!text.contains(SECRET) && text.contains("<protected>"), "{text}");
        let statement: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        let subject = &statement["subject"][0];
        let image = directory.join("images/disk.alibaba.qcow2");
        assert_eq!(subject["digest"], json!({"sha256": sha256(&image)}), "{text}");
        let images = subject["annotations"]["images"].as_array().unwrap().len();
        assert_eq!(images, usize::from(last.is_empty()));
        let predicate = &statement["predicate"];
        let inputs = predicate["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        let plugin = run.member("plugin");
        for (name, digest) in
            [("disk", json!(sha256(&disk))), ("provider alibaba", plugin["sha256"].clone())]
        {
            let input = inputs.iter().find(|input| input["name"] == name).unwrap();
            assert_eq!(input["digest"]["sha256"], digest, "{name}");
        }
        let settings = &predicate["buildDefinition"]["externalParameters"]["settings"];
        assert_eq!(settings["ALIBABA_BUCKET"], "demo");
        let details = &predicate["runDetails"];
        let program = Path::new(env!("CARGO_BIN_EXE_build-image"));
        let tool_digest = &details["builder"]["builderDependencies"][0]["digest"]["sha256"];
        assert_eq!(tool_digest, &json!(sha256(program)));
        assert_eq!(&details["metadata"]["invocationId"], run.member("run_id"));
        is_signed(directory, &directory.join("said/by us.intoto.jsonl"), &text);
    }
    for curve in ["P-256", "P-384", "P-521"] {
        let option = format!("ec_paramgen_curve:{curve}");
        let made = ["genpkey", "-algorithm", "EC", "-pkeyopt", &option, "-out", "key.pem"];
        tool(directory, &[&["openssl"][..], &made].concat());
        tool(directory, &["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        sandbox.run(&[&args[..], &more, &["--no-upload"]].concat()).succeeded();
        let text = fs::read_to_string(directory.join("said/by us.json")).unwrap();
        is_signed(directory, &directory.join("said/by us.intoto.jsonl"), &text);
    }
}

/// Checks that the envelope holds the statement, and that openssl verifies with `public.pem` the bytes that the
/// specification defines as signed.
#[track_caller]
fn is_signed(directory: &Path, envelope: &Path, statement: &str) {
    let text = fs::read_to_string(envelope).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    let envelope: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let signature = &envelope["signatures"][0];
    for (name, text) in [("payload", &envelope["payload"]), ("sig", &signature["sig"])] {
        fs::write(directory.join("base64"), text.as_str().unwrap()).unwrap();
        tool(directory, &["openssl", "base64", "-d", "-A", "-in", "base64", "-out", name]);
    }
    assert_eq!(fs::read_to_string(directory.join("payload")).unwrap(), statement);
    let verify = |head: String| {
        fs::write(directory.join("signed"), head + statement).unwrap();
        let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "sig", "signed"];
        let command = Command::new("openssl").args(verify).current_dir(directory).output();
        command.unwrap().status.success()
    };
    let length = statement.len();
    assert!(verify(format!("DSSEv1 28 application/vnd.in-toto+json {length} ")));
    assert!(!verify(format!("DSSEv1 28 application/vnd.in-toto+JSON {length} ")));
    tool(
        directory,
        &["openssl", "pkey", "-pubin", "-in", "public.pem", "-outform", "DER", "-out", "der"],
    );
    assert_eq!(signature["keyid"], sha256(&directory.join("der")));
}

#[test]
fn an_iso_whose_digest_is_known_is_not_read_again_for_its_statement() {
    if !needs(&["xorriso", "mkfifo", "dd", "sha256sum"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let iso = sandbox.path().join("base.iso");
    TinyIso::base().write(&iso);
    let checked = sha256(&iso);
    stand_in_qemu(&sandbox);
    let hold = sandbox.write("hold.boot.end", "");
    let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-p", "qcow2"];
    let more = ["--iso-sha256", &checked, "--provenance-file", "said.json"];
    let mut child = sandbox.command(&[&args[..], &more].concat()).spawn().unwrap();
    until("it is installed", || sandbox.path().join("held").exists());
    // One byte of its padding changes after the last pass that reads it: what was installed is what was checked.
    let file = File::options().write(true).open(&iso).unwrap();
    let before = file.metadata().unwrap();
    file.write_all_at(b"x", before.len() - 1).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    fs::remove_file(hold).unwrap();
    drop(File::options().write(true).open(sandbox.path().join("never")).unwrap());
    assert!(child.wait().unwrap().success());
    let text = fs::read(sandbox.path().join("said.json")).unwrap();
    let statement: Value = serde_json::from_slice(&text).unwrap();
    let inputs = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!(inputs[0]["name"], "iso");
    assert_eq!(inputs[0]["digest"]["sha256"], checked);
    assert_ne!(sha256(&iso), checked, "the trial does not try anything");
}

#[test]
fn a_statement_that_could_not_be_written_is_found_before_the_long_part() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", "disk.raw", "-p", "qcow2", "--provenance-file", "/proc/none/x.json"];
    let run = sandbox.run(&args);
    run.failed(5, &["/proc/none", "hint: set PROVENANCE_FILE"]);
    assert!(!run.stderr.contains("preparing the image"), "{}", run.stderr);
}

/// A clean-up gives the files of a released run their names, unless a later build has them; then the statement is that of the
/// later build too.
#[test]
fn a_clean_up_leaves_the_statement_of_a_later_build() {
    let sandbox = Sandbox::new();
    let args = ["-p", "qcow2", "--package", "none", "--provenance-file", "said.json", "--disk"];
    let args = [&args[..], &["disk.raw"]].concat();
    sandbox.disk("disk.raw", 4, 1);
    let mut first = sandbox.command(&args);
    first.env("BUILD_IMAGE_FAILPOINT", "after:products_released");
    assert_eq!(first.output().unwrap().status.code(), None);
    sandbox.disk("disk.raw", 5, 2);
    sandbox.run(&args).succeeded();
    let [image, statement] =
        ["images/disk.qcow2", "said.json"].map(|name| sandbox.path().join(name));
    let before = [&image, &statement].map(|file| fs::read(file).unwrap());
    let collected = sandbox.run(&["gc", "--yes"]);
    collected.succeeded();
    assert!(collected.stdout.contains("gave way to newer files"), "{}", collected.stdout);
    assert!([&image, &statement].map(|file| fs::read(file).unwrap()) == before);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

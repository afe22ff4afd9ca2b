//! What a build says of its own making, checked with other tools.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{SECRET, Sandbox, needs, tool};

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
    let folder = sandbox.path();
    let disk = sandbox.disk("disk.raw", 8, 3);
    tool(folder, &["openssl", "genrsa", "-out", "key.pem", "2048"]);
    tool(folder, &["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--package", "none"];
    let more = ["--provenance-file", "said/by us.json", "--image-sig-private-key", "key.pem"];
    // The same image, once as a file here and once as an image there.
    for last in [&["--no-upload"][..], &[]] {
        let run = sandbox.run(&[&words[..], &more, last].concat());
        run.succeeded();
        let said = folder.join("said/by us.json");
        let text = fs::read_to_string(&said).unwrap();
        assert!(!text.contains(SECRET) && text.contains("<protected>"), "{text}");
        let statement: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        let subject = &statement["subject"][0];
        let image = folder.join("images/disk.alibaba.qcow2");
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
        let signature = ["-verify", "public.pem", "-signature", "said/by us.json.3512.sig"];
        let verify = [&["openssl", "dgst", "-sha3-512"][..], &signature, &["said/by us.json"]];
        tool(folder, &verify.concat());
    }
}

#[test]
fn a_statement_that_could_not_be_written_is_found_before_the_long_part() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let words = ["--disk", "disk.raw", "-p", "qcow2", "--provenance-file", "/proc/none/x.json"];
    let run = sandbox.run(&words);
    run.failed(5, &["/proc/none", "hint: set PROVENANCE_FILE"]);
    assert!(!run.stderr.contains("showing the disk"), "{}", run.stderr);
}

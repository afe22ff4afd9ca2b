//! Checks which CA certificates are trusted: by the provider in the build's process and in a separate one, and by
//! downloads.

use std::{fs, path::Path};

use crate::harness::{Run, Sandbox};

/// Arguments of a build in the emulated cloud.
const BUILD: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];

/// Runs a build that finds CA certificates where these variables point.
fn build(sandbox: &Sandbox, more: &[&str], variables: &[(&str, &Path)]) -> Run {
    let mut command = sandbox.command(&[&BUILD, more].concat());
    command.env_remove("SSL_CERT_FILE").envs(variables.iter().copied());
    Run::of(&command.output().unwrap(), None)
}

#[test]
fn ca_certificates_come_from_the_variables_in_the_process_and_isolated() {
    let sandbox = Sandbox::with_cloud();
    let other = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 8, 3);
    let file = sandbox.emulator.as_ref().unwrap().ca_file().unwrap();
    let foreign = other.emulator.as_ref().unwrap().ca_file().unwrap();
    let directory = sandbox.path().join("trusted");
    fs::create_dir(&directory).unwrap();
    fs::copy(file, directory.join("emulator.pem")).unwrap();
    let both = sandbox.path().join("both.pem");
    let joined = [foreign, file].map(|path| fs::read_to_string(path).unwrap()).concat();
    fs::write(&both, joined).unwrap();
    let mut images = 0;
    for more in [&[][..], &["--isolate"]] {
        for (name, path) in
            [("SSL_CERT_FILE", file), ("SSL_CERT_FILE", &both), ("SSL_CERT_DIR", &directory)]
        {
            build(&sandbox, more, &[(name, path)]).succeeded();
            images += 1;
            sandbox.cloud_has_only(images);
        }
        // Retries would not help: the first refusal ends the build.
        let texts = ["is not trusted", "UnknownIssuer", "hint: name a file", "SSL_CERT_FILE"];
        for variables in [&[][..], &[("SSL_CERT_FILE", foreign)]] {
            let run = build(&sandbox, more, variables);
            run.failed(7, &texts);
            assert!(!run.stderr.contains("check the network"), "{}", run.stderr);
        }
        sandbox.cloud_has_only(images);
    }
}

#[test]
fn a_plain_endpoint_needs_no_certificates() {
    let sandbox = Sandbox::with_plain_cloud();
    sandbox.disk("disk.raw", 8, 3);
    let nothing = sandbox.write("nothing.pem", "");
    build(&sandbox, &[], &[]).succeeded();
    build(&sandbox, &["--isolate"], &[("SSL_CERT_FILE", &nothing)]).succeeded();
    sandbox.cloud_has_only(2);
}

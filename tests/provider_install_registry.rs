//! Makes an index with the publisher's script of docs/examples, and installs from each form that it makes: a directory
//! behind a web server, an archive, and an artefact in a real docker-registry.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use crate::harness::{OciRegistry, Published, Run, TRUST, needs, plugin_directory, root, tool};

/// Runs the publisher's script in the sandbox with the plugin `qcow2`; returns the name of the index's directory.
fn published_by_script(published: &Published) -> &'static str {
    let plugin = plugin_directory().join(build_image_plugin_api::plugin_file_name("qcow2"));
    let output = Command::new("python3")
        .arg(root().join("docs/examples/publish-providers"))
        .args(["out", "--publisher", "example.org", "--serial", "1"])
        .args(["--expires", "2100-01-01T00:00:00Z", "--key", "keys/example.key"])
        .args(["--public", "keys/example.pub"])
        .args(["--archive", "mirror.tar", "--layout", "layout"])
        .arg(plugin)
        .current_dir(published.sandbox.path())
        .env("BUILD_IMAGE", env!("CARGO_BIN_EXE_build-image"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    "out"
}

/// Installs from a source, uses the provider, and removes it.
#[track_caller]
fn installs(published: &Published, source: &str, more: &[&str]) {
    let args = [&["install", source], more, &TRUST[..]].concat();
    let run = published.run(&args);
    assert!(run.succeeded().stdout.starts_with("installed qcow2"), "{}", run.stdout);
    let list = published.run(&["list"]).stdout;
    let place = published.directory().join(build_image_plugin_api::plugin_file_name("qcow2"));
    assert!(list.contains(&place.display().to_string()), "{list}");
    published.run(&["verify"]).succeeded();
    published.run(&["update"]).succeeded();
    published.run(&["remove", "qcow2"]).succeeded();
}

#[test]
fn what_the_publishers_script_makes_is_installed_from_every_source() {
    if !needs(&["minisign", "python3"]) {
        return;
    }
    let published = Published::new();
    let out = published_by_script(&published);
    for source in [out, "out/index.json", "mirror.tar"] {
        installs(&published, source, &[]);
    }
    // A mirror is a copied directory.
    tool(published.sandbox.path(), &["cp", "-r", "out", "mirror/copy"]);
    fs::copy(published.sandbox.path().join("mirror.tar"), published.mirror().join("m.tar"))
        .unwrap();
    let web = published.serve(|_, _| None);
    for path in ["/copy/", "/copy/index.json"] {
        installs(&published, &web.url(path), &[]);
    }
    let url = web.url("/m.tar");
    installs(&published, &url, &[]);
    // An archive of another form, and one that was cut.
    let tar = fs::read(published.sandbox.path().join("mirror.tar")).unwrap();
    for (name, content) in [("cut.tar", &tar[..tar.len() / 2]), ("empty.tar", b"")] {
        fs::write(published.sandbox.path().join(name), content).unwrap();
        published.run(&["install", name]).failed(3, &[name]);
    }
}

fn push(registry: &OciRegistry, directory: &Path, name: &str) {
    let options = registry.access("dest-");
    let target = format!("docker://{}/{name}", registry.address());
    let mut args = vec!["copy"];
    args.extend(options.iter().map(String::as_str));
    args.extend(["oci:layout", target.as_str()]);
    registry.skopeo(directory, &args);
}

#[test]
fn an_artefact_in_a_registry_is_installed() {
    if !needs(&["minisign", "python3"]) {
        return;
    }
    for kind in ["plain", "token", "tls"] {
        let Some(registry) = OciRegistry::start(kind, &[]) else { return };
        let published = Published::new();
        published_by_script(&published);
        push(&registry, published.sandbox.path(), "providers/all:1");
        let source = format!("oci://{}/providers/all:1", registry.address());
        let absent = format!("oci://{}/providers/none:1", registry.address());
        let install = [&["install", &source], &TRUST[..]].concat();
        if kind == "tls" {
            // On loopback without TLS, which this registry refuses.
            published.run(&install).failed(3, &["400"]);
            continue;
        }
        if kind == "token" {
            published.run(&install).failed(3, &["401"]);
            let user = format!("reader:{}", registry.password("reader"));
            let encoded = tool(
                published.sandbox.path(),
                &["sh", "-c", &format!("printf %s '{user}' | base64 -w 0")],
            );
            let auths =
                format!(r#"{{"auths": {{"{}": {{"auth": "{encoded}"}}}}}}"#, registry.address());
            published.sandbox.write(".docker/config.json", &auths);
        }
        installs(&published, &source, &[]);
        let run = published.run(&[&["install", &absent], &TRUST[..]].concat());
        assert!([3, 4].contains(&run.code), "{}", run.stderr);
        assert!(
            !run.stderr.contains(registry.described["users"]["reader"].as_str().unwrap_or("\0"))
        );
    }
}

/// A proxy that connects every name to one address, as a name server would.
fn tunnel_to(address: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let address = address.to_owned();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
            thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if client.read(&mut byte).unwrap() == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                assert!(head.starts_with(b"CONNECT registry.invalid:443 "));
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    // It ends with the connection.
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            });
        }
    });
    proxy
}

/// Beyond loopback a registry is asked over TLS, with a certificate that is trusted.
#[test]
fn an_artefact_in_a_registry_with_tls_is_installed() {
    if !needs(&["minisign", "python3"]) {
        return;
    }
    let Some(registry) = OciRegistry::start("tls", &[]) else { return };
    let published = Published::new();
    published_by_script(&published);
    push(&registry, published.sandbox.path(), "providers/all:1");
    let proxy = tunnel_to(registry.address());
    let source = "oci://registry.invalid/providers/all:1";
    let run = |authority: Option<&str>, words: &[&str]| {
        let mut command = published.command(words);
        command.env("HTTPS_PROXY", &proxy);
        command.envs(authority.map(|file| ("SSL_CERT_FILE", file)));
        Run::of(&command.output().unwrap(), None)
    };
    let install = [&["install", source], &TRUST[..]].concat();
    run(None, &install).failed(3, &["registry.invalid", "certificate"]);
    assert!(published.installed().is_empty());
    let authority = Some(registry.text("ca_file"));
    assert!(run(authority, &install).succeeded().stdout.starts_with("installed qcow2"));
    run(authority, &["update"]).succeeded();
    run(authority, &["verify"]).succeeded();
}

#[test]
fn an_address_that_is_no_artefacts_is_refused() {
    if !needs(&["minisign"]) {
        return;
    }
    let published = Published::new();
    for (address, text) in [
        ("oci://host", "has no name"),
        ("oci://user:hunter2@host/name", "contains a password"),
        ("oci://host/../name", "malformed"),
        ("oci://host/name@sha256:12", "malformed"),
        ("oci://host/name:", "malformed"),
        ("ftp://host/index.json", "neither a file nor an http or https URL"),
        ("absent", "cannot open"),
        ("keys/example.pub", "neither an index nor named like a plugin"),
    ] {
        let run = published.run(&["install", address]);
        run.failed(2, &[text]);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
}

//! Builds images for a real docker-registry, reads them back with skopeo, and compares them with the disk.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    harness::{OciRegistry, Run, Sandbox, plugin_directory, tool},
    provider_check::{report, unchecked, with_verdict},
};

/// A sandbox with a disk of 16 MiB.
pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 16, 3);
    sandbox
}

/// Arguments of a build for a repository.
pub(crate) fn args<'a>(reference: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let first = ["--disk", "disk.raw", "-p", "oci", "--oci-reference", reference];
    [&first[..], more].concat()
}

/// Runs a build for a repository.
pub(crate) fn build(sandbox: &Sandbox, reference: &str, more: &[&str]) -> Run {
    sandbox.run(&args(reference, more))
}

fn digest_of(run: &Run) -> String {
    run.member("oci_digest").as_str().unwrap().to_owned()
}

fn raw(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join("disk.raw")
}

#[test]
fn every_kind_format_and_compression_arrives_as_the_same_disk() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = sandbox();
    let artifact = ["--oci-kind", "artifact"];
    let cases: [(&str, &str, &[&str]); 8] = [
        ("qcow2", "vnd.oci.image.layer.v1.tar", &["--oci-chunk-size", "1MiB"]),
        ("raw", "vnd.oci.image.layer.v1.tar+gzip", &["--oci-layer-compression", "gzip"]),
        (
            "raw",
            "vnd.oci.image.layer.v1.tar+zstd",
            &["--oci-layer-compression", "zstd", "--oci-chunk-size", "64KiB"],
        ),
        ("qcow2", "vnd.oci.image.layer.v1.tar", &["--oci-disk-compression", "zlib"]),
        ("raw", "vnd.oci.image.layer.v1.tar", &["--oci-chunk-size", "0"]),
        ("qcow2", "x-qemu-disk", &artifact),
        (
            "raw",
            "x-raw-disk-image+zstd",
            &["--oci-kind", "artifact", "--oci-layer-compression", "zstd", "--oci-chunk-size", "0"],
        ),
        ("qcow2", "x-qemu-disk", &["--oci-kind", "artifact", "--oci-disk-compression", "zlib"]),
    ];
    for (number, (format, media, more)) in cases.into_iter().enumerate() {
        let repository = format!("team/disk-{number}");
        let reference = format!("{}/{repository}:13", registry.address());
        let run = build(&sandbox, &reference, &[&["--oci-disk-format", format], more].concat());
        run.succeeded();
        let digest = digest_of(&run);
        let id = format!("{}/{repository}@{digest}", registry.address());
        assert_eq!(run.member("image_id"), &json!(id));
        let manifest = registry.holds(&id, format, &raw(&sandbox));
        assert_eq!(manifest["layers"][0]["mediaType"], format!("application/{media}"), "{more:?}");
        assert_eq!(run.member("oci_layer")["size"], manifest["layers"][0]["size"]);
        assert_eq!(registry.tags(&repository), [("13".to_owned(), digest)].into());
        assert_eq!(registry.uploads(&repository), 0, "{more:?}");
        if more.contains(&"artifact") {
            let title = &manifest["layers"][0]["annotations"]["org.opencontainers.image.title"];
            let suffix = if media.contains("zstd") { ".zst" } else { "" };
            assert_eq!(title, &json!(format!("disk-{number}-13.{format}{suffix}")));
        } else {
            let members = tool(
                sandbox.path(),
                &["tar", "--numeric-owner", "--full-time", "-tvf", "image/plain"],
            );
            let rows: Vec<Vec<&str>> =
                members.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!((rows[0][0], rows[0][1], rows[0][5]), ("dr-xr-xr-x", "107/107", "disk/"));
            assert_eq!(
                (rows[1][0], rows[1][1], rows[1][5]),
                ("-r--r-----", "107/107", "disk/disk.img")
            );
            assert_eq!(rows.len(), 2, "{members}");
        }
    }
}

#[test]
fn a_repeated_build_sends_nothing_and_a_tag_of_another_image_stays_where_it_is() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = sandbox();
    let repository = "team/disk";
    let reference = format!("{}/{repository}:13", registry.address());
    let tags = ["--oci-tags", "[latest, 13.1]"];
    let first = build(&sandbox, &reference, &tags);
    first.succeeded();
    assert!(first.member("bytes_sent").as_u64().unwrap() > 3 << 20);
    let again = build(&sandbox, &reference, &tags);
    again.succeeded();
    assert_eq!((again.member("bytes_sent"), digest_of(&again)), (&json!(0), digest_of(&first)));
    let before = registry.tags(repository);
    assert_eq!(before.len(), 3);
    // Another disk, for one tag that is free and one that is not: nothing changes, not even the free one.
    sandbox.disk("disk.raw", 16, 2);
    let free = format!("{}/{repository}:14", registry.address());
    let latest = ["--oci-tags", "[latest]"];
    let refused = build(&sandbox, &free, &latest);
    refused.failed(6, &["tag `latest`", "belongs to another image", "OCI_IF_EXISTS=replace"]);
    assert!(refused.stderr.contains("warning: tags: tag `latest` exists"), "{}", refused.stderr);
    assert_eq!(
        (registry.tags(repository), registry.manifests(repository).len()),
        (before.clone(), 1)
    );
    // With the word, the tag moves, and the image keeps its other tags.
    let replaced = build(&sandbox, &free, &[&latest[..], &["--oci-if-exists", "replace"]].concat());
    replaced.succeeded();
    assert_eq!(replaced.member("oci_replaced"), &json!({"latest": digest_of(&first)}));
    let mut expected = before;
    expected.insert("14".to_owned(), digest_of(&replaced));
    expected.insert("latest".to_owned(), digest_of(&replaced));
    assert_eq!(registry.tags(repository), expected);
    registry.holds(&format!("{}/{repository}:latest", registry.address()), "qcow2", &raw(&sandbox));
    // A reference without a tag gets the image name.
    let plain = format!("{}/{repository}", registry.address());
    let named = build(&sandbox, &plain, &["--cloud-image-name", "Named_1.0"]);
    named.succeeded();
    assert_eq!(registry.tags(repository)["Named_1.0"], digest_of(&named));
    build(&sandbox, &plain, &["--cloud-image-name", "no tag"])
        .failed(2, &["no tag", "1 to 128 letters"]);
}

/// What a build with some credentials prints and how it ends.
struct Login<'a> {
    variables: &'a [(&'a str, &'a str)],
    more: &'a [&'a str],
    code: i32,
    texts: &'a [&'a str],
}

#[track_caller]
fn judge_logins(registry: &OciRegistry, sandbox: &Sandbox, logins: &[Login<'_>], secrets: &[&str]) {
    let reference = format!("{}/team/private:1", registry.address());
    for Login { variables, more, code, texts } in logins {
        let mut command =
            sandbox.command(&[&["plan", "--check"], &args(&reference, more)[..]].concat());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let run = Run::of(&output, None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, *code, "{variables:?} {more:?}\n{shown}");
        for text in *texts {
            assert!(
                shown.contains(text),
                "`{text}` is missing for {variables:?} {more:?} in\n{shown}"
            );
        }
        for secret in secrets {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

fn auth_file(sandbox: &Sandbox, name: &str, content: &Value) -> String {
    sandbox.write(name, &content.to_string()).to_str().unwrap().to_owned()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn passwords_come_from_settings_and_from_the_files_of_skopeo_and_docker() {
    let Some(registry) = OciRegistry::start("password", &[]) else { return };
    let sandbox = sandbox();
    let (address, ca_file) = (registry.address(), registry.text("ca_file"));
    let trusted = ["--oci-ca-file", ca_file];
    let password = registry.password("builder");
    // skopeo itself writes the file.
    let written = sandbox.path().join("skopeo.json");
    let written = written.to_str().unwrap();
    let login = [
        "login",
        "--tls-verify=false",
        "--authfile",
        written,
        "-u",
        "builder",
        "-p",
        password,
        address,
    ];
    registry.skopeo(sandbox.path(), &login);
    let docker = fs::read_to_string(written).unwrap();
    sandbox.write("docker/config.json", &docker);
    let helper = auth_file(
        &sandbox,
        "helper.json",
        &json!({"auths": {address: {}}, "credsStore": "desktop"}),
    );
    let broken =
        auth_file(&sandbox, "broken.json", &json!({"auths": {address: {"auth": "broken-secret"}}}));
    let missing = sandbox.path().join("missing.json");
    let docker = sandbox.path().join("docker");
    let user = ["--oci-username", "builder"];
    let own = [&trusted[..], &user].concat();
    let in_file = ["--oci-auth-file", written, "--oci-ca-file", ca_file];
    let insecure = ["--oci-auth-file", written, "--oci-tls", "insecure"];
    let untrusted = ["--oci-auth-file", written];
    let plain = ["--oci-auth-file", written, "--oci-tls", "off"];
    let logins = [
        Login {
            variables: &[],
            more: &in_file,
            code: 0,
            texts: &["credentials: accepted", "skopeo.json"],
        },
        Login {
            variables: &[("REGISTRY_AUTH_FILE", written)],
            more: &trusted,
            code: 0,
            texts: &["accepted"],
        },
        Login {
            variables: &[("DOCKER_CONFIG", docker.to_str().unwrap())],
            more: &trusted,
            code: 0,
            texts: &["docker/config.json"],
        },
        Login {
            variables: &[("OCI_PASSWORD", password)],
            more: &own,
            code: 0,
            texts: &["from OCI_USERNAME"],
        },
        Login {
            variables: &[("OCI_PASSWORD", "wrong-password")],
            more: &own,
            code: 6,
            texts: &["credentials are refused", "skopeo login"],
        },
        Login { variables: &[], more: &own, code: 2, texts: &["without `OCI_PASSWORD`"] },
        Login {
            variables: &[],
            more: &trusted,
            code: 6,
            texts: &["none were found for it", "skopeo login"],
        },
        Login {
            variables: &[("REGISTRY_AUTH_FILE", &helper)],
            more: &trusted,
            code: 6,
            texts: &["`docker-credential-desktop`", "OCI_AUTH_FILE"],
        },
        Login {
            variables: &[("REGISTRY_AUTH_FILE", &broken)],
            more: &trusted,
            code: 2,
            texts: &["has no credentials"],
        },
        Login {
            variables: &[("REGISTRY_AUTH_FILE", missing.to_str().unwrap())],
            more: &trusted,
            code: 2,
            texts: &["missing.json", "correct REGISTRY_AUTH_FILE"],
        },
        Login {
            variables: &[],
            more: &untrusted,
            code: 7,
            texts: &["is not trusted", "OCI_CA_FILE"],
        },
        Login { variables: &[], more: &insecure, code: 0, texts: &["is not verified", "accepted"] },
        Login { variables: &[], more: &plain, code: 6, texts: &["the registry refuses it"] },
    ];
    judge_logins(&registry, &sandbox, &logins, &[password, "wrong-password", "broken-secret"]);
    // A build over TLS with a password, whose locations are absolute URLs.
    let reference = format!("{address}/team/private:1");
    let run = build(&sandbox, &reference, &[&in_file[..], &["--oci-chunk-size", "1MiB"]].concat());
    run.succeeded();
    registry.holds(run.member("image_id").as_str().unwrap(), "qcow2", &raw(&sandbox));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn tokens_are_requested_with_passwords_and_refresh_tokens_and_must_permit_pushing() {
    let Some(registry) = OciRegistry::start("token", &[]) else { return };
    let sandbox = sandbox();
    let (address, refresh) = (registry.address(), registry.text("refresh_token"));
    let identity = auth_file(
        &sandbox,
        "identity.json",
        &json!({"auths": {address: {"identitytoken": refresh}}}),
    );
    let stale = auth_file(
        &sandbox,
        "stale.json",
        &json!({"auths": {address: {"identitytoken": "ended-token"}}}),
    );
    let other = auth_file(
        &sandbox,
        "other.json",
        &json!({"auths": {format!("{address}/other"): {"identitytoken": refresh}}}),
    );
    let nested = auth_file(
        &sandbox,
        "nested.json",
        &json!({"auths": {format!("{address}/team"): {"identitytoken": refresh}}}),
    );
    let as_user = |user| ["--oci-username", user];
    let password = |user: &'static str| [("OCI_PASSWORD", registry.password(user))];
    let logins = [
        Login {
            variables: &password("builder"),
            more: &as_user("builder"),
            code: 0,
            texts: &["permits pull, push"],
        },
        Login {
            variables: &password("reader"),
            more: &as_user("reader"),
            code: 6,
            texts: &["does not permit pushing to `team/private`"],
        },
        Login {
            variables: &[("OCI_PASSWORD", "wrong-password")],
            more: &as_user("builder"),
            code: 6,
            texts: &["request a token", "credentials are refused"],
        },
        Login {
            variables: &[],
            more: &["--oci-auth-file", &identity],
            code: 0,
            texts: &["pull, push"],
        },
        Login {
            variables: &[],
            more: &["--oci-auth-file", &nested],
            code: 0,
            texts: &["pull, push"],
        },
        Login {
            variables: &[],
            more: &["--oci-auth-file", &stale],
            code: 6,
            texts: &["may have ended"],
        },
        Login {
            variables: &[],
            more: &["--oci-auth-file", &other],
            code: 6,
            texts: &["none were found for it"],
        },
    ];
    let secrets = [
        registry.password("builder"),
        registry.password("reader"),
        refresh,
        "wrong-password",
        "ended-token",
    ];
    judge_logins(&registry, &sandbox, &logins, &secrets);
    let run =
        build(&sandbox, &format!("{address}/team/private:1"), &["--oci-auth-file", &identity]);
    run.succeeded();
    registry.holds(run.member("image_id").as_str().unwrap(), "qcow2", &raw(&sandbox));
    assert!(!run.stderr.contains(refresh), "{}", run.stderr);
}

#[test]
fn a_dry_run_changes_nothing_and_a_registry_that_is_none_is_named() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = sandbox();
    let storage = || tool(sandbox.path(), &["find", registry.text("storage"), "-type", "f"]);
    let before = storage();
    let reference = format!("{}/team/disk:1", registry.address());
    let plan = [&["plan", "--check"], &args(&reference, &[])[..]].concat();
    let run = sandbox.run(&plan);
    run.succeeded();
    assert!(
        run.stdout.contains("ok      registry") && run.stdout.contains("tag `1`"),
        "{}",
        run.stdout
    );
    assert_eq!(storage(), before);
    let proxy =
        build_image_fault_proxy::start(&build_image_fault_proxy::Options::new(registry.url()))
            .unwrap();
    proxy.set_rules(r#"[{"fault": {"skew_seconds": 4000}}]"#).unwrap();
    let elsewhere = format!("{}/team/disk:1", proxy.url().strip_prefix("https://").unwrap());
    let trusted = ["--oci-ca-file", proxy.ca_file().unwrap().to_str().unwrap()];
    let run = sandbox.run(&[&["plan", "--check"], &args(&elsewhere, &trusted)[..]].concat());
    assert!(run.stdout.contains("s behind that of the registry"), "{}", run.stdout);
    for (reference, code, texts) in [
        ("127.0.0.1:9/team/disk:1", 7, &["no connection to `127.0.0.1:9`"][..]),
        ("team/disk:1", 2, &["does not begin with a registry", "registry.example.com/team/disk"]),
        ("registry.example.com/Team/disk", 2, &["`Team/disk` is not a repository"]),
    ] {
        let run = sandbox.run(&[&["plan", "--check"], &args(reference, &[])[..]].concat());
        let shown = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, code, "{shown}");
        assert!(texts.iter().all(|text| shown.contains(text)), "{shown}");
    }
}

/// A command that lists what the registry stores: uploads, tags, and manifests.
pub(crate) fn inventory(sandbox: &Sandbox, registry: &OciRegistry) -> String {
    let repository = "docker/registry/v2/repositories/conformance/disk";
    let directory = format!("{}/{repository}", registry.text("storage"));
    let script = sandbox.write(
        "inventory.sh",
        &format!("cd '{directory}' 2>/dev/null || exit 0\nls -d _uploads/*/startedat _manifests/tags/*/current/link _manifests/revisions/sha256/*/link 2>/dev/null\nexit 0\n"),
    );
    format!("sh '{}'", script.display())
}

#[test]
fn the_provider_keeps_the_contract_with_a_real_registry() {
    let Some(registry) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = Sandbox::new();
    let reference = format!("{}/conformance/disk", registry.address());
    sandbox.write("config.yml", &format!("OCI_REFERENCE: {reference}\nOCI_RETRY_TIME: 0\n"));
    let inventory = inventory(&sandbox, &registry);
    let file = plugin_directory().join(build_image_plugin_api::plugin_file_name("oci"));
    let file = file.to_str().unwrap();
    let mut ways: Vec<&[&str]> = vec![&[]];
    ways.extend(std::env::var_os("BUILD_IMAGE_SOAK_OCI").is_some().then_some(&["--isolate"][..]));
    for more in ways {
        let args = [&[file, "--config", "config.yml", "--inventory", &inventory], more].concat();
        let (code, report) = report(&sandbox, &args, &[]);
        assert!(with_verdict(&report, "fail").is_empty(), "{report:#}");
        assert_eq!((code, unchecked(&report)), (0, vec!["stub".to_owned()]), "{report:#}");
    }
    assert_eq!(
        (registry.tags("conformance/disk"), registry.uploads("conformance/disk")),
        ([].into(), 0)
    );
}

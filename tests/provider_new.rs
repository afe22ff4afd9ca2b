//! Runs `build-image providers new` as an author does, from nothing to a working provider.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use build_image_plugin_api::plugin_file_name;

use crate::{
    harness::{PATIENCE, Run, Sandbox, built, cargo, names, needs, needs_python, root, tool},
    provider_check::{report, unchecked, with_verdict},
    provider_faults::HttpCloud,
};

fn succeeded(what: &str, output: &std::process::Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}:\n{out}\n{err}");
    out
}

#[test]
fn a_new_provider_builds_passes_its_tests_and_publishes_a_disk() {
    let sandbox = Sandbox::new();
    let sdk = root().join("plugin-api");
    let args = ["providers", "new", "acme", "--path", "made", "--sdk", sdk.to_str().unwrap()];
    let stdout = succeeded("new", &sandbox.command(&args).output().unwrap());
    assert!(stdout.contains("cargo build --release"), "{stdout}");
    let directory = sandbox.path().join("made/build-image-provider-acme");
    let mut lap = Instant::now();
    let mut took = |what: &str| {
        eprintln!("{what}: {:.1} s", lap.elapsed().as_secs_f32());
        lap = Instant::now();
    };
    let tests = succeeded("cargo test", &cargo(&directory, &["test"]));
    took("cargo test");
    for test in [
        "an_image_has_the_disk_and_the_tags_and_can_be_removed",
        "a_name_that_another_run_took_is_kept",
        "a_resumed_upload_sends_the_rest",
        "keeps_the_contract",
    ] {
        assert!(tests.contains(&format!("{test} ... ok")), "{tests}");
    }
    succeeded("cargo fmt", &cargo(&directory, &["fmt", "--check"]));
    // Without --release: reuses what the tests were built from.
    succeeded("cargo build", &cargo(&directory, &["build", "--quiet"]));
    took("cargo build");
    let plugins = sandbox.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let file = plugin_file_name("acme");
    fs::copy(built("debug", &file), plugins.join(&file)).unwrap();
    let disk = sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", disk.to_str().unwrap(), "-p", "acme", "--provider-dir", "plugins"];
    let chosen = ["--cloud-image-name", "web", "--image-tags", "[{owner: us}]"];
    let run = sandbox.run(&[&args[..], &chosen].concat());
    took("build-image");
    run.succeeded();
    assert_eq!(run.member("image_id"), "web");
    let image = sandbox.path().join("acme-images/web");
    assert!(fs::read(image.join("disk")).unwrap() == fs::read(&disk).unwrap(), "the bytes differ");
    let properties = fs::read_to_string(image.join("image.json")).unwrap();
    assert!(properties.contains(r#""owner":"us""#), "{properties}");
    // A composed name satisfies the rules of the description.
    let plan = sandbox.run(&[&["plan"], &args[..]].concat());
    assert!(plan.succeeded().stdout.starts_with("plan      image disk-"), "{}", plan.stdout);
    // The name is taken: the second build leaves the image as it is.
    sandbox.run(&[&args[..], &chosen].concat()).failed(6, &["an image `web` exists already"]);
    assert_eq!(fs::read_to_string(image.join("image.json")).unwrap(), properties);
    assert_eq!(names(image.parent().unwrap()), ["web"]);
}

#[test]
fn names_that_cannot_be_and_directories_that_are_there_are_refused() {
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let output = sandbox.command(&[&["providers", "new"], args].concat()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["acme"]).0, Some(0));
    for (args, text) in [
        (&["My-Cloud"][..], "hint: build-image providers new my_cloud"),
        (&["acme"], "`./build-image-provider-acme` exists already"),
        (&["other", "--sdk", "images"], "`images` is not the directory of build-image-plugin-api"),
    ] {
        let (code, errors) = run(args);
        assert!(code == Some(2) && errors.contains(text), "{args:?}: {errors}");
    }
    assert!(!sandbox.path().join("build-image-provider-other").exists());
    let manifest = fs::read_to_string(sandbox.path().join("build-image-provider-acme/Cargo.toml"));
    let version = build_image_plugin_api::ABI_VERSION;
    let dependency = format!("build-image-plugin-api = {{ version = \"{version}\" }}");
    assert!(manifest.unwrap().contains(&dependency));
}

/// Rows that do not apply to the new programs.
const OF_LIBRARIES: [&str; 4] = ["symbols", "libraries", "unwind", "stub"];

/// Creates a provider in a language; returns its file.
fn program(sandbox: &Sandbox, language: &str) -> String {
    let args = ["providers", "new", "tin", "--path", language, "--language", language];
    let next = succeeded("new", &sandbox.command(&args).output().unwrap());
    assert!(next.contains("providers check ./build-image-provider-tin -c test.yml"), "{next}");
    let directory = sandbox.path().join(language).join("build-image-provider-tin");
    assert_eq!(names(&directory), ["README.md", "build-image-provider-tin", "test.yml"]);
    directory.join("build-image-provider-tin").display().to_string()
}

#[test]
fn new_programs_keep_the_contract_with_a_directory_and_with_a_service() {
    if !needs_python() || !needs(&["jq", "curl"]) {
        return;
    }
    thread::scope(|scope| {
        for language in ["bash", "python"] {
            scope.spawn(move || {
                let (sandbox, cloud) = (Sandbox::new(), HttpCloud::start());
                let file = program(&sandbox, language);
                // Nothing fails without settings; most steps need a cloud.
                let (code, dry) = report(&sandbox, &[&file], &[]);
                assert_eq!((code, with_verdict(&dry, "fail")), (0, vec![]), "{language}: {dry:#}");
                let store = sandbox.path().join("store");
                fs::create_dir(&store).unwrap();
                sandbox.write("d.yml", &format!("TIN_DIRECTORY: {}\n", store.display()));
                let store = store.display();
                let tags = format!("find '{store}' -name image.json -exec cat {{}} +");
                let listing = format!("ls -A '{store}'; {tags}");
                let args = [file.as_str(), "-c", "d.yml", "--inventory", &listing];
                let (code, local) = report(&sandbox, &args, &[]);
                assert_eq!(with_verdict(&local, "fail"), [""; 0], "{language}: {local:#}");
                assert_eq!(unchecked(&local), OF_LIBRARIES, "{language}: {local:#}");
                assert_eq!(
                    (code, fs::read_dir(sandbox.path().join("store")).unwrap().count()),
                    (0, 0)
                );
                let service = format!("TIN_ENDPOINT: {}\nTIN_KEY: not-a-real-key\n", cloud.url);
                sandbox.write("h.yml", &service);
                let args = [&file, "-c", "h.yml", "--faults", "TIN_ENDPOINT", "--inventory"];
                let (code, remote) =
                    report(&sandbox, &[&args[..], &[&cloud.listing()]].concat(), &[]);
                assert_eq!(with_verdict(&remote, "fail"), [""; 0], "{language}: {remote:#}");
                assert_eq!(unchecked(&remote), OF_LIBRARIES, "{language}: {remote:#}");
                assert_eq!(code, 0);
            });
        }
    });
}

/// An upload of a new program that was killed is continued where the service has its bytes.
#[test]
fn a_new_program_continues_an_upload_to_a_service() {
    if !needs_python() || !needs(&["jq", "curl"]) {
        return;
    }
    for language in ["bash", "python"] {
        let (sandbox, cloud) = (Sandbox::new(), HttpCloud::start());
        let file = program(&sandbox, language);
        let disk = sandbox.disk("disk.raw", 24, 24);
        let disk = disk.to_str().unwrap();
        sandbox.write("h.yml", &format!("TIN_ENDPOINT: {}\nTIN_KEY: not-a-real-key\n", cloud.url));
        let step = |words: &[&str], failpoint: Option<&str>| {
            let mut command = sandbox.command(&["providers", "run-step", &file]);
            command.args(words).args(["-c", "h.yml", "--state", "state", "--raw", disk]);
            command.envs(failpoint.map(|point| ("BUILD_IMAGE_FAILPOINT", point)));
            Run::of(&command.output().unwrap(), None)
        };
        assert_ne!(step(&["upload"], Some("after:checkpoint")).code, 0);
        let resumed = step(&["upload"], None);
        assert_eq!(resumed.code, 0, "{language}: {}", resumed.stderr);
        assert!(
            !resumed.stderr.contains("not-a-real-key")
                && !resumed.stdout.contains("not-a-real-key")
        );
        let answer: serde_json::Value = serde_json::from_str(&resumed.stdout).unwrap();
        let (sent, whole) = (answer["bytes_sent"].as_u64().unwrap(), 24 << 20);
        assert!(sent > 0 && sent < whole, "{language}: {sent} bytes were sent again");
        assert_eq!(step(&["register"], None).code, 0);
        assert_eq!(step(&["discard"], None).code, 0);
        let listed = tool(sandbox.path(), &["curl", "-s", &format!("{}/list", cloud.url)]);
        assert_eq!(listed, "", "{language}");
    }
}

/// Passes requests on to a service, and withholds the answer to the one of this number; the URL, and a receiver that returns
/// when the service has answered it.
fn withholding(service: &str, number: usize) -> (String, Receiver<()>, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = service.trim_start_matches("http://").to_owned();
    let ((answered, wait), (given_up, end)) = (channel(), channel());
    thread::spawn(move || {
        for (request, client) in listener.incoming().enumerate() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&service).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (answered, given_up) = (answered.clone(), given_up.clone());
            thread::spawn(move || {
                let sending = thread::spawn(move || std::io::copy(&mut from, &mut to));
                let mut start = [0; 1];
                if server.read_exact(&mut start).is_err() {
                    return;
                }
                if request == number {
                    let _ = answered.send(());
                    // Until the client gives up.
                    let _ = sending.join();
                    let _ = given_up.send(());
                    return;
                }
                let _ = client.write_all(&start);
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (url, wait, end)
}

/// Requests of a build: the name, the upload, its content, and the image.
const BEFORE_THE_RELEASE: usize = 4;

/// Interrupted at each of its requests, whose answer never arrives, a build removes what it created. Killed there, it
/// ends the request with it, and `gc` removes the rest.
#[test]
fn an_interrupted_build_of_a_new_program_leaves_nothing_at_a_service() {
    if !needs_python() || !needs(&["jq", "curl"]) {
        return;
    }
    for language in ["bash", "python"] {
        let (sandbox, cloud) = (Sandbox::new(), HttpCloud::start());
        let file = program(&sandbox, language);
        sandbox.disk("disk.raw", 4, 1);
        let signals = ["-INT", "-KILL"];
        for number in 0..BEFORE_THE_RELEASE * signals.len() {
            let signal = signals[number % 2];
            let (url, answered, given_up) = withholding(&cloud.url, number / 2);
            sandbox.write("h.yml", &format!("TIN_ENDPOINT: {url}\nTIN_KEY: not-a-real-key\n"));
            let build =
                ["--disk", "disk.raw", "--provider-file", &file, "-p", "tin", "-c", "h.yml"];
            let mut command = sandbox.command(&build);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            answered.recv_timeout(PATIENCE).unwrap();
            tool(sandbox.path(), &["kill", signal, &child.id().to_string()]);
            let output = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let case = format!("{language}, {signal} at request {}: {errors}", number / 2);
            given_up.recv_timeout(PATIENCE).unwrap();
            if signal == "-KILL" {
                assert_eq!(output.status.code(), None, "{case}");
                if number / 2 == BEFORE_THE_RELEASE - 1 {
                    // With the address of another place, which answers that it has nothing of that name.
                    let of_place = fs::read_to_string(sandbox.path().join("h.yml")).unwrap();
                    sandbox.write("h.yml", &of_place.replace(&url, &cloud.url));
                    let gc = sandbox.run(&["gc", "--yes"]);
                    assert!(
                        gc.code == 8 && gc.stderr.contains("it is at"),
                        "{case}: {}",
                        gc.stderr
                    );
                    sandbox.write("h.yml", &of_place);
                }
                sandbox.run(&["gc", "--yes"]).succeeded();
            } else {
                assert_eq!(output.status.code(), Some(130), "{case}");
            }
            let listed = tool(sandbox.path(), &["curl", "-s", &format!("{}/list", cloud.url)]);
            assert_eq!(listed, "", "{case}");
        }
    }
}

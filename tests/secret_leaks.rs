//! Plants secrets through every input and searches for them everywhere: in the output of a build, in every file
//! that it writes or leaves, and in the arguments and the environment of every program that it starts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use build_image_emulator_alibaba::{Account, Config};
use serde_json::json;

use crate::harness::{Answer, Sandbox, TinyIso, Web, needs, sandbox_walk, stand_in_qemu, tool};

/// Common text of all planted secrets.
const CANARY: &str = "kanarienvogel";

/// How the secret reaches the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    CommandLine,
    File,
    Environment,
    VendorEnvironment,
    Profile,
    VendorFile,
    Metadata,
    SecurityToken,
}

const INPUTS: [Input; 8] = [
    Input::CommandLine,
    Input::File,
    Input::Environment,
    Input::VendorEnvironment,
    Input::Profile,
    Input::VendorFile,
    Input::Metadata,
    Input::SecurityToken,
];

/// Id, secret and token. The emulator names a user by its key id; if the host does not know that id as a secret,
/// the log may contain it.
fn keys(input: Input) -> [String; 3] {
    let keys = ["id", "secret", "token"].map(|what| format!("{CANARY}-{what}-{input:?}"));
    match input {
        Input::CommandLine | Input::File | Input::Environment | Input::SecurityToken => keys,
        Input::VendorEnvironment | Input::Profile | Input::VendorFile | Input::Metadata => {
            let [_, secret, token] = keys;
            [format!("id-{input:?}"), secret, token]
        }
    }
}

/// A build that is searched for secrets.
struct Watch {
    sandbox: Sandbox,
    /// Files that the secret was planted in; they are not searched.
    planted: Vec<PathBuf>,
    words: Vec<String>,
    variables: Vec<(String, String)>,
    web: Option<Web>,
}

/// The metadata service of an instance whose role has these keys.
fn metadata(keys: String) -> Web {
    Web::start(move |request| match request.path.as_str() {
        "/latest/api/token" => Answer::file(request, format!("{CANARY}-instance").as_bytes()),
        "/latest/meta-data/ram/security-credentials/" => Answer::file(request, b"role"),
        "/latest/meta-data/ram/security-credentials/role" => Answer::file(request, keys.as_bytes()),
        _ => Answer::status(404),
    })
}

impl Watch {
    /// Without a cloud and without planted secrets.
    fn bare(sandbox: Sandbox) -> Self {
        Self { sandbox, planted: Vec::new(), words: Vec::new(), variables: Vec::new(), web: None }
    }

    /// An installation that ends in the cloud, with keys from this input; `wrong` keys are refused.
    fn new(input: Input, wrong: bool) -> Self {
        let [id, secret, token] = keys(input);
        let known = if wrong { "another".to_owned() } else { secret.clone() };
        let has_token = matches!(input, Input::SecurityToken | Input::Metadata);
        let account =
            Account { id: id.clone(), secret: known, token: has_token.then(|| token.clone()) };
        let accounts = [vec![account], Config::default().accounts].concat();
        let sandbox = Sandbox::with_cloud_of(Config { accounts, ..Config::default() });
        TinyIso::base().write(&sandbox.path().join("base.iso"));
        stand_in_qemu(&sandbox);
        let mut watch = Self::bare(sandbox);
        watch.plant(input, &id, &secret, &token);
        watch
    }

    fn plant(&mut self, input: Input, id: &str, secret: &str, token: &str) {
        let metadata_url;
        let mut rows: Vec<(&str, &str)> =
            vec![("ALIBABA_ACCESS_KEY_ID", ""), ("ALIBABA_ACCESS_KEY_SECRET", "")];
        match input {
            Input::CommandLine => {
                let args = ["--alibaba-access-key-id", id, "--alibaba-access-key-secret", secret];
                self.words.extend(args.map(str::to_owned));
            }
            Input::File => {
                rows = vec![("ALIBABA_ACCESS_KEY_ID", id), ("ALIBABA_ACCESS_KEY_SECRET", secret)];
            }
            Input::SecurityToken => {
                rows = vec![
                    ("ALIBABA_ACCESS_KEY_ID", id),
                    ("ALIBABA_ACCESS_KEY_SECRET", secret),
                    ("ALIBABA_SECURITY_TOKEN", token),
                ];
            }
            Input::Environment => {
                self.set("F5_ALIBABA_ACCESS_KEY_ID", id);
                self.set("F5_ALIBABA_ACCESS_KEY_SECRET", secret);
            }
            Input::VendorEnvironment => {
                self.set("ALIBABA_CLOUD_ACCESS_KEY_ID", id);
                self.set("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret);
            }
            Input::Profile => {
                let profile = json!({"name": "p", "mode": "AK", "access_key_id": id, "access_key_secret": secret});
                let text = json!({"current": "p", "profiles": [profile]}).to_string();
                self.write(".aliyun/config.json", &text);
                rows.push(("ALIBABA_PROFILE", "p"));
            }
            Input::VendorFile => {
                let text = format!(
                    "[default]\ntype = access_key\naccess_key_id = {id}\naccess_key_secret = {secret}\n"
                );
                self.write(".alibabacloud/credentials", &text);
            }
            Input::Metadata => {
                let keys = json!({
                    "AccessKeyId": id, "AccessKeySecret": secret, "SecurityToken": token,
                    "Expiration": "2099-01-01T00:00:00Z", "Code": "Success"
                });
                let web = metadata(keys.to_string());
                metadata_url = web.url("");
                self.web = Some(web);
                rows.push(("ALIBABA_METADATA_ENDPOINT", &metadata_url));
            }
        }
        let unset = |(key, value): &(&str, &str)| value.is_empty() && key.starts_with("ALIBABA_A");
        let rows: Vec<(&str, &str)> = rows.into_iter().filter(|row| !unset(row)).collect();
        let mut text = self.sandbox.config(&rows);
        if !rows.iter().any(|(key, _)| *key == "ALIBABA_ACCESS_KEY_ID") {
            let kept = text.lines().filter(|line| !line.starts_with("ALIBABA_ACCESS_KEY_"));
            text = kept.map(|line| format!("{line}\n")).collect();
        }
        self.write("config.yml", &text);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn write(&mut self, name: &str, text: &str) {
        let path = self.sandbox.write(name, text);
        self.planted.push(path);
    }

    fn build(&self, more: &[&str]) -> (Option<i32>, String) {
        let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu"];
        let common = ["-c", "config.yml", "-p", "alibaba", "--reuse", "--json"];
        let own: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let args = [&args[..], &common, &own, more].concat();
        self.run(&args)
    }

    /// Runs the program with every flag that makes it print more.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = self.sandbox.command(args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("F5_OUTPUT_JSON_FILE", self.sandbox.path().join("result.json"));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Searches for the secret in printed text and in everything below the directory.
    #[track_caller]
    fn find_nothing(&self, what: &str, printed: &str) -> usize {
        let _served = &self.web;
        assert!(!printed.contains(CANARY), "{what}: printed\n{printed}");
        let mut searched = 0;
        sandbox_walk(self.sandbox.path(), &mut |path| {
            if self.planted.iter().any(|planted| planted == path) || !path.is_file() {
                return;
            }
            searched += 1;
            if let Some(found) = found_in(path) {
                panic!("{what}: {} has …{found}…", path.display());
            }
        });
        searched
    }
}

/// Where a file, or its packed content, contains the secret. Of large sparse disks the first MiB is enough.
fn found_in(path: &Path) -> Option<String> {
    let zipped = path.extension().is_some_and(|end| end == "zip");
    let content = if zipped {
        tool(path.parent().unwrap(), &["unzip", "-p", path.to_str().unwrap()]).into_bytes()
    } else if path.metadata().unwrap().len() > 64 << 20 {
        let mut head = vec![0; 1 << 20];
        let file = fs::File::open(path).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0).unwrap();
        head
    } else {
        fs::read(path).unwrap()
    };
    let needle = CANARY.as_bytes();
    let place = content.windows(needle.len()).position(|window| window == needle)?;
    let around = &content[place.saturating_sub(200)..content.len().min(place + 80)];
    Some(String::from_utf8_lossy(around).into_owned())
}

#[test]
fn keys_from_every_input_are_found_nowhere() {
    if !needs(&["xorriso", "mkfifo", "dd", "unzip"]) {
        return;
    }
    let mut searched = 0;
    for input in INPUTS {
        let good = Watch::new(input, false);
        let (code, text) = good.build(&["--log-level", "trace"]);
        assert_eq!(code, Some(0), "{input:?}: {text}");
        let children = fs::read_to_string(good.sandbox.path().join("children")).unwrap();
        assert!(children.contains("-kernel"), "the installer was watched: {children}");
        searched += good.find_nothing(&format!("{input:?}, done"), &text);
        // Kept: the journal, checkpoints and records still exist.
        let emulator = good.sandbox.emulator.as_ref().unwrap();
        let refuse =
            r#"[{"operation":"ImportImage","action":{"status":403,"code":"Forbidden.RAM"}}]"#;
        emulator.set_faults(refuse).unwrap();
        let more = ["--log-level", "debug", "--on-failure", "keep", "--isolate"];
        let (code, text) = good.build(&more);
        assert_ne!(code, Some(0), "{input:?}: {text}");
        assert!(good.sandbox.files().iter().any(|name| name.ends_with("journal.jsonl")));
        searched += good.find_nothing(&format!("{input:?}, failed and kept"), &text);
        for args in [
            &["runs"][..],
            &["runs", "--json"],
            &[
                "plan",
                "-c",
                "config.yml",
                "-p",
                "alibaba",
                "-i",
                "base.iso",
                "-m",
                "ltm",
                "-b",
                "1",
            ],
        ] {
            searched += good.find_nothing(&format!("{input:?}, {args:?}"), &good.run(args).1);
        }
    }
    println!(
        "0 hits in {searched} files and all that was printed, for {} inputs: standard output and error, log at \
         debug and trace level, journal, records, result document, snapshot, serial logs, disk, words and \
         environment of qemu and of an isolated provider",
        INPUTS.len()
    );
}

#[test]
fn refused_keys_are_not_printed_either() {
    if !needs(&["xorriso", "mkfifo", "dd", "unzip"]) {
        return;
    }
    for input in [Input::CommandLine, Input::File, Input::Environment, Input::Profile] {
        let wrong = Watch::new(input, true);
        for level in ["debug", "trace"] {
            let (code, text) = wrong.build(&["--log-level", level]);
            assert_ne!(code, Some(0), "{input:?}: {text}");
            wrong.find_nothing(&format!("{input:?}, refused"), &text);
        }
    }
}

#[test]
fn secrets_of_other_providers_and_in_addresses_are_found_nowhere() {
    let key = json!({"project_id": "p", "private_key": CANARY}).to_string();
    for (platform, name, value, expected) in [
        ("gce", "GOOGLE_APPLICATION_CREDENTIALS", key.as_str(), 6),
        ("azure", "AZURE_STORAGE_CONNECTION_STRING", "AccountKey=kanarienvogel==", 6),
        ("azure", "AZURE_APPLICATION_SECRET", "kanarienvogel", 6),
        // Half a key pair, and a token without one, are refused before the long part.
        ("aws", "AWS_SECRET_ACCESS_KEY", "kanarienvogel", 2),
        ("aws", "AWS_SESSION_TOKEN", "kanarienvogel", 2),
    ] {
        let mut watch = Watch::bare(Sandbox::new());
        watch.sandbox.disk("disk.raw", 1024, 1);
        watch.set("AWS_EC2_METADATA_DISABLED", "true");
        watch.set(&format!("F5_{name}"), value);
        let args = ["--disk", "disk.raw", "-p", platform, "--log-level", "trace"];
        let (code, text) = watch.run(&[&args[..], &["--no-upload"]].concat());
        assert_eq!(code, Some(0), "{platform}: {text}");
        watch.find_nothing(name, &text);
        let (code, text) = watch.run(&args);
        assert_eq!(code, Some(expected), "{platform}: {text}");
        watch.find_nothing(name, &text);
    }
    // Passwords in URLs, of files and of proxies.
    let web = Web::start(|request| Answer::file(request, b"no disk"));
    // Also when followed by characters that end a URL in a sentence.
    for (disk, proxy, before) in [
        (true, false, ""),
        (true, false, "a,"),
        (true, false, "a'"),
        (true, false, "a[]"),
        (true, false, "{a}"),
        (false, true, ""),
    ] {
        let mut watch = Watch::bare(Sandbox::new());
        let user = format!("http://user:{before}{CANARY}@");
        let address = web.url("/disk.raw").replace("http://", &user);
        if proxy {
            watch.set("http_proxy", &address);
        }
        let from = if disk { address } else { "http://192.0.2.1/disk.raw".to_owned() };
        let (code, text) = watch.run(&[
            "--disk",
            &from,
            "-p",
            "qcow2",
            "--log-level",
            "trace",
            "--on-failure",
            "keep",
        ]);
        assert_ne!(code, Some(0), "{text}");
        watch.find_nothing("an address", &text);
    }
}

/// Every user of a host can list the arguments of its programs.
#[test]
fn a_secret_is_warned_of_where_other_users_can_read_it() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let without = sandbox.config(&[]).replace("ALIBABA_ACCESS_KEY_SECRET: ", "# ");
    sandbox.write("open.yml", &without);
    let secret = format!("--alibaba-access-key-secret={CANARY}");
    let warning = "other users of this host can read the value of --alibaba-access-key-secret";
    for (platforms, args, variable, expected) in [
        ("alibaba", vec!["-c", "open.yml", &secret], None, true),
        // Once, not per target.
        ("alibaba,qcow2", vec!["-c", "open.yml", &secret], None, true),
        ("alibaba", vec!["-c", "open.yml"], Some(CANARY), false),
        ("alibaba", vec!["-c", "config.yml"], None, false),
        ("alibaba,qcow2", vec!["-c", "config.yml"], None, false),
    ] {
        let build = ["plan", "--disk", "disk.raw", "-p", platforms];
        let mut command = sandbox.command(&[&build[..], &args].concat());
        command.envs(variable.map(|secret| ("F5_ALIBABA_ACCESS_KEY_SECRET", secret)));
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        let warned = errors.matches(warning).count();
        assert_eq!(warned, usize::from(expected), "{platforms} {args:?}: {errors}");
        assert_eq!(errors.contains("F5_ALIBABA_ACCESS_KEY_SECRET"), expected, "{args:?}: {errors}");
        assert!(!errors.contains(CANARY), "{args:?}: {errors}");
    }
}

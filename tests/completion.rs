//! Checks completions in the real shells: what is offered, what is inserted, and that nothing is run or evaluated.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Published, Sandbox, TRUST, needs, root, script};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A user with a completion script for each shell.
struct User {
    sandbox: Sandbox,
}

impl User {
    /// `None` if a shell is not installed.
    fn new() -> Option<Self> {
        needs(&["python3", "bash", "zsh", "fish"]).then(|| {
            let user = Self { sandbox: Sandbox::new() };
            user.generate();
            user
        })
    }

    fn generate(&self) {
        for shell in SHELLS {
            let run = self.sandbox.run(&["completions", shell]);
            self.sandbox.write(&format!("scripts/{shell}"), &run.succeeded().stdout);
        }
    }

    /// A shell of this user, in whose PATH the program is.
    fn command(&self, program: &Path) -> Command {
        let of_program = self.sandbox.command(&[]);
        let mut command = Command::new(program);
        command.current_dir(self.sandbox.path()).env_clear();
        for (name, value) in of_program.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let directory = PathBuf::from(of_program.get_program()).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", directory.display()));
        command
    }

    /// What the terminal shows when Tab is pressed behind a line, and the words of the line then.
    fn press_tab(&self, shell: &str, line: &str) -> (String, Vec<String>) {
        let script = format!("scripts/{shell}");
        let mut command = self.command(&root().join("tests/completion/press-tab"));
        let output = command.args([shell, &script, line]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell}: {line}: {errors}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let words = found["words"].as_array().unwrap().iter();
        let words = words.map(|word| word.as_str().unwrap().to_owned()).collect();
        (found["screen"].as_str().unwrap().to_owned(), words)
    }

    /// What is offered behind a line that several words can continue, without descriptions.
    fn offered(&self, shell: &str, line: &str) -> Vec<String> {
        if shell == "fish" {
            let script = format!("source scripts/fish; complete -C '{line}'");
            let mut command = self.command(Path::new("fish"));
            let output = command.args(["--no-config", "-c", &script]).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && errors.is_empty(), "{line}: {errors}");
            let text = String::from_utf8(output.stdout).unwrap();
            return text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
        }
        let (screen, _) = self.press_tab(shell, line);
        let described = shell == "zsh" && !line.contains("disk") && !line.contains("dir");
        let lines = screen.lines().skip(1).filter(|line| !line.contains("printf"));
        if described {
            return lines
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect();
        }
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    }

    /// The words of a line that has one continuation.
    #[track_caller]
    fn assert_completes(&self, line: &str, words: &[&str]) {
        for shell in SHELLS {
            let (screen, found) = self.press_tab(shell, line);
            assert_eq!(found, words, "{shell}: {line}: {screen}");
        }
    }
}

#[test]
fn shells_complete_commands_flags_and_values() {
    let Some(user) = User::new() else { return };
    for (line, last) in [
        ("build-image run", "runs"),
        ("build-image --alibaba-buck", "--alibaba-bucket"),
        ("build-image plan --che", "--check"),
        ("build-image --platform qco", "qcow2"),
        ("build-image --platform=qco", "--platform=qcow2"),
        ("build-image -p qcow2,vmw", "qcow2,vmware"),
        ("build-image providers insp", "inspect"),
        ("build-image providers inspect qco", "qcow2"),
        ("build-image providers --json inspect qco", "qcow2"),
        ("build-image help settings IMAGE_DI", "IMAGE_DIR"),
        ("build-image help settings ALIBABA_BUC", "ALIBABA_BUCKET"),
        ("build-image help sett", "settings"),
        ("build-image --log-level deb", "debug"),
        ("build-image completions zs", "zsh"),
    ] {
        let mut words: Vec<&str> = line.split(' ').collect();
        *words.last_mut().unwrap() = last;
        user.assert_completes(line, &words);
    }
}

#[test]
fn an_empty_line_offers_commands_and_the_main_flags() {
    let Some(user) = User::new() else { return };
    for shell in SHELLS {
        let offered = user.offered(shell, "build-image ");
        for word in ["plan", "resume", "providers", "--platform", "--disk", "--config-file"] {
            assert!(offered.iter().any(|one| one == word), "{shell}: {word}: {offered:?}");
        }
        assert!(offered.len() < 40, "{shell}: {offered:?}");
        let all = user.offered(shell, "build-image --");
        assert!(all.len() > 100, "{shell}: {all:?}");
        let levels = user.offered(shell, "build-image --log-level ");
        assert!(levels.iter().any(|word| word == "info"), "{shell}: {levels:?}");
        assert!(!levels.iter().any(|word| word == "INFO"), "{shell}: {levels:?}");
    }
}

#[test]
fn files_are_offered_by_their_kind() {
    let Some(user) = User::new() else { return };
    for file in ["a.qcow2", "b.img.xz", "my disk.raw", "notes.txt", "c.yml", "x.iso", "sub/y.vmdk"]
    {
        user.sandbox.write(file, "");
    }
    for shell in SHELLS {
        for (line, wanted, unwanted) in [
            ("build-image --disk ", &["a.qcow2", "b.img.xz", "sub/"][..], &["c.yml"][..]),
            ("build-image --disk sub/", &["y.vmdk"], &["notes.txt"]),
            ("build-image --image-dir ", &["sub/", "scripts/"], &["a.qcow2", "c.yml"]),
        ] {
            let line = if line.ends_with("sub/") { "build-image --disk sub/y" } else { line };
            let is_list = line.ends_with(' ');
            let (screen, words) = if is_list {
                (user.offered(shell, line).join("\n"), vec![])
            } else {
                user.press_tab(shell, line)
            };
            let seen = if is_list { screen } else { words.join("\n") };
            for name in wanted {
                assert!(seen.contains(name), "{shell}: {line}: {name}: {seen}");
            }
            for name in unwanted {
                assert!(!seen.contains(name), "{shell}: {line}: {name}: {seen}");
            }
        }
    }
    user.assert_completes("build-image --disk my", &["build-image", "--disk", "my disk.raw"]);
    user.assert_completes("build-image --disk=sub/y", &["build-image", "--disk=sub/y.vmdk"]);
    user.assert_completes("build-image inspect a.q", &["build-image", "inspect", "a.qcow2"]);
    user.assert_completes("build-image -c c", &["build-image", "-c", "c.yml"]);
    user.assert_completes("build-image -i x", &["build-image", "-i", "x.iso"]);
    // A file of another kind is found when nothing else fits.
    user.assert_completes("build-image --disk no", &["build-image", "--disk", "notes.txt"]);
}

/// Run ids are names of directories, which anyone who may write there chooses.
#[test]
fn runs_are_offered_and_hostile_names_are_not() {
    let Some(user) = User::new() else { return };
    let runs = user.sandbox.path().join("artifacts/runs");
    for name in [
        "20260101-000000-aaaa",
        "20260102-000000-bbbb",
        // Begins otherwise, so that shells list all of them at once.
        "named",
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned",
        "a\ntouch pwned",
        "\u{1b}[31mred",
        "-p",
    ] {
        fs::create_dir_all(runs.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("/", runs.join("link")).unwrap();
    for shell in SHELLS {
        let offered = user.offered(shell, "build-image resume ").join("\n");
        assert!(offered.contains("20260101-000000-aaaa"), "{shell}: {offered}");
        for text in ["pwned", "red", "link"] {
            assert!(!offered.contains(text), "{shell}: {offered}");
        }
        assert!(!offered.lines().any(|word| word == "-p"), "{shell}: {offered}");
    }
    let words = ["build-image", "resume", "20260102-000000-bbbb"];
    user.assert_completes("build-image resume 20260102", &words);
    for flag in ["--adopt", "--forget"] {
        let words = ["build-image", "gc", flag, "20260102-000000-bbbb"];
        user.assert_completes(&format!("build-image gc {flag} 20260102"), &words);
    }
    fs::create_dir_all(user.sandbox.path().join("elsewhere/runs/other-run")).unwrap();
    let line = "build-image resume --artifacts-dir elsewhere o";
    let words = ["build-image", "resume", "--artifacts-dir", "elsewhere", "other-run"];
    user.assert_completes(line, &words);
    assert!(!user.sandbox.path().join("pwned").exists());
}

#[test]
fn completions_run_no_provider_and_are_silent() {
    let Some(user) = User::new() else { return };
    let plugin = user.sandbox.write("plugins/build-image-provider-acme", &script("acme", "1.0.0"));
    fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = "a: [1\n";
    user.sandbox.write("broken.yml", text);
    let started = user.sandbox.path().join("ran");
    for shell in SHELLS {
        for (line, last) in [
            ("build-image --provider-dir plugins -p acm", "acme"),
            ("build-image -c broken.yml -p qco", "qcow2"),
            ("build-image -c missing.yml -p qco", "qcow2"),
            ("build-image --nonsense -Z -p qco", "qcow2"),
        ] {
            let (screen, words) = user.press_tab(shell, line);
            assert_eq!(words.last().map(String::as_str), Some(last), "{shell}: {line}: {screen}");
            assert!(!screen.contains("error"), "{shell}: {line}: {screen}");
        }
    }
    assert!(!started.exists());
    // Whatever the program is given, it says nothing on standard error.
    for words in
        [&[][..], &["complete"], &["--", ""], &["resume", "\u{1b}"], &["-p"], &["--x=", "="]]
    {
        let args = [&["complete-words"], words].concat();
        let run = user.sandbox.run(&args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
    }
}

/// `remove` offers what `install` installed, not all that is found.
#[test]
fn installed_providers_are_offered_for_removal() {
    if !needs(&["minisign"]) {
        return;
    }
    let published = Published::new();
    let mirror = published.mirror().display().to_string();
    published.run(&[&["install", &mirror][..], &TRUST].concat()).succeeded();
    published.forget_runs();
    for (verb, offered) in [
        ("remove", "words\nacme\t1.0.0\n"),
        ("verify", "words\nacme\t1.0.0\n"),
        ("inspect", "words\nacme\t\n"),
    ] {
        let run = published.sandbox.run(&["complete-words", "providers", verb, "ac"]);
        assert_eq!(run.succeeded().stdout, offered, "{verb}");
    }
    let run = published.sandbox.run(&["complete-words", "providers", "remove", "qco"]);
    assert_eq!(run.succeeded().stdout, "words\n");
    assert!(!published.ran());
}

/// The scripts for these shells have no values of their own and are made as before.
#[test]
fn other_shells_have_scripts_too() {
    let sandbox = Sandbox::new();
    for shell in ["elvish", "powershell"] {
        let run = sandbox.run(&["completions", shell]);
        assert!(run.succeeded().stdout.contains("alibaba-bucket"), "{shell}");
    }
}

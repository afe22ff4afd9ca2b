//! Checks `--disk -`: a disk arrives through a pipe as it was sent, whatever is around it; what cannot be used is refused;
//! nothing stays after an interrupt or a kill; a run is resumed only with the same disk.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::{
    concurrent_builds::is_equal,
    harness::{Run, Sandbox, needs, tool},
};

const LOCAL: [&str; 7] =
    ["--disk", "-", "-p", "qcow2", "--package", "none", "--output-json-file=result.json"];

/// Runs the program with a file in a pipe.
fn piped(sandbox: &Sandbox, file: &str, args: &[&str]) -> Run {
    let result = sandbox.path().join("result.json");
    let _ = fs::remove_file(&result);
    let mut cat = Command::new("cat");
    cat.arg(file).current_dir(sandbox.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut cat = cat.spawn().unwrap();
    let mut command = sandbox.command(args);
    let output = command.stdin(cat.stdout.take().unwrap()).output().unwrap();
    // It ends when no process can read the rest.
    drop(command);
    cat.wait().unwrap();
    let document = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Run::of(&output, document)
}

fn shell(sandbox: &Sandbox, line: &str) {
    tool(sandbox.path(), &["sh", "-c", line]);
}

/// What is sent: the command that writes it to `out`, further arguments, what is reported.
const SENT: [(&str, &[&str], &str); 11] = [
    ("cat disk.raw", &[], "12.00 MiB read"),
    ("qemu-img convert -c -O qcow2 disk.raw x && cat x", &[], "read"),
    ("qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw x && cat x", &[], "read"),
    ("gzip -1 -c disk.raw", &[], "read"),
    ("zstd -q -1 -c disk.raw", &[], "read"),
    ("xz -0 -c disk.raw", &[], "read"),
    ("tar -c other.img disk.raw", &["--disk-member", "disk.raw"], "`disk.raw` of "),
    ("tar -cz README disk.raw", &[], "`disk.raw` of "),
    ("tar -cSz --format=gnu disk.raw", &[], "`disk.raw` of "),
    ("zip -q -0 - disk.raw other.img", &["--disk-member", "disk.raw"], "`disk.raw` of "),
    ("zip -q -1 - disk.raw README", &[], "`disk.raw` of "),
];

#[test]
fn a_disk_from_a_pipe_is_the_disk_that_was_sent() {
    if !needs(&["sh", "cat", "qemu-img", "gzip", "zstd", "xz", "tar", "zip", "openssl"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let raw = sandbox.disk("disk.raw", 12, 2);
    sandbox.disk("other.img", 1, 1);
    sandbox.write("README", "text");
    shell(&sandbox, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key");
    shell(&sandbox, "openssl pkey -in key -pubout -out key.pub");
    for (line, more, reported) in SENT {
        shell(&sandbox, &format!("({line}) >out"));
        shell(&sandbox, "openssl dgst -sha256 -sign key -out sent.sig out");
        let digest = tool(sandbox.path(), &["sha256sum", "out"]);
        let digest = digest.split(' ').next().unwrap();
        let proofs = [
            "--disk-sha256",
            digest,
            "--disk-sig=sent.sig",
            "--disk-sig-public-key=key.pub",
            "--provenance-file=made.json",
        ];
        let run = piped(&sandbox, "out", &[&LOCAL[..], more, &proofs].concat());
        run.succeeded();
        for text in [reported, "DISK_SHA256 as expected", "signature verified with key.pub"] {
            assert!(run.stderr.contains(text), "{line}: {text} is missing in {}", run.stderr);
        }
        let statement = fs::read_to_string(sandbox.path().join("made.json")).unwrap();
        assert!(statement.contains(digest), "{line}: {statement}");
        fs::remove_file(sandbox.path().join("made.json")).unwrap();
        let image = PathBuf::from(run.member("file").as_str().unwrap());
        assert!(is_equal(&raw, &(image.clone(), "qcow2")), "{line}");
        assert!(!sandbox.path().join("artifacts").exists(), "{line}: {:?}", sandbox.files());
        fs::remove_file(image).unwrap();
    }
}

/// The command that writes what is sent, further arguments, exit code, parts of the message.
const REFUSED: [(&str, &[&str], i32, &[&str]); 14] = [
    ("true", &[], 4, &["`/dev/stdin` has 0 bytes"]),
    ("echo text", &[], 4, &["`/dev/stdin` is not recognised as a disk"]),
    ("gzip -c disk.raw | head -c 1000000", &[], 4, &["the gzip data ends too early in"]),
    ("zstd -qc disk.raw | head -c 1000000", &[], 4, &["the zstd data ends too early in"]),
    ("tar -c disk.raw | head -c 1000000", &[], 4, &["the tar data ends too early in"]),
    ("tar -c disk.raw other.img", &[], 4, &["more than one disk image", "--disk-member"]),
    ("zip -q - disk.raw other.img", &[], 4, &["more than one disk image", "--disk-member"]),
    (
        "qemu-img convert -O vmdk -o subformat=monolithicFlat disk.raw x && cat x",
        &[],
        4,
        &["only its descriptor was read from `/dev/stdin`"],
    ),
    (
        "cat disk.raw",
        &["--disk-sha256", "0000000000000000000000000000000000000000000000000000000000000000"],
        4,
        &["`/dev/stdin` is not the file DISK_SHA256 names"],
    ),
    ("cat disk.raw", &["--disk-sha256sums", "README"], 2, &["has no name to look up"]),
    (
        "cat disk.raw",
        &["--disk-sig-public-key", "key.pub"],
        2,
        &["no signature is beside standard input", "hint: name it with DISK_SIG"],
    ),
    (
        "cat disk.raw",
        &["--disk-sig", "README", "--disk-sig-public-key", "key.pub"],
        4,
        &["is not the file that was signed"],
    ),
    (
        "cat disk.raw",
        &["--disk-sig", "-", "--disk-sig-public-key=key.pub"],
        4,
        &["`-` is standard"],
    ),
    ("cat disk.raw", &["--disk-format", "qcow2"], 4, &["this is not a qcow2 image"]),
];

#[test]
fn what_is_not_a_disk_is_refused_and_nothing_stays() {
    if !needs(&["sh", "cat", "qemu-img", "gzip", "zstd", "tar", "zip", "openssl"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 2);
    sandbox.disk("other.img", 1, 1);
    sandbox.write("README", "text");
    shell(&sandbox, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key");
    shell(&sandbox, "openssl pkey -in key -pubout -out key.pub");
    for (line, more, code, texts) in REFUSED {
        shell(&sandbox, &format!("rm -rf x* images; ({line}) >out"));
        piped(&sandbox, "out", &[&LOCAL[..], more].concat()).failed(code, texts);
        for name in ["artifacts", "images/stdin.qcow2"] {
            assert!(!sandbox.path().join(name).exists(), "{line}: {:?}", sandbox.files());
        }
    }
    // An ISO is not read from a pipe.
    piped(&sandbox, "out", &["-i", "-", "-p", "qcow2"]).failed(4, &["ISO: `-` is standard input"]);
}

#[test]
fn a_terminal_is_refused_and_a_plan_reads_nothing() {
    if !needs(&["script"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut script = Command::new("script");
    let program = sandbox.command(&LOCAL);
    let line: Vec<&str> = std::iter::once(program.get_program())
        .chain(program.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    script.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(sandbox.path()).env_clear();
    script.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = script.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for part in ["DISK is `-`, but standard input is a terminal", "hint: pipe the disk into"] {
        assert!(text.contains(part), "{text}");
    }
    let disk = sandbox.disk("disk.raw", 4, 2);
    let mut file = File::open(disk).unwrap();
    for more in [&[][..], &["--json"]] {
        let mut command = sandbox.command(&[&["plan"], &LOCAL[..6], more].concat());
        let output = command.stdin(file.try_clone().unwrap()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("standard input"), "{text}");
        assert_eq!(file.stream_position().unwrap(), 0, "the plan read a part of the disk");
    }
}

/// Starts a build and sends it a part of a disk; returns when it reads.
fn begun(sandbox: &Sandbox) -> Child {
    let mut command = sandbox.command(&[&LOCAL[..], &["--progress", "plain"]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut disk = vec![7; 8 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    // The pipe holds less: most of it has been read when this returns.
    child.stdin.as_mut().unwrap().write_all(&disk).unwrap();
    child
}

fn ended(mut child: Child, signal: &str) -> (Option<i32>, String) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    // The writer still has its end of the pipe.
    let writer = child.stdin.take();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let code = child.wait().unwrap().code();
    drop(writer);
    (code, text)
}

#[test]
fn an_interrupt_ends_a_read_from_a_pipe_that_is_open_and_a_kill_leaves_no_disk() {
    let sandbox = Sandbox::new();
    for name in ["-INT", "-TERM"] {
        let (code, text) = ended(begun(&sandbox), name);
        assert_eq!(code, Some(130), "{name}: {text}");
        assert!(text.contains("error: interrupted"), "{name}: {text}");
        assert!(!sandbox.path().join("artifacts").exists(), "{name}: {:?}", sandbox.files());
    }
    ended(begun(&sandbox), "-KILL");
    let large = |name: &String| sandbox.path().join(name).metadata().unwrap().len() > 1 << 20;
    let left: Vec<String> = sandbox.files().into_iter().filter(large).collect();
    assert!(left.is_empty(), "{left:?}");
    sandbox.run(&["gc", "--yes"]).succeeded();
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn a_run_is_resumed_with_the_same_disk_only() {
    if !needs(&["cat"]) {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let cloud = state.path().join("cloud");
    let sandbox = Sandbox::with_cloud_of(Config {
        state: StateDir::Kept(cloud.clone()),
        ..Config::default()
    });
    let disk = sandbox.disk("disk.raw", 16, 4);
    let emulator = sandbox.emulator.as_ref().unwrap();
    // The third call is the first that is not a check: the check runs again when the disk is known.
    let refuse = r#"[{"operation":"ImportImage","nth":3,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let args = ["--disk", "-", "-c", "config.yml", "-p", "alibaba", "--on-failure", "keep"];
    piped(&sandbox, "disk.raw", &args).failed(6, &["QuotaExceed.Image"]);
    assert_eq!(emulator.status()["objects"], 1, "the upload is complete");
    emulator.set_faults("[]").unwrap();
    sandbox.disk("other.raw", 16, 5);
    let resume = ["resume", "--output-json-file=result.json"];
    let other = "standard input does not hold the disk that run";
    piped(&sandbox, "other.raw", &resume).failed(4, &[other, "hint: pipe the same bytes again"]);
    piped(&sandbox, "/dev/null", &resume).failed(4, &["`/dev/stdin` has 0 bytes"]);
    piped(&sandbox, "disk.raw", &["resume", "--disk", "disk.raw"]).failed(2, &["DISK was `-`"]);
    assert_eq!(emulator.status()["objects"], 1, "the refused resumes kept the upload");
    let run = piped(&sandbox, "disk.raw", &resume);
    let image = run.succeeded().member("image_id").as_str().unwrap();
    assert_eq!(run.member("bytes_sent"), 0, "nothing is sent again");
    let exported = state.path().join("exported.raw");
    Stored::open(&cloud).unwrap().export(image, &exported).unwrap();
    assert!(fs::read(&exported).unwrap() == fs::read(&disk).unwrap());
    sandbox.cloud_has_only(1);
}

//! Checks a hotfix on top of a base ISO: whose metadata counts, and which hotfix fits which base.

use crate::harness::{Run, Sandbox, TinyIso, needs_qemu};

fn plan(sandbox: &Sandbox) -> Run {
    let args = ["plan", "-i", "base.iso", "-e", "fix.iso", "-p", "qcow2", "-m", "ltm", "-b", "1"];
    sandbox.run(&args)
}

#[test]
fn names_and_facts_are_those_of_the_hotfix() {
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    // A hotfix is read from its Rock Ridge tree alone.
    TinyIso::hotfix().options(&["-r"]).write(&sandbox.path().join("fix.iso"));
    std::fs::create_dir(sandbox.path().join("images")).unwrap();
    let run = plan(&sandbox);
    run.succeeded();
    for text in ["Hotfix-BIGIP-15.0.0-0.0.44.LTM_1SLOT.qcow2", "fix.iso", "build 0.0.44"] {
        assert!(run.stdout.contains(text), "`{text}` is missing in\n{}", run.stdout);
    }
    let args = ["plan", "-i", "base.iso", "-e", "fix.iso", "-c", "config.yml"];
    let run =
        sandbox.run(&[&args[..], &["-p", "alibaba", "-m", "ltm", "-b", "1", "--verbose"]].concat());
    run.succeeded();
    for text in [
        "F5-Hotfix-BIGIP-15-0-0-0-0-44-BYOL-ltm-1slot-",
        "version_build: 0.0.44",
        "version_basebuild: 0.0.39",
    ] {
        assert!(run.stdout.contains(text), "`{text}` is missing in\n{}", run.stdout);
    }
}

//! Runs builds of one name at once for a real Glance, and resumes and collects killed ones beside images and credentials
//! of others. `seams` kills at every line of the journal.

use std::{fs, path::Path, process::Stdio};

use serde_json::json;

use crate::{
    build_openstack::{BUILDER, build, foreign, sandbox},
    harness::{OpenStack, Run, Sandbox, tool, until},
};

#[test]
fn builds_of_one_name_at_once_leave_a_visible_image_and_no_older_one() {
    let Some(cloud) = OpenStack::shared() else { return };
    for if_exists in ["hide", "replace"] {
        let name = format!("at-once-{if_exists}");
        let older = foreign(cloud, BUILDER, &name, &json!({}));
        let sandboxes = [(); 3].map(|()| sandbox(cloud, &[("OPENSTACK_IF_EXISTS", if_exists)]));
        let children = sandboxes.each_ref().map(|sandbox| {
            let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
            let mut command =
                sandbox.command(&[&words[..], &["--cloud-image-name", &name]].concat());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in children {
            let run = Run::of(&child.wait_with_output().unwrap(), None);
            assert_eq!(run.code, 0, "{if_exists}: {}", run.stderr);
        }
        let images = cloud.images(&name, "builders");
        let visible: Vec<_> = images.iter().filter(|image| image["os_hidden"] == false).collect();
        assert!(!visible.is_empty(), "{if_exists}: {images:#?}");
        assert!(visible.iter().all(|image| image["id"] != older), "{if_exists}: {images:#?}");
        for image in visible {
            cloud.holds(image["id"].as_str().unwrap(), &sandboxes[0].path().join("disk.raw"));
        }
        for sandbox in &sandboxes {
            assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
        }
    }
}

#[test]
fn an_older_image_that_another_client_is_deleting_is_not_in_the_way() {
    let Some(cloud) = OpenStack::shared() else { return };
    for (at, point) in ["after:hidden_image", "after:products_released"].into_iter().enumerate() {
        let name = format!("being-deleted-{at}");
        let older = foreign(cloud, BUILDER, &name, &json!({}));
        let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "replace")]);
        let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
        let mut command = sandbox.command(&[&words[..], &["--cloud-image-name", &name]].concat());
        let killed = command.env("BUILD_IMAGE_FAILPOINT", point).output().unwrap();
        assert!(!killed.status.success(), "{point}");
        // What the service has while it deletes an image: it saves the status, then deletes the record.
        let statement = format!("UPDATE images SET status = 'deleted' WHERE id = '{older}'");
        in_database(cloud, &sandbox, &statement);
        let (status, answer) = cloud.call(BUILDER, "DELETE", &format!("/v2/images/{older}"), "");
        assert_eq!(status, 400, "{answer}");
        let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        sandbox.run(&["resume", listed["runs"][0]["id"].as_str().unwrap()]).succeeded();
        assert!(!sandbox.path().join("artifacts").exists(), "{point}: {:?}", sandbox.files());
    }
}

#[test]
fn an_image_that_was_created_later_stays_visible() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "replace")]);
    let name = "created-later";
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
    let mut command = sandbox.command(&[&words[..], &["--cloud-image-name", name]].concat());
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:resource_created").output().unwrap();
    assert!(!killed.status.success());
    // The service shows whole seconds.
    let second = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let begun = second();
    until("the next second", || second() > begun);
    let later = foreign(cloud, BUILDER, name, &json!({}));
    let before = cloud.image(&later);
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let run = sandbox.run(&["resume", listed["runs"][0]["id"].as_str().unwrap()]);
    run.succeeded();
    let text = format!("image `{later}` of the same name was created later");
    assert!(run.stderr.contains(&text), "{}", run.stderr);
    assert_eq!(cloud.image(&later), before);
}

/// Runs a statement in the database of Glance.
fn in_database(cloud: &OpenStack, sandbox: &Sandbox, statement: &str) {
    const RUN: &str = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60); c.execute(sys.argv[2]); c.commit()";
    let database = format!("{}/glance.db", cloud.text("/directory"));
    tool(sandbox.path(), &["python3", "-c", RUN, &database, statement]);
}

#[test]
fn an_active_image_is_described_when_its_import_has_ended() {
    let Some(cloud) = OpenStack::shared() else { return };
    let settings = [("OPENSTACK_UPLOAD_METHOD", "import"), ("OPENSTACK_PROTECTED", "true")];
    let sandbox = sandbox(cloud, &settings);
    let name = "import-in-progress";
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
    let mut command = sandbox.command(&[&words[..], &["--cloud-image-name", name]].concat());
    let killed = command.env("BUILD_IMAGE_FAILPOINT", r#"after:"sent":{"#).output().unwrap();
    assert!(!killed.status.success());
    let id = cloud.images(name, "builders")[0]["id"].as_str().unwrap().to_owned();
    let import = json!({"method": {"name": "glance-direct"}}).to_string();
    let (status, answer) = cloud.call(BUILDER, "POST", &format!("/v2/images/{id}/import"), &import);
    assert_eq!(status, 202, "{answer}");
    const LOCK: &str = "os_glance_import_task";
    until("the end of the import", || {
        let image = cloud.image(&id);
        image["status"] == "active" && image.get(LOCK).is_none()
    });
    // The service holds the lock while it saves the record again; here for longer.
    let lock = format!(
        "INSERT OR REPLACE INTO image_properties (image_id, name, value, created_at, updated_at, deleted) VALUES ('{id}', '{LOCK}', 'task', datetime('now'), datetime('now'), 0)"
    );
    in_database(cloud, &sandbox, &lock);
    let before = cloud.image(&id);
    assert_eq!(before[LOCK], "task", "{before:#}");
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let mut resume = sandbox.command(&["resume", listed["runs"][0]["id"].as_str().unwrap()]);
    let child = resume.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Path::new(cloud.text("/directory")).join("glance-requests.log");
    let tasks = format!("/v2/images/{id}/tasks");
    until("a look at the import", || fs::read_to_string(&log).unwrap().contains(&tasks));
    assert_eq!(cloud.image(&id), before);
    let unlock =
        format!("DELETE FROM image_properties WHERE image_id = '{id}' AND name = '{LOCK}'");
    in_database(cloud, &sandbox, &unlock);
    let run = Run::of(&child.wait_with_output().unwrap(), None);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(cloud.image(&id)["protected"], true);
    cloud.holds(&id, &sandbox.path().join("disk.raw"));
}

#[test]
fn another_projects_credentials_neither_resume_nor_collect_a_run() {
    let Some(cloud) = OpenStack::shared() else { return };
    let sandbox = sandbox(cloud, &[]);
    let name = "of-a-project";
    let mut command = sandbox.command(&[
        "--disk",
        "disk.raw",
        "-c",
        "config.yml",
        "-p",
        "openstack",
        "--cloud-image-name",
        name,
    ]);
    let killed = command.env("BUILD_IMAGE_FAILPOINT", "after:checkpoint").output().unwrap();
    assert!(!killed.status.success());
    let listed = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = listed["runs"][0]["id"].as_str().unwrap().to_owned();
    // The run itself is unknown to another configuration; only its resources remain.
    let images = cloud.images(name, "builders");
    sandbox.write("config.yml", &cloud.config("builder", "partners", &[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!(gc.code, 8, "{}{}", gc.stdout, gc.stderr);
    let shown = format!("{}{}", gc.stdout, gc.stderr);
    assert!(shown.contains("belongs to project"), "{shown}");
    let resume = Run::of(&sandbox.command(&["resume", &id]).output().unwrap(), None);
    assert_ne!(resume.code, 0, "{}", resume.stderr);
    assert_eq!(cloud.images(name, "builders"), images);
    // With the right project it is collected.
    sandbox.write("config.yml", &cloud.config("builder", "builders", &[]));
    let gc = Run::of(&sandbox.command(&["gc", "--yes"]).output().unwrap(), None);
    assert_eq!(gc.code, 0, "{}{}", gc.stdout, gc.stderr);
    assert!(cloud.images(name, "builders").is_empty());
}

#[test]
fn a_build_that_fails_after_it_has_hidden_an_image_shows_it_again() {
    let Some(cloud) = OpenStack::shared() else { return };
    let name = "hidden-and-shown";
    let older = foreign(cloud, BUILDER, name, &json!({}));
    let sandbox = sandbox(cloud, &[("OPENSTACK_IF_EXISTS", "replace")]);
    // What follows the hiding fails: the hidden image is in the journal, the disk of the journal is full then.
    let mut command = sandbox.command(&[
        "--disk",
        "disk.raw",
        "-c",
        "config.yml",
        "-p",
        "openstack",
        "--cloud-image-name",
        name,
    ]);
    let run =
        Run::of(&command.env("BUILD_IMAGE_FAILPOINT", "int:hidden_image").output().unwrap(), None);
    assert_eq!(run.code, 130, "{}", run.stderr);
    let images = cloud.images(name, "builders");
    assert_eq!(images.len(), 1, "{images:#?}");
    assert_eq!(
        (images[0]["id"].as_str(), &images[0]["os_hidden"]),
        (Some(older.as_str()), &json!(false))
    );
    build(&sandbox, name, &[]).succeeded();
    let images = cloud.images(name, "builders");
    assert!(images.len() == 1 && images[0]["id"] != older.as_str(), "{images:#?}");
}

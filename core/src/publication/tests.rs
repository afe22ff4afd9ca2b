//! Tests publishing with real directories: two builds at once, kills between renames, files in the way.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use build_image_files::AtomicFile;
use rustix::io::Errno;
use serde_json::json;

use super::{staging::not_locked, *};

const RUN: &str = "20260101-000000-aaaaaa";
const OTHER: &str = "20260101-000000-bbbbbb";
/// The file set of a build, and the files of an older build in IMAGE_DIR.
const SET: [&str; 4] = ["d.img", "d.img.md5", "d.img.sha256", "d.upload.sh"];
const OLDER: [&str; 5] = ["d.img", "d.img.md5", "d.img.384.sig", "e.img", "e.img.md5"];

fn content(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> = entries
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    found.sort();
    found
}

fn write_all(directory: &Path, names: &[&str], text: &str) {
    for name in names {
        fs::write(directory.join(name), format!("{text} {name}")).unwrap();
    }
}

/// IMAGE_DIR with an older build, and a staged new one.
fn staged() -> (tempfile::TempDir, Publication, Vec<PublishedFile>) {
    let directory = tempfile::tempdir().unwrap();
    write_all(directory.path(), &OLDER, "old");
    let publication = Publication::begin(directory.path(), "d", RUN).unwrap();
    write_all(publication.dir(), &SET, "new");
    let files = publication.files().unwrap();
    (directory, publication, files)
}

/// IMAGE_DIR after the new build is released.
fn released() -> Vec<(String, String)> {
    let kept = OLDER[3..].iter().map(|name| ((*name).to_owned(), format!("old {name}")));
    let new = SET.iter().map(|name| ((*name).to_owned(), format!("new {name}")));
    let mut all: Vec<_> = kept.chain(new).collect();
    all.sort();
    all
}

#[test]
fn a_set_appears_together_in_the_place_of_the_older_one() {
    let (directory, publication, files) = staged();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, SET, "images, then what belongs to them, then scripts");
    let before: Vec<_> = content(directory.path());
    assert!(
        OLDER.iter().all(|name| { before.contains(&((*name).to_owned(), format!("old {name}"))) })
    );
    let mode = fs::metadata(publication.dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let committed = Publication::commit(directory.path(), RUN, &files).unwrap();
    let paths = SET.map(|name| directory.path().join(name)).to_vec();
    assert_eq!(committed, Committed::Published(paths));
    assert_eq!(content(directory.path()), released());
}

#[test]
fn a_commit_that_was_killed_at_any_rename_is_finished_by_the_next_one() {
    for done in 0..=SET.len() {
        for cleaned in ["nothing", "signature", "owner", "staging"] {
            if done < SET.len() && cleaned != "nothing" {
                continue;
            }
            let (directory, publication, files) = staged();
            for file in &files[..done] {
                let target = directory.path().join(&file.name);
                fs::rename(publication.dir().join(&file.name), target).unwrap();
            }
            if cleaned != "nothing" {
                fs::remove_file(directory.path().join("d.img.384.sig")).unwrap();
            }
            match cleaned {
                "owner" => fs::remove_file(publication.dir().join(OWNER)).unwrap(),
                "staging" => fs::remove_dir_all(publication.dir()).unwrap(),
                _ => {}
            }
            drop(publication);
            for _ in 0..2 {
                Publication::commit(directory.path(), RUN, &files).unwrap();
                assert_eq!(content(directory.path()), released(), "{done} {cleaned}");
            }
        }
    }
}

/// Files at the final names, without the staging directory.
fn published(directory: &Path) -> Vec<(String, String)> {
    content(directory).into_iter().filter(|(name, _)| !name.starts_with(PREFIX)).collect()
}

#[test]
fn a_commit_yields_to_changes_of_the_files_since_the_release() {
    for (spoiled, how) in [
        ("d.img.md5", "staged file replaced"),
        ("d.img", "published and replaced"),
        ("d.img", "newer build"),
        ("d.img.sha256", "new name taken"),
        ("d.upload.sh", "new name taken"),
    ] {
        let (directory, publication, files) = staged();
        let staged_path = publication.dir().join(spoiled);
        match how {
            "staged file replaced" => {
                fs::remove_file(&staged_path).unwrap();
                fs::write(staged_path, "another file").unwrap();
            }
            "published and replaced" => fs::remove_file(staged_path).unwrap(),
            _ => {
                let newer = directory.path().join(".newer");
                fs::write(&newer, "newer").unwrap();
                fs::rename(newer, directory.path().join(spoiled)).unwrap();
            }
        }
        drop(publication);
        let before = published(directory.path());
        for _ in 0..2 {
            let committed = Publication::commit(directory.path(), RUN, &files).unwrap();
            assert_eq!(committed, Committed::Superseded, "{spoiled} {how}");
            assert_eq!(content(directory.path()), before, "{spoiled} {how}");
        }
    }
}

#[test]
fn earlier_renames_are_reverted_when_a_later_one_fails() {
    let (directory, publication, files) = staged();
    let (older, target) = (directory.path().join("d.img"), directory.path().join("e.img.sha256"));
    let swaps = [
        Swap { staged: publication.dir().join("d.img"), target: older.clone(), exchanges: true },
        Swap {
            staged: publication.dir().join("d.img.sha256"),
            target: target.clone(),
            exchanges: false,
        },
    ];
    let before = content(directory.path());
    for swap in &swaps {
        swap.make().unwrap();
    }
    assert_eq!(fs::read_to_string(&older).unwrap(), "new d.img");
    swaps.iter().rev().for_each(Swap::undo);
    assert_eq!(content(directory.path()), before);
    assert_eq!(publication.files().unwrap(), files, "the staged files are as they were");
    // A file that has taken the name since stays.
    fs::write(&target, "of another program").unwrap();
    assert_eq!(swaps[1].make().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&target).unwrap(), "of another program");
}

#[test]
fn a_directory_at_a_final_name_is_refused_and_a_link_is_replaced_not_followed() {
    let (directory, publication, files) = staged();
    // One name of the new set, and one that only an older set has.
    let (target, outdated) = ("d.img.sha256", "d.img.512.sig");
    let in_set = |name: &str| files.iter().any(|file| file.name == name);
    assert!(in_set(target) && !in_set(outdated));
    for name in [target, outdated] {
        let path = directory.path().join(name);
        let older = fs::read(&path).ok();
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        let before = content(directory.path());
        let error = Publication::commit(directory.path(), RUN, &files).unwrap_err();
        assert!(error.message.contains(name), "{error}");
        assert_eq!(content(directory.path()), before, "{name}");
        fs::remove_dir(&path).unwrap();
        if let Some(older) = older {
            fs::write(path, older).unwrap();
        }
    }
    let target = directory.path().join(target);
    let _ = fs::remove_file(&target);
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), &target).unwrap();
    let files = publication.files().unwrap();
    drop(publication);
    Publication::commit(directory.path(), RUN, &files).unwrap();
    assert_eq!(content(directory.path()), released());
    assert_eq!(fs::read(outside.path()).unwrap(), b"");
}

#[test]
fn one_stem_is_written_by_one_running_build_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = Publication::begin(directory.path(), "d", RUN).unwrap();
    let error = Publication::begin(directory.path(), "d", OTHER).unwrap_err();
    let named = format!("build `{RUN}` is writing `d` in `{}`", directory.path().display());
    assert_eq!(error.message, named);
    assert_eq!(content(directory.path()).len(), 1, "nothing was written");
    // Another stem does not conflict, nor does a run with itself.
    let second = Publication::begin(directory.path(), "dd", OTHER).unwrap();
    let again = Publication::reopen(directory.path(), "d", RUN).unwrap_err();
    assert!(again.message.contains("another process works on run"), "{again}");
    // A dead build is left alone, can be resumed, and does not conflict any more.
    fs::write(first.dir().join("d.img"), "half").unwrap();
    drop((first, second));
    let other = Publication::begin(directory.path(), "d", "20260101-000000-cccccc").unwrap();
    let error = Publication::reopen(directory.path(), "d", RUN).unwrap_err();
    assert!(error.message.contains("cccccc"), "{error}");
    drop(other);
    let resumed = Publication::reopen(directory.path(), "d", RUN).unwrap();
    assert_eq!(fs::read_to_string(resumed.dir().join("d.img")).unwrap(), "half");
    resumed.clear().unwrap();
    assert!(resumed.files().unwrap().is_empty());
    assert!(Publication::begin(directory.path(), "d", OTHER).is_err(), "still claimed");
}

#[test]
fn eight_builds_that_begin_at_once_are_one_build_and_seven_errors() {
    let directory = tempfile::tempdir().unwrap();
    let begun: Vec<Result<Publication>> = std::thread::scope(|scope| {
        let begin = |number: u32| {
            let path = directory.path();
            scope.spawn(move || Publication::begin(path, "d", &format!("run-{number}")))
        };
        let threads: Vec<_> = (0..8).map(begin).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(begun.iter().filter(|begun| begun.is_ok()).count(), 1);
    let winner = begun.iter().find_map(|begun| begun.as_ref().ok()).unwrap();
    let run = winner.dir().file_name().unwrap().to_str().unwrap().strip_prefix(PREFIX).unwrap();
    for error in begun.iter().filter_map(|begun| begun.as_ref().err()) {
        assert!(error.message.contains(&format!("build `{run}` is writing")), "{error}");
    }
    assert_eq!(content(directory.path()).len(), 1, "the losers leave nothing");
}

#[test]
fn staged_files_must_be_complete_regular_files() {
    let (_directory, publication, files) = staged();
    let abandoned = publication.dir().join(".d.img.0a.part");
    fs::write(&abandoned, "of a killed process").unwrap();
    assert_eq!(publication.files().unwrap(), files);
    assert!(!abandoned.exists());
    let file = AtomicFile::create(&publication.dir().join("x")).unwrap();
    let error = publication.files().unwrap_err();
    assert!(error.message.contains("still being written"), "{error}");
    drop(file);
    for odd in ["link", "directory"] {
        let path = publication.dir().join(odd);
        match odd {
            "link" => symlink("d.img", &path).unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        let error = publication.files().unwrap_err();
        assert!(error.message.contains(odd) && error.message.contains("regular"), "{error}");
        publication.clear().unwrap();
    }
}

#[test]
fn an_input_is_not_published_over() {
    let (directory, publication, _) = staged();
    let input = directory.path().join("e.img");
    publication.check_inputs(std::slice::from_ref(&input)).unwrap();
    // By its own name, through a link to it, and through a hard link.
    let target = directory.path().join("d.img");
    let elsewhere = tempfile::tempdir_in(directory.path()).unwrap();
    let (link, hard) = (elsewhere.path().join("link"), elsewhere.path().join("hard"));
    symlink(&target, &link).unwrap();
    fs::hard_link(&target, &hard).unwrap();
    for input in [&target, &link, &hard] {
        let error = publication.check_inputs(&[input.clone(), "/absent".into()]).unwrap_err();
        let display = input.display().to_string();
        assert!(error.message.contains(&display) && error.hint.is_some(), "{error}");
    }
}

#[test]
fn discard_removes_the_staging_directory_and_nothing_else() {
    let (directory, publication, _) = staged();
    drop(publication);
    // A process was killed while it held the lock.
    fs::write(directory.path().join(LOCK), "").unwrap();
    Publication::discard(directory.path(), RUN).unwrap();
    Publication::discard(directory.path(), RUN).unwrap();
    Publication::discard(&directory.path().join("absent"), RUN).unwrap();
    assert_eq!(content(directory.path()).len(), OLDER.len());
    // A link in its place and invalid ids lead nowhere.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "").unwrap();
    symlink(outside.path(), directory.path().join(format!("{PREFIX}{OTHER}"))).unwrap();
    assert!(Publication::discard(directory.path(), OTHER).is_err());
    for id in ["", "../x", "a/b", "."] {
        assert!(Publication::discard(directory.path(), id).is_err(), "{id}");
    }
    let file = |name: &str| PublishedFile { name: name.to_owned(), ..PublishedFile::default() };
    for name in ["../x", "/etc/passwd", "a/b", "", ".", "..", LOCK, ".build-image-x", "a/"] {
        let error = Publication::commit(directory.path(), RUN, &[file(name)]).unwrap_err();
        assert_eq!(error.stage, Stage::Bug, "{name}");
    }
    assert!(outside.path().join("precious").exists());
}

#[test]
fn answers_name_image_dir_where_providers_name_the_staging_directory() {
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path().join("images");
    let link = directory.path().join("link");
    fs::create_dir(&images).unwrap();
    symlink(&images, &link).unwrap();
    let publication = Publication::begin(&link.join(""), "d", RUN).unwrap();
    let (staged, real) = (publication.dir().display().to_string(), images.display());
    let link = link.display();
    for (text, expected) in [
        (format!("{staged}/d.img written"), format!("{link}/d.img written")),
        (format!("run {staged}."), format!("run {link}.")),
        (format!("{real}/{PREFIX}{RUN}/a {staged}/b"), format!("{real}/a {link}/b")),
        (format!("{staged}x/d.img"), format!("{staged}x/d.img")),
        ("nothing".to_owned(), "nothing".to_owned()),
    ] {
        assert_eq!(publication.translation().translate(&text), expected);
    }
    let value = json!({"images": [{"id": format!("{staged}/d.img")}], "n": 1});
    let expected = json!({"images": [{"id": format!("{link}/d.img")}], "n": 1});
    assert_eq!(publication.translation().translate_value(value), expected);
}

#[test]
fn a_directory_that_cannot_be_locked_is_refused_with_the_reason() {
    let path = Path::new("/images");
    for (errno, hint) in [
        (Errno::NOLCK, "supports locks"),
        (Errno::NOTSUP, "supports locks"),
        (Errno::ACCESS, "may write to"),
    ] {
        let error = io::Error::from_raw_os_error(errno.raw_os_error());
        let error = not_locked(path, fs::TryLockError::Error(error));
        assert_eq!(error.message, "cannot lock the directory `/images`");
        assert!(error.hint.unwrap().contains(hint));
    }
    let directory = tempfile::tempdir().unwrap();
    symlink("/nonexistent", directory.path().join(LOCK)).unwrap();
    assert!(Publication::begin(directory.path(), "d", RUN).is_err());
    assert_eq!(content(directory.path()).len(), 1);
}

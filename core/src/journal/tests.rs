use std::fs;

use super::*;

const RELEASED: Entry = Entry::ProductsReleased { files: Vec::new() };

fn key() -> Arc<Key> {
    Arc::new(Key::of_bytes(&[7; 32]))
}

fn open(directory: &Path) -> Result<Journal> {
    Journal::open(directory, &key())
}

fn resource(name: &str) -> Resource {
    Resource::new("object", name)
}

#[test]
fn resources_and_checkpoints_survive_a_torn_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path()).unwrap();
    for event in [
        Event::ResourcePlanned { resource: resource("a") },
        Event::ResourcePlanned { resource: resource("b") },
        Event::ResourceCreated { resource: resource("a").with_id("1") },
        Event::ResourceGone { resource: resource("b") },
    ] {
        journal.append(Entry::Resource { event }).unwrap();
    }
    journal.append(Entry::Checkpoint { key: "k".into(), document: 1.into() }).unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let mut text = fs::read(&path).unwrap();
    // Torn in the middle of a character.
    text.extend_from_slice(b"{\"time\":\"x\",\"what\":\"res\xc3");
    fs::write(&path, text).unwrap();
    let mut journal = open(directory.path()).unwrap();
    assert_eq!(journal.resources(), [resource("a").with_id("1")]);
    journal.append(Entry::Checkpoint { key: "k".into(), document: 2.into() }).unwrap();
    drop(journal);
    assert_eq!(open(directory.path()).unwrap().checkpoint("k"), Some(2.into()));
}

/// A journal with lines of several kinds.
fn written(directory: &Path) -> PathBuf {
    let mut journal = open(directory).unwrap();
    for step in ["check", "upload", "register"] {
        journal.append(Entry::StepStarted { step: step.into() }).unwrap();
    }
    journal.append(RELEASED).unwrap();
    journal.path().to_owned()
}

#[test]
fn a_journal_cut_anywhere_keeps_its_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path());
    let text = fs::read(&path).unwrap();
    for length in 0..text.len() {
        // Bytes that a power cut leaves after the cut.
        for rest in [&b""[..], b"\0\0\0\0"] {
            fs::write(&path, [&text[..length], rest].concat()).unwrap();
            let whole = text[..length].iter().filter(|&&byte| byte == b'\n').count();
            let snapshot = Journal::snapshot(directory.path()).unwrap();
            assert!(snapshot.damage.is_none(), "{length}");
            assert_eq!(snapshot.entries.len(), whole, "{length}");
            let mut journal = open(directory.path()).unwrap();
            journal.append(RELEASED).unwrap();
            drop(journal);
            let snapshot = Journal::snapshot(directory.path()).unwrap();
            assert!(snapshot.damage.is_none() && snapshot.entries.len() == whole + 1, "{length}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_line_is_reported_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path());
    let entries = Journal::snapshot(directory.path()).unwrap().entries;
    let mut found = 0;
    let text = fs::read(&path).unwrap();
    for position in (0..text.len()).filter(|&position| text[position] != b'\n') {
        let mut changed = text.clone();
        changed[position] ^= 1;
        if changed[position] == b'\n' {
            continue;
        }
        fs::write(&path, &changed).unwrap();
        let line = 1 + text[..position].iter().filter(|&&byte| byte == b'\n').count();
        let error = match open(directory.path()) {
            // When the changed byte is in the name of the checksum, the line has no checksum, and the signature
            // is wrong.
            Err(error) if error.message.ends_with("is not trusted") => {
                let snapshot = Journal::snapshot(directory.path()).unwrap();
                assert_eq!(snapshot.entries, entries, "byte {position} of line {line}");
                continue;
            }
            Err(error) => error,
            Ok(_) => panic!("byte {position} of line {line} may be anything"),
        };
        found += 1;
        assert!(error.message.starts_with(&format!("line {line} of the journal `")), "{error}");
        assert!(error.message.contains("journal.jsonl") && error.hint.is_some(), "{error}");
        assert!(Journal::snapshot(directory.path()).unwrap().damage.is_some());
    }
    assert!(found > text.len() * 9 / 10 - 40, "{found} of {}", text.len());
}

#[test]
fn lines_of_older_and_newer_tools_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path());
    let mut text = fs::read_to_string(&path).unwrap();
    // A line of a tool that wrote no sums, and a line with members that this tool does not know.
    text.push_str("{\"time\":\"x\",\"what\":\"step_started\",\"step\":\"old\"}\n");
    text.push_str("{\"time\":\"x\",\"what\":\"step_started\",\"step\":\"new\",\"colour\":1}\n");
    text.push_str("{\"time\":\"x\",\"what\":\"of_tomorrow\",\"how\":[]}\n");
    fs::write(&path, text).unwrap();
    assert!(open(directory.path()).unwrap_err().causes[0].contains("not signed"));
    drop(Journal::adopt(directory.path(), &key()).unwrap());
    let mut journal = open(directory.path()).unwrap();
    assert!(matches!(journal.entries.pop(), Some(Entry::RunAdopted { .. })));
    let last: Vec<&Entry> = journal.entries.iter().rev().take(3).collect();
    let step = |step: &str| Entry::StepStarted { step: step.into() };
    assert_eq!(last, [&Entry::Unknown, &step("new"), &step("old")]);
}

#[test]
fn a_link_in_the_journals_place_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("precious");
    fs::write(&other, "").unwrap();
    std::os::unix::fs::symlink(&other, directory.path().join(FILE)).unwrap();
    assert!(open(directory.path()).is_err());
    assert_eq!(fs::read(&other).unwrap(), b"");
}

#[test]
fn regions_keep_resources_apart_and_released_deliverables_are_not_leftovers() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path()).unwrap();
    for region in ["a", "b"] {
        let resource = resource("image").in_region(region).as_deliverable();
        journal.append(Entry::Resource { event: Event::ResourcePlanned { resource } }).unwrap();
    }
    let event = Event::ResourcePlanned { resource: resource("means") };
    journal.append(Entry::Resource { event }).unwrap();
    assert_eq!(journal.resources().len(), 3);
    journal.append(RELEASED).unwrap();
    assert_eq!(journal.resources(), [resource("means")]);
}

#[test]
fn a_journal_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path()).unwrap();
    assert!(open(directory.path()).unwrap_err().message.contains("in use"));
}

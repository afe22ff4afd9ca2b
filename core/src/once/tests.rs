use serde_json::json;

use super::*;
use crate::report::ImageEntry;

fn key(directory: &Path) -> Arc<Key> {
    let state = directory.join("state").display().to_string();
    let environment = crate::settings::Environment::of([("XDG_STATE_HOME", state.as_str())]);
    let settings =
        crate::settings::Layers { environment: environment.clone(), ..Default::default() };
    let rows = crate::settings::rows_of(&[keys::JOURNAL_KEY_FILE]);
    Arc::new(Key::of(&settings.resolve(&rows).unwrap(), &environment).unwrap())
}

fn request(texts: &[(&str, &str)]) -> Request {
    texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

fn outcome(id: &str, file: Option<&Path>) -> Outcome {
    let image = ImageEntry { id: id.to_owned(), ..ImageEntry::default() };
    let file = file.map(|file| file.display().to_string());
    Outcome { image_id: id.to_owned(), images: vec![image], file, ..Outcome::default() }
}

#[test]
fn a_name_goes_from_nothing_to_unfinished_to_done() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("artifacts");
    let key = key(directory.path());
    let asked = request(&[("DISK", "/a"), ("PLATFORM", "acme")]);
    let other = request(&[("DISK", "/b"), ("PLATFORM", "acme")]);
    let open = || Once::open("n-1", &base, &key).unwrap();
    let words = || progress(&base, "n-1", &key).word();

    drop(open());
    assert!(!base.join("once").exists(), "an unused name leaves nothing");

    let mut once = open();
    assert!(matches!(once.before(&base, &asked, &key), Ok(Before::Nothing)));
    once.begin("r-1", asked.clone()).unwrap();
    let error = Once::open("n-1", &base, &key).unwrap_err();
    assert_eq!((error.exit_code(), words()), (crate::exit::UNAVAILABLE, "running"), "{error}");
    drop(once);

    // Its run was undone.
    let once = open();
    assert!(matches!(once.before(&base, &asked, &key), Ok(Before::Nothing)));
    drop(once);
    assert_eq!(words(), "waiting");

    let started = json!({"what": "run_started", "run_id": "r-1", "tool": "1", "platform": "acme",
        "host": journal::HostId::of_this()});
    let mut run = Journal::open(&base.join("runs/r-1"), &key).unwrap();
    run.append(serde_json::from_value(started).unwrap()).unwrap();
    drop(run);
    let mut once = open();
    // Which settings a run may be resumed with is decided when it is resumed.
    for asked in [&asked, &other] {
        match once.before(&base, asked, &key).unwrap() {
            Before::Unfinished(run) => once.belongs_to(&run).unwrap(),
            found => panic!("{found:?}"),
        }
    }
    let stranger = Run { id: "r-2".to_owned(), ..Run::default() };
    assert!(once.belongs_to(&stranger).unwrap_err().message.contains("as run `r-1`"));
    once.done(&outcome("m-1", None)).unwrap();
    drop(once);

    assert_eq!(words(), "done");
    let once = open();
    match once.before(&base, &asked, &key).unwrap() {
        Before::Done(outcome) => {
            assert_eq!((&*outcome.image_id, &*outcome.result), ("m-1", "SUCCESS"));
        }
        found => panic!("{found:?}"),
    }
    let error = once.before(&base, &other, &key).unwrap_err();
    assert_eq!(error.problems[0].message, "DISK was `/a`, now it is `/b`");
    assert_eq!(error.exit_code(), crate::exit::USAGE);
}

#[test]
fn a_result_without_its_local_files_is_built_again() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("artifacts");
    let (key, asked) = (key(directory.path()), request(&[("DISK", "/a")]));
    let file = directory.path().join("image.qcow2");
    fs::write(&file, "").unwrap();
    for (number, outcome) in
        [outcome("m-1", Some(&file)), outcome(&file.display().to_string(), None)].iter().enumerate()
    {
        fs::write(&file, "").unwrap();
        let name = format!("n-{number}");
        let mut once = Once::open(&name, &base, &key).unwrap();
        once.begin("r-1", asked.clone()).unwrap();
        once.done(outcome).unwrap();
        assert!(matches!(once.before(&base, &asked, &key), Ok(Before::Done(_))));
        fs::remove_file(&file).unwrap();
        assert!(matches!(once.before(&base, &asked, &key), Ok(Before::Nothing)));
    }
}

#[test]
fn a_journal_that_another_user_wrote_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("artifacts");
    let (mine, others) = (key(directory.path()), key(&directory.path().join("other")));
    let mut once = Once::open("n", &base, &others).unwrap();
    once.begin("r-1", Request::new()).unwrap();
    once.done(&outcome("m-evil", None)).unwrap();
    drop(once);
    let error = Once::open("n", &base, &mine).unwrap_err();
    assert_eq!(error.exit_code(), crate::exit::USAGE, "{error}");
    assert_eq!(progress(&base, "n", &mine).word(), "waiting");
}

//! Fuzzes additions to an initrd: what was written is read again by an independent reader.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use build_image_disk::initrd::{Addition, Content, append};
use build_image_fuzz::{newc, sparse};
use flate2::read::GzDecoder;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Given {
    Bytes(Vec<u8>),
    File(Vec<u8>),
    Folder,
    Link(String),
}

#[derive(Arbitrary, Debug)]
struct Input {
    base: Vec<u8>,
    additions: Vec<(Name, u32, Given)>,
}

/// Short paths collide often.
#[derive(Arbitrary, Debug)]
enum Name {
    Parts(Vec<Part>),
    Text(String),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Part {
    Etc,
    Hidden,
    Blank,
    Up,
    Nothing,
    Src,
}

impl Name {
    fn text(&self) -> String {
        let part = |part: &Part| match part {
            Part::Etc => "etc",
            Part::Hidden => ".hidden",
            Part::Blank => "a b",
            Part::Up => "..",
            Part::Nothing => "",
            Part::Src => "src",
        };
        match self {
            Self::Parts(parts) => parts.iter().map(part).collect::<Vec<_>>().join("/"),
            Self::Text(text) => text.clone(),
        }
    }
}

fuzz_target!(|input: Input| {
    let mut additions = Vec::new();
    for (number, (name, mode, given)) in input.additions.into_iter().take(32).enumerate() {
        let content = match given {
            Given::Bytes(bytes) => Content::Bytes(bytes),
            Given::File(bytes) => {
                Content::File(sparse::write_whole(&bytes, &format!("source.{number}")))
            }
            Given::Folder => Content::Directory,
            Given::Link(target) => Content::Symlink(target),
        };
        additions.push(Addition { path: name.text(), mode, content });
    }
    let dest = sparse::directory().join("initrd");
    let _ = fs::remove_file(&dest);
    let Ok(written) = append(&mut &input.base[..], &additions, &dest) else {
        assert!(!dest.exists(), "a refused initrd leaves nothing");
        return;
    };
    let bytes = fs::read(&dest).unwrap();
    assert_eq!((written.base, written.total), (input.base.len() as u64, bytes.len() as u64));
    assert_eq!(bytes[..input.base.len()], input.base);
    let mut archive = Vec::new();
    let start = input.base.len().next_multiple_of(4);
    GzDecoder::new(&bytes[start..]).read_to_end(&mut archive).unwrap();
    assert_eq!(written.added, archive.len() as u64);
    let mut seen: BTreeMap<String, newc::Member> = BTreeMap::new();
    for member in newc::read(&archive) {
        let parts = || member.path.split('/');
        assert!(parts().all(|part| !matches!(part, "" | "." | "..")), "{}", member.path);
        assert_eq!(member.owner, (0, 0));
        if let Some((parent, _)) = member.path.rsplit_once('/') {
            let parent = seen.get(parent).expect("a folder comes before what is in it");
            assert_eq!(parent.mode & 0o170_000, 0o040_000);
        }
        assert!(seen.insert(member.path.clone(), member).is_none(), "each name once");
    }
    for addition in additions {
        let member = &seen[&addition.path];
        let (kind, content) = match addition.content {
            Content::Bytes(bytes) => (0o100_000, bytes),
            Content::File(path) => (0o100_000, fs::read(path).unwrap()),
            Content::Directory => (0o040_000, Vec::new()),
            Content::Symlink(target) => (0o120_000, target.into_bytes()),
        };
        assert_eq!(member.mode & 0o170_000, kind);
        assert!(kind == 0o040_000 || member.mode & 0o7777 == addition.mode & 0o7777);
        assert_eq!(member.content, content);
    }
});

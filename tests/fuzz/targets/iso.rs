//! Fuzzes ISO 9660 with Rock Ridge and Joliet: both trees are walked, files are read.
#![no_main]

use std::io::Read;

use build_image_disk::Iso;
use build_image_disk::iso::{Entry, EntryKind};
use build_image_fuzz::sparse;
use libfuzzer_sys::fuzz_target;

/// Maximum number of directories that are read in each tree; a tree may contain itself.
const FOLDERS: usize = 8;
/// Maximum number of bytes that are read from a file.
const BYTES: u64 = 64 << 10;

fn walk<E>(list: impl Fn(&str) -> Result<Vec<Entry>, E>, mut each: impl FnMut(&str, &Entry)) {
    let mut directories = vec![String::new()];
    let mut next = 0;
    while next < directories.len().min(FOLDERS) {
        let directory = directories[next].clone();
        next += 1;
        for entry in list(&directory).unwrap_or_default().into_iter().take(32) {
            assert!(
                !matches!(entry.name.as_str(), "" | "." | "..")
                    && !entry.name.contains(['/', '\0'])
            );
            let path = format!("{directory}/{}", entry.name);
            each(&path, &entry);
            if entry.kind == EntryKind::Folder {
                directories.push(path);
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(path) = sparse::write(input, "x.iso", |_| ()) else { return };
    let Ok(iso) = Iso::open(&path) else { return };
    let _ = (iso.label(), iso.joliet_root_names());
    walk(|directory| iso.joliet_list(directory), |_, _| ());
    let mut files = 0;
    walk(
        |directory| iso.list(directory),
        |path, entry| {
            files += 1;
            if files > 8 || entry.kind == EntryKind::Folder {
                return;
            }
            if let Ok(bytes) = iso.read(path, BYTES) {
                assert!(bytes.len() as u64 <= BYTES);
            }
            if let Ok(content) = iso.open_file(path) {
                let len = content.len();
                let read = content.take(BYTES).read_to_end(&mut Vec::new());
                assert_eq!(read.expect("what is opened lies in the image") as u64, len.min(BYTES));
            }
        },
    );
    for path in ["isolinux/isolinux.cfg", "boot/isolinux.cfg", "link", "loop", "up/../x"] {
        let _ = iso.read(path, BYTES);
    }
});

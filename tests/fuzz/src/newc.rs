//! Reads a newc archive, strictly. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

/// One member of the archive.
#[derive(Debug)]
pub struct Member {
    pub path: String,
    pub mode: u32,
    pub owner: (u32, u32),
    pub content: Vec<u8>,
}

/// All members before the trailer. Anything irregular is a finding.
pub fn read(archive: &[u8]) -> Vec<Member> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        assert!(at % 4 == 0 && &archive[at..at + 6] == b"070701", "a header at {at}");
        let number = |position: usize| {
            let digits = std::str::from_utf8(&archive[at + 6 + position * 8..][..8]).unwrap();
            u32::from_str_radix(digits, 16).unwrap()
        };
        let (len, name_len) = (number(6) as usize, number(11) as usize);
        let name = &archive[at + 110..at + 110 + name_len];
        assert_eq!(
            name.iter().position(|byte| *byte == 0),
            Some(name_len - 1),
            "one zero, at the end"
        );
        let path = std::str::from_utf8(&name[..name_len - 1]).unwrap().to_owned();
        let start = (at + 110 + name_len).next_multiple_of(4);
        if path == "TRAILER!!!" && len == 0 {
            assert_eq!(start, archive.len(), "nothing follows the trailer");
            return found;
        }
        let content = archive[start..start + len].to_vec();
        found.push(Member { path, mode: number(1), owner: (number(2), number(3)), content });
        at = (start + len).next_multiple_of(4);
    }
}

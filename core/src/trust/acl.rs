//! Parses POSIX access control lists, to find users other than the owner who may read or write.
//!
//! Source: acl(5); `include/uapi/linux/posix_acl_xattr.h`: a little-endian 32-bit version, then entries of a 16-bit
//! tag, 16-bit permissions and a 32-bit id.

use std::{fs::File, io, path::Path};

use rustix::{fs, io::Errno};

use super::group;

/// Attribute with the list that controls access.
const NAME: &str = "system.posix_acl_access";
/// Longest attribute, in bytes (xattr(7)).
const LONGEST: usize = 64 << 10;
/// The only version that exists.
const VERSION: u32 = 2;
const ENTRY: usize = 8;
const READ: u16 = 4;
const WRITE: u16 = 2;
/// Tags of entries.
const USER: u16 = 0x02;
const GROUP_OBJECT: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// The list of an open file; empty if it has none.
pub(super) fn of_file(file: &File) -> io::Result<Vec<u8>> {
    read(|buffer| fs::fgetxattr(file, NAME, buffer))
}

/// The list of the object at a path; empty if it has none.
pub(super) fn of_path(path: &Path) -> io::Result<Vec<u8>> {
    read(|buffer| fs::getxattr(path, NAME, buffer))
}

fn read(get: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; LONGEST];
    match get(&mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        // No list, or a file system without access control lists.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a user or group besides the owner and root who may write, according to a list. `gid` is the file's
/// group.
pub(super) fn foreign_writer(list: &[u8], gid: u32, me: u32) -> Option<String> {
    foreign(list, gid, me, WRITE)
}

/// Returns a user or group besides the owner and root who may read, according to a list. `gid` is the file's group.
pub(super) fn foreign_reader(list: &[u8], gid: u32, me: u32) -> Option<String> {
    foreign(list, gid, me, READ)
}

fn foreign(list: &[u8], gid: u32, me: u32, right: u16) -> Option<String> {
    let unknown = || Some("whoever its access control list names".to_owned());
    let Some((version, entries)) = list.split_first_chunk::<4>() else { return unknown() };
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY != 0 {
        return unknown();
    }
    let entries: Vec<(u16, u16, u32)> = entries
        .chunks_exact(ENTRY)
        .map(|entry| {
            let read_u16 = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            (read_u16(0), read_u16(2), id)
        })
        .collect();
    let mask = entries.iter().find(|entry| entry.0 == MASK).map_or(u16::MAX, |entry| entry.1);
    entries.into_iter().find_map(|(tag, permissions, id)| {
        if permissions & mask & right == 0 {
            return None;
        }
        let foreign_group = |id: u32| {
            (!group::is_mine_alone(id))
                .then(|| format!("group id {id}, by its access control list"))
        };
        match tag {
            USER if id != me && id != 0 => {
                Some(format!("user id {id}, by its access control list"))
            }
            GROUP_OBJECT => foreign_group(gid),
            GROUP => foreign_group(id),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn the_mask_of_a_list_limits_its_writers() {
        let none = u32::MAX;
        let owner = (0x01, 7, none);
        let other = (0x20, 4, none);
        for (entries, found) in [
            (
                vec![owner, (USER, 6, 4242), (GROUP_OBJECT, 4, none), (MASK, 6, none), other],
                Some("user id 4242"),
            ),
            (vec![owner, (USER, 6, 4242), (GROUP_OBJECT, 4, none), (MASK, 4, none), other], None),
            (vec![owner, (USER, 4, 4242), (GROUP_OBJECT, 4, none), (MASK, 6, none), other], None),
            (
                vec![
                    owner,
                    (USER, 6, 77),
                    (USER, 7, 0),
                    (GROUP_OBJECT, 4, none),
                    (MASK, 7, none),
                    other,
                ],
                None,
            ),
            (
                vec![owner, (GROUP_OBJECT, 6, none), (MASK, 6, none), other],
                Some("group id 4000000001"),
            ),
            (
                vec![
                    owner,
                    (GROUP_OBJECT, 4, none),
                    (GROUP, 6, 4_000_000_002),
                    (MASK, 6, none),
                    other,
                ],
                Some("group id 4000000002"),
            ),
            (vec![owner, (GROUP_OBJECT, 4, none), other], None),
        ] {
            let writer = foreign_writer(&list(&entries), 4_000_000_001, 77);
            assert_eq!(writer.is_some(), found.is_some(), "{entries:?}: {writer:?}");
            assert!(writer.unwrap_or_default().starts_with(found.unwrap_or_default()));
        }
        let mut later = list(&[owner]);
        later[0] = 3;
        for odd in [&later[..], &[2, 0], &[2, 0, 0, 0, 1]] {
            assert!(foreign_writer(odd, 0, 0).is_some(), "{odd:?}");
        }
    }
}

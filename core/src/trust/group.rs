//! Detects groups with a single user: many systems give every user a private group and make files writable for
//! it, which is harmless.
//!
//! Source: passwd(5), group(5). Groups from elsewhere (a directory service) count as shared.

use std::sync::OnceLock;

/// Returns whether only this user (and root) is in the group.
pub(super) fn is_mine_alone(gid: u32) -> bool {
    static TABLES: OnceLock<(String, String)> = OnceLock::new();
    let (users, groups) = TABLES.get_or_init(|| {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        (read("/etc/passwd"), read("/etc/group"))
    });
    is_alone(rustix::process::geteuid().as_raw(), gid, users, groups)
}

fn is_alone(uid: u32, gid: u32, users: &str, groups: &str) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<String>>();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<u32>().ok());
    let mut mine = vec!["root".to_owned()];
    for user in users.lines().map(fields) {
        match number(user.get(2)) {
            Some(id) if id == uid => mine.extend(user.first().cloned()),
            Some(0) => {}
            _ if number(user.get(3)) == Some(gid) => return false,
            _ => {}
        }
    }
    let group = groups.lines().map(fields).find(|group| number(group.get(2)) == Some(gid));
    group.is_some_and(|group| {
        let members = group.get(3).map(String::as_str).unwrap_or_default();
        members
            .split(',')
            .filter(|member| !member.is_empty())
            .all(|name| mine.iter().any(|user| user == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_private_when_no_other_user_is_in_it() {
        let users = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nyou:x:1001:100::/:/bin/sh\n";
        let groups = "root:x:0:\nme:x:1000:\nusers:x:100:\nstaff:x:50:me,you\nown:x:60:me,root\n";
        for (uid, gid, alone) in [
            (1000, 1000, true),
            (1001, 1000, false),
            (1000, 100, false),
            (1000, 50, false),
            (1000, 60, true),
            (1000, 77, false),
            (0, 0, true),
            (1000, 0, true),
        ] {
            assert_eq!(is_alone(uid, gid, users, groups), alone, "user {uid}, group {gid}");
        }
    }
}

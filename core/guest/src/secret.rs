//! Redacts what may be a secret in a line that a finding quotes: values of names such as `password`, and passwords in
//! addresses.

/// Parts of names whose values are secrets.
const NAMES: [&str; 7] = ["pass", "pwd", "secret", "token", "credential", "apikey", "api_key"];
/// What a secret is replaced with.
const REDACTED: &str = "***";

/// Returns a line with its secrets replaced.
pub(crate) fn redacted(line: &str) -> String {
    let ends_word = |c: char| c.is_whitespace() || c == ',';
    let words = line.split_inclusive(ends_word).map(|word| {
        let bare = word.trim_end_matches(ends_word);
        format!("{}{}", without_value(&without_password(bare)), &word[bare.len()..])
    });
    words.collect()
}

/// Replaces the value of `name=value` when the name is that of a secret.
fn without_value(word: &str) -> String {
    let Some((name, _)) = word.split_once('=') else { return word.to_owned() };
    let lower = name.to_lowercase();
    if NAMES.iter().any(|part| lower.contains(part)) {
        format!("{name}={REDACTED}")
    } else {
        word.to_owned()
    }
}

/// Replaces the password of an address: `https://user:password@host/`.
fn without_password(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{REDACTED}@{host}{path}"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_line_are_replaced_and_nothing_else() {
        for (line, want) in [
            ("linux /vmlinuz root=UUID=1 ro", "linux /vmlinuz root=UUID=1 ro"),
            ("a db_password=x  console=ttyS0", "a db_password=***  console=ttyS0"),
            ("//h/s /m cifs user=a,PASSWD=b,ro 0 0", "//h/s /m cifs user=a,PASSWD=***,ro 0 0"),
            ("systemd.set_credential=name:secret quiet", "systemd.set_credential=*** quiet"),
            ("url=https://me:x@h:1/p?q=1 ro", "url=https://***@h:1/p?q=1 ro"),
            ("root=live:http://h/a@b token=", "root=live:http://h/a@b token=***"),
            ("password='a=b'", "password=***"),
            ("", ""),
        ] {
            assert_eq!(redacted(line), want);
        }
    }
}

//! Parses the challenges of a 401 answer (`WWW-Authenticate`, RFC 9110 section 11.6.1).

/// A challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token of another server (distribution, "Token Authentication Specification").
    Bearer(Bearer),
}

/// Where a token comes from, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// URL of the token server.
    pub(crate) realm: String,
    /// The registry's name there.
    pub(crate) service: Option<String>,
    /// The permission that the refused request needs.
    pub(crate) scope: Option<String>,
    /// `insufficient_scope` or `invalid_token` (RFC 6750 section 3.1).
    pub(crate) error: Option<String>,
}

/// Returns the first challenge that can be met; a bearer token precedes a password, which is not sent to the registry
/// then.
pub(crate) fn best<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.into_iter().flat_map(parse).collect();
    let bearer = all.iter().find(|one| matches!(one, Challenge::Bearer(_)));
    bearer.or(all.first()).cloned()
}

/// Parses one header, which may have several challenges.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut current: Option<Bearer> = None;
    let mut rest = header.trim();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(|letter: char| " =,\t".contains(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after_spaces = after.trim_start();
        if let Some(value) = after_spaces.strip_prefix('=') {
            let (text, left) = value_of(value.trim_start());
            if let Some(bearer) = &mut current {
                match word.to_ascii_lowercase().as_str() {
                    "realm" => bearer.realm = text,
                    "service" => bearer.service = Some(text),
                    "scope" => bearer.scope = Some(text),
                    "error" => bearer.error = Some(text),
                    _ => {}
                }
            }
            rest = left;
        } else {
            // The name of a scheme.
            found.extend(current.take().map(Challenge::Bearer));
            match word.to_ascii_lowercase().as_str() {
                "bearer" => current = Some(Bearer::default()),
                "basic" => found.push(Challenge::Basic),
                _ => {}
            }
            rest = after_spaces;
        }
    }
    found.extend(current.map(Challenge::Bearer));
    found.retain(|one| !matches!(one, Challenge::Bearer(bearer) if bearer.realm.is_empty()));
    found
}

/// Splits a token or a quoted string from what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            error: None,
        })
    }

    #[test]
    fn challenges_of_registries_are_read() {
        for (headers, expected) in [
            (&[r#"Basic realm="Registry Realm""#][..], Some(Challenge::Basic)),
            (
                &[
                    r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push""#,
                ],
                Some(bearer(
                    "https://auth.example.com/token",
                    Some("registry"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (
                &["bearer realm=https://a/t, service=x"],
                Some(bearer("https://a/t", Some("x"), None)),
            ),
            (
                &[r#"Basic realm="a, b", Bearer realm="https://a/\"t""#],
                Some(bearer("https://a/\"t", None, None)),
            ),
            (
                &["Basic realm=x", r#"Bearer realm="https://a""#],
                Some(bearer("https://a", None, None)),
            ),
            (&["Negotiate", "Digest realm=x, nonce=y"], None),
            (&["Bearer", ""], None),
            (&[r#"Bearer realm="unclosed"#], Some(bearer("unclosed", None, None))),
            (&[], None),
        ] {
            assert_eq!(best(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_reason_of_a_refused_token_is_read() {
        let header = r#"Bearer realm="https://a",error="insufficient_scope""#;
        let Some(Challenge::Bearer(found)) = best([header]) else { panic!("no challenge") };
        assert_eq!(found.error.as_deref(), Some("insufficient_scope"));
    }
}

//! Tests which credentials are sent where, and what a challenge leads to.

use std::time::Duration;

use build_image_plugin_api::Secret;

use super::*;

fn registry(scheme: &str, proof: Proof) -> Registry {
    Registry {
        http: Http::open(None, false).unwrap(),
        reference: Reference::parse("r.example.com:5000/team/disk").unwrap(),
        credentials: Credentials { proof, source: "`auth.json`".to_owned() },
        session: Arc::default(),
        base: Url::parse(&format!("{scheme}://r.example.com:5000/v2/")).unwrap(),
        policy: Policy::call(Duration::ZERO),
    }
}

fn password() -> Proof {
    Proof::Basic("user".to_owned(), Secret::new("password"))
}

fn token() -> Authorization {
    Authorization::Token(Token { value: Secret::new("token"), actions: BTreeSet::new() })
}

#[test]
fn only_the_registry_itself_gets_credentials() {
    let registry = registry("https", password());
    for (url, gets) in [
        ("https://r.example.com:5000/v2/team/disk/blobs/uploads/1?state=x", true),
        ("https://R.example.com:5000/elsewhere", true),
        ("http://r.example.com:5000/v2/", false),
        ("https://r.example.com/v2/", false),
        ("https://r.example.com:5000@storage.example.com/", false),
        ("https://r.example.com.example.net:5000/", false),
        ("https://storage.example.com/blob?signature=x", false),
    ] {
        let url = Url::parse(url).unwrap();
        for authorization in [Authorization::Password, token()] {
            assert_eq!(registry.header_for(&url, &authorization).is_some(), gets, "{url}");
        }
        assert!(registry.header_for(&url, &Authorization::Nothing).is_none());
    }
}

#[test]
fn locations_may_be_relative_or_absolute() {
    let registry = registry("https", password());
    let base = registry.url("blobs/uploads/").unwrap();
    assert_eq!(base.as_str(), "https://r.example.com:5000/v2/team/disk/blobs/uploads/");
    for (location, expected) in [
        (
            "/v2/team/disk/blobs/uploads/1?a=b",
            "https://r.example.com:5000/v2/team/disk/blobs/uploads/1?a=b",
        ),
        ("1?a=b", "https://r.example.com:5000/v2/team/disk/blobs/uploads/1?a=b"),
        ("https://s.example.com/1", "https://s.example.com/1"),
    ] {
        assert_eq!(registry.join(&base, location).unwrap().as_str(), expected);
    }
}

#[test]
fn a_challenge_is_met_once_and_refused_with_what_to_do() {
    let bearer =
        || Some(Challenge::Bearer(Bearer { realm: "https://a".to_owned(), ..Bearer::default() }));
    let basic = || Some(Challenge::Basic);
    let identity = || Proof::Identity(Secret::new("refresh"));
    let fixed = || Proof::Registry(Secret::new("bearer"));
    let helper = || Proof::Helper("desktop".to_owned());
    let nothing = || Authorization::Nothing;
    for (proof, challenge, used, expected) in [
        (password(), basic(), nothing(), "password"),
        (password(), basic(), Authorization::Password, "refused"),
        (password(), bearer(), nothing(), "request"),
        (password(), bearer(), token(), "request"),
        (identity(), bearer(), token(), "request"),
        (identity(), basic(), nothing(), "`auth.json` has a token"),
        (fixed(), bearer(), nothing(), "token"),
        (fixed(), bearer(), token(), "refused"),
        (Proof::Anonymous, bearer(), nothing(), "request"),
        (Proof::Anonymous, bearer(), token(), "none were found"),
        (Proof::Anonymous, basic(), nothing(), "none were found"),
        (helper(), bearer(), nothing(), "`docker-credential-desktop`"),
        (password(), None, nothing(), "of a kind that is not supported"),
    ] {
        let registry = registry("https", proof);
        let found = match registry.decide(challenge, &used) {
            Remedy::Use(Authorization::Password) => "password".to_owned(),
            Remedy::Use(_) => "token".to_owned(),
            Remedy::Request(_) => "request".to_owned(),
            Remedy::Refuse(None) => "refused".to_owned(),
            Remedy::Refuse(Some(error)) => format!("{error} {}", error.hint.clone().unwrap()),
        };
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_secret_that_a_server_echoes_is_removed() {
    let registry = registry("https", password());
    let mut error = Error::new(ErrorKind::Auth, "no user with password");
    error.causes.push("password is wrong".to_owned());
    let mut failure = Failure::stop(error);
    registry.redact(&mut failure);
    assert!(!failure.error.to_string().contains("password"), "{}", failure.error);
    assert_eq!(failure.error.causes, ["[redacted] is wrong"]);
}

//! Tests where credentials come from.

use std::{collections::BTreeMap, fs, sync::Arc};

use build_image_plugin_api::{ErrorKind, testing::MockHost};

use super::*;

const CLOUDS: &str = "clouds: {a: {auth: {auth_url: 'https://k:5000', username: u, password: from-file, \
                      project_name: p, user_domain_name: D}, region_name: r}}";

struct Case {
    identity: Identity,
    variables: BTreeMap<String, String>,
    secrets: Vec<(&'static str, &'static str)>,
    clouds: String,
}

fn case() -> Case {
    Case {
        identity: Identity::default(),
        variables: BTreeMap::new(),
        secrets: Vec::new(),
        clouds: CLOUDS.to_owned(),
    }
}

impl Case {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn setting(mut self, name: &'static str, value: &str) -> Self {
        self.identity.values.push((name, value.to_owned()));
        self
    }

    fn secret(mut self, key: &'static str, value: &'static str) -> Self {
        self.secrets.push((key, value));
        self
    }

    /// Replaces a text of the file.
    fn file(mut self, old: &str, new: &str) -> Self {
        self.clouds = self.clouds.replace(old, new);
        self
    }

    fn login(self) -> Result<Login> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("clouds.yaml"), &self.clouds).unwrap();
        let environment = Environment::Of(self.variables, directory.path().to_owned());
        let host = self
            .secrets
            .iter()
            .fold(MockHost::new(), |host, (key, value)| host.with_secret(key, value));
        Login::of(&Arc::new(host).context(), &self.identity, &environment)
    }
}

fn password(login: &Login) -> &str {
    match &login.method {
        Method::Password { password, .. } => password.reveal(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sources_have_an_order_and_settings_replace_single_values() {
    let login = case().login().unwrap();
    assert_eq!((login.auth_url.as_str(), password(&login)), ("https://k:5000/v3", "from-file"));
    let named = |name: &str, domain| Named::Name { name: name.to_owned(), domain };
    assert_eq!(login.project, Some(named("p", Domain::Id("default".to_owned()))));
    let variables = || {
        let pairs = [
            ("OS_AUTH_URL", "http://e/v3/"),
            ("OS_USERNAME", "v"),
            ("OS_PASSWORD", "from-env"),
            ("OS_PROJECT_ID", "7"),
        ];
        pairs.iter().fold(case(), |case, (name, value)| case.variable(name, value))
    };
    let login = variables().login().unwrap();
    assert_eq!((login.auth_url.as_str(), password(&login)), ("http://e/v3", "from-env"));
    assert_eq!(login.project, Some(Named::Id("7".to_owned())));
    // A named cloud precedes the variables; a secret setting replaces its password.
    let login =
        variables().variable("OS_CLOUD", "a").secret("OPENSTACK_PASSWORD", "set").login().unwrap();
    assert_eq!((login.auth_url.as_str(), password(&login)), ("https://k:5000/v3", "set"));
    let login = case().setting("project_id", "9").setting("region_name", "s").login().unwrap();
    assert_eq!(
        (login.project, login.region.as_deref()),
        (Some(Named::Id("9".to_owned())), Some("s"))
    );
    // With a URL in the settings, the file does not count.
    let error = case().setting("auth_url", "http://x").login().unwrap_err();
    assert!(error.message.contains("the configuration has no password"), "{error}");
}

#[test]
fn a_secret_setting_decides_how_to_log_in() {
    let login = case().secret("OPENSTACK_TOKEN", "t").login().unwrap();
    assert!(matches!(login.method, Method::Token(_)), "{:?}", login.method);
    let login = case()
        .setting("application_credential_id", "i")
        .secret("OPENSTACK_APPLICATION_CREDENTIAL_SECRET", "s")
        .login()
        .unwrap();
    assert!(
        matches!(login.method, Method::ApplicationCredential { .. }) && login.project.is_none()
    );
}

#[test]
fn unchecked_certificates_are_refused() {
    for (old, new) in [
        ("region_name: r", "verify: false"),
        ("region_name: r", "insecure: true"),
        ("region_name: r", "verify: no"),
    ] {
        let error = case().file(old, new).login().unwrap_err();
        assert!(error.message.contains("would not be checked"), "{error}");
        assert!(error.hint.unwrap().contains("OPENSTACK_CA_FILE"));
    }
    assert!(case().file("region_name: r", "verify: true").login().is_ok());
}

#[test]
fn ways_to_log_in_that_are_not_implemented_are_named() {
    for (new, text) in [
        ("auth_type: v3oidcpassword", "`v3oidcpassword`"),
        ("auth_type: v3totp", "`v3totp`"),
        ("system_scope: all", "`system_scope`"),
        ("cert: c.pem", "`cert`"),
        ("identity_api_version: 2.0", "version 2"),
    ] {
        let error = case().file("region_name: r", new).login().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
    }
    let error = case().file("https://k:5000", "https://k:5000/v2.0").login().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[test]
fn what_is_missing_is_named() {
    for (old, new, text) in [
        ("auth_url: 'https://k:5000', ", "", "no `auth_url`"),
        ("password: from-file, ", "", "no password"),
        ("username: u, ", "", "no user name"),
        ("project_name: p, ", "", "no project"),
        ("region_name: r", "regions: [r, s]", "several regions"),
        ("region_name: r", "interface: secret", "interface `secret`"),
        ("'https://k:5000'", "k", "is not a URL"),
        ("'https://k:5000'", "'https://me:pw@k'", "a user name"),
    ] {
        let error = case().file(old, new).login().unwrap_err();
        assert!(error.message.contains(text), "{old}: {error}");
        assert!(
            !error.to_string().contains("from-file") && !error.to_string().contains("pw@"),
            "{error}"
        );
    }
}

#[test]
fn debug_output_has_no_secret() {
    let debug = format!("{:?}", case().login().unwrap());
    assert!(debug.contains("https://k:5000") && !debug.contains("from-file"), "{debug}");
}

#[test]
fn an_echoed_secret_is_removed_from_the_answer_of_a_service() {
    let login = case().login().unwrap();
    let mut error = Error::new(ErrorKind::Auth, "cannot log in");
    error.causes.push("no user with from-file, token t-1".to_owned());
    login.redact(&mut error, Some(&Secret::new("t-1")));
    assert_eq!(error.causes, ["no user with …, token …"]);
}

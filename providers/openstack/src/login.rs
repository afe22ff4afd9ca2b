//! Determines how to log in: the identity service, the user or application credential, the project, and the place.
//!
//! Sources, the first that has any: OPENSTACK_AUTH_URL (then only settings count); the cloud that OPENSTACK_CLOUD or
//! OS_CLOUD names in clouds.yaml; the variables OS_*; the only cloud of clouds.yaml. Single OPENSTACK_* settings replace
//! the source's values.

use build_image_plugin_api::{Context, Error, Result, Secret};
use serde_json::{Map, Value};

use crate::{clouds, config::Identity, environment::Environment};

/// How to log in, and where.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// URL of the identity API, ending with `/v3`.
    pub(crate) auth_url: String,
    pub(crate) method: Method,
    /// Absent for application credentials, which have a project, and for tokens that are used as they are.
    pub(crate) project: Option<Named>,
    pub(crate) region: Option<String>,
    /// `public`, `internal`, or `admin`.
    pub(crate) interface: String,
    pub(crate) ca_file: Option<String>,
    pub(crate) image_endpoint: Option<String>,
    /// Where it comes from, for messages.
    pub(crate) source: String,
}

/// Proof of identity.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Password {
        user: Named,
        password: Secret,
    },
    /// By id, or by name with its user.
    ApplicationCredential {
        id: Option<String>,
        named: Option<(String, Named)>,
        secret: Secret,
    },
    Token(Secret),
}

/// A user or project: its id, or its name with a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Id(String),
    Name { name: String, domain: Domain },
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    Id(String),
    Name(String),
}

/// Secret settings with their names in clouds.yaml.
const SECRETS: [(&str, &str); 3] = [
    ("OPENSTACK_PASSWORD", "password"),
    ("OPENSTACK_APPLICATION_CREDENTIAL_SECRET", "application_credential_secret"),
    ("OPENSTACK_TOKEN", "token"),
];

/// Variables that are read, without `OS_`.
const VARIABLES: [&str; 35] = [
    "AUTH_URL",
    "AUTH_TYPE",
    "AUTH_PLUGIN",
    "USERNAME",
    "USER_NAME",
    "USER_ID",
    "PASSWORD",
    "USER_DOMAIN_NAME",
    "USER_DOMAIN_ID",
    "PROJECT_NAME",
    "PROJECT_ID",
    "TENANT_NAME",
    "TENANT_ID",
    "PROJECT_DOMAIN_NAME",
    "PROJECT_DOMAIN_ID",
    "DOMAIN_NAME",
    "DOMAIN_ID",
    "DEFAULT_DOMAIN_NAME",
    "DEFAULT_DOMAIN_ID",
    "APPLICATION_CREDENTIAL_ID",
    "APPLICATION_CREDENTIAL_NAME",
    "APPLICATION_CREDENTIAL_SECRET",
    "TOKEN",
    "REGION_NAME",
    "INTERFACE",
    "ENDPOINT_TYPE",
    "CACERT",
    "CERT",
    "KEY",
    "INSECURE",
    "VERIFY",
    "IDENTITY_API_VERSION",
    "IMAGE_ENDPOINT_OVERRIDE",
    "SYSTEM_SCOPE",
    "TRUST_ID",
];

/// Values that this provider does not support, and what to do.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("system_scope", "images belong to a project: set a project, and remove `system_scope`"),
    ("trust_id", "use an application credential in place of a trust"),
    ("cert", "use an application credential in place of a client certificate"),
    ("key", "use an application credential in place of a client certificate"),
    ("passcode", "use an application credential in place of a one-time passcode"),
    (
        "identity_provider",
        "create an application credential with the federated login, and use that",
    ),
];

impl Login {
    /// Collects the values. Reads files and variables; makes no request.
    ///
    /// # Errors
    /// Config errors for missing and invalid values, `unsupported` for ways to log in that are not implemented.
    pub(crate) fn open(context: &Context, identity: &Identity) -> Result<Self> {
        Self::of(context, identity, &Environment::default())
    }

    /// Removes the secret of this login, and another one, from what a service answered.
    pub(crate) fn redact(&self, error: &mut Error, other: Option<&Secret>) {
        let own = match &self.method {
            Method::Password { password: secret, .. }
            | Method::ApplicationCredential { secret, .. }
            | Method::Token(secret) => secret,
        };
        for secret in [own].into_iter().chain(other).filter(|secret| !secret.reveal().is_empty()) {
            for cause in &mut error.causes {
                if cause.contains(secret.reveal()) {
                    *cause = cause.replace(secret.reveal(), "…");
                }
            }
        }
    }

    fn of(context: &Context, identity: &Identity, environment: &Environment) -> Result<Self> {
        let mut values = Values::find(identity, environment)?;
        for (name, text) in &identity.values {
            values.set(name, text);
        }
        // A secret setting decides how to log in, whatever the source has.
        let mut secrets = Vec::new();
        for (key, name) in SECRETS {
            secrets.extend(context.secret(key)?.map(|secret| (name, secret)));
        }
        if !secrets.is_empty() {
            let others = SECRETS.iter().map(|(_, name)| *name).chain(["auth_type", "auth_plugin"]);
            others.for_each(|name| values.remove(name));
        }
        for (name, secret) in secrets {
            values.set(name, secret.reveal());
        }
        values.login()
    }
}

/// Values by their names in clouds.yaml.
struct Values {
    map: Map<String, Value>,
    source: String,
}

impl Values {
    fn find(identity: &Identity, environment: &Environment) -> Result<Self> {
        if identity.values.iter().any(|(name, _)| *name == "auth_url") {
            return Ok(Self { map: Map::new(), source: "the configuration".to_owned() });
        }
        let named = identity.cloud.clone().or_else(|| environment.get("OS_CLOUD"));
        if named.is_none()
            && identity.config_file.is_none()
            && environment.get("OS_AUTH_URL").is_some()
        {
            let read = |name: &&str| {
                Some((name.to_lowercase(), environment.get(&format!("OS_{name}"))?.into()))
            };
            let map = VARIABLES.iter().filter_map(read).collect();
            return Ok(Self { map, source: "the environment".to_owned() });
        }
        match clouds::find(environment, identity.config_file.as_deref(), named.as_deref())? {
            Some(found) => {
                let mut values = Self { map: found.values, source: found.source };
                if let Some(region) = environment.get("OS_REGION_NAME") {
                    values.set("region_name", &region);
                }
                Ok(values)
            }
            None => Err(Error::config("no OpenStack cloud is configured").with_hint(
                "set OPENSTACK_CLOUD to a cloud of ~/.config/openstack/clouds.yaml, source the openrc file of the project, or set OPENSTACK_AUTH_URL",
            )),
        }
    }

    /// Returns a text; members of `auth` and of the cloud itself count alike.
    fn get(&self, names: &[&str]) -> Option<String> {
        let auth = self.map.get("auth").and_then(Value::as_object);
        let find = |name: &&str| {
            let dashed = name.replace('_', "-");
            let of =
                |map: &Map<String, Value>| map.get(*name).or_else(|| map.get(&dashed)).cloned();
            auth.and_then(of).or_else(|| of(&self.map))
        };
        names.iter().filter_map(find).find_map(|value| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }

    fn set(&mut self, name: &str, text: &str) {
        // A project or user by name replaces one by id, and the reverse.
        let rival = match name {
            "project_name" => &["project_id", "tenant_id", "tenant_name"][..],
            "project_id" => &["project_name", "tenant_name", "tenant_id"],
            "username" => &["user_id", "user_name"],
            "user_domain_name" => &["user_domain_id"],
            "project_domain_name" => &["project_domain_id"],
            "interface" => &["endpoint_type"],
            "application_credential_id" => &["application_credential_name"],
            "application_credential_name" => &["application_credential_id"],
            _ => &[],
        };
        for name in rival.iter().chain(&[name]) {
            self.remove(name);
        }
        self.map.insert(name.to_owned(), text.into());
    }

    fn remove(&mut self, name: &str) {
        self.map.remove(name);
        if let Some(Value::Object(auth)) = self.map.get_mut("auth") {
            auth.remove(name);
        }
    }

    fn login(&self) -> Result<Login> {
        self.refuse_what_is_not_supported()?;
        let method = self.method()?;
        Ok(Login {
            auth_url: self.auth_url()?,
            project: self.project(&method)?,
            method,
            region: self.region()?,
            interface: self.interface()?,
            ca_file: self.get(&["cacert"]).map(|path| expand_home(&path)),
            image_endpoint: self.get(&["image_endpoint_override"]),
            source: self.source.clone(),
        })
    }

    fn refuse_what_is_not_supported(&self) -> Result<()> {
        let source = &self.source;
        let truth = |names: &[&str]| {
            self.get(names)
                .map(|text| matches!(text.to_lowercase().as_str(), "true" | "1" | "yes" | "on"))
        };
        let unverified = if truth(&["insecure"]) == Some(true) {
            Some("insecure")
        } else if truth(&["verify"]) == Some(false) {
            Some("verify: false")
        } else {
            None
        };
        if let Some(word) = unverified {
            return Err(Error::config(format!("{source} sets `{word}`: certificates would not be checked"))
                .with_hint("name the CA certificate of the cloud in OPENSTACK_CA_FILE or `cacert`, and remove the value"));
        }
        for (name, instead) in UNSUPPORTED {
            if self.get(&[name]).is_some() {
                return Err(Error::unsupported(format!("{source} sets `{name}`"), instead));
            }
        }
        if self.get(&["identity_api_version"]).is_some_and(|version| version.starts_with('2')) {
            return Err(Error::unsupported(
                format!("{source} asks for version 2 of the identity API"),
                "use version 3: set `identity_api_version: 3` and a v3 URL",
            ));
        }
        Ok(())
    }

    fn missing(&self, what: &str, hint: &str) -> Error {
        Error::config(format!("{} has no {what}", self.source)).with_hint(hint)
    }

    fn auth_url(&self) -> Result<String> {
        let text = self.get(&["auth_url"]).ok_or_else(|| {
            self.missing("`auth_url`", "set OPENSTACK_AUTH_URL, or `auth_url` in clouds.yaml")
        })?;
        let invalid = |why: &str| {
            Error::config(format!("the `auth_url` of {} {why}", self.source))
                .with_hint("write a URL such as `https://cloud.example.com:5000/v3`")
        };
        if text.contains('{') {
            return Err(invalid("has placeholders"));
        }
        let url = reqwest::Url::parse(&text).map_err(|_| invalid("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid("is not an http or https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(invalid("has a user name or a query"));
        }
        let plain = url.as_str().trim_end_matches('/');
        if plain.ends_with("/v2.0") {
            return Err(Error::unsupported(
                format!(
                    "the `auth_url` of {} is that of version 2 of the identity API",
                    self.source
                ),
                "write the URL of version 3",
            ));
        }
        Ok(if plain.ends_with("/v3") { plain.to_owned() } else { format!("{plain}/v3") })
    }

    fn method(&self) -> Result<Method> {
        let secret = |names: &[&str]| self.get(names).map(Secret::new);
        let asked = self.get(&["auth_type", "auth_plugin"]).unwrap_or_default();
        let has = |name: &str| self.get(&[name]).is_some();
        let kind = match asked.as_str() {
            "" if has("application_credential_secret") => "application_credential",
            "" if has("token") => "token",
            // openstacksdk's default plugin uses a token where there is one.
            "password" | "v3password" | "" => "password",
            "token" | "v3token" => "token",
            "v3applicationcredential" => "application_credential",
            other => {
                return Err(Error::unsupported(
                    format!("{} asks for the login method `{other}`", self.source),
                    "create an application credential (`openstack application credential create NAME`), and use that",
                ));
            }
        };
        match kind {
            "application_credential" => self.application_credential(secret(&["application_credential_secret"])),
            "token" => secret(&["token", "auth_token"]).map(Method::Token).ok_or_else(|| {
                self.missing("token", "set OPENSTACK_TOKEN, for example to the output of `openstack token issue -f value -c id`")
            }),
            _ => {
                let password = secret(&["password"]).ok_or_else(|| {
                    self.missing("password", "set OPENSTACK_PASSWORD, `password` in secure.yaml, or OS_PASSWORD")
                })?;
                let user = self.user().ok_or_else(|| {
                    self.missing("user name", "set OPENSTACK_USERNAME, `username` in clouds.yaml, or OS_USERNAME")
                })?;
                Ok(Method::Password { user, password })
            }
        }
    }

    fn application_credential(&self, secret: Option<Secret>) -> Result<Method> {
        const HINT: &str = "set OPENSTACK_APPLICATION_CREDENTIAL_ID and OPENSTACK_APPLICATION_CREDENTIAL_SECRET, or both in clouds.yaml";
        let secret =
            secret.ok_or_else(|| self.missing("secret of an application credential", HINT))?;
        let id = self.get(&["application_credential_id"]);
        let named = match (&id, self.get(&["application_credential_name"])) {
            (None, Some(name)) => {
                let user = self.user().ok_or_else(|| {
                    self.missing(
                        "user of the application credential",
                        "set OPENSTACK_USERNAME, or use the credential's id",
                    )
                })?;
                Some((name, user))
            }
            _ => None,
        };
        if id.is_none() && named.is_none() {
            return Err(self.missing("id of an application credential", HINT));
        }
        Ok(Method::ApplicationCredential { id, named, secret })
    }

    fn domain(&self, of: &str) -> Domain {
        let id = self.get(&[&format!("{of}_domain_id"), "domain_id"]);
        let name = self.get(&[&format!("{of}_domain_name"), "domain_name"]);
        match (self.get(&[&format!("{of}_domain_id")]), self.get(&[&format!("{of}_domain_name")])) {
            (Some(id), _) => return Domain::Id(id),
            (None, Some(name)) => return Domain::Name(name),
            (None, None) => {}
        }
        match (
            id,
            name,
            self.get(&["default_domain_id", "default_domain"]),
            self.get(&["default_domain_name"]),
        ) {
            (Some(id), ..) | (None, None, Some(id), _) => Domain::Id(id),
            (None, Some(name), ..) | (None, None, None, Some(name)) => Domain::Name(name),
            _ => Domain::Id("default".to_owned()),
        }
    }

    fn user(&self) -> Option<Named> {
        if let Some(id) = self.get(&["user_id"]) {
            return Some(Named::Id(id));
        }
        let name = self.get(&["username", "user_name", "user"])?;
        Some(Named::Name { name, domain: self.domain("user") })
    }

    fn project(&self, method: &Method) -> Result<Option<Named>> {
        if matches!(method, Method::ApplicationCredential { .. }) {
            return Ok(None);
        }
        if let Some(id) = self.get(&["project_id", "tenant_id"]) {
            return Ok(Some(Named::Id(id)));
        }
        match self.get(&["project_name", "tenant_name", "project"]) {
            Some(name) => Ok(Some(Named::Name { name, domain: self.domain("project") })),
            None if matches!(method, Method::Token(_)) => Ok(None),
            None => Err(self.missing("project", "set OPENSTACK_PROJECT_NAME or OPENSTACK_PROJECT_ID, or `project_name` in clouds.yaml")),
        }
    }

    fn region(&self) -> Result<Option<String>> {
        if let Some(region) = self.get(&["region_name"]) {
            return Ok(Some(region));
        }
        let Some(Value::Array(regions)) = self.map.get("regions") else { return Ok(None) };
        let name = |region: &Value| {
            let name = region.as_str().or_else(|| region.get("name").and_then(Value::as_str));
            name.map(str::to_owned)
        };
        let names: Vec<String> = regions.iter().filter_map(name).collect();
        match names.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => Err(Error::config(format!("{} has several regions", self.source))
                .with_hint(format!("set OPENSTACK_REGION to one of: {}", several.join(", ")))),
        }
    }

    fn interface(&self) -> Result<String> {
        let text = self.get(&["image_interface", "interface", "endpoint_type"]);
        let text = text.unwrap_or_else(|| "public".to_owned());
        match text.trim_end_matches("URL") {
            plain @ ("public" | "internal" | "admin") => Ok(plain.to_owned()),
            _ => Err(Error::config(format!("{} asks for the interface `{text}`", self.source))
                .with_hint("use `public`, `internal`, or `admin`")),
        }
    }
}

fn expand_home(path: &str) -> String {
    match path.strip_prefix("~/").zip(Environment::default().get("HOME")) {
        Some((rest, home)) => format!("{home}/{rest}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;

//! Tests the chain against the emulator: order of sources, roles, the instance's keys, renewal.

use std::{collections::BTreeMap, sync::Arc};

use build_image_emulator_alibaba::{Config as Server, Running, start};
use build_image_plugin_api::{retry::Failure, testing::MockHost};

use super::{Credentials, Environment, Identity, Keys};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn server() -> Running {
    start(Server::default()).unwrap()
}

fn environment(list: &[(&str, &str)]) -> Environment {
    let pairs = list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Environment::Of(pairs.collect::<BTreeMap<_, _>>())
}

fn chain(host: MockHost, identity: &Identity, variables: &[(&str, &str)]) -> Credentials {
    Credentials::open(&Arc::new(host).context(), identity).within(environment(variables))
}

fn off() -> Identity {
    Identity { metadata: Some("off".to_owned()), ..Identity::default() }
}

fn found(chain: &Credentials) -> (String, String) {
    let keys = run(chain.current()).unwrap();
    (keys.id.reveal().to_owned(), chain.source_name().unwrap())
}

const PAIR: [(&str, &str); 2] =
    [("ALIBABA_CLOUD_ACCESS_KEY_ID", "env-id"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "env-secret")];

fn at(server: &Running) -> Identity {
    let address = format!("http://{}", server.address());
    Identity { sts: Some(address.clone()), metadata: Some(address), ..Identity::default() }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn the_settings_come_first_then_the_environment() {
    let host = || {
        MockHost::new()
            .with_secret("ALIBABA_ACCESS_KEY_ID", "an-id")
            .with_secret("ALIBABA_ACCESS_KEY_SECRET", "a-secret")
            .with_secret("ALIBABA_SECURITY_TOKEN", "a-token")
    };
    let settings = chain(host(), &off(), &PAIR);
    assert_eq!(found(&settings), ("an-id".to_owned(), "the settings".to_owned()));
    assert_eq!(run(settings.current()).unwrap().token.unwrap().reveal(), "a-token");
    let (id, source) = found(&chain(MockHost::new(), &off(), &PAIR));
    assert_eq!(id, "env-id");
    assert!(source.contains("ALIBABA_CLOUD_ACCESS_KEY_ID") && !source.contains("env-id"));
    let oss = [("OSS_ACCESS_KEY_ID", "oss-id"), ("OSS_ACCESS_KEY_SECRET", "s")];
    assert_eq!(found(&chain(MockHost::new(), &off(), &oss)).0, "oss-id");
}

#[test]
fn without_any_source_the_error_lists_what_can_be_set() {
    let failure: Failure = run(chain(MockHost::new(), &off(), &[]).current()).unwrap_err();
    assert!(failure.error.hint.unwrap().contains("ALIBABA_PROFILE"));
}

#[test]
fn the_files_come_after_the_environment() {
    let config = file(
        r#"{"current":"p","profiles":[{"name":"p","mode":"AK","access_key_id":"cli-id","access_key_secret":"s"},
        {"name":"q","mode":"AK","access_key_id":"q-id","access_key_secret":"s"}]}"#,
    );
    let ini = file("[default]\ntype=access_key\naccess_key_id=ini-id\naccess_key_secret=s\n");
    let files = [
        ("ALIBABA_CLOUD_CONFIG_FILE", config.path().to_str().unwrap()),
        ("ALIBABA_CLOUD_CREDENTIALS_FILE", ini.path().to_str().unwrap()),
    ];
    let (id, source) = found(&chain(MockHost::new(), &off(), &files));
    assert_eq!(id, "cli-id");
    assert!(source.starts_with("profile `p` of"), "{source}");
    let mut disabled = files.to_vec();
    disabled.push(("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true"));
    assert_eq!(found(&chain(MockHost::new(), &off(), &disabled)).0, "ini-id");
    let mut both = files.to_vec();
    both.extend(PAIR);
    assert_eq!(found(&chain(MockHost::new(), &off(), &both)).0, "env-id");
    // A profile that the settings name wins over the environment.
    let named = Identity { profile: Some("q".to_owned()), ..off() };
    assert_eq!(found(&chain(MockHost::new(), &named, &both)).0, "q-id");
    let missing = Identity { profile: Some("z".to_owned()), ..off() };
    assert!(run(chain(MockHost::new(), &missing, &both).current()).is_err());
}

#[test]
fn a_chain_of_roles_is_assumed() {
    let server = server();
    let config = file(
        r#"{"current":"far","profiles":[
        {"name":"near","mode":"RamRoleArn","access_key_id":"emulator-id","access_key_secret":"emulator-secret","ram_role_arn":"acs:ram::1000000000000001:role/emulator-role"},
        {"name":"far","mode":"ChainableRamRoleArn","source_profile":"near","ram_role_arn":"acs:ram::1000000000000001:role/emulator-role"}]}"#,
    );
    let files = [("ALIBABA_CLOUD_CONFIG_FILE", config.path().to_str().unwrap())];
    let chain = chain(MockHost::new(), &at(&server), &files);
    let keys = run(chain.current()).unwrap();
    assert!(keys.token.is_some() && keys.id.reveal() != "emulator-id");
    // They are kept while they are valid, and fetched again when they were refused.
    assert_eq!(run(chain.current()).unwrap(), keys);
    assert!(chain.renew(&keys));
    let next = run(chain.current()).unwrap();
    assert_ne!(next, keys);
    // A refusal of older keys does not discard the new ones.
    assert!(chain.renew(&keys));
    assert_eq!(run(chain.current()).unwrap(), next);
}

#[test]
fn keys_of_a_file_are_held_until_they_are_refused() {
    let text = |id: &str| {
        format!(
            r#"{{"current":"p","profiles":[{{"name":"p","mode":"AK","access_key_id":"{id}","access_key_secret":"s"}}]}}"#
        )
    };
    let config = file(&text("first"));
    let files = [("ALIBABA_CLOUD_CONFIG_FILE", config.path().to_str().unwrap())];
    let chain = chain(MockHost::new(), &off(), &files);
    let first = run(chain.current()).unwrap();
    std::fs::write(config.path(), text("second")).unwrap();
    assert_eq!(run(chain.current()).unwrap(), first, "the file is not read for every request");
    assert!(chain.renew(&first), "the file has other keys by now");
    let second = run(chain.current()).unwrap();
    assert_eq!(second.id.reveal(), "second");
    assert!(!chain.renew(&second), "there are no others");
}

#[test]
fn every_request_that_an_expired_token_failed_may_be_made_again() {
    let server = server();
    let chain = chain(MockHost::new(), &at(&server), &[]);
    let keys = run(chain.current()).unwrap();
    // Many parts are in flight with the same keys; each is refused, and none has fetched new ones yet.
    for _ in 0..3 {
        assert!(chain.renew(&keys));
    }
    assert!(run(chain.current()).is_ok());
}

#[test]
fn an_identity_providers_token_stands_for_a_role() {
    let server = server();
    let token = file("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln\n");
    let variables = [
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.path().to_str().unwrap()),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1000000000000001:oidc-provider/emulator"),
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1000000000000001:role/emulator-role"),
    ];
    let keys = run(chain(MockHost::new(), &at(&server), &variables).current()).unwrap();
    assert!(keys.token.is_some());
}

#[test]
fn the_instances_role_comes_last_with_and_without_a_token() {
    let server = server();
    let chain_ = chain(MockHost::new(), &at(&server), &[]);
    let (_, source) = found(&chain_);
    assert!(source.ends_with("of this instance"), "{source}");
    server
        .set_faults(
            r#"[{"operation":"/latest/api/token","action":{"status":404,"code":"NotFound"}}]"#,
        )
        .unwrap();
    assert!(run(chain(MockHost::new(), &at(&server), &[]).current()).is_ok());
    let strict = [("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")];
    assert!(run(chain(MockHost::new(), &at(&server), &strict).current()).is_err());
    let disabled = [("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")];
    assert!(run(chain(MockHost::new(), &at(&server), &disabled).current()).is_err());
}

#[test]
fn a_service_can_hand_keys_out() {
    // The metadata service returns them in the same shape.
    let server = server();
    let role = run(async {
        let metadata = super::Metadata::open(at(&server).metadata.as_deref(), &environment(&[]));
        metadata.unwrap().unwrap().role().await.unwrap().unwrap()
    });
    let uri =
        format!("http://{}/latest/meta-data/ram/security-credentials/{role}", server.address());
    let chain = chain(MockHost::new(), &off(), &[("ALIBABA_CLOUD_CREDENTIALS_URI", &uri)]);
    assert_eq!(found(&chain).1, "credentials service");
}

#[test]
fn keys_that_end_soon_are_not_used() {
    // Sessions of two minutes have less than three minutes left from the start.
    let server = start(Server {
        session_time: Some(std::time::Duration::from_secs(120)),
        ..Server::default()
    })
    .unwrap();
    let config = file(
        r#"{"current":"r","profiles":[{"name":"r","mode":"RamRoleArn","access_key_id":"emulator-id",
        "access_key_secret":"emulator-secret","ram_role_arn":"acs:ram::1000000000000001:role/emulator-role"}]}"#,
    );
    let files = [("ALIBABA_CLOUD_CONFIG_FILE", config.path().to_str().unwrap())];
    let chain = chain(MockHost::new(), &at(&server), &files);
    let first: Keys = run(chain.current()).unwrap();
    assert_ne!(run(chain.current()).unwrap(), first);
}

#[test]
fn a_role_that_does_not_exist_is_a_matter_of_its_arn() {
    let server = server();
    let token = file("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln");
    let variables = [
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.path().to_str().unwrap()),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1000000000000001:oidc-provider/emulator"),
        ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1000000000000001:role/nobody"),
    ];
    let failure = run(chain(MockHost::new(), &at(&server), &variables).current()).unwrap_err();
    assert!(failure.error.hint.unwrap().contains("ARN"));
}

//! Warns of connections that are not encrypted.

use build_image_plugin_api::document::Finding;

use crate::config::Place;

/// A warning for every endpoint on another machine that is reached by plain HTTP: signatures, tokens, and the
/// disk can be read and changed in transit.
pub(crate) fn findings(place: &Place) -> Vec<Finding> {
    let endpoints = [
        ("ALIBABA_OSS_ENDPOINT", place.oss.server()),
        ("ALIBABA_ECS_ENDPOINT", &place.ecs),
        ("ALIBABA_STS_ENDPOINT", &place.sts),
        ("ALIBABA_RAM_ENDPOINT", &place.ram),
    ];
    let mut plain: Vec<(&str, &str)> = endpoints
        .into_iter()
        .filter(|(_, endpoint)| endpoint.is_exposed())
        .map(|(key, endpoint)| (key, endpoint.authority()))
        .collect();
    // One server behind several settings results in one finding.
    plain.dedup_by(|later, first| later.1 == first.1);
    let warning = |(key, server): (&str, &str)| {
        Finding::warning(
            "endpoints",
            format!("the connection to `{server}` is not encrypted"),
            format!("write `https://` in {key}"),
        )
    };
    plain.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Settings;
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_plain_connection_to_another_machine_is_a_warning() {
        for (endpoint, count) in [
            ("https://stack.example.com", 0),
            ("http://127.0.0.1:81", 0),
            ("http://localhost:81", 0),
            ("http://192.0.2.1", 1),
            ("http://oss-cn-hangzhou.aliyuncs.com", 1),
        ] {
            let values = [
                ("ALIBABA_BUCKET", "b-1"),
                ("ALIBABA_REGION", "cn-hangzhou"),
                ("ALIBABA_OSS_ENDPOINT", endpoint),
                ("ALIBABA_ECS_ENDPOINT", endpoint),
            ];
            let values = values.map(|(key, value)| (key.to_owned(), json!(value))).into();
            let place = Config::read(&Settings::from_values(values)).unwrap().place().unwrap();
            let found = findings(&place);
            assert_eq!(found.len(), count, "{endpoint}: {found:?}");
            assert!(found.iter().all(|one| one.message.contains("is not encrypted")), "{found:?}");
        }
    }
}

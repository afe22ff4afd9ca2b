//! Detects whether this runs inside the bucket's region: then the internal endpoint is nearer and its traffic
//! is free. The metadata service is asked once per run.

use build_image_plugin_api::{Context, Result};

use crate::{
    config::{Config, Place},
    credentials::{Environment, Metadata},
    oss_endpoint::OssEndpoint,
    state::NEARBY,
};

/// The place, through the internal endpoint when it is nearer and no other endpoint was configured.
///
/// # Errors
/// When the detected region cannot be stored.
pub(crate) fn nearby(context: &Context, config: &Config, place: Place) -> Result<Place> {
    if !config.may_choose_endpoint() {
        return Ok(place);
    }
    let region = match context.load::<Option<String>>(NEARBY)? {
        Some(known) => known,
        None => {
            let found = ask(context, config)?;
            context.save(NEARBY, &found)?;
            found
        }
    };
    if region.as_deref() != Some(&place.region) {
        return Ok(place);
    }
    let oss = OssEndpoint::choose(Some("internal"), &place.region, &place.bucket, true, false)?;
    Ok(Place { oss, ..place })
}

/// Region of the instance this runs on.
fn ask(context: &Context, config: &Config) -> Result<Option<String>> {
    let chosen = config.identity.metadata.as_deref();
    let Some(metadata) = Metadata::open(chosen, &Environment::default())? else { return Ok(None) };
    context.block_on(async { Ok(metadata.region().await) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use build_image_emulator_alibaba::{Config as Server, start};
    use build_image_plugin_api::{Settings, testing::MockHost};
    use serde_json::json;

    use super::*;

    fn host_for(region: &str, chosen: Option<&str>) -> String {
        let server = start(Server::default()).unwrap();
        let metadata = format!("http://{}", server.address());
        let mut values = vec![
            ("ALIBABA_BUCKET", json!("b-1")),
            ("ALIBABA_REGION", json!(region)),
            ("ALIBABA_METADATA_ENDPOINT", json!(metadata)),
        ];
        values.extend(chosen.map(|word| ("ALIBABA_OSS_ENDPOINT", json!(word))));
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let config = Config::read(&Settings::from_values(values)).unwrap();
        let context = Arc::new(MockHost::new()).context();
        let place = nearby(&context, &config, config.place().unwrap()).unwrap();
        drop(server);
        // The second call uses the stored answer.
        let again = nearby(&context, &config, config.place().unwrap()).unwrap();
        assert_eq!(again.oss, place.oss);
        place.oss.url("b-1", Some("k"))
    }

    #[test]
    fn an_instance_of_the_same_region_uses_the_internal_endpoint() {
        let url = host_for("cn-hangzhou", None);
        assert_eq!(url, "https://b-1.oss-cn-hangzhou-internal.aliyuncs.com/k");
    }

    #[test]
    fn another_region_and_a_chosen_endpoint_stay_as_they_are() {
        let url = host_for("eu-central-1", None);
        assert_eq!(url, "https://b-1.oss-eu-central-1.aliyuncs.com/k");
        let url = host_for("cn-hangzhou", Some("public"));
        assert_eq!(url, "https://b-1.oss-cn-hangzhou.aliyuncs.com/k");
    }
}

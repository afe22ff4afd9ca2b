//! Upload sessions of a registry: they are journaled before they are opened, and resumed or cancelled by later
//! processes of the run. OCI distribution specification 1.1, "Pushing a blob in chunks".

use build_image_plugin_api::{
    Context, Error, Resource, Result,
    http::Answer,
    retry::{self, Failure},
};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};

use crate::{
    flow::Layer,
    http::foreign,
    owner::Owner,
    registry::{Call, Registry},
};

/// Checkpoint with the progress of the layer.
pub(crate) const STARTED: &str = "layer";
/// Attribute with the first URL of a session.
pub(crate) const LOCATION: &str = "location";
/// Kind of the resource.
pub(crate) const SESSION: &str = "upload_session";

/// The progress of a run, as the checkpoint stores it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) owner: Owner,
    /// What the layer is made of; another recipe makes other bytes.
    pub(crate) recipe: String,
    /// The open session.
    pub(crate) session: Option<Open>,
    /// The layer, once it was read completely.
    pub(crate) layer: Option<Layer>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// Chosen here, before the registry opens it.
    pub(crate) name: String,
    /// URL of the next request; it changes with each.
    pub(crate) location: String,
    /// Bytes that the registry has.
    pub(crate) offset: u64,
    /// Fewest bytes of a chunk but the last (`OCI-Chunk-Min-Length`).
    #[serde(default)]
    pub(crate) shortest_chunk: u64,
}

impl Open {
    /// Returns the resource for the journal. The checkpoint has a newer URL.
    pub(crate) fn resource(&self, registry: &Registry) -> Resource {
        resource(registry, &self.name).with(LOCATION, &self.location)
    }

    /// Opens a session in the repository.
    ///
    /// # Errors
    /// Refusals; broken connections; [`Error::cancelled`].
    pub(crate) async fn begin(context: &Context, registry: &Registry) -> Result<Self> {
        context.check_cancelled()?;
        let name = format!("{:016x}", retry::random());
        let planned = resource(registry, &name);
        context.will_create(&planned)?;
        context.check_cancelled()?;
        let call = Call::new(Method::POST, registry.url("blobs/uploads/")?);
        let what = format!("begin an upload to `{}`", registry.reference.name());
        let opened = async {
            let answer = context.until_answered(registry.call(&call, &what)).await?;
            let mut open =
                Self { name, location: call.url.to_string(), offset: 0, shortest_chunk: 0 };
            let shortest = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
            open.shortest_chunk = shortest.unwrap_or(0);
            if answer.header("location").is_none() {
                return Err(foreign(&what));
            }
            open.moved(registry, &call.url, &answer)?;
            Ok(open)
        };
        match opened.await {
            Ok(open) => {
                let created = context.created(&open.resource(registry));
                recorded(context, registry, &open, created).await?;
                Ok(open)
            }
            Err(failure) => {
                if failure.status.is_some_and(|status| status < 500) {
                    context.gone(&planned)?;
                }
                Err(failure.into())
            }
        }
    }

    /// Returns the URL of the next request.
    ///
    /// # Errors
    /// When it is not a URL.
    pub(crate) fn url(&self, registry: &Registry) -> Result<Url, Failure> {
        registry.join(&registry.root(), &self.location)
    }

    /// Follows the `Location` of an answer; without one the URL stays.
    ///
    /// # Errors
    /// When it is not a URL.
    pub(crate) fn moved(
        &mut self,
        registry: &Registry,
        base: &Url,
        answer: &Answer,
    ) -> Result<(), Failure> {
        if let Some(location) = answer.header("location") {
            self.location = registry.join(base, location)?.to_string();
        }
        Ok(())
    }

    /// Requests the number of bytes that the registry has. Returns false when the session cannot be continued: it has
    /// ended, or, with Distribution, bytes arrived after its last answer, so that the state in its URL is outdated.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn look(&mut self, registry: &Registry) -> Result<bool, Failure> {
        let url = self.url(registry)?;
        let call = Call::new(Method::GET, url.clone());
        match registry.call(&call, "read the state of the upload").await {
            Ok(answer) => {
                let Some(offset) = answer.header("range").and_then(offset_of) else {
                    return Ok(false);
                };
                self.offset = offset;
                self.moved(registry, &url, &answer)?;
                Ok(true)
            }
            Err(failure) if is_lost(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Cancels the session. A session that is unknown has ended; registries that cannot cancel end it after a while.
    ///
    /// # Errors
    /// Other refusals, and broken connections.
    pub(crate) async fn cancel(&self, registry: &Registry) -> Result<(), Failure> {
        let call = Call::new(Method::DELETE, self.url(registry)?);
        match registry.call(&call, "cancel the upload").await {
            Err(failure)
                if !is_lost(&failure) && !failure.has_status(405) && !failure.has_status(501) =>
            {
                Err(failure)
            }
            _ => Ok(()),
        }
    }
}

/// Returns the resource of a session that is not open yet.
fn resource(registry: &Registry, name: &str) -> Resource {
    Owner::of(registry).mark(Resource::new(SESSION, name))
}

/// Whether a failure means that a session cannot be used any more.
pub(crate) fn is_lost(failure: &Failure) -> bool {
    matches!(failure.status, Some(400 | 404 | 410 | 416))
}

/// Returns the number of bytes of a `Range`: `0-N` of both ends inclusive. Distribution writes `0-0` for no byte.
pub(crate) fn offset_of(range: &str) -> Option<u64> {
    let range = range.trim();
    let (start, end) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let end: u64 = end.parse().ok()?;
    (start == "0").then(|| if end == 0 { 0 } else { end + 1 })
}

impl Started {
    /// Returns the progress of an earlier process of the run, if there is one.
    ///
    /// # Errors
    /// Config error for the progress in another repository.
    pub(crate) fn earlier(context: &Context, registry: &Registry) -> Result<Option<Self>> {
        let Some(started) = context.load::<Self>(STARTED)? else { return Ok(None) };
        Owner::of(registry).may_use("the upload of this run", &started.owner)?;
        Ok(Some(started))
    }

    /// Stores the progress.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, context: &Context) -> Result<()> {
        context.save(STARTED, self)
    }
}

/// Returns whether the newest URL of a session was recorded. If not, only this process can cancel the session, and does.
///
/// # Errors
/// The error of the record.
pub(crate) async fn recorded(
    context: &Context,
    registry: &Registry,
    open: &Open,
    record: Result<()>,
) -> Result<()> {
    if record.is_err()
        && let Err(failure) = context.until_answered(open.cancel(registry)).await
    {
        tracing::warn!(error = %failure.error, "an upload that was not recorded was not cancelled");
    }
    record
}

/// Records that a session has ended, and cancels it if that is not known.
///
/// # Errors
/// When it cannot be recorded; refusals; broken connections.
pub(crate) async fn abandon(context: &Context, registry: &Registry, open: &Open) -> Result<()> {
    open.cancel(registry).await.map_err(Error::from)?;
    context.gone(&open.resource(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_registries_are_read() {
        for (range, offset) in [
            ("0-0", Some(0)),
            ("0-999", Some(1000)),
            ("bytes=0-1", Some(2)),
            (" 0-5 ", Some(6)),
            ("5-9", None),
            ("0-", None),
            ("x", None),
            ("0-99999999999999999999", None),
        ] {
            assert_eq!(offset_of(range), offset, "{range}");
        }
    }
}

//! Writes the manifest of an object that is kept, and records it: it stays and disappears with its object.

use build_image_plugin_api::{
    Context, ErrorKind, Resource, Result,
    document::UploadRequest,
    retry::{Failure, Policy},
};
use bytes::Bytes;

use super::{ManifestState, Options, earlier::manifest_key, manifest, prepare::read_missing};
use crate::{
    config::Config,
    marks::{OBJECT_KEPT, OBJECT_RUN},
    oss::Oss,
    reader::Reader,
    state::{UPLOAD, UploadState},
};

/// Maximum length of an object key in bytes.
const KEY_BYTES: usize = 1023;
/// A build does not wait long for a file that only the next one needs.
const POLICY: Policy = Policy::BRIEF;

/// Keeps the manifest of the run's object.
pub(crate) struct Keeper<'a> {
    pub(crate) context: &'a Context,
    pub(crate) config: &'a Config,
    pub(crate) request: &'a UploadRequest,
    pub(crate) oss: &'a Oss,
}

impl Keeper<'_> {
    /// Writes the manifest of a complete object if the object is kept; otherwise records that an earlier one is to be
    /// removed with the object. A manifest that cannot be written is not an error of the build.
    ///
    /// # Errors
    /// When nothing can be recorded, or the disk cannot be read.
    pub(crate) async fn settle(&self, state: &mut UploadState, reader: &Reader) -> Result<()> {
        let Self { context, config, request, .. } = self;
        let is_used = Options::is_used_for(config, &request.disk);
        let is_wanted = is_used && config.keep_object && reader.blocks().is_some();
        match &state.manifest {
            Some(known) if known.is_written || !is_wanted => {
                let kept = config.keep_object && known.is_written;
                context.created(&state.manifest_resource(&known.key, kept))
            }
            _ if is_wanted => self.write(state, reader).await,
            _ => Ok(()),
        }
    }

    async fn write(&self, state: &mut UploadState, reader: &Reader) -> Result<()> {
        let Self { context, config, request, oss } = self;
        let key = manifest_key(config, &request.build, &state.key);
        if key.len() > KEY_BYTES {
            return Ok(());
        }
        let Some(content) = self.content(state, reader).await? else { return Ok(()) };
        state.manifest = Some(ManifestState { key: key.clone(), is_written: false });
        context.save(UPLOAD, state)?;
        context.check_cancelled()?;
        let resource = state.manifest_resource(&key, true);
        context.will_create(&resource)?;
        let headers = [
            ("content-type".to_owned(), "application/json".to_owned()),
            (OBJECT_RUN.to_owned(), request.build.run_id.clone()),
            (OBJECT_KEPT.to_owned(), "yes".to_owned()),
        ];
        let call = oss.put(&key, &headers, &content, &POLICY);
        if let Err(failure) = context.until_answered(call).await {
            return self.give_up(state, &resource, failure).await;
        }
        state.manifest = Some(ManifestState { key, is_written: true });
        context.save(UPLOAD, state)?;
        context.created(&resource)
    }

    /// The text of the manifest; `None` when the object is not what was read.
    async fn content(&self, state: &UploadState, reader: &Reader) -> Result<Option<Bytes>> {
        read_missing(reader).await?;
        let Some(blocks) = reader.blocks() else { return Ok(None) };
        let object = match self.oss.described(&state.key, &POLICY).await {
            Ok(Ok(object)) => object,
            Ok(Err(why)) => return self.without(&why),
            Err(failure) => return self.without(&failure.error.to_string()),
        };
        let all = blocks.all().filter(|_| {
            object.size == blocks.length && blocks.crc(0, blocks.length) == Some(object.crc)
        });
        let Some(all) = all else {
            return self.without("the disk was changed while it was uploaded");
        };
        let size = blocks.size;
        let written = tokio::task::spawn_blocking(move || manifest::write(&object, size, &all));
        Ok(written.await.ok().map(Bytes::from))
    }

    fn without<T>(&self, why: &str) -> Result<Option<T>> {
        let text = format!("the next build cannot copy parts of this disk: {why}");
        self.context.warning(text, "build again, or set ALIBABA_UPLOAD_DELTA=off")?;
        Ok(None)
    }

    async fn give_up(
        &self,
        state: &mut UploadState,
        resource: &Resource,
        failure: Failure,
    ) -> Result<()> {
        if failure.error.kind == ErrorKind::Cancelled {
            return Err(failure.into());
        }
        let key = resource.attributes.get("key").cloned().unwrap_or_default();
        // It may exist although the answer was lost.
        if self.oss.delete(&key, &POLICY).await.is_ok() {
            self.context.gone(resource)?;
            state.manifest = None;
            self.context.save(UPLOAD, state)?;
        }
        self.without::<()>(&failure.error.to_string()).map(|_| ())
    }
}

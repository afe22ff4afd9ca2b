//! Runs the futures of a provider: a runtime that belongs to the instance, ended by the host's request to stop.

use std::{future::Future, time::Duration};

use tokio::sync::watch;

use super::{Context, runtime::RuntimeSlot, stop::Stop};
use crate::{Error, Result};

/// Longest wait for the answer of a call after the host asked to stop; a step has two seconds to end.
const ANSWER_GRACE: Duration = Duration::from_millis(1500);

/// What the futures of an instance need.
#[derive(Default)]
pub(super) struct Services {
    runtime: RuntimeSlot,
    stop: Stop,
    /// Number of running calls that [`Context::until_answered`] protects.
    pub(super) calls: watch::Sender<usize>,
}

impl Services {
    /// Ends the runtime without waiting long for stuck tasks; nothing of it calls the host afterwards.
    pub(super) fn end(&self) {
        self.runtime.end();
        self.stop.end();
    }

    /// Completes when no call is running.
    async fn idle(&self) {
        // The sender exists as long as `self`.
        let _ = self.calls.subscribe().wait_for(|&calls| calls == 0).await;
    }
}

/// Counts a call while it is running.
struct Call<'a>(&'a watch::Sender<usize>);

impl<'a> Call<'a> {
    fn begin(calls: &'a watch::Sender<usize>) -> Self {
        calls.send_modify(|calls| *calls += 1);
        Self(calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// Services for asynchronous providers (feature `async`).
impl Context {
    /// Runs a future to completion on a runtime that belongs to this provider. Ctrl-C drops the future at once, see
    /// [`Context::until_answered`].
    ///
    /// While a future runs, one thread of the instance waits in the host and wakes four times per second at most.
    ///
    /// ```
    /// # use build_image_plugin_api::{Context, Error, ErrorKind, Result, document::UploadRequest};
    /// # async fn put_object(_: &str) -> std::io::Result<String> { Ok("etag".into()) }
    /// fn upload(context: &Context, request: &UploadRequest) -> Result<String> {
    ///     context.block_on(async {
    ///         let answer = put_object(&request.disk.file_name).await;
    ///         answer.map_err(|error| {
    ///             Error::new(ErrorKind::Network, "the object was not stored")
    ///                 .caused_by(&error)
    ///                 .retryable()
    ///         })
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// The future's, [`Error::cancelled`], or an internal one when no thread can be started or when it is called from
    /// inside a future: await there instead.
    pub fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(Error::internal("`block_on` was called from inside a future")
                .with_hint("await the future instead, or call `block_on` outside of it"));
        }
        let handle = self.services.runtime.handle()?;
        let mut listener = self.services.stop.listen(&self.host)?;
        handle.block_on(async {
            let mut future = std::pin::pin!(future);
            tokio::select! {
                biased;
                answer = &mut future => return answer,
                () = listener.stopped() => {}
            }
            tokio::select! {
                biased;
                answer = &mut future => answer,
                _ = tokio::time::timeout(ANSWER_GRACE, self.services.idle()) => Err(Error::cancelled()),
            }
        })
    }

    /// Completes when the host asks the step to stop, with the error that the step then returns: for `select!` in
    /// tasks of the provider, which [`Context::block_on`] does not drop.
    pub async fn cancelled(&self) -> Error {
        // After the end of the instance there is nothing to wait for.
        if let Ok(mut listener) = self.services.stop.listen(&self.host) {
            listener.stopped().await;
        }
        Error::cancelled()
    }

    /// Runs a call that creates something, inside [`Context::block_on`]: Ctrl-C does not drop it before it is
    /// answered, for 1.5 seconds at most, since only the answer reveals what was created. Record that immediately
    /// afterwards, without awaiting anything in between.
    pub async fn until_answered<F: Future>(&self, call: F) -> F::Output {
        let _call = Call::begin(&self.services.calls);
        call.await
    }
}

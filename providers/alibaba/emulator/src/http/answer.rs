//! Sends an answer: status, headers, and a body that is text or the bytes of an object read from disk while
//! they are sent. A body can be truncated, corrupted, or slowed down.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::time::Sleep;

use super::Throttle;

const READ_SIZE: u64 = 512 << 10;

/// A run of bytes of an open file.
#[derive(Debug)]
pub(crate) struct FileRun {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The content of an answer's body.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Text or nothing.
    Text(Bytes),
    /// Runs of files, in order.
    Files(Vec<FileRun>),
}

/// How a body is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Send only this many bytes, then close the connection.
    pub(crate) keep: Option<u64>,
    /// Rates to comply with.
    pub(crate) throttles: Vec<Arc<Throttle>>,
    /// Flip a bit of the first byte.
    pub(crate) corrupt: bool,
}

/// An answer before it is sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
}

impl Answer {
    /// An answer without body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), payload: Payload::Text(Bytes::new()) }
    }

    /// An answer with a text of this content type.
    pub(crate) fn text(status: u16, content_type: &'static str, text: String) -> Self {
        let mut answer = Self::empty(status);
        answer.payload = Payload::Text(Bytes::from(text));
        answer.with("content-type", content_type)
    }

    /// Sets a header; a value that is invalid in headers is left out.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Length of the body in bytes.
    pub(crate) fn length(&self) -> u64 {
        match &self.payload {
            Payload::Text(text) => text.len() as u64,
            Payload::Files(runs) => runs.iter().map(|run| run.length).sum(),
        }
    }

    /// Builds hyper's response.
    pub(crate) fn into_response(self, delivery: Delivery) -> Response<AnswerBody> {
        let total = self.length();
        let mut response = Response::new(AnswerBody {
            payload: self.payload,
            left: total,
            may_send: delivery.keep.unwrap_or(total),
            corrupt: delivery.corrupt,
            throttles: delivery.throttles,
            pause: None,
        });
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = self.headers;
        response
    }
}

/// The body as hyper sends it.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    payload: Payload,
    left: u64,
    may_send: u64,
    corrupt: bool,
    throttles: Vec<Arc<Throttle>>,
    /// Time until which nothing more may be sent.
    pause: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    fn read(&mut self) -> io::Result<Bytes> {
        let step = self.throttles.iter().map(|pace| pace.step()).min().unwrap_or(READ_SIZE);
        let most = step.min(self.may_send);
        let mut data = match &mut self.payload {
            Payload::Text(text) => {
                let size = usize::try_from(most).unwrap_or(usize::MAX).min(text.len());
                text.split_to(size)
            }
            Payload::Files(runs) => {
                runs.retain(|run| run.length > 0);
                let Some(run) = runs.first_mut() else { return Ok(Bytes::new()) };
                let size = READ_SIZE.min(run.length).min(most);
                let mut buffer =
                    vec![0; usize::try_from(size).expect("a read size fits in memory")];
                run.file.read_exact_at(&mut buffer, run.offset)?;
                run.offset += size;
                run.length -= size;
                Bytes::from(buffer)
            }
        };
        if self.corrupt && !data.is_empty() {
            self.corrupt = false;
            let mut copy = BytesMut::from(data.as_ref());
            copy[0] ^= 1;
            data = copy.freeze();
        }
        Ok(data)
    }

    /// Records what was sent and how long to wait for it.
    fn sent(&mut self, length: u64) {
        self.left -= length;
        self.may_send -= length;
        let passed = self.throttles.iter().map(|pace| pace.take(length)).max();
        self.pause = passed.map(|at| Box::pin(tokio::time::sleep_until(at)));
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if this.may_send == 0 {
            return Poll::Ready(Some(Err(io::Error::other("the answer is cut short by a fault"))));
        }
        Poll::Ready(Some(this.read().map(|data| {
            this.sent(data.len() as u64);
            Frame::data(data)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

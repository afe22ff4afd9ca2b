//! Serves HTTP/1.1 on loopback, plain or over TLS: connections, request heads, bodies, and answers.

mod answer;
mod body;
mod head;
mod pace;
mod server;
mod tls;

pub(crate) use answer::{Answer, AnswerBody, Delivery, FileRun, Payload};
pub(crate) use body::{BodyError, RequestBody};
pub(crate) use head::Head;
pub(crate) use pace::Pace;
pub use server::{Running, StartError, start};

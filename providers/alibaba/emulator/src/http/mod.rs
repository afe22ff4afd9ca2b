//! HTTP/1.1 on loopback, plain or in TLS: connections, request heads, bodies in and answers out.

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

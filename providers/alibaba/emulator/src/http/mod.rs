//! Serves HTTP/1.1 on loopback, plain or over TLS: connections, request heads, bodies, and answers.

mod answer;
mod body;
mod head;
mod server;
mod throttle;
mod tls;

pub(crate) use answer::{Answer, AnswerBody, Delivery, FileRun, Payload};
pub(crate) use body::{BodyError, RequestBody};
pub(crate) use head::Head;
pub use server::{Running, StartError, start};
pub(crate) use throttle::Throttle;

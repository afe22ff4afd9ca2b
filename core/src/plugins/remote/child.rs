//! Runs one library in this process, for a host in another process. It speaks the protocol of programs, so the
//! host does not distinguish them.

use std::{
    fs::File,
    io::BufReader,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use build_image_plugin_api::{Error, ErrorKind, Library, Result, Settings, Step, Steps};
use serde_json::{Value, json};

use super::{
    PROTOCOLS,
    link::Link,
    message::{self, LINE_LIMIT, Message, from_json, from_text, to_json},
    session::next_line,
};
use crate::exit;

/// Time for a library to return after its host has ended.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A call of the host.
type Call = (Value, String, Value);

/// Runs the library in `args[0]`, called `args[1]` in messages, until the input ends. Returns the exit code.
#[must_use]
pub fn run(args: &[String]) -> u8 {
    let Some((file, rest)) = args.split_first() else { return exit::USAGE };
    let Ok((input, output)) = take_streams() else { return exit::BUG };
    let link = Arc::new(Link::new(output));
    let (calls, inbox) = channel();
    let reading = Arc::clone(&link);
    let reader = thread::Builder::new().name("host".to_owned());
    if reader.spawn(move || read(input, &reading, calls)).is_err() {
        return exit::BUG;
    }
    let display_path = rest.first().unwrap_or(file).into();
    Child { file: file.into(), display_path, library: None, steps: None, link }.work(&inbox);
    exit::DONE
}

/// Takes standard input and output away from the library: its output must not be mistaken for messages.
fn take_streams() -> std::io::Result<(File, File)> {
    let input = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok((input.into(), output.into()))
}

/// Reads the host's lines until the end of input.
fn read(input: File, link: &Link, calls: Sender<Call>) {
    let mut stream = BufReader::with_capacity(64 << 10, input);
    while let Ok(Some(line)) = next_line(&mut stream, LINE_LIMIT) {
        match message::parse(&line) {
            Ok(Message::Answer { id, result }) => link.answered(id, result),
            Ok(Message::Notice { method, .. }) if method == "cancel" => link.set_stop(true),
            Ok(Message::Call { id, method, params }) => {
                // The message that stops a step is sent after its call, so this cannot undo it.
                link.set_stop(false);
                let _ = calls.send((id, method, params));
            }
            Ok(Message::Notice { .. }) | Err(_) => {}
        }
    }
    link.hang_up();
    drop(calls);
    let (_never, end) = channel::<()>();
    let _ = end.recv_timeout(END_LIMIT);
    leave();
}

#[expect(clippy::disallowed_methods, reason = "the host has ended and the library does not return")]
fn leave() {
    std::process::exit(i32::from(exit::INTERRUPTED));
}

struct Child {
    file: PathBuf,
    display_path: PathBuf,
    library: Option<Library>,
    steps: Option<Box<dyn Steps>>,
    link: Arc<Link>,
}

impl Child {
    fn work(mut self, calls: &Receiver<Call>) {
        while let Ok((id, method, params)) = calls.recv() {
            let result = self.serve(&method, &params);
            self.link.send(&message::answer(&id, result));
        }
    }

    fn serve(&mut self, method: &str, params: &Value) -> Result<Value> {
        match method {
            "initialize" => {
                self.link.open_buffer(params["buffer"]["path"].as_str().unwrap_or_default())?;
                Ok(json!({"protocol": PROTOCOLS[0]}))
            }
            "describe" => to_json(self.library()?.description()),
            "create" => {
                // Drops the previous instance first: only one exists at a time.
                self.steps = None;
                let settings: Settings =
                    from_json("the request of create is", params["settings"].clone())?;
                let link = Arc::clone(&self.link);
                self.steps = Some(self.library()?.create(link, &settings)?);
                Ok(Value::Null)
            }
            step => match Step::from_name(step) {
                Some(step) => self.step(step, params),
                None => Err(Error::unsupported(
                    format!("there is no `{step}`"),
                    "see the list of calls in docs/plugins.md",
                )),
            },
        }
    }

    fn step(&self, step: Step, params: &Value) -> Result<Value> {
        let name = step.name();
        let steps = self.steps.as_deref();
        let steps = steps.ok_or_else(|| Error::internal(format!("{name} comes before create")))?;
        let answer = steps.call(step, &params.to_string())?;
        from_text(&format!("the answer to {name} is"), &answer)
    }

    fn library(&mut self) -> Result<&Library> {
        if self.library.is_none() {
            let file = File::open(&self.file).map_err(|error| {
                Error::new(ErrorKind::Local, "the file cannot be opened").caused_by(&error)
            })?;
            let opened = Library::open(&file, &self.display_path).map_err(|error| {
                let mut made = Error::new(ErrorKind::Internal, error.message);
                made.hint = error.hint;
                made
            })?;
            self.library = Some(opened);
        }
        self.library.as_ref().ok_or_else(|| Error::internal("the library is not there"))
    }
}

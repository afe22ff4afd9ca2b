//! A proxy on loopback between a provider and its server: a reverse proxy in front of one server, or a forward proxy for
//! plain HTTP. One request per connection.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    message::{Framing, Head, copy_body},
    script::{Action, Fault, RETRY_AFTER, Record, Script, Target, kind},
};

/// Value of `--faults` for a setting that takes the address of a proxy.
pub(super) const FORWARD: &str = "proxy";
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// Longest body that is read for the name of its action, in bytes.
const LONGEST_TEXT: u64 = 64 << 10;
/// How late an answer comes, and how long it pauses in the middle.
const DELAY: Duration = Duration::from_secs(1);
/// By how much the date of answers is wrong.
const SKEW: u64 = 6 * 3600;

/// The proxies of a provider's settings, with one plan and one record.
pub(in crate::conformance) struct Proxies {
    script: Arc<Script>,
    /// Values of the settings.
    pub(in crate::conformance) settings: Vec<(String, String)>,
}

impl Proxies {
    /// Starts a proxy for each setting.
    pub(in crate::conformance) fn start(settings: &[(String, String)]) -> io::Result<Self> {
        let script = Arc::<Script>::default();
        let mut values = Vec::new();
        for (key, url) in settings {
            let server = Server::parse(url)?;
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = listener.local_addr()?;
            let (scheme, path) = server
                .as_ref()
                .map_or((SCHEME, ""), |server| (server.scheme, server.path.as_str()));
            values.push((key.clone(), format!("{scheme}{address}{path}")));
            let (script, server) = (Arc::clone(&script), server.map(|server| server.authority));
            thread::spawn(move || accept(&listener, server.as_deref(), &script));
        }
        Ok(Self { script, settings: values })
    }

    pub(super) fn begin(&self, plan: Option<(Fault, Target)>) {
        self.script.begin(plan);
    }

    pub(super) fn end(&self) -> Record {
        self.script.end()
    }
}

const SCHEME: &str = "http://";

/// A server that a setting leads to.
struct Server {
    /// `http://`, or nothing.
    scheme: &'static str,
    /// Host and port.
    authority: String,
    path: String,
}

impl Server {
    /// Reads `http://HOST[:PORT][/PATH]` or `HOST:PORT[/PATH]`; `None` for a forward proxy.
    fn parse(url: &str) -> io::Result<Option<Self>> {
        if url == FORWARD {
            return Ok(None);
        }
        let rest = url.strip_prefix(SCHEME);
        let (scheme, rest) = rest.map_or(("", url), |rest| (SCHEME, rest));
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let authority = with_port(host);
        let is_whole = scheme == SCHEME || authority == host;
        if host.is_empty() || host.contains('@') || !is_whole {
            let text = format!("`{url}` is not an address of the form http://HOST:PORT");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Some(Self { scheme, authority, path: path.trim_end_matches('/').to_owned() }))
    }
}

/// Returns whether requests to this address can be disturbed.
pub(in crate::conformance) fn is_address(url: &str) -> bool {
    Server::parse(url).is_ok()
}

fn with_port(authority: &str) -> String {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { authority.to_owned() } else { format!("{authority}:80") }
}

fn accept(listener: &TcpListener, server: Option<&str>, script: &Arc<Script>) {
    for client in listener.incoming().flatten() {
        let (server, script) = (server.map(str::to_owned), Arc::clone(script));
        thread::spawn(move || {
            // A client that breaks off sees that itself.
            let _ = exchange(client, server.as_deref(), &script);
        });
    }
}

/// Handles one request.
fn exchange(mut client: TcpStream, server: Option<&str>, script: &Script) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    // A client that tries TLS first waits for an answer to what is not text.
    if reader.fill_buf()?.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
        return answer(&mut client, "400 Bad Request", None, "this proxy speaks plain HTTP\n");
    }
    let Some(mut head) = Head::read(&mut reader)? else { return Ok(()) };
    let server = match server {
        Some(server) => server.to_owned(),
        None => match direct(&mut head) {
            Some(server) => server,
            None => return answer(&mut client, "501 Not Implemented", None, TUNNEL),
        },
    };
    if head.get("expect").is_some() {
        head.remove("expect");
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let start = short_body(&head, &mut reader)?;
    let text = String::from_utf8_lossy(&start);
    let kind = kind(&head, if is_form(&head) { &text } else { "" });
    let action = script.decide(&head, &kind, &text);
    if let Action::Strike(Fault::Reset) = action {
        return reset(&client);
    }
    let refusal = match action {
        Action::Strike(Fault::Throttled) => Some("429 Too Many Requests"),
        Action::Strike(Fault::Unavailable) => Some("503 Service Unavailable"),
        Action::Strike(Fault::Expired) => Some("401 Unauthorized"),
        _ => None,
    };
    if let Some(status) = refusal {
        copy_body(&mut reader, rest_of(&head, &start), &mut io::sink())?;
        let seconds = RETRY_AFTER.as_secs();
        let pause = matches!(action, Action::Strike(Fault::Throttled)).then_some(seconds);
        return answer(&mut client, status, pause, "the conformance suite refuses this request\n");
    }
    let answered = forward(&server, &head, &start, &mut reader);
    let (answer_head, body) = match answered {
        Ok(answered) => answered,
        Err(error) => {
            script.broken(format!("`{kind}`: {error}"));
            return answer(&mut client, "502 Bad Gateway", None, "the server gave no answer\n");
        }
    };
    deliver(&mut client, action, answer_head, &body)
}

const TUNNEL: &str =
    "this proxy opens no tunnels: use a setting that takes the address of the server\n";

/// Turns a request to a proxy into one to its server, and returns the server. `None` for a tunnel.
fn direct(head: &mut Head) -> Option<String> {
    let (method, target) = head.request();
    let rest = target.strip_prefix("http://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (first, authority) = (format!("{method} {path} HTTP/1.1"), with_port(authority));
    head.first = first;
    head.remove("proxy-connection");
    head.remove("proxy-authorization");
    Some(authority)
}

fn is_form(head: &Head) -> bool {
    let kind = head.get("content-type").unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
}

/// Reads a short body; empty for others.
fn short_body(head: &Head, reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Framing::Length(length) = head.request_framing()
        && length <= LONGEST_TEXT
    {
        reader.take(length).read_to_end(&mut body)?;
    }
    Ok(body)
}

/// Returns what is left of a body after a short one was read.
fn rest_of(head: &Head, start: &[u8]) -> Framing {
    if start.is_empty() { head.request_framing() } else { Framing::Length(0) }
}

/// Sends a request to the server and reads the whole answer.
fn forward(
    server: &str,
    head: &Head,
    start: &[u8],
    reader: &mut BufReader<TcpStream>,
) -> io::Result<(Head, Vec<u8>)> {
    let mut upstream = TcpStream::connect(server)?;
    upstream.set_read_timeout(Some(SILENCE))?;
    upstream.set_nodelay(true)?;
    let mut head = head.clone();
    head.set("Connection", "close");
    head.remove("keep-alive");
    head.write(&mut upstream)?;
    // A server may answer before it has read everything.
    let sent = upstream
        .write_all(start)
        .and_then(|()| copy_body(reader, rest_of(&head, start), &mut upstream));
    let mut answers = BufReader::new(upstream);
    let answer = loop {
        match Head::read(&mut answers)? {
            Some(head) if (100..200).contains(&head.status()) => {}
            Some(head) => break head,
            None => return Err(sent.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())),
        }
    };
    let mut body = Vec::new();
    copy_body(&mut answers, answer.answer_framing(head.request().0), &mut body)?;
    Ok((answer, body))
}

/// Returns the server's answer to the client, as the fault wants it.
fn deliver(client: &mut TcpStream, action: Action, mut head: Head, body: &[u8]) -> io::Result<()> {
    head.set("Connection", "close");
    head.remove("keep-alive");
    let mut whole = Vec::new();
    if action == Action::Strike(Fault::Skewed) {
        head.set("Date", &date(now() + SKEW));
    }
    head.write(&mut whole)?;
    let start = whole.len();
    whole.extend_from_slice(body);
    // The middle of the body, or of the head of an answer without one.
    let middle = if body.is_empty() { start / 2 } else { start + body.len() / 2 };
    match action {
        Action::Strike(Fault::Lost) => return reset(client),
        Action::Strike(Fault::Truncated) => client.write_all(&whole[..middle])?,
        Action::Strike(Fault::Slow) => {
            thread::park_timeout(DELAY);
            client.write_all(&whole[..middle])?;
            thread::park_timeout(DELAY / 2);
            client.write_all(&whole[middle..])?;
        }
        _ => client.write_all(&whole)?,
    }
    end(client)
}

/// Ends a connection whose answer was sent.
fn end(client: &mut TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    // What the client still sends must not reset the connection before it has read the answer.
    io::copy(&mut client.take(LONGEST_TEXT), &mut io::sink()).map(drop)
}

fn answer(
    client: &mut TcpStream,
    status: &str,
    retry_after: Option<u64>,
    text: &str,
) -> io::Result<()> {
    let pause = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
    let message = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         {}Connection: close\r\n\r\n{text}",
        text.len(),
        pause.unwrap_or_default()
    );
    client.write_all(message.as_bytes())?;
    end(client)
}

/// Ends a connection with RST instead of FIN.
fn reset(client: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Formats a time as a date of HTTP (RFC 9110, 5.6.7).
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS.iter().cycle().nth(usize::try_from(days % 7).unwrap_or_default());
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = "";
    for (name, length) in MONTHS {
        let length = length + u64::from(name == "Feb" && is_leap(year));
        month = name;
        if day < length {
            break;
        }
        day -= length;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = weekday.copied().unwrap_or_default();
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn addresses_of_servers_are_read() {
        let parsed =
            |url: &str| Server::parse(url).map(|server| server.map(|s| (s.authority, s.path)));
        let some = |authority: &str, path: &str| Some((authority.to_owned(), path.to_owned()));
        assert_eq!(parsed("http://127.0.0.1:5000/v3/").unwrap(), some("127.0.0.1:5000", "/v3"));
        assert_eq!(parsed("http://cloud").unwrap(), some("cloud:80", ""));
        assert_eq!(parsed("127.0.0.1:80/a/b").unwrap(), some("127.0.0.1:80", "/a/b"));
        assert_eq!(parsed("proxy").unwrap(), None);
        for bad in ["https://127.0.0.1:1", "cloud", "http://", "http://u:p@host:1"] {
            assert!(parsed(bad).unwrap_err().to_string().contains("http://HOST:PORT"), "{bad}");
        }
    }

    /// A server that answers every request with `text`, and a client's request through the proxy.
    fn through(setting: &str, fault: Option<Fault>, request: &str) -> (Vec<u8>, Record) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let head = Head::read(&mut reader).unwrap().unwrap();
                copy_body(&mut reader, head.request_framing(), &mut io::sink()).unwrap();
                let (method, target) = head.request();
                let text = format!("{method} {target}");
                let length = text.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: {length}\r\n\r\n{text}");
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        let value =
            if setting == FORWARD { FORWARD.to_owned() } else { format!("http://{address}") };
        let proxies = Proxies::start(&[("URL".to_owned(), value)]).unwrap();
        proxies.begin(fault.map(|fault| (fault, Target::Each)));
        let mut client = TcpStream::connect(&proxies.settings[0].1["http://".len()..]).unwrap();
        client.write_all(request.replace("SERVER", &address.to_string()).as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset is an error.
        if client.read_to_end(&mut answer).is_err() {
            answer = b"reset".to_vec();
        }
        (answer, proxies.end())
    }

    #[test]
    fn requests_pass_and_faults_strike() {
        let request = "PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        for (fault, expected) in [
            (None, "PUT /a"),
            (Some(Fault::Throttled), "Retry-After: 1"),
            (Some(Fault::Unavailable), "HTTP/1.1 503"),
            (Some(Fault::Reset), "reset"),
            (Some(Fault::Lost), "reset"),
            (Some(Fault::Truncated), "\r\n\r\nPUT"),
            (Some(Fault::Skewed), "PUT /a"),
        ] {
            let (answer, record) = through("server", fault, request);
            let answer = String::from_utf8(answer).unwrap();
            let expected_end = fault.is_none() || fault == Some(Fault::Truncated);
            assert!(answer.contains(expected), "{fault:?}: {answer}");
            assert!(!expected_end || answer.ends_with(expected), "{fault:?}: {answer}");
            assert_eq!(answer.contains("Date: x"), matches!(fault, None | Some(Fault::Truncated)));
            assert_eq!((record.requests, record.struck), (1, usize::from(fault.is_some())));
            assert!(record.broken.is_empty(), "{record:?}");
        }
    }

    #[test]
    fn a_forward_proxy_takes_plain_requests_and_opens_no_tunnels() {
        let request = "GET http://SERVER/a?b HTTP/1.1\r\nHost: SERVER\r\n\r\n";
        let (answer, _) = through(FORWARD, None, request);
        assert!(String::from_utf8(answer).unwrap().ends_with("GET /a?b"));
        let (answer, _) = through(FORWARD, None, "\u{16}\u{3}\u{1}");
        assert!(String::from_utf8(answer).unwrap().starts_with("HTTP/1.1 400"));
        let (answer, _) = through(FORWARD, None, "CONNECT SERVER HTTP/1.1\r\n\r\n");
        assert!(String::from_utf8(answer).unwrap().starts_with("HTTP/1.1 501"));
    }
}

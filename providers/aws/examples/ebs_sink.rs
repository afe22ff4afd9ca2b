//! Answers the calls of an upload by EBS direct, and keeps nothing: a server that costs as little as one can, for the
//! benchmark. `ebs_sink serve` prints its address as JSON and serves until its input ends; `ebs_sink push ADDRESS BLOCKS
//! LANES` measures the server alone: it sends as many blocks of 512 KiB, and computes nothing.
//!
//! Nothing is checked: neither signatures nor checksums. Tests use another server.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the address is for the program that started it")]

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BLOCK: usize = 512 << 10;
const SNAPSHOT: &str = "snap-0123456789abcdef0";
const IMAGE: &str = "ami-0123456789abcdef0";
const ACCOUNT: &str = "123456789012";

/// What a request consists of, as far as an answer needs it.
struct Head {
    method: String,
    path: String,
    length: usize,
    checksum: String,
}

/// The blocks that were sent, and how often an image was registered.
#[derive(Default)]
struct State {
    blocks: BTreeSet<u64>,
    registered: bool,
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve"] => serve(),
        ["push", address, blocks, lanes] => push(address, blocks.parse()?, lanes.parse()?),
        _ => Err("usage: ebs_sink serve | push ADDRESS BLOCKS LANES".into()),
    }
}

fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{{\"address\": \"{}\"}}", listener.local_addr()?);
    io::stdout().flush()?;
    let state = Arc::new(Mutex::new(State::default()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            // A client that goes away ends its connection only.
            std::thread::spawn(move || answer_all(&stream, &state));
        }
    });
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn answer_all(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(BLOCK, stream);
    let mut body = vec![0; BLOCK];
    while let Some(head) = head(&mut reader)? {
        body.resize(head.length.max(BLOCK), 0);
        reader.read_exact(&mut body[..head.length])?;
        let answer = answer(&head, &body[..head.length], state);
        (&*stream).write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// Reads a request up to its body; `None` at the end of the connection.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut head = Head { method, path, length: 0, checksum: String::new() };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(Some(head)) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().unwrap_or_default(),
            "x-amz-checksum" => value.clone_into(&mut head.checksum),
            _ => {}
        }
    }
}

fn answer(head: &Head, body: &[u8], state: &Mutex<State>) -> String {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let path = head.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (head.method.as_str(), &parts[..]) {
        ("PUT", ["snapshots", _, "blocks", index]) => {
            state.blocks.insert(index.parse().unwrap_or_default());
            let checksum = &head.checksum;
            format!(
                "HTTP/1.1 201 Created\r\nx-amz-checksum: {checksum}\r\nx-amz-checksum-algorithm: SHA256\r\ncontent-length: 0\r\n\r\n"
            )
        }
        ("GET", ["snapshots", _, "blocks"]) => {
            let blocks: Vec<String> = state
                .blocks
                .iter()
                .map(|index| format!("{{\"BlockIndex\":{index},\"BlockToken\":\"t{index}\"}}"))
                .collect();
            let text = format!(
                "{{\"Blocks\":[{}],\"BlockSize\":{BLOCK},\"ExpiryTime\":1893456000,\"VolumeSize\":20}}",
                blocks.join(",")
            );
            json("200 OK", &text)
        }
        ("POST", ["snapshots"]) => {
            state.blocks.clear();
            state.registered = false;
            let text = format!(
                "{{\"SnapshotId\":\"{SNAPSHOT}\",\"OwnerId\":\"{ACCOUNT}\",\"Status\":\"pending\",\"StartTime\":1764410400,\"VolumeSize\":20,\"BlockSize\":{BLOCK}}}"
            );
            json("201 Created", &text)
        }
        ("POST", ["snapshots", "completion", _]) => {
            json("202 Accepted", "{\"Status\":\"completed\"}")
        }
        _ => query(&String::from_utf8_lossy(body), &mut state),
    }
}

/// Answers a call of EC2 or STS; one that is not known gets an empty answer.
fn query(form: &str, state: &mut State) -> String {
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
    if form.contains("DryRun=true") {
        let text = "<Response><Errors><Error><Code>DryRunOperation</Code><Message>Request would have succeeded, but DryRun flag is set.</Message></Error></Errors><RequestID>r</RequestID></Response>";
        return reply("412 Precondition Failed", "text/xml", text);
    }
    let inner = match action {
        "GetCallerIdentity" => format!(
            "<GetCallerIdentityResult><Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>u</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"
        ),
        "DescribeSnapshots" => format!(
            "<snapshotSet><item><snapshotId>{SNAPSHOT}</snapshotId><status>completed</status><progress>100%</progress><volumeSize>20</volumeSize></item></snapshotSet>"
        ),
        "RegisterImage" => {
            state.registered = true;
            format!("<imageId>{IMAGE}</imageId>")
        }
        "DescribeImages" if state.registered => format!(
            "<imagesSet><item><imageId>{IMAGE}</imageId><imageState>available</imageState></item></imagesSet>"
        ),
        "DescribeRegions" => "<regionInfo><item><regionName>eu-central-1</regionName><optInStatus>opt-in-not-required</optInStatus></item></regionInfo>".to_owned(),
        _ => "<return>true</return>".to_owned(),
    };
    let text = format!("<{action}Response><requestId>r</requestId>{inner}</{action}Response>");
    reply("200 OK", "text/xml", &text)
}

fn json(status: &str, text: &str) -> String {
    reply(status, "application/json", text)
}

fn reply(status: &str, kind: &str, text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{text}")
}

/// Sends blocks without reading a disk, computing a digest, or signing.
fn push(address: &str, blocks: u64, lanes: u64) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let lane =
            |lane: u64| move || send(address, (lane..blocks).step_by(usize::try_from(lanes)?));
        let lanes: Vec<_> = (0..lanes).map(|number| scope.spawn(lane(number))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| "a lane panicked")?)
    })
}

fn send(address: &str, blocks: impl Iterator<Item = u64>) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let block = vec![0x5a; BLOCK];
    for index in blocks {
        let head = format!(
            "PUT /snapshots/{SNAPSHOT}/blocks/{index} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {BLOCK}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&block)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err("the server ended the connection".into());
            }
        }
    }
    Ok(())
}

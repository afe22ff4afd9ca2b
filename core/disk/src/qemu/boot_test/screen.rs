//! Reads what is on the screen of a guest: its text, as long as it is in text mode, and a picture. A separate
//! thread asks qemu, so that a qemu that does not answer delays nothing else.
//! Source: IBM VGA, text mode 3: 25 lines of 80 cells of two bytes, character and colour, at 0xb8000.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::qemu::qmp::{Qmp, QmpError};

/// Time between two looks at the screen.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for an answer of qemu; writing a picture takes longer than other commands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const COLUMNS: usize = 80;
/// Prints the memory of the text screen as 1000 words of four bytes.
const READ_TEXT: &str = "xp /1000xw 0xb8000";
/// Cells of a text screen that may hold other characters than ASCII, as frames and logos do.
const FOREIGN: usize = 200;

/// The screen of one guest. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Screen {
    texts: Receiver<Vec<String>>,
    requests: Sender<Request>,
}

/// A request for a picture: the file to write, and where the answer goes.
type Request = (PathBuf, Sender<bool>);

impl Screen {
    /// Begins to look at the screen of the qemu that listens, or will listen, at `socket`.
    pub(super) fn watch(socket: PathBuf) -> Self {
        let (requests, asked) = channel();
        let (sender, texts) = channel();
        thread::spawn(move || look(&socket, &asked, &sender));
        Self { texts, requests }
    }

    /// Returns the lines of the screen if it was read since the last call.
    pub(super) fn text(&self) -> Option<Vec<String>> {
        self.texts.try_iter().last()
    }

    /// Writes a picture of the screen as a PNG file; returns whether that succeeded.
    pub(super) fn picture(&self, file: &Path) -> bool {
        let (answer, answered) = channel();
        self.requests.send((file.to_owned(), answer)).is_ok()
            && answered.recv_timeout(2 * ANSWER_TIMEOUT).unwrap_or(false)
    }
}

fn look(socket: &Path, asked: &Receiver<Request>, texts: &Sender<Vec<String>>) {
    let mut connected: Option<Qmp> = None;
    loop {
        let request = match asked.recv_timeout(INTERVAL) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if connected.is_none() {
            connected = Qmp::connect(socket, ANSWER_TIMEOUT).ok();
        }
        let Some(qmp) = &mut connected else { continue };
        let result = match request {
            Some((file, answer)) => {
                // Pictures in PNG exist since qemu 7.1.
                let arguments = json!({ "filename": file, "format": "png" });
                let drawn = qmp.execute("screendump", arguments).map(drop);
                let _ = answer.send(drawn.is_ok());
                drawn
            }
            None => qmp.monitor(READ_TEXT, None).map(|printed| {
                // If the receiver was dropped, the next request ends the thread.
                let _ = texts.send(parse(&printed).unwrap_or_default());
            }),
        };
        if let Err(QmpError::Broken(error)) = result {
            tracing::debug!(%error, "stopped watching the screen");
            return;
        }
    }
}

/// Parses the memory of a text screen; `None` if it is not one.
fn parse(printed: &str) -> Option<Vec<String>> {
    let words = printed.lines().filter_map(|line| Some(line.split_once(':')?.1));
    let words = words.flat_map(str::split_whitespace);
    let number = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let cells: Vec<u8> = words
        .map_while(number)
        .flat_map(|word| {
            let [first, _, second, _] = word.to_le_bytes();
            [first, second]
        })
        .collect();
    let is_text = |byte: &u8| matches!(byte, 0 | b' '..=b'~');
    if cells.iter().filter(|byte| !is_text(byte)).count() > FOREIGN {
        return None;
    }
    let line = |cells: &[u8]| {
        let readable =
            |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { ' ' };
        cells.iter().map(readable).collect::<String>().trim_end().to_owned()
    };
    Some(cells.chunks(COLUMNS).map(line).filter(|line| !line.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints a screen as qemu does.
    fn printed(lines: &[&[u8]]) -> String {
        let mut cells = vec![0; 2 * 2000];
        for (number, line) in lines.iter().enumerate() {
            for (column, byte) in line.iter().enumerate() {
                cells[2 * (80 * number + column)] = *byte;
                cells[2 * (80 * number + column) + 1] = 7;
            }
        }
        let words = cells.chunks(4).map(|cell| u32::from_le_bytes(cell.try_into().unwrap()));
        let words: Vec<String> = words.map(|word| format!("{word:#010x}")).collect();
        let line = |(number, words): (usize, &[String])| {
            format!("00000000000{:05x}: {}\r\n", 0xb8000 + 16 * number, words.join(" "))
        };
        words.chunks(4).enumerate().map(line).collect()
    }

    #[test]
    fn the_text_of_a_screen_is_read_and_graphics_are_not() {
        let text = printed(&[b"SeaBIOS (version 1.16.2)", b"", b"\xc4\xc4 No bootable device.  "]);
        let want = ["SeaBIOS (version 1.16.2)", "   No bootable device."];
        assert_eq!(parse(&text).unwrap(), want);
        assert_eq!(parse(&printed(&[&[0xff_u8; 80][..]; 25])), None);
        assert_eq!(parse("Cannot access memory\r\n"), Some(vec![]));
    }
}

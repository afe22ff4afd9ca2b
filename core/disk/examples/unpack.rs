//! Unpacks the disk in a compressed file or an archive to a file without a name and prints the duration: `unpack FILE
//! DIRECTORY`. Used to compare this crate with other tools in one run.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use build_image_disk::packed::{Content, find};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, directory] = args.as_slice() else {
        return Err("usage: unpack FILE DIRECTORY".into());
    };
    let start = Instant::now();
    let mut seen = |_: &[u8]| ControlFlow::Continue(());
    let found = find(Path::new(file), Path::new(directory), None, &mut seen)?;
    let Content::Unpacked { len, .. } = found.content else {
        return Err("the disk is stored as it is".into());
    };
    let seconds = start.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{seconds:.2} s, {len} bytes")?;
    Ok(())
}

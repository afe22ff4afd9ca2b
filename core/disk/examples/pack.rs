//! Packs a raw disk once and prints the duration and the length of the result: `pack FORMAT LEVEL RAW DEST
//! [THREADS]`, where FORMAT is one of qcow2, vmdk, tar.gz, zip, and LEVEL is 1 to 9 or `default`. Used to
//! compare this crate with other tools in one run.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use build_image_disk::pack::{
    ArchiveOptions, Content, Control, DigestKinds, Level, Member, PackedQcow2, StreamVmdk, tar_gz,
    zip,
};
use build_image_disk::view::{RawView, Stamp};
use build_image_disk::{GuestReader, View};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, format, level, raw, dest, threads @ ..] = args.as_slice() else {
        return Err("usage: pack FORMAT LEVEL RAW DEST [THREADS]".into());
    };
    let (raw, dest) = (Path::new(raw), Path::new(dest));
    let level = match level.as_str() {
        "default" => Level::default(),
        number => Level::new(number.parse()?),
    };
    let mut control = Control::new();
    if let Some(threads) = threads.first() {
        control = control.with_threads(threads.parse()?);
    }
    let (stamp, digests) = (Stamp::new("bench", 0), DigestKinds::NONE);
    let options = ArchiveOptions { level, stamp: stamp.clone(), digests };
    let disk = || GuestReader::open_raw(raw);
    let member = || -> Result<Member, build_image_disk::Error> {
        let view: Arc<dyn View> = Arc::new(RawView::of(disk()?));
        Ok(Member { name: "disk.raw".into(), content: Content::View(view) })
    };
    let start = Instant::now();
    let growing = match format.as_str() {
        "qcow2" => PackedQcow2::of(disk()?)?.with_level(level).write(dest, digests, &control)?,
        "vmdk" => StreamVmdk::of(disk()?, "disk.vmdk", &stamp)?
            .with_level(level)
            .write(dest, digests, &control)?,
        "tar.gz" => tar_gz(member()?, &options, dest, &control)?,
        "zip" => zip(vec![member()?], &options, dest, &control)?,
        other => return Err(format!("unknown format `{other}`").into()),
    };
    let packed = growing.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{seconds:.2} s, {} bytes", packed.length)?;
    Ok(())
}

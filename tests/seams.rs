//! Disturbs every edge between two states of a build that the journal marks, for the emulator, a real Glance, a real
//! docker-registry, and moto behind a strict front: the process is killed, interrupted or terminated, the disk with its journal is full, or the clock is
//! set. Between the edges, every request to the cloud is refused, the process is killed or interrupted in the middle of
//! the files it packs, files may not grow beyond a bound, and directories replace files. Afterwards the run is resumed
//! or collected.
//!
//! After each: exit code 0 means that the disk is in the image, and that checksums, signatures, statement, result
//! document, tags and names are those of an undisturbed build; any other code means that every earlier output is
//! unchanged and nothing of the run is left, here or in the cloud.

mod alibaba;
mod aws;
mod bench;
mod cloud;
mod oci;
mod openstack;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use self::{
    bench::{Bench, Delivered},
    cloud::{Place, Words},
};
use crate::{
    aws_faults,
    harness::{can_follow, needs},
    oci_faults, openstack_faults,
};

/// One point in this many is tried, or as BUILD_IMAGE_SOAK_SEAMS sets: all of them with 1. It is not a multiple of
/// the numbers of disturbances and of endings, so that all combinations occur.
const STEP: usize = 11;
/// The same for Glance, or as BUILD_IMAGE_SOAK_OPENSTACK sets.
const STEP_OPENSTACK: usize = 53;
/// The same for docker-registry, or as BUILD_IMAGE_SOAK_OCI sets.
const STEP_OCI: usize = 41;
/// The same for AWS, or as BUILD_IMAGE_SOAK_AWS sets.
const STEP_AWS: usize = 47;
/// What happens at a line of the journal, in the syntax of the crash points of debug builds.
const DISTURBANCES: [&str; 6] = ["after", "int", "term", "full", "clock", "before"];
/// Number of those that builds for the emulator try: `kill_points` has the last one.
const WITH_EMULATOR: usize = 5;
/// Makes a build sign what it publishes.
const KEY: &str = "--image-sig-private-key";
/// The builds: provider and further arguments. One does not sign: signatures of an earlier image must not stay.
const BUILDS: [Words; 11] = [
    &["alibaba", "-c", "config.yml", KEY, "key.pem"],
    &["alibaba", "-c", "replace.yml", KEY, "key.pem"],
    &["alibaba", "-c", "config.yml", "--image-dir", "images", KEY, "key.pem"],
    &["alibaba", "-c", "config.yml", "--no-upload", KEY, "key.pem"],
    &["qcow2", KEY, "key.pem"],
    &["qcow2", "--package", "none"],
    &["vhd", KEY, "key.pem"],
    &["vmware", KEY, "key.pem"],
    &["aws", "--no-upload", KEY, "key.pem"],
    &["azure", "--no-upload", KEY, "key.pem"],
    &["gce", "--no-upload", "--disk-size", "1GiB", KEY, "key.pem"],
];
/// Builds for Glance: upload method, and what happens to an older image.
const OPENSTACK: [Words; 3] = [
    &["openstack", "-c", "config.yml", METHOD, "put", IF_EXISTS, "keep", KEY, "key.pem"],
    &["openstack", "-c", "config.yml", METHOD, "import", IF_EXISTS, "replace", KEY, "key.pem"],
    &["openstack", "-c", "config.yml", METHOD, "put", IF_EXISTS, "hide", KEY, "key.pem"],
];
const METHOD: &str = "--openstack-upload-method";
const IF_EXISTS: &str = "--openstack-if-exists";
/// Builds for docker-registry: in chunks, with a second tag; compressed, replacing; in one request, replacing.
const OCI: [Words; 3] = [
    &["oci", CHUNK, "256KiB", "--oci-tags", "[extra]", KEY, "key.pem"],
    &["oci", CHUNK, "512KiB", "--oci-layer-compression", "gzip", MOVED, "replace", KEY, "key.pem"],
    &["oci", CHUNK, "0", "--oci-kind", "artifact", MOVED, "replace", KEY, "key.pem"],
];
const CHUNK: &str = "--oci-chunk-size";
const MOVED: &str = "--oci-if-exists";
/// Builds for AWS: with EBS direct, beside an older image; replacing it, with a copy in another region; by an import.
const AWS: [Words; 3] = [
    &["aws", "-c", "config.yml", UPLOAD, "ebs", TAKEN, "fail", KEY, "key.pem"],
    &["aws", "-c", "config.yml", UPLOAD, "ebs", TAKEN, "replace", COPIES, "[eu-west-1]"],
    &["aws", "-c", "config.yml", UPLOAD, "s3", TAKEN, "replace", KEY, "key.pem"],
];
const UPLOAD: &str = "--aws-upload";
const TAKEN: &str = "--aws-if-exists";
const COPIES: &str = "--aws-image-copy-regions";
/// Instead of a disturbance at a line: the request of this number is refused.
const REFUSED: &str = "refused";
/// The process is killed after, or interrupted at, the write of this number below IMAGE_DIR.
const WRITE_KILL: &str = "write-kill";
const WRITE_INT: &str = "write-int";
/// Number of writes of a build that are tried, at equal distances.
const WRITES: u64 = 8;
/// No file may be longer than this many bytes.
const BOUNDED: &str = "bounded";
/// Upper bound for the journal and the log of a build, which must fit into a size limit, in bytes.
const RECORDS: u64 = 256 << 10;
/// A directory occupies the path of the output of this number.
const OCCUPIED: &str = "occupied";

/// What an undisturbed build delivers, and the places where it can be disturbed.
struct Undisturbed {
    delivered: Delivered,
    /// Lines of its journal.
    lines: u64,
    /// Requests that it makes.
    requests: u64,
    /// Writes below IMAGE_DIR.
    writes: u64,
    /// Length of the largest published file, bytes.
    largest: u64,
    /// Number of outputs whose path a directory can occupy.
    outputs: u64,
}

/// The builds that are disturbed, and how.
struct Matrix<'a> {
    builds: &'a [Words],
    disturbances: &'a [&'static str],
    /// One point in this many is tried.
    step: usize,
    /// Creates the place of a build.
    place: &'a (dyn Fn(Words) -> Place<'a> + Sync),
}

impl<'a> Matrix<'a> {
    fn bench(&self, words: Words, earlier: &[String]) -> Bench<'a> {
        Bench::new(words, (self.place)(words), earlier)
    }

    fn undisturbed(&self, words: Words) -> Undisturbed {
        let build = |earlier: &[String]| {
            let mut bench = self.bench(words, earlier);
            let run = bench.disturbed("after", 0);
            assert_eq!(run.code, 0, "{words:?}: {}", run.stderr);
            let delivered = bench.delivered(true);
            (delivered.unwrap_or_else(|what| panic!("{words:?}: {what}")), bench)
        };
        let (delivered, bench) = build(&[]);
        let requests = bench.requests();
        // The comparison leaves out what differs between two builds, and nothing else.
        let earlier = earlier_of(&delivered);
        let (second, _) = build(&earlier);
        assert_eq!(same(&second, &delivered), Ok(()), "{words:?}");
        let counted = self.bench(words, &earlier);
        let lines = counted.sandbox.journal_lines(&mut counted.command());
        let writes = if can_follow() && !delivered.published.is_empty() {
            self.bench(words, &earlier).at_write("write-count", 0).1.len() as u64
        } else {
            0
        };
        let outputs = 2 + earlier.len() as u64;
        Undisturbed { lines, requests, writes, largest: bench.largest(), outputs, delivered }
    }

    /// All places where a build is disturbed, and whether what is left is resumed.
    fn points(&self, words: Words, reference: &Undisturbed) -> Vec<Point> {
        let mut points = Vec::new();
        let mut add = |what, number, resume| {
            points.push(Point { words, what, number, resume });
        };
        for line in 1..=reference.lines {
            for &what in self.disturbances {
                add(what, line, true);
                // Only what a kill leaves is resumed or collected; a signal is undone by the build itself.
                if ["after", "before"].contains(&what) {
                    add(what, line, false);
                }
            }
        }
        (1..=reference.requests).for_each(|request| add(REFUSED, request, true));
        let writes = WRITES.min(reference.writes);
        for part in 1..=writes {
            let write = reference.writes * part / writes;
            add(WRITE_KILL, write, true);
            add(WRITE_KILL, write, false);
            add(WRITE_INT, write, true);
        }
        for quarter in 1..=3 {
            let bytes = reference.largest * quarter / 4;
            if bytes > RECORDS {
                add(BOUNDED, bytes, quarter % 2 == 0);
            }
        }
        // A run that failed after the release is completed by `resume` only.
        (1..=reference.outputs).for_each(|output| add(OCCUPIED, output, true));
        points
    }

    /// Tries the points; all must end as they should, in at least so many ways.
    fn holds(&self, ways: usize) {
        let mut references = Vec::new();
        for pair in self.builds.chunks(2) {
            std::thread::scope(|scope| {
                let start = |words: Words| (words, scope.spawn(move || self.undisturbed(words)));
                let started: Vec<_> = pair.iter().map(|words| start(words)).collect();
                let done =
                    started.into_iter().map(|(words, thread)| (words, thread.join().unwrap()));
                references.extend(done);
            });
        }
        let points = references.iter().flat_map(|(words, reference)| {
            self.points(words, reference).into_iter().map(move |point| (point, reference))
        });
        let points: Vec<(Point, &Undisturbed)> = points.collect();
        let all = points.len();
        let points: Vec<_> = points.into_iter().step_by(self.step).collect();
        let (next, tally, wrong) =
            (AtomicUsize::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let take = || points.get(next.fetch_add(1, Ordering::Relaxed));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some((point, reference)) = take() {
                        match self.outcome(*point, reference) {
                            Ok(end) => {
                                *tally.lock().unwrap().entry((point.what, end)).or_insert(0) += 1;
                            }
                            Err(what) => {
                                // In parallel: the whole matrix needs much time.
                                eprintln!("violation: {what}");
                                wrong.lock().unwrap().push(what);
                            }
                        }
                    }
                });
            }
        });
        let (tally, wrong): (BTreeMap<_, u64>, Vec<String>) =
            (tally.into_inner().unwrap(), wrong.into_inner().unwrap());
        eprintln!("{} of {all} points, {} violations: {tally:?}", points.len(), wrong.len());
        assert!(wrong.is_empty(), "{} violations\n{}", wrong.len(), wrong.join("\n\n"));
        assert!(tally.len() >= ways, "{tally:?}");
    }

    /// How the build of a point ended. A check that stops is a violation as any other.
    fn outcome(&self, point: Point, reference: &Undisturbed) -> Result<&'static str, String> {
        let judged = AssertUnwindSafe(|| {
            let earlier = earlier_of(&reference.delivered);
            point.judge(self.bench(point.words, &earlier), &earlier, reference)
        });
        catch_unwind(judged).unwrap_or_else(|_| Err(format!("{point:?}: a check stopped")))
    }
}

/// Names of the files of an earlier build: those of an undisturbed one, and a signature of another kind, which
/// must not stay beside a new image.
fn earlier_of(delivered: &Delivered) -> Vec<String> {
    let image = delivered.published.iter().find_map(|name| name.strip_suffix(".sha256"));
    let signature = image.map(|image| format!("{image}.384.sig"));
    let mut earlier = delivered.published.clone();
    earlier.extend(signature.filter(|name| !delivered.published.contains(name)));
    earlier.sort();
    earlier
}

/// Whether a build delivered the same as an undisturbed one.
fn same(found: &Delivered, reference: &Delivered) -> Result<(), String> {
    let mut expected = reference.clone();
    if found.result.is_none() {
        expected.result = None;
    }
    if *found == expected {
        return Ok(());
    }
    let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    Err(format!("not as an undisturbed build: {differs:?}"))
}

/// One point: a build is disturbed at a place, then resumed or collected.
#[derive(Clone, Copy, Debug)]
struct Point {
    words: Words,
    what: &'static str,
    number: u64,
    resume: bool,
}

impl Point {
    /// The outcome: how the build ended, and how the command after it ended.
    fn judge(
        self,
        mut bench: Bench<'_>,
        earlier: &[String],
        reference: &Undisturbed,
    ) -> Result<&'static str, String> {
        let run = bench.disturbed(self.what, self.number);
        let with_context =
            |what: String| format!("{self:?}, exit {}: {what}\n{}", run.code, run.stderr);
        let complete = |document| same(&bench.delivered(document)?, &reference.delivered);
        if run.code == 0 {
            // A resource that could not be removed after the release is listed, and known to the next clean-up.
            if run.stderr.contains("left behind: ") && self.what == REFUSED {
                bench.finish(&["gc", "--yes"]).map_err(with_context)?;
                let mut delivered = bench.delivered(true).map_err(with_context)?;
                let members = delivered.result.as_mut().and_then(Value::as_object_mut);
                let listed = members.and_then(|members| members.remove("leftovers"));
                return match listed {
                    Some(_) => same(&delivered, &reference.delivered).map(|()| "done"),
                    None => Err("the result document does not list what is left".to_owned()),
                }
                .map_err(with_context);
            }
            return complete(true).map(|()| "done").map_err(with_context);
        }
        let runs = bench.runs();
        let Some(left) = runs.first() else {
            return bench.is_untouched(earlier).map(|()| "undone").map_err(with_context);
        };
        if self.what == OCCUPIED {
            bench.vacate(self.number);
        }
        let id = left["id"].as_str().unwrap_or_default();
        if self.resume && left["platform"] != "" && left["state"] != "done" {
            bench.resume(id).map_err(with_context)?;
            return complete(true).map(|()| "resumed").map_err(with_context);
        }
        bench.finish(&["gc", "--yes"]).map_err(with_context)?;
        let is_released =
            ["released", "notified"].contains(&left["reached"].as_str().unwrap_or_default());
        let end = if is_released { complete(false) } else { bench.is_untouched(earlier) };
        end.map(|()| if is_released { "finished" } else { "collected" }).map_err(with_context)
    }
}

/// Programs that disturb builds and check their results.
const TOOLS: [&str; 8] =
    ["qemu-img", "tar", "unzip", "md5sum", "sha256sum", "openssl", "prlimit", "cc"];

#[test]
fn every_edge_between_two_states_ends_complete_or_without_a_trace() {
    if !needs(&TOOLS) {
        return;
    }
    let step = std::env::var("BUILD_IMAGE_SOAK_SEAMS");
    let step = step.map_or(STEP, |step| step.parse().unwrap());
    let disturbances = &DISTURBANCES[..WITH_EMULATOR];
    Matrix { builds: &BUILDS, disturbances, step, place: &alibaba::place }.holds(5);
}

#[test]
fn every_edge_of_an_openstack_build_ends_complete_or_without_a_trace() {
    let Some(service) = openstack::Service::shared().filter(|_| needs(&TOOLS)) else { return };
    let step = openstack_faults::step(STEP_OPENSTACK);
    let place = |words| service.place(words);
    Matrix { builds: &OPENSTACK, disturbances: &DISTURBANCES, step, place: &place }.holds(3);
}

#[test]
fn every_edge_of_an_oci_build_ends_complete_or_without_a_trace() {
    let Some(service) = oci::Service::start().filter(|_| needs(&TOOLS)) else { return };
    let step = oci_faults::step(STEP_OCI);
    let place = |words| service.place(words);
    Matrix { builds: &OCI, disturbances: &DISTURBANCES, step, place: &place }.holds(3);
}

#[test]
fn every_edge_of_an_aws_build_ends_complete_or_without_a_trace() {
    let Some(service) = aws::Service::shared().filter(|_| needs(&TOOLS)) else { return };
    let step = aws_faults::step(STEP_AWS);
    let place = |words| service.place(words);
    Matrix { builds: &AWS, disturbances: &DISTURBANCES, step, place: &place }.holds(3);
}

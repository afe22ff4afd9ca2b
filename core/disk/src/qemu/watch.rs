//! Looks at the processors of a running guest once a second, in a separate thread, so that a qemu that does
//! not answer delays nothing else. A program that does not speak QMP, such as a script in place of qemu, is
//! never looked at.
//! Source: QEMU QMP Reference Manual (`query-cpus-fast`, `query-status`, `query-stats`); proc_pid_stat(5);
//! Linux, "KVM API", section 4.35 and `KVM_GET_STATS_FD`, for the names of the counters.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError, remove_socket};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for one answer of qemu.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Unit of processor time in `/proc`: USER_HZ is 100 wherever qemu runs x86 guests under Linux.
const TICK: Duration = Duration::from_millis(10);
/// Counters of kvm that grow because of what the guest does. Exits caused by the host, by its timer or by these
/// looks, are not among them.
const ACTIONS: [&str; 7] = [
    "io_exits",
    "mmio_exits",
    "halt_exits",
    "halt_wakeup",
    "hypercalls",
    "irq_injections",
    "nmi_injections",
];
/// The counter of instructions that kvm executed by emulation.
const EMULATED: &str = "insn_emulation";

/// The state of a thread of qemu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// The letter of `/proc`: `R` running, `S` sleeping, `D` waiting for a device, `T` or `t` stopped.
    pub(super) state: char,
    /// Processor time that it used.
    pub(super) used: Duration,
}

/// A virtual processor at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    /// A hash of all its registers.
    pub(super) registers: u64,
    /// The instruction pointer, in hexadecimal digits.
    pub(super) pointer: String,
    /// Whether it waits for an interrupt.
    pub(super) halted: bool,
    /// The bytes of the next instruction; empty if the registers have just changed.
    pub(super) code: Vec<u8>,
    /// Its thread.
    pub(super) thread: Option<Thread>,
}

/// A guest at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The moment.
    pub(super) at: Instant,
    /// Whether qemu answered. If not, registers and counters are those of the last answer.
    pub(super) answered: bool,
    /// Whether the guest is neither paused nor stopped.
    pub(super) running: bool,
    /// Its processors.
    pub(super) cpus: Vec<Cpu>,
    /// The sum of [`ACTIONS`], if qemu knows it.
    pub(super) acted: Option<u64>,
    /// Instructions that were emulated, if qemu knows it.
    pub(super) emulated: Option<u64>,
    /// The main thread of qemu.
    pub(super) main: Option<Thread>,
}

/// The looks at one guest. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Receiver<Look>,
    /// The thread ends when this is dropped.
    _stop: Sender<()>,
}

impl Watch {
    /// Begins to look at the guest of the qemu that listens, or will listen, at `socket`.
    pub(super) fn start(socket: PathBuf) -> Self {
        let (stop, stopped) = channel::<()>();
        let (sender, looks) = channel();
        thread::spawn(move || look_until(&stopped, &socket, &sender));
        Self { looks, _stop: stop }
    }

    /// Returns a look that was taken since the last call.
    pub(super) fn next(&self) -> Option<Look> {
        self.looks.try_recv().ok()
    }

    /// Waits for a look.
    #[cfg(test)]
    pub(super) fn wait(&self, limit: Duration) -> Look {
        self.looks.recv_timeout(limit).expect("no look was taken")
    }
}

fn look_until(stopped: &Receiver<()>, socket: &Path, looks: &Sender<Look>) {
    let mut observer: Option<Observer> = None;
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let Some(observer) = &mut observer else {
            match Observer::connect(socket) {
                Ok(connected) => observer = Some(connected),
                Err(error) => tracing::trace!(%error, "the guest's processors are not watched yet"),
            }
            continue;
        };
        match observer.look() {
            Ok(look) => {
                if looks.send(look).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "stopped watching the guest's processors");
                return;
            }
        }
    }
}

struct Observer {
    qmp: Qmp,
    /// Ids of the threads that run the processors.
    threads: Vec<u64>,
    main: Option<u64>,
    /// Whether this qemu has counters of kvm.
    counts: bool,
    last: Vec<Cpu>,
}

impl Observer {
    fn connect(socket: &Path) -> Result<Self, QmpError> {
        let mut qmp = Qmp::connect(socket, ANSWER_TIMEOUT)?;
        remove_socket(socket);
        let cpus = qmp.execute("query-cpus-fast", json!({}))?;
        let threads: Vec<u64> = cpus
            .as_array()
            .map(|cpus| cpus.iter().filter_map(|cpu| cpu["thread-id"].as_u64()).collect())
            .unwrap_or_default();
        let main = threads.first().and_then(|thread| process_of(*thread));
        Ok(Self { qmp, threads, main, counts: true, last: Vec::new() })
    }

    /// An error means that the connection is lost, or that this qemu refuses what is asked.
    fn look(&mut self) -> Result<Look, QmpError> {
        let asked = self.ask();
        let (answered, running, counted) = match asked {
            Ok((running, counted)) => (true, running, counted),
            Err(QmpError::Late) => (false, true, None),
            // A qemu without these commands cannot be watched.
            Err(error) => return Err(error),
        };
        for (cpu, thread) in self.last.iter_mut().zip(&self.threads) {
            cpu.thread = thread_state(*thread);
        }
        Ok(Look {
            at: Instant::now(),
            answered,
            running,
            cpus: self.last.clone(),
            acted: counted.map(|(acted, _)| acted),
            emulated: counted.map(|(_, emulated)| emulated),
            main: self.main.and_then(thread_state),
        })
    }

    fn ask(&mut self) -> Result<(bool, Option<(u64, u64)>), QmpError> {
        let status = self.qmp.execute("query-status", json!({}))?;
        let counted = self.count()?;
        let mut cpus = parse_registers(&self.qmp.monitor("info registers -a", None)?);
        for (number, cpu) in cpus.iter_mut().enumerate() {
            let before = self.last.get(number).map(|before| before.registers);
            if !cpu.halted && before == Some(cpu.registers) {
                let bytes = self.qmp.monitor("x /5xb $pc", Some(number as u64));
                cpu.code = parse_bytes(&bytes?);
            }
        }
        self.last = cpus;
        Ok((status["running"].as_bool().unwrap_or(true), counted))
    }

    /// Returns the sums of the actions and of the emulated instructions.
    fn count(&mut self) -> Result<Option<(u64, u64)>, QmpError> {
        if !self.counts {
            return Ok(None);
        }
        match self.qmp.execute("query-stats", json!({ "target": "vcpu" })) {
            Ok(stats) => Ok(sum_counters(&stats)),
            // Older than 7.1, or not under kvm.
            Err(QmpError::Refused(_)) => {
                self.counts = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn sum_counters(stats: &Value) -> Option<(u64, u64)> {
    let processors = stats.as_array().filter(|processors| !processors.is_empty())?;
    let counters = processors.iter().filter_map(|one| one["stats"].as_array()).flatten();
    let (mut acted, mut emulated) = (0, 0);
    for counter in counters {
        let name = counter["name"].as_str().unwrap_or_default().replace('-', "_");
        let value = counter["value"].as_u64().unwrap_or(0);
        if name == EMULATED {
            emulated += value;
        } else if ACTIONS.contains(&name.as_str()) {
            acted += value;
        }
    }
    Some((acted, emulated))
}

/// Parses what `info registers -a` prints: for each processor a line `CPU#0`, then its registers.
fn parse_registers(printed: &str) -> Vec<Cpu> {
    let sections = printed.split("CPU#").skip(1);
    let parse = |section: &str| {
        let mut hasher = DefaultHasher::new();
        section.trim().hash(&mut hasher);
        let field = |name: &str| {
            let (_, rest) = section.split_once(name)?;
            rest.split(|c: char| !c.is_ascii_hexdigit()).next()
        };
        Cpu {
            registers: hasher.finish(),
            pointer: field("RIP=").or_else(|| field("EIP=")).unwrap_or("?").to_owned(),
            halted: field("HLT=") == Some("1"),
            code: Vec::new(),
            thread: None,
        }
    };
    sections.map(parse).collect()
}

/// Parses what `x /5xb` prints: an address, a colon, and bytes such as `0xeb`.
fn parse_bytes(printed: &str) -> Vec<u8> {
    let (_, bytes) = printed.split_once(':').unwrap_or_default();
    let byte = |word: &str| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    bytes.split_whitespace().map_while(byte).collect()
}

/// Returns the process to which a thread belongs, which is also the id of its main thread.
fn process_of(thread: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

fn thread_state(thread: u64) -> Option<Thread> {
    let process = process_of(thread)?;
    parse_stat(&fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).ok()?)
}

/// Parses `/proc/PID/task/TID/stat`: the state is field 3, user and system time are fields 14 and 15.
fn parse_stat(stat: &str) -> Option<Thread> {
    // The name in field 2 may contain anything, also brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    let used = TICK.checked_mul(ticks(11)?.checked_add(ticks(12)?)?)?;
    Some(Thread { state: fields.first()?.chars().next()?, used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_every_processor_are_compared_as_a_whole() {
        let cpu = |number: u32, rax: u32, halted: u32| {
            format!(
                "\r\nCPU#{number}\r\nEAX={rax:08x} EBX=00000000\r\n\
                 EIP=000fd0b2 EFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\r\n\
                 ES =0010 00000000 ffffffff\r\n"
            )
        };
        let before = parse_registers(&[cpu(0, 1, 0), cpu(1, 2, 1)].concat());
        let after = parse_registers(&[cpu(0, 1, 0), cpu(1, 3, 1)].concat());
        assert_eq!(before.len(), 2);
        assert_eq!((before[0].pointer.as_str(), before[0].halted), ("000fd0b2", false));
        assert!(before[1].halted);
        assert_eq!(before[0].registers, after[0].registers);
        assert_ne!(before[1].registers, after[1].registers);
        let long = "\nCPU#0\nRAX=0 RBX=1\nRIP=ffffffff81000000 RFL=00000002 HLT=0\n";
        assert_eq!(parse_registers(long)[0].pointer, "ffffffff81000000");
    }

    #[test]
    fn counters_are_those_of_the_guest_whatever_their_spelling() {
        let stats = json!([
            { "provider": "kvm", "stats": [
                { "name": "exits", "value": 1000 }, { "name": "signal_exits", "value": 50 },
                { "name": "io_exits", "value": 2 }, { "name": "insn_emulation", "value": 30 },
                { "name": "halt_poll_success_hist", "value": [1, 2] } ] },
            { "provider": "kvm", "stats": [
                { "name": "mmio-exits", "value": 3 }, { "name": "insn-emulation", "value": 4 } ] },
        ]);
        assert_eq!(sum_counters(&stats), Some((5, 34)));
        assert_eq!(sum_counters(&json!([])), None, "qemu under tcg");
    }

    #[test]
    fn code_and_threads_are_parsed() {
        let code = parse_bytes("000fd0b2: 0xeb 0xfe 0x90 0x00 0x01\r\n");
        assert_eq!(code, [0xeb, 0xfe, 0x90, 0x00, 0x01]);
        assert!(parse_bytes("Cannot access memory\r\n").is_empty());
        let stat = "7668 (CPU 0) KVM) R 1 7660 1 0 -1 4194368 9 0 0 0 12 345 0 0 20 0 5 0";
        let used = Duration::from_millis(3570);
        assert_eq!(parse_stat(stat), Some(Thread { state: 'R', used }));
        assert_eq!(parse_stat("7668 (CPU"), None);
        let own = u64::from(std::process::id());
        assert_eq!(process_of(own), Some(own));
        assert!(thread_state(own).is_some());
    }
}

//! Judges from looks at a guest whether kvm really runs it. Three ways are known in which kvm does not:
//!
//! - The processors stand still: no register changes and the guest causes no exits, although it neither waits
//!   for an interrupt nor loops by itself.
//! - kvm does not return a processor that is in use, so that qemu cannot answer.
//! - kvm emulates the guest instruction by instruction, which is far slower than tcg.
//!
//! A guest is innocent as long as something else explains what is seen: it is idle (halted), paused, stopped by a
//! signal or a debugger, waiting for a device, or it got no time of a busy host. A guest whose next instruction
//! jumps back or is a spin-loop hint loops by itself, under any acceleration. A loop of one instruction of
//! another kind (`jmp rax`) is taken for a hang of kvm: it looks the same from outside, and the cost is
//! another start without kvm.

use std::time::{Duration, Instant};

use super::watch::{Cpu, Look, Thread};

/// Time for which processors must make no progress under kvm before it is left. With the time between two looks the
/// decision is made within 20 s.
pub const KVM_HANG: Duration = Duration::from_secs(14);
/// Longest time that one look adds to the evidence: while this process or the host was paused, the guest was
/// not observed.
const LONGEST_STEP: Duration = Duration::from_secs(3);
/// The part of the limit, as a divisor, that a processor must have used: a thread that got no time of the host
/// proves nothing.
const USED_PART: u32 = 4;
/// Longest processor time of a thread that sleeps and is only woken by the looks, per limit, as a divisor.
const ASLEEP_PART: u32 = 50;
/// Instructions emulated per second of processor time from which on kvm is slower than tcg. A guest that does
/// nothing but accesses to devices stays below; a kvm that emulates everything was seen to do 1.2 million.
const EMULATED_PER_SECOND: f64 = 400_000.0;
/// Code that repeats itself without a change of registers: near jumps to themselves (16-bit, 32-bit), and `pause`.
const OWN_LOOPS: [&[u8]; 3] = [&[0xe9, 0xfd, 0xff], &[0xe9, 0xfb, 0xff, 0xff, 0xff], &[0xf3, 0x90]];

/// Collects evidence about one guest.
#[derive(Debug)]
pub(super) struct Judge {
    limit: Duration,
    still: Option<Evidence>,
    kept: Option<Evidence>,
    emulated: Option<Evidence>,
}

/// A suspicion that has held since its first look.
#[derive(Debug)]
struct Evidence {
    first: Look,
    last_at: Instant,
    time: Duration,
}

impl Judge {
    /// `limit` is the time for which a suspicion must hold.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, still: None, kept: None, emulated: None }
    }

    /// Returns how kvm fails the guest, as a sentence for people, once that is certain.
    pub(super) fn observe(&mut self, look: &Look, last_output: Instant) -> Option<String> {
        let limit = self.limit;
        let silent_since = |first: &Look| last_output <= first.at;
        let is_still = |first: &Look| silent_since(first) && stands_still(first, look);
        if let Some(first) = gather(&mut self.still, look, limit, may_stand_still(look), is_still)
            && uses_time_for_nothing(first, look, limit)
        {
            return Some(format!(
                "the guest's processor stands still at 0x{} under kvm",
                look.cpus.iter().find(|cpu| !cpu.halted).map_or("?", |cpu| &cpu.pointer)
            ));
        }
        let is_kept = |first: &Look| silent_since(first) && first.cpus.len() == look.cpus.len();
        if let Some(first) = gather(&mut self.kept, look, limit, is_kept_by_kvm(look), is_kept)
            && most_used(first, look) >= limit / USED_PART
        {
            return Some("kvm does not return the guest's processor".to_owned());
        }
        let counted = look.answered && look.emulated.is_some();
        let first = gather(&mut self.emulated, look, limit, counted, |_| true)?;
        let rate = emulation_rate(first, look);
        if rate >= EMULATED_PER_SECOND {
            return Some(format!(
                "kvm emulates the guest, {:.1} million instructions per second, which is slower than tcg",
                rate / 1e6
            ));
        }
        // The next period is judged by itself.
        self.emulated = None;
        None
    }
}

/// Extends the evidence by a look, or begins new evidence with it; returns the first look once the evidence
/// covers the limit.
fn gather<'a>(
    evidence: &'a mut Option<Evidence>,
    look: &Look,
    limit: Duration,
    possible: bool,
    holds: impl Fn(&Look) -> bool,
) -> Option<&'a Look> {
    match evidence {
        Some(evidence) if possible && holds(&evidence.first) => {
            evidence.time += look.at.saturating_duration_since(evidence.last_at).min(LONGEST_STEP);
            evidence.last_at = look.at;
        }
        _ => {
            let begun = || Evidence { first: look.clone(), last_at: look.at, time: Duration::ZERO };
            *evidence = possible.then(begun);
        }
    }
    evidence.as_ref().filter(|evidence| evidence.time >= limit).map(|evidence| &evidence.first)
}

/// Returns whether the thread does or could run; a stopped one and one that waits for a device do not.
fn may_run(thread: Option<Thread>) -> bool {
    thread.is_some_and(|thread| matches!(thread.state, 'R' | 'S'))
}

fn may_stand_still(look: &Look) -> bool {
    look.answered
        && look.running
        && look.cpus.iter().any(|cpu| !cpu.halted)
        && look.cpus.iter().all(|cpu| may_run(cpu.thread) && !loops_by_itself(&cpu.code))
        // A guest that polls a device by port I/O; where kvm has counters, they grow.
        && (look.acted.is_some() || !look.cpus.iter().any(|cpu| is_port_io(&cpu.code)))
}

/// Returns whether the code begins with `in` or `out`.
fn is_port_io(code: &[u8]) -> bool {
    matches!(code, [0xe4..=0xe7 | 0xec..=0xef, ..])
}

/// Returns whether the code is the end of a tight loop: one of [`OWN_LOOPS`], or a short jump backwards (Intel SDM,
/// volume 2, `JMP` and `Jcc`), which ends loops that wait for a change of memory.
fn loops_by_itself(code: &[u8]) -> bool {
    let jumps_back = matches!(code, [0xeb | 0x70..=0x7f, 0x80..=0xff, ..]);
    jumps_back || OWN_LOOPS.iter().any(|own| code.starts_with(own))
}

fn stands_still(first: &Look, now: &Look) -> bool {
    first.acted == now.acted
        && first.cpus.len() == now.cpus.len()
        && first.cpus.iter().zip(&now.cpus).all(|(first, now)| first.registers == now.registers)
}

/// Returns whether a processor was busy all the time, or all of them slept without being halted.
fn uses_time_for_nothing(first: &Look, now: &Look, limit: Duration) -> bool {
    let all_asleep = now
        .cpus
        .iter()
        .all(|cpu| !cpu.halted && cpu.thread.is_some_and(|thread| thread.state == 'S'));
    let most = most_used(first, now);
    most >= limit / USED_PART || (all_asleep && most <= limit / ASLEEP_PART)
}

/// Returns whether qemu waits for a processor: it does not answer, its main thread sleeps, and a processor is in
/// use.
fn is_kept_by_kvm(look: &Look) -> bool {
    !look.answered
        && look.main.is_some_and(|main| main.state == 'S')
        && !look.cpus.is_empty()
        && look.cpus.iter().all(|cpu| may_run(cpu.thread))
}

/// Returns the processor time of the busiest processor that is not halted.
fn most_used(first: &Look, now: &Look) -> Duration {
    let used = first.cpus.iter().zip(&now.cpus).filter(|(_, now)| !now.halted).map(used);
    used.max().unwrap_or_default()
}

fn used((first, now): (&Cpu, &Cpu)) -> Duration {
    match (first.thread, now.thread) {
        (Some(first), Some(now)) => now.used.saturating_sub(first.used),
        _ => Duration::ZERO,
    }
}

/// Returns the emulated instructions per second of processor time; 0 if too little time was used to judge.
fn emulation_rate(first: &Look, now: &Look) -> f64 {
    let (Some(before), Some(after)) = (first.emulated, now.emulated) else { return 0.0 };
    let total: Duration = first.cpus.iter().zip(&now.cpus).map(used).sum();
    if total < Duration::from_secs(1) {
        return 0.0;
    }
    let emulated = u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX);
    f64::from(emulated) / total.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = KVM_HANG;

    type Change<'a> = &'a dyn Fn(&mut Look);

    /// A guest that is looked at once a second; each test changes what is seen.
    struct Guest {
        begun: Instant,
        look: Look,
        judge: Judge,
        output: Instant,
    }

    fn cpu() -> Cpu {
        let thread = Some(Thread { state: 'R', used: Duration::ZERO });
        Cpu { registers: 7, pointer: "fff0".to_owned(), halted: false, code: Vec::new(), thread }
    }

    impl Guest {
        fn new(cpus: usize) -> Self {
            let begun = Instant::now();
            let look = Look {
                at: begun,
                answered: true,
                running: true,
                cpus: vec![cpu(); cpus],
                acted: Some(100),
                emulated: Some(0),
                main: Some(Thread { state: 'S', used: Duration::ZERO }),
            };
            Self { begun, look, judge: Judge::new(LIMIT), output: begun }
        }

        /// Looks once a second after `change`, at most for two minutes; returns the verdict and its second.
        fn watch(&mut self, mut change: impl FnMut(&mut Look)) -> Option<(u64, String)> {
            (1..120).find_map(|second| {
                change(&mut self.look);
                self.look.at += Duration::from_secs(1);
                let verdict = self.judge.observe(&self.look, self.output)?;
                Some(((self.look.at - self.begun).as_secs(), verdict)).filter(|_| second > 0)
            })
        }
    }

    fn use_time(cpu: &mut Cpu, millis: u64) {
        if let Some(thread) = &mut cpu.thread {
            thread.used += Duration::from_millis(millis);
        }
    }

    fn busy(look: &mut Look) {
        use_time(&mut look.cpus[0], 950);
    }

    #[test]
    fn a_busy_processor_whose_registers_never_change_is_hung_within_20_s() {
        let mut guest = Guest::new(2);
        // The other processor was never started: it sleeps, and is not halted.
        guest.look.cpus[1].thread = Some(Thread { state: 'S', used: Duration::ZERO });
        let (second, verdict) = guest.watch(busy).unwrap();
        assert!((14..20).contains(&second), "{second}");
        assert!(verdict.contains("stands still at 0xfff0"), "{verdict}");
    }

    #[test]
    fn a_processor_asleep_inside_kvm_without_being_halted_is_hung() {
        let mut guest = Guest::new(1);
        guest.look.cpus[0].thread = Some(Thread { state: 'S', used: Duration::ZERO });
        assert!(guest.watch(|_| {}).is_some());
    }

    #[test]
    fn progress_of_any_kind_is_not_a_hang() {
        let kinds: [fn(&mut Look, u64); 4] = [
            |look, second| look.cpus[0].registers = second,
            // Only the second processor works.
            |look, second| look.cpus[1].registers = second,
            // A loop that waits for a device: the registers are the same whenever it is looked at.
            |look, second| look.acted = Some(second),
            // Now and then, but in time.
            |look, second| look.cpus[0].registers = second / 10,
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            let (mut guest, mut second) = (Guest::new(2), 1000);
            let seen = guest.watch(|look| {
                second += 1;
                busy(look);
                kind(look, second);
            });
            assert_eq!(seen, None, "{number}");
        }
    }

    #[test]
    fn what_has_another_explanation_is_not_a_hang() {
        let asleep = Some(Thread { state: 'S', used: Duration::ZERO });
        let idle = |look: &mut Look| {
            look.cpus[0].halted = true;
            look.cpus[0].thread = Some(Thread { state: 'S', used: Duration::ZERO });
        };
        let state = |look: &mut Look, state| look.cpus[0].thread.as_mut().unwrap().state = state;
        let kinds: [(&str, Change<'_>); 11] = [
            ("idle", &idle),
            ("idle, with a processor that was never started", &|look| {
                idle(look);
                look.cpus[1].thread = asleep;
            }),
            ("paused by qemu", &|look| look.running = false),
            ("stopped by a signal", &|look| state(look, 'T')),
            ("stopped by a debugger", &|look| state(look, 't')),
            ("waiting for a device", &|look| state(look, 'D')),
            ("a host without time for it", &|look| use_time(&mut look.cpus[0], 10)),
            ("jumping to itself", &|look| {
                busy(look);
                look.cpus[0].code = vec![0xeb, 0xfe, 0, 0, 0];
            }),
            ("spinning", &|look| {
                busy(look);
                look.cpus[0].code = vec![0xf3, 0x90, 0xeb, 0xfc, 0];
            }),
            ("polling a device", &|look| {
                busy(look);
                look.acted = None;
                look.cpus[0].code = vec![0xec, 0xeb, 0xfd, 0, 0];
            }),
            ("waiting for a change of memory", &|look| {
                busy(look);
                look.cpus[0].code = vec![0x75, 0xf5, 0, 0, 0];
            }),
        ];
        for (what, kind) in kinds {
            let mut guest = Guest::new(2);
            assert_eq!(guest.watch(|look| kind(look)), None, "{what}");
        }
    }

    #[test]
    fn jumps_forward_and_other_code_are_not_loops() {
        for code in [&[][..], &[0xeb], &[0xeb, 0x10], &[0x75, 0x7f], &[0xff, 0xe0], &[0x90, 0xf3]] {
            assert!(!loops_by_itself(code), "{code:?}");
        }
    }

    #[test]
    fn output_restarts_the_clock() {
        let mut guest = Guest::new(1);
        guest.output = guest.begun + Duration::from_secs(10);
        let (second, _) = guest.watch(busy).unwrap();
        assert!((24..30).contains(&second), "{second}");
    }

    #[test]
    fn time_without_looks_does_not_count() {
        let mut guest = Guest::new(1);
        let mut first = true;
        let (second, _) = guest
            .watch(|look| {
                busy(look);
                // This process was stopped for an hour, and qemu with it.
                look.at += Duration::from_secs(if first { 1 } else { 3600 });
                first = false;
            })
            .unwrap();
        assert!(second > 4 * 3600, "{second}");
    }

    #[test]
    fn a_qemu_that_waits_for_its_busy_processor_is_hung_and_one_that_waits_for_a_disk_is_not() {
        let silent = |look: &mut Look| {
            busy(look);
            look.answered = false;
        };
        let (second, verdict) = Guest::new(1).watch(silent).unwrap();
        assert!(second < 20 && verdict.contains("does not return"), "{second} {verdict}");
        for state in ['D', 'R', 'T'] {
            let mut guest = Guest::new(1);
            guest.look.main = Some(Thread { state, used: Duration::ZERO });
            assert_eq!(guest.watch(silent), None, "{state}");
        }
        let stopped = |look: &mut Look| {
            look.answered = false;
            look.cpus[0].thread = Some(Thread { state: 'T', used: Duration::ZERO });
        };
        assert_eq!(Guest::new(1).watch(stopped), None);
        // Nothing is known of its processors.
        assert_eq!(Guest::new(0).watch(|look| look.answered = false), None);
    }

    #[test]
    fn a_kvm_that_emulates_everything_is_left_although_the_guest_moves_and_prints() {
        let run = |per_second: u64, millis: u64| {
            let mut guest = Guest::new(1);
            guest.output += Duration::from_secs(3600);
            guest.watch(|look| {
                look.cpus[0].registers += 1;
                use_time(&mut look.cpus[0], millis);
                *look.emulated.as_mut().unwrap() += per_second;
            })
        };
        let (second, verdict) = run(1_100_000, 950).unwrap();
        assert!(second < 20 && verdict.contains("1.2 million"), "{second} {verdict}");
        // A busy host gives it a quarter of the time.
        assert!(run(290_000, 250).is_some());
        assert_eq!(run(150_000, 950), None, "a guest that only accesses devices");
        assert_eq!(run(1000, 0), None);
    }
}

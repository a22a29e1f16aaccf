//! A boot as its serial console shows it: under way, over, or held up by the emulator.
//!
//! [`Cluster::wait_for_boot`](crate::cluster::Cluster::wait_for_boot) and `vm-tests boots` look at
//! the console of a machine four times a second and ask a [`BootWatch`] what it means. It reads no
//! clock and no file.
//!
//! QEMU's emulation sometimes stops the timer of one virtual processor, mostly while the kernel
//! brings up the others. Nothing mends that but the power switch, and nothing of ours has a part in
//! it: before stage 1 there is only firmware, iPXE and Debian's kernel. So a boot is called
//! *stalled* only if the machine is emulated, the kernel itself complains of a stall, and the boot
//! has not gone on since. Between stage 1 and the goal, where our programs run, only complaints
//! count that no program can bring about.
//!
//! A kernel that lost its last timer cannot complain: all processors are halted and none will
//! wake. It counts as stalled, too, if it has spoken and then says nothing for [`SILENCE`]
//! before stage 1 does.

use std::time::{Duration, Instant};

/// The first line of every Linux kernel: a machine that restarts by itself begins again here.
const KERNEL_STARTS: &str = "Linux version ";

/// The first line of stage 1 (`substrate/src/stage1.rs`).
const STAGE1_SPEAKS: &str = "bedplate: stage 1, version ";

/// After this line a kernel does nothing any more (kernel: `kernel/panic.c`).
const PANIC: &str = "Kernel panic - not syncing";

/// Complaints that a timer did not fire (kernel: `kernel/rcu/tree_stall.h`). A program cannot stop
/// the timer of a processor.
const TIMER_STOPPED: [&str; 2] =
    ["kthread timer wakeup didn't happen for", "Possible timer handling issue on cpu="];

/// Complaints that a processor or a task stands still (kernel: `Documentation/RCU/stallwarn.rst`,
/// `Documentation/admin-guide/lockup-watchdogs.rst`, `kernel/hung_task.c`).
const STANDS_STILL: [&str; 5] = [
    "detected stalls on CPUs/tasks",
    "self-detected stall on CPU",
    "kthread starved for",
    "BUG: soft lockup - CPU#",
    "blocked for more than",
];

/// How long a boot with a complaint may take to go on by itself: a busy host holds an emulator up,
/// and the kernel complains of that too.
const GRACE: Duration = Duration::from_secs(30);

/// How long an emulated kernel may say nothing between its first line and stage 1. The longest that
/// a boot is silent there, while the initramfs is unpacked, is 10 s, and 30 s beside a build.
const SILENCE: Duration = Duration::from_secs(90);

/// How long the parts of a boot may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From power-on until stage 1 speaks: firmware, iPXE, two downloads of 40 MB, the kernel.
    pub(crate) to_stage1: Duration,
    /// From there to the goal: the root image, the image's own init, the agent.
    pub(crate) to_goal: Duration,
}

/// What a look at the console means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Under way.
    GoesOn,
    /// The emulator holds it up; what the kernel says of that.
    Stalled(String),
    /// It will not reach its goal; why.
    Over(String),
}

/// One boot that is watched.
#[derive(Debug)]
pub(crate) struct BootWatch {
    limits: Limits,
    /// QEMU runs the machine by itself, without the processor's help.
    is_emulated: bool,
    /// In stage 1 or behind it.
    is_past_kernel: bool,
    /// Since when it is, or is not.
    part_began: Instant,
    /// When the boot last went on.
    moved: Instant,
    /// Since when the kernel complains.
    complains: Option<Instant>,
    /// How long the console was when it was last seen to grow, bytes.
    length: usize,
    /// When that was.
    spoke: Instant,
    /// Where the console ended at the first look, if stage 1 had spoken by then: what a node that
    /// is watched again, say while it restarts, complained of before is over.
    heard_before: Option<usize>,
}

impl BootWatch {
    /// A watch that begins `now`, with the boot or in the middle of it.
    pub(crate) fn new(now: Instant, is_emulated: bool, limits: Limits) -> Self {
        Self {
            limits,
            is_emulated,
            is_past_kernel: false,
            part_began: now,
            moved: now,
            complains: None,
            length: 0,
            spoke: now,
            heard_before: None,
        }
    }

    /// The boot went on, by what others know of it.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = now;
    }

    /// What the console means; `console` is what it showed since power-on.
    pub(crate) fn look(&mut self, now: Instant, console: &str) -> Verdict {
        let is_past_kernel = has_stage1_spoken(console);
        let heard_before =
            *self.heard_before.get_or_insert(if is_past_kernel { console.len() } else { 0 });
        if is_past_kernel != self.is_past_kernel {
            (self.is_past_kernel, self.part_began, self.moved) = (is_past_kernel, now, now);
            self.complains = None;
        }
        if let Some(line) = panic(console) {
            return Verdict::Over(format!("its kernel has given up: {line}"));
        }
        if console.len() != self.length {
            (self.length, self.spoke) = (console.len(), now);
        }
        if let Some(complaint) = complaint(console, heard_before).filter(|_| self.is_emulated) {
            let since = (*self.complains.get_or_insert(now)).max(self.moved);
            if now.duration_since(since) >= GRACE {
                return Verdict::Stalled(complaint.to_owned());
            }
            return Verdict::GoesOn;
        }
        let is_silent =
            self.is_emulated && !is_past_kernel && now.duration_since(self.spoke) >= SILENCE;
        if let Some(line) = last_line_of_kernel(console).filter(|_| is_silent) {
            return Verdict::Stalled(format!("silent for {} s after {line}", SILENCE.as_secs()));
        }
        let (limit, what) = if is_past_kernel {
            (self.limits.to_goal, "stage 1 spoke, and it is not there yet")
        } else {
            (self.limits.to_stage1, "power-on, and stage 1 has not spoken")
        };
        if now.duration_since(self.part_began) > limit {
            return Verdict::Over(format!("{} s since {what}", limit.as_secs()));
        }
        Verdict::GoesOn
    }
}

/// Whether the last boot on a console has come to stage 1.
pub(crate) fn has_stage1_spoken(console: &str) -> bool {
    last_boot(console).contains(STAGE1_SPEAKS)
}

/// What shows that the kernel of the last boot on a console has given up.
pub(crate) fn panic(console: &str) -> Option<&str> {
    last_boot(console).lines().find(|line| line.contains(PANIC)).map(str::trim)
}

/// The last line of a console on which a kernel has spoken.
fn last_line_of_kernel(console: &str) -> Option<&str> {
    let boot = &console[console.rfind(KERNEL_STARTS)?..];
    boot.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// From the last start of a kernel on; all of it if there is none.
fn last_boot(console: &str) -> &str {
    console.rfind(KERNEL_STARTS).map_or(console, |at| &console[at..])
}

/// The complaint by which the last boot on a console counts as stalled, if it goes on no more. Of
/// what stands before `heard_before` none counts that came after stage 1.
fn complaint(console: &str, heard_before: usize) -> Option<&str> {
    let boot = last_boot(console);
    let (text, general) = match boot.find(STAGE1_SPEAKS) {
        Some(at) => {
            let from = (console.len() - boot.len() + at).max(heard_before);
            (console.get(from..).unwrap_or_default(), &[][..])
        }
        None => (boot, &STANDS_STILL[..]),
    };
    let is_complaint =
        |line: &&str| TIMER_STOPPED.iter().chain(general).any(|complaint| line.contains(complaint));
    text.lines().find(is_complaint).map(str::trim)
}

#[cfg(test)]
mod tests;

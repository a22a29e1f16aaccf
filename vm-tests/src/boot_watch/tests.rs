//! Consoles of boots that go on, that the emulator stalls, and that end.

use std::time::{Duration, Instant};

use super::{BootWatch, GRACE, Limits, Verdict, has_stage1_spoken, panic};
use crate::clock;

const LIMITS: Limits =
    Limits { to_stage1: Duration::from_secs(160), to_goal: Duration::from_secs(200) };

const FIRMWARE: &str = "SeaBIOS (version 1.16.2-debian-1.16.2-1)
iPXE (http://ipxe.org) 00:02.0 CA00 PCI2.10 PnP PMM
Bedplate: n4 boots debian-node@1 from 10.77.0.1:9480
";

const KERNEL: &str = "[    0.000000] Linux version 6.1.0-57-amd64 (debian-kernel@lists.debian.org)
[    2.373701] x86: Booting SMP configuration:
[    3.485222] smp: Brought up 4 nodes, 8 CPUs
";

/// In the words of Linux 6.1 (`kernel/rcu/tree_stall.h`).
const STALL: &str = "[   32.113264] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   32.114033] rcu: \t(detected by 0, t=5252 jiffies, g=-851, q=214 ncpus=8)
[   32.114703] rcu: All QSes seen, last rcu_preempt kthread activity 5251 (4294900272-4294895021), jiffies_till_next_fqs=1, root ->qsmask 0x0
[   32.115713] rcu: rcu_preempt kthread timer wakeup didn't happen for 5250 jiffies! g-851 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x200
[   32.116716] rcu: \tPossible timer handling issue on cpu=4 timer-softirq=24
[   32.117363] rcu: rcu_preempt kthread starved for 5252 jiffies! g-851 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x200 ->cpu=4
";

/// As it stood on the console of a machine, the thread of whose fifth processor was
/// held for a minute.
const HELD: &str = "[   29.758970] Trying to unpack rootfs image as initramfs...
[   50.140504] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   50.140504] rcu: \t1-...!: (0 ticks this GP) idle=b000/0/0x0 softirq=33/33 fqs=0 (false positive?)
[   50.140504] rcu: \t4-...!: (312 ticks this GP) idle=408c/1/0x4000000000000000 softirq=23/25 fqs=0
";

const HUNG_TASK: &str = "[  242.836561] INFO: task swapper/0:1 blocked for more than 120 seconds.
[  242.838231]       Not tainted 6.1.0-57-amd64 #1 Debian 6.1.192-3
";

const SOFT_LOCKUP: &str =
    "[   84.932936] watchdog: BUG: soft lockup - CPU#2 stuck for 45s! [kworker/u16:0:8]\n";

const STAGE1: &str = "[    8.288003] bedplate: stage 1, version 0.1.0
[    8.301112] bedplate: n4 boots debian-node@1
";

/// What a watch says of these consoles, each seen so many seconds after power-on.
fn looks(is_emulated: bool, seen: &[(u64, &str)]) -> Vec<Verdict> {
    let power_on: Instant = clock::now();
    let mut watch = BootWatch::new(power_on, is_emulated, LIMITS);
    seen.iter()
        .map(|(seconds, console)| watch.look(power_on + Duration::from_secs(*seconds), console))
        .collect()
}

fn stalled(line: &str) -> Verdict {
    Verdict::Stalled(line.to_owned())
}

#[test]
fn a_kernel_that_complains_before_stage_1_and_goes_no_further_is_stalled() {
    let first = "[   32.113264] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:";
    let held = "[   50.140504] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:";
    let hung = HUNG_TASK.lines().next().unwrap();
    for (complaint, line) in [(STALL, first), (HELD, held), (HUNG_TASK, hung)] {
        let console = [FIRMWARE, KERNEL, complaint].concat();
        let seen =
            looks(true, &[(60, &console), (60 + GRACE.as_secs() - 1, &console), (90, &console)]);
        assert_eq!(seen, [Verdict::GoesOn, Verdict::GoesOn, stalled(line)]);
    }
}

#[test]
fn a_complaint_that_passes_is_none() {
    let before = [FIRMWARE, KERNEL, SOFT_LOCKUP].concat();
    let after = [&before, STAGE1].concat();
    let seen = looks(true, &[(60, &before), (80, &after), (200, &after)]);
    assert_eq!(seen, [Verdict::GoesOn, Verdict::GoesOn, Verdict::GoesOn]);
}

#[test]
fn where_our_programs_run_only_a_stopped_timer_is_the_emulators_fault() {
    let ours = [FIRMWARE, KERNEL, STAGE1, SOFT_LOCKUP, HUNG_TASK].concat();
    let seen = looks(true, &[(30, &ours), (200, &ours)]);
    assert_eq!(seen, [Verdict::GoesOn, Verdict::GoesOn]);
    let stage1 = [FIRMWARE, KERNEL, STAGE1].concat();
    let timer = [&stage1, STALL].concat();
    let seen = looks(true, &[(10, &stage1), (30, &timer), (61, &timer)]);
    let line = "[   32.115713] rcu: rcu_preempt kthread timer wakeup didn't happen for 5250 jiffies! g-851 f0x2 \
                RCU_GP_WAIT_FQS(5) ->state=0x200";
    assert_eq!(seen, [Verdict::GoesOn, Verdict::GoesOn, stalled(line)]);
}

#[test]
fn a_node_that_is_watched_again_is_not_held_to_what_it_said_before() {
    let before = [FIRMWARE, KERNEL, STAGE1, STALL].concat();
    let again = [&before, STALL].concat();
    let seen = looks(true, &[(30, &before), (90, &before), (91, &again), (121, &again)]);
    assert_eq!(seen[..3], [Verdict::GoesOn, Verdict::GoesOn, Verdict::GoesOn]);
    assert!(matches!(seen[3], Verdict::Stalled(_)));
}

#[test]
fn a_boot_that_goes_on_is_not_stalled() {
    let power_on = clock::now();
    let stage1 = [FIRMWARE, KERNEL, STAGE1].concat();
    let console = [&stage1, STALL].concat();
    let mut watch = BootWatch::new(power_on, true, LIMITS);
    let at = |seconds| power_on + Duration::from_secs(seconds);
    assert_eq!(watch.look(at(30), &stage1), Verdict::GoesOn);
    assert_eq!(watch.look(at(40), &console), Verdict::GoesOn);
    watch.moved(at(60));
    assert_eq!(watch.look(at(75), &console), Verdict::GoesOn);
    assert!(matches!(watch.look(at(90), &console), Verdict::Stalled(_)));
}

#[test]
fn a_machine_that_a_processor_runs_is_never_called_stalled() {
    let console = [FIRMWARE, KERNEL, STALL, HUNG_TASK].concat();
    let seen = looks(false, &[(60, &console), (150, &console), (161, &console)]);
    assert_eq!(seen[..2], [Verdict::GoesOn, Verdict::GoesOn]);
    assert!(matches!(&seen[2], Verdict::Over(why) if why.starts_with("160 s since power-on")));
}

#[test]
fn an_emulated_kernel_that_falls_silent_before_stage_1_is_stalled() {
    let first = [FIRMWARE, KERNEL].concat();
    let more = [&first, HELD.lines().next().unwrap(), "\n"].concat();
    let seen = looks(true, &[(10, &first), (60, &first), (60, &more), (149, &more), (150, &more)]);
    let line = "[   29.758970] Trying to unpack rootfs image as initramfs...";
    assert_eq!(seen[..4], [const { Verdict::GoesOn }; 4]);
    assert_eq!(seen[4], stalled(&format!("silent for 90 s after {line}")));
}

#[test]
fn other_silence_is_no_stall_but_ends_with_its_part_of_the_boot() {
    let ends_first_part = |seen: &Verdict| matches!(seen, Verdict::Over(why) if why.contains("stage 1 has not spoken"));
    // Firmware and iPXE, which fetches 80 MB without a word.
    let seen = looks(true, &[(10, FIRMWARE), (160, FIRMWARE), (161, FIRMWARE)]);
    assert_eq!(seen[..2], [Verdict::GoesOn, Verdict::GoesOn]);
    assert!(ends_first_part(&seen[2]));
    // A kernel that a processor runs.
    let console = [FIRMWARE, KERNEL].concat();
    let seen = looks(false, &[(10, &console), (160, &console), (161, &console)]);
    assert_eq!(seen[..2], [Verdict::GoesOn, Verdict::GoesOn]);
    assert!(ends_first_part(&seen[2]));
    // Where our programs run.
    let console = [FIRMWARE, KERNEL, STAGE1].concat();
    let seen = looks(true, &[(60, &console), (260, &console), (261, &console)]);
    assert_eq!(seen[..2], [Verdict::GoesOn, Verdict::GoesOn]);
    assert!(matches!(&seen[2], Verdict::Over(why) if why.contains("not there yet")));
}

#[test]
fn a_panic_ends_the_boot_at_once() {
    let line =
        "[    7.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";
    let console = [FIRMWARE, KERNEL, STALL, line, "\n"].concat();
    assert_eq!(panic(&console), Some(line));
    assert!(matches!(&looks(true, &[(1, &console)])[0], Verdict::Over(why) if why.contains("VFS")));
}

#[test]
fn what_an_earlier_boot_said_is_forgotten() {
    let console = [FIRMWARE, KERNEL, STALL, FIRMWARE, KERNEL].concat();
    assert_eq!(looks(true, &[(60, &console), (120, &console)]), [Verdict::GoesOn, Verdict::GoesOn]);
    assert!(has_stage1_spoken(&[KERNEL, STAGE1].concat()));
    assert!(!has_stage1_spoken(&[KERNEL, STAGE1, FIRMWARE, KERNEL].concat()));
    // Until the next kernel starts, the machine counts as where it was.
    assert!(has_stage1_spoken(&[KERNEL, STAGE1, FIRMWARE].concat()));
}

//! KVM or emulation: decided by letting guest code run, because a `/dev/kvm` that opens may
//! still not run any.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;

use crate::{
    checkout_paths::CheckoutPaths,
    clock,
    process::{self, Service},
    report::say,
};

/// How long the probe may take; firmware and a boot sector take one second where KVM works.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// A boot sector that ends the machine with a status of its own:
/// `mov dx,0xf4; mov al,0x10; out dx,al; jmp $`.
const SECTOR_CODE: [u8; 8] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xeb, 0xfe];

/// How far the counter of cycles comes in a tick of Debian's kernel (250 Hz) on a
/// processor of 4 GHz.
///
/// Without it each processor but the first measures this when it starts, against ticks that the
/// first has to count meanwhile. The emulator's threads take turns on fewer processors than the
/// machine has, so the measure fails five times ("calibrate_delay_direct() failed to get a good
/// estimate" on the console), and a busy loop is then doubled until it sees a tick. That takes
/// long, and what comes out is wrong, by a factor of ten now and then. A delay that is somewhat too
/// long on a slower host does no harm.
///
/// `tsc=reliable` is not given. It spares no time that can be measured, and it takes away the
/// kernel's watchdog of clocks, a timer that walks from processor to processor twice a second and
/// so makes each of them set its timer again: with it 2 of 23 boots hung without a word, all
/// processors halted and no timer set; without it none of 30.
const LOOPS_PER_TICK: &str = "lpj=16000000";

/// What `isa-debug-exit` makes of the byte 0x10: twice it, plus one.
const RAN: i32 = 0x21;

/// How machines are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// By the processor itself.
    Kvm,
    /// By QEMU's emulation.
    Tcg,
}

impl Accelerator {
    /// KVM if guest code really runs in time.
    ///
    /// # Errors
    /// If the probe's files cannot be written or QEMU is missing.
    pub(crate) fn probe(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        let works = Path::new("/dev/kvm").exists() && guest_code_runs(checkout_paths)?;
        say(if works {
            "machines run under KVM"
        } else {
            "machines run under QEMU's emulation: KVM does not run guest code here"
        });
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's name and the processor to show to the machine.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// What the kernel of a machine is told on its command line.
    pub(crate) fn kernel_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &[],
            Self::Tcg => &[LOOPS_PER_TICK],
        }
    }

    /// A time that is enough where the processor itself runs the machine, and what it is
    /// under emulation.
    pub(crate) fn stretch(self, time: Duration) -> Duration {
        match self {
            Self::Kvm => time,
            Self::Tcg => time * 4,
        }
    }
}

fn guest_code_runs(checkout_paths: &CheckoutPaths) -> anyhow::Result<bool> {
    let mut sector = vec![0; 512];
    sector[..SECTOR_CODE.len()].copy_from_slice(&SECTOR_CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let disk = checkout_paths.of_run("pids/probe.img");
    fs::write(&disk, sector).with_context(|| format!("cannot write {}", disk.display()))?;
    let drive = format!("file={},format=raw,if=ide,readonly=off", disk.display());
    let arguments = "-machine q35 -accel kvm -cpu host -m 64 -nodefaults -display none -no-reboot";
    let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    arguments.extend(
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", &drive].map(str::to_owned),
    );
    let log = checkout_paths.of_run("pids/probe.log");
    let mut machine =
        Service::start(checkout_paths, "probe", Path::new(process::QEMU), &arguments, &log)?;
    let end = clock::wait_for("the probe", PROBE_LIMIT, || machine.exit_code());
    Ok(end.is_ok_and(|code| code == RAN))
}

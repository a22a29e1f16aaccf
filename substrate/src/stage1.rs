//! Stage 1: `/init` of the initramfs that the provisioner builds, up to the image's own init.
//!
//! Mounts, drivers, network, clock, enrolment, root image, overlays, hand-over, in this order. It
//! never stops silently: a failure is told on the console with its causes and to the server if that
//! can be reached, and the machine restarts after [`PAUSE`].

pub mod cmdline;
pub mod early;
pub mod enrol;
pub mod fetch;
pub mod handover;
pub mod kernel_log;
pub mod modules;
pub mod report;
pub mod root_fs;
pub mod server_clock;

use std::{convert::Infallible, fs, io::Read, panic::AssertUnwindSafe, path::Path, time::Duration};

use anyhow::{Context, bail};
use api::{
    enroll::{BootPhase, Report},
    stage1::Stage1,
};

use self::{
    cmdline::CommandLine,
    modules::Modules,
    report::{Reporter, Throttle},
};
use crate::{
    clock,
    console::{Console, chain},
    fleet_port::{self, FleetPort},
    identity,
    net::boot::{self, Network},
    overlay,
    taken_down::TakenDown,
    tls,
};

/// Between a failure and the restart: time to read the console, and for a server to come back.
pub const PAUSE: Duration = Duration::from_secs(30);

/// How often the console hears of the progress of the fetch.
const CONSOLE_STEP: Duration = Duration::from_secs(2);

/// Runs stage 1. Only for PID 1.
pub fn run() -> ! {
    let mut boot = Boot::default();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| start(&mut boot)));
    let cause = match outcome {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "a bug: stage 1 panicked; the lines above say where".to_owned(),
    };
    boot.console.say(&format!("FAILED while {}: {cause}", boot.step));
    boot.console.say(&format!("the machine restarts in {} s", PAUSE.as_secs()));
    std::thread::sleep(PAUSE);
    let Err(error) = linux::power::restart_now();
    boot.console.say(&crate::console::chain(&error));
    loop {
        // PID 1 must not end: the kernel would stop with less to say than we have said.
        std::thread::park();
    }
}

/// What is known so far; kept outside of the steps so that a failure can tell where it was.
#[derive(Default)]
struct Boot {
    console: Console,
    step: &'static str,
    reporter: Option<Reporter>,
}

fn start(boot: &mut Boot) -> anyhow::Result<Infallible> {
    boot.step = "mounting the first file systems";
    early::mount_all()?;
    // Without a console there is nobody to tell so.
    let _ = linux::console::take_over();
    boot.console = Console::open();
    boot.console.say(&format!("stage 1, version {}", env!("CARGO_PKG_VERSION")));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        let result = boot.go().await;
        if let (Err(error), Some(reporter)) = (&result, &boot.reporter) {
            let message = format!("{}: {error:#}", boot.step);
            if let Err(error) = reporter.deliver(BootPhase::Failed, &message).await {
                boot.console.say(&format!("the server could not be told: {}", chain(&error)));
            }
        }
        result
    })
}

impl Boot {
    async fn go(&mut self) -> anyhow::Result<Infallible> {
        self.step = "reading what the boot script passed on";
        let text = fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
        let command_line = CommandLine::parse(&text);
        let stage1 = self.document(&command_line)?;
        self.console.say(&format!("{} boots {}", stage1.node, stage1.root.version));

        let network = self.network(&command_line, &stage1).await?;

        self.step = "setting the clock";
        let told =
            command_line.server_seconds.unwrap_or(i64::MIN).max(stage1.server_time.seconds());
        let clock_set = server_clock::set(told)?;
        if let Some(line) = &clock_set {
            self.console.say(line);
        }

        self.step = "enrolling";
        let console = &mut self.console;
        let identity = enrol::enrol(&stage1, &mut |line| console.say(line)).await?;
        let fleet = FleetPort::new(identity.fleet_servers.clone(), tls::authenticated(&identity)?)?;
        let reporter = Reporter::new(fleet.clone());
        self.reporter = Some(reporter.clone());
        self.console.say("enrolled");
        let mut message = format!("enrolled from {}", network.address.addr());
        if let Some(line) = clock_set {
            message = format!("{message}; {line}");
        }
        self.tell(&reporter, BootPhase::Stage1, &message).await;

        self.fetch(&stage1, &identity, &reporter).await?;

        self.step = "mounting the root image";
        let size = stage1.machine.root.as_ref().and_then(|root| root.writable_size.as_deref());
        let (image, root) = (Path::new(root_fs::IMAGE), Path::new(root_fs::ROOT));
        root_fs::mount_root(image, Path::new(identity::DIRECTORY), root, size)?;

        self.step = "applying the boot overlays";
        let ask = || fleet.get("/node/v1/overlays/boot", overlay::MAX_ARCHIVE_BYTES);
        let console = &mut self.console;
        let archive = fleet_port::patiently(ask, &mut |line| console.say(line)).await?;
        let none = overlay::Manifest::default();
        let (_, summary) =
            overlay::apply(root, archive.as_ref(), &none, Some(Path::new(root_fs::LOWER)))?;
        self.console.say(&format!("{} files from overlays", summary.written));

        self.step = "leaving the agent";
        handover::install_agent(root)?;
        identity::store(Path::new(identity::PATH), &identity)?;

        self.hand_over(&command_line, network, &reporter).await
    }

    /// What the per-node initrd says. Where the kernel could not unpack all of it,
    /// that is the cause.
    fn document(&mut self, command_line: &CommandLine) -> anyhow::Result<Stage1> {
        let unpacking =
            kernel_log::unpacking_failure(Path::new(linux::console::KMSG)).map(|reason| {
                let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
                kernel_log::in_words(
                    &reason,
                    root_fs::memory_total(&meminfo),
                    command_line.image_mib,
                )
            });
        let stage1 = read_stage1(Path::new(api::stage1::PATH));
        let Some(cause) = unpacking else { return stage1 };
        // Said now as well: a driver that is missing for it fails later, and by another name.
        self.console.say(&cause);
        stage1.context(cause)
    }

    /// Drivers and network, which find each other: a card may appear late.
    async fn network(
        &mut self,
        command_line: &CommandLine,
        stage1: &Stage1,
    ) -> anyhow::Result<Network> {
        self.step = "loading drivers";
        let mut modules = match Modules::open(command_line) {
            Ok(modules) => Some(modules),
            Err(error) => {
                self.console.say(&format!("{error:#}; going on with what is built in"));
                None
            }
        };
        if let Some(modules) = &mut modules {
            modules.load_needed();
            let mut count = modules.coldplug();
            for (module, wanted) in stacked_modules(stage1) {
                if wanted {
                    modules.load(module, true);
                    count += 1;
                }
            }
            self.console.say(&format!("{count} drivers loaded"));
            for complaint in modules.take_complaints() {
                self.console.say(&complaint);
            }
        }

        self.step = "setting up the network";
        let card = command_line.boot_card.context(
            "the kernel command line has no BOOTIF=01-…: the boot script must pass the card on",
        )?;
        let console = &mut self.console;
        let mut coldplug = || {
            if let Some(modules) = &mut modules {
                modules.coldplug();
            }
        };
        Ok(boot::bring_up(card, stage1, &mut |line| console.say(line), &mut coldplug).await?)
    }

    async fn fetch(
        &mut self,
        stage1: &Stage1,
        identity: &api::enroll::AgentIdentity,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        self.step = "fetching the root image";
        let image = &stage1.root;
        if image.format != "squashfs" {
            bail!(
                "the root image has the format {:?}, and this stage 1 knows squashfs only",
                image.format
            );
        }
        root_fs::make_room(image)?;
        // Plain HTTP; the TLS configuration only keeps the client from looking for the image's own.
        let client = fleet_port::http_client(tls::authenticated(identity)?)?;
        let console = std::cell::RefCell::new(&mut self.console);
        let mut throttle = Throttle::default();
        let mut shown = None;
        let mut progress = |received: u64| {
            let now = clock::monotonic();
            let percent = percent_of(received, image.size);
            if throttle.admits(percent, now) {
                let message = format!("fetching {}", image.version);
                reporter.progress(Report {
                    phase: BootPhase::Fetching,
                    percent: Some(percent),
                    message,
                });
            }
            if percent == 100 || shown.is_none_or(|at| now.duration_since(at) >= CONSOLE_STEP) {
                shown = Some(now);
                let (received, size) = (received / 1_000_000, image.size / 1_000_000);
                let line =
                    format!("fetching {}: {percent} % ({received} of {size} MB)", image.version);
                console.borrow_mut().say(&line);
            }
        };
        let mut tell = |line: &str| console.borrow_mut().say(line);
        let path = Path::new(root_fs::IMAGE);
        fetch::fetch(&client, &stage1.boot_servers, image, path, &mut progress, &mut tell).await?;
        self.console.say("the digest of the root image is right");
        Ok(())
    }

    async fn hand_over(
        &mut self,
        command_line: &CommandLine,
        network: Network,
        reporter: &Reporter,
    ) -> anyhow::Result<Infallible> {
        self.step = "looking for the image's init";
        let root = Path::new(root_fs::ROOT);
        let init = handover::find_init(root, command_line.init.as_deref())?;
        self.tell(reporter, BootPhase::Switching, &format!("starting {init}")).await;
        self.step = "taking the network down";
        self.take_down(network).await;
        // Nobody can be reached from here on.
        self.reporter = None;
        self.step = "switching to the image's root";
        self.console.say(&format!("starting {init}"));
        handover::switch(root)?;
        self.step = "starting the image's init";
        std::mem::take(&mut self.console).close();
        let result = handover::become_init(&init);
        self.console = Console::open();
        result
    }

    /// Takes the network down, and leaves for the agent what the kernel's log will say of it.
    async fn take_down(&mut self, network: Network) {
        let links = network.links();
        let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let from_micros = micros(linux::clock::monotonic());
        if let Err(error) = network.tear_down().await {
            self.console.say(&format!("{}; going on", chain(&error)));
        }
        let until_micros = micros(linux::clock::monotonic());
        let taken_down = TakenDown { links, from_micros, until_micros };
        if let Err(error) = taken_down.store(Path::new("/")) {
            self.console
                .say(&format!("the agent will take the links that are off for faults: {error}"));
        }
    }

    async fn tell(&mut self, reporter: &Reporter, phase: BootPhase, message: &str) {
        if let Err(error) = reporter.deliver(phase, message).await {
            let (phase, why) = (phase.as_str(), chain(&error));
            self.console.say(&format!("the server could not be told that it is {phase}: {why}"));
        }
    }
}

/// Modules that no device announces, and whether the node's interfaces want them.
fn stacked_modules(stage1: &Stage1) -> [(&'static str, bool); 2] {
    let interfaces = stage1.machine.interfaces.values();
    [
        ("bonding", interfaces.clone().any(|interface| interface.bond.is_some())),
        ("8021q", interfaces.clone().any(|interface| interface.vlan.is_some())),
    ]
}

/// Reads and deletes the document of the per-node initrd: it holds the token.
fn read_stage1(path: &Path) -> anyhow::Result<Stage1> {
    let file = fs::File::open(path).with_context(|| {
        format!(
            "{} did not arrive: the server did not send the node's own initrd (see `bedplate node show`), or the boot \
             loader lost it",
            path.display()
        )
    })?;
    let mut text = Vec::new();
    let read = file.take(api::stage1::MAX_BYTES + 1).read_to_end(&mut text);
    fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > api::stage1::MAX_BYTES {
        bail!("{} is larger than {} bytes", path.display(), api::stage1::MAX_BYTES);
    }
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what this stage 1 understands", path.display()))
}

fn percent_of(part: u64, whole: u64) -> u8 {
    u8::try_from(part.saturating_mul(100).checked_div(whole).unwrap_or(100)).unwrap_or(100)
}

#[cfg(test)]
#[path = "stage1/tests.rs"]
mod tests;

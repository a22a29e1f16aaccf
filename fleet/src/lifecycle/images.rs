//! Files that a boot fetches, and which versions of images a node needs: that which it runs, and
//! that which it may be booting. A name of a version is of nothing else, ever: versions are not
//! numbered twice.
//!
//! Anybody on the boot network can fetch a file in a node's name. So a file proves nothing: it is
//! shown, as unproven, and forgotten by itself; it begins no boot, and is never on disk. What
//! proves a boot is the token that stage 1 trades for its certificate.

use std::net::IpAddr;

use api::{
    ids::Timestamp,
    status::{Phase, UnprovenProgress},
};

use super::{Effect, Event, NodeLifecycle, Presence, info};

/// A claim is forgotten after this time, seconds: a token that was issued with it is
/// good no longer.
const FORGET_SECONDS: i64 = crate::arming::TOKEN_SECONDS;

/// What is shown of a claim changes so often, seconds, unless the boot got further: whoever watches
/// nodes is told each change.
const SHOW_SECONDS: i64 = 1;

/// Files that are remembered of one boot: a boot file or two, the script, the initrd.
const MAX_FILES: usize = 8;

/// What somebody fetched in the name of a node that may be booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unproven {
    /// When the first file was fetched.
    pub(super) since: Timestamp,
    /// When the last one was.
    last: Timestamp,
    /// When what is shown changed.
    changed: Timestamp,
    step: u8,
    pub(super) address: IpAddr,
    /// The last file that is shown.
    file: String,
    /// Each file once, in order.
    pub(super) files: Vec<String>,
    /// Image version that the script or the initrd named.
    image: Option<String>,
}

/// A file of a boot, as its servers see it go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootFile {
    /// A boot file, by its name.
    Program(String),
    /// The boot script, which names kernel and stage 1 of this image version. Anybody on the boot
    /// network can ask for it.
    Script {
        /// `debian-node@2`.
        image: String,
    },
    /// The node's own initrd, which names the root of this image version: only for the
    /// node's address.
    Initrd {
        /// `debian-node@2`.
        image: String,
    },
}

impl BootFile {
    /// Its name for people.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Program(name) => name,
            Self::Script { .. } => "iPXE script",
            Self::Initrd { .. } => "the node's initrd",
        }
    }

    /// How far a boot is that fetches it.
    fn step(&self) -> u8 {
        match self {
            Self::Program(_) => 0,
            Self::Script { .. } => 1,
            Self::Initrd { .. } => 2,
        }
    }

    fn image(&self) -> Option<&str> {
        match self {
            Self::Program(_) => None,
            Self::Script { image } | Self::Initrd { image } => Some(image),
        }
    }
}

impl Unproven {
    fn new(file: &BootFile, address: IpAddr, now: Timestamp) -> Self {
        Self {
            since: now,
            last: now,
            changed: now,
            step: file.step(),
            address,
            file: file.name().to_owned(),
            files: vec![file.name().to_owned()],
            image: file.image().map(str::to_owned),
        }
    }

    fn took(&mut self, file: &BootFile, address: IpAddr, now: Timestamp) {
        if self.is_later(now) {
            self.last = now;
        }
        if self.is_other_image(file) {
            self.image = file.image().map(str::to_owned);
        }
        let name = file.name();
        if self.is_new(file) {
            self.files.push(name.to_owned());
        }
        if self.is_to_be_shown(file, address, now) {
            (self.step, self.address, self.changed) = (file.step(), address, now);
            name.clone_into(&mut self.file);
        }
    }

    /// Whether [`Self::took`] would change nothing.
    fn knows(&self, file: &BootFile, address: IpAddr, now: Timestamp) -> bool {
        !self.is_later(now)
            && !self.is_other_image(file)
            && !self.is_new(file)
            && !self.is_to_be_shown(file, address, now)
    }

    /// In whole seconds: it is needed no finer, and what has not changed is not compared or sent. A
    /// clock that was set back is followed at once.
    fn is_later(&self, now: Timestamp) -> bool {
        now < self.last || now >= self.last.plus_seconds(1)
    }

    fn is_other_image(&self, file: &BootFile) -> bool {
        file.image().is_some() && self.image.as_deref() != file.image()
    }

    fn is_new(&self, file: &BootFile) -> bool {
        self.files.len() < MAX_FILES && !self.files.iter().any(|known| known == file.name())
    }

    fn is_to_be_shown(&self, file: &BootFile, address: IpAddr, now: Timestamp) -> bool {
        let is_other = (self.file.as_str(), self.address) != (file.name(), address);
        file.step() > self.step || (is_other && now >= self.changed.plus_seconds(SHOW_SECONDS))
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.last.plus_seconds(FORGET_SECONDS)
    }

    pub(super) fn shown(&self) -> UnprovenProgress {
        UnprovenProgress {
            phase: Phase::Firmware,
            file: self.file.clone(),
            address: self.address,
            since: self.since,
        }
    }
}

impl NodeLifecycle {
    /// What a boot that begins at the machine's firmware leaves: nothing runs.
    pub(super) fn runs_no_image(&mut self) {
        self.image = None;
        self.image_unknown = false;
    }

    /// Somebody fetched a file in this node's name.
    pub(super) fn took_file(&mut self, file: &BootFile, address: IpAddr, now: Timestamp) {
        match &mut self.unproven {
            Some(unproven) if !unproven.is_over(now) => unproven.took(file, address, now),
            unproven => *unproven = Some(Unproven::new(file, address, now)),
        }
    }

    /// Whether an event changes nothing and has no effects, which is told without a copy of the
    /// life: anybody on the boot network can fetch a node's files again and again, as fast as they
    /// are served. `false` where only [`Self::step`] can tell.
    pub(crate) fn is_unmoved_by(&self, event: &Event, now: Timestamp) -> bool {
        let Event::Fetched { file, address } = event else { return false };
        // With the initrd goes a token, and stage 1 is waited for again.
        let is_waited_for = matches!(file, BootFile::Initrd { .. });
        let is_known = |claim: &Unproven| !claim.is_over(now) && claim.knows(file, *address, now);
        match self.presence {
            // The agent is asked for a sign of life.
            Presence::Connected => false,
            _ if self.may_come_back() => true,
            _ => !is_waited_for && self.unproven.as_ref().is_some_and(is_known),
        }
    }

    /// A token was traded for a certificate: what was claimed by its address before was true.
    pub(super) fn certified(&mut self, address: IpAddr, now: Timestamp) -> Vec<Effect> {
        let claimed = self.unproven.take().filter(|claimed| claimed.address == address);
        self.token_refused = None;
        match self.phase {
            Phase::Offered
            | Phase::Firmware
            | Phase::Stage1
            | Phase::Fetching
            | Phase::Switching => {
                self.enter(Phase::Stage1, now);
                if self.overdue {
                    // Its first answer was lost for so long that the boot counted as
                    // failed: it goes on.
                    (self.since, self.overdue) = (now, false);
                }
            }
            _ => {
                self.begin_boot(Phase::Stage1, address, now);
                self.boot_started = Some(claimed.as_ref().map_or(now, |claimed| claimed.since));
            }
        }
        self.address = Some(address);
        if let Some(image) = self.shown_image.take() {
            self.runs_image(image);
        }
        let files =
            claimed.map(|claimed| info(format!("{address} fetched {}", claimed.files.join(", "))));
        files
            .into_iter()
            .chain([info(format!("stage 1 got its certificate at {address}"))])
            .collect()
    }

    /// The phase that people see. Files that somebody fetched are shown where nothing else is known
    /// of a boot but that it may have begun; they never hide that a node is lost, or failed.
    pub(super) fn shown_phase(&self) -> Phase {
        let may_boot = matches!(self.phase, Phase::Unseen | Phase::Offered | Phase::Rebooting);
        if may_boot && self.unproven.is_some() { Phase::Firmware } else { self.phase }
    }

    pub(super) fn shown_since(&self) -> Timestamp {
        let unproven = self.unproven.as_ref().filter(|_| self.shown_phase() != self.phase);
        unproven.map_or(self.since, |unproven| unproven.since)
    }

    pub(super) fn runs_image(&mut self, image: String) {
        self.image = Some(image);
        self.image_unknown = false;
    }

    /// The versions that it runs or may be booting. A boot that failed needs none: the next
    /// one asks again.
    pub(crate) fn images_in_use(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let runs = self.image.as_deref().filter(|_| self.phase != Phase::Failed);
        let unproven = self.unproven.as_ref().filter(|unproven| !unproven.is_over(now));
        let boots = unproven.and_then(|unproven| unproven.image.as_deref());
        runs.into_iter().chain(boots.filter(|boots| runs != Some(*boots)))
    }

    /// It may run or be booting a version, and nobody knows which: its state could not be read, or
    /// its boot may have begun before the server was started, at `started`. What was fetched in its
    /// name by then is forgotten, and can be booted for as long as a token is good.
    pub(crate) fn may_run_any_image(&self, started: Timestamp, now: Timestamp) -> bool {
        let may_boot = matches!(
            self.phase,
            Phase::Unseen | Phase::Offered | Phase::Firmware | Phase::Rebooting
        );
        let may_have_fetched = || (started..started.plus_seconds(FORGET_SECONDS)).contains(&now);
        self.image_unknown || (may_boot && self.since < started && may_have_fetched())
    }
}

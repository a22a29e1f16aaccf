//! The network links that stage 1 switched off before it handed over to the image's init.
//!
//! Drivers say of that in the kernel's log that the link is down (`e1000e … NIC Link is Down`),
//! which the agent would read minutes later as a fault of the hardware. So stage 1 leaves in
//! [`PATH`] which links it was and when; the agent passes over what was logged of them then. The
//! log's times and this file's are of the same clock, time since boot.

use std::{fs, io::Read, path::Path, time::Duration};

use ::inventory::health::Incident;
use api::inventory::FaultLevel;
use serde::{Deserialize, Serialize};

/// Where the file is, relative to the root: in [`crate::identity::FOLDER`].
const PATH: &str = "run/bedplate/taken-down.json";

/// Largest file that is read, bytes: a machine has a few dozen links.
const MAX_BYTES: u64 = 64 << 10;

/// Drivers look at their links every second or two, and say then that they are down.
const SLACK: Duration = Duration::from_secs(5);

/// What stage 1 switched off, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TakenDown {
    /// Links that stage 1 switched off.
    pub links: Vec<TakenLink>,
    /// Time since boot at which the first was switched off, microseconds.
    pub from_micros: u64,
    /// Time since boot at which the last was off, microseconds.
    pub until_micros: u64,
}

/// One link, under the name that it had in stage 1; the image's udev may give it another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TakenLink {
    /// Its name: `eth0`.
    pub name: String,
    /// Name of its device in sysfs; that of a PCI device is its address, `0000:00:19.0`.
    pub device: Option<String>,
}

impl TakenLink {
    /// The link of this name on this machine.
    #[must_use]
    pub fn find(name: &str) -> Self {
        let device = fs::read_link(Path::new("/sys/class/net").join(name).join("device")).ok();
        let device = device.as_deref().and_then(Path::file_name);
        Self {
            name: name.to_owned(),
            device: device.map(|name| name.to_string_lossy().into_owned()),
        }
    }
}

impl TakenDown {
    /// What stage 1 left on the machine, or the capture of one, at `root`. A stage 1 of before left
    /// nothing.
    #[must_use]
    pub fn load(root: &Path) -> Self {
        let mut text = String::new();
        let read = fs::File::open(root.join(PATH))
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!("{PATH} cannot be read: {error}");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    /// Leaves it for the agent, below `root`.
    ///
    /// # Errors
    /// The file cannot be written; the agent then tells of links that went down, as it always did.
    pub fn store(&self, root: &Path) -> std::io::Result<()> {
        fs::write(root.join(PATH), serde_json::to_vec(self)?)
    }

    /// Whether an incident, logged at this time since boot, is of stage 1's doing: a warning about
    /// one of these links, while they were switched off. What puts a device out of service is told
    /// always.
    #[must_use]
    pub fn explains(&self, incident: &Incident, logged: Duration) -> bool {
        let micros = Duration::from_micros;
        let begins = micros(self.from_micros).saturating_sub(SLACK);
        let ends = micros(self.until_micros).saturating_add(SLACK);
        let is_one = |link: &TakenLink| {
            let is_named =
                incident.subject.strip_prefix("nic ").is_some_and(|name| name == link.name);
            is_named || (link.device.is_some() && link.device == incident.pci)
        };
        incident.level == FaultLevel::Warning
            && (begins..=ends).contains(&logged)
            && self.links.iter().any(is_one)
    }
}

#[cfg(test)]
mod tests {
    use ::inventory::health::kernel_log;

    use super::*;

    fn taken_down() -> TakenDown {
        let link = |name: &str, device: &str| TakenLink {
            name: name.to_owned(),
            device: Some(device.to_owned()),
        };
        TakenDown {
            links: vec![link("eth0", "0000:00:05.0"), link("eth1", "virtio1")],
            from_micros: 18_000_000,
            until_micros: 18_100_000,
        }
    }

    /// Records as Linux 6.1 writes them when stage 1 switches an 82574L off, and such as it must
    /// not hide.
    #[test]
    fn what_drivers_say_of_being_switched_off_is_no_fault() {
        let mut text = String::new();
        for record in [
            "6,1042,18061234,-;e1000e 0000:00:05.0 eth0: NIC Link is Down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:05.0",
            // The watchdog of the driver comes later, and udev has been quicker.
            "6,1043,19961234,-;e1000e 0000:00:05.0 eno1: NIC Link is Down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:05.0",
            "6,1044,18061234,-;virtio_net virtio1 eth1: link is down",
            // Another card; the same card minutes later; an error that puts a device out of
            // service.
            "6,1045,18061234,-;e1000e 0000:00:06.0 eth2: NIC Link is Down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:06.0",
            "6,1046,98061234,-;e1000e 0000:00:05.0 eno1: NIC Link is Down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:05.0",
            "3,1047,18061234,-;[Hardware Error]: Uncorrected, software restartable error.",
            "3,1048,18061234,-;I/O error, dev eth1, sector 2048 op 0x0:(READ)",
        ] {
            let incident = kernel_log(record).unwrap();
            let logged = Duration::from_micros(record.split(',').nth(2).unwrap().parse().unwrap());
            let ours = taken_down().explains(&incident, logged);
            let nobodys = TakenDown::default().explains(&incident, logged);
            assert!(!nobodys);
            text += &format!("{}: {}\n", incident.subject, if ours { "ours" } else { "told" });
        }
        expect_test::expect![[r#"
            nic eth0: ours
            nic eno1: ours
            nic eth1: ours
            nic eth2: told
            nic eno1: told
            machine: told
            disk eth1: told
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn the_file_outlives_the_hand_over() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(TakenDown::load(root.path()), TakenDown::default());
        fs::create_dir_all(root.path().join("run/bedplate")).unwrap();
        taken_down().store(root.path()).unwrap();
        assert_eq!(TakenDown::load(root.path()), taken_down());
        fs::write(root.path().join(PATH), "{").unwrap();
        assert_eq!(TakenDown::load(root.path()), TakenDown::default());
    }
}

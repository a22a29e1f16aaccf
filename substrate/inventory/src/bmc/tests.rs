//! A BMC that is made up, also one that says nothing or nonsense.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use super::*;
use crate::ioctls::SMART_LOG_BYTES;

/// A BMC that answers from a table, else with the error, and remembers how often it was asked.
#[derive(Debug)]
struct Fake {
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
    otherwise: ErrorKind,
    asked: Mutex<usize>,
}

impl Ioctls for Fake {
    fn nvme_smart_log(&self, _: &str) -> io::Result<[u8; SMART_LOG_BYTES]> {
        Err(ErrorKind::NotFound.into())
    }
    fn ethtool_firmware(&self, _: &str) -> io::Result<String> {
        Err(ErrorKind::NotFound.into())
    }
    fn ipmi(&self, network_function: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
        *self.asked.lock().unwrap() += 1;
        let asked = [&[network_function, command], data].concat();
        self.answers.get(&asked).cloned().ok_or_else(|| self.otherwise.into())
    }
}

const DEVICE_ID: &[u8] = &[0, 0x20, 0x81, 0x02, 0x10, 0x02, 0xbf, 0x7c, 0x2a, 0x00, 0x01, 0x09];

fn fake(answers: &[(&[u8], &[u8])], otherwise: ErrorKind) -> Fake {
    let answers = answers.iter().map(|(asked, answer)| (asked.to_vec(), answer.to_vec())).collect();
    Fake { answers, otherwise, asked: Mutex::new(0) }
}

/// In a root that has no IPMI device, and one that has.
fn look(fake: &Fake, device: bool) -> (Option<Bmc>, Vec<String>, usize) {
    let root = tempfile::tempdir().unwrap();
    if device {
        std::fs::create_dir_all(root.path().join("sys/class/ipmi/ipmi0")).unwrap();
    }
    let mut read = Reader::new(root.path());
    let bmc = collect(&mut read, fake);
    let gaps =
        read.into_gaps().iter().map(|gap| format!("{}: {}", gap.subject, gap.cause)).collect();
    (bmc, gaps, *fake.asked.lock().unwrap())
}

#[test]
fn a_bmc_on_its_first_channel() {
    let fake = fake(
        &[
            (&[0x06, 0x01], DEVICE_ID),
            (&[0x0c, 0x02, 1, 3, 0, 0], &[0, 0x11, 10, 2, 0, 7]),
            (&[0x0c, 0x02, 1, 4, 0, 0], &[0, 0x11, 0x02]),
            (&[0x0c, 0x02, 1, 5, 0, 0], &[0, 0x11, 0x3c, 0xec, 0xef, 0, 0, 7]),
        ],
        ErrorKind::TimedOut,
    );
    let (bmc, gaps, asked) = look(&fake, true);
    let expected = Bmc {
        firmware: Some("2.10".to_owned()),
        ipmi: Some("2.0".to_owned()),
        manufacturer_id: Some(10_876),
        address: Some(IpAddr::from([10, 2, 0, 7])),
        mac: Some(MacAddr([0x3c, 0xec, 0xef, 0, 0, 7])),
        address_source: Some("dhcp".to_owned()),
    };
    assert_eq!((bmc, gaps, asked), (Some(expected), vec![], 4));
}

#[test]
fn a_channel_with_an_address_comes_before_one_without() {
    let fake = fake(
        &[
            (&[0x06, 0x01], DEVICE_ID),
            (&[0x0c, 0x02, 1, 3, 0, 0], &[0, 0x11, 0, 0, 0, 0]),
            (&[0x0c, 0x02, 2, 3, 0, 0], &[0xcc]),
            (&[0x0c, 0x02, 3, 3, 0, 0], &[0, 0x11, 10, 2, 0, 9]),
            (&[0x0c, 0x02, 3, 4, 0, 0], &[0, 0x11, 0x11]),
            (&[0x0c, 0x02, 3, 5, 0, 0], &[0, 0x11, 2, 0, 0, 0, 0, 9]),
        ],
        ErrorKind::NotFound,
    );
    let (bmc, gaps, _) = look(&fake, false);
    let bmc = bmc.unwrap();
    assert_eq!(
        (bmc.address, bmc.address_source.as_deref()),
        (Some([10, 2, 0, 9].into()), Some("static"))
    );
    assert_eq!(gaps, [""; 0]);
}

#[test]
fn a_bmc_without_an_address_has_its_hardware_address() {
    let fake = fake(
        &[
            (&[0x06, 0x01], DEVICE_ID),
            (&[0x0c, 0x02, 8, 3, 0, 0], &[0, 0x11, 0, 0, 0, 0]),
            (&[0x0c, 0x02, 8, 4, 0, 0], &[0, 0x11, 0]),
            (&[0x0c, 0x02, 8, 5, 0, 0], &[0, 0x11, 2, 0, 0, 0, 0, 1]),
        ],
        ErrorKind::NotFound,
    );
    let (bmc, gaps, _) = look(&fake, true);
    let bmc = bmc.unwrap();
    assert_eq!(
        (bmc.address, bmc.address_source, bmc.mac),
        (None, None, Some(MacAddr([2, 0, 0, 0, 0, 1])))
    );
    assert_eq!(gaps, [""; 0]);
}

#[test]
fn a_bmc_that_says_nothing_is_asked_once() {
    let (bmc, gaps, asked) = look(&fake(&[], ErrorKind::TimedOut), true);
    assert_eq!((bmc, asked), (Some(Bmc::default()), 1));
    assert_eq!(gaps, ["BMC: Get Device ID: timed out"]);

    let mute = fake(&[(&[0x06, 0x01], DEVICE_ID)], ErrorKind::TimedOut);
    let (bmc, gaps, asked) = look(&mute, true);
    assert_eq!((bmc.unwrap().firmware.as_deref(), asked), (Some("2.10"), 2));
    assert_eq!(gaps, ["BMC: address of its LAN: timed out"]);
}

#[test]
fn errors_and_short_answers_are_gaps() {
    let refusing = fake(
        &[(&[0x06, 0x01], &[0xc1]), (&[0x0c, 0x02, 1, 3, 0, 0], &[0x80])],
        ErrorKind::NotFound,
    );
    let (bmc, gaps, _) = look(&refusing, true);
    assert_eq!(bmc, Some(Bmc::default()));
    assert_eq!(
        gaps,
        [
            "BMC: Get Device ID: completion code 0xc1",
            "BMC: address of its LAN: completion code 0x80"
        ]
    );

    let short = fake(
        &[(&[0x06, 0x01], &[0, 1, 2]), (&[0x0c, 0x02, 1, 3, 0, 0], &[0, 0x11, 10, 2, 0, 7])],
        ErrorKind::InvalidData,
    );
    let (bmc, gaps, _) = look(&short, true);
    assert_eq!(bmc.unwrap().address, Some([10, 2, 0, 7].into()));
    assert_eq!(
        gaps,
        [
            "BMC: Get Device ID: its answer is too short",
            "BMC: source of its address: invalid data",
            "BMC: hardware address of its LAN: invalid data"
        ]
    );
    assert_eq!(look(&fake(&[(&[0x06, 0x01], &[])], ErrorKind::NotFound), true).1.len(), 2);
}

#[test]
fn no_device_no_bmc() {
    assert_eq!(look(&fake(&[], ErrorKind::NotFound), false), (None, vec![], 1));
    let live = fake(&[(&[0x06, 0x01], DEVICE_ID)], ErrorKind::NotFound);
    if !Path::new("/dev/ipmi0").exists() {
        assert_eq!(collect(&mut Reader::new(Path::new("/")), &live), None);
        assert_eq!(*live.asked.lock().unwrap(), 0);
    }
}

proptest::proptest! {
    #[test]
    fn no_answers_panic(id in proptest::collection::vec(0..=255_u8, 0..20), lan in proptest::collection::vec(0..=255_u8, 0..9)) {
        let fake = fake(
            &[
                (&[0x06, 0x01], &[&[0], id.as_slice()].concat()),
                (&[0x0c, 0x02, 1, 3, 0, 0], &lan),
                (&[0x0c, 0x02, 1, 4, 0, 0], &lan),
                (&[0x0c, 0x02, 1, 5, 0, 0], &lan),
            ],
            ErrorKind::NotFound,
        );
        let mut read = Reader::new(Path::new("/nonexistent"));
        proptest::prop_assert!(collect(&mut read, &fake).is_some());
    }
}

//! Fingerprints in and out. What servers present is checked against a real one, by the tests of the
//! command line.

use super::*;

#[test]
fn a_fingerprint_is_read_as_programs_print_it() {
    let printed = (0..32).map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    let fingerprint: Fingerprint = printed.parse().unwrap();
    assert_eq!(fingerprint.to_string(), printed);
    for same in [printed.to_lowercase(), printed.replace(':', ""), format!(" sha256:{printed}\n")] {
        assert_eq!(same.parse(), Ok(fingerprint), "{same}");
    }
    for wrong in ["", "AB", &printed[..printed.len() - 1], &printed.replace("1F", "1G"), "sha256:"]
    {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
    }
}

#[test]
fn a_certificate_in_pem_is_itself_again() {
    for length in [0, 1, 47, 48, 49, 500] {
        let bytes: Vec<u8> = (0_u32..length).map(|number| number.to_le_bytes()[0]).collect();
        let certificate = CertificateDer::from(bytes);
        let text = pem(&certificate);
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert_eq!(Fingerprint::of_pem(&text), Some(Fingerprint::of(&certificate)), "{text}");
    }
    assert_eq!(Fingerprint::of_pem("no certificate"), None);
}

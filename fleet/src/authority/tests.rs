//! The file over crashes and damage, and what a certificate says.

use std::os::unix::fs::PermissionsExt;

use super::{client_log::ClientName, *};

const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

fn csr(params: CertificateParams) -> String {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn a_restart_finds_the_same_authority() {
    let directory = tempfile::tempdir().unwrap();
    let first = Authority::open(directory.path(), NOW).unwrap();
    let again = Authority::open(directory.path(), NOW.plus_seconds(99)).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    assert_eq!(first.pem(), again.pem());
    assert!(!first.pem().contains("PRIVATE"));
    let mode = |path: &str| {
        fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("ca"), mode("ca/authority.pem")), (0o700, 0o600));
}

#[test]
fn what_a_crash_leaves_of_an_unfinished_file_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let made = Authority::open(directory.path(), NOW).unwrap();
    let path = directory.path().join("ca/authority.pem");
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len()] {
        fs::remove_file(&path).unwrap();
        fs::write(path.with_extension("pem.new"), &whole[..cut]).unwrap();
        let next = Authority::open(directory.path(), NOW).unwrap();
        assert_ne!(next.fingerprint(), made.fingerprint(), "a half-made authority was never used");
        assert_eq!(
            Authority::open(directory.path(), NOW).unwrap().fingerprint(),
            next.fingerprint()
        );
        assert!(!path.with_extension("pem.new").exists());
    }
}

#[test]
fn a_damaged_file_is_an_error_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    Authority::open(directory.path(), NOW).unwrap();
    Authority::open(other.path(), NOW).unwrap();
    let path = directory.path().join("ca/authority.pem");
    let whole = fs::read_to_string(&path).unwrap();
    let foreign = fs::read_to_string(other.path().join("ca/authority.pem")).unwrap();
    let key_at = whole.find("-----BEGIN PRIVATE KEY").unwrap();
    let foreign_key = &foreign[foreign.find("-----BEGIN PRIVATE KEY").unwrap()..];
    for damaged in [
        String::new(),
        whole[..key_at].to_owned(),
        whole[key_at..].to_owned(),
        format!("{}{foreign_key}", &whole[..key_at]),
    ] {
        fs::write(&path, &damaged).unwrap();
        let error = Authority::open(directory.path(), NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("authority.pem"));
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn a_clock_that_was_never_set_makes_no_authority() {
    let directory = tempfile::tempdir().unwrap();
    let error = Authority::open(directory.path(), Timestamp(978_307_200_000_000)).unwrap_err();
    assert!(error.to_string().starts_with("the clock says 2001-01-01T00:00:00Z"), "{error}");
    assert!(!directory.path().join("ca").exists());
}

#[test]
fn a_wrong_clock_and_an_end_are_told_by_name() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Authority::read(directory.path()).unwrap().is_none());
    assert!(!directory.path().join("ca").exists(), "looking makes none");
    Authority::open(directory.path(), NOW).unwrap();
    let authority = Authority::read(directory.path()).unwrap().unwrap();
    let mut text = String::new();
    for (days, what) in
        [(-30, "behind"), (0, "right"), (3_559, "near"), (3_561, "nearer"), (3_651, "over")]
    {
        let problem = authority.date_problem(NOW.plus_seconds(days * 86_400));
        let wrong = problem.is_some_and(|problem| problem.is_wrong_time());
        let told = problem.map_or_else(|| "nothing".to_owned(), |problem| problem.to_string());
        text += &format!("{what} (wrong time: {wrong}): {told}\n");
    }
    expect_test::expect![[r#"
        behind (wrong time: true): the server's clock is before 2026-11-23T19:55:00Z, when its certificate authority was made: the clock is wrong; set it (`timedatectl`), and nodes boot again
        right (wrong time: false): nothing
        near (wrong time: false): nothing
        nearer (wrong time: false): the server's certificate authority expires on 2036-11-20T20:00:00Z: choose a day before to move `ca/` out of the state directory, restart the server, and boot every node again
        over (wrong time: false): the server's certificate authority has expired on 2036-11-20T20:00:00Z: if the server's clock is right, stop the server, move `ca/` out of the state directory, start it, and boot every node again
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_request_chooses_its_key_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), NOW).unwrap();
    let mut greedy =
        CertificateParams::new(vec!["bedplate".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    greedy.distinguished_name.push(DnType::CommonName, "somebody else");
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let request = Request::parse(&csr(greedy)).unwrap();
    let node = NodeId(uuid::Uuid::from_u128(7));
    let issued = authority.issue(node, 3, &request, NOW).unwrap();

    let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), format!("CN={node}"));
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let urns = format!("[URI(\"urn:bedplate:node:{node}\"), URI(\"urn:bedplate:epoch:3\")]");
    assert_eq!(format!("{names:?}"), urns);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.validity().not_after.timestamp(), NOW.seconds() + 86_400);
    assert_eq!(issued.not_after, NOW.plus_seconds(86_400));
    let again = authority.issue(node, 3, &request, NOW).unwrap();
    assert_ne!(again.pem, issued.pem, "serial numbers differ");
}

#[test]
fn requests_that_cannot_be_used_are_refused() {
    let other_curve = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed25519 =
        CertificateParams::default().serialize_request(&other_curve).unwrap().pem().unwrap();
    let good = csr(CertificateParams::default());
    let body = good.len() / 2;
    let broken = format!("{}AAAA{}", &good[..body], &good[body + 4..]);
    for bad in [String::new(), "x".repeat(10_000), broken, ed25519] {
        assert!(matches!(Request::parse(&bad), Err(AuthorityError::Request { .. })));
    }
}

#[test]
fn a_certificate_tells_its_enrolment_and_one_of_before_is_of_none() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), NOW).unwrap();
    let request = Request::parse(&csr(CertificateParams::default())).unwrap();
    let node = NodeId(uuid::Uuid::from_u128(7));
    for epoch in [0, 1, 7, u64::MAX] {
        let issued = authority.issue(node, epoch, &request, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        let read = ClientName::read(&der).unwrap();
        assert_eq!((read.name, read.epoch), (node.to_string(), epoch));
        assert_eq!(read.serial.len(), 32, "{}", read.serial);
        let text = String::from_utf8_lossy(&der).into_owned();
        assert_eq!(text.contains(EPOCH_URN), epoch > 0, "as releases before made it");
    }
    // The authority never signs these.
    for urns in
        [&["urn:bedplate:epoch:x"][..], &["urn:bedplate:epoch:1", "urn:bedplate:epoch:2"][..]]
    {
        let mut params = leaf(&node.to_string(), NOW, NOW.plus_seconds(60)).unwrap();
        params.subject_alt_names =
            urns.iter().map(|urn| SanType::URI((*urn).try_into().unwrap())).collect();
        let certificate = params.signed_by(&request.0.public_key, &authority.issuer).unwrap();
        assert_eq!(ClientName::read(certificate.der()), None);
    }
    assert_eq!(ClientName::read(b"no certificate"), None);
}

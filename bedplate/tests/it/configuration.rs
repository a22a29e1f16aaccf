//! The configuration of the server.

use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect;

use crate::server::{bedplate, done};

fn configured(verb: &[&str], text: &str) -> (crate::server::Done, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    (done(bedplate(&[verb, &["--config", &path]].concat()), ""), path)
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    let text = "server-addresses: [127.0.0.1]\ndhcp:\n  mode: 'off'\n  lease-second: 60\nlog: {format: xml}\n";
    for verb in [&["server"][..], &["server", "check"]] {
        let (done, path) = configured(verb, text);
        expect![[r#"
            FILE:4:3: dhcp.lease-second: unknown key (did you mean `lease-seconds`?)
            FILE:5:15: log.format: "xml" is no format (use text or json)
            error: configuration FILE has 2 mistakes
        "#]]
        .assert_eq(&done.failed().replace(&path, "FILE"));
    }
}

/// Files that the server reads before it serves, which an installation has at their default places.
fn files() -> String {
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipxe");
    format!(
        "server-addresses: [127.0.0.1]\nboot: {{templates: {templates}, substrate: /bin/true}}\n"
    )
}

#[test]
fn a_good_one_is_told() {
    let (done, _) = configured(&["server", "check"], &(files() + "dhcp: {mode: 'off'}\n"));
    assert_eq!(done.ok(), "good: REST API at 127.0.0.1:9470, nodes at 127.0.0.1:9443\n");
}

#[test]
fn what_is_worth_a_look_is_noted() {
    let subnet = "{network: 10.98.0.0/24, pool: 10.98.0.253-10.98.0.254, gateway: 10.98.0.254}";
    let text = files() + &format!("dhcp: {{mode: 'off', subnets: [{subnet}]}}\n");
    let (done, _) = configured(&["server", "check"], &text);
    expect![[r#"
        note: 3:41: dhcp.subnets[0].network: none of the interfaces has an address in 10.98.0.0/24: only requests that a DHCP relay forwards are answered from it
        note: 3:61: dhcp.subnets[0].pool: is not given whole: 10.98.0.254 is the gateway of 10.98.0.0/24
    "#]].assert_eq(&done.stderr);
    assert!(done.ok().starts_with("good: "));
}

/// The page of the documentation has an example with every key.
#[test]
fn the_documented_example_is_good() {
    let page = include_str!("../../../docs/reference/config.md");
    let start = page.find("```yaml\n").unwrap() + 8;
    let example = &page[start..start + page[start..].find("```").unwrap()];
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("api.pem"), directory.path().join("api.key"));
    let pair = rcgen::generate_simple_self_signed(["bedplate.example".to_owned()]).unwrap();
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipxe");
    let example = example.replace("eth1", "lo").replace("[10.1.0.1]", "[127.0.0.1]");
    let example = example.replace("10.1.0.1:9470", "127.0.0.1:9470");
    let example = example.replace("/usr/share/bedplate/ipxe", templates);
    let example = example.replace("/usr/lib/bedplate/substrate", "/bin/true");
    let example = example.replace("/usr/lib/ipxe/arm64/snponly.efi", "/usr/lib/ipxe/ipxe.efi");
    let example = example.replace("/etc/bedplate/api.pem", &certificate.display().to_string());
    let example = example.replace("/etc/bedplate/api.key", &key.display().to_string());
    let login = directory.path().join("login.json");
    std::fs::write(&login, r#"{"auths": {"registry.example": {"auth": "dTpw"}}}"#).unwrap();
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o600)).unwrap();
    let example =
        example.replace("/etc/bedplate/registry-ca.pem", &certificate.display().to_string());
    let example =
        example.replace("/etc/bedplate/registry-login.json", &login.display().to_string());
    let example = example.replace("/mnt/elsewhere", &directory.path().display().to_string());
    let (done, _) = configured(&["server", "check"], &example);
    assert_eq!(done.ok(), "good: REST API at 127.0.0.1:9470, nodes at 127.0.0.1:9443\n");

    // A key of another certificate is found before the server is started with it.
    let other = rcgen::generate_simple_self_signed(["bedplate.example".to_owned()]).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let (done, _) = configured(&["server", "check"], &example);
    let told = done.failed();
    assert!(told.contains("api.key is not that of the certificate in"), "{told}");
}

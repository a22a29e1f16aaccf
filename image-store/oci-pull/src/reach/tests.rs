//! What is within reach, address by address.

use super::*;

fn allowed(text: &str) -> Result<String, InvalidAddressPattern> {
    text.parse::<AddressPattern>().map(|allowed| allowed.to_string())
}

#[test]
fn addresses_that_the_configuration_names() {
    for (text, expected) in [
        ("127.0.0.1", "127.0.0.1/32"),
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("::1", "::1/128"),
        ("[::1]:5000", "[::1]:5000"),
        ("fe80::/10", "fe80::/10"),
        ("::ffff:127.0.0.1", "127.0.0.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(allowed(text).as_deref(), Ok(expected));
    }
    for text in [
        "",
        "localhost",
        "localhost:5000",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        "127.0.0.0/33",
        "127.0.0.0/",
        "::1/129",
        "::ffff:127.0.0.0/104",
        "127.0.0.0/8:5000",
    ] {
        assert_eq!(allowed(text), Err(InvalidAddressPattern), "{text}");
    }
}

/// Whether an address is gone to.
fn goes(reach: &Reach, address: &str) -> bool {
    reach.check(address.parse().unwrap(), false).is_ok()
}

fn reach(allowed: &[&str]) -> Reach {
    Reach {
        allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        ..Reach::default()
    }
}

#[test]
fn what_the_machine_alone_was_meant_to_reach_is_out_of_reach() {
    let usual = Reach::default();
    for address in [
        "127.0.0.1:5000",
        "127.8.8.8:5000",
        "0.0.0.0:5000",
        "169.254.169.254:80",
        "[::1]:5000",
        "[::]:5000",
        "[fe80::1]:5000",
        "[fd00:ec2::254]:80",
        "[::ffff:127.0.0.1]:5000",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::7f00:1]:5000",
        "[2002:7f00:1::]:5000",
        "255.255.255.255:80",
    ] {
        assert!(!goes(&usual, address), "{address}");
    }
    for address in [
        "10.0.0.1:5000",
        "192.168.0.1:443",
        "198.51.100.1:443",
        "[fd00::1]:5000",
        "[2001:db8::1]:1",
    ] {
        assert!(goes(&usual, address), "{address}");
    }
}

#[test]
fn what_is_named_is_within_reach_as_far_as_it_is_named() {
    let reach = reach(&["127.0.0.1:5000", "169.254.7.0/24", "fe80::/10"]);
    for address in [
        "127.0.0.1:5000",
        "[::ffff:127.0.0.1]:5000",
        "169.254.7.9:80",
        "[fe80::1]:80",
        "[febf::1]:1",
    ] {
        assert!(goes(&reach, address), "{address}");
    }
    for address in ["127.0.0.1:5001", "127.0.0.2:5000", "169.254.8.9:80", "[::1]:5000"] {
        assert!(!goes(&reach, address), "{address}");
    }
}

#[test]
fn networks_of_the_site_can_be_kept_from_users() {
    let denied = reach(&["10.9.0.0/16", "192.168.1.1:8443", "fd00:9::/32"]).allowed;
    let reach = Reach { denied, ..reach(&["10.9.1.5:5000"]) };
    for address in [
        "10.9.0.1:443",
        "10.9.1.5:443",
        "[::ffff:10.9.0.1]:443",
        "[64:ff9b::10.9.0.1]:443",
        "192.168.1.1:8443",
        "[fd00:9::1]:443",
    ] {
        assert!(!goes(&reach, address), "{address}");
        assert_eq!(reach.check(address.parse().unwrap(), true), Ok(()), "an admin names {address}");
    }
    for address in ["10.9.1.5:5000", "10.8.0.1:443", "192.168.1.1:443", "[fd00:8::1]:443"] {
        assert!(goes(&reach, address), "{address}");
    }
}

#[test]
fn ports_of_the_server_are_named_one_by_one() {
    let own = |allowed: &[&str]| Reach {
        own_ports: [9443, 9480].into(),
        own_addresses: ["203.0.113.7".parse().unwrap()].into(),
        ..reach(allowed)
    };
    // By a network, and by an address that no interface has.
    for address in ["127.0.0.1:9443", "[::ffff:127.0.0.1]:9480", "203.0.113.7:9443"] {
        assert!(!goes(&own(&["127.0.0.0/8", "203.0.113.0/24"]), address), "{address}");
        let trusted = own(&[]).check(address.parse().unwrap(), true);
        assert_eq!(trusted, Err(Refusal::OwnPort), "an admin names {address}");
    }
    assert!(goes(&own(&["127.0.0.1:9443"]), "127.0.0.1:9443"));
    // Another machine's (TEST-NET-2), and another port.
    assert!(goes(&own(&[]), "198.51.100.1:9443"));
    assert!(goes(&own(&["127.0.0.0/8"]), "127.0.0.1:9444"));
}

fn guard(registries: &Registries, host: &str, is_trusted: bool) -> Guard {
    Guard::new(Rules::new(registries, &host.parse().unwrap(), is_trusted))
}

fn announces(guard: &Guard, url: &str) -> bool {
    guard.announce(&url.parse().unwrap()).is_ok()
}

#[test]
fn an_address_in_a_url_is_looked_at_however_it_is_written() {
    let guard = guard(&Registries::default(), "registry.example", false);
    for url in [
        "http://127.0.0.1:5000/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://[::1]:5000/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:5000/",
        "http://LocalHost./",
        "https://a.localhost/",
    ] {
        assert!(!announces(&guard, url), "{url}");
    }
    for url in ["https://registry.example/", "http://10.0.0.1:5000/", "https://[2001:db8::1]/"] {
        assert!(announces(&guard, url), "{url}");
    }
}

#[test]
fn a_name_leads_only_to_what_is_within_reach() {
    let guard = guard(&Registries::default(), "registry.example", false);
    let found =
        |addresses: &[&str]| addresses.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let within = |name: &str, addresses: &[&str]| guard.within_reach(name, found(addresses));
    // Nobody has asked for it.
    assert!(matches!(
        within("other.example", &["198.51.100.1"]),
        Err(OutOfReach::Unannounced { .. })
    ));
    assert!(announces(&guard, "https://registry.example/"));
    let error = within("registry.example", &["127.0.0.1"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "registry.example is 127.0.0.1:443, a loopback address: no pull goes there unless the server's \
         configuration names it (registries.allow: ['127.0.0.1:443'])"
    );
    for inside in ["::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1"] {
        assert!(within("registry.example", &[inside]).is_err(), "{inside}");
    }
    let mixed = within("registry.example", &["127.0.0.1", "198.51.100.1", "::1"]);
    assert_eq!(mixed, Ok(found(&["198.51.100.1"])));
}

#[test]
fn who_has_named_a_host_decides_how_far_it_may_lead() {
    let loopback = vec!["127.0.0.1".parse().unwrap()];
    let leads = |guard: &Guard, port: u16| {
        assert!(announces(guard, &format!("http://registry.example:{port}/")));
        guard.within_reach("registry.example", loopback.clone()).is_ok()
    };
    let mut registries = Registries::default();
    registries.reach.own_ports = [9480].into();
    let by_user = || guard(&registries, "registry.example:5000", false);
    assert!(!leads(&by_user(), 5000));
    // An admin: this port alone, and none of the server's.
    let by_admin = |host: &str| guard(&registries, host, true);
    assert!(leads(&by_admin("registry.example:5000"), 5000));
    assert!(!leads(&by_admin("registry.example:5000"), 5001));
    assert!(!announces(&by_admin("registry.example:5000"), "http://127.0.0.1:5000/"));
    assert!(!leads(&by_admin("registry.example:9480"), 9480));
    // The configuration: whoever asks, from wherever it is led to.
    let mut named = registries.clone();
    named.hosts.insert("registry.example:5000".parse().unwrap(), HostSettings::default());
    assert!(leads(&guard(&named, "other.example", false), 5000));
    assert!(!leads(&guard(&named, "other.example", false), 5001));
}

#[tokio::test]
async fn a_client_looks_names_up_by_its_rules() {
    let guard = guard(&Registries::default(), "registry.example", false);
    let refused = async |name: &str| {
        let found = guard.resolve(name.parse().unwrap()).await.map(Iterator::count);
        found.unwrap_err().downcast::<OutOfReach>().map(|error| *error)
    };
    let unannounced = OutOfReach::Unannounced { host: "localhost".to_owned() };
    assert_eq!(refused("localhost").await.unwrap(), unannounced);
    // As if it were a name that somebody has given this machine's address.
    let ports = BTreeSet::from([5000]);
    guard.0.ports.lock().unwrap().insert("localhost".to_owned(), ports);
    let error = refused("localhost").await.unwrap();
    assert!(matches!(error, OutOfReach::Special { use_of: SpecialUse::Loopback, .. }), "{error:?}");
}

#[test]
fn a_proxy_is_looked_up_and_never_asked_for_images() {
    let proxy = Proxy::Through("http://proxy.example:3128".parse().unwrap());
    let settings = HostSettings { proxy, ..HostSettings::default() };
    let mut registries = Registries::default();
    registries.hosts.insert("registry.example".parse().unwrap(), settings);
    let guard = guard(&registries, "registry.example", false);
    let loopback: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap()];
    assert_eq!(guard.within_reach("proxy.example", loopback.clone()), Ok(loopback.clone()));
    // Asked as a host, it is one like all others.
    assert!(announces(&guard, "http://proxy.example:3128/"));
    assert!(guard.within_reach("proxy.example", loopback).is_err());
}

#[test]
fn a_host_that_leads_to_ever_more_names_is_forgotten_and_not_let_through() {
    let guard = guard(&Registries::default(), "registry.example", false);
    for number in 0..=MAX_NAMES {
        assert!(announces(&guard, &format!("http://n{number}.example/")));
    }
    assert_eq!(guard.0.ports.lock().unwrap().len(), 1);
    let found = vec!["127.0.0.1".parse().unwrap()];
    assert!(guard.within_reach("n0.example", found.clone()).is_err());
    assert!(guard.within_reach(&format!("n{MAX_NAMES}.example"), found).is_err());
}

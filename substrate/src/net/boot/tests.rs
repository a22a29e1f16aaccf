//! Root only: the whole way to an address and back, in network namespaces made by the test. The
//! thread enters a namespace of its own, so nothing outside is touched; it goes with the thread.

#![allow(clippy::print_stderr)]

use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode, OptionCode},
};

use super::*;

const CARD: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
const SECOND: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x12]);

/// Runs `test` on a thread in a new network namespace.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| on_this_thread(test));
    });
}

fn on_this_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    linux::namespace::enter_new_network().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test());
}

/// The far ends of cables, in a namespace of their own: a reply from an address of one's
/// own is dropped.
struct Far {
    namespace: std::fs::File,
    plugged: std::sync::mpsc::Sender<()>,
    ready: tokio::sync::oneshot::Receiver<()>,
    replies: Arc<AtomicU32>,
}

impl Far {
    /// Runs `set_up` there when the cables are plugged, and then a DHCP server on the
    /// link that it names.
    fn start<F: Future<Output = String>>(set_up: impl FnOnce(Links) -> F + Send + 'static) -> Self {
        let (here, namespace) = std::sync::mpsc::channel();
        let (plugged, wait) = std::sync::mpsc::channel();
        let (tell, ready) = tokio::sync::oneshot::channel();
        let replies = Arc::new(AtomicU32::new(0));
        let counted = replies.clone();
        std::thread::spawn(move || {
            on_this_thread(|| async move {
                here.send(std::fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
                wait.recv().unwrap();
                let links = Links::open().unwrap();
                let device = set_up(links.clone()).await;
                dhcp_server(&links, &device, tell, counted).await;
            });
        });
        Self { namespace: namespace.recv().unwrap(), plugged, ready, replies }
    }

    /// A cable from `card`, here, to `name`, there.
    async fn cable(&self, links: &Links, card: &str, mac: MacAddr, name: &str) {
        let handle = links.handle();
        handle.link().add(rtnetlink::LinkVeth::new(card, name).build()).execute().await.unwrap();
        let own = links.named(card).await.unwrap();
        let set = rtnetlink::LinkUnspec::new_with_index(own.index).address(mac.0.to_vec()).build();
        handle.link().set(set).execute().await.unwrap();
        let far = links.named(name).await.unwrap();
        let set = rtnetlink::LinkUnspec::new_with_index(far.index)
            .setns_by_fd(self.namespace.as_raw_fd())
            .build();
        handle.link().set(set).execute().await.unwrap();
    }

    async fn plugged(&mut self) {
        self.plugged.send(()).unwrap();
        (&mut self.ready).await.unwrap();
    }
}

fn stage1(machine: &str, fallback: &str) -> Stage1 {
    serde_json::from_str(&format!(
        r#"{{
            "node": "n1", "id": "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11", "server-time": 0,
            "boot-servers": [], "fleet-servers": [], "token": null,
            "ca-fingerprint": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "root": {{
                "format": "squashfs", "size": 0, "version": "debian-node@2",
                "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            }},
            "machine": {machine}, "fallback-address": {fallback}
        }}"#
    ))
    .unwrap()
}

/// Serves DHCP on `device` for ever; everybody gets 10.9.0.7/24. Counts its replies.
async fn dhcp_server(
    links: &Links,
    device: &str,
    ready: tokio::sync::oneshot::Sender<()>,
    replies: Arc<AtomicU32>,
) {
    let device = links.named(device).await.unwrap();
    links.up(&device).await.unwrap();
    links.add_address(&device, "10.9.0.1/24".parse().unwrap()).await.unwrap();
    let socket = linux::udp::bound_to_device(&device.name, 67).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    ready.send(()).unwrap();
    let mut buffer = vec![0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await.unwrap();
        let asked = Message::decode(&mut Decoder::new(&buffer[..length])).unwrap();
        let kind = match asked.opts().msg_type() {
            Some(MessageType::Discover) => MessageType::Offer,
            Some(MessageType::Request) => MessageType::Ack,
            other => panic!("{other:?}"),
        };
        let mac = [&[1], asked.chaddr()].concat();
        assert_eq!(
            asked.opts().get(OptionCode::ClientIdentifier),
            Some(&DhcpOption::ClientIdentifier(mac)),
            "as iPXE and the node's own network ask"
        );
        let mut reply = Message::default();
        reply
            .set_opcode(Opcode::BootReply)
            .set_xid(asked.xid())
            .set_chaddr(asked.chaddr())
            .set_yiaddr([10, 9, 0, 7]);
        for option in [
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier([10, 9, 0, 1].into()),
            DhcpOption::SubnetMask([255, 255, 255, 0].into()),
            DhcpOption::Router(vec![[10, 9, 0, 1].into()]),
        ] {
            reply.opts_mut().insert(option);
        }
        replies.fetch_add(1, Ordering::Relaxed);
        socket.send_to(&reply.to_vec().unwrap(), "255.255.255.255:68").await.unwrap();
    }
}

/// The links that are there, without the loopback.
async fn present(links: &Links) -> Vec<String> {
    let all = links.list().await.unwrap();
    let mut lines: Vec<_> = all
        .into_iter()
        .filter(|link| link.name != "lo")
        .map(|link| format!("{} {}", link.name, if link.running { "running" } else { "off" }))
        .collect();
    lines.sort();
    lines
}

/// Routes of this thread's namespace: interface and destination.
fn routes() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
    text.lines()
        .skip(1)
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn interfaces_are_named_with_their_carriers() {
    let link = |name: &str, mac: Option<MacAddr>, up: bool, running: bool| Link {
        index: 1,
        name: name.to_owned(),
        mac,
        stacked: false,
        up,
        running,
    };
    let links = [
        link("lo", None, true, true),
        link("eth0", Some(CARD), true, false),
        link("eth1", Some(SECOND), false, false),
        link("eth2", None, true, true),
    ];
    let interfaces = in_words(&links);
    let error = NetworkError::NoCarrier { name: "eth0".to_owned(), mac: CARD, interfaces };
    expect_test::expect!["eth0 (02:00:00:00:00:11) has no carrier after 60 s; check the cable and the switch port. Interfaces: eth0 02:00:00:00:00:11 no carrier, eth1 02:00:00:00:00:12 off, eth2 carrier"]
        .assert_eq(&error.to_string());
    assert_eq!(in_words(&links[..1]), "none");
}

#[test]
fn privileged_a_card_gets_its_lease_and_is_left_as_found() {
    in_namespace(|| async {
        let links = Links::open().unwrap();
        let mut far = Far::start(|links| async move {
            let far = links.named("far").await.unwrap();
            links.set_mtu(&far, 9000).await.unwrap();
            "far".to_owned()
        });
        far.cable(&links, "card", CARD, "far").await;
        far.plugged().await;
        let mut told = Vec::new();
        let machine = r#"{"interfaces": {"eth0": {"mac": "02:00:00:00:00:11", "mtu": 9000}}}"#;
        let stage1 = stage1(machine, "null");
        let network = bring_up(CARD, &stage1, &mut |line| told.push(line.to_owned()), &mut || {})
            .await
            .unwrap();
        assert_eq!(network.address, "10.9.0.7/24".parse::<IpNet>().unwrap());
        assert!(told.iter().any(|line| line.contains("10.9.0.7/24")), "{told:?}");
        assert!(far.replies.load(Ordering::Relaxed) >= 2);
        assert_eq!(routes(), ["card 00000000", "card 0000090A"]);
        assert_eq!(present(&links).await, ["card running"]);
        network.tear_down().await.unwrap();
        assert_eq!(present(&links).await, ["card off"]);
        assert_eq!(routes(), Vec::<String>::new());
    });
}

/// `true` where this kernel has bonds and VLANs, built in or as modules that are loaded.
async fn can_stack(links: &Links) -> bool {
    let Ok(bond) = links.add_bond("probe", "active-backup", CARD).await else { return false };
    let vlan = links.add_vlan("probe5", &bond, 5).await;
    links.delete(&bond).await.unwrap();
    vlan.is_ok()
}

#[test]
fn privileged_a_vlan_on_a_bond_is_made_and_taken_away() {
    in_namespace(|| async {
        let links = Links::open().unwrap();
        if !can_stack(&links).await {
            eprintln!("SKIPPED: this kernel has no bonds or no VLANs");
            return;
        }
        // The far side is one bond too, with the DHCP server on its VLAN.
        let mut far = Far::start(|links| async move {
            let bond = links
                .add_bond("farbond", "active-backup", MacAddr([2, 0, 0, 0, 0, 0x20]))
                .await
                .unwrap();
            for name in ["far0", "far1"] {
                let link = links.named(name).await.unwrap();
                links.join(&link, &bond).await.unwrap();
                links.up(&link).await.unwrap();
            }
            links.up(&bond).await.unwrap();
            links.add_vlan("farvlan", &bond, 5).await.unwrap().name
        });
        far.cable(&links, "card0", CARD, "far0").await;
        far.cable(&links, "card1", SECOND, "far1").await;
        far.plugged().await;
        let machine = r#"{"interfaces": {
            "eth0": {"mac": "02:00:00:00:00:11"},
            "eth1": {"mac": "02:00:00:00:00:12"},
            "bond0": {"bond": {"mode": "active-backup", "members": ["eth0", "eth1"]}},
            "boot": {"vlan": 5, "parent": "bond0", "address": "10.9.0.7/24"}
        }}"#;
        let fallback = r#"{"address": "10.9.0.7/24", "gateway": null}"#;
        let network =
            bring_up(CARD, &stage1(machine, fallback), &mut |_| {}, &mut || {}).await.unwrap();
        assert_eq!(network.address, "10.9.0.7/24".parse::<IpNet>().unwrap());
        assert!(far.replies.load(Ordering::Relaxed) >= 2);
        assert_eq!(
            present(&links).await,
            ["bond0 running", "boot running", "card0 running", "card1 running"]
        );
        network.tear_down().await.unwrap();
        assert_eq!(present(&links).await, ["card0 off", "card1 off"]);
    });
}

#[test]
fn privileged_without_dhcp_the_known_address_is_used() {
    in_namespace(|| async {
        let links = Links::open().unwrap();
        // The far end is in this namespace, and nobody serves there.
        links
            .handle()
            .link()
            .add(rtnetlink::LinkVeth::new("card", "far").build())
            .execute()
            .await
            .unwrap();
        let far = links.named("far").await.unwrap();
        links.up(&far).await.unwrap();
        let card = links.named("card").await.unwrap().mac.unwrap();
        let fallback = r#"{"address": "10.9.0.8/24", "gateway": "10.9.0.1"}"#;
        let mut told = Vec::new();
        let network = bring_up(
            card,
            &stage1("{}", fallback),
            &mut |line| told.push(line.to_owned()),
            &mut || {},
        )
        .await
        .unwrap();
        assert_eq!(network.address, "10.9.0.8/24".parse::<IpNet>().unwrap());
        assert!(told.iter().any(|line| line.contains("no DHCP server")), "{told:?}");
        assert_eq!(routes(), ["card 00000000", "card 0000090A"]);
        network.tear_down().await.unwrap();
        assert_eq!(routes(), Vec::<String>::new());
    });
}

#[test]
fn privileged_a_gateway_that_cannot_be_used_is_told_and_left_out() {
    in_namespace(|| async {
        let links = Links::open().unwrap();
        links
            .handle()
            .link()
            .add(rtnetlink::LinkVeth::new("card", "far").build())
            .execute()
            .await
            .unwrap();
        for name in ["far", "card"] {
            links.up(&links.named(name).await.unwrap()).await.unwrap();
        }
        let card = links.named("card").await.unwrap();
        links.add_address(&card, "10.9.0.8/32".parse().unwrap()).await.unwrap();
        let address = IpNet::default();
        let network = Network { links, cards: vec![card.clone()], made: Vec::new(), address };
        let mut told = Vec::new();
        network
            .route(&card, "10.9.0.1".parse().unwrap(), &mut |line| told.push(line.to_owned()))
            .await;
        assert!(told.len() == 1 && told[0].contains("cannot route through 10.9.0.1"), "{told:?}");
        assert_eq!(routes(), Vec::<String>::new());
    });
}

#[test]
fn privileged_an_unknown_mode_of_a_bond_is_named() {
    in_namespace(|| async {
        let links = Links::open().unwrap();
        let error = links.add_bond("bond0", "fast", CARD).await.unwrap_err();
        assert!(error.to_string().contains("802.3ad"), "{error}");
    });
}

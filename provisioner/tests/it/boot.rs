//! What firmware and iPXE get from the real sockets.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use boot_proto::BootEvent;
use dhcproto::{
    Encodable,
    v4::{DhcpOption, Message, MessageType, OptionCode},
};
use provisioner::{DhcpMode, FirmwareFiles};

use crate::{
    client::{
        DhcpClient, Fetched, Program, broadcast, raw, request, tftp_fetch, tftp_receive,
        tftp_request,
    },
    network::{CLIENT_INTERFACE, CLIENT_MAC, Network},
    server::{Server, debian_firmware, node},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const EVERYBODY: [u8; 6] = [255; 6];

fn start(network: &Network, mode: DhcpMode, files: FirmwareFiles) -> Server {
    Server::start(network, mode, files, node("10.77.0.11/24"))
}

/// Fetches a file the way the firmware would after its lease.
fn fetch(network: &Network, file: &str, options: &[(&str, &str)]) -> Fetched {
    network.client_ip(&["address", "replace", "10.77.0.11/24", "dev", CLIENT_INTERFACE]);
    network.as_client(|| tftp_fetch(SERVER, file, options))
}

#[test]
fn privileged_bios_without_broadcast_flag_gets_undionly_by_a_frame_to_its_mac() {
    let network = Network::new();
    let mut server = start(&network, DhcpMode::Authoritative, debian_firmware());
    let (offer, ack) =
        network.as_client(|| DhcpClient::open().boot(Program::Pxe(0), |message| message));
    for heard in [&offer, &ack] {
        assert_eq!(
            heard.ethernet_destination, CLIENT_MAC,
            "a frame to the client, not to everybody"
        );
        assert_eq!((heard.ip_source, heard.ip_destination), (SERVER, NODE));
        assert_eq!((heard.message.yiaddr(), heard.message.siaddr()), (NODE, SERVER));
        assert_eq!(heard.file(), "undionly.kpxe");
        assert_eq!(heard.class().as_deref(), Some("PXEClient"));
        assert!(heard.bytes >= 300);
        let vendor = heard.message.opts().get(OptionCode::VendorExtensions);
        assert_eq!(vendor, Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255])));
    }
    let original = std::fs::read("/usr/lib/ipxe/undionly.kpxe").unwrap();
    let size = original.len();
    let got = fetch(&network, "undionly.kpxe", &[("tsize", "0"), ("blksize", "1456")]);
    assert!(got == Fetched::File(original), "byte-identical");
    // The transfer's last acknowledgement is still on its way to the server.
    let sent = |event: &BootEvent| matches!(event, BootEvent::FirmwareSent { file, .. } if file == "undionly.kpxe");
    let mut events = Vec::new();
    for _ in 0..100 {
        events.extend(server.events());
        if events.iter().any(sent) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kinds = events.iter().map(|event| match event {
        BootEvent::Offered { address: Some(address), .. } => format!("offered {address}"),
        BootEvent::Leased { address, .. } => format!("leased {address}"),
        BootEvent::FirmwareSent { file, client, .. } => format!("{client} has {file}"),
        other => other.to_string(),
    });
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        ["offered 10.77.0.11", "leased 10.77.0.11", "10.77.0.11 has undionly.kpxe"]
    );
    let metrics = server.metrics();
    for sample in [
        "bedplate_dhcp_messages_total{direction=\"in\",type=\"discover\"} 1".to_owned(),
        "bedplate_dhcp_messages_total{direction=\"out\",type=\"offer\"} 1".to_owned(),
        "bedplate_dhcp_messages_total{direction=\"in\",type=\"request\"} 1".to_owned(),
        "bedplate_dhcp_messages_total{direction=\"out\",type=\"ack\"} 1".to_owned(),
        "bedplate_tftp_transfers_total{outcome=\"complete\"} 1".to_owned(),
        format!("bedplate_tftp_sent_bytes_total {size}"),
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}:\n{metrics}");
    }
}

#[test]
fn privileged_uefi_with_broadcast_flag_gets_snponly() {
    let network = Network::new();
    let _server = start(&network, DhcpMode::Authoritative, debian_firmware());
    let (_, ack) = network.as_client(|| DhcpClient::open().boot(Program::Pxe(7), broadcast));
    assert_eq!(ack.ethernet_destination, EVERYBODY);
    assert_eq!(ack.ip_destination, Ipv4Addr::BROADCAST);
    assert_eq!(ack.file(), "snponly.efi");
    let original = std::fs::read("/usr/lib/ipxe/snponly.efi").unwrap();
    for options in [
        &[][..],
        &[("blksize", "1468"), ("windowsize", "4")],
        &[("blksize", "1468"), ("windowsize", "64"), ("tsize", "0")],
        // Larger than the link's unit: the kernel cannot cut these, and sends fragments.
        &[("blksize", "8192"), ("windowsize", "2")],
    ] {
        assert!(
            fetch(&network, "snponly.efi", options) == Fetched::File(original.clone()),
            "{options:?}"
        );
    }
}

#[test]
fn privileged_ipxe_gets_the_url_of_its_script() {
    let network = Network::new();
    let _server = start(&network, DhcpMode::Authoritative, debian_firmware());
    let (offer, ack) =
        network.as_client(|| DhcpClient::open().boot(Program::Ipxe, |message| message));
    for heard in [offer, ack] {
        assert_eq!(
            heard.file(),
            "http://10.77.0.1:9480/boot/52-54-00-b0-07-01/script?memory=${memsize}"
        );
        let url = DhcpOption::BootfileName((heard.file() + "\0").into_bytes());
        assert_eq!(heard.message.opts().get(OptionCode::BootfileName), Some(&url));
    }
}

#[test]
fn privileged_uefi_arm64_is_refused_by_name_until_a_file_is_configured() {
    let network = Network::new();
    let discover = || request(MessageType::Discover, Program::Pxe(11), CLIENT_MAC);
    let server = start(&network, DhcpMode::Authoritative, debian_firmware());
    assert!(network.as_client(|| DhcpClient::open().ask(&discover())).is_none());
    let log = server.log();
    let line = log.lines().find(|line| line.contains("WARN")).expect("a warning");
    for word in ["n1", "52:54:00:b0:07:01", "UEFI arm64", "snponly-arm64.efi", "firmware.efi-arm64"]
    {
        assert!(line.contains(word), "{word} is missing in: {line}");
    }
    drop(server);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my-arm64.efi");
    let content = b"MZ arm64".repeat(1000);
    std::fs::write(&file, &content).unwrap();
    let files = FirmwareFiles { efi_arm64: Some(file), ..debian_firmware() };
    let _server = start(&network, DhcpMode::Authoritative, files);
    let (_, ack) =
        network.as_client(|| DhcpClient::open().boot(Program::Pxe(11), |message| message));
    assert_eq!(ack.file(), "my-arm64.efi");
    assert_eq!(fetch(&network, "my-arm64.efi", &[("blksize", "1408")]), Fetched::File(content));
}

#[test]
fn privileged_an_unknown_mac_gets_silence_and_a_line_in_the_log() {
    let network = Network::new();
    let server = start(&network, DhcpMode::Authoritative, debian_firmware());
    let stranger = [2, 0, 0, 0, 0xab, 0xcd];
    let discover = request(MessageType::Discover, Program::Pxe(0), stranger);
    assert!(network.as_client(|| DhcpClient::open().ask(&discover)).is_none());
    let log = server.log();
    assert!(log.contains("WARN") && log.contains("no answer to 02:00:00:00:ab:cd"), "{log}");
}

#[test]
fn privileged_a_relayed_request_is_answered_to_the_relay() {
    let network = Network::new();
    let _server =
        Server::start(&network, DhcpMode::Authoritative, debian_firmware(), node("10.78.0.11/24"));
    // The client's namespace is the relay between 10.77.0.0/24 and 10.78.0.0/24.
    network.client_ip(&["address", "add", "10.77.0.50/24", "dev", CLIENT_INTERFACE]);
    network.client_ip(&["address", "add", "10.78.0.1/24", "dev", "lo"]);
    network.server_ip(&["route", "add", "10.78.0.0/24", "via", "10.77.0.50"]);
    let relay = Ipv4Addr::new(10, 78, 0, 1);
    let mut message = request(MessageType::Discover, Program::Pxe(7), CLIENT_MAC);
    let agent = [1, 4, b'p', b'o', b'r', b't'];
    message.set_giaddr(relay).opts_mut().insert(raw(82, &agent));
    let heard = network.as_client(|| {
        let ear = DhcpClient::open();
        let socket = UdpSocket::bind(SocketAddrV4::new(relay, 67)).unwrap();
        socket.send_to(&message.to_vec().unwrap(), SocketAddrV4::new(SERVER, 67)).unwrap();
        ear.hear(message.xid(), 67).expect("an answer to the relay")
    });
    assert_eq!((heard.ip_source, heard.ip_destination), (SERVER, relay));
    assert_eq!(heard.message.giaddr(), relay);
    assert_eq!(heard.message.yiaddr(), Ipv4Addr::new(10, 78, 0, 11));
    assert_eq!(heard.file(), "snponly.efi");
    assert!(heard.message.opts().get(OptionCode::RelayAgentInformation).is_some());
}

#[test]
fn privileged_proxy_mode_offers_a_program_and_answers_on_port_4011() {
    let network = Network::new();
    let _server = start(&network, DhcpMode::Proxy, debian_firmware());
    let discover = request(MessageType::Discover, Program::Pxe(7), CLIENT_MAC);
    let offer = network.as_client(|| DhcpClient::open().ask(&discover)).expect("an offer");
    assert_eq!(
        (offer.message.yiaddr(), offer.file().as_str()),
        (Ipv4Addr::UNSPECIFIED, "snponly.efi")
    );
    assert_eq!(offer.message.opts().get(OptionCode::AddressLeaseTime), None);

    network.client_ip(&["address", "add", "10.77.0.99/24", "dev", CLIENT_INTERFACE]);
    let ack = network.as_client(|| {
        let ear = DhcpClient::open();
        let mut message: Message = request(MessageType::Request, Program::Pxe(7), CLIENT_MAC);
        message.set_ciaddr([10, 77, 0, 99]);
        let socket = UdpSocket::bind("10.77.0.99:4011").unwrap();
        socket.send_to(&message.to_vec().unwrap(), SocketAddrV4::new(SERVER, 4011)).unwrap();
        ear.hear(message.xid(), 4011).expect("an answer on the boot server port")
    });
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(
        (ack.ip_destination, ack.file().as_str()),
        (Ipv4Addr::new(10, 77, 0, 99), "snponly.efi")
    );
}

#[test]
fn privileged_tftp_serves_nothing_but_its_files() {
    let network = Network::new();
    let server = start(&network, DhcpMode::Off, debian_firmware());
    let refused = |code: u16, text: &str| Fetched::Refused(code, text.to_owned());
    for file in ["absent.efi", "../../../etc/passwd", "/etc/passwd", "usr/lib/ipxe/snponly.efi", ""]
    {
        assert_eq!(fetch(&network, file, &[]), refused(1, "file not found"), "{file:?}");
    }
    assert!(
        server.log().contains("10.77.0.11 asked by TFTP for \"absent.efi\""),
        "{}",
        server.log()
    );
    assert!(!server.log().contains("passwd"), "of one kind and sender the first: {}", server.log());
    for _ in 0..5 {
        fetch(&network, "absent.efi", &[]);
    }
    assert!(
        server.log().contains("asked by TFTP for \"absent.efi\", which is not served (10 times")
    );
    let write = network.as_client(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .send_to(&tftp_request(2, "snponly.efi", &[]), SocketAddrV4::new(SERVER, 69))
            .unwrap();
        tftp_receive(&socket, SERVER, &[])
    });
    assert_eq!(write, refused(2, "this server is read only"));
    let metrics = server.metrics();
    assert!(
        metrics.contains("bedplate_tftp_transfers_total{outcome=\"refused\"} 11\n"),
        "{metrics}"
    );
}

#[test]
fn privileged_tftp_client_asks_the_size_gives_up_and_asks_again_from_the_same_port() {
    let network = Network::new();
    let _server = start(&network, DhcpMode::Off, debian_firmware());
    network.client_ip(&["address", "add", "10.77.0.11/24", "dev", CLIENT_INTERFACE]);
    let original = std::fs::read("/usr/lib/ipxe/undionly.kpxe").unwrap();
    let got = network.as_client(|| {
        let socket = UdpSocket::bind("10.77.0.11:2070").unwrap();
        let ask = |options| {
            socket
                .send_to(&tftp_request(1, "/undionly.kpxe", options), SocketAddrV4::new(SERVER, 69))
                .unwrap();
        };
        ask(&[("tsize", "0")]);
        let mut answer = [0; 600];
        let (bytes, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..bytes], format!("\0\u{6}tsize\0{}\0", original.len()).as_bytes());
        socket.send_to(b"\0\x05\0\0TFTP Aborted\0", from).unwrap();
        let options = &[("blksize", "1468")];
        ask(options);
        tftp_receive(&socket, SERVER, options)
    });
    assert!(got == Fetched::File(original), "byte-identical");
}

#[test]
fn privileged_thousands_of_half_open_requests_keep_no_client_out() {
    let network = Network::new();
    let server = start(&network, DhcpMode::Off, debian_firmware());
    for address in ["10.77.0.11/24", "10.77.0.12/24"] {
        network.client_ip(&["address", "add", address, "dev", CLIENT_INTERFACE]);
    }
    let original = std::fs::read("/usr/lib/ipxe/undionly.kpxe").unwrap();
    let got = network.as_client(|| {
        let flood = UdpSocket::bind("10.77.0.12:0").unwrap();
        let asked = tftp_request(1, "snponly.efi", &[("timeout", "30")]);
        for number in 0..4_200 {
            flood.send_to(&asked, SocketAddrV4::new(SERVER, 69)).unwrap();
            if number % 100 == 0 {
                // The server's socket holds a few thousand packets; what it drops
                // would prove nothing.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        let good = UdpSocket::bind("10.77.0.11:0").unwrap();
        good.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let options = &[("blksize", "1468")];
        let asked = tftp_request(1, "undionly.kpxe", options);
        good.send_to(&asked, SocketAddrV4::new(SERVER, 69)).unwrap();
        tftp_receive(&good, SERVER, options)
    });
    assert!(got == Fetched::File(original), "byte-identical");
    let metrics = server.metrics();
    let running = metrics.lines().find(|line| line.starts_with("bedplate_tftp_transfers_running "));
    let running: u32 = running.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(running <= 257, "the share of one address: {running}");
    assert!(!metrics.contains("outcome=\"displaced\"} 0"), "{metrics}");
    let lines = server.log().lines().count();
    assert!(lines < 100, "no line for each request: {lines}");
}

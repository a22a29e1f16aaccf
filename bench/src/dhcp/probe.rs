//! One DISCOVER by hand, to see that a server answers, and rightly.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use api::ids::MacAddr;
use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{Architecture, DhcpOption, Flags, Message, MessageType, OptionCode},
};

use crate::{
    clock,
    network::{CLIENT, SERVER},
};

const PORT: u16 = 67;

/// Longest answer.
const MAX_BYTES: usize = 1500;

/// How long one answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);

/// Asks as a relay for a client until there is an answer, which must offer an address of the pool,
/// a gateway, a lease and the boot file.
///
/// # Errors
/// If there is none in time, or it is not right.
pub(super) fn until_right(
    mac: MacAddr,
    pool: &(Ipv4Addr, Ipv4Addr),
    boot_program: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((CLIENT, PORT)).context("cannot be a relay")?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let offer = clock::wait_for("an OFFER", limit, || ask(&socket, mac))?;
    let given = offer.yiaddr();
    ensure!((pool.0..=pool.1).contains(&given), "{given} was offered, which is not in the pool");
    let kind = offer.opts().msg_type();
    ensure!(kind == Some(MessageType::Offer), "a DISCOVER was answered with {kind:?}");
    for code in [OptionCode::Router, OptionCode::AddressLeaseTime, OptionCode::ServerIdentifier] {
        ensure!(offer.opts().get(code).is_some(), "the OFFER has no option {code:?}");
    }
    let file =
        offer.fname().map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
    let option = match offer.opts().get(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    let names = [file.unwrap_or_default(), option.unwrap_or_default()];
    ensure!(
        names.iter().any(|name| name.contains(boot_program)),
        "the OFFER names the boot file {names:?}"
    );
    Ok(())
}

fn ask(socket: &UdpSocket, mac: MacAddr) -> anyhow::Result<Option<Message>> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut discover = Message::new(none, none, none, CLIENT, &mac.0);
    discover.set_flags(Flags::default());
    let options = discover.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Discover));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000".to_vec()));
    options.insert(DhcpOption::ClientSystemArchitecture(Architecture::X86_Bios));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::AddressLeaseTime,
        OptionCode::BootfileName,
    ]));
    // Before the server listens the kernel refuses.
    if socket.send_to(&discover.to_vec()?, (SERVER, PORT)).is_err() {
        return Ok(None);
    }
    let mut buffer = [0; MAX_BYTES];
    let Ok((length, _)) = socket.recv_from(&mut buffer) else { return Ok(None) };
    let answer =
        Message::decode(&mut Decoder::new(&buffer[..length])).context("cannot read the answer")?;
    Ok((answer.xid() == discover.xid()).then_some(answer))
}

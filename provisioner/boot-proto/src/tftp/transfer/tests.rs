//! Whole transfers against a client that loses packets, and single decisions.

use proptest::prelude::*;

use super::*;
use crate::tftp::packet::{self, ErrorCode};

const STEP: Duration = Duration::from_millis(50);

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn request(options: &[(&str, &str)]) -> ReadRequest {
    let mut bytes = b"\0\x01/undionly.kpxe\0octet\0".to_vec();
    for (option, value) in options {
        bytes.extend(option.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    ReadRequest::parse(&bytes).unwrap().unwrap()
}

fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

#[test]
fn options_are_granted_or_left_out() {
    let oack = |options: &[(&str, &str)]| {
        request(options)
            .oack(70_000)
            .map(|bytes| String::from_utf8_lossy(&bytes[2..]).replace('\0', " "))
    };
    assert_eq!(oack(&[]), None);
    assert_eq!(oack(&[("tsize", "0"), ("blksize", "1468")]).unwrap(), "tsize 70000 blksize 1468 ");
    assert_eq!(oack(&[("BLKSIZE", "65535")]).unwrap(), "BLKSIZE 65464 ");
    assert_eq!(
        oack(&[("windowsize", "1000"), ("timeout", "3")]).unwrap(),
        "windowsize 64 timeout 3 "
    );
    for refused in [
        ("blksize", "7"),
        ("blksize", "x"),
        ("windowsize", "0"),
        ("windowsize", "65536"),
        ("timeout", "0"),
        ("timeout", "31"),
        ("multicast", "1"),
    ] {
        assert_eq!(oack(&[refused]), None, "{refused:?}");
    }
}

#[test]
fn only_whole_octet_reads_are_served() {
    let code = |packet: &[u8]| ReadRequest::parse(packet).unwrap_err().code;
    assert_eq!(code(b"\0\x02file\0octet\0"), ErrorCode::AccessViolation);
    assert_eq!(code(b"\0\x01file\0netascii\0"), ErrorCode::IllegalOperation);
    assert_eq!(code(b"\0\x01file\0octet"), ErrorCode::IllegalOperation);
    assert_eq!(code(b"\0\x01file\0"), ErrorCode::IllegalOperation);
    assert_eq!(code(&[&[0, 1][..], &[b'a'; 600]].concat()), ErrorCode::IllegalOperation);
    assert_eq!(ReadRequest::parse(b"\0\x04\0\0"), Ok(None));
    assert_eq!(ReadRequest::parse(b""), Ok(None));
    assert_eq!(packet::NOT_FOUND.packet(), b"\0\x05\0\x01file not found\0");
}

#[test]
fn a_probe_for_the_size_ends_with_an_error_packet() {
    let now = start();
    let mut transfer = Transfer::new(&request(&[("tsize", "0")]), 1000, now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Packet(b"\0\x06tsize\x001000\0".to_vec())));
    transfer.handle_packet(b"\0\x05\0\x08enough\0", now);
    assert_eq!(
        transfer.outcome(),
        Some(&Outcome::Aborted { code: 8, message: "enough".to_owned() })
    );
    assert_eq!((transfer.poll_transmit(), transfer.poll_timeout()), (None, None));
}

#[test]
fn a_repeated_acknowledgement_repeats_the_window_once() {
    let now = start();
    let mut transfer =
        Transfer::new(&request(&[("windowsize", "4"), ("blksize", "100")]), 10_000, now);
    assert!(matches!(transfer.poll_transmit(), Some(Transmit::Packet(_))));
    transfer.handle_packet(&ack(0), now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(1..5)));
    transfer.handle_packet(&ack(2), now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(3..7)), "blocks 3 and 4 were lost");
    transfer.handle_packet(&ack(2), now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(3..7)));
    transfer.handle_packet(&ack(2), now);
    assert_eq!(transfer.poll_transmit(), None, "an echo");
    transfer.handle_packet(&ack(2), now + LOSS_ECHO);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(3..7)), "lost once more");
    transfer.handle_packet(&ack(9), now);
    assert_eq!(transfer.poll_transmit(), None, "never sent");
}

#[test]
fn with_single_blocks_a_repeated_acknowledgement_is_ignored() {
    let now = start();
    let mut transfer = Transfer::new(&request(&[]), 5000, now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(1..2)));
    transfer.handle_packet(&ack(1), now);
    assert_eq!(transfer.poll_transmit(), Some(Transmit::Blocks(2..3)));
    transfer.handle_packet(&ack(1), now);
    assert_eq!(transfer.poll_transmit(), None);
}

#[test]
fn silence_is_borne_for_a_while() {
    let mut now = start();
    let began = now;
    let mut transfer = Transfer::new(&request(&[]), 5000, now);
    let mut sent = 0;
    while let Some(deadline) = transfer.poll_timeout() {
        sent += usize::from(transfer.poll_transmit().is_some());
        transfer.handle_timeout(now);
        assert_eq!(transfer.poll_transmit(), None, "not before its time");
        now = deadline;
        transfer.handle_timeout(now);
    }
    assert_eq!(transfer.outcome(), Some(&Outcome::Lost));
    assert_eq!(sent, 6);
    assert_eq!(now - began, Duration::from_secs(1 + 2 + 4 + 4 + 4 + 4));
}

/// Runs a transfer over a network that loses packets as `lost` says, and returns what
/// the client got.
fn fetch(file: &[u8], options: &[(&str, &str)], mut lost: impl FnMut() -> bool) -> Option<Vec<u8>> {
    let mut now = start();
    let request = request(options);
    let mut transfer = Transfer::new(&request, u64::try_from(file.len()).unwrap(), now);
    let (mut got, mut next, mut since_ack, mut done) = (Vec::new(), 1_u64, 0, false);
    while transfer.outcome().is_none() {
        let mut answers = Vec::new();
        match transfer.poll_transmit() {
            None => {
                now = transfer.poll_timeout()?;
                transfer.handle_timeout(now);
                continue;
            }
            Some(Transmit::Packet(_)) => answers.extend((!lost()).then(|| ack(0))),
            Some(Transmit::Blocks(range)) => {
                for block in range {
                    let data = transfer.bytes_of(block);
                    let data = &file
                        [usize::try_from(data.start).unwrap()..usize::try_from(data.end).unwrap()];
                    if lost() {
                        continue;
                    }
                    since_ack += 1;
                    if block == next && !done {
                        got.extend_from_slice(data);
                        next += 1;
                        done = data.len() < usize::from(request.block_bytes);
                    } else if block > next {
                        since_ack = 0;
                        answers.push(ack(Transfer::wire_number(next - 1)));
                    }
                    if done || since_ack == request.window_blocks {
                        since_ack = 0;
                        answers.push(ack(Transfer::wire_number(next - 1)));
                    }
                }
            }
        }
        for answer in answers {
            if !lost() {
                now += STEP;
                transfer.handle_packet(&answer, now);
            }
        }
    }
    (transfer.outcome() == Some(&Outcome::Complete)).then_some(got)
}

#[test]
fn more_blocks_than_the_wire_can_count() {
    let file: Vec<u8> = (0..8 * 200_000_u32).map(|byte| byte.to_be_bytes()[2]).collect();
    for window in ["1", "7", "64"] {
        let got = fetch(&file, &[("blksize", "8"), ("windowsize", window)], || false);
        assert!(got.as_deref() == Some(&file[..]), "window {window}");
    }
}

proptest! {
    #[test]
    fn what_arrives_is_the_file(
        file in proptest::collection::vec(any::<u8>(), 0..3000),
        block in 8..600_u32,
        window in 1..70_u32,
        options in any::<bool>(),
        losses in proptest::collection::hash_set(0..60_u32, 0..=5),
    ) {
        let (block, window) = (block.to_string(), window.to_string());
        let options: &[(&str, &str)] = if options { &[("blksize", &block), ("windowsize", &window), ("tsize", "0")] } else { &[] };
        let mut packet = 0;
        let got = fetch(&file, options, || {
            packet += 1;
            losses.contains(&packet)
        });
        // Five losses in a row are survived.
        prop_assert_eq!(got, Some(file));
    }

    #[test]
    fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), read in any::<bool>()) {
        let mut bytes = bytes;
        if read && bytes.len() > 1 {
            bytes[0] = 0;
            bytes[1] = 1;
        }
        let now = start();
        if let Ok(Some(request)) = ReadRequest::parse(&bytes) {
            Transfer::new(&request, 100, now).handle_packet(&bytes, now);
        }
        Transfer::new(&request(&[("windowsize", "4")]), 100, now).handle_packet(&bytes, now);
    }
}

#[test]
fn a_name_ends_where_the_options_of_dhcp_end() {
    let file = |name: &[u8]| {
        let packet = [&[0, 1][..], name, b"\0octet\0"].concat();
        ReadRequest::parse(&packet).map(|request| request.map(|request| request.file))
    };
    assert_eq!(file(b"snponly.efi"), Ok(Some("snponly.efi".to_owned())));
    assert_eq!(file(b"snponly.efi\xff"), Ok(Some("snponly.efi".to_owned())));
    assert_eq!(file(b"/snponly.efi\xff\xff\x03"), Ok(Some("snponly.efi".to_owned())));
    assert_eq!(file(b"snponly\xc3.efi").unwrap_err().message, "request is not UTF-8");
}

#[test]
fn a_client_that_asked_for_long_intervals_and_is_silent_is_gone_after_a_minute() {
    let now = start();
    let mut transfer = Transfer::new(&request(&[("timeout", "30")]), 1_000, now);
    let mut packets = 0;
    let mut ended = now;
    while let Some(deadline) = transfer.poll_timeout() {
        packets += usize::from(transfer.poll_transmit().is_some());
        ended = deadline;
        transfer.handle_timeout(deadline);
    }
    assert_eq!((packets, ended - now), (2, LONGEST_SILENCE));
    assert_eq!((transfer.outcome(), transfer.progressed()), (Some(&Outcome::Lost), None));
}

#[test]
fn reports_of_the_same_loss_are_answered_so_often_and_no_more() {
    let start = start();
    let mut transfer =
        Transfer::new(&request(&[("windowsize", "4"), ("blksize", "100")]), 10_000, start);
    transfer.handle_packet(&ack(0), start);
    assert_eq!(transfer.progressed(), Some(start), "it confirmed its options");
    let repeated = |transfer: &mut Transfer, number: u16, from: Instant| {
        let reports = (1..1_000).filter(|step| {
            transfer.handle_packet(&ack(number), from + LOSS_ECHO * *step);
            transfer.poll_transmit().is_some()
        });
        u32::try_from(reports.count()).unwrap()
    };
    assert!(transfer.poll_transmit().is_some());
    assert_eq!(repeated(&mut transfer, 0, start), MAX_REPORTED_LOSSES);
    transfer.handle_packet(&ack(4), start);
    assert!(transfer.poll_transmit().is_some());
    assert_eq!(repeated(&mut transfer, 4, start), MAX_REPORTED_LOSSES, "again after progress");
}

//! The client against the server's real core, over a wire that loses packets.

use std::ops::Range;

use boot_proto::tftp::{Outcome, ReadRequest, Transfer, Transmit, packet};

use super::*;
use fastrand::Rng;

fn wish(block_bytes: u16, window_blocks: u16) -> FileRequest {
    FileRequest { file: "undionly.kpxe".to_owned(), block_bytes, window_blocks, only_size: false }
}

/// Packets of the server that are on the wire.
fn packets(transfer: &Transfer, transmit: Transmit) -> Vec<Vec<u8>> {
    match transmit {
        Transmit::Packet(packet) => vec![packet],
        Transmit::Blocks(blocks) => {
            let block = |block: u64| {
                let Range { start, end } = transfer.bytes_of(block);
                let header = packet::data_header(Transfer::wire_number(block));
                [&header[..], &vec![0; usize::try_from(end - start).unwrap()]].concat()
            };
            blocks.map(block).collect()
        }
    }
}

/// Moves `size` bytes while one packet in `loss` is lost, in either direction; how often either
/// side waited in vain.
fn carry(size: u64, wish: FileRequest, loss: u64) -> u32 {
    let mut dice = Rng::with_seed(size ^ loss);
    let mut lost = || loss > 0 && dice.u64(..loss) == 0;
    let (mut download, request) = Download::new(wish);
    let request = ReadRequest::parse(&request).unwrap().unwrap();
    let mut now = tokio::time::Instant::now().into_std();
    let mut transfer = Transfer::new(&request, size, now);
    let (mut done, mut waits) = (false, 0);
    while !done {
        let sent: Vec<_> = transfer
            .poll_transmit()
            .map(|transmit| packets(&transfer, transmit))
            .unwrap_or_default();
        let mut answers = Vec::new();
        for packet in sent.into_iter().filter(|_| !lost()) {
            match download.handle(&packet).unwrap() {
                Step::Wait => {}
                Step::Send(answer) => answers.push(answer),
                Step::Done(answer) => {
                    done = true;
                    answers.push(answer);
                    break;
                }
            }
        }
        if answers.is_empty() {
            waits += 1;
            assert!(waits < 10_000, "nothing goes on");
            now = transfer.poll_timeout().unwrap_or(now);
            transfer.handle_timeout(now);
            answers.push(download.handle_timeout());
        }
        now += Duration::from_millis(10);
        answers.iter().filter(|_| !lost()).for_each(|answer| transfer.handle_packet(answer, now));
    }
    assert_eq!(download.size(), size);
    assert!(loss > 0 || transfer.outcome() == Some(&Outcome::Complete), "{transfer:?}");
    waits
}

#[test]
fn a_file_of_any_length_comes_whole_and_in_order() {
    for size in [0, 1, 511, 512, 513, 1_468 * 4, 1_468 * 5 + 7, 74_157] {
        for (block_bytes, window) in [(512, 1), (1_456, 1), (1_468, 4), (1_468, 32)] {
            assert_eq!(
                carry(size, wish(block_bytes, window), 0),
                0,
                "{size} {block_bytes} {window}"
            );
        }
    }
}

#[test]
fn more_blocks_than_numbers_come_whole() {
    carry(512 * 70_000, wish(512, 64), 0);
}

#[test]
fn what_is_lost_comes_again() {
    for loss in [3, 10, 50] {
        carry(74_157, wish(1_456, 1), loss);
        carry(173_792, wish(1_468, 8), loss);
    }
}

#[test]
fn firmware_that_wants_the_size_goes_away_with_an_error() {
    let (mut download, request) = Download::new(FileRequest { only_size: true, ..wish(1_468, 4) });
    let oack = ReadRequest::parse(&request).unwrap().unwrap().oack(74_157).unwrap();
    let Step::Done(packet) = download.handle(&oack).unwrap() else { panic!("not done") };
    assert!(packet.starts_with(&[0, 5, 0, 0]));
    assert_eq!(download.size(), 74_157);
}

#[test]
fn what_breaks_the_protocol_is_told() {
    let broken = |packet: &[u8]| {
        let (mut download, _) = Download::new(wish(1_468, 4));
        download.handle(packet).unwrap_err().to_string()
    };
    assert!(broken(b"\0\x05\0\x01no such file\0").contains("no such file"));
    assert!(broken(b"\0\x06blksize\x009000\0").contains("never asked for"));
    assert!(broken(&[&[0, 3, 0, 1][..], &[0; 513]].concat()).contains("513 bytes"));
    let (mut download, _) = Download::new(wish(1_468, 4));
    download.handle(b"\0\x06tsize\x00100\0").unwrap();
    let short = download.handle(&[&[0, 3, 0, 1][..], &[0; 7]].concat()).unwrap_err();
    assert_eq!(short.to_string(), "7 bytes came of 100");
}

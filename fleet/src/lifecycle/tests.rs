//! Boots, told as scripts: events in, phases, history and effects out.

use super::*;
use expect_test::{Expect, expect};

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn limits() -> Limits {
    Limits { deadlines: Deadlines::default(), grace_seconds: 15 }
}

fn agent(instance: &str) -> Event {
    Event::Connected {
        agent: AgentInstance { boot_id: "b".into(), instance: instance.into() },
        version: "0.1.0".into(),
        image: "debian-node@2".into(),
        address: A,
    }
}

fn fetched(file: &str) -> Event {
    Event::Fetched { file: BootFile::Program(file.into()), address: A }
}

fn initrd(image: &str) -> Event {
    Event::Fetched { file: BootFile::Initrd { image: image.into() }, address: A }
}

fn boot_script(image: &str) -> Event {
    Event::Fetched { file: BootFile::Script { image: image.into() }, address: A }
}

fn report(phase: Phase, percent: Option<u8>) -> Event {
    Event::Reported { phase, percent, message: format!("says {}", phase.as_str()) }
}

/// Runs events at seconds since the epoch and draws each step.
fn script(life: NodeLifecycle, events: Vec<(i64, Event)>) -> (NodeLifecycle, String) {
    let mut life = life;
    let mut lines = String::new();
    for (second, event) in events {
        let (next, effects) = life.step(event, Timestamp(second * 1_000_000), &limits());
        let percent = next.percent.map_or(String::new(), |percent| format!(" {percent}%"));
        let late = if next.overdue { " OVERDUE" } else { "" };
        let unproven = if next.unproven.is_some() { "?" } else { "" };
        lines += &format!("{second:<3} {}{unproven}{percent}{late}", next.shown_phase().as_str());
        for effect in effects {
            lines += &match effect {
                Effect::Record(Severity::Info, text) => format!(" | {text}"),
                Effect::Record(_, text) => format!(" | ! {text}"),
                Effect::Arming(event) => format!(" | token: {event:?}"),
                Effect::Probe => " | probe".to_owned(),
                Effect::Tell => " | told".to_owned(),
            };
        }
        lines.push('\n');
        life = next;
    }
    (life, lines)
}

fn check(events: Vec<(i64, Event)>, expected: &Expect) -> NodeLifecycle {
    let (life, lines) = script(NodeLifecycle::new(Timestamp(0)), events);
    expected.assert_eq(&lines);
    life
}

fn ready() -> NodeLifecycle {
    let events = vec![(10, Event::Offered { address: A }), (20, agent("i")), (21, stored())];
    script(NodeLifecycle::new(Timestamp(0)), events).0
}

fn stored() -> Event {
    Event::InventoryStored { changed: false, news: Vec::new() }
}

#[test]
fn from_power_on_to_ready() {
    let life = check(
        vec![
            (10, Event::Offered { address: A }),
            (11, Event::Offered { address: A }),
            (12, fetched("snponly.efi")),
            (13, Event::Offered { address: A }),
            (13, fetched("boot script")),
            (14, initrd("debian-node@2")),
            (20, Event::CertificateIssued { address: A }),
            (20, report(Phase::Stage1, None)),
            (21, report(Phase::Fetching, Some(0))),
            (22, report(Phase::Fetching, Some(250))),
            (30, report(Phase::Switching, None)),
            (37, agent("i")),
            (38, stored()),
            (99, Event::Tick),
        ],
        &expect![[r#"
            10  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
            11  offered
            12  firmware?
            13  firmware?
            13  firmware?
            14  firmware?
            20  stage1 | 10.0.0.9 fetched snponly.efi, boot script, the node's initrd | stage 1 got its certificate at 10.0.0.9
            20  stage1 | says stage1
            21  fetching 0% | says fetching
            22  fetching 100%
            30  switching | says switching
            37  enrolled | token: Connected | agent 0.1.0 connected
            38  ready | ready 28.0 s after its first request
            99  ready
        "#]],
    );
    assert_eq!(life.boot_ms, Some(28_000));
    assert_eq!(life.image.as_deref(), Some("debian-node@2"));
}

#[test]
fn a_stuck_node_is_flagged_once_and_may_boot_again() {
    check(
        vec![
            (10, Event::Offered { address: A }),
            (130, Event::Tick),
            (131, Event::Tick),
            (132, Event::Tick),
            (140, Event::Offered { address: A }),
            (141, fetched("snponly.efi")),
            (150, Event::CertificateIssued { address: A }),
            (160, report(Phase::Failed, None)),
            (170, Event::Offered { address: A }),
        ],
        &expect![[r#"
            10  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
            130 offered
            131 offered OVERDUE | ! still offered after 120 s | token: BootFailed
            132 offered OVERDUE
            140 offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
            141 firmware?
            150 stage1 | 10.0.0.9 fetched snponly.efi | stage 1 got its certificate at 10.0.0.9
            160 failed | ! says failed | token: BootFailed
            170 offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
        "#]],
    );
}

#[test]
fn a_cut_within_the_grace_changes_nothing() {
    let (life, lines) = script(
        ready(),
        vec![
            (50, Event::Disconnected { why: "cut".into() }),
            (52, fetched("boot script")),
            (64, Event::Tick),
            (64, agent("i")),
            (99, Event::Tick),
        ],
    );
    expect![[r#"
        50  ready
        52  ready
        64  ready
        64  ready | token: Connected | told
        99  ready
    "#]]
    .assert_eq(&lines);
    assert_eq!(life.since, ready().since);
}

#[test]
fn a_longer_cut_is_lost_and_comes_back() {
    let (life, lines) = script(
        ready(),
        vec![
            (50, Event::Disconnected { why: "cut".into() }),
            (65, Event::Tick),
            (66, Event::Tick),
            (70, agent("i")),
        ],
    );
    expect![[r#"
        50  ready
        65  lost | ! no word from its agent for 15 s: cut | token: ChannelGone
        66  lost
        70  ready | token: Connected | the agent is back | told
    "#]]
    .assert_eq(&lines);
    assert_eq!(life.reason, None);
}

#[test]
fn a_restarted_server_gives_the_agents_time() {
    let (_, lines) = script(
        ready(),
        vec![
            (100, Event::ServerStarted),
            (110, Event::Tick),
            (111, agent("i")),
            (200, Event::ServerStarted),
            (300, Event::ServerStarted),
            (314, Event::Tick),
            (315, Event::Tick),
        ],
    );
    expect![[r#"
        100 ready
        110 ready
        111 ready | token: Connected | told
        200 ready
        300 ready
        314 ready
        315 lost | ! no word from its agent for 15 s: the server was restarted | token: ChannelGone
    "#]]
    .assert_eq(&lines);
}

#[test]
fn an_ordered_reboot() {
    let (_, lines) = script(
        ready(),
        vec![
            (50, Event::RebootOrdered { reason: "admin".into() }),
            (51, agent("i")),
            (52, Event::GoingDown { reboot: true }),
            (52, Event::Disconnected { why: "going down".into() }),
            (60, Event::Tick),
            (70, Event::Offered { address: A }),
            (80, agent("j")),
            (
                81,
                Event::InventoryStored {
                    changed: true,
                    news: vec![(Severity::Info, "sent a new inventory".into())],
                },
            ),
        ],
    );
    expect![[r#"
        50  rebooting | reboot ordered: admin | token: Ordered
        51  rebooting | token: Connected
        52  rebooting | reboots
        52  rebooting | token: ChannelGone
        60  rebooting
        70  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
        80  enrolled | token: Connected | agent 0.1.0 connected
        81  ready | sent a new inventory | told | ready 11.0 s after its first request
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_power_off() {
    let (life, lines) = script(
        ready(),
        vec![
            (50, Event::GoingDown { reboot: false }),
            (50, Event::Disconnected { why: "going down".into() }),
            (99, Event::Tick),
        ],
    );
    expect![[r#"
        50  lost | shuts down
        50  lost | token: ChannelGone
        99  lost
    "#]]
    .assert_eq(&lines);
    assert_eq!(life.reason.as_deref(), Some("it was shut down"));
}

/// The agent cannot say good-bye, and the firmware does not wait for its grace.
#[test]
fn a_machine_whose_power_was_cut() {
    let (life, lines) = script(
        ready(),
        vec![
            (50, Event::Offered { address: A }),
            (53, Event::Disconnected { why: "no sign of life".into() }),
            (54, fetched("boot script")),
        ],
    );
    expect![[r#"
        50  ready | probe
        53  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
        54  firmware?
    "#]]
    .assert_eq(&lines);
    assert_eq!(life.phase, Phase::Offered, "who fetched it is not known");
}

#[test]
fn a_request_that_was_answered_for_long_ago_begins_no_boot() {
    let (life, _) = script(
        ready(),
        vec![
            (50, Event::Offered { address: A }),
            (70, Event::Disconnected { why: "cut".into() }),
            (71, fetched("boot script")),
        ],
    );
    assert_eq!(life.phase, Phase::Ready);
}

#[test]
fn what_anyone_can_send_changes_no_connected_node() {
    let (life, lines) = script(
        ready(),
        vec![
            (50, Event::Offered { address: A }),
            (51, fetched("boot script")),
            (52, report(Phase::Failed, None)),
        ],
    );
    expect![[r#"
        50  ready | probe
        51  ready | probe
        52  ready
    "#]]
    .assert_eq(&lines);
    assert_eq!(life.phase, Phase::Ready);
}

#[test]
fn a_new_agent_must_send_its_inventory_again() {
    let (_, lines) = script(ready(), vec![(50, agent("j")), (51, stored()), (52, stored())]);
    expect![[r#"
        50  enrolled | token: Connected | agent 0.1.0 connected
        51  ready | ready
        52  ready
    "#]]
    .assert_eq(&lines);
}

/// Lives at all points of their way.
fn lives() -> Vec<NodeLifecycle> {
    let ways: [Vec<(i64, Event)>; 8] = [
        vec![],
        vec![(10, Event::Offered { address: A })],
        vec![(10, Event::Offered { address: A }), (20, Event::CertificateIssued { address: A })],
        vec![(10, Event::CertificateIssued { address: A }), (20, report(Phase::Failed, None))],
        vec![(10, agent("i")), (11, stored())],
        vec![(10, agent("i")), (11, stored()), (12, Event::Disconnected { why: "w".into() })],
        vec![
            (10, agent("i")),
            (11, stored()),
            (12, Event::Disconnected { why: "w".into() }),
            (90, Event::Tick),
        ],
        vec![
            (10, agent("i")),
            (11, Event::RebootOrdered { reason: "r".into() }),
            (12, Event::Disconnected { why: "w".into() }),
        ],
    ];
    ways.map(|way| script(NodeLifecycle::new(Timestamp(0)), way).0).into()
}

#[test]
fn files_fetched_in_a_nodes_name_change_nothing_that_is_kept() {
    for before in lives() {
        let mut life = before.clone();
        for number in 0..1_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number % 7).into());
            let file = match number % 3 {
                0 => BootFile::Program(format!("{number}.efi")),
                1 => BootFile::Script { image: "d@9".into() },
                _ => BootFile::Initrd { image: "d@9".into() },
            };
            let now = Timestamp(100_000_000 + i64::from(number) * 100_000);
            let (next, effects) = life.step(Event::Fetched { file, address }, now, &limits());
            assert!(effects.iter().all(|effect| *effect == Effect::Probe), "{effects:?}");
            life = next;
        }
        let kept = |life: &NodeLifecycle| serde_json::to_string(life).unwrap();
        assert_eq!(kept(&life), kept(&before));
        assert!(life.unproven.as_ref().is_none_or(|unproven| unproven.files.len() <= 8));
        let (shown, was) = (life.shown_phase(), before.phase);
        let may_change = matches!(was, Phase::Unseen | Phase::Offered | Phase::Rebooting);
        assert!(shown == was || (may_change && shown == Phase::Firmware), "{was:?} {shown:?}");
        let image = life.status(true, &Deadlines::default()).image;
        assert_eq!(image, before.image);
        let forgotten = life.step(Event::Tick, Timestamp(900_000_000), &limits()).0;
        assert_eq!(forgotten.unproven, None);
    }
}

#[test]
fn what_is_shown_of_files_changes_once_a_second_or_with_a_boot_that_gets_further() {
    let mut life = NodeLifecycle::new(Timestamp(0));
    let mut changes = 0;
    for number in 0..1_000_u32 {
        let before = life.status(true, &Deadlines::default());
        let address = IpAddr::V4((0x0a00_0000 + number).into());
        let file = BootFile::Program("snponly.efi".into());
        let now = Timestamp(i64::from(number) * 10_000);
        life = life.step(Event::Fetched { file, address }, now, &limits()).0;
        changes += u32::from(life.status(true, &Deadlines::default()) != before);
    }
    assert_eq!(changes, 10, "in ten seconds");
    let now = Timestamp(10_000_000);
    for (file, shown) in [
        (BootFile::Script { image: "d@1".into() }, "iPXE script"),
        (BootFile::Initrd { image: "d@1".into() }, "the node's initrd"),
    ] {
        life = life.step(Event::Fetched { file, address: A }, now, &limits()).0;
        let unproven = life.status(true, &Deadlines::default()).unproven.unwrap();
        assert_eq!((unproven.file.as_str(), unproven.address), (shown, A));
    }
}

#[test]
fn a_boot_of_which_only_files_were_seen_begins_with_its_certificate() {
    let life = check(
        vec![
            (10, boot_script("d@1")),
            (12, initrd("d@1")),
            (19, Event::TokenShown { image: "d@1".into() }),
            (20, Event::CertificateIssued { address: A }),
            (37, agent("i")),
            (38, stored()),
        ],
        &expect![[r#"
            10  firmware?
            12  firmware?
            19  firmware?
            20  stage1 | 10.0.0.9 fetched iPXE script, the node's initrd | stage 1 got its certificate at 10.0.0.9
            37  enrolled | token: Connected | agent 0.1.0 connected
            38  ready | ready 28.0 s after its first request
        "#]],
    );
    assert_eq!(life.boot_ms, Some(28_000));
    let there = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 66));
    let of_another = vec![
        (10, Event::Fetched { file: BootFile::Script { image: "d@1".into() }, address: there }),
        (20, Event::CertificateIssued { address: A }),
    ];
    let (life, lines) = script(NodeLifecycle::new(Timestamp(0)), of_another);
    assert_eq!(lines, "10  firmware?\n20  stage1 | stage 1 got its certificate at 10.0.0.9\n");
    assert_eq!(life.boot_started, Some(Timestamp(20_000_000)));
}

#[test]
fn a_drain_outlives_boots_and_changes_no_phase() {
    let drained = |reason: &str| Event::Drained { reason: reason.into(), by: "root".into() };
    let (life, lines) = script(
        ready(),
        vec![
            (30, drained("new memory")),
            (31, drained("new memory and fans")),
            (40, Event::GoingDown { reboot: true }),
            (45, Event::Disconnected { why: "gone".into() }),
            (50, Event::Offered { address: A }),
        ],
    );
    expect![[r#"
        30  ready | drained by root: new memory
        31  ready | drained by root: new memory and fans
        40  rebooting | reboots
        45  rebooting | token: ChannelGone
        50  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
    "#]]
    .assert_eq(&lines);
    let drain = life.status(false, &Deadlines::default()).drain.unwrap();
    assert_eq!(
        (drain.reason.as_str(), drain.since),
        ("new memory and fans", Timestamp(30_000_000))
    );
    let (life, lines) = script(
        life,
        vec![
            (60, Event::Undrained { by: "root".into() }),
            (61, Event::Undrained { by: "root".into() }),
        ],
    );
    assert_eq!(lines, "60  offered | undrained by root\n61  offered\n");
    assert_eq!(life.drain, None);
}

/// The images in use after each event.
fn uses(life: &mut NodeLifecycle, events: Vec<(i64, Event)>) -> String {
    let mut lines = String::new();
    for (second, event) in events {
        *life = life.step(event, Timestamp(second * 1_000_000), &limits()).0;
        let images: Vec<&str> = life.images_in_use(Timestamp(second * 1_000_000)).collect();
        let line = format!("{second:<4} {:<9} {}", life.shown_phase().as_str(), images.join(" "));
        lines += &format!("{}\n", line.trim_end());
    }
    lines
}

#[test]
fn an_image_is_in_use_from_its_script_until_the_machine_is_at_its_firmware_again() {
    let mut life = NodeLifecycle::new(Timestamp(0));
    let deadline = i64::try_from(Deadlines::default().of(Phase::Firmware).unwrap()).unwrap();
    let events = vec![
        (10, Event::Offered { address: A }),
        (11, fetched("snponly.efi")),
        (12, boot_script("d@1")),
        (13, initrd("d@2")),
        (20, Event::TokenShown { image: "d@2".into() }),
        (20, Event::CertificateIssued { address: A }),
        (21, report(Phase::Fetching, Some(0))),
        (30, report(Phase::Switching, None)),
        (37, agent("i")),
        (38, stored()),
        (40, Event::RebootOrdered { reason: "r".into() }),
        (41, Event::GoingDown { reboot: true }),
        (42, Event::Disconnected { why: "w".into() }),
        (50, Event::Offered { address: A }),
        (51, boot_script("d@3")),
        (52 + deadline, Event::Tick),
        (53 + deadline, boot_script("d@3")),
        (54 + deadline, initrd("d@3")),
        (55 + deadline, report(Phase::Failed, None)),
    ];
    expect![[r#"
        10   offered
        11   firmware
        12   firmware  d@1
        13   firmware  d@2
        20   firmware  d@2
        20   stage1    d@2
        21   fetching  d@2
        30   switching d@2
        37   enrolled  debian-node@2
        38   ready     debian-node@2
        40   rebooting debian-node@2
        41   rebooting debian-node@2
        42   rebooting debian-node@2
        50   offered
        51   firmware  d@3
        232  firmware  d@3
        233  firmware  d@3
        234  firmware  d@3
        235  failed
    "#]]
    .assert_eq(&uses(&mut life, events));
}

#[test]
fn a_node_that_does_not_answer_may_still_run_its_image() {
    let mut life = ready();
    let events = vec![
        (30, Event::Disconnected { why: "w".into() }),
        (99, Event::Tick),
        // Anybody on its network may ask for its script: that is no proof that it boots.
        (100, boot_script("d@3")),
        (101, agent("i")),
        (110, Event::GoingDown { reboot: false }),
        (111, Event::Disconnected { why: "w".into() }),
    ];
    expect![[r#"
        30   ready     debian-node@2
        99   lost      debian-node@2
        100  lost      debian-node@2 d@3
        101  ready     debian-node@2
        110  lost
        111  lost
    "#]]
    .assert_eq(&uses(&mut life, events));
    // As the server finds it on its disk.
    let life = ready();
    let text = serde_json::to_string(&life).unwrap();
    let again: NodeLifecycle = serde_json::from_str(&text).unwrap();
    assert_eq!(again.images_in_use(Timestamp(0)).collect::<Vec<_>>(), ["debian-node@2"]);
    // Releases before kept what had been fetched.
    let mut tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields = tree.as_object_mut().unwrap();
    assert!(fields.remove("image-unknown").is_some());
    fields.insert("files".into(), 3.into());
    fields.insert("script-image".into(), "d@1".into());
    assert_eq!(serde_json::from_value::<NodeLifecycle>(tree).unwrap(), again);
}

#[test]
fn what_cannot_be_read_may_run_any_image() {
    let life = NodeLifecycle::new(Timestamp(0));
    let (life, _) = life.step(Event::Unreadable { cause: "c".into() }, Timestamp(1), &limits());
    let (started, hours_later) = (Timestamp(0), Timestamp(0).plus_seconds(9_999));
    assert!(life.may_run_any_image(started, hours_later));
    let (connected, _) = life.step(agent("i"), Timestamp(2), &limits());
    let (offered, _) = life.step(Event::Offered { address: A }, Timestamp(2), &limits());
    for known in [connected, offered] {
        assert!(!known.may_run_any_image(started, hours_later));
    }
}

#[test]
fn what_booted_when_the_server_was_started_may_boot_any_image_as_long_as_a_token_is_good() {
    let started = Timestamp(0).plus_seconds(100);
    let any = |life: &NodeLifecycle, second: i64| {
        life.may_run_any_image(started, started.plus_seconds(second))
    };
    let booting = |events: Vec<(i64, Event)>| {
        let life = script(NodeLifecycle::new(Timestamp(0)), events).0;
        // As the server finds it on its disk.
        let life: NodeLifecycle =
            serde_json::from_str(&serde_json::to_string(&life).unwrap()).unwrap();
        assert_eq!(life.images_in_use(started).next(), None, "what was fetched is forgotten");
        life.step(Event::ServerStarted, started, &limits()).0
    };
    let unseen = booting(vec![(12, boot_script("d@1"))]);
    let offered = booting(vec![(95, Event::Offered { address: A }), (96, boot_script("d@1"))]);
    for life in [&unseen, &offered] {
        // The seconds before the start: a clock that was set back.
        assert_eq!([0, 599, 600, -1].map(|second| any(life, second)), [true, true, false, false]);
    }
    let (again, _) =
        offered.step(Event::Offered { address: A }, started.plus_seconds(1), &limits());
    assert!(any(&again, 2), "the same boot asks again for its address");
    let later = started.plus_seconds(5);
    for known in [agent("i"), Event::CertificateIssued { address: A }] {
        let (life, _) = offered.step(known.clone(), later, &limits());
        assert!(!any(&life, 5), "{known:?}");
    }
    let added = NodeLifecycle::new(later);
    let (begun, _) = added.step(Event::Offered { address: A }, later, &limits());
    assert!(!any(&added, 5) && !any(&begun, 5), "all that they fetched is known");
    let rebooting = NodeLifecycle { phase: Phase::Rebooting, ..ready() };
    assert!(any(&rebooting, 5));
    assert!(!any(&ready(), 5), "its agent comes back, or it is at its firmware");
}

proptest::proptest! {
    /// Whatever nodes and people say, what is kept and told of it is a line.
    #[test]
    fn what_nodes_and_people_say_is_clean(text in "(?s:.)*") {
        let (reason, by, why) = (text.clone(), text.clone(), text.clone());
        let agent = AgentInstance { boot_id: text.clone(), instance: text.clone() };
        let events = vec![
            (10, Event::Reported { phase: Phase::Failed, percent: None, message: text.clone() }),
            (11, Event::Connected { agent, version: text.clone(), image: text.clone(), address: A }),
            (12, Event::Refuses { reason: Some(text.clone()) }),
            (13, Event::Drained { reason, by }),
            (14, Event::Held { cause: Some(text.clone()) }),
            (15, Event::InventoryStored { changed: true, news: vec![(Severity::Warning, text.clone())] }),
            (16, Event::RebootOrdered { reason: text.clone() }),
            (17, Event::Disconnected { why }),
        ];
        let mut life = NodeLifecycle::new(Timestamp(0));
        for (second, event) in events {
            let (next, effects) = life.step(event, Timestamp(second * 1_000_000), &limits());
            for effect in effects {
                if let Effect::Record(_, line) = effect {
                    proptest::prop_assert!(!line.contains(api::visible::is_hidden), "{line:?}");
                }
            }
            let status = next.status(true, &Deadlines::default());
            let shown = [status.reason, status.image, status.agent_version, status.held, status.refuses];
            let drain = status.drain.into_iter().flat_map(|drain| [drain.reason, drain.by]);
            for text in shown.into_iter().flatten().chain(drain) {
                proptest::prop_assert!(!text.contains(api::visible::is_hidden), "{text:?}");
                proptest::prop_assert!(text.chars().count() <= 500);
            }
            life = next;
        }
    }
}

proptest::proptest! {
    /// What is found to move nothing without a step moves nothing, and of files that are fetched
    /// again and again all but the first of each second are found.
    #[test]
    fn what_moves_nothing_is_found_without_a_step(
        steps in proptest::collection::vec((-2_i64..1_200, 0_usize..9, proptest::bool::ANY), 1..40),
    ) {
        let (mut life, mut now) = (NodeLifecycle::new(Timestamp(0)), Timestamp(0));
        for (tenths, which, is_other) in steps {
            // Steps of less than a second, and of minutes.
            now = Timestamp(now.0 + if tenths < 60 { tenths * 100_000 } else { tenths * 1_000_000 });
            let address = if is_other { IpAddr::from([10, 0, 0, 66]) } else { A };
            let of = |file| Event::Fetched { file, address };
            let event = match which {
                0 => Event::Offered { address },
                1 => of(BootFile::Program("snponly.efi".into())),
                2 => of(BootFile::Script { image: "d@1".into() }),
                3 => of(BootFile::Script { image: "d@2".into() }),
                4 => of(BootFile::Initrd { image: "d@2".into() }),
                5 => Event::CertificateIssued { address },
                6 => agent("i"),
                7 => Event::Disconnected { why: "it fell".into() },
                _ => Event::Tick,
            };
            for again in [false, true] {
                let is_unmoved = life.is_unmoved_by(&event, now);
                let (next, effects) = life.step(event.clone(), now, &limits());
                let is_same = next == life && effects.is_empty();
                proptest::prop_assert!(is_same || !is_unmoved, "{event:?} moves {life:?}");
                let is_script = matches!(which, 1..=3);
                let is_found = is_unmoved || life.presence == Presence::Connected;
                proptest::prop_assert!(is_found || !(again && is_script), "{event:?} again in {life:?}");
                life = next;
            }
        }
    }
}

#[test]
fn a_stage_1_that_keeps_silent_is_told_once_and_until_the_node_is_heard() {
    let fetching = vec![
        (10, Event::Offered { address: A }),
        (11, boot_script("d@1")),
        (12, initrd("d@1")),
        (311, Event::Tick),
        (312, Event::Tick),
        (313, Event::Tick),
    ];
    let life = check(
        fetching,
        &expect![[r"
            10  offered | token: ChannelGone | token: BootSeen | got 10.0.0.9
            11  firmware?
            12  firmware?
            311 firmware? OVERDUE | ! still firmware after 180 s | token: BootFailed
            312 firmware? OVERDUE | ! kernel and initramfs were fetched at 1970-01-01T00:00:12Z, and stage 1 has not spoken since (unproven: only the address that asked is known): likely too little memory, a kernel that does not suit this machine, or no driver for its network; look at its console
            313 firmware? OVERDUE
        "]],
    );
    let reason = |life: &NodeLifecycle| life.status(true, &Deadlines::default()).reason;
    let told = reason(&life).unwrap();
    assert!(told.starts_with("kernel and initramfs were fetched at "), "{told}");
    let again: NodeLifecycle =
        serde_json::from_str(&serde_json::to_string(&life).unwrap()).unwrap();
    assert_eq!(reason(&again), None, "what nobody has proved is not on disk");
    for heard in [
        Event::CertificateIssued { address: A },
        report(Phase::Stage1, None),
        agent("i"),
        Event::Offered { address: A },
        initrd("d@1"),
    ] {
        let (next, _) = life.step(heard.clone(), Timestamp(320_000_000), &limits());
        assert_eq!(reason(&next), None, "{heard:?}");
    }
    // Anybody can ask for the script.
    let (next, _) = life.step(fetched("snponly.efi"), Timestamp(320_000_000), &limits());
    assert!(reason(&next).is_some());
}

#[test]
fn a_boot_that_has_not_fetched_all_its_files_is_only_stuck() {
    let mut life = NodeLifecycle::new(Timestamp(0));
    for (second, event) in [
        (9, Event::Offered { address: A }),
        (10, boot_script("d@1")),
        (400, Event::Tick),
        (500, Event::Tick),
    ] {
        life = life.step(event, Timestamp(second * 1_000_000), &limits()).0;
    }
    let status = life.status(true, &Deadlines::default());
    assert_eq!((status.reason, status.overdue_seconds), (None, Some(180)));
    // Nor is one whose stage 1 has spoken.
    for (second, event) in
        [(501, initrd("d@1")), (502, Event::CertificateIssued { address: A }), (1_600, Event::Tick)]
    {
        life = life.step(event, Timestamp(second * 1_000_000), &limits()).0;
    }
    assert_eq!(
        (life.phase, life.status(true, &Deadlines::default()).reason),
        (Phase::Stage1, None)
    );
}

#[test]
fn a_refused_token_holds_a_node_until_it_gets_one_or_is_armed() {
    let refused = || Event::TokenRefused { cause: Some("the token has expired".to_owned()) };
    let held = |life: &NodeLifecycle| life.status(true, &Deadlines::default()).held;
    let now = Timestamp(20_000_000);
    let booting =
        script(NodeLifecycle::new(Timestamp(0)), vec![(10, Event::Offered { address: A })]).0;
    let (refused_once, effects) = booting.step(refused(), now, &limits());
    assert_eq!((held(&refused_once).as_deref(), effects), (Some("the token has expired"), vec![]));
    assert_eq!(refused_once.last_seen, booting.last_seen, "that it was the node is not proved");
    let again: NodeLifecycle =
        serde_json::from_str(&serde_json::to_string(&refused_once).unwrap()).unwrap();
    assert_eq!(held(&again), held(&refused_once), "as the next server finds it");
    let held_too = Event::Held { cause: Some("overlay x: too large".to_owned()) };
    let (both, _) = refused_once.step(held_too, now, &limits());
    assert_eq!(held(&both).as_deref(), Some("the token has expired; overlay x: too large"));
    for over in [
        initrd("d@1"),
        Event::CertificateIssued { address: A },
        agent("i"),
        Event::TokenRefused { cause: None },
    ] {
        let (next, _) = refused_once.step(over.clone(), now, &limits());
        assert_eq!(held(&next), None, "{over:?}");
    }
    for not_over in [Event::Offered { address: A }, boot_script("d@1"), Event::Tick] {
        let (next, _) = refused_once.step(not_over.clone(), now, &limits());
        assert!(held(&next).is_some(), "{not_over:?}");
    }
    // Who has stolen the token of a node that runs holds nobody.
    let (runs, _) = ready().step(refused(), Timestamp(30_000_000), &limits());
    assert_eq!(held(&runs), None);
}

//! The clock of the machine, set by the server's before the first TLS: once in a boot, by stage 1
//! alone.
//!
//! A board whose battery is empty is years behind, one that was set to local time or by another
//! system is ahead; either way certificates do not fit, and no job can talk to anybody. So a clock
//! that is behind the server's, or ahead by more than [`TOLERANCE_SECONDS`], is set to it.
//!
//! What the server says of its time comes over plain HTTP, with the kernel and the per-node initrd.
//! That is no weaker than what rests on it: whoever can change this time can change the CA's
//! fingerprint beside it, and the kernel itself. Who cannot must still show a certificate of that
//! very CA, whose private key leaves the server never and whose certificates for nodes live a day.
//! A certificate of the server that was stolen and has expired could be brought back to life only
//! by who owns the boot traffic anyway. The agent never sets the clock: on a running node, what
//! moves it is the site's NTP.

use api::ids::Timestamp;

use crate::clock;

/// A clock that is less ahead is left alone, seconds. From the rendering of the initrd to the start
/// of the kernel pass the transfer of stage 1 and the firmware's pauses, which nobody measures; a
/// token lives as long as this, so a boot that takes longer fails anyway.
const TOLERANCE_SECONDS: i64 = 600;

/// 2026-01-01. A server's clock before it was never set, and nobody is set by it.
const EARLIEST_SECONDS: i64 = 1_767_225_600;

/// What is to be done with the clock, and the words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It is as right as can be told.
    Right,
    /// The server's clock was never set.
    ServerUnset,
    /// Set it to this many seconds since 1970.
    Set { seconds: i64, ahead: bool },
}

/// What is to be done. `now`: this machine's clock; `told`: the server's when it rendered the boot;
/// `uptime`: time since the kernel started, which is less than what has passed since then. All in
/// seconds.
fn judge(now: i64, told: i64, uptime: i64) -> Verdict {
    if told < EARLIEST_SECONDS {
        return Verdict::ServerUnset;
    }
    let seconds = told.saturating_add(uptime);
    if now < told {
        Verdict::Set { seconds, ahead: false }
    } else if now.saturating_sub(seconds) > TOLERANCE_SECONDS {
        Verdict::Set { seconds, ahead: true }
    } else {
        Verdict::Right
    }
}

/// Sets the clock if it is wrong. `told`: the server's time, seconds since 1970. Gives the line for
/// console and server if there is something to tell.
///
/// # Errors
/// The kernel refuses the time.
pub fn set(told: i64) -> linux::Result<Option<String>> {
    let now = clock::now();
    let uptime = i64::try_from(clock::uptime_seconds()).unwrap_or(0);
    let verdict = judge(now.seconds(), told, uptime);
    if let Verdict::Set { seconds, .. } = verdict {
        linux::clock::set_realtime(seconds)?;
    }
    Ok(words(&verdict, now, told))
}

fn words(verdict: &Verdict, now: Timestamp, told: i64) -> Option<String> {
    let moment = |seconds: i64| Timestamp(0).plus_seconds(seconds);
    match verdict {
        Verdict::Right => None,
        Verdict::ServerUnset => Some(format!(
            "the server's clock says {} and was never set: set it there; this one's is left at {now}",
            moment(told)
        )),
        Verdict::Set { seconds, ahead } => {
            let (side, to) = (if *ahead { "ahead of" } else { "behind" }, moment(*seconds));
            let apart = clock::apart(now.seconds().abs_diff(*seconds));
            Some(format!("the clock was {apart} {side} the server's: set from {now} to {to}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_once_to_the_servers_whichever_way_it_is_wrong() {
        const TOLD: i64 = 1_795_464_000;
        let day = 86_400;
        let mut text = String::new();
        for (what, now, told) in [
            ("right", TOLD + 45, TOLD),
            ("slow firmware", TOLD + 45 + 600, TOLD),
            ("local time", TOLD + 45 + 7_200, TOLD),
            ("a year ahead", TOLD + 365 * day, TOLD),
            ("the end of time", i64::MAX, TOLD),
            ("a little behind", TOLD - 1, TOLD),
            ("no battery", 978_307_200, TOLD),
            ("the server was never set", TOLD, 5),
        ] {
            let verdict = judge(now, told, 45);
            let now = Timestamp(0).plus_seconds(now.min(1 << 33));
            let told = words(&verdict, now, told).unwrap_or_else(|| "left alone".to_owned());
            text += &format!("{what}: {told}\n");
        }
        expect_test::expect![[r#"
            right: left alone
            slow firmware: left alone
            local time: the clock was 2 h ahead of the server's: set from 2026-11-23T22:00:45Z to 2026-11-23T20:00:45Z
            a year ahead: the clock was 364 days ahead of the server's: set from 2027-11-23T20:00:00Z to 2026-11-23T20:00:45Z
            the end of time: the clock was 78639 days ahead of the server's: set from 2242-03-16T12:56:32Z to 2026-11-23T20:00:45Z
            a little behind: the clock was 46 s behind the server's: set from 2026-11-23T19:59:59Z to 2026-11-23T20:00:45Z
            no battery: the clock was 9457 days behind the server's: set from 2001-01-01T00:00:00Z to 2026-11-23T20:00:45Z
            the server was never set: the server's clock says 1970-01-01T00:00:05Z and was never set: set it there; this one's is left at 2026-11-23T20:00:00Z
        "#]]
        .assert_eq(&text);
        // What was set is not set again.
        assert_eq!(judge(TOLD + 45, TOLD, 45), Verdict::Right);
        assert_eq!(judge(TOLD + 50, TOLD, 50), Verdict::Right);
    }
}

//! The home of the clock: measuring, and waiting with a name and a deadline.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::bail;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What `work` gave, and how many seconds it took.
///
/// # Errors
/// Those of `work`.
pub fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let start = now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64()))
}

/// Sleeps.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Looks every `poll` until there is something, or the limit has passed; the error names what
/// was waited for.
///
/// # Errors
/// Those of `look` at once; otherwise that `what` did not come in time.
pub fn wait_every<T>(
    poll: Duration,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        pause(poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_named() {
        let (poll, limit) = (Duration::from_millis(1), Duration::from_millis(5));
        let mut looks = 0;
        let found = wait_every(poll, "the third look", Duration::MAX, || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
        let late = wait_every::<()>(poll, "Godot", limit, || Ok(None)).unwrap_err();
        assert_eq!(late.to_string(), "waited 0 s for Godot");
        let broken =
            wait_every::<()>(poll, "Godot", Duration::MAX, || bail!("no road")).unwrap_err();
        assert_eq!(broken.to_string(), "no road");
    }
}

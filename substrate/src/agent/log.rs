//! The agent's log: one line per event on standard output. Under systemd each line starts with its
//! priority (`<4>`, sd-daemon(3)), which the journal takes off again; elsewhere with its level. No
//! colours, no time: the journal has both. Whatever text of others a message holds, it is one line
//! ([`api::visible`]).

use std::fmt;

use api::visible;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Starts logging. `BEDPLATE_LOG` chooses what (`debug`, `substrate=trace`); `info` if unset.
pub fn start() {
    let wanted =
        std::env::var("BEDPLATE_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).event_format(Lines { journal });
    // A program that has its own subscriber keeps it.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

struct Lines {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            write!(writer, "{level:>5} ")?;
        }
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", visible::line(&text))
    }
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

//! The server's own messages, on standard error.
//!
//! They hold text of others: names of files that somebody asked for, what a node or a registry
//! said. One place, [`OneLine`], sees to it that a message is one line and does nothing to a
//! terminal ([`api::visible`]). As JSON a message keeps what it holds: JSON escapes it.

use std::{fmt, io::IsTerminal as _};

use api::visible;
use tracing_subscriber::{
    field::RecordFields,
    filter::Targets,
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::Log;

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(log: &Log) {
    // The level was checked with the configuration.
    let registry =
        tracing_subscriber::registry().with(log.level.parse::<Targets>().unwrap_or_default());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _already_started = if log.json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        let lines = lines.with_ansi(std::io::stderr().is_terminal()).fmt_fields(OneLine::default());
        registry.with(lines).try_init()
    };
}

/// The message and the values of an event or a span, on one line.
#[derive(Debug, Default)]
struct OneLine(DefaultFields);

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        // Without colours: they would be escaped too.
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&visible::line(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .fmt_fields(OneLine::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_message_keeps_its_words_and_its_line() {
        let file = "x\n2026-11-30T22:00:00Z  INFO fleet: node n1 enrolled";
        let text = logged(|| tracing::warn!(file, "asked for \x1b[2J{file}"));
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.contains("asked for \\x1b[2Jx\\n2026-11-30T22:00:00Z"), "{text:?}");
    }

    proptest! {
        #[test]
        fn no_text_forges_a_line_of_the_log(text in "(?s:.)*", value in "(?s:.)*") {
            let logged = logged(|| {
                let span = tracing::info_span!("request", path = %text);
                let _entered = span.enter();
                tracing::info!(node = %value, quoted = ?value, "{text}");
            });
            prop_assert_eq!(logged.matches('\n').count(), 1);
            prop_assert!(logged.ends_with('\n'));
            prop_assert!(!logged.trim_end_matches('\n').contains(visible::is_hidden));
        }
    }
}

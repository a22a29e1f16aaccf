//! The text of a scrape: OpenMetrics 1.0 (the format of Prometheus with units,
//! `_total` and an end).
//!
//! ```text
//! # HELP bedplate_http_requests Requests that were answered.
//! # TYPE bedplate_http_requests counter
//! bedplate_http_requests_total{method="GET"} 17
//! # EOF
//! ```
//!
//! A family is written once, with all its samples, because the format allows no second part of it.

use std::{fmt::Write as _, time::Duration};

use crate::{Counter, Counters, Gauge, Histogram, Work};

/// Labels of a sample: name and value. Names are constants of the program.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Units of the base that a name may end with.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// A value of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Counts and sizes.
    Whole(u64),
    /// Gauges.
    Signed(i64),
    /// Seconds and their like; finite.
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<bool> for Number {
    fn from(is_so: bool) -> Self {
        Self::Whole(is_so.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<Duration> for Number {
    fn from(duration: Duration) -> Self {
        Self::Real(duration.as_secs_f64())
    }
}

/// The text of one scrape while it is made.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// A text without metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A family of counters. `name` without `_total`; `help` is a sentence.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, help, "counter", "_total")
    }

    /// A family of gauges.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, help, "gauge", "")
    }

    /// A family of histograms. `name` ends with `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, help, "histogram", "")
    }

    /// What is known about something for good, as labels of one sample. `name` without `_info`.
    pub fn info(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>) {
        self.family(name, help, "info", "_info").sample(labels, 1_u64);
    }

    /// The three families of a kind of work, by their names and what they tell of it.
    pub fn work<const N: usize>(
        &mut self,
        names: [(&'static str, &'static str); 3],
        work: &Work<N>,
    ) {
        let [running, ended, took] = names;
        self.gauge(running.0, running.1).level(&work.running);
        self.counter(ended.0, ended.1).counts("outcome", &work.ended);
        self.histogram(took.0, took.1).buckets(&[], &work.took);
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        suffix: &'static str,
    ) -> Family<'_> {
        debug_assert!(is_name(name) && !help.contains(['\n', '\\', '"']), "{name}: {help}");
        let text = &mut self.text;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if let Some(unit) = UNITS.iter().find(|unit| name.ends_with(*unit)) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        Family { text, name, suffix }
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

/// A family whose samples are being written. No two of them may have the same labels.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    suffix: &'static str,
}

impl Family<'_> {
    /// A sample of a counter or gauge.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Number>) -> &mut Self {
        self.line(self.suffix, labels, None, value.into());
        self
    }

    /// The sample of a family that has one.
    pub fn value(&mut self, value: impl Into<Number>) {
        self.sample(&[], value);
    }

    /// The sample of a counter.
    pub fn count(&mut self, counter: &Counter) {
        self.value(counter.get());
    }

    /// A sample for each word of a label.
    pub fn counts<const N: usize>(&mut self, label: &'static str, counters: &Counters<N>) {
        for (word, count) in counters.get() {
            self.sample(&[(label, word)], count);
        }
    }

    /// The sample of a gauge.
    pub fn level(&mut self, gauge: &Gauge) {
        self.value(gauge.get());
    }

    /// The samples of a histogram: its buckets, count and sum.
    pub fn buckets(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        let mut count = 0;
        for (bound, below) in histogram.cumulative() {
            // As the format wants it: `1.0`, and not `inf`.
            let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
            self.line("_bucket", labels, Some(&bound), Number::Whole(below));
            count = below;
        }
        self.line("_count", labels, None, Number::Whole(count));
        self.line("_sum", labels, None, histogram.sum().into());
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: Number) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut opening = '{';
        for (name, value) in labels {
            self.text.push(opening);
            opening = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        let end = if opening == ',' { "} " } else { " " };
        self.text.push_str(end);
        let _ = match value {
            Number::Whole(number) => writeln!(self.text, "{number}"),
            Number::Signed(number) => writeln!(self.text, "{number}"),
            Number::Real(number) => writeln!(self.text, "{number}"),
        };
    }
}

/// What a node or a person named may be anything; nothing of it may end the value.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

fn is_name(name: &str) -> bool {
    let reserved = ["_total", "_info", "_bucket", "_count", "_sum", "_created"];
    name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        && !reserved.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_read_as_the_format_wants_them() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        let (counters, histogram) = (Counters::new(["in", "out"]), Histogram::new(&[0.001, 1.0]));
        counter.add(3);
        gauge.set(-2);
        counters.inc("out");
        histogram.observe(Duration::from_millis(500));
        histogram.observe(Duration::from_secs(2));
        let mut out = Exposition::new();
        out.info("build", "What runs.", &[("version", "0.1.0")]);
        out.counter("sent_bytes", "Bytes that were sent.").count(&counter);
        out.counter("packets", "Packets.").counts("direction", &counters);
        out.gauge("balance", "A gauge.").level(&gauge);
        out.gauge("nothing", "A family without samples.");
        out.histogram("took_seconds", "How long it took.")
            .buckets(&[("what", "a\"b\\c\nd")], &histogram);
        expect_test::expect![[r#"
            # HELP build What runs.
            # TYPE build info
            build_info{version="0.1.0"} 1
            # HELP sent_bytes Bytes that were sent.
            # TYPE sent_bytes counter
            # UNIT sent_bytes bytes
            sent_bytes_total 3
            # HELP packets Packets.
            # TYPE packets counter
            packets_total{direction="in"} 0
            packets_total{direction="out"} 1
            # HELP balance A gauge.
            # TYPE balance gauge
            balance -2
            # HELP nothing A family without samples.
            # TYPE nothing gauge
            # HELP took_seconds How long it took.
            # TYPE took_seconds histogram
            # UNIT took_seconds seconds
            took_seconds_bucket{what="a\"b\\c\nd",le="0.001"} 0
            took_seconds_bucket{what="a\"b\\c\nd",le="1.0"} 1
            took_seconds_bucket{what="a\"b\\c\nd",le="+Inf"} 2
            took_seconds_count{what="a\"b\\c\nd"} 2
            took_seconds_sum{what="a\"b\\c\nd"} 2.5
            # EOF
        "#]]
        .assert_eq(&out.finish());
    }

    proptest::proptest! {
        /// Whatever a label says, its sample is one line, and the value comes back.
        #[test]
        fn a_label_cannot_leave_its_quotes(value in "[\\\\\"\n}{ =,a-z0-9é]{0,40}") {
            let mut out = Exposition::new();
            out.gauge("x", "X.").sample(&[("label", &value)], 7_u64);
            let text = out.finish();
            let lines: Vec<&str> = text.lines().collect();
            proptest::prop_assert_eq!(lines.len(), 4);
            let quoted = lines[2].strip_prefix("x{label=\"").and_then(|rest| rest.strip_suffix("\"} 7"));
            let mut read = String::new();
            let mut characters = quoted.unwrap().chars();
            while let Some(character) = characters.next() {
                proptest::prop_assert!(character != '"');
                read.push(match character {
                    '\\' => match characters.next().unwrap() { 'n' => '\n', other => other },
                    other => other,
                });
            }
            proptest::prop_assert_eq!(read, value);
        }
    }
}

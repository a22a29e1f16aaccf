//! A reader of OpenMetrics text that takes nothing but what the specification has, and less where
//! the server promises more: each family with HELP and TYPE, units of the base, histograms that add
//! up.

use std::collections::{BTreeMap, BTreeSet};

/// All families by name.
pub(crate) type Families = BTreeMap<String, Family>;

/// One family.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: Option<String>,
    pub(crate) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Sample {
    /// What follows the family's name: `_total`, `_bucket`.
    suffix: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Family {
    /// The name that people write in a query.
    pub(crate) fn shown_name(&self, name: &str) -> String {
        match self.kind.as_str() {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        }
    }
}

/// Reads a scrape.
///
/// # Errors
/// The first line that is not as it should be.
pub(crate) fn parse(text: &str) -> Result<Families, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with `# EOF`")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("`# EOF` is on no line of its own".to_owned());
    }
    let mut families = Families::new();
    let mut current = String::new();
    for line in body.lines() {
        let read = match line.strip_prefix("# ") {
            Some(descriptor) => describe(&mut families, &mut current, descriptor),
            None => sample(&mut families, &current, line),
        };
        read.map_err(|why| format!("{why}: {line}"))?;
    }
    for (name, family) in &families {
        check(name, family).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(families)
}

/// HELP, TYPE and UNIT, in this order, before any sample.
fn describe(families: &mut Families, current: &mut String, descriptor: &str) -> Result<(), String> {
    let mut words = descriptor.splitn(3, ' ');
    let (keyword, name) = (words.next().unwrap_or_default(), words.next().ok_or("no name")?);
    let rest = words.next().ok_or("nothing is said")?;
    if keyword == "HELP" {
        if !is_name(name) || families.contains_key(name) {
            return Err("no name of a family, or one that there was".to_owned());
        }
        if !rest.ends_with('.') || rest.contains(['\\', '"']) {
            return Err("the help is no sentence".to_owned());
        }
        *current = name.to_owned();
        families.insert(name.to_owned(), Family::default());
        return Ok(());
    }
    if name != current {
        return Err("HELP comes first".to_owned());
    }
    let family = families.get_mut(name).ok_or("no family")?;
    if !family.samples.is_empty() {
        return Err("samples come last".to_owned());
    }
    match keyword {
        "TYPE" if family.kind.is_empty() => {
            if !["counter", "gauge", "histogram", "info"].contains(&rest) {
                return Err("an unknown type".to_owned());
            }
            rest.clone_into(&mut family.kind);
        }
        "UNIT" if !family.kind.is_empty() && family.unit.is_none() => {
            if !name.ends_with(&format!("_{rest}")) {
                return Err("the name does not end with the unit".to_owned());
            }
            family.unit = Some(rest.to_owned());
        }
        _ => return Err("out of order".to_owned()),
    }
    Ok(())
}

fn sample(families: &mut Families, current: &str, line: &str) -> Result<(), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    let suffix = name.strip_prefix(current).ok_or("a sample of another family")?.to_owned();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let value: f64 = value.parse().map_err(|_| "no value")?;
    if !value.is_finite() {
        return Err("no number".to_owned());
    }
    let family = families.get_mut(current).ok_or("a sample before the first family")?;
    let fits = match family.kind.as_str() {
        "counter" => suffix == "_total" && value >= 0.0,
        "gauge" => suffix.is_empty(),
        "histogram" => ["_bucket", "_count", "_sum"].contains(&suffix.as_str()) && value >= 0.0,
        "info" => suffix == "_info" && value == 1.0,
        _ => return Err("no TYPE".to_owned()),
    };
    if !fits {
        return Err(format!("no sample of a {}", family.kind));
    }
    if labels.contains_key("le") != (suffix == "_bucket") {
        return Err("`le` is for buckets".to_owned());
    }
    if family.samples.iter().any(|other| other.suffix == suffix && other.labels == labels) {
        return Err("it was there before".to_owned());
    }
    family.samples.push(Sample { suffix, labels, value });
    Ok(())
}

/// Labels and what follows their closing brace.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name) {
            return Err(format!("{name:?} is no name of a label"));
        }
        let (mut value, mut length, mut characters) = (String::new(), 0, quoted.chars());
        loop {
            let character = characters.next().ok_or("a label does not end")?;
            length += character.len_utf8();
            match character {
                '"' => break,
                '\\' => {
                    length += 1;
                    value.push(match characters.next() {
                        Some('n') => '\n',
                        Some(other @ ('\\' | '"')) => other,
                        _ => return Err("an unknown escape".to_owned()),
                    });
                }
                other => value.push(other),
            }
        }
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("the label {name} twice"));
        }
        rest = &quoted[length..];
        match (rest.strip_prefix(','), rest.strip_prefix('}')) {
            (Some(more), _) => rest = more,
            (_, Some(behind)) => return Ok((labels, behind)),
            _ => return Err("no end of the labels".to_owned()),
        }
    }
}

/// What can only be said of a whole family.
fn check(name: &str, family: &Family) -> Result<(), String> {
    let reserved = ["_total", "_info", "_count", "_sum", "_bucket", "_created"];
    if family.kind.is_empty() || reserved.iter().any(|suffix| name.ends_with(suffix)) {
        return Err("no TYPE, or a name that ends as samples do".to_owned());
    }
    let odd = [
        "_ms",
        "_milliseconds",
        "_microseconds",
        "_minutes",
        "_kib",
        "_mib",
        "_kilobytes",
        "_percent",
    ];
    if odd.iter().any(|unit| name.ends_with(unit)) {
        return Err("no unit of the base".to_owned());
    }
    let named = ["seconds", "bytes"].iter().find(|unit| name.ends_with(*unit));
    if family.unit.as_deref() != named.copied() {
        return Err("a unit in the name and none in UNIT".to_owned());
    }
    if family.kind == "histogram" { histograms(family) } else { Ok(()) }
}

fn histograms(family: &Family) -> Result<(), String> {
    let without_bound = |sample: &Sample| {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        labels
    };
    let series: BTreeSet<_> = family.samples.iter().map(without_bound).collect();
    for labels in series {
        let of = |suffix: &str| -> Vec<&Sample> {
            let own = family.samples.iter().filter(|sample| without_bound(sample) == labels);
            own.filter(|sample| sample.suffix == suffix).collect()
        };
        let (buckets, counts, sums) = (of("_bucket"), of("_count"), of("_sum"));
        let ([count], [sum]) = (counts.as_slice(), sums.as_slice()) else {
            return Err(format!("{labels:?} has no count or no sum"));
        };
        let mut last = (f64::NEG_INFINITY, 0.0);
        for bucket in &buckets {
            let text = &bucket.labels["le"];
            let bound: f64 = text.parse().map_err(|_| format!("{text} is no bound"))?;
            if bound <= last.0 || bucket.value < last.1 || !(text == "+Inf" || text.contains('.')) {
                return Err(format!(
                    "{labels:?}: the bucket of {text} does not follow the one before"
                ));
            }
            last = (bound, bucket.value);
        }
        if last != (f64::INFINITY, count.value) {
            return Err(format!("{labels:?}: the last bucket does not hold all"));
        }
        if count.value == 0.0 && sum.value != 0.0 {
            return Err(format!("{labels:?}: a sum of nothing"));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// The reader itself: what must not pass does not.
#[test]
fn what_is_no_openmetrics_is_refused() {
    let good = "# HELP a A.\n# TYPE a counter\na_total{x=\"1\\\"\"} 1\na_total{x=\"2\"} 0.5\n\
                # HELP h_seconds H.\n# TYPE h_seconds histogram\n# UNIT h_seconds seconds\n\
                h_seconds_bucket{le=\"1.0\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\n\
                h_seconds_count 2\nh_seconds_sum 3\n# EOF\n";
    assert_eq!(parse(good).unwrap()["a"].samples[0].labels["x"], "1\"");
    for (from, to) in [
        ("# EOF\n", ""),
        ("# HELP a A.\n", ""),
        ("# TYPE a counter\n", ""),
        ("A.", "A"),
        ("a_total{x=\"2\"}", "a{x=\"2\"}"),
        ("x=\"2\"", "x=\"1\\\"\""),
        ("x=\"2\"", "x=\"2"),
        ("x=\"2\"", "x=\"2\",x=\"3\""),
        ("x=\"2\"", "X=\"2\""),
        ("0.5", "-0.5"),
        ("0.5", "NaN"),
        ("# UNIT h_seconds seconds\n", ""),
        ("h_seconds_bucket{le=\"1.0\"} 1", "h_seconds_bucket{le=\"1.0\"} 3"),
        ("le=\"1.0\"", "le=\"1\""),
        ("h_seconds_count 2", "h_seconds_count 1"),
        ("h_seconds_sum 3\n", ""),
        ("# HELP h_seconds", "a_total 1\n# HELP h_seconds"),
        ("# HELP h_seconds", "b_total 1\n# HELP h_seconds"),
        ("# EOF", "# HELP a A.\n# TYPE a counter\n# EOF"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        // A further sample without labels is one of the family.
        let is_sound = to.starts_with("a_total 1");
        assert_eq!(parse(&bad).is_ok(), is_sound, "{from:?} became {to:?}");
    }
}

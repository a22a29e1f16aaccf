//! The one child process: `nvidia-smi -q -x` of the node's own image, and its XML.
//!
//! A sick GPU can make it hang in the kernel, where no signal reaches it. So nothing waits for it past [`DEADLINE`], and
//! while one is still dying no second is started.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{
    nvidia::{Facts, Report},
    read::Reader,
};

/// How long an answer may take. Eight idle GPUs without persistence mode need about five seconds.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer read, bytes: eight GPUs with all their processes print 300 KiB.
const MAX_XML_BYTES: u64 = 8 << 20;

/// Most XML nodes parsed.
const MAX_XML_NODES: u32 = 1_000_000;

/// Where drivers install it: distributions, the `.run` installer, the GPU operator, NixOS.
const PLACES: [&str; 4] = [
    "/usr/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
    "/run/nvidia/driver/usr/bin/nvidia-smi",
    "/run/current-system/sw/bin/nvidia-smi",
];

/// Asks the driver; of a capture, reads what it answered.
pub(crate) fn ask(read: &Reader<'_>) -> Result<String, String> {
    if !read.is_live() {
        return std::fs::read_to_string(read.at("/nvidia-smi.xml")).map_err(|error| error.to_string());
    }
    let program = PLACES.iter().find(|place| Path::new(place).exists()).ok_or("not installed")?;
    run(program, &["-q", "-x"], DEADLINE)
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Standard output of a program that must end within `deadline`.
fn run(program: &str, arguments: &[&str], deadline: Duration) -> Result<String, String> {
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Err("an earlier one hangs and cannot be ended".to_owned());
    }
    let result = spawn(program, arguments).map_err(|error| {
        RUNNING.store(false, Ordering::Release);
        format!("cannot start {program}: {error}")
    });
    let (mut child, answer) = result?;
    let bytes = answer.recv_timeout(deadline);
    if bytes.is_err() {
        // The reaper below waits for it, however long it takes to die.
        let _ = child.kill();
    }
    let (ended, end) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let status = child.wait();
        RUNNING.store(false, Ordering::Release);
        let _ = ended.send(status);
    });
    let bytes = bytes.map_err(|_| format!("no answer within {} s", deadline.as_secs_f32()))?;
    // It closed its output, so it is about to end.
    match end.recv_timeout(deadline) {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => return Err(format!("{program} failed: {status}: {}", first_line(&bytes))),
        Ok(Err(error)) => return Err(format!("cannot wait for {program}: {error}")),
        Err(_) => return Err(format!("{program} does not end")),
    }
    if bytes.len() as u64 > MAX_XML_BYTES {
        return Err(format!("the answer is larger than {MAX_XML_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the answer is not UTF-8 text".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the home of this crate's only child process")]
fn spawn(program: &str, arguments: &[&str]) -> std::io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (answered, answer) = mpsc::sync_channel(1);
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is parsed like any other answer.
            let _ = output.take(MAX_XML_BYTES + 1).read_to_end(&mut bytes);
            let _ = answered.send(bytes);
        });
    }
    Ok((child, answer))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().chars().take(200).collect()
}

/// `nvidia_smi_log/gpu[@id]/{product_name,uuid,fb_memory_usage/total}` and `nvidia_smi_log/driver_version`.
pub(crate) fn parse(xml: &str) -> Result<Report, String> {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        nodes_limit: MAX_XML_NODES,
        ..roxmltree::ParsingOptions::default()
    };
    let document =
        roxmltree::Document::parse_with_options(xml, options).map_err(|error| error.to_string())?;
    let log = document.root_element();
    if !log.has_tag_name("nvidia_smi_log") {
        return Err(format!("the answer is <{}>, not <nvidia_smi_log>", log.tag_name().name()));
    }
    let mut report = Report { driver_version: text(log, &["driver_version"]), ..Report::default() };
    for gpu in log.children().filter(|node| node.has_tag_name("gpu")) {
        let Some(address) = gpu.attribute("id").and_then(sysfs_address) else { continue };
        let facts = Facts {
            model: text(gpu, &["product_name"]),
            uuid: text(gpu, &["uuid"]),
            memory_bytes: text(gpu, &["fb_memory_usage", "total"]).as_deref().and_then(mebibytes),
        };
        report.gpus.insert(address, facts);
    }
    Ok(report)
}

fn text(node: roxmltree::Node<'_, '_>, path: &[&str]) -> Option<String> {
    let mut node = node;
    for name in path {
        node = node.children().find(|child| child.has_tag_name(*name))?;
    }
    let text = node.text()?.trim();
    (!text.is_empty() && text != "N/A").then(|| text.to_owned())
}

/// `00000000:3B:00.0` → `0000:3b:00.0`: the driver pads the domain to eight digits.
fn sysfs_address(id: &str) -> Option<String> {
    let (domain, rest) = id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_lowercase()))
}

/// `81559 MiB`.
fn mebibytes(text: &str) -> Option<u64> {
    text.strip_suffix("MiB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the guard is one per process: it must not run beside another.
    #[test]
    fn a_child_is_heard_and_never_waited_for_too_long() {
        let second = Duration::from_secs(1);
        assert_eq!(run("/bin/echo", &["hello"], DEADLINE).as_deref(), Ok("hello\n"));
        assert_eq!(
            run("/bin/sh", &["-c", "echo no devices; exit 6"], DEADLINE).unwrap_err(),
            "/bin/sh failed: exit status: 6: no devices"
        );
        assert!(run("/nonexistent", &[], DEADLINE).unwrap_err().starts_with("cannot start /nonexistent"));
        assert_eq!(run("/bin/sleep", &["30"], second).unwrap_err(), "no answer within 1 s");
        // The sleeper was ended, so there is room for the next.
        thread::sleep(second);
        assert_eq!(run("/bin/echo", &["again"], DEADLINE).as_deref(), Ok("again\n"));
        // A grandchild holds the pipe open: given up at the deadline, too.
        assert_eq!(run("/bin/sh", &["-c", "sleep 3 & sleep 3"], second).unwrap_err(), "no answer within 1 s");
        RUNNING.store(true, Ordering::Release);
        assert_eq!(run("/bin/echo", &[], DEADLINE).unwrap_err(), "an earlier one hangs and cannot be ended");
        RUNNING.store(false, Ordering::Release);
    }

    #[test]
    fn answers_that_are_no_report() {
        assert_eq!(parse("<html/>").unwrap_err(), "the answer is <html>, not <nvidia_smi_log>");
        assert!(parse("No devices were found").is_err());
        assert!(parse("").is_err());
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">\
                    <!ENTITY c \"&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;\">]>\
                    <nvidia_smi_log>&d;&d;&d;&d;</nvidia_smi_log>";
        assert!(parse(bomb).is_err());
    }
}

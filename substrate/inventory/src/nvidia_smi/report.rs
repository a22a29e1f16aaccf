//! The XML of `nvidia-smi -q -x`. Its elements changed their names over the generations of the
//! driver; the newest comes first in each list here.

use api::inventory::{Ecc, MigDevice};
use roxmltree::Node;

use crate::nvidia_report::{GpuFacts, Report};

/// Most XML nodes parsed.
const MAX_NODES: u32 = 1_000_000;

/// Where the power limit is: since R535, before, and on superchips.
const POWER_LIMITS: [[&str; 2]; 5] = [
    ["gpu_power_readings", "current_power_limit"],
    ["gpu_power_readings", "power_limit"],
    ["power_readings", "power_limit"],
    ["power_readings", "enforced_power_limit"],
    ["module_power_readings", "current_power_limit"],
];

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error(transparent)]
    Xml(#[from] roxmltree::Error),
    #[error("the answer is <{0}>, not <nvidia_smi_log>")]
    Root(String),
}

/// # Errors
/// Why it is no report.
pub(super) fn parse(xml: &str) -> Result<Report, ReportError> {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        nodes_limit: MAX_NODES,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(xml, options)?;
    let log = document.root_element();
    if !log.has_tag_name("nvidia_smi_log") {
        return Err(ReportError::Root(log.tag_name().name().to_owned()));
    }
    let mut report = Report { driver_version: text(log, &["driver_version"]), ..Report::default() };
    // The tools number GPUs in this order, which is that of their addresses and not of
    // their minor numbers.
    for (index, gpu) in (0..).zip(log.children().filter(|node| node.has_tag_name("gpu"))) {
        let Some(address) = gpu.attribute("id").and_then(sysfs_address) else { continue };
        report.gpus.insert(address, facts(gpu, index));
    }
    Ok(report)
}

fn facts(gpu: Node<'_, '_>, index: u32) -> GpuFacts {
    let mig_devices = gpu.children().find(|node| node.has_tag_name("mig_devices"));
    let mig_devices = mig_devices.into_iter().flat_map(|devices| devices.children());
    GpuFacts {
        index,
        model: text(gpu, &["product_name"]),
        uuid: text(gpu, &["uuid"]),
        serial: text(gpu, &["serial"]).filter(|serial| serial != "0"),
        memory_bytes: text(gpu, &["fb_memory_usage", "total"]).as_deref().and_then(mebibytes),
        firmware: text(gpu, &["vbios_version"]),
        power_limit_watts: POWER_LIMITS.iter().find_map(|path| watts(&text(gpu, path)?)),
        ecc: ecc(gpu),
        mig_enabled: text(gpu, &["mig_mode", "current_mig"]).as_deref().and_then(is_enabled),
        mig: mig_devices
            .filter(|node| node.has_tag_name("mig_device"))
            .filter_map(mig_device)
            .collect(),
        links: Vec::new(),
    }
}

/// `None` where the GPU has no ECC.
fn ecc(gpu: Node<'_, '_>) -> Option<Ecc> {
    let enabled = is_enabled(&text(gpu, &["ecc_mode", "current_ecc"])?)?;
    let count = |path: &[&str]| text(gpu, path)?.parse::<u64>().ok();
    let volatile = |name: &str| count(&["ecc_errors", "volatile", name]);
    let retired = |cause: &str| count(&["retired_pages", cause, "retired_count"]);
    let remapped = |name: &str| count(&["remapped_rows", name]);
    // Kepler to Volta, then Turing and later.
    let corrected = count(&["ecc_errors", "volatile", "single_bit", "total"])
        .or_else(|| sum([volatile("sram_correctable"), volatile("dram_correctable")]));
    let uncorrected = count(&["ecc_errors", "volatile", "double_bit", "total"]).or_else(|| {
        let kinds =
            ["sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded"];
        sum(kinds.into_iter().chain(["dram_uncorrectable"]).map(volatile))
    });
    let waits = [
        ["remapped_rows", "remapped_row_pending"],
        ["retired_pages", "pending_retirement"],
        ["retired_pages", "pending_blacklist"],
    ];
    let waits = waits.iter().filter_map(|path| is_yes(&text(gpu, path)?));
    Some(Ecc {
        enabled,
        corrected,
        uncorrected,
        retired_pages: sum([
            remapped("remapped_row_corr"),
            remapped("remapped_row_unc"),
            retired("multiple_single_bit_retirement"),
            retired("double_bit_retirement"),
        ]),
        pending: waits.reduce(|one, other| one || other),
    })
}

fn mig_device(node: Node<'_, '_>) -> Option<MigDevice> {
    let number = |path: &[&str]| text(node, path)?.parse::<u32>().ok();
    Some(MigDevice {
        uuid: text(node, &["uuid"]),
        gpu_instance: number(&["gpu_instance_id"])?,
        compute_instance: number(&["compute_instance_id"])?,
        memory_bytes: text(node, &["fb_memory_usage", "total"]).as_deref().and_then(mebibytes),
        multiprocessors: number(&["device_attributes", "shared", "multiprocessor_count"]),
    })
}

/// Of those that are there; `None` if none is.
fn sum(counts: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    counts.into_iter().flatten().reduce(u64::saturating_add)
}

fn text(node: Node<'_, '_>, path: &[&str]) -> Option<String> {
    let mut node = node;
    for name in path {
        node = node.children().find(|child| child.has_tag_name(*name))?;
    }
    let text = node.text()?.trim();
    (!text.is_empty() && text != "N/A").then(|| text.to_owned())
}

fn is_enabled(text: &str) -> Option<bool> {
    matches!(text, "Enabled" | "Disabled").then_some(text == "Enabled")
}

fn is_yes(text: &str) -> Option<bool> {
    matches!(text, "Yes" | "No").then_some(text == "Yes")
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

/// `700.00 W`, to whole watts.
fn watts(text: &str) -> Option<u32> {
    let number = text.strip_suffix('W')?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let rounds_up = fraction.starts_with(|digit: char| ('5'..='9').contains(&digit));
    whole.parse::<u32>().ok()?.checked_add(u32::from(rounds_up))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(inner: &str) -> GpuFacts {
        let xml =
            format!("<nvidia_smi_log><gpu id=\"00000000:3B:00.0\">{inner}</gpu></nvidia_smi_log>");
        parse(&xml).unwrap().gpus.remove("0000:3b:00.0").unwrap()
    }

    #[test]
    fn error_counts_of_three_generations() {
        let ecc = |inner: &str| {
            one(&format!("<ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>{inner}"))
                .ecc
                .unwrap()
        };
        let volta = ecc(
            "<ecc_errors><volatile><single_bit><device_memory>3</device_memory><total>4</total></single_bit>\
                         <double_bit><total>1</total></double_bit></volatile></ecc_errors>\
                         <retired_pages><multiple_single_bit_retirement><retired_count>2</retired_count>\
                         </multiple_single_bit_retirement><double_bit_retirement><retired_count>1</retired_count>\
                         </double_bit_retirement><pending_retirement>Yes</pending_retirement></retired_pages>",
        );
        let expected = Ecc {
            enabled: true,
            corrected: Some(4),
            uncorrected: Some(1),
            retired_pages: Some(3),
            pending: Some(true),
        };
        assert_eq!(volta, expected);
        let turing = ecc("<ecc_errors><volatile><sram_correctable>1</sram_correctable>\
                          <sram_uncorrectable>2</sram_uncorrectable><dram_correctable>3</dram_correctable>\
                          <dram_uncorrectable>4</dram_uncorrectable></volatile></ecc_errors>");
        assert_eq!(
            (turing.corrected, turing.uncorrected, turing.pending),
            (Some(4), Some(6), None)
        );
        let hopper = ecc("<ecc_errors><volatile><sram_correctable>0</sram_correctable>\
                          <sram_uncorrectable_parity>1</sram_uncorrectable_parity>\
                          <sram_uncorrectable_secded>1</sram_uncorrectable_secded><dram_correctable>N/A</dram_correctable>\
                          <dram_uncorrectable>0</dram_uncorrectable></volatile></ecc_errors>\
                          <retired_pages><pending_retirement>N/A</pending_retirement></retired_pages>\
                          <remapped_rows><remapped_row_corr>1</remapped_row_corr><remapped_row_unc>0</remapped_row_unc>\
                          <remapped_row_pending>No</remapped_row_pending></remapped_rows>");
        assert_eq!((hopper.corrected, hopper.uncorrected), (Some(0), Some(2)));
        assert_eq!((hopper.retired_pages, hopper.pending), (Some(1), Some(false)));
        assert_eq!(one("<ecc_mode><current_ecc>N/A</current_ecc></ecc_mode>").ecc, None);
    }

    #[test]
    fn power_limits_of_all_generations() {
        let limit = |inner: &str| one(inner).power_limit_watts;
        assert_eq!(
            limit("<power_readings><power_limit>250.00 W</power_limit></power_readings>"),
            Some(250)
        );
        let renamed = "<gpu_power_readings><power_state>P0</power_state><current_power_limit>699.50 W\
                       </current_power_limit></gpu_power_readings>";
        assert_eq!(limit(renamed), Some(700));
        let only_enforced = "<power_readings><power_limit>N/A</power_limit><enforced_power_limit>53.00 W\
                             </enforced_power_limit></power_readings>";
        assert_eq!(limit(only_enforced), Some(53));
        assert_eq!(limit("<power_readings>N/A</power_readings>"), None);
    }

    #[test]
    fn answers_that_are_no_report() {
        assert_eq!(
            parse("<html/>").unwrap_err().to_string(),
            "the answer is <html>, not <nvidia_smi_log>"
        );
        assert!(parse("No devices were found").is_err());
        assert!(parse("").is_err());
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">\
                    <!ENTITY c \"&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;\">]>\
                    <nvidia_smi_log>&d;&d;&d;&d;</nvidia_smi_log>";
        assert!(parse(bomb).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "(?s).{0,100}", id in "[0-9A-F:.]{0,20}", value in "[0-9.]{0,12} ?(W|MiB|Yes|N/A)?") {
            let _ = parse(&text);
            let _ = parse(&format!(
                "<nvidia_smi_log><gpu id=\"{id}\"><ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>\
                 <power_readings><power_limit>{value}</power_limit></power_readings>\
                 <fb_memory_usage><total>{value}</total></fb_memory_usage>\
                 <remapped_rows><remapped_row_corr>{value}</remapped_row_corr></remapped_rows></gpu></nvidia_smi_log>"
            ));
            watts(&text);
            mebibytes(&text);
            sysfs_address(&text);
        }
    }
}

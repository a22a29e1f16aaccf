//! What NVIDIA's driver tells: `/proc/driver/nvidia`, which costs nothing, and `nvidia-smi -q -x`, which knows the
//! memory too. The library behind it (NVML) starts threads and cannot be loaded into a static binary.

use std::collections::BTreeMap;

use api::inventory::Gpu;

use crate::{nvidia_smi, read::Reader};

const FOLDER: &str = "/proc/driver/nvidia";

/// Times that `nvidia-smi` is asked while it fails and the driver shows the same GPUs: each may take its full deadline
/// and disturb who computes there.
const MAX_QUESTIONS: u32 = 3;

/// What the driver said of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) model: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
}

/// All that `nvidia-smi -q -x` said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) driver_version: Option<String>,
    /// By PCI address as sysfs spells it.
    pub(crate) gpus: BTreeMap<String, Facts>,
}

/// The last answer and the state of the driver that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Known {
    state: Vec<String>,
    questions: u32,
    answer: Option<Result<Report, String>>,
}

impl Known {
    /// Adds the driver's facts to the NVIDIA GPUs among `gpus`.
    pub(crate) fn add(&mut self, read: &mut Reader<'_>, gpus: &mut [Gpu]) {
        if !gpus.iter().any(|gpu| gpu.vendor == "nvidia") || !read.exists(FOLDER) {
            return;
        }
        let version = read.text(&format!("{FOLDER}/version")).as_deref().and_then(driver_version);
        let mut state: Vec<String> = version.iter().cloned().collect();
        for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == "nvidia") {
            let text = read.text(&format!("{FOLDER}/gpus/{}/information", gpu.pci)).unwrap_or_default();
            let facts = information(&text);
            state.push(format!("{} {:?}", gpu.pci, facts.uuid));
            (gpu.model, gpu.uuid) = (facts.model, facts.uuid);
            gpu.driver_version.clone_from(&version);
        }
        let report = match self.ask(read, state) {
            Ok(report) => report,
            Err(cause) => {
                read.gap("nvidia-smi", cause);
                return;
            }
        };
        for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == "nvidia") {
            let Some(facts) = report.gpus.get(&gpu.pci) else { continue };
            gpu.model = facts.model.clone().or_else(|| gpu.model.take());
            gpu.uuid = facts.uuid.clone().or_else(|| gpu.uuid.take());
            gpu.memory_bytes = facts.memory_bytes;
            gpu.driver_version = gpu.driver_version.take().or_else(|| report.driver_version.clone());
        }
    }

    /// What `nvidia-smi` says of the driver in this state; asked only when that is not known yet.
    fn ask(&mut self, read: &Reader<'_>, state: Vec<String>) -> Result<&Report, &String> {
        if state != self.state {
            *self = Self { state, ..Self::default() };
        }
        if !matches!(self.answer, Some(Ok(_))) && self.questions < MAX_QUESTIONS {
            self.questions += 1;
            self.answer = Some(nvidia_smi::ask(read).and_then(|xml| nvidia_smi::parse(&xml)));
        }
        self.answer.get_or_insert_with(|| Ok(Report::default())).as_ref()
    }
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …`, or, of the open module, `NVRM version:
/// NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (…)`: the first word that is dotted digits.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// `/proc/driver/nvidia/gpus/ADDRESS/information`: one `Key: value` a line. The UUID is all question marks until the
/// GPU was used for the first time.
fn information(text: &str) -> Facts {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
        (!value.is_empty() && !value.contains('?')).then(|| value.to_owned())
    };
    Facts { model: value("Model"), uuid: value("GPU UUID"), memory_bytes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_kernel_modules() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
                      GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        assert_eq!(driver_version(closed).as_deref(), Some("535.104.05"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs@x)\n";
        assert_eq!(driver_version(open).as_deref(), Some("550.54.15"));
        assert_eq!(driver_version("GCC version: 12.2.0"), None);
    }

    #[test]
    fn a_gpu_before_its_first_use_has_no_uuid() {
        let text = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\n\
                    GPU UUID: \t GPU-????????-????-????-????-????????????\n";
        let facts = information(text);
        assert_eq!((facts.model.as_deref(), facts.uuid), (Some("NVIDIA H100 80GB HBM3"), None));
    }
}

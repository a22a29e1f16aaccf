//! What NVIDIA's driver tells: `/proc/driver/nvidia`, which costs nothing, and `nvidia-smi`,
//! which knows the rest. The library behind it (NVML) starts threads and cannot be loaded into
//! a static binary.

use api::inventory::Gpu;

use crate::{
    nvidia_report::{GpuFacts, Report},
    nvidia_smi::{self, SmiError},
    read::{Reader, chain},
};

const DIRECTORY: &str = "/proc/driver/nvidia";

/// Times that `nvidia-smi` is asked while it fails and the driver shows the same GPUs: each may
/// take its full deadline and disturb who computes there.
const MAX_QUESTIONS: u32 = 3;

/// The last answer and the state of the driver that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct LastAnswer {
    state: Vec<String>,
    questions: u32,
    answer: Option<Result<Report, SmiError>>,
}

impl LastAnswer {
    /// Adds the driver's facts to the NVIDIA GPUs among `gpus`.
    pub(crate) fn add(&mut self, read: &mut Reader<'_>, gpus: &mut [Gpu]) {
        if !gpus.iter().any(|gpu| gpu.vendor == "nvidia") || !read.exists(DIRECTORY) {
            return;
        }
        let version =
            read.text(&format!("{DIRECTORY}/version")).as_deref().and_then(driver_version);
        let mut state: Vec<String> = version.iter().cloned().collect();
        for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == "nvidia") {
            let text =
                read.text(&format!("{DIRECTORY}/gpus/{}/information", gpu.pci)).unwrap_or_default();
            let value = |key: &str| information(&text, key);
            (gpu.model, gpu.uuid, gpu.firmware) =
                (value("Model"), value("GPU UUID"), value("Video BIOS"));
            gpu.driver_version.clone_from(&version);
            let parts =
                value("Device Minor").map(|minor| mig_instances(read, &minor)).unwrap_or_default();
            state.push(format!("{} {:?} {parts:?}", gpu.pci, gpu.uuid));
        }
        let report = match self.ask(read, state) {
            Ok(report) => report,
            Err(error) => {
                read.gap("nvidia-smi", chain(error));
                return;
            }
        };
        for (question, cause) in &report.gaps {
            read.gap(question, cause);
        }
        for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == "nvidia") {
            let Some(facts) = report.gpus.get(&gpu.pci) else { continue };
            fill(gpu, facts.clone());
            gpu.driver_version =
                gpu.driver_version.take().or_else(|| report.driver_version.clone());
        }
    }

    /// Asks again at the next look: something happened to a GPU that its driver keeps count of.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What `nvidia-smi` says of the driver in this state; asked only when that is not known yet.
    fn ask(&mut self, read: &Reader<'_>, state: Vec<String>) -> Result<&Report, &SmiError> {
        if state != self.state {
            *self = Self { state, ..Self::default() };
        }
        if !matches!(self.answer, Some(Ok(_))) && self.questions < MAX_QUESTIONS {
            self.questions += 1;
            self.answer = Some(nvidia_smi::ask(read));
        }
        self.answer.get_or_insert_with(|| Ok(Report::default())).as_ref()
    }
}

fn fill(gpu: &mut Gpu, facts: GpuFacts) {
    gpu.index = Some(facts.index);
    gpu.model = facts.model.or_else(|| gpu.model.take());
    gpu.uuid = facts.uuid.or_else(|| gpu.uuid.take());
    gpu.firmware = facts.firmware.or_else(|| gpu.firmware.take());
    gpu.serial = facts.serial;
    gpu.memory_bytes = facts.memory_bytes;
    gpu.power_limit_watts = facts.power_limit_watts;
    gpu.ecc = facts.ecc;
    gpu.mig_enabled = facts.mig_enabled;
    gpu.mig = facts.mig;
    gpu.links = facts.links;
}

/// The parts that a GPU is in now: `gi1/ci0` for compute instance 0 of GPU instance 1.
fn mig_instances(read: &mut Reader<'_>, minor: &str) -> Vec<String> {
    let directory = format!("{DIRECTORY}/capabilities/gpu{minor}/mig");
    let mut found = Vec::new();
    for instance in read.names(&directory).into_iter().filter(|name| name.starts_with("gi")) {
        let parts = read.names(&format!("{directory}/{instance}"));
        let parts = parts.into_iter().filter(|name| name.starts_with("ci"));
        found.extend(parts.map(|part| format!("{instance}/{part}")));
    }
    found
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …`, or, of the open module, `NVRM version:
/// NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (…)`: the first word that is dotted digits.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// `/proc/driver/nvidia/gpus/ADDRESS/information`: one `Key: value` a line. The UUID and the
/// version of the VBIOS are all question marks until the GPU was used for the first time.
fn information(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))?
        .trim();
    (!value.is_empty() && !value.contains('?')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_of_both_kernel_modules() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n\
                      GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        assert_eq!(driver_version(closed).as_deref(), Some("535.104.05"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs@x)\n";
        assert_eq!(driver_version(open).as_deref(), Some("550.54.15"));
        assert_eq!(driver_version("GCC version: 12.2.0"), None);
    }

    #[test]
    fn a_gpu_before_its_first_use_has_no_uuid() {
        let text = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\n\
                    GPU UUID: \t GPU-????????-????-????-????-????????????\n";
        assert_eq!(information(text, "Model").as_deref(), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!(information(text, "GPU UUID"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_told_by_the_driver(text in "(?s)(NVRM version:|Model|:|[0-9.]|\n|.){0,60}") {
            driver_version(&text);
            information(&text, "Model");
        }
    }
}

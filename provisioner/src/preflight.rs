//! What the server reads before it serves and what its work needs, looked at ahead of the start:
//! for `bedplate server check`. Changes nothing.

use std::{env, fs, path::Path};

use boot_proto::script::{ScriptTemplate, TEMPLATE_FILE};

use rest::causes;

use crate::{
    config::{FirmwareFiles, ProvisionerConfig},
    tftp::Firmware,
};

/// Programs that imports of images start, with their Debian packages.
const PROGRAMS: [(&str, &str); 1] = [(image_store::squashfs::PROGRAM, "squashfs-tools-ng")];

/// A finding of the check of the server's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key of the configuration file that leads to it; empty: none does.
    pub setting: &'static str,
    /// What is wrong, and why.
    pub message: String,
    /// The server does not start with it; the others only hinder what needs them.
    pub fatal: bool,
}

/// Looks at boot files, the boot script template, the substrate program and the programs that
/// imports start. All that is wrong, in the order of looking.
#[must_use]
pub fn look(config: &ProvisionerConfig) -> Vec<Found> {
    let mut found = Vec::new();
    let mut fatal = |setting, message| found.push(Found { setting, message, fatal: true });
    let FirmwareFiles { bios, efi_x86_64, efi_arm64 } = config.firmware.clone();
    let none = FirmwareFiles::default;
    let each = [
        ("firmware.bios", FirmwareFiles { bios, ..none() }),
        ("firmware.efi-x86-64", FirmwareFiles { efi_x86_64, ..none() }),
        ("firmware.efi-arm64", FirmwareFiles { efi_arm64, ..none() }),
    ];
    let mut alone_good = true;
    for (setting, files) in each {
        if let Err(error) = Firmware::load(&files) {
            alone_good = false;
            fatal(setting, causes(&error));
        }
    }
    if alone_good && let Err(error) = Firmware::load(&config.firmware) {
        fatal("firmware", causes(&error));
    }
    let template = config.ipxe_templates.join(TEMPLATE_FILE);
    match fs::read_to_string(&template) {
        Err(error) => fatal("boot.templates", unreadable(&template, &error)),
        Ok(text) => {
            if let Err(error) = ScriptTemplate::parse(TEMPLATE_FILE, &text) {
                fatal("boot.templates", causes(&error));
            }
        }
    }
    if let Err(error) = fs::read(&config.substrate) {
        fatal("boot.substrate", unreadable(&config.substrate, &error));
    }
    for (program, package) in PROGRAMS {
        if !is_in_path(program) {
            let message = format!(
                "the program {program} is not in PATH: no image can be imported; install the package {package}"
            );
            found.push(Found { setting: "", message, fatal: false });
        }
    }
    found
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

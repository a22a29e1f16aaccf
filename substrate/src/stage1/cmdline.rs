//! What stage 1 reads from the kernel command line: pure.

use std::collections::{BTreeMap, BTreeSet};

use api::ids::MacAddr;

/// ARP hardware type of Ethernet, which PXE puts before the address in `BOOTIF`.
const ETHERNET: &str = "01";

/// The arguments that concern stage 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `BOOTIF=01-52-54-00-12-34-56`: the card that the firmware booted from.
    pub boot_card: Option<MacAddr>,
    /// `bedplate.time=UNIXSECONDS`: the server's clock when it rendered the boot script.
    pub server_seconds: Option<i64>,
    /// `bedplate.image-mib=`: size of the root image, MiB; absent from scripts of before.
    pub image_mib: Option<u64>,
    /// `init=`: the init of the image to start instead of the usual ones.
    pub init: Option<String>,
    /// `MODULE.PARAMETER=VALUE`, by module, as the kernel takes them: `PARAMETER=VALUE …`.
    pub module_parameters: BTreeMap<String, String>,
    /// `modprobe.blacklist=A,B` and `module_blacklist=A,B`: not loaded for hardware that is found.
    pub blacklist: BTreeSet<String>,
}

impl CommandLine {
    /// Reads `/proc/cmdline`. What cannot be read is as if it was not there; of two
    /// the last counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for argument in arguments(text) {
            let (key, value) =
                argument.split_once('=').map_or((argument.as_str(), None), |(k, v)| (k, Some(v)));
            // After `--` everything is init's.
            if key == "--" {
                break;
            }
            line.take(key, value);
        }
        line
    }

    fn take(&mut self, key: &str, value: Option<&str>) {
        match (key, value) {
            ("BOOTIF", Some(value)) => self.boot_card = boot_card(value).or(self.boot_card),
            ("bedplate.time", Some(value)) => {
                self.server_seconds = value.parse().ok().or(self.server_seconds)
            }
            ("bedplate.image-mib", Some(value)) => {
                self.image_mib = value.parse().ok().or(self.image_mib)
            }
            ("init", Some(value)) => self.init = Some(value.to_owned()),
            ("modprobe.blacklist" | "module_blacklist", Some(value)) => {
                self.blacklist.extend(value.split(',').map(underscored));
            }
            _ => {
                let Some((module, parameter)) = key.split_once('.') else { return };
                let parameters = self.module_parameters.entry(underscored(module)).or_default();
                if !parameters.is_empty() {
                    parameters.push(' ');
                }
                parameters.push_str(parameter);
                if let Some(value) = value {
                    parameters.push('=');
                    parameters.push_str(value);
                }
            }
        }
    }
}

/// Splits at spaces outside of double quotes, which are taken away, as the kernel's
/// `next_arg()` does.
fn arguments(text: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            space if space.is_whitespace() && !quoted => arguments.push(String::new()),
            other => {
                if let Some(last) = arguments.last_mut() {
                    last.push(other);
                }
            }
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

fn boot_card(value: &str) -> Option<MacAddr> {
    let (kind, address) = value.split_once(['-', ':'])?;
    if kind == ETHERNET && address.len() == 17 { address.parse().ok() } else { None }
}

/// The kernel knows modules by names with `_`, their files may have `-`.
pub(crate) fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_that_we_render_is_understood() {
        let line = CommandLine::parse(
            "initrd=stage1.img initrd=node.img BOOTIF=01-52-54-00-12-34-56 bedplate.time=1795464000 bedplate.image-mib=256 \
             console=ttyS0 modprobe.blacklist=nouveau,snd-hda init=/bin/sh virtio-net.napi_tx=0 virtio_net.csum \
             note=\"two words\" -- BOOTIF=01-00-00-00-00-00-00\n",
        );
        assert_eq!(line.boot_card, Some(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert_eq!(line.server_seconds, Some(1_795_464_000));
        assert_eq!(line.image_mib, Some(256));
        assert_eq!(line.init.as_deref(), Some("/bin/sh"));
        assert_eq!(line.blacklist.iter().collect::<Vec<_>>(), ["nouveau", "snd_hda"]);
        assert_eq!(line.module_parameters["virtio_net"], "napi_tx=0 csum");
    }

    #[test]
    fn nonsense_is_as_nothing() {
        for text in
            ["", "BOOTIF=", "BOOTIF=20-52-54-00-12-34-56", "BOOTIF=01-52-54", "bedplate.time=soon"]
        {
            let line = CommandLine::parse(text);
            assert_eq!((line.boot_card, line.server_seconds), (None, None), "{text}");
        }
    }
}

//! What the tools of a node say, in the forms that they have for programs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;

use crate::cluster::Cluster;

const SCRIPT: &str = r#"
section() { echo; echo '@@'$1; shift; LC_ALL=C "$@"; }
section lscpu lscpu -J
section lspci lspci -vmmnnkD
section ibv ibv_devinfo -v
section lsblk lsblk -J -b -O
section links ip -j -d link
section addresses ip -j address
section lstopo lstopo-no-graphics --of xml
section meminfo cat /proc/meminfo
section os sh -c '. /etc/os-release; echo $PRETTY_NAME; uname -r; uname -m; cat /proc/cmdline; cat /sys/class/tpm/tpm0/tpm_version_major'
section dimms dmidecode -t 17
section bmc ipmitool mc info
for key in bios-vendor bios-version bios-release-date system-manufacturer system-product-name system-version \
  system-serial-number system-uuid system-sku-number system-family baseboard-manufacturer baseboard-product-name \
  baseboard-version baseboard-serial-number chassis-type chassis-serial-number chassis-asset-tag; do
  section $key dmidecode -s $key
done
"#;

/// Their output by tool.
#[derive(Debug)]
pub(super) struct Tools(BTreeMap<String, String>);

impl Tools {
    /// Asks them all.
    pub(super) fn ask(cluster: &Cluster, address: &str) -> anyhow::Result<Self> {
        let output = cluster.on_node(address, SCRIPT)?;
        let sections = output.split("\n@@").filter_map(|section| section.split_once('\n'));
        Ok(Self(sections.map(|(name, text)| (name.to_owned(), text.trim().to_owned())).collect()))
    }

    /// All that one said.
    pub(super) fn text(&self, tool: &str) -> anyhow::Result<&str> {
        self.0.get(tool).map(String::as_str).with_context(|| format!("{tool} said nothing"))
    }

    /// What one said as JSON.
    pub(super) fn json(&self, tool: &str) -> anyhow::Result<Value> {
        let text = self.text(tool)?;
        serde_json::from_str(text).with_context(|| format!("{tool} says {text}"))
    }

    /// `Key: value` lines in blocks between empty lines.
    pub(super) fn blocks(&self, tool: &str) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
        let pairs = |block: &str| -> BTreeMap<String, String> {
            let lines = block.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
        };
        Ok(self.text(tool)?.split("\n\n").map(pairs).filter(|block| !block.is_empty()).collect())
    }
}

/// A value of JSON as people write it; nothing for null and for an empty text.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => (!text.trim().is_empty()).then(|| text.trim().to_owned()),
        other => Some(other.to_string()),
    }
}

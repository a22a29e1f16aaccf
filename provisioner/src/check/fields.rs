//! Rules for single fields, on nodes and profiles as declared.

use api::{
    ids::{OverlayName, ProfileName},
    labels::{MAX_LABELS, REMOVES, check_key, check_value},
    machine::{InterfaceSpec, MachineSpec},
};

use boot_proto::script::{MAX_KERNEL_ARGUMENTS, check_kernel_argument};

use image_catalog::ImageReference;

use super::{DiagnosticSink, Known};
use yaml_tree::did_you_mean;

/// Bond modes of the Linux kernel (Documentation/networking/bonding.rst).
const BOND_MODES: [&str; 7] = [
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
];

/// Longest interface name: IFNAMSIZ less the final zero byte.
const MAX_INTERFACE_NAME: usize = 15;

/// Longest tag, bytes: some ssh keys in one tag.
const MAX_TAG: usize = 65_536;

pub(super) fn check(spec: &MachineSpec, known: &Known, note: &mut DiagnosticSink<'_>) {
    names(spec, known, note);
    if let Some(image) = &spec.image {
        check_image(image, known, note);
    }
    if let Some(kernel) = &spec.kernel
        && !is_word(kernel)
    {
        note.add(
            "kernel",
            "a kernel release has letters, digits and ._+~- only",
            Some("see `uname -r`".into()),
        );
    }
    for (index, argument) in spec.kernel_args.iter().enumerate() {
        if let Err(bad) = check_kernel_argument(argument.strip_prefix('~').unwrap_or(argument)) {
            let hint = argument
                .contains(' ')
                .then(|| "write each argument as an element of its own".into());
            note.add(&format!("kernel-args[{index}]"), bad.to_string(), hint);
        }
    }
    if let Some(size) = spec.root.as_ref().and_then(|root| root.writable_size.as_ref())
        && !is_writable_size(size)
    {
        let message = format!("{size:?} is not a size");
        note.add(
            "root.writable-size",
            message,
            Some("write 1% to 100%, or a size such as 512MiB or 4GiB".into()),
        );
    }
    for (name, interface) in &spec.interfaces {
        check_interface(name, interface, note);
    }
    for (index, domain) in spec.dns.iter().flat_map(|dns| dns.search.iter().enumerate()) {
        if !is_domain(domain) {
            note.add(
                &format!("dns.search[{index}]"),
                format!("{domain:?} is not a domain name"),
                None,
            );
        }
    }
    labels(spec, note);
    for (key, value) in &spec.tags {
        if key.is_empty() || !is_word(key) {
            note.add(
                &format!("tags.{key}"),
                "a tag's name has letters, digits and ._+~- only",
                None,
            );
        }
        if value.len() > MAX_TAG {
            note.add(
                &format!("tags.{key}"),
                format!("the tag is longer than {MAX_TAG} bytes"),
                None,
            );
        }
    }
}

/// Keys and values of labels; `~` before a key takes it away.
fn labels(spec: &MachineSpec, note: &mut DiagnosticSink<'_>) {
    for (key, value) in &spec.labels {
        let at = format!("labels.{key}");
        let removed = key.strip_prefix(REMOVES);
        if let Err(error) = check_key(removed.unwrap_or(key)).and_then(|()| check_value(value)) {
            note.add(&at, error.to_string(), None);
        }
        let Some(removed) = removed else { continue };
        if !value.is_empty() {
            let message = format!("it takes the label {removed} away, and so has no value");
            note.add(&at, message, Some(format!("write `{REMOVES}{removed}: ''`")));
        }
        if spec.labels.contains_key(removed) {
            note.add(&at, format!("the label {removed} is given and taken away at once"), None);
        }
    }
    count_labels(spec, note);
}

fn count_labels(spec: &MachineSpec, note: &mut DiagnosticSink<'_>) {
    if spec.labels.len() > MAX_LABELS {
        let message = format!("{} labels; at most {MAX_LABELS} are taken", spec.labels.len());
        let hint = "what is for templates alone can be a tag";
        note.add("labels", message, Some(hint.to_owned()));
    }
}

/// What only the fields of profiles and node together show.
pub(super) fn check_resolved(spec: &MachineSpec, note: &mut DiagnosticSink<'_>) {
    count_labels(spec, note);
    let bytes = spec.kernel_args.join(" ").len();
    if bytes > MAX_KERNEL_ARGUMENTS {
        let message = format!(
            "the kernel arguments of profiles and node have {bytes} bytes together; at most \
             {MAX_KERNEL_ARGUMENTS} reach the kernel"
        );
        note.add("kernel-args", message, Some("put what is long into a file of an overlay".into()));
    }
}

/// Names of profiles, overlays and groups; `~` before a name takes it away.
fn names(spec: &MachineSpec, known: &Known, note: &mut DiagnosticSink<'_>) {
    let bare = |name: &String| name.strip_prefix('~').unwrap_or(name).to_owned();
    for (index, name) in spec.profiles.iter().enumerate() {
        if let Err(error) = bare(name).parse::<ProfileName>() {
            note.add(&format!("profiles[{index}]"), error.to_string(), None);
        }
    }
    for (field, list) in
        [("boot-overlays", &spec.boot_overlays), ("runtime-overlays", &spec.runtime_overlays)]
    {
        for (index, name) in list.iter().enumerate() {
            let at = format!("{field}[{index}]");
            match bare(name).parse::<OverlayName>() {
                Err(error) => note.add(&at, error.to_string(), None),
                Ok(overlay) if !name.starts_with('~') && !known.overlays.contains(&overlay) => {
                    let hint = did_you_mean(name, known.overlays.iter().map(OverlayName::as_str))
                        .or_else(|| Some("see `bedplate overlay list`".into()));
                    note.add(&at, format!("overlay {name:?} does not exist"), hint);
                }
                Ok(_) => {}
            }
        }
    }
    for (index, group) in spec.groups.iter().enumerate() {
        if bare(group).is_empty() || !is_word(group) {
            note.add(
                &format!("groups[{index}]"),
                "a group's name has letters, digits and ._+- only, and at least one",
                None,
            );
        }
    }
}

fn check_image(image: &str, known: &Known, note: &mut DiagnosticSink<'_>) {
    match ImageReference::parse(image) {
        Err(error) => {
            note.add("image", error.to_string(), Some("write NAME or NAME@VERSION".into()))
        }
        Ok(reference) => match (known.images.get(&reference.name), reference.version) {
            (None, _) => {
                let hint = did_you_mean(
                    reference.name.as_str(),
                    known.images.keys().map(|name| name.as_str()),
                )
                .or_else(|| Some("see `bedplate image list`".into()));
                note.add("image", format!("image \"{}\" does not exist", reference.name), hint);
            }
            (Some(versions), Some(version)) if !versions.contains(&version) => {
                let list: Vec<String> = versions.iter().map(u32::to_string).collect();
                let message = format!("image \"{}\" has no version {version}", reference.name);
                note.add("image", message, Some(format!("it has {}", list.join(", "))));
            }
            (Some(versions), version) => {
                let version = version.or_else(|| versions.last().copied());
                let why =
                    version.and_then(|version| known.not_bootable.get(&(reference.name, version)));
                if let Some(why) = why {
                    note.add("image", why.clone(), None);
                }
            }
        },
    }
}

fn check_interface(name: &str, interface: &InterfaceSpec, note: &mut DiagnosticSink<'_>) {
    let at = |field: &str| format!("interfaces.{name}.{field}");
    let valid_name = !name.is_empty()
        && name.len() <= MAX_INTERFACE_NAME
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !matches!(name, "." | ".." | "lo" | "all" | "default");
    if !valid_name {
        let message = format!("{name:?} cannot name an interface");
        note.add(
            &format!("interfaces.{name}"),
            message,
            Some("use 1 to 15 letters, digits and ._- and not lo, all or default".into()),
        );
    }
    if let Some(mac) = interface.mac
        && (mac.0[0] & 1 == 1 || mac.0 == [0; 6])
    {
        note.add(
            &at("mac"),
            format!("{mac} is not the address of one interface (multicast or zero)"),
            None,
        );
    }
    if let Some(mtu) = interface.mtu
        && !(68..=65_535).contains(&mtu)
    {
        note.add(&at("mtu"), format!("{mtu} is not between 68 and 65535"), None);
    }
    if let Some(vlan) = interface.vlan
        && !(1..=4094).contains(&vlan)
    {
        note.add(&at("vlan"), format!("{vlan} is not between 1 and 4094"), None);
    }
    if let Some(bond) = &interface.bond
        && !BOND_MODES.contains(&bond.mode.as_str())
    {
        let hint = did_you_mean(&bond.mode, BOND_MODES)
            .or_else(|| Some(format!("it is one of {}", BOND_MODES.join(", "))));
        note.add(&at("bond.mode"), format!("{:?} is not a bond mode", bond.mode), hint);
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c))
}

/// Whether this can be a domain name (RFC 1035 section 2.3.1; underscores as DNS has
/// them in practice).
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// `1%` to `100%`, or a positive whole number of KiB, MiB, GiB or TiB.
fn is_writable_size(text: &str) -> bool {
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse::<u8>().is_ok_and(|percent| (1..=100).contains(&percent));
    }
    ["KiB", "MiB", "GiB", "TiB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit))
        .is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 0))
}

//! depmod's text files of one kernel, read into memory: pure.
//!
//! | file | line |
//! |---|---|
//! | `modules.dep` | `kernel/net/a.ko: kernel/lib/b.ko kernel/lib/c.ko`; what is needed last comes first |
//! | `modules.alias` | `alias PATTERN NAME` |
//! | `modules.softdep` | `softdep NAME pre: A B post: C` |
//! | `modules.builtin` | `kernel/fs/d.ko` |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::glob;
use crate::stage1::cmdline::underscored;

/// All modules of a kernel, by name with `_`.
#[derive(Debug, Default)]
pub struct Index {
    modules: BTreeMap<String, Module>,
    /// Aliases by what is before their first `:`, so that a PCI device is not held against
    /// every USB alias. The ones without such a beginning, or with a wildcard in it, are under
    /// the empty string.
    aliases: HashMap<String, Vec<(String, String)>>,
    before: BTreeMap<String, Vec<String>>,
    after: BTreeMap<String, Vec<String>>,
    built_in: BTreeSet<String>,
}

#[derive(Debug)]
struct Module {
    path: String,
    /// Names, in the order of loading.
    needs: Vec<String>,
}

impl Index {
    /// Reads the four files. Lines that make no sense are passed over.
    #[must_use]
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index =
            Self { built_in: builtin.lines().map(name_of).collect(), ..Self::default() };
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().rev().map(name_of).collect();
            index.modules.insert(name_of(path), Module { path: path.to_owned(), needs });
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(pattern), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let entry = (pattern.to_owned(), underscored(name));
            index.aliases.entry(bus_of_pattern(pattern).to_owned()).or_default().push(entry);
        }
        for line in softdep.lines() {
            index.take_softdep(line);
        }
        index
    }

    fn take_softdep(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(name)) = (words.next(), words.next()) else { return };
        let mut list = None;
        for word in words {
            match word {
                "pre:" => list = Some(&mut self.before),
                "post:" => list = Some(&mut self.after),
                other => {
                    if let Some(list) = &mut list {
                        list.entry(underscored(name)).or_default().push(underscored(other));
                    }
                }
            }
        }
    }

    /// Names of the modules for a device that announces `alias` in its `modalias` file, and of
    /// those that have it as a name.
    #[must_use]
    pub fn for_alias(&self, alias: &str) -> Vec<&str> {
        let bus = alias.split_once(':').map_or("", |(bus, _)| bus);
        let lists = [self.aliases.get(bus).filter(|_| !bus.is_empty()), self.aliases.get("")];
        let mut names: Vec<&str> = lists
            .into_iter()
            .flatten()
            .flatten()
            .filter(|(pattern, _)| glob::matches(pattern, alias))
            .map(|(_, name)| name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// `true` if the kernel has it without a file.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// Names in the order of loading: what the module needs, what should be there before it,
    /// itself, what should follow. Built-in ones are left out; an unknown name gives an empty list.
    #[must_use]
    pub fn load_order(&self, name: &str) -> Vec<String> {
        let mut order = Vec::new();
        self.visit(&underscored(name), &mut BTreeSet::new(), &mut order);
        order
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        if self.is_built_in(name) || !seen.insert(name.to_owned()) {
            return;
        }
        let Some(module) = self.modules.get(name) else {
            // Soft dependencies may name an alias: `crypto-crc32c`.
            for name in self.for_alias(name) {
                self.visit(name, seen, order);
            }
            return;
        };
        for needed in module.needs.iter().chain(self.before.get(name).into_iter().flatten()) {
            self.visit(needed, seen, order);
        }
        order.push(name.to_owned());
        for follower in self.after.get(name).into_iter().flatten() {
            self.visit(follower, seen, order);
        }
    }

    /// File of a module, relative to the kernel's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<&str> {
        self.modules.get(name).map(|module| module.path.as_str())
    }
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscored(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn bus_of_pattern(pattern: &str) -> &str {
    match pattern.split_once(':') {
        Some((bus, _)) if !bus.contains(['*', '?', '[']) => bus,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
             kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
             kernel/net/core/failover.ko:\n\
             kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n\
             kernel/drivers/virtio/virtio.ko.xz:\n\
             kernel/lib/libcrc32c.ko:\n\
             kernel/crypto/crc32c_generic.ko:\n\
             kernel/drivers/a-b.ko:\n\
             kernel/x.ko:\n\
             kernel/y.ko:\n",
            "# Aliases\n\
             alias virtio:d00000001v* virtio_net\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias acpi*:ABCD:* a-b\n\
             alias crypto-crc32c crc32c_generic\n\
             alias fs-squashfs squashfs\n",
            "softdep libcrc32c pre: crypto-crc32c\nsoftdep x pre: y post: a-b\nsoftdep y pre: x\n",
            "kernel/fs/squashfs.ko\n",
        )
    }

    #[test]
    fn dependencies_come_first() {
        assert_eq!(index().load_order("virtio-net"), ["failover", "net_failover", "virtio_net"]);
        assert_eq!(index().path("virtio_pci"), Some("kernel/drivers/virtio/virtio_pci.ko.xz"));
        assert_eq!(index().load_order("virtio_pci"), ["virtio", "virtio_pci"]);
        assert_eq!(index().load_order("squashfs"), Vec::<String>::new());
        assert_eq!(index().load_order("nowhere"), Vec::<String>::new());
    }

    #[test]
    fn soft_dependencies_may_be_aliases_and_circles() {
        assert_eq!(index().load_order("libcrc32c"), ["crc32c_generic", "libcrc32c"]);
        assert_eq!(index().load_order("x"), ["y", "x", "a_b"]);
    }

    #[test]
    fn devices_find_their_drivers() {
        let index = index();
        assert_eq!(index.for_alias("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(
            index.for_alias("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"),
            ["virtio_pci"]
        );
        assert_eq!(index.for_alias("acpi:XYZ:ABCE:"), Vec::<&str>::new());
        assert_eq!(index.for_alias("acpi:XYZ:ABCD:"), ["a_b"]);
        assert!(index.is_built_in("squashfs"));
    }
}

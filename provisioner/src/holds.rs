//! What on the server holds a node: keeps it from booting, or its runtime overlays from following.
//! One place has it, by node and part, and tells fleet, which shows it in the node's status and
//! writes it into its history.
//!
//! | part | looked at | gone |
//! |---|---|---|
//! | specification, image, runtime overlays | for all nodes at each change of nodes, overlays or images | at the next look |
//! | boot overlays | likewise, what can be told without rendering; and when a node asks for them | at the next look, which renders them then |
//! | boot | when a node asks for its script or initrd | when it gets them, or has other values |
//!
//! Nodes that are held are looked at again every while, for causes that go without a change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{
    ids::{NodeId, NodeName},
    machine::MachineSpec,
};
use rest::causes;

use crate::{
    images::{ImageTable, kernel_of},
    overlay::library::Library,
    provisioner::{OverlaySet, OverlaysError, Provisioner, View},
    resolve::Profiles,
    store::NodeRecord,
};

/// Longest cause that is kept, characters: a line of the history has 500.
const MAX_CAUSE_CHARS: usize = 400;

/// Nodes named in one line of the log where overlays cannot be rendered.
const MAX_NAMED: usize = 5;

/// What of a node is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Its values cannot be told: its own row, or a profile, cannot be read.
    Specification,
    /// What it boots is not there, or damaged.
    Image,
    /// Its boot script or its initrd was asked for and cannot be made.
    Boot,
    /// What stage 1 applies.
    BootOverlays,
    /// What its agent keeps up to date.
    RuntimeOverlays,
}

impl From<OverlaySet> for Part {
    fn from(set: OverlaySet) -> Self {
        match set {
            OverlaySet::Boot => Self::BootOverlays,
            OverlaySet::Runtime => Self::RuntimeOverlays,
        }
    }
}

/// A cause, and the values of the node that it was told of.
#[derive(Debug)]
struct Cause {
    text: String,
    spec: Option<Arc<MachineSpec>>,
}

/// All nodes that are held, by part.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<BTreeMap<NodeId, BTreeMap<Part, Cause>>>);

impl Holds {
    /// Every change is whole: a poisoned lock guards a good map.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, BTreeMap<Part, Cause>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes that are held.
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.lock().keys().copied().collect()
    }

    /// Deleted nodes are held by nothing.
    pub(crate) fn forget(&self, nodes: &[NodeId]) {
        let mut held = self.lock();
        for id in nodes {
            held.remove(id);
        }
    }

    fn is_held(&self, id: NodeId, part: Part) -> bool {
        self.lock().get(&id).is_some_and(|parts| parts.contains_key(&part))
    }

    /// Sets the parts of a node and tells what holds it now, if that is something else than before.
    fn set(
        &self,
        id: NodeId,
        parts: impl IntoIterator<Item = (Part, Option<String>)>,
        spec: Option<&Arc<MachineSpec>>,
        tell: impl FnOnce(Option<String>),
    ) {
        let mut held = self.lock();
        let before = held.get(&id).map(text);
        let node = held.entry(id).or_default();
        if node.get(&Part::Boot).is_some_and(|cause| cause.spec.as_ref() != spec) {
            node.remove(&Part::Boot);
        }
        for (part, cause) in parts {
            match cause {
                None => drop(node.remove(&part)),
                Some(text) => {
                    let text = text.chars().take(MAX_CAUSE_CHARS).collect();
                    node.insert(part, Cause { text, spec: spec.cloned() });
                }
            }
        }
        let after = (!node.is_empty()).then(|| text(node));
        if node.is_empty() {
            held.remove(&id);
        }
        // Under the lock, so that what is told last is what is.
        if before != after {
            tell(after);
        }
    }
}

/// Each cause once, in the order of the parts.
fn text(parts: &BTreeMap<Part, Cause>) -> String {
    let mut causes: Vec<&str> = Vec::new();
    for cause in parts.values() {
        if !causes.contains(&cause.text.as_str()) {
            causes.push(&cause.text);
        }
    }
    causes.join("; ")
}

impl Provisioner {
    /// Notes what holds a part of a node that has just asked, or that nothing does.
    pub(crate) fn hold(&self, node: &NodeRecord, part: Part, cause: Option<String>) {
        let view = self.view();
        let spec = view.cluster.checked.resolved.get(&node.name);
        self.0.holds.set(node.id, [(part, cause)], spec, |held| self.0.fleet.set_held(node.id, held));
    }

    /// Begins a look at what holds nodes.
    pub(crate) fn standing(&self) -> Standing<'_> {
        Standing {
            provisioner: self,
            view: self.view(),
            library: self.library(),
            images: self.0.images.table(),
            profiles: None,
            overlays: HashMap::new(),
            booted: HashMap::new(),
            failed: Vec::new(),
        }
    }
}

/// One look at what holds nodes; what is the same for many of them is looked at once.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    provisioner: &'a Provisioner,
    view: Arc<View>,
    library: Arc<Library>,
    images: Arc<ImageTable>,
    profiles: Option<Profiles>,
    /// What is wrong with overlays, by name.
    overlays: HashMap<String, Option<String>>,
    /// What is wrong with images, by reference and kernel.
    booted: HashMap<(String, Option<String>), Option<String>>,
    failed: Vec<(NodeName, String)>,
}

impl Standing<'_> {
    /// Looks at one node. `runtime`: why its runtime overlays cannot be rendered. Blocking.
    pub(crate) fn judge(&mut self, name: &NodeName, record: &NodeRecord, runtime: Option<&OverlaysError>) {
        let spec = self.view.cluster.checked.resolved.get(name).cloned();
        let parts = match &spec {
            None => [
                (Part::Specification, Some(self.why_not_resolved(record))),
                // Nothing can be said of them.
                (Part::Image, None),
                (Part::BootOverlays, None),
                (Part::RuntimeOverlays, None),
            ],
            Some(spec) => [
                (Part::Specification, None),
                (Part::Image, self.image_problem(spec)),
                (Part::BootOverlays, self.boot_overlays_problem(name, record, spec)),
                (Part::RuntimeOverlays, runtime.map(|error| causes(error))),
            ],
        };
        if let (Some(_), Some(error)) = (&spec, runtime) {
            self.failed.push((name.clone(), causes(error)));
        }
        let fleet = &self.provisioner.0.fleet;
        let tell = |held| fleet.set_held(record.id, held);
        self.provisioner.0.holds.set(record.id, parts, spec.as_ref(), tell);
    }

    /// Logs whose runtime overlays stay as they are.
    pub(crate) fn end(self) {
        let Some((_, first)) = self.failed.first() else { return };
        let names: Vec<&str> = self.failed.iter().take(MAX_NAMED).map(|(name, _)| name.as_str()).collect();
        let more = self.failed.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::error!("runtime overlays of {}{more} stay as they are: {first}", names.join(", "));
    }

    fn why_not_resolved(&mut self, record: &NodeRecord) -> String {
        if let Some(cause) = &record.unreadable {
            return format!("its row in the database cannot be read: {cause}");
        }
        let view = &self.view;
        let profiles = self.profiles.get_or_insert_with(|| Profiles::of_records(&view.cluster.profiles));
        match profiles.resolve(&record.spec) {
            Err(error) => error.to_string(),
            Ok(_) => "its profiles could not be applied".to_owned(),
        }
    }

    fn image_problem(&mut self, spec: &MachineSpec) -> Option<String> {
        let reference = spec.image.as_ref()?;
        let (images, table) = (&self.provisioner.0.images, &self.images);
        let key = (reference.clone(), spec.kernel.clone());
        let look = || {
            let record = match table.find(reference) {
                Ok(record) => record,
                Err(error) => return Some(error.to_string()),
            };
            match kernel_of(record, spec.kernel.as_deref()) {
                Ok(kernel) => images.check_files(record, Some(kernel)).err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            }
        };
        self.booted.entry(key).or_insert_with(look).clone()
    }

    fn boot_overlays_problem(
        &mut self,
        name: &NodeName,
        record: &NodeRecord,
        spec: &MachineSpec,
    ) -> Option<String> {
        let library = &self.library;
        for overlay in &spec.boot_overlays {
            if !self.overlays.contains_key(overlay) {
                self.overlays.insert(overlay.clone(), library.unusable(overlay));
            }
            if let Some(Some(problem)) = self.overlays.get(overlay) {
                return Some(problem.clone());
            }
        }
        // A rendering failed when the node asked. The values that it failed for may be mended.
        if !self.provisioner.0.holds.is_held(record.id, Part::BootOverlays) {
            return None;
        }
        self.provisioner.archive(name, OverlaySet::Boot).err().map(|error| causes(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a node, in order.
    #[derive(Default)]
    struct Told(std::cell::RefCell<Vec<Option<String>>>);

    impl Told {
        fn set(&self, holds: &Holds, part: Part, cause: Option<&str>, spec: Option<&Arc<MachineSpec>>) {
            let id = NodeId(uuid::Uuid::from_u128(7));
            let parts = [(part, cause.map(str::to_owned))];
            holds.set(id, parts, spec, |held| self.0.borrow_mut().push(held));
        }

        fn take(&self) -> Vec<Option<String>> {
            self.0.take()
        }
    }

    #[test]
    fn a_change_is_told_and_a_repetition_is_not() {
        let (holds, told) = (Holds::default(), Told::default());
        let some = |text: &str| Some(text.to_owned());
        told.set(&holds, Part::RuntimeOverlays, None, None);
        assert_eq!(told.take(), []);
        for _ in 0..1_000 {
            told.set(&holds, Part::RuntimeOverlays, Some("overlay x: too large"), None);
            told.set(&holds, Part::BootOverlays, Some("overlay x: too large"), None);
        }
        assert_eq!(told.take(), [some("overlay x: too large")], "two parts have one cause");
        told.set(&holds, Part::Image, Some("there is no image"), None);
        told.set(&holds, Part::RuntimeOverlays, None, None);
        told.set(&holds, Part::BootOverlays, None, None);
        let both = some("there is no image; overlay x: too large");
        assert_eq!(told.take(), [both, some("there is no image")]);
        assert_eq!(holds.nodes().len(), 1);
        told.set(&holds, Part::Image, None, None);
        assert_eq!((told.take(), holds.nodes().len()), (vec![None], 0));
    }

    #[test]
    fn other_values_end_what_a_boot_was_held_by() {
        let (holds, told) = (Holds::default(), Told::default());
        let spec = |comment: &str| {
            Arc::new(MachineSpec { comment: Some(comment.to_owned()), ..MachineSpec::default() })
        };
        told.set(&holds, Part::Boot, Some("the script fails"), Some(&spec("a")));
        told.set(&holds, Part::Image, None, Some(&spec("a")));
        assert_eq!(told.take().len(), 1, "it goes on");
        told.set(&holds, Part::Image, None, Some(&spec("b")));
        assert_eq!(told.take(), [None]);
    }

    #[test]
    fn a_cause_is_bounded() {
        let (holds, told) = (Holds::default(), Told::default());
        told.set(&holds, Part::Boot, Some(&"é".repeat(10_000)), None);
        assert_eq!(told.take()[0].as_ref().unwrap().chars().count(), MAX_CAUSE_CHARS);
    }
}

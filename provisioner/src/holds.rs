//! What on the server holds a node: keeps it from booting, or its runtime overlays from following.
//! One place has it, by node and part, and tells fleet, which shows it in the node's status and
//! writes it into its history.
//!
//! | part | looked at | gone |
//! |---|---|---|
//! | specification, image, runtime overlays | at each change of overlays or images; of nodes, for those that changed, or for all where templates of others see it | at the next look |
//! | boot overlays | likewise, what can be told without rendering; and when a node asks for them | at the next look, which renders them then |
//! | boot, memory, initrd | when a node asks for its script, for its initrd | when it gets that, or has other values |
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
use image_catalog::ImageTable;
use rest::causes;

use crate::{
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
    /// Its boot script was asked for and cannot be made.
    Boot,
    /// Its boot script was asked for, and its machine has too little memory for what it would boot.
    Memory,
    /// Its initrd was asked for and cannot be made. It gets a script all the same.
    Initrd,
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

/// Nodes that were not looked at since they may have become others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// All of them: something that all depend on may be another.
    All,
    /// These, by the names that they had and have.
    Some(BTreeSet<NodeName>),
}

impl Unseen {
    /// Adds nodes.
    pub(crate) fn add(&mut self, nodes: BTreeSet<NodeName>) {
        if let Self::Some(names) = self {
            names.extend(nodes);
        }
    }

    /// Adds all nodes: something changed that all depend on.
    pub(crate) fn add_all(&mut self) {
        *self = Self::All;
    }

    /// Takes them to look at them.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Some(BTreeSet::new()))
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
pub(crate) struct Holds {
    nodes: Mutex<BTreeMap<NodeId, BTreeMap<Part, Cause>>>,
    /// Whose runtime overlays could not be rendered at the last look, and why.
    failed: Mutex<Vec<(NodeName, String)>>,
}

impl Holds {
    /// Every change is whole: a poisoned lock guards a good map.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, BTreeMap<Part, Cause>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Only nodes that there are can be held.
    fn retain(&self, is_there: impl Fn(NodeId) -> bool) {
        self.lock().retain(|id, _| is_there(*id));
    }

    /// What the log says of runtime overlays that cannot be rendered; `None` if it
    /// said so last time.
    fn new_failures(&self, failed: Vec<(NodeName, String)>) -> Option<String> {
        let mut before = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == failed {
            return None;
        }
        *before = failed;
        let (_, first) = before.first()?;
        let names: Vec<&str> =
            before.iter().take(MAX_NAMED).map(|(name, _)| name.as_str()).collect();
        let more = before.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("runtime overlays of {}{more} stay as they are: {first}", names.join(", ")))
    }

    /// Whether anything holds this node.
    fn holds(&self, id: NodeId) -> bool {
        self.lock().contains_key(&id)
    }

    pub(crate) fn is_held(&self, id: NodeId, part: Part) -> bool {
        self.lock().get(&id).is_some_and(|parts| parts.contains_key(&part))
    }

    /// Sets the parts of a node and tells what holds it now, if that is something else than before.
    /// Whether the node is there is asked under the lock: deleted nodes are gone first and
    /// [forgotten](Self::forget) then.
    fn set(
        &self,
        id: NodeId,
        parts: impl IntoIterator<Item = (Part, Option<String>)>,
        spec: Option<&Arc<MachineSpec>>,
        is_there: impl FnOnce() -> bool,
        tell: impl FnOnce(Option<String>),
    ) {
        let mut held = self.lock();
        if !is_there() {
            return;
        }
        let before = held.get(&id).map(text);
        let node = held.entry(id).or_default();
        let is_of_a_boot = |part: &Part| matches!(part, Part::Boot | Part::Memory | Part::Initrd);
        node.retain(|part, cause| !is_of_a_boot(part) || cause.spec.as_ref() == spec);
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
        // Nearly every boot.
        if cause.is_none() && !self.0.holds.holds(node.id) {
            return;
        }
        let view = self.view();
        let spec = view.cluster.checked.resolved.get(&node.name);
        let is_there = || self.is_there(node.id);
        let tell = |held| self.0.fleet.set_held(node.id, held);
        self.0.holds.set(node.id, [(part, cause)], spec, is_there, tell);
    }

    fn is_there(&self, id: NodeId) -> bool {
        self.view().cluster.by_id(id).is_some()
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
    pub(crate) fn judge(
        &mut self,
        name: &NodeName,
        record: &NodeRecord,
        runtime: Option<&OverlaysError>,
    ) {
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
            let cause = causes(error).chars().take(MAX_CAUSE_CHARS).collect();
            self.failed.push((name.clone(), cause));
        }
        let fleet = &self.provisioner.0.fleet;
        let tell = |held| fleet.set_held(record.id, held);
        let is_there = || self.provisioner.is_there(record.id);
        self.provisioner.0.holds.set(record.id, parts, spec.as_ref(), is_there, tell);
    }

    /// Logs whose runtime overlays stay as they are, where that is new. After a look at all nodes,
    /// forgets those that are gone.
    pub(crate) fn end(self, was_at_all: bool) {
        let holds = &self.provisioner.0.holds;
        if was_at_all {
            holds.retain(|id| self.provisioner.is_there(id));
        }
        if let Some(line) = holds.new_failures(self.failed) {
            tracing::error!("{line}");
        }
    }

    fn why_not_resolved(&mut self, record: &NodeRecord) -> String {
        if let Some(cause) = &record.unreadable {
            return format!("its row in the database cannot be read: {cause}");
        }
        let view = &self.view;
        let profiles =
            self.profiles.get_or_insert_with(|| Profiles::of_records(&view.cluster.profiles));
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
            images
                .kernel_to_boot(record, spec.kernel.as_deref())
                .err()
                .map(|error| error.to_string())
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
                let problem = library.unusable(overlay).map(|error| error.to_string());
                self.overlays.insert(overlay.clone(), problem);
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
        fn set(
            &self,
            holds: &Holds,
            part: Part,
            cause: Option<&str>,
            spec: Option<&Arc<MachineSpec>>,
        ) {
            let id = NodeId(uuid::Uuid::from_u128(7));
            let parts = [(part, cause.map(str::to_owned))];
            holds.set(id, parts, spec, || true, |held| self.0.borrow_mut().push(held));
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
        told.set(&holds, Part::Memory, Some("has 1 MiB of memory"), Some(&spec("b")));
        told.set(&holds, Part::Image, None, Some(&spec("a")));
        assert_eq!(told.take().len(), 2, "another image may need less");
        told.set(&holds, Part::Initrd, Some("the initrd fails"), Some(&spec("b")));
        told.set(&holds, Part::Boot, None, Some(&spec("b")));
        assert_eq!(
            told.take().len(),
            1,
            "a script ends it not, or it would come back with each boot"
        );
        told.set(&holds, Part::Image, None, Some(&spec("c")));
        assert_eq!(told.take(), [None]);
    }

    #[test]
    fn nodes_that_are_gone_are_not_held() {
        let (holds, told) = (Holds::default(), Told::default());
        let id = NodeId(uuid::Uuid::from_u128(8));
        let parts = [(Part::Image, Some("there is no image".to_owned()))];
        holds.set(id, parts, None, || false, |held| told.0.borrow_mut().push(held));
        assert_eq!((told.take(), holds.nodes().len()), (vec![], 0));
        told.set(&holds, Part::Image, Some("there is no image"), None);
        holds.retain(|_| true);
        assert_eq!(holds.nodes().len(), 1);
        holds.retain(|_| false);
        assert_eq!(holds.nodes().len(), 0);
    }

    #[test]
    fn the_log_says_once_that_runtime_overlays_fail() {
        let holds = Holds::default();
        let failed = |names: &[&str], cause: &str| {
            let of = |name: &&str| (name.parse().unwrap(), cause.to_owned());
            holds.new_failures(names.iter().map(of).collect())
        };
        assert_eq!(failed(&[], ""), None);
        let line = "runtime overlays of n1, n2 stay as they are: it fails";
        assert_eq!(failed(&["n1", "n2"], "it fails").as_deref(), Some(line));
        assert_eq!(failed(&["n1", "n2"], "it fails"), None);
        assert!(failed(&["n1", "n2"], "it fails otherwise").is_some());
        assert!(failed(&["n1"], "it fails otherwise").is_some());
        assert_eq!(failed(&[], ""), None);
        assert!(failed(&["n1"], "it fails otherwise").is_some(), "again, after it was mended");
    }

    #[test]
    fn what_was_not_seen_is_looked_at_once() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let mut unseen = Unseen::All;
        unseen.add(names(&["n1"]));
        assert_eq!(unseen.take(), Unseen::All);
        unseen.add(names(&["n1"]));
        unseen.add(names(&["n2", "n1"]));
        assert_eq!(unseen.take(), Unseen::Some(names(&["n1", "n2"])));
        assert_eq!(unseen.take(), Unseen::Some(BTreeSet::new()));
        unseen.add(names(&["n1"]));
        unseen.add_all();
        unseen.add(names(&["n2"]));
        assert_eq!(unseen.take(), Unseen::All);
    }

    #[test]
    fn a_cause_is_bounded() {
        let (holds, told) = (Holds::default(), Told::default());
        told.set(&holds, Part::Boot, Some(&"é".repeat(10_000)), None);
        assert_eq!(told.take()[0].as_ref().unwrap().chars().count(), MAX_CAUSE_CHARS);
    }
}

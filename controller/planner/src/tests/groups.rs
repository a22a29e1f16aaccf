//! Groups: whole or not at all, beside all that could have been done on a small cluster, and what
//! they are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use api::{ids::NodeId, run::RunId};
use expect_test::expect;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestCaseResult, TestRunner},
};

use crate::{
    Affinity, Allowed, Cluster, Node, Placement, Request,
    cluster::NodeState,
    tests::{cluster, hold, is_as_asked, node, node_id, request, run},
};

/// Runs a property over so many cases. The seed is printed: with it in `PROPTEST_RNG_SEED` the same
/// cases are drawn again.
#[expect(clippy::print_stderr, reason = "the seed of a test that fails or hangs")]
fn explore<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let mut config =
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(cases));
    }
    eprintln!("PROPTEST_RNG_SEED={}", config.rng_seed);
    let seed = config.rng_seed;
    if let Err(error) = TestRunner::new(config).run(strategy, test) {
        panic!("PROPTEST_RNG_SEED={seed}: {error}");
    }
}

/// A group that is to be made a request of, once its cluster is known.
#[derive(Debug, Clone)]
struct Group {
    request: Request,
    members: usize,
    to: To,
}

/// Where it may go, by places in a list of nodes that may be shorter.
#[derive(Debug, Clone)]
enum To {
    Any,
    Only(usize),
    Of(Vec<usize>),
}

impl Group {
    fn request(&self, cluster: &mut Cluster, nodes: &[Node]) -> Request {
        let id = |place: &usize| nodes[place % nodes.len()].id;
        let allowed = match &self.to {
            To::Any => Allowed::Any,
            To::Only(place) => Allowed::Only(id(place)),
            To::Of(places) => Allowed::Of(Arc::new(cluster.node_set(places.iter().map(id)))),
        };
        Request { allowed, ..self.request.clone() }
    }
}

fn any_group() -> impl Strategy<Value = Group> {
    let affinity = prop_oneof![Just(Affinity::Core), Just(Affinity::Socket), Just(Affinity::Numa)];
    let of_node =
        (1_u32..4, affinity, 0_u64..7, prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let limit = prop_oneof![1 => Just(None), 4 => (1_u64..20).prop_map(Some)];
    let to = prop_oneof![
        6 => Just(To::Any),
        1 => (0_usize..6).prop_map(To::Only),
        2 => prop::collection::vec(0_usize..6, 0..4).prop_map(To::Of),
    ];
    let near = prop::option::weighted(0.3, Just("rack".to_owned()));
    let of_nodes = (to, near, prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let members = prop_oneof![1 => Just(1), 2 => 2_usize..9];
    (of_node, of_nodes, members, limit).prop_map(|(of_node, of_nodes, members, limit_seconds)| {
        let (cores, affinity, gib, has_gpu, exclusive) = of_node;
        let (to, near, spread, has_label) = of_nodes;
        let labels = has_label.then(|| ("rack".to_owned(), "a".to_owned())).into_iter().collect();
        let devices = has_gpu.then(|| ("gpu".to_owned(), 1)).into_iter().collect();
        let request = request(cores, affinity, gib);
        let request =
            Request { devices, labels, exclusive, near, spread, limit_seconds, ..request };
        Group { request, members, to }
    })
}

/// Up to so many nodes of at most two NUMA nodes, in racks or in none.
fn any_nodes(most: usize) -> impl Strategy<Value = Vec<Node>> {
    let size = prop_oneof![Just((1, 1)), Just((2, 1)), Just((1, 2))];
    let rack = prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("c"))];
    let labels = rack.prop_map(|rack| rack.map(|rack| ("rack".to_owned(), rack.to_owned())));
    let drawn = prop::collection::vec((size, 1_u32..4, labels), 1..=most);
    drawn.prop_map(|drawn| {
        let drawn = (1..).zip(drawn);
        let nodes = drawn.map(|(number, ((packages, numas), cores, label))| Node {
            labels: label.into_iter().collect(),
            ..node(number, packages, numas, cores)
        });
        nodes.collect()
    })
}

#[derive(Debug, Clone)]
enum Step {
    /// A group is submitted.
    Submit(Group),
    /// One that runs is over.
    End(usize),
    /// A node is drained, or does not answer: what runs there goes on.
    Away(usize),
    Back(usize),
    /// A node is lost with what runs there; groups with a member there are ended, and tried again.
    Lost(usize),
    /// So much time goes by, seconds: what is at its limit is over.
    Wait(i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_group().prop_map(Step::Submit),
        2 => (0_usize..8).prop_map(Step::End),
        1 => (0_usize..8).prop_map(Step::Away),
        1 => (0_usize..8).prop_map(Step::Back),
        1 => (0_usize..8).prop_map(Step::Lost),
        1 => (1_i64..15).prop_map(Step::Wait),
    ]
}

/// A cluster with its queue.
struct Stage {
    nodes: Vec<Node>,
    cluster: Cluster,
    /// With all its nodes, and nothing on them.
    whole: Cluster,
    queue: Vec<(Request, Vec<RunId>)>,
    running: Vec<(Request, Vec<Placement>)>,
    now: i64,
    runs: u128,
}

impl Stage {
    fn new(nodes: Vec<Node>) -> Self {
        let cluster = cluster(nodes.clone());
        let (queue, running) = (Vec::new(), Vec::new());
        Self { nodes, whole: cluster.clone(), cluster, queue, running, now: 0, runs: 0 }
    }

    fn submit(&mut self, request: Request, members: usize) {
        let runs = (0..members).map(|_| {
            self.runs += 1;
            run(self.runs)
        });
        let runs = runs.collect();
        if self.whole.fits(&request, members, None).is_ok() {
            self.queue.push((request, runs));
        }
    }

    fn take(&mut self, step: Step) {
        let id = |place: usize| self.nodes[place % self.nodes.len()].id;
        match step {
            Step::Submit(group) => {
                let request = group.request(&mut self.cluster, &self.nodes);
                self.submit(request, group.members);
            }
            Step::End(place) if place < self.running.len() => {
                let (_, group) = self.running.swap_remove(place);
                group.iter().for_each(|member| assert!(self.cluster.release(member.run)));
            }
            Step::End(_) => {}
            Step::Away(place) => {
                let unavailable = Some("drained".to_owned());
                let node = self.nodes[place % self.nodes.len()].clone();
                self.cluster.put_node(Node { unavailable, ..node });
            }
            Step::Back(place) => {
                self.cluster.put_node(self.nodes[place % self.nodes.len()].clone())
            }
            Step::Lost(place) => {
                let lost = id(place);
                self.cluster.remove_node(lost);
                let has_member =
                    |group: &(Request, Vec<Placement>)| group.1.iter().any(|one| one.node == lost);
                for (request, group) in
                    self.running.extract_if(.., |group| has_member(group)).collect::<Vec<_>>()
                {
                    group.iter().for_each(|one| {
                        assert_eq!(self.cluster.release(one.run), one.node != lost)
                    });
                    self.submit(request, group.len());
                }
            }
            Step::Wait(seconds) => {
                self.now += seconds;
                let now = self.now;
                let is_over = |group: &(Request, Vec<Placement>)| {
                    group.1.iter().any(|member| member.ends.is_some_and(|end| end <= now))
                };
                for (_, group) in
                    self.running.extract_if(.., |group| is_over(group)).collect::<Vec<_>>()
                {
                    group.iter().for_each(|member| assert!(self.cluster.release(member.run)));
                }
            }
        }
    }

    /// Offers the queue. Returns how many groups were placed.
    fn place(&mut self) -> usize {
        let placed = self.cluster.place(&self.queue, self.now);
        for (index, group) in &placed {
            let (request, runs) = &self.queue[*index];
            let of: Vec<RunId> = group.iter().map(|member| member.run).collect();
            assert_eq!(of, *runs, "a group in part, or not in its order");
            let mut nodes = BTreeSet::new();
            for member in group {
                let place = &self.cluster.places[&member.node];
                assert!(
                    place.is_meant(request) && place.node.unavailable.is_none(),
                    "not on that node"
                );
                assert!(
                    nodes.insert(member.node) || !request.spread,
                    "two members of a spread group"
                );
                is_as_asked(&self.cluster, request, member);
            }
        }
        let count = placed.len();
        for (index, group) in placed.into_iter().rev() {
            self.running.push((self.queue.remove(index).0, group));
        }
        hold(&self.cluster);
        let runs = |place: &NodeState| place.runs.len();
        let there: usize = self.cluster.places.values().map(runs).sum();
        assert_eq!(there, self.running.iter().map(|(_, group)| group.len()).sum::<usize>());
        count
    }
}

#[test]
fn groups_are_whole_and_none_is_forgotten() {
    let drawn = (any_nodes(5), prop::collection::vec(any_step(), 1..12));
    explore(10_000, &drawn, |(nodes, steps)| {
        let mut stage = Stage::new(nodes);
        for step in steps {
            stage.take(step);
            stage.place();
        }
        // The nodes come back, and what runs ends: each time the head begins at least.
        for node in stage.nodes.clone() {
            stage.cluster.put_node(node);
        }
        while !stage.queue.is_empty() {
            for (_, group) in std::mem::take(&mut stage.running) {
                group.iter().for_each(|member| assert!(stage.cluster.release(member.run)));
            }
            let head = stage.queue[0].1.clone();
            stage.place();
            let has_begun = stage.running.iter().any(|(_, group)| group[0].run == head[0]);
            prop_assert!(has_begun, "the head waits on an empty cluster");
        }
        Ok(())
    });
}

/// A part of a node that a member is put on whole.
#[derive(Debug, Clone)]
struct Bin {
    node: NodeId,
    cores: u32,
    memory: u64,
}

/// The parts of all nodes that may be asked, and free GPUs by node. Written without the planner's
/// search: a node has at most two NUMA nodes or packages, and a member is on one of them or needs
/// both.
fn bins(cluster: &Cluster, request: &Request) -> (Vec<Bin>, BTreeMap<NodeId, usize>) {
    let (mut all, mut gpus) = (Vec::new(), BTreeMap::new());
    for place in cluster.places.values() {
        let (id, capacity, free) = (place.node.id, &place.node.capacity, &place.free);
        let is_empty = free.runs == 0;
        if !place.is_meant(request) || free.is_exclusive || (request.exclusive && !is_empty) {
            continue;
        }
        gpus.insert(id, free.devices.len());
        let mut parts: BTreeMap<u32, (Bin, Bin)> = BTreeMap::new();
        for (index, core) in (0..).zip(&capacity.cores) {
            let part = match request.affinity {
                Affinity::Socket => core.package,
                Affinity::Numa => core.numa,
                Affinity::Core => 0,
            };
            let none = || Bin { node: id, cores: 0, memory: 0 };
            let (empty, now) = parts.entry(part).or_insert_with(|| (none(), none()));
            empty.cores += 1;
            now.cores += u32::from(free.cores.contains(&index));
            let is_first =
                capacity.cores[..index as usize].iter().all(|other| other.numa != core.numa);
            if is_first {
                empty.memory += 8 << 30;
                now.memory += free.memory[&core.numa];
            }
        }
        let fits = |bin: &Bin| bin.cores >= request.cores && bin.memory >= request.memory_bytes;
        let one_is_enough = parts.values().any(|(empty, _)| fits(empty));
        let now = parts.into_values().map(|(_, now)| now);
        if request.exclusive || !one_is_enough {
            let add = |sum: Bin, bin: Bin| Bin {
                node: id,
                cores: sum.cores + bin.cores,
                memory: sum.memory + bin.memory,
            };
            all.extend(now.reduce(add));
        } else {
            all.extend(now);
        }
    }
    (all, gpus)
}

/// Whether so many members can be put on these parts, from the given one on: all ways are tried.
fn can_be(
    bins: &mut [Bin],
    gpus: &mut BTreeMap<NodeId, usize>,
    request: &Request,
    (members, from): (usize, usize),
    used: &mut Vec<NodeId>,
) -> bool {
    if members == 0 {
        return true;
    }
    let wanted = request.devices.values().sum::<u32>() as usize;
    for index in from..bins.len() {
        let before = bins[index].clone();
        let id = before.node;
        let is_taken = (request.spread || request.exclusive) && used.contains(&id);
        let is_enough = before.cores >= request.cores && before.memory >= request.memory_bytes;
        if is_taken || !is_enough || gpus[&id] < wanted {
            continue;
        }
        bins[index].cores -= request.cores;
        bins[index].memory -= request.memory_bytes;
        *gpus.entry(id).or_default() -= wanted;
        used.push(id);
        let can = can_be(bins, gpus, request, (members - 1, index), used);
        used.pop();
        *gpus.entry(id).or_default() += wanted;
        bins[index] = before;
        if can {
            return true;
        }
    }
    false
}

/// For how many members there is room on nodes with each value of a label; those without it are
/// `None`.
fn rooms(cluster: &Cluster, request: &Request, members: usize) -> BTreeMap<Option<String>, usize> {
    let (all, mut gpus) = bins(cluster, request);
    let value = |bin: &Bin| cluster.places[&bin.node].node.labels.get("rack").cloned();
    let mut by_value: BTreeMap<Option<String>, Vec<Bin>> = BTreeMap::new();
    all.into_iter().for_each(|bin| by_value.entry(value(&bin)).or_default().push(bin));
    let mut room = |mut bins: Vec<Bin>| {
        let can =
            |count: &usize| can_be(&mut bins, &mut gpus, request, (*count, 0), &mut Vec::new());
        (1..=members).take_while(can).count()
    };
    by_value.into_iter().map(|(value, bins)| (value, room(bins))).collect()
}

#[test]
fn a_group_is_placed_if_it_can_be() {
    let drawn = (any_nodes(6), prop::collection::vec(any_group(), 0..5), any_group());
    explore(10_000, &drawn, |(nodes, before, group)| {
        let mut cluster = cluster(nodes.clone());
        let wanted = group.request(&mut cluster, &nodes);
        let members = group.members;
        let empty = cluster
            .clone()
            .pass(0)
            .offer(&wanted, &(1..).map(run).take(members).collect::<Vec<_>>());
        prop_assert_eq!(cluster.fits(&wanted, members, None).is_ok(), empty.is_some());
        for (number, group) in (1..).zip(before) {
            let request = group.request(&mut cluster, &nodes);
            let runs: Vec<RunId> =
                (0..group.members as u128).map(|member| run(number * 100 + member)).collect();
            cluster.pass(0).offer(&request, &runs);
        }
        let (mut all, mut gpus) = bins(&cluster, &wanted);
        let can = can_be(&mut all, &mut gpus, &wanted, (members, 0), &mut Vec::new());
        prop_assert_eq!(cluster.why(&wanted, members).is_empty(), can);
        prop_assert_eq!(cluster.pass(0).reserve_for(&wanted, members), can);
        let rooms = rooms(&cluster, &wanted, members);
        let runs: Vec<RunId> = (1..=members as u128).map(run).collect();
        let placed = cluster.pass(0).offer(&wanted, &runs);
        prop_assert_eq!(placed.is_some(), can);
        hold(&cluster);
        if let Some(placed) = placed.filter(|_| members > 1 && wanted.near.is_some()) {
            let value =
                |one: &Placement| cluster.places[&one.node].node.labels.get("rack").cloned();
            let values: Vec<Option<String>> = placed.iter().map(value).collect();
            is_near(&values, &rooms, members);
        }
        Ok(())
    });
}

/// Members are on nodes with as few values of the label as can be, and on nodes without it only if
/// the others have no room.
fn is_near(values: &[Option<String>], rooms: &BTreeMap<Option<String>, usize>, members: usize) {
    let with_label = values.iter().filter(|value| value.is_some()).count();
    let mut rooms: Vec<usize> =
        rooms.iter().filter(|(value, _)| value.is_some()).map(|(_, room)| *room).collect();
    rooms.sort_unstable_by_key(|&room| std::cmp::Reverse(room));
    assert_eq!(with_label, members.min(rooms.iter().sum()), "{values:?}, {rooms:?}");
    let mut sum = 0;
    let fewest = rooms.iter().take_while(|&&room| {
        let is_needed = sum < with_label;
        sum += room;
        is_needed
    });
    let different: BTreeSet<&String> = values.iter().flatten().collect();
    assert_eq!(different.len(), fewest.count(), "{values:?}, {rooms:?}");
}

#[test]
fn backfill_never_delays_a_group() {
    let groups = |most| prop::collection::vec(any_group(), 1..most);
    let drawn = (any_nodes(4), groups(6), any_group(), groups(6));
    explore(2_000, &drawn, |(nodes, running, head, later)| {
        let mut with = cluster(nodes.clone());
        let mut numbers = 1..;
        let mut job = |cluster: &mut Cluster, group: &Group| {
            let runs = numbers.by_ref().take(group.members).map(run);
            (group.request(cluster, &nodes), runs.collect::<Vec<RunId>>())
        };
        let running: Vec<_> = running.iter().map(|group| job(&mut with, group)).collect();
        with.place(&running, 0);
        let head = job(&mut with, &head);
        let later: Vec<_> = later.iter().map(|group| job(&mut with, group)).collect();
        let mut alone = with.clone();
        let queue: Vec<_> = std::iter::once(head.clone()).chain(later).collect();
        with.place(&queue, 1);
        // Both run on until every run is over by its limit; the head begins no later for those
        // behind it.
        let begins = |cluster: &mut Cluster| {
            (1..45).find(|&now| {
                let runs = cluster.places.values().flat_map(|place| place.runs.values());
                let is_over = |one: &&Placement| one.ends.is_some_and(|end| end <= now);
                let over: Vec<RunId> = runs.filter(is_over).map(|one| one.run).collect();
                over.into_iter().for_each(|run| assert!(cluster.release(run)));
                let has_begun =
                    cluster.places.values().any(|place| place.runs.contains_key(&head.1[0]));
                has_begun || !cluster.place(std::slice::from_ref(&head), now).is_empty()
            })
        };
        if let Some(alone) = begins(&mut alone) {
            let with = begins(&mut with);
            prop_assert!(with.is_some_and(|with| with <= alone), "alone {alone}, with {with:?}");
        }
        Ok(())
    });
}

fn runs(from: u128, members: u128) -> Vec<RunId> {
    (from..from + members).map(run).collect()
}

/// Nodes of two cores each, in these racks.
fn racks(racks: &[&str]) -> Cluster {
    let node = |(number, rack): (u128, &&str)| {
        let labels = (!rack.is_empty()).then(|| ("rack".to_owned(), (*rack).to_owned()));
        Node { labels: labels.into_iter().collect(), ..node(number, 1, 1, 2) }
    };
    cluster((1..).zip(racks).map(node).collect())
}

/// Where the members are, by number of their nodes.
fn places(placed: Option<Vec<Placement>>) -> Vec<u128> {
    placed.into_iter().flatten().map(|member| member.node.0.as_u128()).collect()
}

/// Narrow jobs come without end, and each of them alone would fit.
#[test]
fn a_wide_group_is_not_starved() {
    const NARROW_SECONDS: u64 = 7;
    let mut cluster = racks(&["", "", "", ""]);
    let narrow = Request { limit_seconds: Some(NARROW_SECONDS), ..request(1, Affinity::Core, 1) };
    let wide = (request(1, Affinity::Core, 1), runs(1, 8));
    let mut numbers = 100..;
    let mut begun_at = None;
    for now in 0..50 {
        let over: Vec<RunId> = cluster
            .places
            .values()
            .flat_map(|place| place.runs.values())
            .filter(|one| one.ends.is_some_and(|end| end <= now))
            .map(|one| one.run)
            .collect();
        over.into_iter().for_each(|run| assert!(cluster.release(run)));
        // One a second: never is all of it free at once.
        let next = (narrow.clone(), vec![run(numbers.next().unwrap())]);
        let queue = if now < 10 { vec![next] } else { vec![wide.clone(), next] };
        let placed = cluster.place(&queue, now);
        if now >= 10 && placed.iter().any(|(index, _)| *index == 0) {
            begun_at = Some(now);
            break;
        }
    }
    assert_eq!(begun_at, Some(16), "when the last of those that ran before is over");
}

#[test]
fn a_group_larger_than_the_cluster_is_refused_and_holds_up_nobody() {
    let mut cluster = racks(&["a", "a", "b"]);
    let one = request(1, Affinity::Core, 1);
    let refused = |cluster: &Cluster, request: &Request, members| {
        cluster.fits(request, members, None).unwrap_err().to_string()
    };
    assert!(cluster.fits(&one, 6, None).is_ok());
    expect![
        "it wants 7 members at once, and at most 6 fit on all nodes for it when they are empty"
    ]
    .assert_eq(&refused(&cluster, &one, 7));
    let apart = Request { spread: true, ..one.clone() };
    expect![
        "it wants 4 members at once, and at most 3 fit on all nodes for it when they are empty"
    ]
    .assert_eq(&refused(&cluster, &apart, 4));
    let in_rack = Request { labels: [("rack".to_owned(), "a".to_owned())].into(), ..one.clone() };
    expect![
        "it wants 5 members at once, and at most 4 fit on all nodes for it when they are empty"
    ]
    .assert_eq(&refused(&cluster, &in_rack, 5));
    let large = Request { cores: 3, ..one.clone() };
    expect!["it wants 3 cores, and the largest node for it has 2 cores (n3)"]
        .assert_eq(&refused(&cluster, &large, 7));
    // What is away counts, and what is too large is not waited for: all of the rest begins.
    let away = Node {
        unavailable: Some("away".to_owned()),
        ..Node::clone(&cluster.places[&node_id(3)].node)
    };
    cluster.put_node(away);
    assert!(cluster.fits(&one, 6, None).is_ok());
    let unlimited = Request { limit_seconds: None, ..one.clone() };
    let queue = [(one, runs(1, 7)), (apart, runs(10, 4)), (unlimited, runs(20, 4))];
    let placed = cluster.place(&queue, 0);
    assert_eq!(placed.into_iter().map(|(index, _)| index).collect::<Vec<_>>(), [2]);
}

#[test]
fn members_go_to_nodes_near_to_each_other() {
    let near = Request { near: Some("rack".to_owned()), ..request(1, Affinity::Core, 1) };
    let mut cluster = racks(&["a", "b", "b", "c", "", ""]);
    let offer = |cluster: &mut Cluster, request: &Request, from, members| {
        places(cluster.pass(0).offer(request, &runs(from, members)))
    };
    // The least that is enough, then the least values: b and one of the others, and none without a
    // label.
    assert_eq!(offer(&mut cluster.clone(), &near, 1, 2), [1, 1]);
    assert_eq!(offer(&mut cluster.clone(), &near, 1, 4), [2, 2, 3, 3]);
    assert_eq!(offer(&mut cluster.clone(), &near, 1, 6), [2, 2, 3, 3, 1, 1]);
    assert_eq!(offer(&mut cluster.clone(), &near, 1, 9), [2, 2, 3, 3, 1, 1, 4, 4, 5]);
    let apart = Request { spread: true, ..near.clone() };
    assert_eq!(offer(&mut cluster.clone(), &apart, 1, 2), [2, 3]);
    assert_eq!(offer(&mut cluster.clone(), &apart, 1, 6), [2, 3, 1, 4, 5, 6]);
    // Of a set of nodes too.
    let set = Arc::new(cluster.node_set([1, 3, 4].map(node_id)));
    let of = Request { allowed: Allowed::Of(set), ..near.clone() };
    assert_eq!(offer(&mut cluster.clone(), &of, 1, 3), [1, 1, 3]);
    // It does not wait to be near.
    assert_eq!(offer(&mut cluster, &request(2, Affinity::Core, 1), 100, 1), [1]);
    assert_eq!(offer(&mut cluster, &request(2, Affinity::Core, 1), 101, 1), [2]);
    assert_eq!(offer(&mut cluster, &near, 1, 4), [3, 3, 4, 4]);
}

#[test]
fn a_set_of_nodes_outlives_their_coming_and_going() {
    let mut cluster = racks(&["", "", ""]);
    let set = cluster.node_set([2, 4].map(node_id));
    assert_eq!(set.len(), 2);
    let of = Request { allowed: Allowed::Of(Arc::new(set)), ..request(1, Affinity::Core, 1) };
    let offer =
        |cluster: &Cluster, members| places(cluster.clone().pass(0).offer(&of, &runs(1, members)));
    assert_eq!(offer(&cluster, 2), [2, 2]);
    assert!(cluster.fits(&of, 3, None).is_err());
    // A node that was named before it was there is in it; one that takes a lost one's place is not.
    cluster.put_node(node(4, 1, 1, 1));
    assert_eq!(offer(&cluster, 3), [4, 2, 2]);
    cluster.remove_node(node_id(2));
    cluster.put_node(node(5, 1, 1, 8));
    assert_eq!(offer(&cluster, 1), [4]);
    assert!(cluster.fits(&of, 2, None).is_err());
    cluster.put_node(node(2, 1, 1, 2));
    assert_eq!(offer(&cluster, 3), [4, 2, 2]);
    cluster.remove_node(node_id(2));
    cluster.remove_node(node_id(4));
    assert!(cluster.fits(&of, 1, None).is_err() && offer(&cluster, 1).is_empty());
}

#[test]
fn a_small_set_among_many_nodes_is_gone_through_by_itself() {
    let mut cluster = racks(&[""; 40]);
    let set = Arc::new(cluster.node_set([30, 20, 10].map(node_id)));
    let of = Request { allowed: Allowed::Of(set), ..request(1, Affinity::Core, 1) };
    assert_eq!(places(cluster.pass(0).offer(&of, &runs(1, 3))), [10, 10, 20]);
    assert_eq!(places(cluster.pass(0).offer(&of, &runs(10, 3))), [20, 30, 30]);
    assert!(cluster.pass(0).offer(&of, &runs(20, 1)).is_none());
}

#[test]
fn a_group_is_told_what_its_members_miss() {
    let mut cluster = racks(&["a", "a", "b"]);
    let away = Node {
        unavailable: Some("draining".to_owned()),
        ..Node::clone(&cluster.places[&node_id(3)].node)
    };
    cluster.put_node(away);
    let one = request(1, Affinity::Core, 1);
    assert!(cluster.pass(0).offer(&one, &runs(1, 1)).is_some());
    let told =
        |cluster: &Cluster, request: &Request, members| cluster.why(request, members).join("\n");
    assert_eq!(told(&cluster, &one, 3), "", "it could begin");
    expect![[r#"
        3 of 5 members could begin now
        n3: draining
        n1: room for 1 member, 0 of 2 cores free, 1 wanted
        n2: room for 2 members, 0 of 2 cores free, 1 wanted"#]]
    .assert_eq(&told(&cluster, &one, 5));
    expect![[r#"
        2 of 3 members could begin now
        n3: draining
        n1, n2: room for 1 member, and no two on one node"#]]
    .assert_eq(&told(&cluster, &Request { spread: true, ..one.clone() }, 3));
    expect![[r#"
        1 of 2 members could begin now
        n1: 1 others run there, and it wants the node for itself
        n3: draining
        n2: room for 1 member, and no two on one node"#]]
    .assert_eq(&told(&cluster, &Request { exclusive: true, ..one }, 2));
}

/// Of what waits nothing is looked for again, for as many members or more; fewer are.
#[test]
fn equal_groups_wait_together() {
    let mut cluster = racks(&["", ""]);
    let one = request(1, Affinity::Core, 1);
    let mut pass = cluster.pass(0);
    assert!(pass.offer(&one, &runs(1, 5)).is_none());
    assert!(pass.offer(&one, &runs(10, 6)).is_none());
    assert_eq!(places(pass.offer(&one, &runs(20, 3))), [1, 1, 2]);
    assert!(pass.offer(&one, &runs(30, 2)).is_none());
    assert_eq!(places(pass.offer(&one, &runs(40, 1))), [2]);
    assert_eq!(pass.offer(&one, &[]), Some(Vec::new()), "nobody waits for nothing");
}

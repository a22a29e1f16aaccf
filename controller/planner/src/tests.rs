//! Scenarios drawn as text, and what must hold of every plan.

use std::collections::{BTreeMap, BTreeSet};

use api::{ids::NodeId, run::RunId};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

mod groups;
mod near;

const GIB: u64 = 1 << 30;

/// A node of so many packages, NUMA nodes in each, cores in each of those, two threads a core, 8
/// GiB a NUMA node, and a GPU near each NUMA node.
pub(crate) fn node(number: u128, packages: u32, numas: u32, cores: u32) -> Node {
    let mut capacity = Capacity::default();
    let all = packages * numas * cores;
    for package in 0..packages {
        for numa in 0..numas {
            let numa = package * numas + numa;
            capacity.memory.push(NumaMemory { numa, bytes: 8 * GIB });
            let device = Device {
                kind: "gpu".to_owned(),
                name: format!("gpu{numa}"),
                numa: Some(numa),
                unhealthy: false,
            };
            capacity.devices.push(device);
            for core in 0..cores {
                let first = numa * cores + core;
                capacity.cores.push(Core { pus: vec![first, first + all], package, numa });
            }
        }
    }
    let name = format!("n{number}");
    Node { id: node_id(number), name, labels: BTreeMap::new(), capacity, unavailable: None }
}

pub(crate) fn node_id(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

pub(crate) fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

pub(crate) fn request(cores: u32, affinity: Affinity, gib: u64) -> Request {
    Request {
        cores,
        affinity,
        threads: false,
        memory_bytes: gib * GIB,
        devices: BTreeMap::new(),
        labels: BTreeMap::new(),
        exclusive: false,
        allowed: Allowed::Any,
        near: None,
        spread: false,
        limit_seconds: Some(100),
    }
}

/// A request of one run.
type Job = (u128, Request);

fn job(number: u128, cores: u32, affinity: Affinity, gib: u64) -> Job {
    (number, request(cores, affinity, gib))
}

/// Offers requests of one run each.
fn place(cluster: &mut Cluster, queue: &[Job], now: i64) -> Vec<(usize, Placement)> {
    let queue: Vec<_> =
        queue.iter().map(|(number, request)| (request.clone(), vec![run(*number)])).collect();
    let placed = cluster.place(&queue, now);
    placed
        .into_iter()
        .flat_map(|(index, group)| group.into_iter().map(move |one| (index, one)))
        .collect()
}

/// A core, so many GPUs, 1 GiB.
fn with_gpus(count: u32, affinity: Affinity) -> Request {
    Request { devices: BTreeMap::from([("gpu".to_owned(), count)]), ..request(1, affinity, 1) }
}

fn draw(placed: &[(usize, Placement)]) -> String {
    let memory = |placement: &Placement| {
        let parts = placement.memory.iter().map(|(numa, bytes)| format!("{numa}:{}G", bytes / GIB));
        parts.collect::<Vec<_>>().join(" ")
    };
    let line = |(_, placement): &(usize, Placement)| {
        let Placement { run, node, cpus, devices, .. } = placement;
        let (run, node) = (run.0.as_u128(), node.0.as_u128());
        let line = format!(
            "{run} on n{node}: cpus {cpus:?} memory {} {}",
            memory(placement),
            devices.join(" ")
        );
        line.trim_end().to_owned() + "\n"
    };
    placed.iter().map(line).collect()
}

fn check(cluster: &mut Cluster, queue: &[Job], now: i64, expected: &Expect) {
    expected.assert_eq(&draw(&place(cluster, queue, now)));
}

pub(crate) fn cluster(nodes: Vec<Node>) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.into_iter().for_each(|node| cluster.put_node(node));
    cluster
}

#[test]
fn affinity_keeps_cores_and_memory_together() {
    let mut cluster = cluster(vec![node(1, 2, 2, 4)]);
    let queue = [
        job(1, 3, Affinity::Numa, 6),
        job(2, 2, Affinity::Numa, 1),
        job(3, 6, Affinity::Socket, 4),
        job(4, 2, Affinity::Core, 1),
    ];
    check(
        &mut cluster,
        &queue,
        0,
        &expect![[r#"
            1 on n1: cpus [0, 1, 2] memory 0:6G
            2 on n1: cpus [4, 5] memory 1:1G
            3 on n1: cpus [8, 9, 10, 11, 12, 13] memory 2:4G
            4 on n1: cpus [6, 7] memory 1:1G
        "#]],
    );
}

#[test]
fn what_is_larger_than_a_numa_node_spans_as_few_as_possible() {
    let mut cluster = cluster(vec![node(1, 2, 2, 4)]);
    let wide = (1, Request { threads: true, ..request(6, Affinity::Numa, 10) });
    check(
        &mut cluster,
        &[wide],
        0,
        &expect![[r#"
        1 on n1: cpus [0, 1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21] memory 0:8G 1:2G
    "#]],
    );
}

#[test]
fn devices_come_from_near_the_cores() {
    let mut cluster = cluster(vec![node(1, 2, 1, 2)]);
    let with = |run| (run, with_gpus(1, Affinity::Numa));
    check(
        &mut cluster,
        &[job(9, 1, Affinity::Numa, 1), with(1), with(2), with(3)],
        0,
        &expect![[r#"
        9 on n1: cpus [0] memory 0:1G
        1 on n1: cpus [1] memory 0:1G gpu0
        2 on n1: cpus [2] memory 1:1G gpu1
    "#]],
    );
}

#[test]
fn a_job_goes_where_a_device_is_free_not_where_cores_are_scarce() {
    let mut cluster = cluster(vec![node(1, 2, 1, 2)]);
    let with = |run| (run, with_gpus(1, Affinity::Numa));
    check(
        &mut cluster,
        &[with(1), with(2), with(3)],
        0,
        &expect![[r#"
            1 on n1: cpus [0] memory 0:1G gpu0
            2 on n1: cpus [2] memory 1:1G gpu1
        "#]],
    );
    assert_eq!(cluster.why(&with_gpus(1, Affinity::Numa), 1), ["n1: 0 gpu free, 1 wanted"]);
    let four = with_gpus(4, Affinity::Numa);
    assert_eq!(
        cluster.why(&four, 1),
        ["it wants 4 gpu, and the largest node for it has 2 gpu (n1)"]
    );
}

#[test]
fn the_head_of_the_queue_is_not_delayed() {
    let mut cluster = cluster(vec![node(1, 1, 1, 4)]);
    let limited = |run, cores, limit| {
        (run, Request { limit_seconds: Some(limit), ..request(cores, Affinity::Core, 1) })
    };
    assert_eq!(place(&mut cluster, &[limited(1, 3, 100)], 0).len(), 1);
    // 2 waits for all four cores until 100; 3 would run until 160; 4 is over at 90.
    let queue = [limited(2, 4, 50), limited(3, 1, 150), limited(4, 1, 80)];
    check(
        &mut cluster,
        &queue,
        10,
        &expect![[r#"
        4 on n1: cpus [3] memory 0:1G
    "#]],
    );
    cluster.release(run(1));
    cluster.release(run(4));
    check(
        &mut cluster,
        &queue[..2],
        95,
        &expect![[r#"
        2 on n1: cpus [0, 1, 2, 3] memory 0:1G
    "#]],
    );
}

#[test]
fn a_node_for_itself_waits_until_it_is_empty() {
    let mut cluster = cluster(vec![node(1, 1, 1, 2), node(2, 1, 1, 4)]);
    let alone = Request { exclusive: true, ..request(1, Affinity::Core, 1) };
    place(&mut cluster, &[job(1, 1, Affinity::Core, 1)], 0);
    check(
        &mut cluster,
        &[(2, alone.clone()), job(3, 1, Affinity::Core, 1)],
        0,
        &expect![[r#"
        2 on n2: cpus [0, 1, 2, 3] memory 0:8G gpu0
        3 on n1: cpus [1] memory 0:1G
    "#]],
    );
    let other = Request { allowed: Allowed::Only(node_id(1)), ..alone };
    expect!["n1: 2 others run there, and it wants the node for itself"]
        .assert_eq(&cluster.why(&other, 1).join("\n"));
}

#[test]
fn waiting_has_its_reasons() {
    let away = Node { unavailable: Some("not ready".to_owned()), ..node(3, 1, 1, 8) };
    let mut cluster = cluster(vec![node(1, 1, 1, 4), node(2, 1, 2, 2), away]);
    place(&mut cluster, &[job(1, 3, Affinity::Core, 1), job(2, 3, Affinity::Core, 12)], 0);
    let mut lines = String::new();
    for request in [
        request(2, Affinity::Core, 1),
        request(1, Affinity::Core, 8),
        request(9, Affinity::Core, 1),
        request(1, Affinity::Core, 17),
        Request {
            devices: BTreeMap::from([("fpga".to_owned(), 1)]),
            ..request(1, Affinity::Core, 1)
        },
        request(1, Affinity::Core, 1),
    ] {
        lines += &format!("{} cores {} GiB\n", request.cores, request.memory_bytes / GIB);
        cluster.why(&request, 1).iter().for_each(|line| lines += &format!("- {line}\n"));
    }
    expect![[r#"
        2 cores 1 GiB
        - n1, n2: 1 of 4 cores free, 2 wanted
        - n3: not ready
        1 cores 8 GiB
        - n2: 4096 of 16384 MiB of memory free, 8192 wanted
        - n1: 7168 of 8192 MiB of memory free, 8192 wanted
        - n3: not ready
        9 cores 1 GiB
        - it wants 9 cores, and the largest node for it has 8 cores (n3)
        1 cores 17 GiB
        - it wants 17408 MiB of memory, and the largest node for it has 16384 MiB of memory for jobs (n2)
        1 cores 1 GiB
        - it wants 1 fpga, and the largest node for it has 0 fpga (n3)
        1 cores 1 GiB
    "#]]
    .assert_eq(&lines);
}

#[test]
fn runs_of_before_are_taken_again() {
    let mut first = cluster(vec![node(1, 1, 1, 2)]);
    let placed = place(&mut first, &[job(1, 1, Affinity::Core, 1)], 0);
    let mut second = Cluster::default();
    second.occupy(placed[0].1.clone());
    assert!(place(&mut second, &[job(2, 1, Affinity::Core, 1)], 0).is_empty());
    second.put_node(node(1, 1, 1, 2));
    let more = place(&mut second, &[job(2, 1, Affinity::Core, 1), job(3, 1, Affinity::Core, 1)], 0);
    assert_eq!(more.len(), 1);
    assert_ne!(more[0].1.cpus, placed[0].1.cpus);
}

fn any_request() -> impl Strategy<Value = Request> {
    let affinity = prop_oneof![Just(Affinity::Core), Just(Affinity::Socket), Just(Affinity::Numa)];
    let limit = prop_oneof![Just(None), (1_u64..50).prop_map(Some)];
    let devices = prop_oneof![4 => Just(0), 1 => 1_u32..3];
    (1_u32..10, affinity, any::<bool>(), 0_u64..20, devices, prop::bool::weighted(0.1), limit)
        .prop_map(|(cores, affinity, threads, gib, devices, exclusive, limit_seconds)| Request {
            threads,
            exclusive,
            limit_seconds,
            devices: if devices > 0 {
                BTreeMap::from([("gpu".to_owned(), devices)])
            } else {
                BTreeMap::new()
            },
            ..request(cores, affinity, gib)
        })
}

/// Nothing is taken twice, and what is taken is there.
pub(crate) fn hold(cluster: &Cluster) {
    for place in cluster.places.values() {
        let mut cores = BTreeSet::new();
        let mut devices = BTreeSet::new();
        let mut memory: BTreeMap<u32, u64> = BTreeMap::new();
        for run in place.runs.values() {
            assert!(run.cores.iter().all(|core| cores.insert(*core)), "a core is taken twice");
            assert!(
                run.devices.iter().all(|device| devices.insert(device)),
                "a device is taken twice"
            );
            run.memory.iter().for_each(|(numa, bytes)| *memory.entry(*numa).or_default() += bytes);
            assert!(!run.exclusive || place.runs.len() == 1, "a node for itself is shared");
        }
        for part in &place.node.capacity.memory {
            assert!(
                memory.get(&part.numa).copied().unwrap_or(0) <= part.bytes,
                "memory is taken twice"
            );
        }
    }
    hold_count(cluster);
}

/// A label of a few nodes among many costs no look at the others.
#[test]
fn only_nodes_with_the_label_are_looked_at() {
    let mut cluster = Cluster::default();
    let labelled = |number: u128| {
        let rack = if number < 3 { "rare" } else { "common" };
        let labels =
            [("rack".to_owned(), rack.to_owned()), ("zone".to_owned(), "north".to_owned())];
        Node { labels: labels.into(), ..node(number, 1, 1, 4) }
    };
    (0..1_000).for_each(|number| cluster.put_node(labelled(number)));
    let wants = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Request { labels: labels.collect(), ..request(1, Affinity::Core, 1) }
    };
    assert_eq!(cluster.by_free.count(&wants(&[])), 1_000);
    assert_eq!(cluster.by_free.count(&wants(&[("zone", "north"), ("rack", "rare")])), 3);
    assert_eq!(cluster.by_free.count(&wants(&[("zone", "north"), ("rack", "nowhere")])), 0);
    // It follows what is taken, given back, changed and removed.
    let queue: Vec<Job> = (1..=12).map(|run| (run, wants(&[("rack", "rare")]))).collect();
    assert_eq!(place(&mut cluster, &queue, 0).len(), 12);
    assert_eq!(cluster.by_free.count(&wants(&[("rack", "rare")])), 0, "their cores are taken");
    assert!(cluster.release(run(1)));
    assert_eq!(cluster.by_free.count(&wants(&[("rack", "rare")])), 1);
    cluster.put_node(Node { labels: BTreeMap::new(), ..node(0, 1, 1, 4) });
    cluster.remove_node(node_id(1));
    assert_eq!(cluster.by_free.count(&Request { cores: 0, ..wants(&[("rack", "rare")]) }), 1);
}

/// What is told of a cluster that is not changed.
impl Cluster {
    pub(crate) fn why(&self, request: &Request, members: usize) -> Vec<String> {
        self.clone().view().why(request, members)
    }

    pub(crate) fn fits(
        &self,
        request: &Request,
        members: usize,
        node: Option<NodeId>,
    ) -> Result<(), Unfit> {
        self.clone().view().fits(request, members, node)
    }
}

/// A view has what the cluster has, though only what changed was looked at.
fn hold_view(cluster: &mut Cluster) {
    let view = cluster.view();
    let shown: Vec<_> = view.nodes.iter().map(|(id, one)| (id, &one.node, &one.free)).collect();
    let places: Vec<_> =
        cluster.places.iter().map(|(id, one)| (id, &one.node, &one.free)).collect();
    assert_eq!(shown, places);
}

#[test]
fn a_view_shares_what_has_not_changed() {
    let mut cluster = cluster((1..=100).map(|number| node(number, 1, 1, 4)).collect());
    let before = cluster.view();
    let placed = place(&mut cluster, &[(1, request(1, Affinity::Core, 1))], 0);
    let after = cluster.view();
    let is_other = |(one, other): &(&view::NodeView, &view::NodeView)| !std::ptr::eq(*one, *other);
    assert_eq!(before.nodes.values().zip(after.nodes.values()).filter(is_other).count(), 1);
    let node = placed[0].1.node;
    assert_eq!(before.nodes[&node].free.cores.len(), 4, "a view stays as it is");
    assert_eq!(after.nodes[&node].free.cores.len(), 3);
    assert!(std::sync::Arc::ptr_eq(&before.nodes[&node].node, &after.nodes[&node].node));
    cluster.remove_node(node);
    hold_view(&mut cluster);
    assert!(after.nodes.contains_key(&node));
}

/// What was kept in step with each run is what counting again gives.
fn hold_count(cluster: &Cluster) {
    for place in cluster.places.values() {
        let mut again = place.clone();
        again.count_free();
        assert_eq!(place.free, again.free);
    }
}

/// What a restart does to a node: runs as other releases placed them, twice or beside each other.
#[derive(Debug, Clone)]
enum Step {
    Occupy(Placement),
    Release(u128),
    Unhealthy(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let cores = prop::collection::vec(0_u32..20, 0..4);
    let memory = prop::collection::vec((0_u32..5, 0..9 * GIB), 0..3);
    let devices = prop::collection::vec((0_u32..5).prop_map(|gpu| format!("gpu{gpu}")), 0..2);
    let placement = (0_u128..6, cores, memory, devices, prop::bool::weighted(0.1)).prop_map(
        |(number, cores, memory, devices, exclusive)| Placement {
            run: run(number),
            node: node_id(1),
            cpus: Vec::new(),
            cores,
            memory,
            devices,
            exclusive,
            ends: None,
        },
    );
    prop_oneof![
        3 => placement.prop_map(Step::Occupy),
        3 => (0_u128..6).prop_map(Step::Release),
        1 => any::<bool>().prop_map(Step::Unhealthy),
    ]
}

/// A placement is what was asked for.
pub(crate) fn is_as_asked(cluster: &Cluster, request: &Request, placement: &Placement) {
    let capacity = &cluster.places[&placement.node].node.capacity;
    if request.exclusive {
        assert_eq!(placement.cores.len(), capacity.cores.len());
        return;
    }
    assert_eq!(placement.cores.len(), request.cores as usize);
    assert_eq!(placement.cpus.len(), request.cores as usize * if request.threads { 2 } else { 1 });
    assert_eq!(placement.memory.iter().map(|(_, bytes)| bytes).sum::<u64>(), request.memory_bytes);
    assert_eq!(placement.devices.len(), request.devices.values().sum::<u32>() as usize);
}

/// On nodes with four cores and 8 GiB a NUMA node.
fn is_near(cluster: &Cluster, request: &Request, placement: &Placement) {
    let capacity = &cluster.places[&placement.node].node.capacity;
    let numas: BTreeSet<u32> =
        placement.cores.iter().map(|&core| capacity.cores[core as usize].numa).collect();
    let fits_one = request.cores <= 4 && request.memory_bytes <= 8 * GIB;
    if request.affinity == Affinity::Numa && fits_one && !request.exclusive {
        assert_eq!(numas.len(), 1, "spread over NUMA nodes without need");
    }
}

proptest! {
    #[test]
    fn every_plan_holds(steps in prop::collection::vec((prop::collection::vec(any_request(), 1..8), any::<prop::sample::Index>()), 1..20)) {
        let empty = cluster(vec![node(1, 2, 2, 4), node(2, 1, 2, 4), node(3, 1, 1, 4)]);
        let (mut cluster, mut numbers, mut running) = (empty.clone(), 1.., Vec::new());
        for (now, (queue, victim)) in (0..).zip(steps) {
            let queue: Vec<Job> = queue.into_iter().map(|request| (numbers.next().unwrap(), request)).collect();
            let before = cluster.clone();
            let placed = place(&mut cluster, &queue, now);
            hold(&cluster);
            hold_view(&mut cluster);
            for (index, placement) in &placed {
                is_as_asked(&cluster, &queue[*index].1, placement);
                is_near(&cluster, &queue[*index].1, placement);
                running.push(placement.run);
            }
            let is_placed = |index: usize| placed.iter().any(|(other, _)| *other == index);
            for (index, (_, request)) in queue.iter().enumerate() {
                if before.fits(request, 1, None).is_err() {
                    prop_assert!(!is_placed(index));
                }
            }
            if !running.is_empty() {
                prop_assert!(cluster.release(running.swap_remove(victim.index(running.len()))));
                hold(&cluster);
            }
        }
        for run in running {
            cluster.release(run);
        }
        hold_view(&mut cluster);
        for (id, place) in &cluster.places {
            prop_assert_eq!(&place.free, &empty.places[id].free);
        }
    }

    #[test]
    fn runs_that_overlap_are_counted(steps in prop::collection::vec(any_step(), 1..30)) {
        let mut cluster = cluster(vec![node(1, 2, 2, 4)]);
        for step in steps {
            match step {
                Step::Occupy(placement) => cluster.occupy(placement),
                Step::Release(number) => { cluster.release(run(number)); }
                Step::Unhealthy(unhealthy) => {
                    let mut node = node(1, 2, 2, 4);
                    node.capacity.devices[0].unhealthy = unhealthy;
                    cluster.put_node(node);
                }
            }
            hold_count(&cluster);
            hold_view(&mut cluster);
        }
    }

    #[test]
    fn what_fits_an_empty_cluster_is_placed_on_one(request in any_request()) {
        let mut cluster = cluster(vec![node(1, 2, 2, 4), node(2, 1, 1, 2)]);
        let fits = cluster.fits(&request, 1, None).is_ok();
        prop_assert_eq!(place(&mut cluster, &[(1, request)], 0).len(), usize::from(fits));
    }

    #[test]
    fn backfill_never_delays_the_head(running in prop::collection::vec(any_request(), 1..6), head in any_request(), later in prop::collection::vec(any_request(), 1..6)) {
        let mut with = cluster(vec![node(1, 2, 1, 4)]);
        let numbered = |requests: Vec<Request>, from: u128| -> Vec<Job> { (from..).zip(requests).collect() };
        place(&mut with, &numbered(running, 1), 0);
        let head = (100, Request { limit_seconds: Some(10), ..head });
        let mut alone = with.clone();
        let mut queue = vec![head.clone()];
        queue.extend(numbered(later, 200));
        place(&mut with, &queue, 1);
        // Both run on until every run is over by its limit; the head begins no later for
        // those behind it.
        let begins = |cluster: &mut Cluster| {
            for now in 1..200 {
                let over: Vec<RunId> = cluster.places.values().flat_map(|place| place.runs.values())
                    .filter(|run| run.ends.is_some_and(|end| end <= now)).map(|run| run.run).collect();
                over.into_iter().for_each(|run| { cluster.release(run); });
                let is_there = cluster.places.values().any(|place| place.runs.contains_key(&run(100)));
                if is_there || !place(cluster, std::slice::from_ref(&head), now).is_empty() {
                    return Some(now);
                }
            }
            None
        };
        let alone = begins(&mut alone);
        let with = begins(&mut with);
        if let Some(alone) = alone {
            prop_assert!(with.is_some_and(|with| with <= alone), "alone {alone}, with {with:?}");
        }
    }
}

#[test]
fn what_wants_a_device_that_is_out_of_service_waits_and_is_told_so() {
    let mut unhealthy = node(1, 2, 1, 4);
    unhealthy.capacity.devices[1].unhealthy = true;
    let mut cluster = Cluster::default();
    cluster.put_node(unhealthy);
    let with = |count| with_gpus(count, Affinity::Core);
    let placed = place(&mut cluster, &[(7, with(2)), (8, with(1))], 0);
    expect!["8 on n1: cpus [0] memory 0:1G gpu0\n"].assert_eq(&draw(&placed));
    let why = |cluster: &Cluster, count| cluster.why(&with(count), 1).join("\n");
    expect!["n1: 1 of 2 gpu out of service, 0 gpu free, 2 wanted"].assert_eq(&why(&cluster, 2));
    assert!(cluster.fits(&with(2), 1, None).is_ok(), "it may be well again");
    assert!(cluster.fits(&with(3), 1, None).is_err());

    // The run keeps its device though that falls unhealthy, and nobody gets it after.
    let mut worse = node(1, 2, 1, 4);
    worse.capacity.devices[0].unhealthy = true;
    cluster.put_node(worse);
    assert_eq!(
        draw(&place(&mut cluster, &[(10, with(1))], 0)),
        "10 on n1: cpus [4] memory 1:1G gpu1\n"
    );
    assert!(cluster.release(run(8)) && cluster.release(run(10)));
    assert_eq!(
        draw(&place(&mut cluster, &[(11, with(1))], 0)),
        "11 on n1: cpus [4] memory 1:1G gpu1\n"
    );
    assert!(place(&mut cluster, &[(12, with(1))], 0).is_empty());
    cluster.put_node(node(1, 2, 1, 4));
    assert_eq!(place(&mut cluster, &[(12, with(1))], 0).len(), 1);
}

#[test]
fn labels_say_which_nodes_are_meant() {
    let labels = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|label| label.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let with = |number, text: &str| Node { labels: labels(text), ..node(number, 1, 1, 2) };
    let mut cluster = Cluster::default();
    cluster.put_node(with(1, "rack=a2,gpu=h100"));
    cluster.put_node(with(2, "rack=a3"));
    cluster.put_node(with(3, ""));
    let wants = |text: &str| Request { labels: labels(text), ..request(1, Affinity::Core, 1) };
    let told = |cluster: &Cluster, text: &str| cluster.why(&wants(text), 1).join("; ");
    expect!["no node has rack=a1; nodes have rack=a2, rack=a3"]
        .assert_eq(&told(&cluster, "rack=a1"));
    expect!["no node has zone=x; none has a label zone"].assert_eq(&told(&cluster, "zone=x"));
    expect!["no node has gpu=h100, rack=a3; each is on some node, and no node has all"]
        .assert_eq(&told(&cluster, "rack=a3,gpu=h100"));
    assert_eq!(told(&cluster, "rack=a3"), "", "it could begin");

    let placed = place(&mut cluster, &[(1, wants("rack=a3")), (2, wants("rack=a2,gpu=h100"))], 0);
    let nodes: Vec<NodeId> = placed.iter().map(|(_, placement)| placement.node).collect();
    assert_eq!(nodes, [node_id(2), node_id(1)]);

    // The rest of n2 is taken: what wants its rack waits there, and says so of the others.
    let two = Request { cores: 2, ..wants("rack=a3") };
    assert!(place(&mut cluster, &[(4, two.clone())], 0).is_empty());
    let why = cluster.why(&two, 1);
    assert!(why.contains(&"n1: rack=a2, and rack=a3 is wanted".to_owned()), "{why:?}");
    assert!(why.contains(&"n3: no label rack, and rack=a3 is wanted".to_owned()), "{why:?}");
    // It holds up nothing elsewhere.
    assert_eq!(place(&mut cluster, &[(4, two), (5, wants("gpu=h100"))], 0).len(), 1);

    // What asks for more than the nodes of its rack have is told of those.
    let large = Request { cores: 3, ..wants("rack=a3") };
    assert_eq!(
        cluster.fits(&large, 1, None).unwrap_err().to_string(),
        "it wants 3 cores, and the largest node for it has 2 cores (n2)"
    );
    // A node that is meant is looked at alone, and a label counts as long as one node has it.
    let only = |text: &str, number| cluster.fits(&wants(text), 1, Some(node_id(number)));
    assert!(only("rack=a3", 2).is_ok() && only("", 9).is_err());
    let told = only("rack=a3", 1).unwrap_err().to_string();
    assert_eq!(told, "no node has rack=a3; nodes have rack=a2");
    cluster.put_node(with(4, "rack=a3"));
    cluster.remove_node(node_id(4));
    assert!(cluster.fits(&wants("rack=a3"), 1, None).is_ok());
    // A label that goes takes nothing from what runs.
    cluster.put_node(with(2, ""));
    assert_eq!(cluster.free_cores(node_id(2)), 1);
    assert!(cluster.fits(&wants("rack=a3"), 1, None).is_err());
}

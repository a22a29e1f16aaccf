//! Expressions for fuzz targets: read, and evaluated over one made-up node.

use std::sync::Arc;

use rest::Abandoned;
use serde_json::json;

use super::{
    Facts, Filter,
    meter::{MAX_STEPS, Meter},
    snake,
};

/// Most steps that the evaluation of an expression for one node takes.
pub const MAX_FILTER_STEPS: u64 = MAX_STEPS;

/// Steps that an expression takes for a node with some hardware; `None` if it cannot be read.
#[must_use]
pub fn steps_of_filter(expression: &str) -> Option<u64> {
    let filter = Filter::read(expression).ok()?;
    let facts = snake(json!({
        "name": "n1",
        "memory-bytes": 549_755_813_888_u64,
        "topology": {"cpu-model": "AMD EPYC 9354", "pus": 128, "cpu-flags": ["avx512f", "sse2"],
            "cores": (0..64).map(|index| json!({"index": index, "pus": [2 * index, 2 * index + 1]}))
                .collect::<Vec<_>>()},
        "gpus": [{"vendor": "nvidia", "model": "H100", "memory-bytes": 85_899_345_920_u64}],
        "nics": [{"name": "lan0", "state": "up", "speed-mbits": 25_000}, {"name": "lan1", "state": "down"}],
        "bmc": {},
        "labels": {"rack": "a1"},
        "status": {"phase": "ready", "image": "debian@3", "armed": false},
    }));
    let serde_json::Value::Object(facts) = facts else { return None };
    let meter = Arc::new(Meter::new(&Abandoned::default()));
    // Whether it is true of the node, and why it cannot be said, makes no difference.
    let _ = filter.evaluate(&Facts(facts), &meter);
    Some(meter.steps())
}

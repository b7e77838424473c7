//! Simulated clusters, as far as they are quick enough for every test run.

use std::time::Duration;

use ashlar_io::sim::Faults;

use super::plant::Plant;
use super::run::{self, Deaths, Plan};

fn calm(seed: u64) -> Plan {
    Plan {
        seed,
        faults: Faults::none(),
        length: Duration::from_secs(5),
        nodes: 3,
        shards: 2,
        clients: 6,
        rate: 500,
        damages: 0,
        deaths: Deaths::None,
        plant: Plant::default(),
    }
}

#[test]
fn a_cluster_without_faults_elects_leaders_and_serves_from_every_node() {
    let outcome = run::run(&calm(1)).unwrap();
    assert!(outcome.acknowledged > 1000, "{outcome}");
    assert_eq!(outcome.unknown, 0, "{outcome}");
}

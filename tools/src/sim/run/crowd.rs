//! The clients of a run, and what they may count on.

use ashlar_node::config::CommitWait;

use super::*;

/// Makes the clients of a run.
pub(super) fn gather_crowd(
    plan: &Plan,
    (nodes, clients): (&[Node], &Reactor),
    script: Script,
    rng: &mut Rng,
) -> Rc<Crowd> {
    let mut model = Model::default();
    let clock = &plan.faults.clock;
    // Clocks that differ jump when another node leads.
    let differ = plan.nodes > 1 && clock.offset_max_us + u64::from(clock.drift_max_ppm) > 0;
    let waits = nodes[0].server.config.clock.wait != CommitWait::Off;
    // With a wait, time is the latest that it may be, and how much that is ahead changes.
    if clock.jump_interval_ns > 0 || differ || waits {
        model.clocks = Clocks::Jumping;
    }
    let history_ms = nodes[0].server.config.partition.history_ms;
    let crowd = Rc::new(Crowd {
        reactor: clients.clone(),
        servers: RefCell::new(listening(nodes)),
        is_cluster: plan.nodes > 1,
        script,
        model: RefCell::new(model),
        healed: Cell::new(false),
        damaged: Cell::new(false),
        clients: plan.clients,
        pause: Duration::from_nanos(1_000_000_000 * u64::from(plan.clients) / plan.rate),
        history_ns: u64::from(history_ms) * 1_000_000,
        clears: rng.coin(),
        waits,
    });
    for number in 0..plan.clients {
        let own = rng.fork(&format!("client {number}"));
        clients.spawn(client::run(Rc::clone(&crowd), number, own));
    }
    clients.park(Some(clients.now()), || false);
    crowd
}

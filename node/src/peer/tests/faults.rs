//! What holds whatever the network does: frames arrive whole and in order, or the connection ends;
//! and in the end everybody is connected again.

use ashlar_io::rng::Rng;

use super::*;

/// How far a host is with one of its peers.
#[derive(Default)]
struct Way {
    /// Connections that this host has seen, and sections queued on the last.
    epoch: u64,
    queued: u64,
    /// The sender's epoch of the connection, and sections that came on it.
    theirs: Option<u64>,
    taken: u64,
    connected: bool,
    /// When it may send again.
    pace: Monotonic,
}

/// Time between two sends of a host to a peer.
const PACE: Duration = Duration::from_millis(10);

/// Returns a payload that says what it is: the sender's epoch, its number, and noise that follows
/// from both.
fn payload(epoch: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::new(epoch << 32 | number);
    let bytes = [10, 10, 500, 12_000, 40_000][rng.index(5)];
    let mut noise = vec![0; rng.index(bytes)];
    rng.fill(&mut noise);
    [
        &epoch.to_le_bytes(),
        &number.to_le_bytes(),
        noise.as_slice(),
    ]
    .concat()
}

impl Way {
    fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Connected(_) => {
                assert!(!self.connected);
                let epoch = self.epoch + 1;
                *self = Self {
                    epoch,
                    connected: true,
                    ..Self::default()
                };
            }
            Seen::Disconnected => {
                assert!(self.connected);
                self.connected = false;
            }
            Seen::Section(kind, _, bytes) => {
                assert!(self.connected && *kind == 5);
                let epoch = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(*self.theirs.get_or_insert(epoch), epoch);
                assert!(*bytes == payload(epoch, self.taken), "out of order");
                self.taken += 1;
            }
        }
    }

    /// Queues something for the peer, if it may.
    fn send(&mut self, host: &Host, to: u64) {
        if self.connected && host.queue(to, 5, &payload(self.epoch, self.queued)) == Queued::Taken {
            self.queued += 1;
        }
    }
}

fn faults(seed: u64) -> Faults {
    let mut faults = Faults::none();
    let mut rng = Rng::new(seed);
    let net = &mut faults.net;
    net.latency_max_ns = 20_000_000;
    net.latency_tail_ns = 1_000_000;
    net.chop = rng.unit();
    net.partial_send = rng.unit();
    net.no_buffers = 0.05 * rng.unit();
    net.reset = 0.01 * rng.unit();
    net.cut = 0.01 * rng.unit();
    net.cut_mean_ns = [100_000_000, 3_000_000_000][rng.index(2)];
    net.refuse = 0.3 * rng.unit();
    faults.schedule.hold = 0.3 * rng.unit();
    faults
}

/// Runs three hosts that send to each other under faults, and then without.
fn run(seed: u64) -> u64 {
    let mut net = Net::of(3, seed, faults(seed));
    let mut rng = Rng::new(seed).fork("sends");
    let mut ways: BTreeMap<(u64, u64), Way> = BTreeMap::new();
    let mut act = |host: &mut Host, taken: &[(u64, Seen)]| {
        for (from, seen) in taken {
            ways.entry((host.node, *from)).or_default().see(seen);
        }
        for to in (1..=3).filter(|to| *to != host.node) {
            let way = ways.entry((host.node, to)).or_default();
            if way.pace > host.reactor.now() {
                continue;
            }
            way.pace = host.reactor.now() + PACE;
            for _ in 0..rng.below(4) {
                way.send(host, to);
            }
        }
        host.seen.clear();
    };
    net.run(seconds(10), &mut act);
    net.world.heal();
    // A connection request that was lost is repeated after seconds.
    net.run(seconds(15), &mut act);
    let mut sections = 0;
    for ((node, peer), way) in ways {
        assert!(way.connected, "seed {seed}: {node} and {peer} are apart");
        assert!(
            way.taken > 10,
            "seed {seed}: {node} of {peer} {}",
            way.taken
        );
        sections += way.taken;
    }
    sections
}

#[test]
fn frames_are_whole_and_in_order_whatever_the_network_does() {
    let sections: u64 = (0..40).map(run).sum();
    assert!(sections > 10_000, "{sections}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    assert_eq!(run(7), run(7));
}

#[test]
fn a_way_that_is_cut_disconnects_both_and_they_meet_again() {
    for (from, to) in [(1, 2), (2, 1)] {
        let mut net = Net::of(2, 11, Faults::none());
        net.wait(seconds(2));
        net.world.cut(from, to);
        net.wait(seconds(5));
        assert!(net.host(1).peers.is_connected(NodeId(2)));
        net.wait(seconds(20));
        for node in 1..=2 {
            let host = net.host(node);
            assert!(host.seen.ends_with(&[(3 - node, Seen::Disconnected)]));
        }
        net.world.mend(from, to);
        net.wait(seconds(30));
        for node in 1..=2 {
            let host = net.host(node);
            assert!(host.seen.ends_with(&[(3 - node, Seen::Connected(1))]));
        }
    }
}

#[test]
fn a_short_cut_is_not_noticed() {
    let mut net = Net::of(2, 12, Faults::none());
    net.wait(seconds(2));
    net.world.isolate(1);
    net.host(1).queue(2, 1, b"late");
    net.wait(seconds(3));
    net.world.heal();
    net.wait(seconds(3));
    assert_eq!(net.host(2).sections(), 1);
    assert_eq!(net.host(2).peers.status()[0].tally.connections, 1);
}

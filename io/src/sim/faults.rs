//! What may go wrong in a simulated world, and how often. Not when: that is drawn from the seed.
//!
//! Invariant: a probability of 0 switches its class off and draws nothing.

use crate::rng::Rng;

/// Every class of fault, with its rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Disks.
    pub disk: DiskFaults,
    /// The network.
    pub net: NetFaults,
    /// Clocks.
    pub clock: ClockFaults,
    /// The order in which shards run.
    pub schedule: ScheduleFaults,
}

/// Faults of disks. Probabilities are per operation.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskFaults {
    /// Mean latency of a write, in nanoseconds; the tail is exponential.
    pub write_latency_ns: u64,
    /// Mean latency of a read, in nanoseconds.
    pub read_latency_ns: u64,
    /// Mean latency of a sync, in nanoseconds.
    pub sync_latency_ns: u64,
    /// A read or write moves fewer bytes than asked for.
    pub short: f64,
    /// A read or write fails with `EINTR`, and has done nothing.
    pub interrupt: f64,
    /// A read fails with `EIO`.
    pub read_error: f64,
    /// A write fails with `EIO`; any part of it may have been written.
    pub write_error: f64,
    /// A sync fails with `EIO` once; what it should have made durable is clean from then on, and
    /// may be lost.
    pub sync_error: f64,
    /// A growing write or a reservation fails with `ENOSPC`.
    pub no_space: f64,
    /// The disk answers nothing for 10 ms to 5 s.
    pub stall: f64,
    /// A bit of a durable sector that is being read flips, for good.
    pub rot: f64,
    /// A write lands at another sector of its file. A node alone cannot repair this.
    pub misdirect: f64,
    /// A write is acknowledged and not done. A node alone cannot repair this.
    pub lost_write: f64,
    /// Nodes whose disks may rot, misdirect and lose (bit `n` for node `n`; nodes above 63 never
    /// do).
    pub damaged_nodes: u64,
    /// What becomes of an un-synced sector in a crash.
    pub crash: CrashFates,
}

/// Weights of what a crash does to each un-synced sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashFates {
    /// The sector holds what was written last.
    pub keep: u32,
    /// The sector holds what it held before.
    pub old: u32,
    /// Each 512 bytes of the sector are either new or old.
    pub torn: u32,
    /// Some 512 bytes of the sector hold what nobody wrote.
    pub garbage: u32,
}

/// Faults of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetFaults {
    /// Least latency of a connection's direction, in nanoseconds; drawn per connection.
    pub latency_min_ns: u64,
    /// Largest base latency of a connection's direction, in nanoseconds.
    pub latency_max_ns: u64,
    /// Mean of the exponential tail added to each segment's latency, in nanoseconds.
    pub latency_tail_ns: u64,
    /// Probability that a receive yields only a part of what is there, one byte upward.
    pub chop: f64,
    /// Probability that a send takes only a part of its bytes.
    pub partial_send: f64,
    /// Probability, per segment, that the connection is reset.
    pub reset: f64,
    /// Probability, per segment, that the way from this node to that one is cut for a while.
    pub cut: f64,
    /// Mean length of such a cut, in nanoseconds.
    pub cut_mean_ns: u64,
    /// Probability, per chunk, that a receive stream ends with `ENOBUFS`.
    pub no_buffers: f64,
    /// Probability that a connection is refused although somebody listens.
    pub refuse: f64,
}

/// Faults of clocks.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockFaults {
    /// Largest initial error of a wall clock, in microseconds, either way.
    pub offset_max_us: u64,
    /// Largest drift of a node's clocks (monotonic and wall), in parts per million, either way.
    pub drift_max_ppm: u32,
    /// Mean time between jumps of a wall clock, in nanoseconds; 0 for none.
    pub jump_interval_ns: u64,
    /// Largest jump, in microseconds, either way.
    pub jump_max_us: u64,
    /// What is added to the error that nodes are told of their wall clocks, in microseconds; 0 when they are told
    /// nothing. A bound that lies is no more than this.
    pub bound_slack_us: u64,
    /// Above 0 when what they are told is a lie.
    pub bound_lies: f64,
}

impl ClockFaults {
    /// Returns what nodes are told of their wall clocks' errors.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        match self.bound_slack_us {
            0 => Bounds::None,
            _ if self.bound_lies > 0.0 => Bounds::Lying,
            _ => Bounds::Honest,
        }
    }
}

/// What a node is told of its wall clock's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Nothing.
    None,
    /// The truth, and something more.
    Honest,
    /// That it is small, whatever it is.
    Lying,
}

/// Faults of scheduling.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleFaults {
    /// Probability that a shard with something to do is held back, so that more gathers.
    pub hold: f64,
    /// Longest such delay, in nanoseconds.
    pub hold_max_ns: u64,
}

impl Faults {
    /// Returns a world where nothing goes wrong. Latencies stay, and a crash still tears what was
    /// not synced.
    #[must_use]
    pub fn none() -> Self {
        Self {
            disk: DiskFaults::none(),
            net: NetFaults::none(),
            clock: ClockFaults {
                offset_max_us: 0,
                drift_max_ppm: 0,
                jump_interval_ns: 0,
                jump_max_us: 0,
                bound_slack_us: 0,
                bound_lies: 0.0,
            },
            schedule: ScheduleFaults {
                hold: 0.0,
                hold_max_ns: 100_000,
            },
        }
    }

    /// Switches each class on or off by coin and then picks rates. Faults that lose what a disk
    /// acknowledged (misdirected and lost writes) stay off: only runs that have a healthy majority
    /// may switch them on.
    #[must_use]
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut faults = Self::none();
        faults.disk.swarm(rng);
        faults.net.swarm(rng);
        faults.clock.swarm(rng);
        faults.schedule.hold = rate(rng, 0.3);
        faults
    }

    /// Returns the same world with every class switched off; latencies stay.
    #[must_use]
    pub fn calm(&self) -> Self {
        let mut calm = Self::none();
        calm.disk.write_latency_ns = self.disk.write_latency_ns;
        calm.disk.read_latency_ns = self.disk.read_latency_ns;
        calm.disk.sync_latency_ns = self.disk.sync_latency_ns;
        calm.disk.crash = self.disk.crash;
        calm.net.latency_min_ns = self.net.latency_min_ns;
        calm.net.latency_max_ns = self.net.latency_max_ns;
        calm.net.latency_tail_ns = self.net.latency_tail_ns;
        // Who tells of clocks goes on telling: a node that trusts nobody any more would write nothing.
        calm.clock.bound_slack_us = self.clock.bound_slack_us;
        calm.clock.bound_lies = self.clock.bound_lies;
        calm
    }
}

/// Returns 0 by coin, else a rate up to `max`, small ones as likely as large ones.
fn rate(rng: &mut Rng, max: f64) -> f64 {
    if rng.coin() {
        max * 10_f64.powf(-3.0 * rng.unit())
    } else {
        0.0
    }
}

impl DiskFaults {
    fn none() -> Self {
        Self {
            write_latency_ns: 80_000,
            read_latency_ns: 60_000,
            sync_latency_ns: 200_000,
            short: 0.0,
            interrupt: 0.0,
            read_error: 0.0,
            write_error: 0.0,
            sync_error: 0.0,
            no_space: 0.0,
            stall: 0.0,
            rot: 0.0,
            misdirect: 0.0,
            lost_write: 0.0,
            damaged_nodes: u64::MAX,
            crash: CrashFates {
                keep: 4,
                old: 4,
                torn: 3,
                garbage: 1,
            },
        }
    }

    fn swarm(&mut self, rng: &mut Rng) {
        self.write_latency_ns = rng.range(5_000..400_000);
        self.read_latency_ns = rng.range(5_000..300_000);
        self.sync_latency_ns = rng.range(5_000..2_000_000);
        self.short = rate(rng, 0.2);
        self.interrupt = rate(rng, 0.05);
        self.read_error = rate(rng, 0.001);
        self.write_error = rate(rng, 0.0005);
        self.sync_error = rate(rng, 0.0005);
        self.no_space = rate(rng, 0.001);
        self.stall = rate(rng, 0.0005);
        self.rot = rate(rng, 0.001);
    }
}

impl NetFaults {
    fn none() -> Self {
        Self {
            latency_min_ns: 50_000,
            latency_max_ns: 500_000,
            latency_tail_ns: 20_000,
            chop: 0.0,
            partial_send: 0.0,
            reset: 0.0,
            cut: 0.0,
            cut_mean_ns: 500_000_000,
            no_buffers: 0.0,
            refuse: 0.0,
        }
    }

    fn swarm(&mut self, rng: &mut Rng) {
        self.latency_max_ns = rng.range(self.latency_min_ns + 1..5_000_000);
        self.latency_tail_ns = rng.range(1_000..500_000);
        self.chop = rate(rng, 0.5);
        self.partial_send = rate(rng, 0.3);
        self.reset = rate(rng, 0.001);
        self.cut = rate(rng, 0.001);
        self.cut_mean_ns = rng.range(1_000_000..5_000_000_000);
        self.no_buffers = rate(rng, 0.05);
        self.refuse = rate(rng, 0.1);
    }
}

impl ClockFaults {
    fn swarm(&mut self, rng: &mut Rng) {
        if rng.coin() {
            self.offset_max_us = rng.range(1..500_000);
        }
        if rng.coin() {
            self.drift_max_ppm = u32::try_from(rng.range(1..500)).expect("it is below 500");
        }
        if rng.coin() {
            self.jump_interval_ns = rng.range(1_000_000_000..120_000_000_000);
            self.jump_max_us = rng.range(1..288_000_000);
        }
    }
}

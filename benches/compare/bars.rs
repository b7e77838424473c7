//! The bars: what a ratio between the node and a peer has to reach. They are goals of this project and stand here
//! only; a test that failed on them would fail on every slow machine.

use ashlar_benches::report::Bar;

use crate::device::Pattern;
use crate::load::Workload;
use crate::report::Measure;
use crate::server::Kind;

/// What the node is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Another server: the bar is about the ratio of the medians, ours over theirs.
    Server(Kind),
    /// The device: the same.
    Device,
    /// Nobody: the bar is about our median itself.
    Nobody,
}

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// What is compared.
    pub(crate) measure: Measure,
    /// With whom.
    pub(crate) peer: Peer,
    /// What has to be reached; a row without a bar is there to be read.
    pub(crate) bar: Option<Bar>,
}

/// Returns every row, in the order of the report.
pub(crate) fn rows() -> Vec<Row> {
    use Bar::{AtLeast, AtMost};
    use Measure::{CpuPerOp, P99, Rate};
    use Workload::{
        GetP16, HgetP16, HsetP16, IncrP1, LpushP16, Lrange100, MsetP16, Multi, Publish, SaddP16,
        SetP1, SetP16, Smembers100, ZaddP16, ZscoreP16,
    };
    let durable = Peer::Server(Kind::RedisAlways);
    let untimed = Peer::Server(Kind::AshlarUntimed);
    let memory = Peer::Server(Kind::RedisMemory);
    let row = |measure, peer, bar| Row { measure, peer, bar };
    vec![
        // The first two are alternatives: where the client is the limit, its ceiling is the bar.
        row(Rate(SetP1), durable, Some(AtLeast(1.5))),
        row(Rate(SetP1), memory, Some(AtLeast(0.95))),
        row(Rate(SetP16), durable, Some(AtLeast(1.5))),
        row(CpuPerOp(GetP16), memory, Some(AtMost(1.0 / 1.2))),
        row(Rate(Publish), memory, Some(AtLeast(0.9))),
        row(CpuPerOp(Publish), memory, None),
        row(P99(Publish), memory, None),
        // What it costs to take times.
        row(CpuPerOp(SetP1), untimed, Some(AtMost(1.03))),
        row(CpuPerOp(SetP16), untimed, Some(AtMost(1.03))),
        row(CpuPerOp(GetP16), untimed, Some(AtMost(1.03))),
        row(Rate(SetP16), memory, None),
        row(Rate(GetP16), memory, None),
        row(CpuPerOp(SetP1), durable, None),
        row(CpuPerOp(SetP16), durable, None),
        row(Rate(IncrP1), durable, Some(AtLeast(1.5))),
        row(Rate(MsetP16), durable, Some(AtLeast(1.2))),
        row(Rate(Multi), durable, Some(AtLeast(1.5))),
        row(Rate(HsetP16), durable, Some(AtLeast(1.2))),
        row(Rate(SaddP16), durable, Some(AtLeast(1.2))),
        row(Rate(ZaddP16), durable, Some(AtLeast(1.2))),
        row(Rate(LpushP16), durable, Some(AtLeast(1.2))),
        row(CpuPerOp(HgetP16), memory, Some(AtMost(1.0))),
        row(CpuPerOp(ZscoreP16), memory, Some(AtMost(1.0))),
        row(CpuPerOp(Smembers100), memory, Some(AtMost(1.0))),
        row(CpuPerOp(Lrange100), memory, Some(AtMost(1.0))),
        row(P99(SetP1), durable, None),
        row(P99(SetP16), durable, None),
        row(P99(GetP16), memory, None),
        row(Measure::RingWorkers, Peer::Nobody, Some(AtMost(0.0))),
        row(Measure::IdleCpu, Peer::Nobody, Some(AtMost(1.0))),
        row(Measure::IdleMemory, Peer::Nobody, Some(AtMost(64.0))),
        row(Measure::ClientsMemory, Peer::Nobody, Some(AtMost(300.0))),
        row(Measure::ClientMemory, Peer::Nobody, Some(AtMost(64.0))),
        row(
            Measure::WriteP50(Pattern::Small),
            Peer::Device,
            Some(AtMost(1.15)),
        ),
        row(Measure::WriteP99(Pattern::Small), Peer::Device, None),
        row(
            Measure::WriteRate(Pattern::Large),
            Peer::Device,
            Some(AtLeast(0.9)),
        ),
    ]
}

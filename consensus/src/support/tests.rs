//! Tests of promises: what one side relies on, the other keeps.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn supports(incarnation: u32, now: u64) -> Supports {
    let life = Incarnation(incarnation);
    let options = SupportOptions::default();
    let mut supports = Supports::new(life, EarlierPromises::Possible, options, Mono(now));
    supports.want(A);
    supports.want(B);
    supports
}

/// Returns the request to `to` that is due.
fn request(from: &mut Supports, to: NodeId, now: u64) -> RequestSupport {
    let mut out = SupportOutput::default();
    from.tick(Mono(now), Disk::Working, &mut out);
    let mut requests = out.requests.into_iter();
    requests
        .find(|(node, _)| *node == to)
        .expect("one is due")
        .1
}

#[test]
fn a_promise_is_relied_on_for_less_than_it_is_kept() {
    let (mut a, mut b) = (supports(1, 0), supports(1, 0));
    let request = request(&mut a, B, 1_000 * MS);
    let support = b.requested(Mono(7_003 * MS), A, &request).unwrap();
    a.supported(Mono(1_005 * MS), B, &support);
    let until = a.valid_until(B, support.epoch);
    assert_eq!(until, Mono(1_398_600_000));
    assert_eq!(b.given(Mono(7_402 * MS), A), Some(support.epoch));
    assert_eq!(b.given(Mono(7_403 * MS), A), None);
}

#[test]
fn a_promise_that_lapsed_comes_back_as_another() {
    let (mut a, mut b) = (supports(1, 0), supports(1, 0));
    let first = request(&mut a, B, 0);
    let first = b.requested(Mono(0), A, &first).unwrap();
    a.supported(Mono(1), B, &first);
    let second = request(&mut a, B, 399 * MS);
    let second = b.requested(Mono(399 * MS), A, &second).unwrap();
    assert_eq!(second.epoch, first.epoch);
    let third = request(&mut a, B, 800 * MS);
    let third = b.requested(Mono(800 * MS), A, &third).unwrap();
    assert!(third.epoch > first.epoch);
    a.supported(Mono(800 * MS), B, &third);
    assert_eq!(a.valid_until(B, first.epoch), Mono(0));
    // What was late says nothing any more.
    a.supported(Mono(801 * MS), B, &second);
    assert_eq!(a.received(Mono(801 * MS), B), Some(third.epoch));
}

#[test]
fn a_new_life_of_either_side_is_another_promise() {
    let (mut a, mut b) = (supports(1, 0), supports(1, 0));
    let old = request(&mut a, B, 0);
    let first = b.requested(Mono(0), A, &old).unwrap();
    let mut a = supports(2, 0);
    let new = request(&mut a, B, 1);
    let second = b.requested(Mono(1), A, &new).unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(
        b.requested(Mono(2), A, &old),
        None,
        "of a life that is over"
    );
    a.supported(Mono(2), B, &first);
    assert_eq!(a.received(Mono(2), B), None, "given to a life that is over");
    let mut b = supports(2, 0);
    let third = b.requested(Mono(3), A, &new).unwrap();
    assert!(third.epoch > second.epoch);
}

#[test]
fn promises_are_not_longer_than_a_quarantine() {
    let mut b = supports(1, 50 * MS);
    assert_eq!(b.quarantined_until(), Mono(450 * MS));
    let mut request = request(&mut supports(1, 0), B, 0);
    request.duration_ms = 401;
    assert_eq!(b.requested(Mono(0), A, &request), None);
}

#[test]
fn a_stalled_disk_asks_for_nothing_and_loses_its_support() {
    let (mut a, mut b) = (supports(1, 0), supports(1, 0));
    let request = request(&mut a, B, 0);
    let support = b.requested(Mono(0), A, &request).unwrap();
    a.supported(Mono(0), B, &support);
    let mut out = SupportOutput::default();
    for now_ms in 1..500 {
        a.tick(Mono(now_ms * MS), Disk::Stalled, &mut out);
    }
    assert!(out.requests.is_empty());
    assert_eq!(out.changed, [B, B], "begun, ended");
    a.tick(Mono(530 * MS), Disk::Working, &mut out);
    assert_eq!(out.requests.len(), 2);
}

#[test]
fn what_began_again_before_anybody_looked_is_told() {
    let (mut a, mut b) = (supports(1, 0), supports(1, 0));
    let mut out = SupportOutput::default();
    for now_ms in [0, 1_000] {
        let request = request(&mut a, B, now_ms * MS);
        let support = b.requested(Mono(now_ms * MS), A, &request).unwrap();
        a.supported(Mono(now_ms * MS), B, &support);
        assert_eq!(a.deadline(), Some(Mono(0)), "due at once");
        out.changed.clear();
        a.tick(Mono(now_ms * MS), Disk::Working, &mut out);
        assert_eq!(out.changed, [B]);
        out.changed.clear();
        b.tick(Mono(now_ms * MS), Disk::Working, &mut out);
        assert_eq!(out.changed, [A]);
    }
}

#[test]
fn a_shard_that_wants_nobody_is_quiet() {
    let mut a = supports(1, 0);
    a.unwant(A);
    a.unwant(B);
    assert_eq!(a.deadline(), None);
}

#[test]
fn bytes_come_back() {
    let mut a = supports(3, 0);
    let request = request(&mut a, B, 5);
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    assert_eq!(RequestSupport::decode(&bytes), Ok(request));
    assert!(RequestSupport::decode(&bytes[1..]).is_err());
    let support = Support {
        request,
        epoch: SupportEpoch(9),
    };
    bytes.clear();
    support.encode(&mut bytes);
    assert_eq!(Support::decode(&bytes), Ok(support));
    bytes.push(0);
    assert!(Support::decode(&bytes).is_err());
}

proptest! {
    /// Clocks start anywhere and drift by up to 400 ppm; messages are lost, late and out of order.
    #[test]
    fn what_is_relied_on_is_kept(
        steps in proptest::collection::vec((0..4_u8, 0..300_u64), 1..200),
        drift in -400_i64..400,
        offset in 0..1_u64 << 40,
    ) {
        let there = |now: u64| {
            let drifted = i128::from(now) * i128::from(1_000_000 + drift) / 1_000_000;
            Mono(offset + u64::try_from(drifted).unwrap())
        };
        let (mut a, mut b) = (supports(1, 0), supports(1, 0));
        let (mut now, mut requests, mut replies) = (0, Vec::new(), Vec::new());
        for (kind, n) in steps {
            now += n * MS;
            let mut out = SupportOutput::default();
            a.tick(Mono(now), Disk::Working, &mut out);
            requests.extend(out.requests.into_iter().filter(|(node, _)| *node == B));
            let pick = usize::try_from(n).unwrap();
            if kind == 1 && !requests.is_empty() {
                let (_, request) = requests[pick % requests.len()];
                replies.extend(b.requested(there(now), A, &request));
            }
            if kind == 2 && !replies.is_empty() {
                let reply = replies[pick % replies.len()];
                a.supported(Mono(now), B, &reply);
            }
            if kind == 3 {
                b.tick(there(now), Disk::Working, &mut SupportOutput::default());
            }
            if let Some(epoch) = a.received(Mono(now), B) {
                prop_assert_eq!(b.given(there(now), A), Some(epoch));
            }
        }
    }
}

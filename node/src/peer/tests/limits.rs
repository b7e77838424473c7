//! What happens at the limits: too much queued, too much received, nobody there.

use super::*;

#[test]
fn a_peer_that_takes_nothing_breaks_the_circuit_until_it_does() {
    let mut net = Net::of(2, 21, Faults::none());
    net.wait(seconds(1));
    net.world.cut(1, 2);
    let mut taken = 0;
    net.run(seconds(4), |host, _| {
        if host.node == 1 && host.queue(2, 1, &[3; 5_000]) == Queued::Taken {
            taken += 1;
        }
        let unsent = host.peers.status()[0].unsent_bytes;
        assert!(unsent <= 100_000, "{unsent}");
    });
    assert_eq!(net.host(1).queue(2, 1, &[3; 5_000]), Queued::Full);
    assert!(net.host(1).peers.status()[0].tally.refused > 10);
    net.world.mend(1, 2);
    net.wait(seconds(3));
    assert_eq!(net.host(2).sections(), taken);
    assert_eq!(net.host(1).queue(2, 1, &[3; 5_000]), Queued::Taken);
}

#[test]
fn one_section_may_be_larger_than_the_queue() {
    let mut net = Net::of(2, 22, Faults::none());
    net.wait(seconds(1));
    let large = vec![1; 500_000];
    assert_eq!(net.host(1).queue(2, 1, &large), Queued::Taken);
    assert_eq!(net.host(1).queue(2, 1, b"one more"), Queued::Full);
    net.wait(seconds(2));
    let host = net.host(2);
    assert!(host.seen.ends_with(&[(1, Seen::Section(1, 1, large))]));
}

#[test]
fn who_takes_nothing_holds_a_bounded_amount_and_loses_nothing() {
    let mut net = Net::of(2, 23, Faults::none());
    net.wait(seconds(1));
    net.host(2).lazy = true;
    let mut taken = 0_u32;
    net.run(seconds(5), |host, _| {
        if host.node == 1 && host.queue(2, 1, &[4; 9_000]) == Queued::Taken {
            taken += 1;
        }
        let held = host.peers.incoming_bytes.get();
        assert!(held <= 200_000, "{held}");
    });
    assert!(taken > 20);
    net.host(2).lazy = false;
    net.wait(seconds(3));
    assert_eq!(net.host(2).sections(), taken as usize);
    assert!(net.host(1).peers.is_connected(NodeId(2)));
}

#[test]
fn a_dead_peer_costs_one_call_per_pause() {
    let mut net = Net::new(24, Faults::none());
    net.boot(identity(2, 1), &[member(1), member(2)], options());
    let other = net.other(1);
    let calls = Rc::new(Cell::new(0));
    let (count, machine) = (Rc::clone(&calls), other.clone());
    other.spawn(async move {
        let addr = ([0, 0, 0, 0], PORT).into();
        let mut listener = Listener::bind(&machine, addr).unwrap();
        // Who calls is cut off before it has said anything.
        while listener.accept().await.is_ok() {
            count.set(count.get() + 1);
        }
    });
    other.park(Some(other.now()), || false);
    net.wait(seconds(60));
    // Pauses are half a second in the mean, once they have grown.
    assert!((90..180).contains(&calls.get()), "{}", calls.get());
    assert!(net.host(2).trouble(1).starts_with("cannot reach n1"));
    let status = &net.host(2).peers.status()[0];
    assert_eq!(status.backoff, seconds(1));
}

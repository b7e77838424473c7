//! What holds while nothing goes wrong, and when members come, go and come back.

use super::*;

#[test]
fn everybody_is_connected_to_everybody_and_sections_arrive() {
    let mut net = Net::of(3, 1, Faults::none());
    net.wait(seconds(1));
    for node in 1..=3_u64 {
        for to in (1..=3).filter(|to| *to != node) {
            assert!(net.host(node).peers.is_connected(NodeId(to)));
            let large = vec![7; 35_000];
            assert_eq!(net.host(node).queue(to, 1, b"small"), Queued::Taken);
            assert_eq!(net.host(node).queue(to, 2, &large), Queued::Taken);
            let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
            let urgent =
                net.host(node)
                    .peers
                    .queue(NodeId(to), Lane::Urgent, 3, PartitionId(9), &parts);
            assert_eq!(urgent, Queued::Taken);
        }
    }
    net.wait(seconds(1));
    for node in 1..=3_u64 {
        for from in (1..=3).filter(|from| *from != node) {
            let host = net.host(node);
            let seen = host.seen.iter().filter(|(of, _)| *of == from);
            let seen: Vec<Seen> = seen.map(|(_, seen)| seen.clone()).collect();
            let want = [
                Seen::Connected(1),
                Seen::Section(3, 9, b"abc".to_vec()),
                Seen::Section(1, 1, b"small".to_vec()),
                Seen::Section(2, 2, vec![7; 35_000]),
            ];
            assert!(seen == want, "{node} of {from}");
        }
    }
}

#[test]
fn a_turn_is_one_frame_and_the_idle_show_life() {
    let mut net = Net::of(2, 2, Faults::none());
    net.wait(seconds(1));
    let frames = |net: &mut Net| net.host(1).peers.status()[0].tally.out_frames;
    let before = frames(&mut net);
    for _ in 0..50 {
        net.host(1).queue(2, 1, b"section");
    }
    net.wait(Duration::from_millis(200));
    assert_eq!(frames(&mut net), before + 1);
    net.wait(seconds(100));
    let frames = frames(&mut net) - before;
    assert!((60..=90).contains(&frames), "{frames}");
    assert_eq!(net.host(2).sections(), 50);
    let tally = net.host(2).peers.status()[0].tally;
    assert_eq!((tally.connections, tally.refused), (1, 0));
}

#[test]
fn a_restarted_node_is_in_a_new_life_and_the_old_one_is_refused() {
    let mut net = Net::of(2, 3, Faults::none());
    let members = [member(1), member(2)];
    for (life, node) in [(2, 2), (3, 1)] {
        net.wait(seconds(2));
        net.crash(node);
        net.wait(seconds(1));
        let other = 3 - node;
        assert!(!net.host(other).peers.is_connected(NodeId(node)));
        assert_eq!(net.host(other).queue(node, 1, b"lost"), Queued::Down);
        net.boot(identity(node, life), &members, options());
        net.wait(seconds(2));
        let want = [(node, Seen::Disconnected), (node, Seen::Connected(life))];
        assert!(net.host(other).seen.ends_with(&want));
    }
    net.crash(2);
    net.boot(identity(2, 1), &members, options());
    net.wait(seconds(5));
    // Node 1 is in a life that has seen life 2 of node 2.
    assert!(
        net.host(2)
            .trouble(1)
            .starts_with("refused at 10.0.0.2:7000 (n1)")
    );
    assert!(
        net.host(1)
            .trouble(2)
            .contains("life 1, and was seen in life 2")
    );
    net.crash(2);
    net.boot(identity(2, 2), &members, options());
    net.wait(seconds(5));
    assert!(net.host(1).peers.is_connected(NodeId(2)));
    assert_eq!(net.host(1).trouble(2), "");
}

#[test]
fn members_come_go_and_move() {
    let mut net = Net::of(3, 4, Faults::none());
    net.wait(seconds(1));
    let two = [member(1), member(2)];
    net.host(1).peers.set_members(&two);
    net.host(2).peers.set_members(&two);
    net.wait(seconds(5));
    assert!(net.host(1).seen.contains(&(3, Seen::Disconnected)));
    assert_eq!(net.host(1).peers.status().len(), 1);
    assert!(net.host(3).trouble(1).contains("node 3 is no member"));
    // Node 2 comes back elsewhere: on the machine of node 9.
    net.crash(2);
    let mut moved = two;
    moved[1].addr = (World::ip(9), PORT).into();
    let reactor = Reactor::simulated(&net.world, 9, 0);
    let host = Host::start(&reactor, identity(2, 2), &moved, options());
    reactor.park(Some(reactor.now()), || false);
    net.hosts.insert(9, host);
    net.host(1).peers.set_members(&moved);
    net.wait(seconds(2));
    assert!(net.host(1).peers.is_connected(NodeId(2)));
    let all = [moved[0].clone(), moved[1].clone(), member(3)];
    for node in [1, 9, 3] {
        net.host(node).peers.set_members(&all);
    }
    net.wait(seconds(3));
    for node in [1, 9, 3] {
        let status = net.host(node).peers.status();
        assert!(status.len() == 2, "{status:?}");
        assert!(status.iter().all(|of| of.state == State::Connected));
    }
}

#[test]
fn who_stops_is_disconnected_and_calls_no_more() {
    let mut net = Net::of(2, 5, Faults::none());
    net.wait(seconds(1));
    net.host(2).peers.stop();
    net.wait(seconds(3));
    assert!(net.host(1).seen.ends_with(&[(2, Seen::Disconnected)]));
    assert!(net.host(2).seen.ends_with(&[(1, Seen::Disconnected)]));
    assert_eq!(net.host(1).peers.status()[0].tally.connections, 1);
}

#[test]
fn two_nodes_talk_on_the_kernel() {
    let reactor = Reactor::new(&ashlar_io::Settings::default()).unwrap();
    let free = |reactor: &Reactor| {
        let listener = Listener::bind(reactor, ([127, 0, 0, 1], 0).into()).unwrap();
        listener.local_addr().unwrap()
    };
    let mut members = [member(1), member(2)];
    let mut hosts = Vec::new();
    for member in &mut members {
        member.addr = free(&reactor);
    }
    for member in &members {
        let mut options = options();
        options.listen = member.addr;
        options.frame_bytes_max = 1 << 20;
        options.queue_bytes_max = 64 << 20;
        let identity = identity(member.node.0, 1);
        hosts.push(Host::start(&reactor, identity, &members, options));
    }
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut turns = 0;
    let arrived = |host: &Host| host.sections() == 3;
    while !hosts.iter().all(arrived) {
        turns += 1;
        assert!(turns < 100_000, "nothing arrives");
        reactor.turn();
        for host in &mut hosts {
            let taken = host.take();
            if taken.iter().any(|(_, seen)| *seen == Seen::Connected(1)) {
                let to = 3 - host.node;
                for kind in 1..=3 {
                    assert_eq!(host.queue(to, kind, &payload), Queued::Taken);
                }
            }
            host.seen.extend(taken);
            host.flush();
        }
        reactor.park(Some(reactor.now() + TICK), || false);
    }
    for host in &hosts {
        let bytes = |(_, seen): &(u64, Seen)| match seen {
            Seen::Section(_, _, bytes) => *bytes == payload,
            Seen::Connected(_) | Seen::Disconnected => true,
        };
        assert!(host.seen.iter().all(bytes));
    }
    reactor.shut_down();
}

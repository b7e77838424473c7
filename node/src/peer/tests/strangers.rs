//! Who does not belong here: nodes of other clusters, with other disks, old lives; and callers that
//! speak something else, or stop in the middle.

use ashlar_io::Socket;

use super::*;
use crate::cluster::roster::Change;
use crate::peer::frame::{HEADER_BYTES, Header};

/// Boots nodes 1 and 2, node 2 with another identity; returns what both say after a while.
fn meet(change: impl FnOnce(&mut Identity)) -> (String, String) {
    let mut net = Net::new(31, Faults::none());
    let members = [member(1), member(2)];
    let mut other = identity(2, 1);
    change(&mut other);
    net.boot(identity(1, 1), &members, options());
    net.boot(other, &members, options());
    net.wait(seconds(5));
    for node in 1..=2 {
        assert!(!net.host(node).peers.is_connected(NodeId(3 - node)));
        assert!(net.host(node).seen.is_empty());
    }
    (net.host(1).trouble(2), net.host(2).trouble(1))
}

#[test]
fn who_does_not_fit_is_refused_and_both_say_why() {
    let refused = |change: fn(&mut Identity), part: &str| {
        let (mine, theirs) = meet(change);
        assert!(mine.contains(part), "{mine}");
        let expected = format!("refused at 10.0.0.2:7000 (n1): {mine}");
        assert_eq!(theirs, expected);
    };
    refused(|of| of.cluster = ClusterId(2), "belongs to cluster");
    refused(|of| of.store = StoreId(5), "n2 came back with another disk");
    refused(|of| of.shards = 2, "n2 has 2 shards and node 1 has 1");
    refused(|of| of.partitions = 3, "n2 has 3 partitions");
}

/// Boots two nodes of which the one has removed the other, which knows nothing of that.
fn removed(by: u64, other: u64) -> Net {
    let mut net = Net::new(34, Faults::none());
    let decree = Decree {
        cluster: ClusterId(1),
        members: vec![member(1), member(2)],
    };
    let change = Change::Remove(format!("n{other}"));
    let roster = Roster::founded(&decree).after(&change).unwrap();
    net.boot(identity(by, 1), &[member(by)], options());
    net.host(by).peers.set_cluster(decree, roster);
    net.boot(identity(other, 1), &[member(1), member(2)], options());
    net
}

#[test]
fn who_was_removed_is_told_so_whoever_should_call() {
    let mut net = removed(1, 2);
    net.wait(seconds(3));
    assert_eq!(net.host(2).peers.denied_by(), [NodeId(1)]);
    let mut net = removed(2, 1);
    net.wait(seconds(3));
    assert!(net.host(1).peers.denied_by().is_empty(), "nobody calls");
    net.host(1).peers.knock();
    net.wait(seconds(3));
    assert_eq!(net.host(1).peers.denied_by(), [NodeId(2)]);
}

#[test]
fn who_knocks_and_was_not_removed_is_called_and_not_denied() {
    let mut net = Net::new(35, Faults::none());
    let members = [member(1), member(2)];
    net.boot(identity(1, 1), &members, options());
    net.host(1).peers.knock();
    net.boot(identity(2, 1), &members, options());
    net.host(1).peers.knock();
    net.wait(seconds(3));
    assert!(net.host(1).peers.is_connected(NodeId(2)));
    assert!(net.host(1).peers.denied_by().is_empty());
}

#[test]
fn a_name_at_the_address_of_another_is_told() {
    let mut net = Net::new(32, Faults::none());
    let members = [member(1), member(2), member(3)];
    let mut mistaken = members.clone();
    mistaken[0].addr = member(2).addr;
    net.boot(identity(2, 1), &members, options());
    net.boot(identity(3, 1), &mistaken, options());
    net.wait(seconds(3));
    let trouble = net.host(3).trouble(1);
    let want =
        "refused at 10.0.0.3:7000 (n1): n3 calls node 1 and reaches n2: its cluster.peers give";
    assert!(trouble.starts_with(want), "{trouble}");
    assert!(net.host(3).peers.is_connected(NodeId(2)));
}

/// Says something to node 1 from another machine; returns what came back until the end, and after
/// how many seconds that was.
fn say(bytes: Vec<u8>, wait: u64) -> (Vec<u8>, Option<f64>) {
    let mut net = Net::new(33, Faults::none());
    net.boot(identity(1, 1), &[member(1), member(2)], options());
    let other = net.other(2);
    let heard = Rc::new(RefCell::new((Vec::new(), None)));
    let (slot, machine) = (Rc::clone(&heard), other.clone());
    other.spawn(async move {
        let mut socket = Socket::connect(&machine, member(1).addr).await.unwrap();
        socket.send(&bytes);
        let from = machine.now();
        loop {
            match socket.receive().await {
                Ok(chunk) if !chunk.is_empty() => slot.borrow_mut().0.extend_from_slice(&chunk),
                Ok(_) | Err(_) => break,
            }
        }
        slot.borrow_mut().1 = Some(machine.now().since(from).as_secs_f64());
    });
    other.park(Some(other.now()), || false);
    net.wait(seconds(wait));
    drop(net);
    heard.take()
}

/// Returns what node 2 says to be let in, and frames after it.
fn let_in(frames: &[u8]) -> Vec<u8> {
    let hello = Greeting::Hello(identity(2, 1).hello(NodeId(1), 10_000)).encode();
    [&hello, &Greeting::Welcome.encode(), frames].concat()
}

fn frame(sequence: u64, body: &[u8]) -> Vec<u8> {
    frame_of((2, 1), sequence, body)
}

/// Returns a frame of a node in one of its lives.
fn frame_of((node, incarnation): (u64, u32), sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = [&[0; HEADER_BYTES], body].concat();
    Header {
        body_bytes: 0,
        body_crc: 0,
        from: NodeId(node),
        sequence,
        clock: Timestamp(1),
        interval: Interval {
            earliest_us: 2,
            latest_us: 3,
        },
        incarnation,
    }
    .seal(&mut frame);
    frame
}

#[test]
fn callers_that_speak_something_else_are_cut_off() {
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 50]] {
        let (heard, end) = say(bytes, 1);
        assert!(heard.is_empty() && end.is_some());
    }
    let mut version = Greeting::Hello(identity(2, 1).hello(NodeId(1), 10_000)).encode();
    version[8] = 7;
    let crc = ashlar_io::wal::format::crc32c(&version[8..]);
    version[4..8].copy_from_slice(&crc.to_le_bytes());
    let (heard, end) = say(version, 1);
    let Ok(Some((Greeting::Refused(refusal), _))) = Greeting::decode(&heard) else {
        panic!("a refusal was expected: {heard:?}");
    };
    assert!(refusal.reason == Reason::Version && end.is_some());
    assert!(refusal.text.contains("version 7"), "{}", refusal.text);
}

#[test]
fn half_a_greeting_has_five_seconds() {
    let half = Greeting::Hello(identity(2, 1).hello(NodeId(1), 10_000)).encode()[..20].to_vec();
    for bytes in [half, Vec::new()] {
        let (_, end) = say(bytes, 10);
        let seconds = end.unwrap();
        assert!((5.0..5.2).contains(&seconds), "{seconds}");
    }
}

#[test]
fn half_a_frame_has_ten_seconds() {
    let whole = frame(1, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for bytes in [&whole[..30], &whole[..70], &whole] {
        let (heard, end) = say(let_in(bytes), 20);
        let (greeting, used) = Greeting::decode(&heard).unwrap().unwrap();
        assert_eq!(
            greeting,
            Greeting::Hello(identity(1, 1).hello(NodeId(2), 10_000))
        );
        assert!(heard.len() > used, "it is let in");
        let seconds = end.unwrap();
        assert!((10.0..10.3).contains(&seconds), "{seconds}");
    }
}

#[test]
fn a_wrong_frame_ends_the_connection_at_once() {
    let good = frame(1, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() = 1;
    let long = frame(1, &vec![0; 10_001])[..HEADER_BYTES].to_vec();
    let mut headless = good.clone();
    headless[HEADER_BYTES - 1] ^= 1;
    let (of_another, of_another_life) = (frame_of((3, 1), 1, &[]), frame_of((2, 2), 1, &[]));
    let twice = [good.clone(), good].concat();
    let wrong = [
        damaged,
        long,
        headless,
        frame(2, &[]),
        of_another,
        of_another_life,
        twice,
    ];
    for bytes in wrong {
        let (_, end) = say(let_in(&bytes), 20);
        let seconds = end.unwrap();
        assert!(seconds < 1.0, "{seconds}");
    }
}

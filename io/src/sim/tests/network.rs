//! Sockets as ops see them: streams, chunking, resets, cuts, slow readers.

use std::time::Duration;

use super::*;

const CLIENT: (u32, u32) = (0, 0);
const SERVER: (u32, u32) = (1, 0);

fn send(socket: Handle, data: &[u8]) -> Op {
    Op::Send {
        socket,
        data: data.into(),
        done: 0,
        zero_copy: false,
    }
}

/// Sends all of `data`, going on after partial counts.
fn send_all(rig: &mut Rig, at: (u32, u32), socket: Handle, data: &[u8]) {
    let mut done = 0;
    while done < data.len() {
        done += count(rig.run(
            at,
            Op::Send {
                socket,
                data: data.into(),
                done,
                zero_copy: false,
            },
        ));
    }
}

/// Receives until the stream ends, arming it again when it ran out of buffers.
fn recv_to_end(rig: &mut Rig, at: (u32, u32), socket: Handle) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut id = rig.start(at, Op::Recv { socket });
    loop {
        let completion = rig.wait(at, id);
        match completion.result {
            Ok(Value::Chunk(chunk)) if completion.more => {
                assert!((1..=16 << 10).contains(&chunk.len()));
                all.extend_from_slice(&chunk);
            }
            Ok(Value::Chunk(chunk)) if chunk.is_empty() => return Ok(all),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                id = rig.start(at, Op::Recv { socket })
            }
            Err(e) => return Err(e),
            other => panic!("{other:?}"),
        }
    }
}

fn random_bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    crate::rng::Rng::new(seed).fill(&mut bytes);
    bytes
}

#[test]
fn bytes_arrive_in_order_and_once_however_they_are_chopped() {
    for seed in 0..20 {
        let mut faults = Faults::none();
        if seed > 0 {
            (
                faults.net.chop,
                faults.net.partial_send,
                faults.net.no_buffers,
            ) = (0.7, 0.5, 0.02);
        }
        let mut rig = Rig::new(seed, faults);
        [CLIENT, SERVER].into_iter().for_each(|at| rig.boot(at));
        let (client, server) = rig.pair(CLIENT, SERVER, 7000);
        let data = random_bytes(seed, 300_000);
        let id = rig.start(SERVER, Op::Recv { socket: server });
        let mut received = Vec::new();
        let mut id = id;
        let mut done = 0;
        let mut sending = rig.start(CLIENT, send(client, &data));
        while received.len() < data.len() {
            rig.turn().unwrap();
            if let Some(completion) = rig.take(CLIENT, sending) {
                done += count(completion.result);
                if done < data.len() {
                    sending = rig.start(CLIENT, send(client, &data[done..]));
                }
            }
            while let Some(completion) = rig.take(SERVER, id) {
                match completion.result {
                    Ok(Value::Chunk(chunk)) => received.extend_from_slice(&chunk),
                    Err(_) => id = rig.start(SERVER, Op::Recv { socket: server }),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(received == data);
    }
}

#[test]
fn a_close_ends_the_stream_behind_the_last_byte() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    let data = random_bytes(1, 50_000);
    send_all(&mut rig, CLIENT, client, &data);
    rig.run(CLIENT, Op::Close { handle: client }).unwrap();
    assert!(recv_to_end(&mut rig, SERVER, server).unwrap() == data);
    rig.run(SERVER, Op::Close { handle: server }).unwrap();
    rig.settle();
    assert_eq!(rig.world.open_handles(0), 0);
}

#[test]
fn a_shutdown_ends_both_streams() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    let mine = rig.start(CLIENT, Op::Recv { socket: client });
    send_all(&mut rig, CLIENT, client, b"last words");
    rig.run(CLIENT, Op::Shutdown { socket: client }).unwrap();
    assert!(
        matches!(rig.wait(CLIENT, mine), Completion { result: Ok(Value::Chunk(c)), more: false, .. } if c.is_empty())
    );
    assert_eq!(
        recv_to_end(&mut rig, SERVER, server).unwrap(),
        b"last words"
    );
    assert_eq!(errno(rig.run(CLIENT, send(client, b"x"))), libc::EPIPE);
}

#[test]
fn a_send_to_a_slow_reader_waits_until_it_reads() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    let data = random_bytes(1, 64 << 10);
    send_all(&mut rig, CLIENT, client, &data);
    let waiting = rig.start(CLIENT, send(client, b"more"));
    rig.settle();
    assert!(rig.take(CLIENT, waiting).is_none());
    let id = rig.start(SERVER, Op::Recv { socket: server });
    assert_eq!(count(rig.wait(CLIENT, waiting).result), 4);
    rig.settle();
    let mut received = Vec::new();
    while let Some(Completion {
        result: Ok(Value::Chunk(chunk)),
        ..
    }) = rig.take(SERVER, id)
    {
        received.extend_from_slice(&chunk);
    }
    assert!(received[..data.len()] == data && received[data.len()..] == *b"more");
}

#[test]
fn nobody_listening_refuses_and_a_second_node_cannot_take_an_address() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER, (1, 1)]);
    let addr = (World::ip(1), 7000).into();
    assert_eq!(
        errno(rig.run(CLIENT, Op::Connect { addr })),
        libc::ECONNREFUSED
    );
    rig.listen(SERVER, 7000);
    rig.listen((1, 1), 7000);
    let client = &mut rig.shards.get_mut(&CLIENT).unwrap().driver;
    assert_eq!(
        client.listen(addr).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    let any = client.listen((World::ip(0), 0).into()).unwrap();
    assert!(client.local_addr(any).unwrap().port() >= 32_768);
}

#[test]
fn connections_to_a_shared_address_reach_every_shard_of_the_node() {
    let mut rig = Rig::calm(5, &[CLIENT, SERVER, (1, 1)]);
    let mut accepts = Vec::new();
    for at in [SERVER, (1, 1)] {
        let listener = rig.listen(at, 7000);
        accepts.push((at, rig.start(at, Op::Accept { listener })));
    }
    let addr = (World::ip(1), 7000).into();
    let socket = handle(rig.run(CLIENT, Op::Connect { addr }));
    let driver = &rig.shards[&CLIENT].driver;
    assert_eq!(driver.peer_addr(socket).unwrap(), addr);
    assert_eq!(driver.local_addr(socket).unwrap().ip(), World::ip(0));
    for _ in 0..30 {
        rig.run(CLIENT, Op::Connect { addr }).unwrap();
    }
    rig.settle();
    let mut count = |(at, id)| std::iter::from_fn(|| rig.take(at, id)).count();
    let counts: Vec<usize> = accepts.into_iter().map(&mut count).collect();
    assert!(
        counts.iter().all(|&n| n > 5) && counts.iter().sum::<usize>() == 31,
        "{counts:?}"
    );
}

#[test]
fn the_peers_of_a_crashed_node_see_a_reset() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, _) = rig.pair(CLIENT, SERVER, 7000);
    let recv = rig.start(CLIENT, Op::Recv { socket: client });
    rig.crash(1);
    let completion = rig.wait(CLIENT, recv);
    assert_eq!(
        (errno(completion.result), completion.more),
        (libc::ECONNRESET, false)
    );
    let addr = (World::ip(1), 7000).into();
    assert_eq!(
        errno(rig.run(CLIENT, Op::Connect { addr })),
        libc::ECONNREFUSED
    );
    rig.boot(SERVER);
    assert_eq!(rig.world.incarnation(1), 1);
    rig.pair(CLIENT, SERVER, 7000);
}

#[test]
fn sending_to_a_closed_socket_resets_the_connection() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    rig.run(SERVER, Op::Close { handle: server }).unwrap();
    assert!(recv_to_end(&mut rig, CLIENT, client).unwrap().is_empty());
    assert_eq!(count(rig.run(CLIENT, send(client, b"hello?"))), 6);
    rig.settle();
    assert_eq!(
        errno(rig.run(CLIENT, send(client, b"anyone?"))),
        libc::EPIPE
    );
    assert_eq!(
        errno(rig.run(CLIENT, Op::Recv { socket: client })),
        libc::ECONNRESET
    );
}

#[test]
fn a_cut_holds_bytes_one_way_until_it_is_mended() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    let (at_client, at_server) = (
        rig.start(CLIENT, Op::Recv { socket: client }),
        rig.start(SERVER, Op::Recv { socket: server }),
    );
    rig.world.cut(0, 1);
    send_all(&mut rig, CLIENT, client, b"held ");
    send_all(&mut rig, SERVER, server, b"free");
    assert!(matches!(rig.wait(CLIENT, at_client).result, Ok(Value::Chunk(c)) if *c == *b"free"));
    send_all(&mut rig, CLIENT, client, b"back");
    let limit = rig.world.now() + Duration::from_secs(1);
    while rig.world.step_until(limit).is_some() {}
    assert!(rig.take(SERVER, at_server).is_none());
    rig.world.mend(0, 1);
    let mut all = Vec::new();
    while all.len() < 9 {
        let Ok(Value::Chunk(chunk)) = rig.wait(SERVER, at_server).result else {
            panic!()
        };
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, b"held back");
}

#[test]
fn a_lasting_cut_times_out_the_sender_and_resets_the_other_end_once_mended() {
    let mut rig = Rig::calm(1, &[CLIENT, SERVER]);
    let (client, server) = rig.pair(CLIENT, SERVER, 7000);
    rig.world.isolate(1);
    let addr = (World::ip(1), 7000).into();
    let connect = rig.start(CLIENT, Op::Connect { addr });
    send_all(&mut rig, CLIENT, client, b"into the dark");
    let at_server = rig.start(SERVER, Op::Recv { socket: server });
    assert_eq!(
        errno(rig.run(CLIENT, Op::Recv { socket: client })),
        libc::ETIMEDOUT
    );
    assert_eq!(errno(rig.wait(CLIENT, connect).result), libc::ETIMEDOUT);
    rig.settle();
    assert!(rig.take(SERVER, at_server).is_none());
    rig.world.heal();
    assert_eq!(errno(rig.wait(SERVER, at_server).result), libc::ECONNRESET);
}

#[test]
fn random_resets_and_cuts_happen_and_end() {
    let mut faults = Faults::none();
    (faults.net.reset, faults.net.cut, faults.net.cut_mean_ns) = (0.02, 0.02, 1_000_000_000);
    let (mut resets, mut bytes) = (0, 0);
    let mut rig = Rig::new(2, faults);
    [CLIENT, SERVER].into_iter().for_each(|at| rig.boot(at));
    for port in 1..40 {
        let (client, server) = rig.pair(CLIENT, SERVER, port);
        for _ in 0..20 {
            rig.start(CLIENT, send(client, &[1; 100]));
        }
        rig.settle();
        rig.run(CLIENT, Op::Close { handle: client }).unwrap();
        match recv_to_end(&mut rig, SERVER, server) {
            Ok(all) => bytes += all.len(),
            Err(_) => resets += 1,
        }
    }
    assert!(resets > 3 && bytes > 20_000, "{resets} {bytes}");
    assert!(rig.world.take_marks().contains_key("way cut"));
}

#[test]
fn a_cancelled_stream_ends_with_its_last_completion() {
    let mut rig = Rig::calm(3, &[CLIENT, SERVER]);
    let (client, _) = rig.pair(CLIENT, SERVER, 7000);
    let recv = rig.start(CLIENT, Op::Recv { socket: client });
    let listener = rig.listen(CLIENT, 1);
    let accept = rig.start(CLIENT, Op::Accept { listener });
    let connect = rig.start(
        CLIENT,
        Op::Connect {
            addr: (World::ip(1), 7000).into(),
        },
    );
    for id in [recv, accept, connect] {
        rig.shards.get_mut(&CLIENT).unwrap().driver.cancel(id);
    }
    for id in [recv, accept] {
        let completion = rig.wait(CLIENT, id);
        assert_eq!(
            (errno(completion.result), completion.more),
            (libc::ECANCELED, false)
        );
    }
    let raced = rig.wait(CLIENT, connect).result;
    assert!(raced.is_ok() || errno(raced) == libc::ECANCELED);
    rig.settle();
    assert!(rig.take(CLIENT, recv).is_none());
    let again = rig.start(CLIENT, Op::Recv { socket: client });
    rig.settle();
    assert!(rig.take(CLIENT, again).is_none());
}

#[test]
fn a_late_cancel_does_not_end_a_stream_that_was_armed_again() {
    for seed in 0..50 {
        let mut faults = Faults::none();
        faults.net.no_buffers = 1.0;
        let mut rig = Rig::new(seed, faults);
        [CLIENT, SERVER].into_iter().for_each(|at| rig.boot(at));
        let (client, server) = rig.pair(CLIENT, SERVER, 7000);
        let id = rig.start(SERVER, Op::Recv { socket: server });
        send_all(&mut rig, CLIENT, client, b"hello");
        assert_eq!(errno(rig.wait(SERVER, id).result), libc::ENOBUFS);
        let shard = rig.shards.get_mut(&SERVER).unwrap();
        shard.driver.cancel(id);
        shard.driver.submit(id, &mut Op::Recv { socket: server });
        rig.world.set_faults(Faults::none());
        assert!(matches!(rig.wait(SERVER, id).result, Ok(Value::Chunk(c)) if *c == *b"hello"));
        rig.settle();
        assert!(rig.take(SERVER, id).is_none());
    }
}

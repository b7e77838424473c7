//! What a connection carries: order, amount, back-pressure, and receivers that stop taking.

use std::cell::Cell;
use std::rc::Rc;

use ashlar_io::Socket;
use ashlar_io::reactor::yield_now;
use ashlar_io::rng::Rng;

use crate::harness::{Env, Kind, both, pattern, poll_once};
use crate::sockets::{receive, receive_all};

both!(
    large_transfers_pass_each_other,
    sends_leave_in_order,
    small_sends_of_one_turn_leave_together,
    vectors_and_slices_keep_their_order,
    a_slow_reader_holds_the_sender_back,
    dropped_receives_lose_nothing,
    a_stream_that_nobody_reads_is_paused_and_goes_on,
    unread_streams_do_not_stop_others_for_ever,
    chunks_that_are_kept_starve_and_then_feed,
    a_socket_dropped_with_unread_bytes_frees_them,
    several_tasks_wait_for_one_socket,
    who_waits_for_a_dropped_socket_is_told,
);

async fn transfer(socket: &mut Socket, seed: u64, bytes: usize) {
    let (sender, mut sent) = (socket.sender(), 0);
    let mut rng = Rng::new(seed);
    let mut received = Vec::with_capacity(bytes);
    while received.len() < bytes || sent < bytes {
        if sent < bytes && sender.unsent_bytes() < 256 << 10 {
            let len = (1 + rng.index(40_000)).min(bytes - sent);
            sender.send(&pattern(7, sent, len));
            sent += len;
            yield_now().await;
        } else if received.len() == bytes {
            sender.drained(0).await;
        } else {
            let chunk = socket.receive().await.unwrap();
            received.extend_from_slice(&chunk);
        }
        while socket.has_received() {
            let chunk = socket.receive().await.unwrap();
            received.extend_from_slice(&chunk);
        }
    }
    assert!(received == pattern(7, 0, bytes));
    sender.drained(0).await;
}

async fn large_transfers_pass_each_other(env: Env) {
    let bytes = if env.kind == Kind::Kernel {
        8 << 20
    } else {
        1 << 20
    };
    let (mut client, mut server) = env.pair().await;
    let there = env.spawn(async move {
        transfer(&mut client, 1, bytes).await;
        client
    });
    let back = env.spawn(async move {
        transfer(&mut server, 2, bytes).await;
        server
    });
    drop((there.await, back.await));
}

async fn sends_leave_in_order(env: Env) {
    let (client, mut server) = env.pair().await;
    let counting = env.spawn(async move {
        let all = receive_all(&mut server).await;
        let words: Vec<u64> = all
            .chunks(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert!(words.into_iter().eq(0..20_000));
    });
    let mut rng = Rng::new(3);
    for n in 0..20_000_u64 {
        client.send(&n.to_le_bytes());
        if rng.chance(0.01) {
            yield_now().await;
        }
        if rng.chance(0.001) {
            env.pause(1).await;
        }
    }
    drop(client);
    counting.await;
}

async fn small_sends_of_one_turn_leave_together(env: Env) {
    let (client, mut server) = env.pair().await;
    let before = env.reactor.counters().completions;
    for n in 0..1_000 {
        client.send(&pattern(1, n * 4, 4));
    }
    assert_eq!(client.sender().unsent_bytes(), 4_000);
    assert!(receive(&mut server, 4_000).await == pattern(1, 0, 4_000));
    client.sender().drained(0).await;
    let completions = env.reactor.counters().completions - before;
    assert!(
        completions < 1_000,
        "{completions} completions: a send for each piece?"
    );
    if env.kind == Kind::Kernel {
        assert!(completions < 10, "{completions} completions");
    }
}

async fn vectors_and_slices_keep_their_order(env: Env) {
    let (client, mut server) = env.pair().await;
    let sender = client.sender();
    let mut vector = b"first ".to_vec();
    sender.send_vec(&mut vector);
    sender.send(b"second ");
    vector.extend_from_slice(b"third ");
    sender.send_vec(&mut vector);
    sender.send(b"");
    sender.send_vec(&mut Vec::new());
    yield_now().await;
    vector.extend_from_slice(b"fourth");
    sender.send_vec(&mut vector);
    assert!(vector.is_empty());
    drop(client);
    assert_eq!(receive_all(&mut server).await, b"first second third fourth");
}

async fn a_slow_reader_holds_the_sender_back(env: Env) {
    let bytes = if env.kind == Kind::Kernel {
        32 << 20
    } else {
        1 << 20
    };
    let (client, mut server) = env.pair().await;
    client.send(&pattern(2, 0, bytes));
    let (sender, drained) = (client.sender(), Rc::new(Cell::new(false)));
    let flag = Rc::clone(&drained);
    let waiting = env.spawn(async move {
        sender.drained(0).await;
        flag.set(true);
    });
    env.pause(100).await;
    assert!(!drained.get() && client.sender().unsent_bytes() > 0);
    assert!(receive(&mut server, bytes).await == pattern(2, 0, bytes));
    waiting.await;
    assert_eq!(client.sender().unsent_bytes(), 0);
}

async fn dropped_receives_lose_nothing(env: Env) {
    let (client, mut server) = env.pair().await;
    let sending = env.spawn(async move {
        for n in 0..200 {
            client.send(&pattern(4, n * 3_000, 3_000));
            if n % 3 == 0 {
                yield_now().await;
            }
            if n % 20 == 0 {
                client.sender().drained(0).await;
            }
        }
    });
    let mut all = Vec::new();
    loop {
        let chunk = match poll_once(server.receive()).await {
            Some(chunk) => chunk.unwrap(),
            None if all.len() % 2 == 0 => {
                yield_now().await;
                continue;
            }
            None => server.receive().await.unwrap(),
        };
        if chunk.is_empty() {
            break;
        }
        all.extend_from_slice(&chunk);
    }
    sending.await;
    assert!(all == pattern(4, 0, 600_000));
}

async fn a_stream_that_nobody_reads_is_paused_and_goes_on(env: Env) {
    let bytes = 2 << 20;
    let (client, mut server) = env.pair().await;
    for round in 0..4 {
        client.send(&pattern(round, 0, bytes));
        env.pause(30).await;
        assert!(
            server.has_received() || round > 0,
            "a paused stream goes on when it is asked"
        );
        assert!(receive(&mut server, bytes).await == pattern(round, 0, bytes));
    }
    drop(client);
    assert!(receive_all(&mut server).await.is_empty());
}

async fn unread_streams_do_not_stop_others_for_ever(env: Env) {
    let mut pairs = Vec::new();
    for n in 0..6 {
        let (client, server) = env.pair().await;
        client.send(&pattern(n, 0, 500_000));
        pairs.push((n, client, server));
    }
    env.pause(50).await;
    for (n, client, mut server) in pairs.into_iter().rev() {
        assert!(receive(&mut server, 500_000).await == pattern(n, 0, 500_000));
        drop(client);
    }
}

async fn chunks_that_are_kept_starve_and_then_feed(env: Env) {
    let (client, mut server) = env.pair().await;
    client.send(&pattern(1, 0, 1 << 20));
    let mut kept = Vec::new();
    let mut bytes = 0;
    // As many chunks as there are buffers in the tight settings.
    while kept.len() < 16 {
        let chunk = server.receive().await.unwrap();
        bytes += chunk.len();
        kept.push(chunk);
    }
    let (mut other, mut peer) = env.pair().await;
    peer.send(b"waits for a buffer");
    env.pause(20).await;
    let mut at = 0;
    for chunk in kept {
        assert!(
            *chunk == pattern(1, at, chunk.len()),
            "a kept chunk keeps its bytes"
        );
        at += chunk.len();
    }
    assert_eq!(receive(&mut other, 18).await, b"waits for a buffer");
    let rest = (1 << 20) - bytes;
    assert!(receive(&mut server, rest).await == pattern(1, bytes, rest));
    other.send(b"and goes on");
    assert_eq!(receive(&mut peer, 11).await, b"and goes on");
}

async fn a_socket_dropped_with_unread_bytes_frees_them(env: Env) {
    for round in 0..30 {
        let (client, server) = env.pair().await;
        client.send(&pattern(round, 0, 200_000));
        env.pause(2).await;
        drop((server, client));
    }
    // Every receive buffer is back, or this would wait for ever.
    let (client, mut server) = env.pair().await;
    client.send(&pattern(9, 0, 300_000));
    assert!(receive(&mut server, 300_000).await == pattern(9, 0, 300_000));
}

async fn several_tasks_wait_for_one_socket(env: Env) {
    let bytes = if env.kind == Kind::Kernel {
        16 << 20
    } else {
        1 << 20
    };
    let (client, mut server) = env.pair().await;
    let waiting: Vec<_> = (0..5)
        .map(|n| {
            let sender = client.sender();
            client.send(&pattern(5, n * bytes, bytes));
            env.spawn(async move { sender.drained(n * bytes).await })
        })
        .collect();
    env.pause(5).await;
    assert!(receive(&mut server, 5 * bytes).await == pattern(5, 0, 5 * bytes));
    for task in waiting {
        task.await;
    }
    client.sender().drained(0).await;
    assert_eq!(client.sender().unsent_bytes(), 0);
}

async fn who_waits_for_a_dropped_socket_is_told(env: Env) {
    let (client, server) = env.pair().await;
    client.send(&pattern(6, 0, 8 << 20));
    let sender = client.sender();
    let waiting = env.spawn(async move { sender.drained(0).await });
    env.pause(5).await;
    drop(client);
    waiting.await;
    drop(server);
}

//! Listeners and connections: how they come to be, what they carry, how they end.

use std::io::ErrorKind;

use ashlar_io::{Listener, Socket};

use crate::harness::{Env, Kind, both, pattern, poll_once};

both!(
    an_echo_comes_back,
    nobody_listening_is_a_refusal,
    each_free_port_is_another,
    both_ends_agree_on_addresses,
    many_connections_are_all_accepted,
    connections_wait_until_they_are_accepted,
    what_is_queued_is_sent_before_the_close,
    a_closed_peer_breaks_the_sender,
    a_peer_that_did_not_read_resets,
    shutting_down_ends_the_receiver,
    a_dropped_connect_leaves_nothing_open,
    a_dropped_listener_refuses,
    a_sender_outlives_its_socket_harmlessly,
    a_peer_that_never_reads_is_reset_in_the_end,
    a_peer_that_reads_late_gets_everything,
    a_closed_socket_is_not_reset_later,
);

/// Receives until the end; returns the bytes.
pub(crate) async fn receive_all(socket: &mut Socket) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let chunk = socket.receive().await.unwrap();
        if chunk.is_empty() {
            return all;
        }
        all.extend_from_slice(&chunk);
    }
}

/// Receives exactly `len` bytes or more.
pub(crate) async fn receive(socket: &mut Socket, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let chunk = socket.receive().await.unwrap();
        assert!(!chunk.is_empty(), "it ended after {} bytes", all.len());
        all.extend_from_slice(&chunk);
    }
    all
}

async fn an_echo_comes_back(env: Env) {
    let (mut client, mut server) = env.pair().await;
    let echo = env.spawn(async move {
        loop {
            let chunk = server.receive().await.unwrap();
            if chunk.is_empty() {
                return;
            }
            server.send(&chunk);
        }
    });
    for round in 0..50_usize {
        let bytes = pattern(round as u64, 0, 1 + round * 97);
        client.send(&bytes);
        assert!(receive(&mut client, bytes.len()).await == bytes);
    }
    drop(client);
    echo.await;
}

async fn nobody_listening_is_a_refusal(env: Env) {
    let (listener, addr) = env.listen();
    drop(listener);
    env.pause(20).await;
    let refused = Socket::connect(&env.reactor, addr).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

async fn each_free_port_is_another(env: Env) {
    let listeners: Vec<(Listener, _)> = (0..20).map(|_| env.listen()).collect();
    let mut ports: Vec<u16> = listeners.iter().map(|(_, addr)| addr.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() == 20 && ports[0] > 0);
}

async fn both_ends_agree_on_addresses(env: Env) {
    let (mut listener, addr) = env.listen();
    let client = Socket::connect(&env.reactor, addr).await.unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr);
    let back = server.peer_addr().unwrap();
    assert_eq!(back.ip(), addr.ip());
    assert!(back.port() != addr.port() && back.port() > 0);
}

async fn many_connections_are_all_accepted(env: Env) {
    let (mut listener, addr) = env.listen();
    let clients: Vec<_> = (0..100_u8)
        .map(|n| {
            let reactor = env.reactor.clone();
            env.spawn(async move {
                let mut client = Socket::connect(&reactor, addr).await.unwrap();
                client.send(&[n]);
                receive_all(&mut client).await
            })
        })
        .collect();
    for _ in 0..100 {
        let mut server = listener.accept().await.unwrap();
        env.reactor.spawn(async move {
            let n = receive(&mut server, 1).await[0];
            server.send(&[n, n]);
        });
    }
    for (n, client) in (0..100_u8).zip(clients) {
        assert_eq!(client.await, [n, n]);
    }
}

async fn connections_wait_until_they_are_accepted(env: Env) {
    let (mut listener, addr) = env.listen();
    let mut clients = Vec::new();
    for n in 0..40_u8 {
        let client = Socket::connect(&env.reactor, addr).await.unwrap();
        client.send(&[n]);
        clients.push(client);
    }
    env.pause(20).await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        assert!(seen.len() % 2 == 1 || poll_once(std::future::pending::<()>()).await.is_none());
        let mut server = listener.accept().await.unwrap();
        seen.push(receive(&mut server, 1).await[0]);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..40));
}

async fn what_is_queued_is_sent_before_the_close(env: Env) {
    let (client, mut server) = env.pair().await;
    for n in 0..100 {
        client.send(&pattern(1, n * 10_000, 10_000));
    }
    drop(client);
    env.pause(10).await;
    assert!(receive_all(&mut server).await == pattern(1, 0, 1_000_000));
    assert!(
        server.receive().await.unwrap().is_empty(),
        "the end stays the end"
    );
}

async fn a_closed_peer_breaks_the_sender(env: Env) {
    let (client, mut server) = env.pair().await;
    drop(client);
    assert!(receive_all(&mut server).await.is_empty());
    assert!(!server.is_broken());
    for _ in 0..1_000 {
        server.send(b"to nobody");
        env.pause(2).await;
        if server.is_broken() {
            break;
        }
    }
    assert!(server.is_broken());
    server.send(b"dropped");
    server.sender().drained(0).await;
    assert_eq!(server.sender().unsent_bytes(), 0);
}

async fn a_peer_that_did_not_read_resets(env: Env) {
    let (client, server) = env.pair().await;
    let mut client = client;
    client.send(&pattern(1, 0, 50_000));
    client.sender().drained(0).await;
    env.pause(10).await;
    drop(server);
    for _ in 0..1_000 {
        client.send(&[0; 1_000]);
        env.pause(2).await;
        if client.is_broken() {
            break;
        }
    }
    assert!(client.is_broken());
    match client.receive().await {
        Ok(chunk) => assert!(chunk.is_empty()),
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{error}"
        ),
    }
    assert!(
        client.receive().await.unwrap().is_empty(),
        "after the error it has ended"
    );
}

async fn shutting_down_ends_the_receiver(env: Env) {
    let (mut client, mut server) = env.pair().await;
    let sender = client.sender();
    let waiting = env.spawn(async move { receive_all(&mut client).await.len() });
    env.pause(5).await;
    sender.shut_down();
    assert_eq!(waiting.await, 0);
    assert!(receive_all(&mut server).await.is_empty());
}

async fn a_dropped_connect_leaves_nothing_open(env: Env) {
    let (mut listener, addr) = env.listen();
    for _ in 0..10 {
        let connecting = poll_once(Socket::connect(&env.reactor, addr)).await;
        assert!(connecting.is_none() || env.kind == Kind::Kernel);
    }
    // What was established all the same is seen to end.
    env.pause(20).await;
    while let Some(server) = poll_once(listener.accept()).await {
        assert!(receive_all(&mut server.unwrap()).await.is_empty());
    }
}

async fn a_dropped_listener_refuses(env: Env) {
    let (mut listener, addr) = env.listen();
    assert!(poll_once(listener.accept()).await.is_none());
    let early = Socket::connect(&env.reactor, addr).await.unwrap();
    env.pause(10).await;
    // The connection that it accepted and nobody took ends with it.
    drop(listener);
    let mut early = early;
    match early.receive().await {
        Ok(chunk) => assert!(chunk.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    env.pause(20).await;
    assert!(Socket::connect(&env.reactor, addr).await.is_err());
}

async fn a_sender_outlives_its_socket_harmlessly(env: Env) {
    let (client, mut server) = env.pair().await;
    let sender = client.sender();
    sender.send(b"first");
    drop(client);
    sender.send(b"too late");
    let mut late = b"too late".to_vec();
    sender.send_vec(&mut late);
    assert!(late.is_empty());
    sender.shut_down();
    assert_eq!(receive_all(&mut server).await, b"first");
    sender.drained(0).await;
}

/// More than the buffers on the way can take.
fn too_much(env: &Env) -> Vec<u8> {
    let bytes = if env.kind == Kind::Kernel {
        32 << 20
    } else {
        1 << 20
    };
    pattern(1, 0, bytes)
}

async fn a_peer_that_never_reads_is_reset_in_the_end(env: Env) {
    let (client, mut server) = env.pair().await;
    let mut bytes = too_much(&env);
    let sent = bytes.len();
    client.sender().send_vec(&mut bytes);
    drop(client);
    env.pause(env.linger_ms + 200).await;
    let mut received = 0;
    let error = loop {
        match server.receive().await {
            Ok(chunk) if chunk.is_empty() => panic!("it ended as if all had been sent"),
            Ok(chunk) => received += chunk.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(received < sent);
}

async fn a_peer_that_reads_late_gets_everything(env: Env) {
    let (client, mut server) = env.pair().await;
    let mut bytes = too_much(&env);
    client.sender().send_vec(&mut bytes);
    drop(client);
    env.pause(env.linger_ms / 4).await;
    assert!(receive_all(&mut server).await == too_much(&env));
}

async fn a_closed_socket_is_not_reset_later(env: Env) {
    let (client, mut server) = env.pair().await;
    client.send(b"all of it");
    drop(client);
    // Others may have its number now.
    let (other, mut peer) = env.pair().await;
    env.pause(env.linger_ms + 200).await;
    assert_eq!(receive_all(&mut server).await, b"all of it");
    other.send(b"still here");
    assert_eq!(receive(&mut peer, 10).await, b"still here");
}

//! Replies without a socket: what is held, taken back, failed.

use super::*;

#[test]
fn what_was_just_written_counts_as_held() {
    let mut replies = Replies::default();
    replies.out().extend_from_slice(b"+OK\r\n");
    assert_eq!(replies.held_bytes(), 5);
    replies.wait(0, Index(1), 0);
    replies.out().extend_from_slice(b"+PONG\r\n");
    replies.await_remote(Ticket(1));
    replies.out().extend_from_slice(b":1\r\n");
    assert_eq!(replies.held_bytes(), 16);
    replies.fill(Ticket(1), 1, b"$1\r\nx\r\n".to_vec());
    assert_eq!(replies.held_bytes(), 23);
    assert_eq!(replies.remote(), 0);
}

#[test]
fn what_is_taken_back_never_leaves() {
    let mut replies = Replies::default();
    let mut kept = Vec::new();
    for (ticket, mark) in (1..).zip([None, Some(()), None, Some(())]) {
        let before = replies.mark();
        replies.out().extend_from_slice(b"+OK\r\n");
        replies.wait(0, Index(ticket), 0);
        replies.await_remote(Ticket(ticket));
        match mark {
            Some(()) => replies.forget(before),
            None => kept.extend_from_slice(b"+OK\r\n:1\r\n"),
        }
    }
    (1..5).for_each(|ticket| replies.fill(Ticket(ticket), 1, b":1\r\n".to_vec()));
    let bytes: Vec<u8> = replies
        .slots
        .iter()
        .flat_map(|slot| slot.bytes.clone())
        .collect();
    assert_eq!((bytes, replies.remote()), (kept, 0));
}

#[test]
fn large_answers_of_other_shards_leave_room_for_few() {
    let mut replies = Replies::default();
    let mut answer = |n: u64, bytes: usize| {
        replies.await_remote(Ticket(n));
        replies.fill(Ticket(n), 1, vec![b'x'; bytes]);
        replies.remote_max()
    };
    let small = (1..2000).map(|n| answer(n, 5)).last();
    assert_eq!(small, Some(REMOTE_MAX));
    assert_eq!(answer(2000, 1 << 20), 4);
    assert_eq!(answer(2001, 64 << 20), 1);
    assert_eq!(answer(2002, 5), 2);
}

#[test]
fn messages_are_neither_silenced_nor_failed() {
    let mut replies = Replies::default();
    let message: Rc<[u8]> = Rc::from(&b">3..."[..]);
    replies.out().extend_from_slice(b"+OK\r\n");
    replies.wait(3, Index(1), 0);
    let before = replies.mark();
    replies.add_message(&message);
    replies.add_message(&message);
    replies.out().extend_from_slice(b"+PONG\r\n");
    assert_eq!(replies.held_bytes(), 5 + 10 + 7);
    replies.forget(before);
    replies.fail((3, Index(0)), b"UNKNOWN");
    assert_eq!(replies.held_bytes(), b"-UNKNOWN\r\n".len() + 10);
    assert!(replies.is_held() && !replies.is_choked());
    replies.drop_messages();
    assert_eq!(replies.held_bytes(), b"-UNKNOWN\r\n".len());
}

#[test]
fn what_is_silenced_is_published_all_the_same() {
    let publication = Publication {
        is_sharded: false,
        channel: b"c".to_vec(),
        payload: b"m".to_vec(),
    };
    let all = || vec![publication.clone()];
    let done = |reply: &[u8]| due_of(Role::Transaction(all()), true, reply).is_some();
    assert!(done(b"*1\r\n:1\r\n") && done(b"*0\r\n"));
    assert!(!done(b"*-1\r\n") && !done(b"_\r\n") && !done(b"-EXECABORT x\r\n"));
    let mut replies = Replies::default();
    let before = replies.mark();
    replies.begin_alone();
    replies.await_remote(Ticket(1));
    replies.publish_if_done(all());
    replies.forget(before);
    replies.fill(Ticket(1), 1, b"*0\r\n".to_vec());
    let slot = &replies.slots[0];
    assert!(slot.muted && slot.bytes == b"*0\r\n" && !slot.takes_replies());
}

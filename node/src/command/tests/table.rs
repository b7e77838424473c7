//! Tests of the table and of what it says about each command.

use std::collections::BTreeSet;

use super::harness::Client;
use crate::command::{Run, check_keys, table};
use crate::resp::Spans;
use crate::resp::decode::{Decoder, Limits};

#[test]
fn every_command_is_found_by_its_name_in_either_case() {
    for command in table::all().iter().filter(|of| !of.is_part()) {
        for name in [command.name.to_owned(), command.name.to_uppercase(), {
            let (first, rest) = command.name.split_at(1);
            first.to_uppercase() + rest
        }] {
            let found = table::find(name.as_bytes()).expect("every command is found");
            assert!(std::ptr::eq(found, command), "{name}");
        }
    }
}

#[test]
fn nothing_else_is_found() {
    let names: BTreeSet<_> = table::all()
        .iter()
        .filter(|command| !command.is_part())
        .map(|command| command.name.as_bytes().to_vec())
        .collect();
    for command in table::all().iter().filter(|of| !of.is_part()) {
        let name = command.name.as_bytes();
        let longer = [name, b"x"].concat();
        let mut with_bit = name.to_vec();
        with_bit[0] ^= 0x80;
        for other in [&name[..name.len() - 1], &name[1..], &longer, &with_bit] {
            assert_eq!(
                table::find(other).is_some(),
                names.contains(other),
                "{other:?}"
            );
        }
    }
    assert!(table::find(b"").is_none() && table::find(&[b'x'; 1000]).is_none());
}

#[test]
fn rows_do_not_contradict_themselves() {
    for command in table::all() {
        let name = command.name;
        assert_eq!(name, name.to_lowercase());
        assert!(
            !command.summary.is_empty() && command.summary.ends_with('.'),
            "{name}"
        );
        assert_ne!(command.arity, 0, "{name}");
        assert_eq!(command.first_key == 0, command.key_step == 0, "{name}");
        let has_keys = command.has_keys();
        assert_eq!(
            command.counts_keys(),
            command.flags.contains(&"movablekeys"),
            "{name}"
        );
        let fits = match command.run {
            Run::Data(_) => has_keys,
            Run::Session(_) | Run::Exec => !has_keys,
            // Those that have keys go over the range between them.
            Run::Spread(_) => {
                name == "watch" || !has_keys || (command.first_key, command.last_key) == (1, 2)
            }
        };
        assert!(fits, "{name}: what has keys runs where they are");
        assert_eq!(command.writes(), command.flags.contains(&"write"), "{name}");
        assert!(
            std::ptr::eq(command, &table::all()[command.row()]),
            "{name}"
        );
        assert!(
            !(command.writes() && command.flags.contains(&"readonly")),
            "{name}"
        );
    }
}

#[test]
fn what_is_unknown_or_too_short_is_refused_in_the_words_of_redis() {
    Client::new().expect(&[
        (
            "nope",
            "-ERR unknown command 'nope', with args beginning with: ",
        ),
        (
            "nope a b",
            "-ERR unknown command 'nope', with args beginning with: 'a' 'b' ",
        ),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        (
            "get a b",
            "-ERR wrong number of arguments for 'get' command",
        ),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
    ]);
}

#[test]
fn a_key_has_at_most_64_kib() {
    let fits = vec![b'k'; 65_536];
    let long = vec![b'k'; 65_537];
    let mut client = Client::new();
    assert_eq!(client.run(&[b"SET", &fits, &long]), b"+OK\r\n");
    for words in [
        &[b"GET".as_slice(), &long][..],
        &[b"MSET", b"a", b"1", &long, b"2"],
        &[b"DEL", b"a", &long],
    ] {
        assert_eq!(
            client.run(words),
            b"-ERR key is longer than 65536 bytes\r\n"
        );
    }
    assert_eq!(client.line("GET a"), "$-1\r\n", "nothing was set");
}

#[test]
fn words_that_are_no_keys_may_be_long() {
    let bytes = [
        b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$65537\r\n",
        &[b'x'; 65_537][..],
        b"\r\n",
    ]
    .concat();
    let mut spans = Spans::new();
    Decoder::new(Limits::authenticated(1 << 20))
        .decode(&bytes, &mut spans)
        .unwrap();
    let words = spans.words(&bytes);
    assert!(check_keys(table::find(b"mget").unwrap(), words).is_err());
    assert!(check_keys(table::find(b"setnx").unwrap(), words).is_ok());
}

#[test]
fn words_that_name_elements_are_found_by_what_the_syntax_calls_them() {
    let places = |line: &str| {
        let command = table::find(line.split(' ').next().unwrap().as_bytes()).unwrap();
        let places = command.element_places(line.split(' ').count());
        (command.has_elements(), places.collect::<Vec<_>>())
    };
    assert_eq!(places("get k"), (false, vec![]));
    assert_eq!(places("hgetall k"), (false, vec![]));
    assert_eq!(places("hset k f v g w"), (true, vec![2, 4]));
    assert_eq!(places("hmget k f g"), (true, vec![2, 3]));
    assert_eq!(places("hincrby k f 1"), (true, vec![2]));
    assert_eq!(places("hget k"), (true, vec![]));
    assert_eq!(places("sadd k a b"), (true, vec![2, 3]));
    assert_eq!(places("zadd k NX 1 a"), (true, vec![4]));
    assert_eq!(places("zincrby k 1 a"), (true, vec![3]));
    assert_eq!(places("zscore k a"), (true, vec![2]));
}

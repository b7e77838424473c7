//! Tests of the commands on bits.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};

const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range";

#[test]
fn bits_are_set_and_values_grow() {
    Client::new().expect(&[
        ("GETBIT k 100", ":0"),
        ("SETBIT k 7 1", ":0"),
        ("GET k", "$1|\u{1}"),
        ("SETBIT k 7 1", ":1"),
        ("SETBIT k 15 0", ":0"),
        ("STRLEN k", ":2"),
        ("GETBIT k 7", ":1"),
        ("SETBIT k -1 1", BAD_OFFSET),
        ("SETBIT k 9223372036854775807 1", BAD_OFFSET),
        ("GETBIT k x", BAD_OFFSET),
        ("SETBIT k 1 2", "-ERR bit is not an integer or out of range"),
    ]);
}

#[test]
fn bits_are_counted_in_bytes_and_in_bits() {
    Client::new().expect(&[
        ("SET k foobar", "+OK"),
        ("BITCOUNT k", ":26"),
        ("BITCOUNT k 0 0", ":4"),
        ("BITCOUNT k 1 1", ":6"),
        ("BITCOUNT k 5 30 BIT", ":17"),
        ("BITCOUNT k -2 -1", ":7"),
        ("BITCOUNT k -1 -2", ":0"),
        ("BITCOUNT missing", ":0"),
        ("BITCOUNT missing 0 x", NOT_AN_INTEGER),
        ("BITCOUNT k 0", SYNTAX),
        ("BITCOUNT k 0 1 WORD", SYNTAX),
    ]);
}

#[test]
fn the_first_bit_is_found() {
    Client::new().expect(&[
        ("SETBIT k 12 1", ":0"),
        ("BITPOS k 1", ":12"),
        ("BITPOS k 0", ":0"),
        ("BITPOS k 1 2", ":-1"),
        ("BITPOS k 1 0 7 BIT", ":-1"),
        ("BITPOS k 1 8 -1 BIT", ":12"),
        ("BITPOS missing 0", ":0"),
        ("BITPOS missing 1", ":-1"),
        ("BITFIELD ones SET u8 0 255", "*1|:0"),
        ("BITPOS ones 0", ":8"),
        ("BITPOS ones 0 0 -1", ":-1"),
        ("BITPOS ones 0 1", ":-1"),
        ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
        ("BITPOS k x", NOT_AN_INTEGER),
        ("BITPOS k 1 0 1 BIT x", SYNTAX),
    ]);
}

#[test]
fn values_are_combined() {
    Client::new().expect(&[
        ("MSET a abc b ab", "+OK"),
        ("BITOP AND d a b", ":3"),
        ("GET d", "$3|ab\0"),
        ("BITOP xor d a a", ":3"),
        ("GET d", "$3|\0\0\0"),
        ("BITOP OR d x y", ":0"),
        ("EXISTS d", ":0"),
        (
            "BITOP NOT d a b",
            "-ERR BITOP NOT must be called with a single source key.",
        ),
        ("BITOP NAND d a", SYNTAX),
    ]);
}

#[test]
fn fields_are_read_set_and_added_to() {
    let bad_type = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    Client::new().expect(&[
        ("BITFIELD k INCRBY i5 100 1 GET u4 0", "*2|:1|:0"),
        ("STRLEN k", ":14"),
        ("BITFIELD s SET u2 #1 3 INCRBY u2 #1 1", "*2|:0|:0"),
        (
            "BITFIELD s OVERFLOW SAT INCRBY u2 #1 9 OVERFLOW FAIL INCRBY u2 #1 1",
            "*2|:3|$-1",
        ),
        (
            "BITFIELD s OVERFLOW SAT SET i8 0 -200 GET i8 0",
            "*2|:48|:-128",
        ),
        ("BITFIELD_RO s GET u8 0", "*1|:128"),
        (
            "BITFIELD_RO s SET u8 0 1",
            "-ERR BITFIELD_RO only supports the GET subcommand",
        ),
        ("BITFIELD s", "*0"),
        ("BITFIELD s GET u64 0", bad_type),
        ("BITFIELD s GET x8 0", bad_type),
        ("BITFIELD s GET u8 -1", BAD_OFFSET),
        ("BITFIELD s SET u8 0 x", NOT_AN_INTEGER),
        (
            "BITFIELD s OVERFLOW x",
            "-ERR Invalid OVERFLOW type specified",
        ),
        ("BITFIELD s GET u8", SYNTAX),
    ]);
}

//! Tests of the commands on the connection.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};
use crate::command::Muted;
use crate::command::table;
use crate::resp::Version;
use crate::shared::Paused;

#[test]
fn a_ping_is_answered() {
    Client::new().expect(&[
        ("PING", "+PONG"),
        ("ping hello", "$5|hello"),
        (
            "PING a b",
            "-ERR wrong number of arguments for 'ping' command",
        ),
        ("ECHO hello", "$5|hello"),
    ]);
}

#[test]
fn hello_chooses_the_protocol() {
    let map = "$6|server|$5|redis|$7|version|$5|7.2.4|$5|proto|:2|$2|id|:1|$4|mode|$10|standalone|\
               $4|role|$6|master|$7|modules|*0";
    let mut client = Client::new();
    client.expect(&[
        ("HELLO", &format!("*14|{map}")),
        ("HELLO 3", &format!("%7|{}", map.replace(":2", ":3"))),
        ("HELLO 2 AUTH default any SETNAME me", &format!("*14|{map}")),
        ("CLIENT GETNAME", "$2|me"),
    ]);
    assert_eq!(client.session.version, Version::Resp2);
}

#[test]
fn a_hello_that_fails_changes_nothing() {
    let mut client = Client::new();
    client.expect(&[
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        (
            "HELLO x",
            "-ERR Protocol version is not an integer or out of range",
        ),
        ("HELLO 3 AUTH", "-ERR Syntax error in HELLO option 'AUTH'"),
        ("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'"),
        (
            "HELLO 3 SETNAME",
            "-ERR Syntax error in HELLO option 'SETNAME'",
        ),
        ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'"),
        (
            "HELLO 3 SETNAME x AUTH bob pass",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("CLIENT GETNAME", "$-1"),
    ]);
    assert_eq!(client.session.version, Version::Resp2);
    let spaced = client.run(&[b"HELLO", b"3", b"SETNAME", b"a b"]);
    assert_eq!(
        spaced,
        b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
    );
}

#[test]
fn the_default_user_may_have_any_password() {
    Client::new().expect(&[
        ("AUTH default any", "+OK"),
        ("AUTH bob any", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH any", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"),
        ("AUTH a b c", SYNTAX),
    ]);
}

#[test]
fn databases_are_0_to_15() {
    Client::new().expect(&[
        ("SELECT 15", "+OK"),
        ("SELECT 16", "-ERR DB index is out of range"),
        ("SELECT -1", "-ERR DB index is out of range"),
        ("SELECT x", NOT_AN_INTEGER),
        (
            "SELECT 99999999999",
            "-ERR value is out of range, value must between -2147483648 and 2147483647",
        ),
    ]);
}

#[test]
fn a_connection_can_end_and_begin_again() {
    let mut client = Client::new();
    client.line("HELLO 3 SETNAME me");
    client.line("SELECT 4");
    client.expect(&[("RESET", "+RESET"), ("CLIENT GETNAME", "$-1")]);
    assert_eq!(
        (client.session.database, client.session.version),
        (0, Version::Resp2)
    );
    assert!(!client.session.closing);
    client.expect(&[("QUIT", "+OK")]);
    assert!(client.session.closing);
}

#[test]
fn a_client_says_who_it_is() {
    let mut client = Client::new();
    client.expect(&[
        ("CLIENT ID", ":1"),
        ("CLIENT GETNAME", "$-1"),
        ("CLIENT SETNAME me", "+OK"),
        ("client getname", "$2|me"),
        ("CLIENT SETINFO LIB-NAME redis-rs", "+OK"),
        ("CLIENT SETINFO lib-ver 1.0", "+OK"),
        ("CLIENT SETINFO foo 1.0", "-ERR Unrecognized option 'foo'"),
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT NO-TOUCH OFF", "+OK"),
        ("CLIENT NO-TOUCH x", SYNTAX),
    ]);
    assert_eq!(client.shared.clients.find(1).unwrap().said().name, b"me");
    let spaced = client.run(&[b"CLIENT", b"SETINFO", b"lib-ver", b"1 0"]);
    assert_eq!(
        spaced,
        b"-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"
    );
    let spaced = client.run(&[b"CLIENT", b"SETNAME", b"a b"]);
    assert_eq!(
        spaced,
        b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
    );
    client.now_ms += 2_500;
    client.line("SELECT 7");
    client.line("HELLO 3");
    let line = "id=1 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 name=me age=2 idle=2 flags=N db=7 sub=0 psub=0 \
                ssub=0 multi=-1 cmd=NULL user=default redir=-1 resp=3 lib-name=redis-rs lib-ver=1.0 shard=0\n";
    let expected = format!("={}|txt:{line}", line.len() + 4);
    client.expect(&[
        ("CLIENT INFO", &expected),
        ("CLIENT LIST", &expected),
        ("CLIENT LIST ID 1 9", &expected),
    ]);
}

#[test]
fn the_list_of_clients_can_be_narrowed() {
    let mut client = Client::new();
    let other = client
        .shared
        .clients
        .connect("10.0.0.1:7".to_owned(), 1, 0, 10)
        .unwrap();
    other.note_command(table::find(b"get").unwrap());
    other.note_active(999_000);
    let line = client.line(&format!("CLIENT LIST ID {}", other.id));
    assert!(
        line.contains("\r\nid=2 addr=10.0.0.1:7 ") && line.contains(" cmd=get "),
        "{line}"
    );
    assert!(
        line.contains(" age=1000 idle=1 ") && line.ends_with(" shard=1\n\r\n"),
        "{line}"
    );
    let all = client.line("CLIENT LIST");
    assert!(
        all.contains("\r\nid=1 ") && all.contains("\nid=2 "),
        "{all}"
    );
    client.shared.clients.disconnect(other.id);
    assert!(!client.line("CLIENT LIST").contains("id=2 "));
    client.expect(&[
        ("CLIENT LIST TYPE pubsub", "$0|"),
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID"),
        ("CLIENT LIST ID 0 -1", "$0|"),
        ("CLIENT LIST foo", SYNTAX),
    ]);
    assert!(client.line("CLIENT LIST TYPE normal").contains("id=1 "));
}

#[test]
fn subcommands_are_checked_in_the_words_of_redis() {
    let mut client = Client::new();
    client.expect(&[
        (
            "CLIENT",
            "-ERR wrong number of arguments for 'client' command",
        ),
        (
            "CLIENT foo",
            "-ERR unknown subcommand 'foo'. Try CLIENT HELP.",
        ),
        (
            "CLIENT REPLYS OFF",
            "-ERR unknown subcommand 'REPLYS'. Try CLIENT HELP.",
        ),
        (
            "CLIENT SETNAME",
            "-ERR wrong number of arguments for 'client|setname' command",
        ),
        (
            "CLIENT HELP x",
            "-ERR wrong number of arguments for 'client|help' command",
        ),
    ]);
    let help = client.line("CLIENT HELP");
    let head =
        "*37\r\n+CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n+CACHING";
    assert!(help.starts_with(head), "{help}");
}

#[test]
fn connections_are_closed_by_what_is_known_of_them() {
    let mut client = Client::new();
    let other = client
        .shared
        .clients
        .connect("1.2.3.4:5".to_owned(), 1, 0, 10);
    let other = other.expect("there is room").id;
    client.expect(&[
        ("CLIENT KILL 9.9.9.9:9", "-ERR No such client"),
        (
            "CLIENT KILL ID x",
            "-ERR client-id should be greater than 0",
        ),
        ("CLIENT KILL TYPE x", "-ERR Unknown client type 'x'"),
        ("CLIENT KILL USER x", "-ERR No such user 'x'"),
        ("CLIENT KILL ID 1 SKIPME x", SYNTAX),
        ("CLIENT KILL ID", "-ERR No such client"),
        ("CLIENT KILL ID 1", ":0"),
        ("CLIENT KILL TYPE pubsub", ":0"),
        ("CLIENT KILL ADDR 1.2.3.4:5 ID 1", ":0"),
        ("CLIENT KILL TYPE normal USER default", ":1"),
    ]);
    assert_eq!(client.session.kills, [(1, other)]);
    assert!(!client.session.closing);
    client.expect(&[("CLIENT KILL SKIPME no ID 1", ":1")]);
    assert!(client.session.closing);
}

#[test]
fn replies_are_silenced_until_they_are_wanted() {
    let mut client = Client::new();
    client.expect(&[("CLIENT REPLY x", SYNTAX), ("CLIENT REPLY SKIP", "+OK")]);
    let (this, next) = (client.session.muted, client.session.muted.next());
    assert_eq!(
        (this, next, next.next()),
        (Muted::AlsoNext, Muted::This, Muted::No)
    );
    client.expect(&[("CLIENT REPLY OFF", "+OK"), ("CLIENT REPLY SKIP", "+OK")]);
    assert_eq!(client.session.muted.next(), Muted::Always);
    client.expect(&[("CLIENT REPLY ON", "+OK")]);
    assert_eq!(client.session.muted, Muted::No);
}

#[test]
fn commands_are_kept_waiting_for_a_while() {
    let mut client = Client::new();
    client.expect(&[
        (
            "CLIENT PAUSE x",
            "-ERR timeout is not an integer or out of range",
        ),
        ("CLIENT PAUSE -1", "-ERR timeout is negative"),
        (
            "CLIENT PAUSE 5 x",
            "-ERR CLIENT PAUSE mode must be WRITE or ALL",
        ),
        ("CLIENT PAUSE 50 WRITE", "+OK"),
    ]);
    let at = |client: &Client, ms| client.shared.pause.now(client.now_ms + ms);
    assert_eq!(
        (at(&client, 49), at(&client, 50)),
        (Some(Paused::Writes), None)
    );
    client.expect(&[("CLIENT PAUSE 10", "+OK")]);
    assert_eq!(at(&client, 49), Some(Paused::All), "the later end");
    client.expect(&[("CLIENT UNPAUSE", "+OK")]);
    assert_eq!(at(&client, 0), None);
}

#[test]
fn a_password_is_asked_for_once_there_is_one() {
    let mut client = Client::new();
    client.expect(&[
        ("CONFIG SET requirepass secret", "+OK"),
        ("CONFIG GET requirepass", "*2|$11|requirepass|$6|secret"),
        ("RESET", "+RESET"),
    ]);
    assert!(!client.session.is_authenticated);
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    client.expect(&[
        ("HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"),
        ("AUTH wrong", wrong),
        ("AUTH bob secret", wrong),
    ]);
    assert!(client.session.delay_ms >= 50 && !client.session.is_authenticated);
    client.expect(&[("AUTH default secret", "+OK")]);
    assert!(client.session.is_authenticated);
    client.expect(&[("RESET", "+RESET"), ("AUTH secret", "+OK")]);
    assert!(client.session.is_authenticated);
}

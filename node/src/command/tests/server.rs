//! Tests of the commands on the node.

use std::sync::atomic::Ordering;

use super::SYNTAX;
use super::harness::Client;
use crate::command::table;
use crate::resp::Version;

#[test]
fn the_time_has_two_parts() {
    Client::new().expect(&[("TIME", "*2|$4|1000|$1|7")]);
}

#[test]
fn settings_are_found_by_pattern_under_both_names() {
    let mut client = Client::new();
    client.expect(&[
        ("CONFIG GET save", "*2|$4|save|$0|"),
        ("CONFIG GET APPENDONLY", "*2|$10|appendonly|$3|yes"),
        (
            "CONFIG GET maxmem*ry maxclients",
            "*4|$9|maxmemory|$10|1073741824|$10|maxclients|$5|10000",
        ),
        ("CONFIG GET io.stall_?s", "*2|$11|io.stall_ms|$1|5"),
        ("CONFIG GET databases", "*2|$9|databases|$2|16"),
        ("CONFIG GET nope", "*0"),
        (
            "CONFIG GET",
            "-ERR wrong number of arguments for 'config|get' command",
        ),
    ]);
    client.session.version = Version::Resp3;
    client.expect(&[
        ("CONFIG GET port", "%1|$4|port|$4|6379"),
        ("CONFIG GET nope", "%0"),
    ]);
    let all = client.line("CONFIG GET *");
    for name in [
        "save",
        "bind",
        "timeout",
        "tcp-keepalive",
        "proto-max-bulk-len",
        "wal.durability",
        "data",
    ] {
        assert_eq!(all.matches(&format!("\r\n{name}\r\n")).count(), 1, "{name}");
    }
}

#[test]
fn settings_change_while_the_node_runs() {
    let mut client = Client::new();
    let before = client.shared.config_version();
    client.expect(&[
        ("CONFIG SET io.stall_ms 9 maxclients 77", "+OK"),
        (
            "CONFIG GET client.clients_max",
            "*2|$18|client.clients_max|$2|77",
        ),
        ("CONFIG SET TIMEOUT 5", "+OK"),
        ("CONFIG GET timeout", "*2|$7|timeout|$1|5"),
        ("CONFIG SET save ''", "+OK"),
        ("CONFIG SET appendonly yes", "+OK"),
    ]);
    assert_eq!(client.shared.config().io.stall_ms, 9);
    assert!(client.shared.config_version() > before);
}

#[test]
fn settings_that_are_refused_change_nothing() {
    let mut client = Client::new();
    let failed = |name: &str, reason: &str| {
        format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
    };
    let restart = "wal.durability cannot change while the node runs; set it in the configuration file and restart";
    client.expect(&[
        (
            "CONFIG SET nope 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
        ),
        (
            "CONFIG SET io.stall_ms 9 nope 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
        ),
        (
            "CONFIG SET maxclients 7 MAXCLIENTS 8",
            &failed("MAXCLIENTS", "duplicate parameter"),
        ),
        (
            "CONFIG SET port 1",
            &failed("port", "can't set immutable config"),
        ),
        (
            "CONFIG SET io.stall_ms 9 wal.durability none",
            &failed("wal.durability", restart),
        ),
        (
            "CONFIG SET a",
            "-ERR wrong number of arguments for 'config|set' command",
        ),
        ("CONFIG SET io.stall_ms 9 b", SYNTAX),
        (
            "CONFIG REWRITE",
            "-ERR The server is running without a config file",
        ),
    ]);
    let reply = client.line("CONFIG SET maxclients x");
    let reason = failed(
        "maxclients",
        "client.clients_max = x is not allowed; it takes ",
    );
    assert!(reply.starts_with(&reason), "{reply}");
    assert_eq!(client.shared.config().io.stall_ms, 5);
}

#[test]
fn counters_can_be_reset() {
    let mut client = Client::new();
    client.shared.stats.shards()[1]
        .commands
        .store(5, Ordering::Relaxed);
    client.shared.stats.shards()[1]
        .turns
        .store(6, Ordering::Relaxed);
    assert!(
        client
            .line("INFO stats")
            .contains("\r\ntotal_commands_processed:5\r\n")
    );
    client.expect(&[("CONFIG RESETSTAT", "+OK")]);
    assert!(
        client
            .line("INFO stats")
            .contains("\r\ntotal_commands_processed:0\r\n")
    );
    assert_eq!(
        client.shared.stats.shards()[1]
            .turns
            .load(Ordering::Relaxed),
        6,
        "facts about the node itself stay"
    );
}

#[test]
fn info_tells_of_commands_what_was_counted_on_every_shard() {
    let mut client = Client::new();
    let shards = client.shared.stats.shards();
    let row = |name: &str| table::find(name.as_bytes()).unwrap().row();
    shards[0].note_call(row("get"), Some((1_500, 1)), b"$1\r\nv\r\n");
    shards[1].note_call(row("get"), Some((2_600, 1)), b"-WRONGTYPE no\r\n");
    shards[1].note_rejected(row("set"), b"-ERR wrong number\r\n");
    shards[0].cpu_user_us.store(1_000_000, Ordering::Relaxed);
    shards[1].cpu_user_us.store(250_000, Ordering::Relaxed);
    let get = "cmdstat_get:calls=2,usec=4,usec_per_call=2.05,rejected_calls=0,failed_calls=1";
    let set = "cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0";
    let cpu = "used_cpu_sys:0.000000|used_cpu_user:1.250000|used_cpu_sys_children:0.000000|\
               used_cpu_user_children:0.000000|";
    let expect = |client: &mut Client, section: &str, body: &str| {
        let body = body.replace('|', "\r\n");
        let reply = client.line(&format!("INFO {section}"));
        let lines = reply
            .split_once("\r\n")
            .unwrap()
            .1
            .split_once("\r\n")
            .unwrap()
            .1;
        assert_eq!(lines, body + "\r\n", "{section}");
    };
    expect(&mut client, "commandstats", &format!("{get}|{set}|"));
    expect(
        &mut client,
        "latencystats",
        "latency_percentiles_usec_get:p50=1.535,p99=2.687,p99.9=2.687|",
    );
    expect(
        &mut client,
        "errorstats",
        "errorstat_ERR:count=1|errorstat_WRONGTYPE:count=1|",
    );
    expect(&mut client, "cpu", cpu);
    client.expect(&[("CONFIG RESETSTAT", "+OK")]);
    for section in ["commandstats", "latencystats", "errorstats"] {
        expect(&mut client, section, "");
    }
    expect(&mut client, "cpu", cpu);
}

#[test]
fn info_tells_what_clients_look_for() {
    let mut client = Client::new();
    client.shared.stats.shards()[0].keys[3].store(4, Ordering::Relaxed);
    client.shared.stats.shards()[1].keys[3].store(5, Ordering::Relaxed);
    client.shared.stats.shards()[1].expiring[3].store(2, Ordering::Relaxed);
    client.shared.stats.shards()[1]
        .used_bytes
        .store(1_572_864, Ordering::Relaxed);
    let text = client.line("INFO");
    for field in [
        "# Server",
        "redis_version:7.2.4",
        "server_name:ashlar",
        "redis_mode:standalone",
        "arch_bits:64",
        "process_id:42",
        "run_id:0123456789012345678901234567890123456789",
        "tcp_port:6379",
        "uptime_in_seconds:990",
        "connected_clients:1",
        "used_memory:1572864",
        "used_memory_human:1.50M",
        "maxmemory:1073741824",
        "maxmemory_human:1.00G",
        "loading:0",
        "role:master",
        "cluster_enabled:0",
        "db3:keys=9,expires=2,avg_ttl=0",
        "shards:2",
        "log_segment_bytes:1048576",
    ] {
        assert!(
            text.contains(&format!("\r\n{field}\r\n")),
            "{field} in {text}"
        );
    }
    assert!(!text.contains("Commandstats") && !text.contains("db0:"));
}

#[test]
fn info_answers_the_sections_that_are_asked_for() {
    let mut client = Client::new();
    client.expect(&[
        ("INFO cluster", "$30|# Cluster|cluster_enabled:0|"),
        ("INFO nope", "$0|"),
    ]);
    assert!(client.line("INFO all").contains("# Commandstats\r\n"));
    assert_eq!(client.line("INFO default"), client.line("INFO"));
    assert_eq!(client.line("INFO everything"), client.line("INFO all"));
    client.session.version = Version::Resp3;
    client.expect(&[("INFO cluster", "=34|txt:# Cluster|cluster_enabled:0|")]);
}

#[test]
fn commands_describe_themselves() {
    let get = "*10|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|*3|+@string|+@read|+@fast|*0|*0|*0";
    let mut client = Client::new();
    client.expect(&[
        ("COMMAND COUNT", &format!(":{}", table::named().count())),
        ("COMMAND INFO GET nope", &format!("*2|{get}|*-1")),
        ("COMMAND LIST FILTERBY PATTERN getr*", "*1|$8|getrange"),
        (
            "COMMAND LIST FILTERBY ACLCAT connection",
            "*9|$4|ping|$4|echo|$5|hello|$4|auth|$6|select|$4|quit|$5|reset|$6|client|$7|session",
        ),
        ("COMMAND LIST FILTERBY MODULE x", "*0"),
        ("COMMAND LIST FILTERBY foo x", SYNTAX),
        ("COMMAND LIST foo", SYNTAX),
        (
            "COMMAND foo",
            "-ERR unknown subcommand 'foo'. Try COMMAND HELP.",
        ),
        (
            "COMMAND COUNT x",
            "-ERR wrong number of arguments for 'command|count' command",
        ),
    ]);
    let all = client.line("COMMAND");
    assert!(all.starts_with(&format!(
        "*{}\r\n*10\r\n$3\r\nget\r\n",
        table::named().count()
    )));
    assert_eq!(client.line("COMMAND INFO"), all);
    client.session.version = Version::Resp3;
    let get = get.replace("*2|+", "~2|+").replace("*3|+", "~3|+");
    client.expect(&[("COMMAND INFO get nope", &format!("*2|{get}|_"))]);
}

#[test]
fn commands_find_their_keys() {
    Client::new().expect(&[
        ("COMMAND GETKEYS mset a 1 b 2", "*2|$1|a|$1|b"),
        ("COMMAND GETKEYS DEL a b", "*2|$1|a|$1|b"),
        ("COMMAND GETKEYS set a b EX 5", "*1|$1|a"),
        (
            "COMMAND GETKEYS",
            "-ERR wrong number of arguments for 'command|getkeys' command",
        ),
        (
            "COMMAND GETKEYS get",
            "-ERR Invalid number of arguments specified for command",
        ),
        ("COMMAND GETKEYS foo a", "-ERR Invalid command specified"),
        (
            "COMMAND GETKEYS ping a",
            "-ERR The command has no key arguments",
        ),
        (
            "COMMAND GETKEYS get a b",
            "-ERR Invalid number of arguments specified for command",
        ),
    ]);
}

#[test]
fn documentation_tells_the_arguments_one_by_one() {
    let mut client = Client::new();
    client.session.version = Version::Resp3;
    let argument = |text: &str, kind: &str| {
        let (long, kind_long) = (text.len(), kind.len());
        format!(
            "$4|name|${long}|{text}|$4|type|${kind_long}|{kind}|$12|display_text|${long}|{text}|"
        )
    };
    let expected = [
        "%1|$4|mget|%4|$7|summary|$35|Returns the values of several keys.|$5|since|$5|1.0.0|",
        "$5|group|$6|string|$9|arguments|*2|",
        &format!("%3|{}", argument("key", "key")),
        &format!("%4|{}$5|flags|*1|+optional", argument("key ...", "string")),
    ];
    client.expect(&[
        ("COMMAND DOCS MGET nope", &expected.concat()),
        ("COMMAND DOCS nope", "%0"),
    ]);
    client.session.version = Version::Resp2;
    client.expect(&[("COMMAND DOCS dbsize", "*2|$6|dbsize|*6|$7|summary|$43|Returns the number of keys in the database.|$5|since|$5|1.0.0|$5|group|$6|server")]);
    assert!(
        client
            .line("COMMAND DOCS")
            .starts_with(&format!("*{}\r\n", table::named().count() * 2))
    );
}

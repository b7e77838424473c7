//! Tests of the configuration: the table against itself, and every way a file can be wrong.

use proptest::prelude::*;

use super::error::distance;
use super::value::show_size;
use super::*;

/// Returns the one line that a wrong text yields.
fn refusal(text: &str) -> String {
    let line = Config::parse(text, "ashlar.toml").unwrap_err().to_string();
    assert!(!line.contains('\n'), "more than one line: {line:?}");
    line
}

#[test]
fn empty_text_is_the_defaults() {
    let config = Config::parse("", "ashlar.toml").unwrap();
    assert_eq!(config, Config::defaults());
    assert_eq!(config.data, PathBuf::from("./ashlar-data"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:6379");
    assert_eq!(config.cpus, Cpus::All);
    assert_eq!((config.memory_bytes, config.databases), (0, 16));
    assert_eq!(config.client.value_bytes_max, 64 << 20);
    assert_eq!(config.client.chunk_bytes, 16_384);
    assert_eq!(config.wal.batch_bytes, 262_144);
    assert_eq!(config.partition.space_ratio, 1.35);
    assert_eq!(config.partition.inflight_bytes_max, 64 << 20);
}

#[test]
fn what_needs_a_machine_made_for_it_is_off() {
    let io = Config::defaults().io;
    let off = [
        io.sqpoll_idle_ms,
        io.iopoll_entries,
        io.napi_poll_us_max,
        io.send_zero_copy_bytes,
    ];
    assert_eq!(off, [0; 4]);
    let text = "[io]\nsqpoll_idle_ms = 50\nsend_zero_copy_bytes = '64 KiB'";
    let io = Config::parse(text, "ashlar.toml").unwrap().io;
    assert_eq!((io.sqpoll_idle_ms, io.send_zero_copy_bytes), (50, 65_536));
    assert!(refusal("[io]\nsqpoll_idle_ms = 60001").contains("or 0 (no thread)"));
    assert!(refusal("[io]\nsend_zero_copy_bytes = 1").contains("from 16 KiB to 1 GiB, or 0"));
}

#[test]
fn the_watermarks_of_the_disk_are_in_order() {
    let disk = Config::defaults().disk;
    assert_eq!((disk.low_percent, disk.stop_percent), (5, 1));
    assert_eq!(disk.reserve_bytes, 256 << 20);
    assert!(refusal("[disk]\nstop_percent = 6").contains("disk.stop_percent = 6"));
    let off = Config::parse("[disk]\nlow_percent = 0\nstop_percent = 6", "f").unwrap();
    assert_eq!((off.disk.low_percent, off.disk.stop_percent), (0, 6));
    let mut config = Config::defaults();
    assert!(config.set("disk.low_percent", "50").is_ok());
    assert!(config.set("disk.stop_percent", "50").is_ok());
    assert!(config.set("disk.low_percent", "49").is_err());
}

#[test]
fn every_kind_of_value_is_read() {
    let text = "
        data = '/srv/ashlar'
        listen = '[::1]:7000'
        cpus = '0-2, 6'
        memory_bytes = '2 GiB'
        wal.durability = 'fdatasync'
        partition.space_ratio = 3
        [client]
        clients_max = 1_000
        value_bytes_max = 0x100000
        [io]
        stall_ms = 7
    ";
    let config = Config::parse(text, "ashlar.toml").unwrap();
    assert_eq!(config.data, PathBuf::from("/srv/ashlar"));
    assert_eq!(config.listen.port(), 7000);
    assert_eq!(config.cpus, Cpus::List(vec![0, 1, 2, 6]));
    assert_eq!(config.memory_bytes, 2 << 30);
    assert_eq!(config.wal.durability, Durability::Fdatasync);
    assert_eq!(config.partition.space_ratio, 3.0);
    assert_eq!(
        (config.client.clients_max, config.client.value_bytes_max),
        (1000, 1 << 20)
    );
    assert_eq!(config.io.stall_ms, 7);
}

#[test]
fn unknown_keys_name_the_line_and_the_nearest_key() {
    assert_eq!(
        refusal("\n[client]\nclient_max = 5\n"),
        "ashlar.toml:3: unknown key client.client_max; did you mean client.clients_max?"
    );
    assert!(refusal("segment_bytes = 1").ends_with("did you mean wal.segment_bytes?"));
    assert!(refusal("[io]\nsegmetn_bytes = 1").ends_with("did you mean wal.segment_bytes?"));
    assert!(refusal("[clinet]\nclients_max = 1").ends_with("did you mean client?"));
    assert!(refusal("[wall]").ends_with("unknown key wall; did you mean wal?"));
    assert_eq!(
        refusal("frobnicate = true"),
        "ashlar.toml:1: unknown key frobnicate"
    );
}

#[test]
fn wrong_values_name_key_value_and_what_is_allowed() {
    assert_eq!(
        refusal("[client]\n\nclients_max = 0"),
        "ashlar.toml:3: client.clients_max = 0 is not allowed; it takes an integer from 1 to 1000000"
    );
    assert_eq!(
        refusal("wal.segment_bytes = 1048577"),
        "ashlar.toml:1: wal.segment_bytes = 1048577 is not allowed; it takes a multiple of 1 MiB \
         from 1 MiB to 1 GiB, in bytes or with a unit such as \"64 MiB\" or \"1GB\""
    );
    assert!(refusal("databases = 17").ends_with("it takes 16 only"));
    assert!(refusal("memory_bytes = 1").contains("or 0 (half of the machine's memory)"));
    assert!(refusal("[io]\nqueue_entries = 65").contains("a power of two from 64 to 32768"));
    assert!(refusal("[partition]\nspace_ratio = 1.05").ends_with("a number from 1.1 to 10"));
    assert!(refusal("[wal]\ndurability = 'sometimes'").contains("one of \"auto\", \"dsync\""));
    assert!(refusal("listen = 'localhost'").contains("an IP address and a port"));
    assert!(refusal("data = ''").contains("data = \"\" is not allowed"));
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    for text in [
        "data = 5",
        "cpus = 2",
        "listen = 6379",
        "memory_bytes = true",
        "memory_bytes = -1",
        "io.stall_ms = '5'",
        "io.stall_ms = 5.0",
        "io.stall_ms = 99999999999999999999",
        "partition.space_ratio = nan",
        "partition.space_ratio = inf",
        "wal.durability = [1]",
        "wal.durability = 1979-05-27",
        "wal = 5",
        "data = {a = 1}",
    ] {
        refusal(text);
    }
}

#[test]
fn broken_toml_names_its_line() {
    assert!(refusal("data = 'x'\nlisten = \n").starts_with("ashlar.toml:2: "));
    assert!(refusal("data = 'x'\ndata = 'y'\n").starts_with("ashlar.toml:2: "));
}

#[test]
fn the_topmost_error_is_reported() {
    assert!(refusal("[wal]\nzebra = 1\nalpha = 1").starts_with("ashlar.toml:2: "));
}

#[test]
fn long_and_odd_values_stay_on_one_line() {
    let line = refusal(&format!("listen = \"a\\nb{}\"", "x".repeat(500)));
    assert!(line.contains("a\\nb") && line.len() < 300, "{line}");
}

#[test]
fn contradicting_values_are_refused() {
    let line = refusal("[client]\ncommand_bytes_max = '32 MiB'");
    assert_eq!(
        line,
        "ashlar.toml: client.value_bytes_max = 64 MiB must not be above \
         client.command_bytes_max = 32 MiB"
    );
}

#[test]
fn flags_lie_over_the_file() {
    let mut config = Config::parse("data = 'a'\nlisten = '0.0.0.0:1'", "ashlar.toml").unwrap();
    let overrides = Overrides {
        data: Some("b".into()),
        cpus: Some("1".into()),
        memory: Some("1GB".into()),
        set: vec!["wal.durability=none".into(), "io.stall_ms = 9".into()],
        ..Overrides::default()
    };
    config.override_with(&overrides).unwrap();
    assert_eq!((config.data.to_str(), config.listen.port()), (Some("b"), 1));
    assert_eq!(
        (config.memory_bytes, config.io.stall_ms),
        (1_000_000_000, 9)
    );
    assert_eq!(config.warnings().len(), 1);
}

#[test]
fn a_cluster_comes_from_the_file_or_from_flags() {
    let text = "[cluster]\nname = 'b'\npeer_listen = '10.0.0.2:7000'\n\
                peers = ['b=10.0.0.2:7000', 'a=10.0.0.1:7000', 'c=10.0.0.3:7000']\n";
    let config = Config::parse(text, "f").unwrap();
    let flags = Overrides {
        name: Some("b".into()),
        peer_listen: Some("10.0.0.2:7000".into()),
        peers: Some("a=10.0.0.1:7000,b=10.0.0.2:7000,c=10.0.0.3:7000".into()),
        ..Overrides::default()
    };
    let mut flagged = Config::defaults();
    assert!(flagged.cluster.is_alone());
    flagged.override_with(&flags).unwrap();
    assert_eq!(config, flagged);
    let line = refusal(&text.replace("'b'", "'d'"));
    assert!(
        line.starts_with("ashlar.toml: cluster.name = d is not in cluster.peers = a=10"),
        "{line}"
    );
    let line = refusal("[cluster]\npeers = ['a=1.2.3.4:5', 6]");
    assert!(
        line.starts_with("ashlar.toml:2: cluster.peers = a=1.2.3.4:5,6 is not allowed"),
        "{line}"
    );
    assert!(flagged.set("cluster.name", "a").is_err());
}

#[test]
fn wrong_flags_change_nothing_and_name_the_flag() {
    let mut config = Config::defaults();
    let overrides = Overrides {
        data: Some("b".into()),
        memory: Some("lots".into()),
        ..Overrides::default()
    };
    let line = config.override_with(&overrides).unwrap_err().to_string();
    assert!(
        line.starts_with("--memory: memory_bytes = lots is not allowed"),
        "{line}"
    );
    assert_eq!(config, Config::defaults());
    let overrides = Overrides {
        set: vec!["io.stall_ms".into()],
        ..Overrides::default()
    };
    let line = config.override_with(&overrides).unwrap_err().to_string();
    assert!(line.contains("expected KEY=VALUE"), "{line}");
}

#[test]
fn running_knobs_change_and_others_ask_for_a_restart() {
    let mut config = Config::defaults();
    config.set("client.clients_max", "7").unwrap();
    assert_eq!(config.client.clients_max, 7);
    let line = config.set("wal.inflight", "1").unwrap_err().to_string();
    assert!(
        line.starts_with("wal.inflight cannot change while the node runs"),
        "{line}"
    );
    config.set("client.clients_mux", "1").unwrap_err();
    config.set("client.value_bytes_max", "512 MiB").unwrap_err();
    assert_eq!(config.client.value_bytes_max, 64 << 20);
}

#[test]
fn entries_show_every_knob_and_read_back() {
    let config = Config::parse("cpus = '0-3,6,8-9'\nmemory_bytes = '1 GiB'", "f").unwrap();
    let entries = config.entries();
    assert_eq!(entries.len(), KNOBS.len());
    assert!(entries.contains(&("memory_bytes".into(), "1073741824".into())));
    assert!(entries.contains(&("cpus".into(), "0-3,6,8-9".into())));
    let set = entries
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut copy = Config::defaults();
    copy.override_with(&Overrides {
        set,
        ..Overrides::default()
    })
    .unwrap();
    assert_eq!(copy, config);
}

#[test]
fn the_table_is_consistent() {
    let mut tables: Vec<&str> = KNOBS.iter().map(Knob::table).collect();
    tables.dedup();
    assert_eq!(
        tables,
        [
            "",
            "client",
            "pubsub",
            "wal",
            "io",
            "partition",
            "disk",
            "clock",
            "admin",
            "cluster",
            "peer"
        ],
        "grouped, or [table] repeats"
    );
    for (position, knob) in KNOBS.iter().enumerate() {
        assert_eq!(
            KNOBS.iter().position(|other| other.key() == knob.key()),
            Some(position)
        );
        assert!(
            knob.about.ends_with('.') && !knob.allowed().is_empty(),
            "{}",
            knob.key()
        );
        let named = [
            ("bytes", "_bytes"),
            ("seconds", "_s"),
            ("milliseconds", "_ms"),
            ("microseconds", "_us"),
            ("days", "_days"),
            ("percent", "_percent"),
        ];
        for (unit, suffix) in named.into_iter().filter(|(unit, _)| *unit == knob.unit()) {
            assert!(knob.leaf().contains(suffix), "{} is in {unit}", knob.key());
        }
    }
}

#[test]
fn bounds_are_exact() {
    for knob in KNOBS
        .iter()
        .filter(|knob| matches!(knob.shape(), knob::Shape::Size))
    {
        let mut config = Config::defaults();
        assert_eq!(
            knob.assign(&mut config, &knob.min.to_string()),
            Ok(()),
            "{}",
            knob.key()
        );
        assert_eq!(
            knob.assign(&mut config, &knob.max.to_string()),
            Ok(()),
            "{}",
            knob.key()
        );
        knob.assign(&mut config, &(knob.max + 1).to_string())
            .unwrap_err();
        knob.assign(&mut config, &(knob.min - 1).to_string())
            .unwrap_err();
    }
    let stall = Knob::find("io.stall_ms").unwrap();
    let mut config = Config::defaults();
    for (given, allowed) in [("0", false), ("1", true), ("60000", true), ("60001", false)] {
        assert_eq!(stall.assign(&mut config, given).is_ok(), allowed);
    }
}

#[test]
fn the_deployed_file_is_the_annotated_one() {
    let deployed = include_str!("../../../deploy/ashlar.toml");
    assert!(
        deployed == Config::annotated(),
        "write this to deploy/ashlar.toml:\n{}",
        Config::annotated()
    );
    assert_eq!(
        Config::parse(deployed, "ashlar.toml").unwrap(),
        Config::defaults()
    );
    for knob in KNOBS {
        let line = format!("\n{} = ", knob.leaf());
        assert!(
            deployed.contains(&line),
            "{} is not in the file",
            knob.key()
        );
    }
    assert!(deployed.lines().all(|line| line.len() <= 100));
}

#[test]
fn explain_names_every_knob() {
    let text = Config::explain();
    for knob in KNOBS {
        assert!(text.contains(&format!("{} ({}, default ", knob.key(), knob.unit())));
    }
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("256 MiB", 256 << 20),
        ("1GB", 1_000_000_000),
        ("1kb", 1000),
        (" 3 kib ", 3072),
        ("12 B", 12),
        ("2TiB", 2 << 40),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "B",
        "MiB",
        "1k",
        "1.5GB",
        "-1",
        "+1",
        "1 2",
        "1__0",
        "99999999999 TiB",
        "½GB",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn cpu_lists_are_sorted_and_checked() {
    assert_eq!(parse_cpus("all"), Ok(Cpus::All));
    assert_eq!(parse_cpus("6, 0-2"), Ok(Cpus::List(vec![0, 1, 2, 6])));
    assert_eq!(parse_cpus("1023"), Ok(Cpus::List(vec![1023])));
    for text in [
        "",
        ",",
        "3-1",
        "1,1",
        "0-2,1",
        "1024",
        "a",
        "1-",
        "-1",
        "0-4294967295",
    ] {
        assert!(parse_cpus(text).is_err(), "{text}");
    }
}

#[test]
fn distance_counts_edits() {
    for (a, b, edits) in [
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
    ] {
        assert_eq!(distance(a, b), edits, "{a} {b}");
        assert_eq!(distance(b, a), edits, "{b} {a}");
    }
}

proptest! {
    #[test]
    fn shown_sizes_read_back(shift in 0_u32..50, count in 0_u64..5000) {
        let bytes = count << shift;
        prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
    }

    #[test]
    fn shown_cpu_lists_read_back(set in prop::collection::btree_set(0_u32..64, 1..20)) {
        let cpus = Cpus::List(set.into_iter().collect());
        prop_assert_eq!(parse_cpus(&cpus.to_string()), Ok(cpus));
    }

    #[test]
    fn no_text_panics_and_every_refusal_is_one_line(text in "[a-z.=\\[\\]\"' 0-9\n_é-]{0,80}") {
        if let Err(error) = Config::parse(&text, "f") {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

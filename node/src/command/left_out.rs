//! Commands of Redis that are not here, and what one is told who sends them. They are no rows of the table: `COMMAND`
//! does not name them.

/// Beginnings of names and whole names in lower case (those that end with a dot), and what they belong to.
const LEFT_OUT: &[(&[&str], &str)] = &[
    (
        &[
            "eval.",
            "evalsha.",
            "eval_ro.",
            "evalsha_ro.",
            "script.",
            "fcall.",
            "fcall_ro.",
        ],
        "scripts are not supported",
    ),
    (&["module."], "modules are not supported"),
    (
        &["pfadd.", "pfcount.", "pfmerge.", "pfdebug.", "pfselftest."],
        "HyperLogLog is not supported",
    ),
    (
        &[
            "geoadd.",
            "geodist.",
            "geohash.",
            "geopos.",
            "georadius",
            "geosearch",
        ],
        "geographic indexes are not supported",
    ),
    (
        &[
            "xadd.",
            "xread",
            "xrange.",
            "xrevrange.",
            "xlen.",
            "xdel.",
            "xtrim.",
            "xack.",
            "xgroup.",
            "xinfo.",
            "xclaim.",
            "xautoclaim.",
            "xpending.",
            "xsetid.",
        ],
        "streams are not supported",
    ),
    (&["sort"], "sorting is not supported"),
    (
        &[
            "replicaof.",
            "slaveof.",
            "psync.",
            "sync.",
            "failover.",
            "migrate.",
            "dump.",
            "restore.",
        ],
        "the nodes of a cluster copy data by themselves, and ashlar backup does for you",
    ),
    (
        &["save.", "bgsave.", "bgrewriteaof."],
        "every write is on disk before its reply",
    ),
];

/// Returns why a command is not here; nothing when Redis has none of that name.
#[must_use]
pub fn reason(name: &[u8]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let is = |pattern: &str| match pattern.strip_suffix('.') {
        Some(whole) => name == whole.as_bytes(),
        None => name.starts_with(pattern.as_bytes()),
    };
    let found = LEFT_OUT
        .iter()
        .find(|(patterns, _)| patterns.iter().any(|pattern| is(pattern)));
    found.map(|(_, reason)| *reason)
}

//! What people do with redis-rs, done to a node: `redis-rs-checks PORT`, once per protocol. `RESTART` is a command that
//! kills the node and starts it again; `FAMILIES` names the families of commands beside strings that the node has.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use redis::{Client, Commands, Connection, RedisResult, cmd, pipe, transaction};

type Checked = Result<(), Box<dyn Error>>;
type Check = (&'static str, fn(&Client, &mut Connection) -> Checked);

const CHECKS: [Check; 9] = [
    ("strings", strings),
    ("counters", counters),
    ("expiry", expiry),
    ("pipelines", pipelines),
    ("transactions", transactions),
    ("scanning", scanning),
    ("binary", binary),
    ("own commands", own_commands),
    ("databases", databases),
];
const FAMILIES: [Check; 5] = [
    ("pubsub", pubsub),
    ("hashes", hashes),
    ("lists", lists),
    ("sets", sets),
    ("zsets", zsets),
];

/// Says whether two values are the same, and what they are if not.
fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Checked {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{found:?} instead of {wanted:?}").into()),
    }
}

fn refused<T: std::fmt::Debug>(result: RedisResult<T>, text: &str) -> Checked {
    match result {
        Err(error) if error.to_string().contains(text) => Ok(()),
        other => Err(format!("{other:?} instead of an error that says {text:?}").into()),
    }
}

fn strings(_: &Client, to: &mut Connection) -> Checked {
    same(to.set::<_, _, String>("greeting", "hello")?, "OK".into())?;
    same(to.get("greeting")?, Some("hello".to_owned()))?;
    same(to.get("nothing")?, None::<String>)?;
    same(
        to.mset::<_, _, String>(&[("left", 1), ("right", 2)])?,
        "OK".into(),
    )?;
    same(to.mget(&["left", "right"])?, vec![1, 2])?;
    same(to.append("left", "23")?, 3)?;
    same(to.del(&["left", "right", "nothing"])?, 2)?;
    same(to.exists("greeting")?, true)?;
    same(to.set_nx("greeting", "again")?, false)
}

fn counters(_: &Client, to: &mut Connection) -> Checked {
    same(to.incr("counter", 1)?, 1)?;
    same(to.incr("counter", 41)?, 42)?;
    same(to.decr("counter", 2)?, 40)?;
    same(to.incr("counter", 0.5)?, 40.5)?;
    refused(to.incr::<_, _, i64>("counter", 1), "not an integer")
}

fn expiry(_: &Client, to: &mut Connection) -> Checked {
    let _: String = to.pset_ex("brief", "x", 60)?;
    let _: String = to.set_ex("long", "x", 100)?;
    let left: i64 = to.ttl("long")?;
    same((1..=100).contains(&left), true)?;
    same(to.persist("long")?, true)?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while to.get::<_, Option<String>>("brief")?.is_some() {
        same(Instant::now() < deadline, true)?;
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn pipelines(_: &Client, to: &mut Connection) -> Checked {
    let mut pipeline = pipe();
    for number in 0..1000 {
        let key = format!("pipe:{number}");
        pipeline.set(&key, number).ignore().get(&key);
    }
    same(pipeline.query::<Vec<i64>>(to)?, (0..1000).collect())
}

fn transactions(client: &Client, to: &mut Connection) -> Checked {
    let mut whole = pipe();
    let whole = whole
        .atomic()
        .set("account", 10)
        .incr("account", 5)
        .get("account");
    same(whole.query(to)?, ("OK".to_owned(), 15, 15))?;
    let mut other = client.get_connection()?;
    let mut tries = 0;
    let done: (i64,) = transaction(to, &["account"], |to, whole| {
        let balance: i64 = to.get("account")?;
        tries += 1;
        if tries == 1 {
            let _: String = other.set("account", 100)?;
        }
        whole
            .set("account", balance + 1)
            .ignore()
            .get("account")
            .query(to)
    })?;
    same((done.0, tries), (101, 2))
}

fn scanning(_: &Client, to: &mut Connection) -> Checked {
    let keys: Vec<String> = (0..1500).map(|number| format!("scan:{number}")).collect();
    let pairs: Vec<(&String, i32)> = keys.iter().map(|key| (key, 1)).collect();
    let _: String = to.mset(&pairs)?;
    let found: RedisResult<BTreeSet<String>> = to.scan_match("scan:*")?.collect();
    same(found?, keys.into_iter().collect())
}

fn binary(_: &Client, to: &mut Connection) -> Checked {
    let every: Vec<u8> = (0..=255).collect();
    let _: String = to.set(&every, &every)?;
    same(to.get(&every)?, every.clone())?;
    let big = every.repeat(32 << 10);
    let _: String = to.set("big", &big)?;
    same(to.get::<_, Vec<u8>>("big")? == big, true)?;
    same(to.unlink("big")?, 1)
}

fn own_commands(_: &Client, to: &mut Connection) -> Checked {
    let now: i64 = cmd("KV.TIMESTAMP").query(to)?;
    same(now > 0, true)?;
    let scan: redis::Value = cmd("KV.SCAN")
        .arg(&["pipe:10", "pipe:11", "LIMIT", "2"])
        .query(to)?;
    same(format!("{scan:?}").contains("pipe:10"), true)?;
    refused(cmd("NOSUCHCOMMAND").query::<String>(to), "unknown command")
}

fn databases(_: &Client, to: &mut Connection) -> Checked {
    let _: String = to.set("where", "zero")?;
    let _: String = cmd("SELECT").arg(5).query(to)?;
    same(to.get("where")?, None::<String>)?;
    let _: String = cmd("FLUSHDB").query(to)?;
    let _: String = cmd("SELECT").arg(0).query(to)?;
    same(to.get("where")?, "zero".to_owned())
}

fn pubsub(client: &Client, to: &mut Connection) -> Checked {
    let mut other = client.get_connection()?;
    let mut listener = other.as_pubsub();
    listener.subscribe("news")?;
    same(to.publish("news", "flash")?, 1)?;
    same(
        listener.get_message()?.get_payload::<String>()?,
        "flash".into(),
    )?;
    Ok(listener.unsubscribe("news")?)
}

fn hashes(_: &Client, to: &mut Connection) -> Checked {
    same(to.hset("hash", "a", 1)?, 1)?;
    same(to.hincr("hash", "a", 4)?, 5)?;
    same(to.hgetall("hash")?, BTreeMap::from([("a".to_owned(), 5)]))?;
    refused(to.get::<_, String>("hash"), "WRONGTYPE")
}

fn lists(_: &Client, to: &mut Connection) -> Checked {
    same(to.rpush("list", &["a", "b", "c"])?, 3)?;
    same(
        to.lrange("list", 0, -1)?,
        ["a", "b", "c"].map(str::to_owned).to_vec(),
    )?;
    same(to.blpop("list", 1.0)?, ("list".to_owned(), "a".to_owned()))
}

fn sets(_: &Client, to: &mut Connection) -> Checked {
    same(to.sadd("set", &["a", "b", "a"])?, 2)?;
    same(
        to.smembers("set")?,
        BTreeSet::from(["a".to_owned(), "b".to_owned()]),
    )
}

fn zsets(_: &Client, to: &mut Connection) -> Checked {
    same(to.zadd("zset", "a", 1.5)?, 1)?;
    same(
        to.zrange_withscores("zset", 0, -1)?,
        vec![("a".to_owned(), 1.5)],
    )
}

/// A plain connection ends with the node; the client opens another one.
fn reconnecting(client: &Client, to: &mut Connection) -> Checked {
    let _: String = to.set("kept", "yes")?;
    let restarted = Command::new(env::var("RESTART")?).status()?;
    same(restarted.success(), true)?;
    match to.get::<_, String>("kept") {
        Err(error) if error.is_connection_dropped() || error.is_io_error() => {}
        other => return Err(format!("{other:?} over a broken connection").into()),
    }
    same(client.get_connection()?.get("kept")?, "yes".to_owned())
}

fn run(port: &str, protocol: &str) -> Result<usize, Box<dyn Error>> {
    let client = Client::open(format!("redis://127.0.0.1:{port}/?protocol={protocol}"))?;
    let mut connection = client.get_connection()?;
    let _: String = cmd("FLUSHALL").query(&mut connection)?;
    let chosen = env::var("FAMILIES").unwrap_or_default();
    let families = FAMILIES.iter();
    let families = families.filter(|(name, _)| chosen.split(' ').any(|family| family == *name));
    let last = [("reconnecting", reconnecting as _)];
    let mut checks = 0;
    for (name, check) in CHECKS.iter().chain(families).chain(&last) {
        check(&client, &mut connection).map_err(|error| format!("{name}: {error}"))?;
        checks += 1;
    }
    Ok(checks)
}

fn main() -> Checked {
    let port = env::args().nth(1).ok_or("usage: redis-rs-checks PORT")?;
    for protocol in ["resp2", "resp3"] {
        let checks =
            run(&port, protocol).map_err(|error| format!("redis-rs, {protocol}: {error}"))?;
        println!(
            "redis-rs 1.8.1, {}: {checks} checks",
            protocol.to_uppercase()
        );
    }
    Ok(())
}

"""What people do with redis-py, done to a node: `redis-py.py PORT`, once per protocol and once with asyncio.

RESTART is a command that kills the node and starts it again; FAMILIES names the families of commands beside strings
that the node has. A check is written once: `done` waits for what asyncio's client returns, and takes what the other
one returns as it is.
"""

import asyncio
import inspect
import os
import subprocess
import sys
import time

import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.retry import Retry

PORT = int(sys.argv[1])
FAMILIES = os.environ.get("FAMILIES", "").split()


async def done(result):
    return await result if inspect.isawaitable(result) else result


async def gathered(iterator):
    if hasattr(iterator, "__aiter__"):
        return [item async for item in iterator]
    return list(iterator)


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


async def refused(result, text, kind=redis.ResponseError):
    try:
        found = await done(result() if callable(result) else result)
    except kind as error:
        assert text in str(error), f"{error} does not say {text!r}"
    else:
        raise AssertionError(f"answered {found!r} instead of an error")


async def strings(client, _):
    same(await done(client.set("greeting", "hello")), True)
    same(await done(client.get("greeting")), b"hello")
    same(await done(client.get("nothing")), None)
    same(await done(client.set("greeting", "again", nx=True)), None)
    same(await done(client.set("greeting", "again", get=True)), b"hello")
    same(await done(client.mset({"left": 1, "right": "2"})), True)
    same(await done(client.mget("left", "nothing", "right")), [b"1", None, b"2"])
    same(await done(client.append("left", "23")), 3)
    same(await done(client.getrange("left", 1, -1)), b"23")
    same(await done(client.delete("left", "right", "nothing")), 2)
    same(await done(client.exists("greeting", "left")), 1)
    same(await done(client.rename("greeting", "moved")), True)
    same(await done(client.type("moved")), b"string")
    same(await done(client.setbit("bits", 7, 1)), 0)
    same(await done(client.bitcount("bits")), 1)


async def counters(client, _):
    same(await done(client.incr("counter")), 1)
    same(await done(client.incrby("counter", 41)), 42)
    same(await done(client.decr("counter", 2)), 40)
    same(await done(client.incrbyfloat("counter", 0.5)), 40.5)
    await refused(lambda: client.incr("counter"), "not an integer")


async def expiry(client, _):
    await done(client.set("brief", "x", px=60))
    same(await done(client.set("long", "x", ex=100)), True)
    assert 0 < await done(client.ttl("long")) <= 100
    same(await done(client.expire("long", 200, gt=True)), True)
    same(await done(client.persist("long")), True)
    same((await done(client.ttl("long")), await done(client.ttl("nothing"))), (-1, -2))
    deadline = time.monotonic() + 5
    while await done(client.get("brief")) is not None:
        assert time.monotonic() < deadline, "it does not expire"
        await asyncio.sleep(0.02)


async def pipelines(client, _):
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.set(f"pipe:{number}", number)
        pipeline.get(f"pipe:{number}")
    replies = await done(pipeline.execute())
    same(replies[1::2], [str(number).encode() for number in range(1000)])
    pipeline = client.pipeline(transaction=False)
    pipeline.set("text", "no number").incr("text").get("text")
    replies = await done(pipeline.execute(raise_on_error=False))
    assert isinstance(replies[1], redis.ResponseError) and replies[2] == b"no number", replies


async def transactions(client, other):
    pipeline = client.pipeline(transaction=True)
    pipeline.set("account", 10).incrby("account", 5).get("account")
    same(await done(pipeline.execute()), [True, 15, b"15"])
    pipeline = client.pipeline()
    await done(pipeline.watch("account"))
    balance = int(await done(pipeline.get("account")))
    pipeline.multi()
    pipeline.set("account", balance + 1)
    same(await done(pipeline.execute()), [True])
    await done(pipeline.watch("account"))
    await done(other.set("account", 0))
    pipeline.multi()
    pipeline.set("account", 99)
    await refused(pipeline.execute, "", redis.WatchError)
    same(await done(client.get("account")), b"0")
    await done(pipeline.reset())


async def scanning(client, _):
    await done(client.mset({f"scan:{number}": number for number in range(1500)}))
    found = await gathered(client.scan_iter(match="scan:*", count=100))
    same(sorted(found), sorted(f"scan:{number}".encode() for number in range(1500)))
    assert await done(client.dbsize()) >= 1500
    same(len(await gathered(client.scan_iter(match="scan:1?", _type="string"))), 10)


async def binary(client, _):
    every = bytes(range(256)) + b"\r\n$-1\r\n"
    same(await done(client.set(every, every[::-1])), True)
    same(await done(client.get(every)), every[::-1])
    big = os.urandom(1 << 20) * 8
    same(await done(client.set("big", big)), True)
    assert await done(client.get("big")) == big, "a big value came back as another one"
    same(await done(client.strlen("big")), len(big))
    same(await done(client.unlink("big")), 1)


async def own_commands(client, _):
    assert int(await done(client.execute_command("KV.TIMESTAMP"))) > 0
    found = await done(client.execute_command("KV.SCAN", "pipe:10", "pipe:11", "LIMIT", 2))
    assert b"pipe:10" in str(found).encode(), found
    await refused(lambda: client.execute_command("NOSUCHCOMMAND"), "unknown command")


async def server(client, _):
    told = await done(client.info())
    for field in ("redis_version", "arch_bits", "cluster_enabled", "connected_clients", "used_memory", "loading"):
        assert field in told, f"INFO has no {field}"
    assert int((await done(client.config_get("maxclients")))["maxclients"]) > 0
    await done(client.client_setname("checker"))
    assert await done(client.client_getname()) in ("checker", b"checker")
    assert any(entry["name"] == "checker" for entry in await done(client.client_list()))
    assert "get" in await done(client.command())
    same(await done(client.ping()), True)
    assert (await done(client.time()))[0] > 1_600_000_000
    await done(client.slowlog_get())
    same(await done(client.execute_command("CLIENT", "NO-EVICT", "ON")), b"OK")


async def databases(client, _):
    await done(client.set("where", "zero"))
    elsewhere = type(client)(port=PORT, db=5, **protocol_of(client))
    same(await done(elsewhere.get("where")), None)
    await done(elsewhere.set("where", "five"))
    same(await done(elsewhere.flushdb()), True)
    same(await done(client.get("where")), b"zero")
    await done(elsewhere.aclose() if hasattr(elsewhere, "aclose") else elsewhere.close())


async def pubsub(client, other):
    listener = client.pubsub(ignore_subscribe_messages=True)
    await done(listener.subscribe("news"))
    await done(listener.psubscribe("new*"))
    deadline = time.monotonic() + 5
    heard = []
    while len(heard) < 2:
        assert time.monotonic() < deadline, f"heard only {heard}"
        if not heard:
            await done(other.publish("news", b"\x00flash\r\n"))
        message = await done(listener.get_message(timeout=0.5))
        heard += [message["data"]] if message else []
    same(heard[:2], [b"\x00flash\r\n"] * 2)
    await done(listener.unsubscribe("news"))
    await done(listener.aclose() if hasattr(listener, "aclose") else listener.close())


async def hashes(client, _):
    same(await done(client.hset("hash", mapping={"a": 1, "b": b"\x00"})), 2)
    same(await done(client.hgetall("hash")), {b"a": b"1", b"b": b"\x00"})
    same(await done(client.hincrby("hash", "a", 4)), 5)
    same(await done(client.hmget("hash", "a", "c")), [b"5", None])
    same(await done(client.hdel("hash", "a", "c")), 1)
    same(dict(await gathered(client.hscan_iter("hash"))), {b"b": b"\x00"})
    await refused(lambda: client.get("hash"), "WRONGTYPE")


async def lists(client, _):
    same(await done(client.rpush("list", "a", "b", "c")), 3)
    same(await done(client.lpush("list", "z")), 4)
    same(await done(client.lrange("list", 0, -1)), [b"z", b"a", b"b", b"c"])
    same(await done(client.rpop("list")), b"c")
    same(list(await done(client.blpop("list", 1))), [b"list", b"z"])
    same(await done(client.llen("list")), 2)


async def sets(client, _):
    same(await done(client.sadd("set", "a", "b", "a")), 2)
    same({*await done(client.smembers("set"))}, {b"a", b"b"})
    same(bool(await done(client.sismember("set", "a"))), True)
    same(await done(client.srem("set", "a")), 1)
    same(await gathered(client.sscan_iter("set")), [b"b"])


async def zsets(client, _):
    same(await done(client.zadd("zset", {"a": 1, "b": 2.5})), 2)
    found = await done(client.zrange("zset", 0, -1, withscores=True))
    same([list(pair) for pair in found], [[b"a", 1.0], [b"b", 2.5]])
    same(await done(client.zscore("zset", "b")), 2.5)
    same(await done(client.zrangebyscore("zset", 2, 3)), [b"b"])
    same(await done(client.zrem("zset", "a")), 1)


async def reconnecting(client, _):
    await done(client.set("kept", "yes"))
    subprocess.run([os.environ["RESTART"]], check=True)
    same(await done(client.get("kept")), b"yes")
    same(await done(client.incr("after")), 1)


def protocol_of(client):
    return {"protocol": client.connection_pool.connection_kwargs["protocol"]}


async def run(what, kind, protocol):
    clients = []
    for _ in range(2):
        retry = type(kind.retry())(ConstantBackoff(0.1), 50)
        clients.append(kind.client(port=PORT, protocol=protocol, retry=retry, socket_timeout=30))
    client, other = clients
    await done(client.flushall())
    checks = [strings, counters, expiry, pipelines, transactions, scanning, binary, own_commands, server, databases]
    checks += [globals()[family] for family in FAMILIES] + [reconnecting]
    for check in checks:
        try:
            await check(client, other)
        except Exception as error:
            raise SystemExit(f"{what}: {check.__name__}: {type(error).__name__}: {error}") from error
    for each in clients:
        await done(each.aclose() if hasattr(each, "aclose") else each.close())
    print(f"{what}: {len(checks)} checks")


class Plain:
    client = redis.Redis
    retry = staticmethod(lambda: Retry(ConstantBackoff(0.1), 1))


class Async:
    client = redis.asyncio.Redis
    retry = staticmethod(lambda: redis.asyncio.retry.Retry(ConstantBackoff(0.1), 1))


for name, kind, protocol in [("RESP2", Plain, 2), ("RESP3", Plain, 3), ("asyncio", Async, 3)]:
    asyncio.run(run(f"redis-py {redis.__version__}, {name}", kind, protocol))

#!/usr/bin/env python3
"""Commands that wait for elements (BLPOP and its like), by several connections of redis-py to the node on port ARG.

Each check names what it expects and fails with both. Nothing here depends on how fast the machine is: who waits is
known from INFO, and a timeout is only said to be not shorter than asked for.
"""

import sys
import time

import redis

PORT = int(sys.argv[1])
PATIENCE = 10


class Peer:
    """A connection that can be left waiting for a reply."""

    def __init__(self, protocol=2):
        self.connection = redis.Connection(port=PORT, protocol=protocol, socket_timeout=PATIENCE)
        self.connection.connect()

    def send(self, *words):
        self.connection.send_command(*words)
        return self

    def reply(self):
        try:
            return self.connection.read_response()
        except redis.ResponseError as error:
            return error

    def run(self, *words):
        return self.send(*words).reply()

    def wait(self, *words):
        """Sends a command, and returns when the node says that one more client waits."""
        before = waiting()
        self.send(*words)
        soon(lambda: waiting() == before + 1, f"{words} waits")
        return self

    def close(self):
        self.connection.disconnect()


main = Peer()


def same(found, expected):
    assert found == expected, f"{found!r} instead of {expected!r}"


def failed(found, beginning):
    assert isinstance(found, redis.ResponseError) and str(found).startswith(beginning), f"{found!r} instead of {beginning}"


def soon(holds, what):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def waiting():
    info = main.run("INFO", "clients").decode()
    return int(info.split("blocked_clients:")[1].split("\r\n")[0])


def served_in_the_order_of_waiting():
    peers = [Peer().wait("BLPOP", "other", "queue", 0), Peer().wait("BRPOP", "queue", 0), Peer().wait("BLPOP", "queue", 0)]
    same(main.run("RPUSH", "queue", "a", "b"), 2)
    same([peer.reply() for peer in peers[:2]], [[b"queue", b"a"], [b"queue", b"b"]])
    same(main.run("LPUSH", "queue", "c", "d"), 2)
    same(peers[2].reply(), [b"queue", b"d"])
    same(main.run("LPOP", "queue"), b"c")


def first_key_in_the_order_of_arguments():
    main.run("RPUSH", "second", "2")
    main.run("RPUSH", "third", "3")
    same(Peer().run("BLPOP", "first", "second", "third", 0), [b"second", b"2"])
    same(Peer().run("BLMPOP", 0, 3, "first", "second", "third", "LEFT", "COUNT", 5), [b"third", [b"3"]])


def time_is_over():
    for protocol in (2, 3):
        peer, began = Peer(protocol), time.monotonic()
        same(peer.run("BLPOP", "nothing", 0.15), None)
        assert time.monotonic() - began >= 0.15, "too early"
        for words in (["BLMOVE", "nothing", "to", "LEFT", "LEFT", 0.01], ["BZMPOP", 0.01, 1, "nothing", "MIN"], ["BZPOPMAX", "nothing", 0.01]):
            same(peer.run(*words), None)
    failed(main.run("BLPOP", "nothing", -1), "timeout is negative")
    failed(main.run("BLPOP", "nothing", "nan"), "timeout is not a float or out of range")
    failed(main.run("BLPOP", "nothing", "inf"), "timeout is out of range")


def other_types_wake_nobody():
    main.run("SET", "text", "x")
    failed(main.run("BLPOP", "none", "text", 0), "WRONGTYPE")
    list_peer, sorted_peer = Peer().wait("BLPOP", "key", 0), Peer().wait("BZPOPMIN", "key", 0)
    main.run("SET", "key", "x")
    main.run("DEL", "key")
    main.run("ZADD", "key", 1.5, "m")
    same(sorted_peer.reply(), [b"key", b"m", b"1.5"])
    main.run("RPUSH", "key", "e")
    same(list_peer.reply(), [b"key", b"e"])


def what_is_moved_wakes_others():
    last = Peer().wait("BLPOP", "to", 0)
    first = Peer().wait("BLMOVE", "from", "to", "LEFT", "RIGHT", 0)
    main.run("RPUSH", "from", "e")
    same(first.reply(), b"e")
    same(last.reply(), [b"to", b"e"])
    for make in (["RENAME", "made", "wanted"], ["COPY", "made", "wanted"], ["LMOVE", "made", "wanted", "LEFT", "LEFT"]):
        peer = Peer().wait("BLPOP", "wanted", 0)
        main.run("RPUSH", "made", "e")
        main.run(*make)
        same(peer.reply(), [b"wanted", b"e"])
        main.run("DEL", "made", "wanted")
    peer = Peer()
    peer.run("SELECT", 3)
    peer.wait("BRPOPLPUSH", "moved", "there", 0)
    main.run("RPUSH", "moved", "e")
    main.run("MOVE", "moved", 3)
    same(peer.reply(), b"e")
    main.run("ZADD", "scores", 1, "a", 2, "b")
    for store in (["ZUNIONSTORE", "stored", 1, "scores"], ["ZRANGESTORE", "stored", "scores", 0, -1]):
        peer = Peer(3).wait("BZMPOP", 0, 2, "nothing", "stored", "MAX", "COUNT", 2)
        main.run(*store)
        same(peer.reply(), [b"stored", [[b"b", 2.0], [b"a", 1.0]]])


def transactions_do_not_wait():
    peer = Peer()
    for words in (["MULTI"], ["BLPOP", "none", 0], ["BLMOVE", "none", "to", "LEFT", "LEFT", 0], ["BZPOPMIN", "none", 0]):
        peer.run(*words)
    same(peer.run("EXEC"), [None, None, None])
    waiter = Peer().wait("BLPOP", "queue", 0)
    for words in (["MULTI"], ["RPUSH", "queue", "gone"], ["DEL", "queue"], ["RPUSH", "queue", "stays"]):
        peer.run(*words)
    same(peer.run("EXEC"), [1, 1, 1])
    same(waiter.reply(), [b"queue", b"stays"])


def ended_by_others():
    for reason, expected in (([], None), (["TIMEOUT"], None), (["ERROR"], "UNBLOCKED client unblocked via CLIENT UNBLOCK")):
        peer = Peer()
        number = peer.run("CLIENT", "ID")
        same(main.run("CLIENT", "UNBLOCK", number, *reason), 0)
        peer.wait("BLPOP", "queue", 0)
        line = main.run("CLIENT", "LIST", "ID", number).decode()
        assert " flags=b " in line and " cmd=blpop " in line, line
        same(main.run("CLIENT", "UNBLOCK", number, *reason), 1)
        found = peer.reply()
        same(found, None) if expected is None else failed(found, expected)
        same(peer.run("PING"), b"PONG")
    peer = Peer()
    number = peer.run("CLIENT", "ID")
    peer.wait("BLPOP", "queue", 0)
    same(main.run("CLIENT", "KILL", "ID", number), 1)
    soon(lambda: waiting() == 0, "a killed client waits no more")
    peer = Peer().wait("BLPOP", "queue", 0)
    peer.close()
    soon(lambda: waiting() == 0, "a client that is gone waits no more")
    same(main.run("RPUSH", "queue", "kept"), 1)
    same(main.run("LPOP", "queue"), b"kept")


def what_is_behind_waits():
    peer = Peer().wait("BLPOP", "queue", 0)
    peer.send("SET", "behind", "1").send("GET", "behind").send("BLPOP", "queue", 0).send("PING")
    same(main.run("GET", "behind"), None)
    same(main.run("RPUSH", "queue", "a"), 1)
    same([peer.reply() for _ in range(3)], [[b"queue", b"a"], b"OK", b"1"])
    same(main.run("RPUSH", "queue", "b"), 1)
    same([peer.reply() for _ in range(2)], [[b"queue", b"b"], b"PONG"])


CHECKS = [
    served_in_the_order_of_waiting,
    first_key_in_the_order_of_arguments,
    time_is_over,
    other_types_wake_nobody,
    what_is_moved_wakes_others,
    transactions_do_not_wait,
    ended_by_others,
    what_is_behind_waits,
]
for check in CHECKS:
    main.run("FLUSHALL")
    try:
        check()
    except Exception as error:
        raise SystemExit(f"{check.__name__}: {type(error).__name__}: {error}") from error
print(f"waiting: {len(CHECKS)} checks")

// What people do with ioredis, done to a node: `ioredis.mjs PORT`. RESTART is a command that kills the node and starts it
// again; FAMILIES names the families of commands beside strings that the node has.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// The library lies beside the working directory's package, not beside this file.
const require = createRequire(`${process.cwd()}/package.json`);
const Redis = require("ioredis");
const version = require("ioredis/package.json").version;
const port = Number(process.argv[2]);
const options = { port, host: "127.0.0.1", retryStrategy: () => 100, maxRetriesPerRequest: 100 };
const client = new Redis(options);
const other = new Redis(options);
for (const each of [client, other]) each.on("error", () => {});

const checks = {
    async strings() {
        assert.equal(await client.set("greeting", "hello"), "OK");
        assert.equal(await client.get("greeting"), "hello");
        assert.equal(await client.get("nothing"), null);
        assert.equal(await client.set("greeting", "again", "EX", 100, "NX"), null);
        assert.equal(await client.mset({ left: 1, right: "2" }), "OK");
        assert.deepEqual(await client.mget("left", "nothing", "right"), ["1", null, "2"]);
        assert.equal(await client.del("left", "right", "nothing"), 2);
        assert.equal(await client.exists("greeting"), 1);
    },
    async counters() {
        assert.equal(await client.incr("counter"), 1);
        assert.equal(await client.incrby("counter", 41), 42);
        assert.equal(await client.decr("counter"), 41);
        assert.equal(await client.incrbyfloat("counter", 0.5), "41.5");
        await assert.rejects(client.incr("counter"), /not an integer/);
    },
    async expiry() {
        await client.set("brief", "x", "PX", 60);
        assert.equal(await client.setex("long", 100, "x"), "OK");
        const left = await client.ttl("long");
        assert.ok(left > 0 && left <= 100, `${left}`);
        assert.equal(await client.persist("long"), 1);
        for (let tries = 0; (await client.get("brief")) !== null; tries += 1) {
            assert.ok(tries < 200, "it does not expire");
            await sleep(20);
        }
    },
    async pipelines() {
        const pipeline = client.pipeline();
        for (let n = 0; n < 1000; n += 1) pipeline.set(`pipe:${n}`, n).get(`pipe:${n}`);
        const replies = await pipeline.exec();
        assert.equal(replies.length, 2000);
        replies.forEach(([error, reply], n) => assert.deepEqual([error, reply], [null, n % 2 ? `${(n - 1) / 2}` : "OK"]));
        const many = await Promise.all(Array.from({ length: 500 }, (_, n) => client.get(`pipe:${n}`)));
        assert.deepEqual(many, Array.from({ length: 500 }, (_, n) => `${n}`));
    },
    async transactions() {
        const done = await client.multi().set("account", 10).incrby("account", 5).get("account").exec();
        assert.deepEqual(done, [[null, "OK"], [null, 15], [null, "15"]]);
        await client.watch("account");
        await other.set("account", 0);
        assert.equal(await client.multi().set("account", 99).exec(), null);
        assert.equal(await client.get("account"), "0");
        await assert.rejects(client.multi().set("account").exec(), /wrong number of arguments|EXECABORT/);
    },
    async scanning() {
        const keys = Array.from({ length: 1500 }, (_, n) => `scan:${n}`);
        await client.mset(...keys.flatMap((key) => [key, "x"]));
        const found = [];
        for await (const some of client.scanStream({ match: "scan:*", count: 100 })) found.push(...some);
        assert.deepEqual(found.sort(), keys.sort());
    },
    async binary() {
        const every = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
        assert.equal(await client.set(every, every), "OK");
        assert.ok(every.equals(await client.getBuffer(every)));
        const big = Buffer.concat(Array(8).fill(randomBytes(1 << 20)));
        assert.equal(await client.set("big", big), "OK");
        assert.ok(big.equals(await client.getBuffer("big")), "a big value came back as another one");
        assert.equal(await client.unlink("big"), 1);
    },
    async own_commands() {
        assert.ok(BigInt(await client.call("KV.TIMESTAMP")) > 0n);
        assert.ok(JSON.stringify(await client.call("KV.SCAN", "pipe:10", "pipe:11", "LIMIT", 2)).includes("pipe:10"));
        await assert.rejects(client.call("NOSUCHCOMMAND"), /unknown command/);
    },
    async server() {
        assert.match(await client.info(), /loading:0\r\n/);
        assert.equal(await client.client("SETNAME", "checker"), "OK");
        assert.match(await client.client("LIST"), /name=checker/);
        assert.equal(await client.ping(), "PONG");
    },
    async databases() {
        const elsewhere = new Redis({ ...options, db: 5 });
        await client.set("where", "zero");
        assert.equal(await elsewhere.get("where"), null);
        assert.equal(await elsewhere.flushdb(), "OK");
        await elsewhere.quit();
        assert.equal(await client.get("where"), "zero");
    },
    async reconnecting() {
        await client.set("kept", "yes");
        execFileSync(process.env.RESTART);
        assert.equal(await client.get("kept"), "yes");
        assert.equal(await client.incr("after"), 1);
        assert.equal(await other.get("kept"), "yes");
    },
};

const families = {
    async pubsub() {
        const listener = new Redis(options);
        await listener.subscribe("news");
        const heard = new Promise((resolve) => listener.on("message", (...message) => resolve(message)));
        assert.equal(await client.publish("news", "flash"), 1);
        assert.deepEqual(await heard, ["news", "flash"]);
        await listener.quit();
    },
    async hashes() {
        assert.equal(await client.hset("hash", { a: 1, b: "x" }), 2);
        assert.deepEqual(await client.hgetall("hash"), { a: "1", b: "x" });
        assert.equal(await client.hincrby("hash", "a", 4), 5);
        await assert.rejects(client.get("hash"), /WRONGTYPE/);
    },
    async lists() {
        assert.equal(await client.rpush("list", "a", "b", "c"), 3);
        assert.deepEqual(await client.lrange("list", 0, -1), ["a", "b", "c"]);
        const blocked = other.blpop("empty", 5);
        await client.lpush("empty", "x");
        assert.deepEqual(await blocked, ["empty", "x"]);
    },
    async sets() {
        assert.equal(await client.sadd("set", "a", "b", "a"), 2);
        assert.deepEqual((await client.smembers("set")).sort(), ["a", "b"]);
    },
    async zsets() {
        assert.equal(await client.zadd("zset", 1, "a", 2.5, "b"), 2);
        assert.deepEqual(await client.zrange("zset", 0, -1), ["a", "b"]);
        assert.equal(Number(await client.zscore("zset", "b")), 2.5);
    },
};

const { reconnecting, ...others } = checks;
const chosen = (process.env.FAMILIES ?? "").split(" ").filter(Boolean);
const wanted = { ...others, ...Object.fromEntries(chosen.map((family) => [family, families[family]])), reconnecting };
await client.flushall();
for (const [name, check] of Object.entries(wanted)) {
    await check().catch((error) => {
        console.error(`ioredis ${version}: ${name}: ${error.stack}`);
        process.exit(1);
    });
}
client.disconnect();
other.disconnect();
console.log(`ioredis ${version}: ${Object.keys(wanted).length} checks`);

// What people do with node-redis, done to a node: `node-redis.mjs PORT`, once per protocol. RESTART is a command that
// kills the node and starts it again; FAMILIES names the families of commands beside strings that the node has.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

// The library lies beside the working directory's package, not beside this file.
const require = createRequire(`${process.cwd()}/package.json`);
const { createClient, RESP_TYPES, WatchError } = require("redis");
const version = require("redis/package.json").version;
const port = Number(process.argv[2]);

const checks = {
    async strings({ client }) {
        assert.equal(await client.set("greeting", "hello"), "OK");
        assert.equal(await client.get("greeting"), "hello");
        assert.equal(await client.get("nothing"), null);
        assert.equal(await client.set("greeting", "again", { NX: true }), null);
        assert.equal(await client.mSet({ left: "1", right: "2" }), "OK");
        assert.deepEqual(await client.mGet(["left", "nothing", "right"]), ["1", null, "2"]);
        assert.equal(await client.del(["left", "right", "nothing"]), 2);
        assert.equal(await client.exists("greeting"), 1);
    },
    async counters({ client }) {
        assert.equal(await client.incr("counter"), 1);
        assert.equal(await client.incrBy("counter", 41), 42);
        assert.equal(await client.decr("counter"), 41);
        assert.equal(Number(await client.incrByFloat("counter", 0.5)), 41.5);
        await assert.rejects(client.incr("counter"), /not an integer/);
    },
    async expiry({ client }) {
        await client.set("brief", "x", { PX: 60 });
        assert.equal(await client.setEx("long", 100, "x"), "OK");
        const left = await client.ttl("long");
        assert.ok(left > 0 && left <= 100, `${left}`);
        assert.equal(Number(await client.persist("long")), 1);
        for (let tries = 0; (await client.get("brief")) !== null; tries += 1) {
            assert.ok(tries < 200, "it does not expire");
            await sleep(20);
        }
    },
    // What is asked in one tick of the event loop leaves as one pipeline.
    async pipelines({ client }) {
        const numbers = Array.from({ length: 1000 }, (_, n) => `${n}`);
        const replies = numbers.map(async (n) => (await client.set(`pipe:${n}`, n)) && client.get(`pipe:${n}`));
        assert.deepEqual(await Promise.all(replies), numbers);
        const pipeline = client.multi();
        numbers.forEach((n) => pipeline.get(`pipe:${n}`));
        assert.deepEqual(await pipeline.execAsPipeline(), numbers);
    },
    async transactions({ client, other }) {
        const done = await client.multi().set("account", "10").incrBy("account", 5).get("account").exec();
        assert.deepEqual(done, ["OK", 15, "15"]);
        await client.watch("account");
        await other.set("account", "0");
        await assert.rejects(client.multi().set("account", "99").exec(), WatchError);
        assert.equal(await client.get("account"), "0");
    },
    async scanning({ client }) {
        const keys = Array.from({ length: 1500 }, (_, n) => `scan:${n}`);
        await client.mSet(keys.map((key) => [key, "x"]));
        const found = [];
        for await (const some of client.scanIterator({ MATCH: "scan:*", COUNT: 100 })) found.push(...some);
        assert.deepEqual(found.sort(), keys.sort());
    },
    async binary({ client }) {
        const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
        const every = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
        await bytes.set(every, every);
        assert.ok(every.equals(await bytes.get(every)));
        const big = Buffer.concat(Array(8).fill(randomBytes(1 << 20)));
        await bytes.set("big", big);
        assert.ok(big.equals(await bytes.get("big")), "a big value came back as another one");
        assert.equal(await client.unlink("big"), 1);
    },
    async own_commands({ client }) {
        assert.ok(BigInt(await client.sendCommand(["KV.TIMESTAMP"])) > 0n);
        const found = await client.sendCommand(["KV.SCAN", "pipe:10", "pipe:11", "LIMIT", "2"]);
        assert.ok(JSON.stringify(found).includes("pipe:10"));
        await assert.rejects(client.sendCommand(["NOSUCHCOMMAND"]), /unknown command/);
    },
    async server({ client }) {
        assert.match(await client.info(), /loading:0\r\n/);
        assert.equal(await client.clientSetName("checker"), "OK");
        assert.ok((await client.clientList()).some((entry) => entry.name === "checker"));
        assert.ok((await client.command()).some((entry) => entry.name === "get"));
        assert.ok(Number((await client.configGet("maxclients")).maxclients) > 0);
        assert.equal(await client.ping(), "PONG");
    },
    async databases({ client, open }) {
        const elsewhere = await open({ database: 5 });
        await client.set("where", "zero");
        assert.equal(await elsewhere.get("where"), null);
        assert.equal(await elsewhere.flushDb(), "OK");
        await elsewhere.close();
        assert.equal(await client.get("where"), "zero");
    },
    async reconnecting({ client, other }) {
        await client.set("kept", "yes");
        execFileSync(process.env.RESTART);
        // What was under way when the connection broke fails; what is asked later waits for the new one.
        const kept = async (of) => of.get("kept").catch(() => sleep(200).then(() => of.get("kept")));
        assert.deepEqual([await kept(client), await kept(other)], ["yes", "yes"]);
        assert.equal(await client.incr("after"), 1);
    },
};

const families = {
    async pubsub({ client, open }) {
        const listener = await open({});
        let tell;
        const heard = new Promise((resolve) => (tell = resolve));
        await listener.subscribe("news", (...message) => tell(message));
        assert.equal(await client.publish("news", "flash"), 1);
        assert.deepEqual(await heard, ["flash", "news"]);
        await listener.unsubscribe("news");
        await listener.close();
    },
    async hashes({ client }) {
        assert.equal(await client.hSet("hash", { a: "1", b: "x" }), 2);
        assert.deepEqual({ ...(await client.hGetAll("hash")) }, { a: "1", b: "x" });
        assert.equal(await client.hIncrBy("hash", "a", 4), 5);
        await assert.rejects(client.get("hash"), /WRONGTYPE/);
    },
    async lists({ client, other }) {
        assert.equal(await client.rPush("list", ["a", "b", "c"]), 3);
        assert.deepEqual(await client.lRange("list", 0, -1), ["a", "b", "c"]);
        const blocked = other.blPop("empty", 5);
        await client.lPush("empty", "x");
        assert.deepEqual({ ...(await blocked) }, { key: "empty", element: "x" });
    },
    async sets({ client }) {
        assert.equal(await client.sAdd("set", ["a", "b", "a"]), 2);
        assert.deepEqual([...(await client.sMembers("set"))].sort(), ["a", "b"]);
    },
    async zsets({ client }) {
        assert.equal(await client.zAdd("zset", [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]), 2);
        assert.deepEqual(await client.zRange("zset", 0, -1), ["a", "b"]);
        assert.equal(await client.zScore("zset", "b"), 2.5);
    },
};

const chosen = (process.env.FAMILIES ?? "").split(" ").filter(Boolean);
const { reconnecting, ...others } = checks;
const wanted = { ...others, ...Object.fromEntries(chosen.map((family) => [family, families[family]])), reconnecting };
for (const RESP of [2, 3]) {
    const open = async (more) => {
        const socket = { port, host: "127.0.0.1", reconnectStrategy: 100 };
        const client = createClient({ RESP, socket, ...more });
        client.on("error", () => {});
        return client.connect();
    };
    const given = { client: await open({}), other: await open({}), open };
    await given.client.flushAll();
    for (const [name, check] of Object.entries(wanted)) {
        await check(given).catch((error) => {
            console.error(`node-redis ${version}, RESP${RESP}: ${name}: ${error.stack}`);
            process.exit(1);
        });
    }
    await given.client.close();
    await given.other.close();
    console.log(`node-redis ${version}, RESP${RESP}: ${Object.keys(wanted).length} checks`);
}

// Tests of what needs no browser: `node --test node/console-tests/`.
import test from "node:test";
import assert from "node:assert/strict";
import { Sample, UGLY } from "./contract.mjs";
import { apply, widen, model, whatIf, sixHours, LINES } from "../console/data/model.js";
import * as b from "../console/data/bytes.js";
import * as f from "../console/lib/format.js";
import { Problem, Store, url } from "../console/data/node.js";

const fresh = (how = {}) => new Sample(how).state(true), view = (raw, ageMs = 0, last) => model(raw, { ageMs, last });

test("numbers are written in three digits with a unit, and what is not known as a dash", () => {
  assert.deepEqual([48211, 3.4, 0, 9999, 2_104_882, null, NaN].map(f.short), ["48.2 k", "3.4", "0", "9,999", "2.10 M", "—", "—"]);
  assert.deepEqual([.0042, .31, 2.04, 184, 9400, null].map(f.ms), ["4 µs", "0.31 ms", "2.0 ms", "184 ms", "9.40 s", "—"]);
  assert.deepEqual([0, .0004, .044, .61, 1, null].map(f.percent), ["0 %", "< 0.1 %", "4.4 %", "61 %", "100 %", "—"]);
  assert.deepEqual([0, 1023, 1024, 412e6, null].map(f.bytes), ["0 B", "1,023 B", "1.00 KiB", "393 MiB", "—"]);
  assert.equal(f.list(["a", "b", "c"]), "a, b and c"); assert.equal(f.list(["a"]), "a"); assert.equal(f.list([]), "");
  assert.equal(f.ago(192), "3 min"); assert.equal(f.ago(-3), "0 s");
});

test("steps are wider but stand still: only the newest one changes when a second comes", () => {
  const values = Array.from({ length: 900 }, (_, i) => i), to = 1_000_000_000_000;
  const one = widen(values, 1000, to, 5000, "mean", 180), two = widen([...values.slice(1), 900], 1000, to + 1000, 5000, "mean", 180);
  assert.equal(one.length, 180); assert.deepEqual(two.slice(0, 178), one.slice(1, 179));
  assert.deepEqual(widen([1, null, 3, null, null, null], 1000, 6000, 2000, "mean", 4), [NaN, 1, 3, NaN]);
  assert.deepEqual(widen([1, 5], 1000, 2000, 2000, "max", 1), [5]);
});

test("a frame lays itself over the state; what does not follow is refused", () => {
  const raw = fresh(), sample = new Sample({}); sample.seq = raw.seq;
  const before = raw.series.get.length, frame = sample.second();
  assert.equal(apply(raw, frame), true); assert.equal(raw.seq, frame.seq);
  assert.equal(raw.series.get.length, before); assert.equal(raw.series.get.at(-1), frame.point[0]); assert.equal(raw.series.cpu.at(-1), frame.point[LINES.indexOf("cpu")]);
  assert.equal(apply(raw, frame), false, "the same again");
  assert.equal(apply(raw, { ...frame, seq: raw.seq + 2 }), false, "a gap");
  assert.equal(apply(raw, { ...frame, seq: raw.seq + 1, shape: 8 }), false, "another shape");
  assert.equal(apply(raw, { ...frame, seq: raw.seq + 1, reload: true }), false);
  const placed = raw.placed ?? 0;
  apply(raw, { shape: 7, seq: raw.seq + 1, now_ms: 1, shards: [[3, [...raw.shards[3].slice(0, 3), 5, 5, 0, 1]]] });
  assert.equal(raw.placed ?? 0, placed, "figures alone do not count as a move");
  apply(raw, { shape: 7, seq: raw.seq + 1, now_ms: 1, shards: [[3, [0, 9, [0, 1, 2], 5, 5, 0, 1]]], events: [{ n: 91, at_ms: 1, text: "x" }] });
  assert.ok(raw.placed > placed); assert.equal(raw.events[0].n, 91);
  const slow = (...n) => apply(raw, { shape: 7, seq: raw.seq + 1, now_ms: 1, slow: n.map((x) => ({ n: x })) });
  slow(2, 1); slow(3); apply(raw, { shape: 7, seq: raw.seq + 1, now_ms: 1 });
  assert.deepEqual(raw.slow.map((x) => x.n), [3, 2, 1], "slow operations come to those that were told before");
});

test("the verdict says word, sentence and what may be lost in every state", () => {
  const said = (state) => { const v = view(fresh({ state })).verdict; return [v.level, v.word, v.line, v.lose]; };
  assert.deepEqual(said("healthy"), ["ok", "OK", "Every shard has a leader and all of its replicas.", "Can lose 1 node, or all of one zone"]);
  assert.deepEqual(said("empty").slice(0, 3), ["ok", "OK", "The cluster is ready. It holds no keys yet."]);
  const heal = view(fresh({ state: "healing" })).verdict;
  assert.equal(heal.full, "HEALING · about 4 min left"); assert.match(heal.lose, /any node again in about 4 min$/); assert.match(heal.next, /mends itself\.$/);
  assert.equal(said("atrisk")[0], "risk"); assert.match(said("atrisk")[3], /node-2 only; all others are needed/);
  assert.equal(said("unavailable")[0], "bad"); assert.match(said("unavailable")[3], /shards still serve; more may stop/);
  const cut = view(fresh({ state: "noquorum" }));
  assert.equal(cut.verdict.word, "NO QUORUM SEEN"); assert.match(cut.verdict.line, /^node-3 hears none of the 5 other nodes/); assert.match(cut.verdict.command, /^kvorum-cli --url kv:/);
});

test("what is not known stays unknown and is never zero", () => {
  const raw = fresh({ state: "noquorum" }), m = view(raw), other = m.nodes.find((n) => !n.self);
  assert.equal(m.totals.ops, 0, "this node's own zero is measured"); assert.equal(other.ops, null); assert.equal(other.fresh, false);
  assert.ok(m.shards.every((x) => x.leader === -1 && x.keys === null && x.level === "quiet"));
  const blank = fresh(); blank.verdict = null; for (const n of blank.nodes) for (const k of ["ops", "cpu", "disk_free", "disk_total", "queue", "read_p99_us"]) n[k] = null; blank.cluster.keys = null;
  const v = view(blank);
  assert.equal(v.verdict.word, "UNKNOWN"); assert.equal(v.totals.ops, null); assert.equal(v.totals.disk, null); assert.equal(v.nodes[0].disk, null); assert.equal(v.empty, false);
});

test("a page that hears nothing says so instead of the last verdict", () => {
  const m = view(fresh(), 40_000);
  assert.equal(m.old, true); assert.equal(m.verdict.word, "NO CONTACT"); assert.match(m.verdict.line, /It said last: OK\.$/); assert.ok(m.nodes[0].heardS > 40);
});

test("figures of a node that is down are not those of now", () => {
  const m = view(fresh({ state: "healing" })), n = m.nodes[4];
  assert.equal(n.down, true); assert.equal(n.fresh, false); assert.ok(n.silentS >= 192); assert.equal(m.totals.told, 5);
});

test("shards say in words what is wrong", () => {
  const words = (state) => new Set(view(fresh({ state })).shards.map((x) => x.text.replace(/\d+ %/, "N %")));
  assert.deepEqual([...words("healthy")], ["well: has a leader and all replicas"]);
  assert.ok([...words("unavailable")].includes("no leader: needs node-5 or node-6"));
  assert.ok([...words("healing")].includes("node-2 catches up, N %"));
  assert.ok([...words("atrisk")].includes("2 of 3 replicas; repair is blocked"));
});

test("what a loss would cost is counted as by hand", () => {
  const node = (i, zone) => ({ i, name: `n${i}`, zone, level: "ok" }), nodes = [node(0, "a"), node(1, "b"), node(2, "c"), node(3, "a")], zones = ["a", "b", "c"].map((name) => ({ name, short: `zone ${name}` }));
  const shard = (list, leader, level = "ok", states = []) => ({ level, leader, replicas: list.map((n, k) => ({ node: n, state: states[k] ?? "ok" })) });
  const w = whatIf([shard([0, 1, 2], 0), shard([0, 3, 1], 3), shard([1, 2, 3], 1, "risk", ["ok", "ok", "gone"])], nodes, zones);
  assert.deepEqual(w.nodes.map((x) => [x.stop, x.bare, x.moves]), [[0, 2, 1], [1, 2, 1], [1, 1, 0], [0, 1, 1]]);
  assert.deepEqual(w.zones.map((x) => x.stop), [1, 1, 1]);
});

test("node numbers and colours: two nodes never look alike among eight", () => {
  const m = view(fresh()); assert.deepEqual(m.nodes.map((n) => [n.short, n.hue]), [["1", 1], ["2", 2], ["3", 3], ["4", 4], ["5", 5], ["6", 6]]);
  const raw = fresh(); raw.nodes.forEach((n, i) => { n.name = ["eu", "us", "ap", "x-1", "y-1", "z"][i]; n.zone = ""; });
  const v = view(raw); assert.deepEqual(v.nodes.map((n) => n.short), ["1", "2", "3", "4", "5", "6"]); assert.equal(new Set(v.nodes.map((n) => n.hue)).size, 6); assert.equal(v.zoned, false);
});

test("parts of the model that did not change are the same objects", () => {
  const raw = fresh(), one = view(raw); raw.now_ms += 1000; const two = view(raw, 0, one);
  assert.equal(one.shards, two.shards); assert.equal(one.what, two.what); assert.equal(one.line("get"), two.line("get"));
});

test("4,096 shards and 100 nodes are made in a few milliseconds", () => {
  const raw = fresh({ nodes: 100, shards: 4096 }); view(raw);
  let each = Infinity; for (let i = 0; i < 10; i += 1) { const began = performance.now(); view(raw); each = Math.min(each, performance.now() - began); }
  assert.ok(each < 60, `${each.toFixed(1)} ms`);
});

test("six hours come in minutes", () => {
  const line = sixHours({ step_ms: 10_000, to_ms: 6 * 3600_000, get: Array(2160).fill(6), read_p99: Array(2160).fill(1500) });
  assert.equal(line("get").length, 360); assert.equal(line("get")[100], 6); assert.equal(line("read_p99")[5], 1.5); assert.ok(Number.isNaN(line("put")[0]));
});

test("keys are bytes: text if they are UTF-8, else base64, and go back unchanged", () => {
  const bytes = Uint8Array.from([255, 0, 60, 62]), key = { base64: b.base64(bytes) };
  assert.equal(b.shown(key), "0xff003c3e"); assert.deepEqual(b.unbase64(key.base64), bytes); assert.deepEqual(b.named({ text: UGLY }), { key: UGLY });
  assert.equal(b.linkTo({ text: "a b&c#d" }), "#/keys?key=a%20b%26c%23d"); assert.equal(b.textOf(bytes), null); assert.equal(b.tagOf("cart:{8841}:x"), "{8841}"); assert.equal(b.tagOf("a{}b"), null);
});

test("JSON is laid out without touching a digit, and is text whatever it holds", () => {
  const text = '{"n":12345678901234567890.10,"e":{},"l":[1,[],"a,b:{c}"],"s":"\\"<img>"}', nice = b.layOut(text);
  assert.ok(nice.includes("12345678901234567890.10")); assert.deepEqual(JSON.parse(nice), JSON.parse(text)); assert.ok(nice.includes('"e": {}') && nice.includes("[],"), nice);
  assert.equal(b.pieces(nice).map(([, t]) => t).join(""), nice); assert.equal(b.layOut("{x"), null); assert.equal(b.layOut(""), null);
});

test("a difference is what was taken out and put in, with a few lines around it", () => {
  assert.deepEqual(b.difference("1\n2\n3\n4\na\nb\nz", "1\n2\n3\n4\nA\nz", 2), [["=", "3"], ["=", "4"], ["-", "a"], ["-", "b"], ["+", "A"], ["=", "z"]]);
  assert.deepEqual(b.difference("a\nb", "a\nb\nc"), [["=", "a"], ["=", "b"], ["+", "c"]]); assert.deepEqual(b.difference("a\na", "a"), [["=", "a"], ["-", "a"]]); assert.deepEqual(b.difference("same", "same"), [["=", "same"]]);
});

test("hex shows every byte", () => assert.equal(b.hexDump(Uint8Array.from([0, 65, 255])), `00000000  00 41 ff${" ".repeat(39)}  .A.`));

test("a failure is a sentence, and says of a write what became of it", () => {
  assert.equal(new Problem(503, { detail: "shard 8 has no leader" }, "/kv?key=a", "GET").message, "Shard 8 has no leader.");
  assert.match(new Problem(0, null, "/kv", "PUT").message, /^It may have been written/); assert.equal(new Problem(0, null, "/console/heat", "GET").message, "The node does not answer.");
  assert.match(new Problem(504, { detail: "no answer within 5 s", outcome: "unknown" }, "/kv", "PUT").message, /^It may have been written: no answer within 5 s\./);
  assert.equal(url("/kv", { key: "a&b", cursor: null }), "/kv?key=a%26b");
});

test("what a page asks for is asked once, again when old, and after a failure", async () => {
  let now = 0, asked = 0, fail = false;
  const store = new Store(() => {}, { now: () => now, get: async () => { asked += 1; if (fail) throw new Problem(500, { detail: "x" }, "/a", "GET"); return asked; } });
  const settle = () => new Promise((r) => setImmediate(r));
  assert.equal(store.want("/a", 1000).data, null); store.want("/a", 1000); await settle(); assert.equal(asked, 1); assert.equal(store.want("/a", 1000).data, 1);
  now = 1500; store.want("/a", 1000); await settle(); assert.equal(asked, 2);
  fail = true; now = 3000; store.want("/a", 1000); await settle(); const w = store.want("/a", 1000); assert.equal(w.data, 2); assert.ok(w.error);
  now = 100_000; store.sweep(); assert.equal(store.all.size, 0);
});

test("all modules make one: names are unique, hide nothing of the browser, and imports rename nothing", async () => {
  const { readFile } = await import("node:fs/promises"), { spawnSync } = await import("node:child_process"), folder = new URL("../console/", import.meta.url), done = new Set();
  // As the build does it: each module after those that it imports, without its imports and exports.
  const bundle = async (name) => {
    if (done.has(name)) return "";
    done.add(name);
    const text = await readFile(new URL(name, folder), "utf8");
    let out = "";
    for (const [line, path] of text.matchAll(/^import .*?"([^"]+)";$/gm)) { assert.match(line, /^import (\{ [\w, ]+ \} from )?"\.\.?\/[\w./]+\.js";$/, `${name}: ${line}`); out += await bundle(new URL(path, new URL(name, "http://x/")).pathname.slice(1)); }
    assert.doesNotMatch(text, /^export (default|\{|\*)/m, name);
    return out + text.replace(/^import .*$/gm, "").replace(/^export /gm, "");
  };
  const whole = await bundle("app.js"), checked = spawnSync(process.execPath, ["--check", "--input-type=module", "-"], { input: whole, encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stderr.slice(0, 600));
  const taken = /^(?:const|let|function|class) (history|location|performance|document|navigator|fetch|URL|event|top|self|scrollTo|crypto)\b/m;
  assert.doesNotMatch(whole, taken);
});

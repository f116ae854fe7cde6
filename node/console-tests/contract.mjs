// The sample cluster in the shapes that a node answers with.
import { makeModel, HOT, VALUE } from "./sample.mjs";

const LINES = ["get", "put", "other", "failed", "read_p50", "read_p99", "write_p50", "write_p99", "write_p999", "queue", "propose", "sync", "quorum", "apply", "commit", "sync_p99", "rounds", "per_entry", "shed", "cpu", "all_ops", "all_failed", "all_read_p99", "all_write_p99"];
const SUMMARY = { ok: "all 64 shards have all their replicas", heal: "shards 6, 15 and 6 more have 2 of 3 replicas at least", risk: "shards 6, 15 and 30 more have 2 of 3 replicas at least", bad: "shards 2, 8 and 10 more have no majority; needs node-5 or node-6" };
export const UGLY = "<img src=x onerror=alert(1)>";
const nul = (v) => (v === undefined || v !== v ? null : v);

/** One running sample: its state and what its data is. */
export class Sample {
  constructor({ state = "healthy", nodes = 6, shards = 64 }) {
    this.m = makeModel({ state, nodes, shards }); this.began = Date.now(); this.seq = 1000; this.paused = false; this.rate = null; this.turned = new Map(); this.moved = new Map();
    this.keys = new Map(); this.next = 48300;
    if (state !== "empty") {
      this.put("cart:{8841}", Buffer.from(JSON.stringify(VALUE)), Date.now() + 820_000, 48211);
      for (const [k, n] of this.m.found) if (!this.keys.has(k)) this.put(k, Buffer.from(JSON.stringify({ id: k, filler: "x".repeat(Math.max(0, n - 40)) })));
      this.put(UGLY, Buffer.from(`{"note":"${UGLY.replaceAll('"', "'")}"}`)); this.put("text:plain", Buffer.from("line one\r\nline two\n")); this.put("photo:1", Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 73 + 13) % 256))); this.put("large:1", Buffer.from(`{"rows":[${Array.from({ length: 30_000 }, (_, i) => `"row ${i}"`).join(",")}]}`)); this.put("blank", Buffer.alloc(0));
    }
  }
  put(key, value, expires = null, version = (this.next += 1)) { this.keys.set(key, { value, version, expires }); return version; }
  get now() { return Date.now(); }
  shard(key) { let x = 7; for (const c of key) x = Math.imul(x ^ c.charCodeAt(0), 0x01000193); return key === "cart:{8841}" ? 27 % this.m.shards.length : (x >>> 8) % this.m.shards.length; }

  node(n) {
    const { m } = this, known = n.level !== "quiet" && n.level !== "bad", state = this.turned.get(n.name) ?? "up";
    const told = !(m.cut && n.id !== m.self);
    return { id: `0191d1c6-7f3e-7c5a-9b2e-${String(n.id).padStart(12, "0")}`, name: n.name, zone: n.zone, address: n.address, http: n.http, state, down: n.level === "bad", level: state !== "up" && known ? "heal" : n.level === "risk" ? "risk" : n.level, word: state === "draining" ? "Draining" : state === "removing" ? "Removing" : n.word.startsWith("Disk") ? "Disk full" : n.word,
      silent_ms: n.level === "bad" ? n.heard * 1000 + (this.now - this.began) : null, ends_in_ms: state === "draining" ? 540_000 : n.level === "bad" ? (m.state === "healing" ? 0 : 108_000) : null, leads: n.leads, holds: n.holds,
      connections: n.connections, version: n.version, uptime_ms: told ? n.uptime * 1000 : null, disk_free: Math.round(n.diskTotal * (1 - n.disk)), disk_total: n.diskTotal, disk_full: false, index_bytes: Math.round(n.index * 430e6), index_limit: 430_000_000, memory_bytes: 1_200_000_000, cpu: known ? n.cpu : null,
      ops: known ? Math.round(n.ops * (.97 + Math.random() * .06)) : null, failed: known ? 0 : null, read_p99_us: known && !m.empty && !m.cut ? 1350 + n.id * 40 : null, write_p99_us: known && !m.empty && !m.cut ? Math.round(9400 + n.id * 310) : null, sync_p99_us: known ? Math.round(n.sync * 2100) : null, rounds_s: known && !m.empty ? 760 : 0, queue: known ? n.queue : null, clock_ahead_ms: known ? 3 - n.id : null };
  }
  heard() { const { m } = this; return m.nodes.map((n) => (n.id === m.self ? 0 : n.heard ? n.heard * 1000 + (this.now - this.began) : 800)); }
  row(x) { const { m } = this, led = x.leader >= 0; return [m.cut ? null : led ? (this.moved.get(x.id) ?? x.leader) : null, m.cut ? null : x.term, x.replicas.map((r) => r.node), m.cut ? null : x.keys, m.cut ? null : x.bytes, led ? x.lag : null, m.cut || !led ? null : Math.round(x.ops * .22)]; }
  ill() {
    const order = { bad: 0, risk: 1, heal: 2, quiet: 3 }, code = { ok: 0, new: 1, gone: 2 };
    return this.m.shards.filter((x) => x.level !== "ok").sort((a, b) => order[a.level] - order[b.level]).map((x) => [x.id, x.level, x.replicas.map((r) => (this.m.cut && r.node !== this.m.self ? 3 : r.state === "new" && r.part === 0 ? 5 : code[r.state] ?? 3)), x.replicas.some((r) => r.state === "new" && r.part > 0) ? x.replicas.map((r) => (r.state === "new" ? r.part : null)) : null]);
  }
  point(i) {
    const s = this.m.series, at = (name) => s[name][i], us = (v) => (v === v ? Math.round(v * 1000) : null), on = !this.m.empty && at("g50") === at("g50"), stage = (name) => (on && at(name) > 0 ? us(at(name)) : null);
    return [Math.round(at("get")), Math.round(at("put")), Math.round(at("other")), Math.round(at("failed")), us(at("g50")), us(at("g99")), us(at("p50")), us(at("p99")), us(at("p999")), stage("queue"), null, stage("sync"), null, stage("apply"), on ? 1900 : null, on ? us(at("sync") * 2.9) : null, on ? 760 : 0, on ? 4.3 : null, 0, on ? 1.9 : .04, this.m.cut ? null : Math.round(at("get") + at("put") + at("other")), this.m.cut ? null : Math.round(at("failed")), this.m.cut ? null : us(at("g99")), this.m.cut ? null : us(at("p99"))];
  }
  series() { const out = { step_ms: 1000, to_ms: this.now - (this.now % 1000), ...Object.fromEntries(LINES.map((n) => [n, []])) }; for (let i = 0; i < 180; i += 1) { const p = this.point(i); for (let k = 0; k < 5; k += 1) LINES.forEach((n, j) => out[n].push(p[j])); } return out; }
  alarms() { return this.m.alarms.map(([level, title, text, age, href]) => ({ level, code: /no leader/.test(title) ? "no_leader" : /takes/.test(title) ? "hot_shard" : /down/.test(title) ? "node_down" : /blocked/.test(title) ? "repair_blocked" : /Disk/.test(title) ? "disk_low" : /hears/.test(title) ? "alone" : "failing", title, text, since_ms: this.began - age * 1000, node: Number(/node=(\d+)/.exec(href)?.[1] ?? 0) - 1 >= 0 ? Number(/node=(\d+)/.exec(href)[1]) - 1 : null, shard: null })); }
  moves() { const { m } = this; return m.shards.filter((x) => x.level === "heal").slice(0, 8).map((x) => { const r = x.replicas.find((y) => y.state === "new"); return { shard: String(x.id), from: 4, to: r.node, purpose: "repair", under_way: r.part > 0, part: r.part > 0 ? r.part : null, bytes: x.bytes, bytes_s: r.part > 0 ? 33_000_000 : null, left_s: r.part > 0 ? Math.round((x.bytes * (1 - r.part)) / 33e6) : null }; }); }
  verdict() {
    const { m } = this, v = m.verdict, level = v.level === "quiet" ? "bad" : v.level, moves = this.moves(), run = moves.filter((x) => x.under_way).length, heal = m.shards.filter((x) => x.level === "heal").length;
    return { verdict: { ok: "ok", heal: "healing", risk: "at_risk", bad: "unavailable" }[level], summary: SUMMARY[level].replace("64", m.shards.length), can_lose_nodes: level === "ok" ? 1 : 0, can_lose_zones: level === "ok" ? 1 : 0, findings: m.cut ? [] : v.more?.why ?? [], moves_under_way: run, moves_to_come: Math.max(0, heal - run), moves_end_in_s: level === "heal" ? 240 : null, next: { ok: "nothing to do", heal: "nothing to do: it mends itself", risk: "mend what stands in the way, named above", bad: "bring the named nodes back; if they are lost for good, kvorum recover" }[level], epoch: 1184, word: { ok: "OK", heal: "HEALING", risk: "AT RISK", bad: "UNAVAILABLE" }[level], level, can_lose_when_whole: 1, alone: m.cut, spoken_for: !m.cut, age_ms: 800 };
  }
  who(open) { return open ? { name: null, until_ms: null, classes: ["status", "metrics", "admin", "users"], keys: ["read", "write", "delete", "scan", "watch"] } : { name: "operator", until_ms: this.now + 12 * 3600_000, classes: ["status", "metrics", "admin", "users"], keys: ["read", "write", "delete", "scan"] }; }
  cluster() { const { m } = this; return { id: "0191d1c6-7f3e-7c5a-9b2e-3a4f5b6c7d8e", name: "orders-eu", durability: "fsync", factor: 3, epoch: 1184, version: "0.4.0", level: 3, next_level: null, shards: m.shards.length, keys: m.cluster.keys, bytes: m.cluster.bytes, paused: this.paused, rate_mb: this.rate, meta_leader: 0 }; }
  state(open) {
    const { m } = this, paths = m.paths && !m.cut ? Object.fromEntries(Object.entries(m.paths).map(([k, l]) => [k.replace(".", ""), l.map((v, i) => (i === 1 || i === 3 ? null : Math.round(v * 1000)))])) : null;
    return { shape: 7, seq: this.seq, now_ms: this.now, self: m.self, who: this.who(open), auth: { required: !open }, cluster: this.cluster(), verdict: this.verdict(), nodes: m.nodes.map((n) => this.node(n)), heard_ms: this.heard(), rtt_us: m.rtt.map((r, a) => (m.cut && a !== m.self ? null : r.map((v, b) => (a === b ? 0 : v === -1 ? -1 : v === -2 ? null : Math.round(v * 1000))))), shards: m.shards.map((x) => this.row(x)), ill: this.ill(), series: this.series(), paths, reads: m.empty || m.cut ? null : { lease: 36100, confirmed: 830, stale: 118, forwarded: 2530 }, alarms: this.alarms(), events: m.events.map(([age, text], i) => ({ n: 90 - i, at_ms: this.began - age * 1000, kind: "move", text, node: null, shard: null })), slow: [], slow_ms: 100 };
  }
  /** The next second. */
  second() {
    const { m } = this; this.seq += 1;
    const i = (this.seq * 7) % 160, shards = [27, 3, 11, this.seq % m.shards.length].filter((k) => k < m.shards.length).map((k) => [k, this.row(m.shards[k])]);
    const frame = { shape: 7, seq: this.seq, now_ms: this.now, point: this.point(m.cut ? 179 : i), heard_ms: this.heard(), shards, verdict: this.verdict(), cluster: this.cluster(), alarms: this.alarms() };
    if (this.seq % 2 === 0) frame.nodes = m.nodes.filter((n) => n.heard === 0).map((n) => [n.id, this.node(n)]);
    return frame;
  }
  heat() {
    const { m } = this, n = m.shards.length, hot = Math.floor((27.4 / 64) * n);
    return { step_ms: 10_000, to_ms: this.now, buckets: 256, steps: 60, cells: Array.from({ length: 256 }, (_, b) => (m.empty ? [] : m.cut && b % 5 ? Array(60).fill(null) : [...m.heat.slice(b * 60, b * 60 + 60)].map((v) => Math.round(v * 5600)))), known: [], top: m.empty || m.cut ? [] : [...HOT.map(([key, part, , rate]) => ({ shard: hot, key, key_base64: null, key_bytes: key.length, writes: false, per_second: rate, share: part / 100, node: 3 })), { shard: hot, key: UGLY, key_base64: null, key_bytes: 28, writes: true, per_second: 12, share: .01, node: 3 }] };
  }
  jobs() { const moves = this.moves(), { m } = this; return { moves: m.cut ? null : moves, leadership_moves: m.state === "healing" ? 5 : 0, paused: this.paused, rate_mb: this.rate, reasons: m.state === "atrisk" ? ["no other node of zone b has room: node-2 has 22 GiB free, 26 GiB are needed"] : this.paused ? ["moves are paused; CLUSTER REBALANCE RESUME lets them go on"] : [], plan_known: !m.cut, snapshots: { sent: 3, failed: 0, received: 1, sent_bytes: m.state === "healing" ? (this.now - this.began) * 33_000 : 9e9, incoming: m.state === "healing" ? [{ shard: 12, part: .43, bytes: 201_000_000, elapsed_ms: 6100 }] : [] }, compaction: { runs: 12, read_bytes: (this.now - this.began) * 6200, written_bytes: (this.now - this.began) * 3000, rate_bytes_s: 67_108_864 }, scrub: { bytes: 96_000_000_000 + (this.now - this.began) * 8389, rate_bytes_s: 8_388_608, damage: 0 } }; }
  process() { const { m } = this, n = m.nodes[m.self]; return { node: m.self, started_ms: this.now - n.uptime * 1000, uptime_ms: n.uptime * 1000, version: "0.4.0", process: 4711, workers: 4, memory: { resident: 1_200_000_000, of_files: 700_000_000, limit: 8_000_000_000, index: 90_000_000, index_limit: 430_000_000 }, disk: { free: n.diskTotal * (1 - n.disk), total: n.diskTotal, headroom: 1_073_741_824, full: false, log_bytes: m.cluster.bytes / m.nodes.length, live_bytes: m.cluster.bytes / m.nodes.length / 2, folder: "/var/lib/kvorum" }, descriptors: [212, 65536], threads: m.threads.map(([name, part]) => [name, name === "kvorum" ? 4 : 1, part]), journal: { rounds: 48_000_000, bytes: 9e11, queued_bytes: 0 }, doors: [["binary", 118, 3], ["http", 4, 0], ["resp", 0, 0]], config: [...m.config, ["resp_listen", "0.0.0.0:7430", "default"], ["workers", null, "default"]] }; }
  log(after, level) { const keep = { error: ["e"], warn: ["e", "w"], info: ["e", "w", "i"] }[level] ?? ["e", "w", "i"], day = new Date(this.began).toISOString().slice(0, 11); const lines = this.m.log.map(([t, k, text], i) => { const [message, fields = ""] = text.split(/ {2}/); return [i + 1, Date.parse(`${day}${t}Z`), { i: "info", w: "warn", e: "error" }[k], message, fields, "kvorum_node::sample", k]; }).filter((l) => l[0] > (after ?? 0) && keep.includes(l[6])).map((l) => l.slice(0, 6)); return { first: 1, next: this.m.log.length + 1, lost: 0, lines }; }
  security(open) {
    const day = 86_400_000, now = this.now;
    return { required: !open, epoch: 14, users: [["ada", ["root"], true, false, 0], ["app", ["orders"], true, false, 20000], ["grafana", ["monitor"], false, false, 0], ["eve", ["readonly"], true, true, 0]].map(([name, roles, has_password, disabled, requests_per_s]) => ({ name, has_password, disabled, roles, requests_per_s, bytes_per_s: 0, connections: 0 })),
      roles: [{ name: "root", built_in: true, grants: [{ prefix: "", prefix_base64: null, classes: ["read", "write", "delete", "scan", "watch"] }], cluster: ["status", "metrics", "admin", "users", "backup", "faults"] }, { name: "orders", built_in: false, grants: [{ prefix: "cart:", prefix_base64: null, classes: ["read", "write", "delete"] }, { prefix: UGLY, prefix_base64: null, classes: ["read"] }], cluster: ["status"] }, { name: "monitor", built_in: true, grants: [], cluster: ["status", "metrics"] }, { name: "readonly", built_in: true, grants: [{ prefix: "", prefix_base64: null, classes: ["read", "scan"] }], cluster: [] }],
      tokens: [{ id: "00000000000000a7", user: "app", roles: null, expires_at_ms: now + 21 * day }, { id: "00000000000000b1", user: "grafana", roles: ["monitor"], expires_at_ms: null }], denied: ["0a3f"], certificates: [{ kind: "node", file: "/etc/kvorum/node.pem", not_after_ms: now + 9 * day, subject: "node-3.node.orders-eu.kvorum" }, { kind: "ca", file: "/etc/kvorum/ca.pem", not_after_ms: now + 2900 * day, subject: "orders-eu authority" }], doors: [{ name: "client", tls: true }, { name: "http", tls: true }, { name: "resp", tls: false }, { name: "peers", tls: true }],
      audit: { on: true, failing: false, dropped: 0, lines: [{ at_ms: now - 40_000, event: "login_failed", door: "http", from: "10.0.0.7", user: "ada", what: "wrong password", repeats: 4 }, { at_ms: now - 400_000, event: "denied", door: "client", from: "10.0.0.9", user: "app", what: `PUT ${UGLY}`, repeats: 0 }, { at_ms: now - 7_200_000, event: "login", door: "http", from: "10.0.0.7", user: "ada", what: "console", repeats: 0 }, { at_ms: now - 9_000_000, event: "admin", door: "client", from: "10.0.0.7", user: "ada", what: "CLUSTER TOKEN zone b", repeats: 0 }] }, encryption: { sealed: true, active_key: 3, keys: 2, wrapped: true, waits_for: [], old_key_bytes: 123_456_000 } };
  }
}

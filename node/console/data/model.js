import { ago, count, list, many, upper } from "../lib/format.js";

// One frame of the stream laid over the state. Pure: no clock, no document.

const SERIES_MAX = 900;
const EVENTS_MAX = 200, SLOW_MAX = 100;
/** The order of `point`. */
export const LINES = ["get", "put", "other", "failed", "read_p50", "read_p99", "write_p50", "write_p99", "write_p999", "queue", "propose", "sync", "quorum", "apply", "commit", "sync_p99", "rounds", "per_entry", "shed", "cpu", "all_ops", "all_failed", "all_read_p99", "all_write_p99"];
const WHOLE = ["ill", "verdict", "cluster", "rtt_us", "paths", "reads", "alarms", "slow_ms", "who"];

/** Changes `raw`. False: the frame does not follow upon it, and the state must be asked for. */
export function apply(raw, frame) {
  if (frame.reload || frame.shape !== raw.shape || frame.seq !== raw.seq + 1) return false;
  raw.seq = frame.seq; raw.now_ms = frame.now_ms;
  if (frame.heard_ms) raw.heard_ms = frame.heard_ms;
  for (const [i, node] of frame.nodes ?? []) raw.nodes[i] = node;
  for (const [id, row] of frame.shards ?? []) {
    const old = raw.shards[id];
    // Who leads and who holds changes seldom; what follows from it is not worked out anew for figures.
    if (!old || old[0] !== row[0] || String(old[2]) !== String(row[2])) raw.placed = (raw.placed ?? 0) + 1;
    raw.shards[id] = row;
  }
  if (frame.shards?.length) raw.figured = (raw.figured ?? 0) + 1;
  if (frame.ill) raw.placed = (raw.placed ?? 0) + 1;
  for (const name of WHOLE) if (frame[name] !== undefined) raw[name] = frame[name];
  if (frame.slow) raw.slow = [...frame.slow.filter((x) => !(x.n <= raw.slow[0]?.n)), ...raw.slow].slice(0, SLOW_MAX);
  if (frame.events) raw.events = [...frame.events, ...raw.events].slice(0, EVENTS_MAX);
  if (frame.point) {
    const s = raw.series;
    // The names of the state are the order of the point.
    (s.names ?? LINES).forEach((name, k) => { const list = s[name]; if (!list) return; list.push(frame.point[k] ?? null); if (list.length > SERIES_MAX) list.splice(0, list.length - SERIES_MAX); });
    s.to_ms += s.step_ms;
  }
  return true;
}

/**
 * Values in wider steps that begin at round times, so that a step keeps its place while time goes on.
 * `how`: "mean" of what was measured, or "max". A step without a measurement is NaN. Oldest first, exactly `most` steps.
 * @param {(number|null)[]} values @param {number} stepMs @param {number} toMs @param {number} wideMs @param {"mean"|"max"} how @param {number} most
 */
export function widen(values, stepMs, toMs, wideMs, how, most) {
  const out = new Array(most).fill(NaN), counts = new Array(most).fill(0), last = Math.floor((toMs - 1) / wideMs);
  for (let i = values.length - 1, t = toMs; i >= 0; i -= 1, t -= stepMs) {
    const k = most - 1 - (last - Math.floor((t - 1) / wideMs));
    if (k < 0) break;
    const v = values[i];
    if (v == null || v !== v) continue;
    out[k] = counts[k] === 0 ? v : how === "max" ? Math.max(out[k], v) : out[k] + v;
    counts[k] += 1;
  }
  if (how === "mean") for (let k = 0; k < most; k += 1) if (counts[k] > 1) out[k] /= counts[k];
  return out;
}

// What the pages draw, made from what the node told. Pure. `null` and NaN are "not known"; no page sees the node's JSON.

export const STAGES = [["queue", "waits in the shard's queue"], ["propose", "is made part of an entry"], ["sync", "a round of the journal"], ["quorum", "waited on for others after that"], ["apply", "index, and the answer"]];
export const RANK = { bad: 0, risk: 1, heal: 2, quiet: 3, ok: 4 };
const REPLICA = ["ok", "new", "gone", "unknown", "faulty", "missing"];
/** Figures of a node that are older than this are shown with their age. */
const FRESH_S = 5;
/** Without a frame for so long, what is shown is called old. */
export const OLD_MS = 10_000;
const part = (a, b) => (a == null || !b ? null : Math.max(0, Math.min(1, a / b)));
const us = (v) => (v == null ? null : v / 1000);
const known = (v) => v ?? null;

/** What is written in a node's chip: the number that its name ends in if no two share one, else its place. */
function labels(names) {
  const ends = names.map((n) => n.match(/\d+$/)?.[0] ?? "");
  return new Set(ends).size === names.length && ends.every((e) => e !== "" && e.length < 4) ? ends : names.map((_, i) => String(i + 1));
}
/** Zone = hue, node = shade; from 9 nodes on hue = zone only. 1 to 8. */
function hues(nodes, zones) {
  const seen = zones.map(() => 0);
  let spare = 7;
  return nodes.map((n, i) => {
    const z = zones.indexOf(n.zone);
    if (nodes.length > 8) return zones.length > 1 ? (z % 8) + 1 : (i % 8) + 1;
    if (zones.length < 2) return i + 1;
    seen[z] += 1;
    const hue = z < 3 && seen[z] <= 2 ? z + 1 + (seen[z] - 1) * 3 : spare;
    if (hue === spare) spare = spare === 7 ? 8 : 7;
    return hue;
  });
}

/** @param {any} raw @param {number} ageS seconds since the node was heard */
function nodesOf(raw, ageS) {
  const zones = [...new Set(raw.nodes.map((n) => n.zone))].sort(), hue = hues(raw.nodes, zones), label = labels(raw.nodes.map((n) => n.name));
  const nodes = raw.nodes.map((n, i) => {
    const heard = raw.heard_ms?.[i], heardS = heard == null ? null : heard / 1000 + ageS;
    // A node that does not answer has no figures of now; what it told last stays, with its age.
    const told = heardS !== null, fresh = told && heardS <= FRESH_S && n.level !== "bad" && n.level !== "quiet";
    return {
      i, id: n.id, name: n.name, short: label[i], hue: hue[i], zone: n.zone, address: n.address, http: n.http, state: n.state, self: i === raw.self, level: n.level, word: n.word,
      down: n.level === "bad" && Boolean(n.down), quiet: n.level === "quiet", heardS, fresh, told, silentS: n.silent_ms == null ? null : n.silent_ms / 1000, endsS: n.ends_in_ms == null ? null : n.ends_in_ms / 1000,
      leads: n.leads, holds: n.holds, connections: known(n.connections), version: known(n.version), upS: n.uptime_ms == null ? null : n.uptime_ms / 1000,
      diskFree: known(n.disk_free), diskTotal: known(n.disk_total), disk: n.disk_free == null ? null : part(n.disk_total - n.disk_free, n.disk_total), diskFull: Boolean(n.disk_full),
      indexBytes: known(n.index_bytes), indexLimit: known(n.index_limit), index: part(n.index_bytes, n.index_limit), memory: known(n.memory_bytes), cpu: known(n.cpu), queue: known(n.queue),
      ops: known(n.ops), failed: known(n.failed), read99: us(n.read_p99_us), write99: us(n.write_p99_us), sync99: us(n.sync_p99_us), rounds: known(n.rounds_s), clockMs: known(n.clock_ahead_ms),
    };
  });
  return { nodes, zones: zones.map((name) => ({ name, title: name === "" ? (zones.length === 1 ? "Nodes" : "No zone") : `Zone ${name}`, short: name === "" ? "no zone" : `zone ${name}`, nodes: nodes.filter((n) => n.zone === name) })) };
}

export const WORD = { bad: "No leader", risk: "No spare", heal: "Catches up", quiet: "Unknown", ok: "Well" };
/** What is the matter with a shard, in words. */
function trouble(x, nodes, blocked) {
  const names = (states) => x.replicas.filter((r) => states.includes(r.state)).map((r) => r.node).sort((a, b) => a - b).map((n) => nodes[n]?.name ?? "?");
  const well = x.replicas.filter((r) => r.state === "ok").length, have = `${well} of ${x.replicas.length} replicas`;
  if (x.level === "ok") return "well: has a leader and all replicas";
  if (x.level === "quiet") return "not known from here";
  if (x.level === "bad") { const lost = names(["gone", "faulty"]); return well > x.replicas.length / 2 ? "no leader: an election runs" : lost.length ? `no leader: needs ${list(lost).replace(" and ", " or ")}` : "no leader"; }
  const faulty = names(["faulty"]), coming = x.replicas.find((r) => r.state === "new");
  if (faulty.length) return `${have}; refused on ${list(faulty)}`;
  if (x.level === "risk") return `${have}${blocked ? "; repair is blocked" : ""}`;
  if (coming) return `${nodes[coming.node]?.name ?? "a node"} catches up${coming.part === null ? "" : `, ${Math.round(coming.part * 100)} %`}`;
  return `${have}; waits for its turn`;
}
function shardsOf(raw, nodes) {
  const ill = new Map((raw.ill ?? []).map((x) => [x[0], x])), blocked = raw.alarms.some((a) => a.code === "repair_blocked");
  return raw.shards.map(([leader, term, replicas, keys, bytes, lag, writes], id) => {
    const bad = ill.get(id), level = bad ? bad[1] : "ok";
    const x = { id, level, leader: level === "bad" || leader == null ? -1 : leader, term: known(term), keys: known(keys), bytes: known(bytes), lag: known(lag), writes: known(writes), text: "",
      replicas: replicas.map((node, k) => ({ node, state: bad ? REPLICA[bad[2]?.[k] ?? 3] ?? "unknown" : "ok", part: bad?.[3]?.[k] ?? null })) };
    x.word = x.level === "heal" && !x.replicas.some((r) => r.state === "new") ? "Waits" : WORD[level];
    x.text = trouble(x, nodes, blocked);
    return x;
  });
}

/** What a loss would cost: for each node and each zone, shards that would stop, would have no spare, and leaders that move. */
export function whatIf(shards, nodes, zones) {
  const row = (name, kind, i) => ({ name, kind, i, stop: 0, bare: 0, moves: 0 });
  const one = nodes.map((n) => row(n.name, "node", n.i)), all = zones.map((z, i) => row(z.short, "zone", i)), zoneOf = nodes.map((n) => zones.findIndex((z) => z.name === n.zone));
  const inZone = new Int32Array(zones.length);
  for (const x of shards) {
    if (x.level === "bad" || x.level === "quiet") continue;
    let well = 0; inZone.fill(0);
    for (const r of x.replicas) if (r.state === "ok") { well += 1; inZone[zoneOf[r.node]] += 1; }
    const need = Math.floor(x.replicas.length / 2) + 1;
    for (const r of x.replicas) if (r.state === "ok") { if (well - 1 < need) one[r.node].stop += 1; else if (well - 1 === need) one[r.node].bare += 1; }
    for (let z = 0; z < inZone.length; z += 1) if (inZone[z]) { if (well - inZone[z] < need) all[z].stop += 1; else if (well - inZone[z] === need) all[z].bare += 1; }
    if (x.leader >= 0) { one[x.leader].moves += 1; all[zoneOf[x.leader]].moves += 1; }
  }
  return { nodes: one, zones: zones.length > 1 ? all : [] };
}

/** A sentence; a node's name at its beginning stays as it is. */
const dot = (t, names = []) => { const given = t.trim(), text = names.some((n) => given.startsWith(n)) ? given : upper(given); return /[.!?:]$/.test(text) || !text ? text : `${text}.`; };
/** "CLUSTER REBALANCE RESUME, once …" names what to type. */
function commandIn(text) { const m = text.match(/\b(?:CLUSTER|NODE)(?: [A-Z]{2,})+/); return m && !/NODE RE(PLACE|MOVE)/.test(m[0]) ? `kvorum-cli ${m[0]}` : null; }

/** The verdict: word, sentence, what may still be lost, why, what to do. */
function verdictOf(raw, { nodes, zones, what, empty }) {
  const v = raw.verdict, me = nodes[raw.self]?.name ?? "this node", others = nodes.length - 1;
  if (!v) return { level: "quiet", word: "UNKNOWN", full: "UNKNOWN", line: `${me} asks the other nodes how they are.`, lose: "Not known yet", why: [], moves: 0, next: "", command: null, endsS: null };
  const names = nodes.map((n) => n.name), why = (v.findings ?? []).map((t) => dot(t, names));
  if (v.alone && others > 0) {
    const other = nodes.filter((n) => !n.self && n.address).slice(0, 3);
    return { level: "quiet", word: "NO QUORUM SEEN", full: "NO QUORUM SEEN", line: `${me} hears none of the ${count(others)} other nodes. It can't tell how they are.`, lose: `Unknown: seen from ${me} alone`, why: [`${me} itself runs; its network may be cut, or the other nodes are down.`, `What follows is ${me}'s own memory. All else is greyed, with its age.`],
      moves: 0, next: other.length ? `Look from another node first: ${list(other.map((n) => n.name))}. Then check the network of ${me}.` : `Check the network of ${me}.`, command: other.length ? `kvorum-cli --url kv://${other[0].address} CLUSTER STATUS` : null, endsS: null };
  }
  const endsS = v.moves_end_in_s ?? null, full = v.level === "heal" && endsS !== null ? `${v.word} · about ${ago(endsS)} left` : v.word;
  const line = empty && v.level === "ok" ? "The cluster is ready. It holds no keys yet." : v.level === "ok" ? "Every shard has a leader and all of its replicas." : dot(v.summary);
  let lose;
  const n = v.can_lose_nodes, z = v.can_lose_zones, serving = raw.shards.length - (raw.ill ?? []).filter((x) => x[1] === "bad").length;
  if (v.level === "bad") lose = serving ? `${many(serving, "shard")} still ${serving === 1 ? "serves" : "serve"}; more may stop` : "No shard serves";
  else if (n >= 1) lose = `Can lose ${many(n, "node")}${zones.length > 1 && z >= 1 ? `, or all of ${z === 1 ? "one zone" : many(z, "zone")}` : ""}`;
  else {
    const free = what.nodes.filter((w) => w.stop === 0 && nodes[w.i].level !== "bad" && nodes[w.i].level !== "quiet").map((w) => w.name);
    lose = !free.length ? "Can lose no node now" : free.length <= 3 ? `Can lose ${list(free).replace(" and ", " or ")} only; all others are needed` : `Can lose one of ${count(free.length)} nodes; the others are needed`;
    if (v.can_lose_when_whole >= 1 && endsS !== null && v.level === "heal") lose = `${lose.split(";")[0]}; any ${v.can_lose_when_whole === 1 ? "node" : count(v.can_lose_when_whole)} again in about ${ago(endsS)}`;
  }
  const next = v.next && !(v.level === "ok" && v.next === "nothing to do") ? dot(v.next) : "";
  return { level: v.level, word: v.word, full, line, lose, why, moves: (v.moves_under_way ?? 0) + (v.moves_to_come ?? 0), running: v.moves_under_way ?? 0, waiting: v.moves_to_come ?? 0, next, command: commandIn(v.next ?? ""), endsS };
}

/** What somebody may do. Keys: `false` may still be allowed with some prefixes; the node decides key by key. */
function rightsOf(raw) {
  const open = !raw.auth?.required, classes = raw.who?.classes ?? [], keys = raw.who?.keys ?? [];
  return { name: raw.who?.name ?? null, open, untilMs: raw.who?.until_ms ?? null, has: (c) => open || classes.includes(c), key: (c) => open || keys.includes(c) };
}

const KIND = { node_down: "cluster", node_silent: "cluster", no_leader: "shards?only=bad", thin: "shards?only=bad", repair_blocked: "jobs", disk_full: "node", disk_low: "node", clock_off: "node", damaged: "jobs", overloaded: "performance", failing: "performance", cert_expires: "security", hot_shard: "heat", alone: "cluster" };
const where = (a, nodes) => { const page = KIND[a.code] ?? "overview"; return a.node != null && nodes[a.node] && (page === "node" || page === "cluster") ? `#/node?node=${encodeURIComponent(nodes[a.node].name)}` : a.shard != null && page.startsWith("shards") ? `#/shards?shard=${a.shard}` : `#/${page}`; };

/**
 * @param {any} raw what the node told, kept up to date by `apply`
 * @param {{ageMs:number, last?:any}} how `last`: the model before this one of the same `raw`; parts that did not change are taken from it
 */
export function model(raw, { ageMs, last }) {
  const ageS = ageMs / 1000, { nodes, zones } = nodesOf(raw, ageMs > OLD_MS ? ageS : 0);
  const placed = `${raw.shape}.${raw.placed ?? 0}`, figured = `${placed}.${raw.figured ?? 0}`, same = last?.raw === raw;
  const shards = same && last.figured === figured ? last.shards : shardsOf(raw, nodes);
  const what = same && last.placed === placed ? last.what : whatIf(shards, nodes, zones);
  const c = raw.cluster, cut = Boolean(raw.verdict?.alone) && nodes.length > 1, empty = c.keys === 0;
  const old = ageMs > OLD_MS, fresh = nodes.filter((n) => n.fresh);
  const sum = (name) => { const all = fresh.filter((n) => n[name] !== null); return all.length ? all.reduce((a, n) => a + n[name], 0) : null; };
  const worst = (name) => fresh.reduce((a, n) => (n[name] !== null && (a === null || n[name] > a[name]) ? n : a), null);
  const v = verdictOf(raw, { nodes, zones, what, empty });
  const rev = raw.series.to_ms, lines = same && last.rev === rev ? last.lines : new Map();
  /** A line of the last 15 minutes in steps of 5 s: 180 points, NaN where nothing was measured. Times in ms. */
  const line = (name) => {
    if (!lines.has(name)) {
      const time = /_p\d|sync|queue|propose|quorum|apply|commit/.test(name), how = /p99/.test(name) ? "max" : "mean";
      const list = raw.series[name] ? widen(raw.series[name], raw.series.step_ms, raw.series.to_ms, 5000, how, 180) : new Array(180).fill(NaN);
      lines.set(name, time ? list.map((x) => x / 1000) : list);
    }
    return lines.get(name);
  };
  const faults = raw.alarms.filter((a) => a.level === "bad").map((a) => (raw.now_ms - a.since_ms) / 5000).filter((k) => k >= 0 && k < 180);
  return {
    raw, placed, figured, rev, lines, ageMs, old, cut, empty, now: raw.now_ms,
    self: nodes[raw.self], me: nodes[raw.self]?.name ?? "this node", nodes, zones, zoned: zones.length > 1 || zones[0]?.name !== "", shards, what, rights: rightsOf(raw),
    cluster: { id: c.id, name: c.name ?? `cluster ${String(c.id).slice(0, 8)}`, durability: c.durability, factor: c.factor, epoch: c.epoch, version: c.version, level: c.level, nextLevel: known(c.next_level), keys: known(c.keys), bytes: known(c.bytes), paused: c.paused ?? null, rateMb: known(c.rate_mb), metaLeader: known(c.meta_leader) },
    verdict: old ? { ...v, level: "quiet", word: "NO CONTACT", full: `NO CONTACT for ${ago(ageS)}`, line: `${nodes[raw.self]?.name ?? "The node"} does not answer this page. It said last: ${v.word.toLowerCase() === "ok" ? "OK" : v.word}.`, lose: "Not known now", why: [], next: "Open the console of another node. What follows is as of then.", command: null, moves: 0 } : v,
    said: raw.verdict, alarms: raw.alarms.map((a) => ({ ...a, sinceS: (raw.now_ms - a.since_ms) / 1000, href: where(a, nodes) })), events: raw.events.map((e) => ({ ...e, agoS: (raw.now_ms - e.at_ms) / 1000 })),
    totals: { ops: sum("ops"), failed: sum("failed"), read: worst("read99"), write: worst("write99"), told: fresh.length, disk: worst("disk"), index: worst("index"), queue: worst("queue") },
    rtt: (a, b) => { const v2 = raw.rtt_us?.[a]?.[b]; return v2 === -1 ? -1 : us(v2); }, line, mark: faults.length ? Math.round(Math.min(...faults)) : -1,
    paths: raw.paths ? Object.fromEntries(Object.entries(raw.paths).map(([k, l]) => [k, l.map(us)])) : null, reads: raw.reads ?? null,
    slow: raw.slow_ms == null ? null : raw.slow, slowMs: raw.slow_ms,
  };
}

/** Points of the last 6 hours in steps of a minute: 360 of each line. */
export function sixHours(data) {
  return (name) => {
    const time = /_p\d|sync|queue|propose|quorum|apply|commit/.test(name), list = data[name] ? widen(data[name], data.step_ms, data.to_ms, 60_000, /p99/.test(name) ? "max" : "mean", 360) : new Array(360).fill(NaN);
    return time ? list.map((x) => x / 1000) : list;
  };
}
export const last = (values) => { const v = values.at(-1); return v === v ? v : values.length > 1 && values.at(-2) === values.at(-2) ? values.at(-2) : NaN; };

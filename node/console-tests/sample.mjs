// Sample data for pictures and browser checks: one cluster in six states. Never embedded; no figure of it reaches a node.

/** @param {number} seed */
export function dice(seed) {
  return () => { seed = (seed + 0x6d2b79f5) | 0; let t = Math.imul(seed ^ (seed >>> 15), 1 | seed); t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t; return ((t ^ (t >>> 14)) >>> 0) / 4294967296; };
}
export const STATES = ["healthy", "healing", "atrisk", "unavailable", "noquorum", "empty"];
export const STAGES = [["queue", "waits in the shard's queue"], ["propose", "is made part of an entry"], ["sync", "the leader's own disk"], ["quorum", "waited on for others after that"], ["apply", "index, and the answer"]];
const POINTS = 180; // 5 s each: 15 min

/** @param {{state:string, nodes?:number, shards?:number}} how */
export function makeModel({ state, nodes: nodeCount = 6, shards: shardCount = 64 }) {
  const rnd = dice(11);
  const empty = state === "empty", cut = state === "noquorum";
  const down = new Set({ healing: [4], atrisk: [4], unavailable: [4, 5] }[state] ?? []);
  const self = 2;
  const zones = [..."abc"];

  // Shards: one replica in each zone, leaders in turn.
  const perZone = zones.map((_, z) => [...Array(nodeCount).keys()].filter((n) => n % 3 === z));
  const shards = [];
  for (let id = 0; id < shardCount; id += 1) {
    const all = zones.map((_, z) => { const list = perZone[z], turn = Math.floor(id / 3); return list[(z === id % 3 ? turn : Math.imul(id + 7 * z + 1, 0x9e3779b1) >>> 19) % list.length]; });
    const first = id % 3;
    const replicas = [...all.slice(first), ...all.slice(0, first)].map((node) => ({ node, state: "ok", part: 1 }));
    const weight = .55 + rnd() * .9 + (id % 64 === 27 ? 9 : id % 64 === 28 ? 1.4 : 0);
    shards.push({ id, replicas, leader: replicas[0].node, level: "ok", state: "well", term: 3 + Math.floor(rnd() * 4), weight,
      keys: empty ? 0 : Math.round((2104882 / 64) * (.93 + rnd() * .14)), bytes: empty ? 0 : Math.round(412e6 * (.8 + rnd() * .5)), p99: 2.6 + rnd() * 1.6 + (id % 64 === 27 ? 5 : 0), lag: 0, ops: 0 });
  }
  const weights = shards.reduce((a, x) => a + x.weight, 0);
  let healing = 0, moved = 0, stuck = 0, exact = 0;
  for (const x of shards) {
    x.ops = empty || cut ? 0 : (48200 * x.weight) / weights;
    const gone = x.replicas.filter((r) => down.has(r.node));
    if (cut) { x.leader = -1; x.level = "quiet"; x.state = x.replicas.some((r) => r.node === self) ? "unknown: no leader heard" : "unknown: not held here"; x.ops = 0; continue; }
    if (!gone.length) continue;
    for (const r of gone) r.state = "gone";
    if (gone.length * 2 > x.replicas.length) { x.leader = -1; x.level = "bad"; x.state = `no leader: needs ${gone.map((r) => `node-${r.node + 1}`).join(" or ")}`; x.ops = 0; x.p99 = 0; stuck += 1; continue; }
    x.leader = x.replicas.find((r) => r.state === "ok")?.node ?? -1;
    x.term += 1;
    if (state === "healing") {
      const index = moved + healing;
      if (index % 4 !== 3) { gone[0].node = 1; gone[0].state = "ok"; moved += 1; continue; }
      gone[0].node = 1; gone[0].state = "new"; gone[0].part = healing === 0 ? .61 : healing === 1 ? .08 : 0;
      x.level = "heal"; x.state = healing < 2 ? `node-2 catches up, ${Math.round(gone[0].part * 100)} %` : "2 of 3 replicas; next in line"; x.lag = 4120 - healing * 300; healing += 1;
    } else { x.level = "risk"; x.state = state === "atrisk" ? "2 of 3 replicas; repair is blocked" : "2 of 3 replicas; repair is held"; x.lag = 0; exact += 1; }
  }

  const nodes = [...Array(nodeCount).keys()].map((n) => {
    const isDown = down.has(n), unheard = cut && n !== self;
    const leads = shards.filter((x) => x.leader === n).length, holds = shards.filter((x) => x.replicas.some((r) => r.node === n)).length;
    const disk = empty ? .004 : n === 1 && state === "atrisk" ? .912 : n === 1 && state === "healing" ? .68 : .38 + ((n * 7) % 5) * .045;
    return { id: n, name: `node-${n + 1}`, zone: zones[n % 3], address: `10.0.${(n % 3) + 1}.${21 + Math.floor(n / 3)}:7400`, http: `10.0.${(n % 3) + 1}.${21 + Math.floor(n / 3)}:7480`,
      level: isDown ? "bad" : unheard ? "quiet" : n === 1 && state === "atrisk" ? "risk" : "ok", word: isDown ? "Down" : unheard ? "Not heard" : n === 1 && state === "atrisk" ? "Disk 91 %" : "Up",
      heard: isDown ? (state === "unavailable" ? 96 : 192) : unheard ? 251 : 0, leads, holds: isDown && state === "healing" ? Math.round(shardCount / 2) : holds, disk, diskTotal: 256 * 2 ** 30, index: empty ? .001 : .21 + ((n * 3) % 4) * .03, queue: empty ? 0 : .02 + ((n * 5) % 3) * .012, cpu: empty ? .01 : .34 + ((n * 3) % 5) * .05,
      ops: isDown || cut ? 0 : shards.filter((x) => x.leader === n).reduce((a, x) => a + x.ops, 0), uptime: isDown ? 0 : 86400 * 23 + n * 8111, sync: 1.1 + (n % 4) * .22, connections: empty ? 1 : 118 + ((n * 37) % 60), version: "0.4.0",
      spark: [...Array(40)].map(() => (empty ? 0 : 1 + (rnd() - .5) * .3)) };
  });
  const rtt = nodes.map((a) => nodes.map((b) => { const [i, j] = a.id < b.id ? [a.id, b.id] : [b.id, a.id]; return i === j ? 0 : down.has(i) || down.has(j) ? -1 : cut && i !== self && j !== self ? -2 : cut ? -1 : i % 3 === j % 3 ? .19 + ((i * 3 + j) % 5) * .02 : i % 3 === 0 && j % 3 === 1 ? .62 + ((i + j) % 4) * .04 : .88 + ((i + j) % 5) * .13; }));

  // 15 minutes of history.
  const dip = { healing: 38, atrisk: 38, unavailable: 19, noquorum: 50 }[state] ?? -1; // points since the fault
  const series = { get: [], put: [], other: [], failed: [], g50: [], g99: [], p50: [], p99: [], p999: [], queue: [], propose: [], sync: [], quorum: [], apply: [] };
  for (let i = 0; i < POINTS; i += 1) push(series, rnd, i, { empty, state, since: dip < 0 ? -1 : i - (POINTS - dip) });

  const many = (n) => (n === 1 ? "1 shard" : `${n} shards`);
  const list = (a) => { const head = a.slice(0, 6).join(", "); return a.length > 6 ? `${head} and ${a.length - 6} more` : head; };
  const ids = (level) => list(shards.filter((x) => x.level === level).map((x) => x.id));
  const verdict = {
    healthy: { level: "ok", word: "OK", line: "Every shard has a leader and all of its replicas.", lose: "Can lose 1 node, or all of one zone", more: null },
    empty: { level: "ok", word: "OK", line: "The cluster is ready. It holds no keys yet.", lose: "Can lose 1 node, or all of one zone", more: null },
    healing: { level: "heal", word: `HEALING · about 4 min left`, line: `${healing} of ${shardCount} shards have 2 of 3 replicas: node-5 is down.`, lose: "Can lose node-2 only; any node again in about 4 min",
      more: { why: ["node-5 (zone b) is down for 3 min: no node hears it. Its replicas are being made anew on node-2."],
        moves: shards.filter((x) => x.level === "heal").slice(0, 2).map((x, i) => [`Shard ${x.id}: node-${x.leader + 1} to node-2`, i ? .08 : .61, i ? "8 % of 431 MiB, 31 MiB/s" : "61 % of 448 MiB, 32 MiB/s"]), tail: `${moved} done, 2 run, ${healing - 2} wait`,
        next: "Nothing to do. If node-5 comes back before 02:14, its replicas are kept where that moves less.", command: null } },
    atrisk: { level: "risk", word: "AT RISK", line: `${exact} of ${shardCount} shards have no replica to spare, and repair can't go on.`, lose: "Can lose node-2 only; all others are needed",
      more: { why: ["node-5 (zone b) is down for 3 min: no node hears it.", "Repair is blocked: node-2, the other node of zone b, has 22 GiB free; 26 GiB are needed."], moves: [], tail: "",
        next: "Start node-5, or make room: add a node in zone b.", command: "kvorum-cli CLUSTER TOKEN --zone b" } },
    unavailable: { level: "bad", word: "UNAVAILABLE", line: `${many(stuck)} have no leader: node-5 and node-6 are down.`, lose: `${shardCount - stuck} shards still serve; more would stop`,
      more: { why: [`Shards ${ids("bad")} lost 2 of 3 replicas. Reads and writes of their keys are answered Unavailable.`, "node-5 (zone b) and node-6 (zone c) are down for 96 s: no node hears them."], moves: [], tail: "",
        next: "Start node-5 or node-6: either one brings every shard back.", command: "systemctl start kvorum    # on node-5 or node-6" } },
    noquorum: { level: "quiet", word: "NO QUORUM SEEN", line: "node-3 hears none of the 5 other nodes. It can't tell how they are.", lose: "Unknown: seen from node-3 alone",
      more: { why: ["Nothing was heard from any node for 4 min 11 s. node-3 itself is well; its network may be cut.", "What follows is node-3's own memory. All else is greyed, with its age."], moves: [], tail: "",
        next: "Look from another node first: node-1, node-2, node-4. Then check UDP port 7410 of node-3.", command: "kvorum-cli --url kv://10.0.1.21:7400 CLUSTER STATUS" } },
  }[state];

  const alarms = { healthy: [["risk", "Shard 27 takes 14 % of all operations", "One key is 71 % of it. Moving the shard won't help.", 640, "#/heat"]], empty: [],
    healing: [["bad", "node-5 is down", "No node hears it.", 192, "#/node?node=5"], ["heal", "Replicas are missing", `${healing} shards have 2 of 3.`, 182, "#/shards"]],
    atrisk: [["bad", "node-5 is down", "No node hears it.", 192, "#/node?node=5"], ["risk", "Repair is blocked", "node-2 has 22 GiB free; 26 GiB are needed.", 141, "#/cluster"], ["risk", "Disk of node-2 is 91 % full", "At this rate it is full in 3 h 40 min.", 118, "#/node?node=2"]],
    unavailable: [["bad", `${many(stuck)} have no leader`, "They need node-5 or node-6.", 95, "#/shards"], ["bad", "node-5 and node-6 are down", "No node hears them.", 96, "#/cluster"], ["bad", "Errors burn the budget", "15 % of requests fail; the month's budget ends in 5 h.", 60, "#/performance"]],
    noquorum: [["bad", "node-3 hears no other node", "Its shards have no leader that it knows.", 251, "#/cluster"]] }[state];
  const events = empty ? [[12, "node-6 joined zone c"], [13, "Each of 64 shards has a leader"], [15, "Cluster created: 6 nodes, 3 zones, durability fsync"]]
    : [...(down.has(4) ? [[191, `node-5: leadership of ${Math.round(shardCount / 6)} shards moved in 0.7 s`], [192, "node-5: no longer heard"]] : cut ? [[248, "node-3 gave up leadership of 11 shards: no quorum"], [251, "node-3: no node is heard"]] : []),
      [1260, "node-4: all cold data checked, 96 GiB, no damage"], [2480, "Shard 40: leadership node-1 to node-4, for balance"], [5220, "node-1: compaction gave back 3.1 GiB"], [8040, "operator set log level of node-3 to debug"]];

  return { state, empty, cut, self, shards, nodes, zones, rtt, series, verdict, alarms, events,
    cluster: { name: "orders-eu", durability: "fsync", factor: 3, version: "0.4.0", epoch: 1184, keys: shards.reduce((a, x) => a + x.keys, 0), bytes: shards.reduce((a, x) => a + x.bytes, 0) },
    paths: empty ? null : { p50: [.18, .11, .92, .61, .18], p99: state === "atrisk" ? [2.9, .4, 9.6, 6.2, .7] : [1.9, .4, 4.1, 2.4, .6], "p99.9": [4.4, .8, 9.2, 5.7, .9] },
    slow: empty ? [] : SLOW, threads: THREADS, config: CONFIG, log: logOf(state), found: FOUND, heat: heatOf(shardCount, empty), step: 5 };
}

/** One more point of every line. `since`: points since the fault, negative without one. */
function push(series, rnd, i, { empty, state, since }) {
  const noise = (k) => 1 + (rnd() - .5) * k;
  const wave = 1 + .08 * Math.sin(i / 23) + .03 * Math.sin(i / 5);
  const cut = state === "noquorum" && since >= 0;
  const lost = since >= 0 && state === "unavailable" ? .15 : 0;
  const blip = since === 0 ? .35 : since === 1 ? .8 : 1;
  const on = empty || cut ? 0 : blip * (1 - lost);
  const slow = (since >= 0 && since < 4 ? 4.2 - since * .8 : 1) * (since >= 0 && state !== "noquorum" ? 1.18 : 1) * (state === "atrisk" && since > 4 ? 1.7 : 1);
  const spike = rnd() > .965 ? 1.2 + rnd() * .8 : 1;
  const dead = empty || cut;
  const add = (name, v) => { series[name].push(v); if (series[name].length > POINTS) series[name].shift(); };
  add("get", 36400 * wave * noise(.07) * on); add("put", 10900 * wave * noise(.09) * on); add("other", 900 * noise(.3) * on);
  add("failed", cut ? 240 + 5200 / (1 + since) : dead ? 0 : since >= 0 && state === "unavailable" ? 7300 * noise(.08) : since === 0 ? 900 : rnd() > .9 ? 2 : 0);
  add("g50", dead ? NaN : .31 * noise(.08)); add("g99", dead ? NaN : 1.35 * noise(.16) * slow * spike);
  add("p50", dead ? NaN : 2.0 * noise(.06) * Math.sqrt(slow)); add("p99", dead ? NaN : 9.4 * noise(.13) * slow * spike); add("p999", dead ? NaN : 21 * noise(.22) * slow * spike);
  [.18, .11, .92, .61, .18].forEach((v, k) => add(STAGES[k][0], dead ? 0 : v * noise(.14) * (k === 2 || k === 3 ? Math.sqrt(slow) : 1)));
}
/** Moves the model on by one step. */
export function tick(model, rnd, i) {
  push(model.series, rnd, i, { empty: model.empty, state: model.state, since: model.state === "healthy" || model.empty ? -1 : 60 });
  for (const n of model.nodes) { if (n.heard) n.heard += 1; else { n.spark.push(model.empty ? 0 : 1 + (rnd() - .5) * .3); n.spark.shift(); } }
}

/** 256 buckets of the ring × 60 steps of 10 s; share of a bucket in all operations, 0 to 1 of the hottest. */
function heatOf(shardCount, empty) {
  const rnd = dice(5), cells = new Float32Array(256 * 60);
  if (empty) return cells;
  const hot = Math.floor((27.4 / 64) * 256);
  for (let b = 0; b < 256; b += 1) {
    const shard = .02 + .016 * Math.sin(Math.floor(b / 4) * 2.3) ** 2, base = shard * (.55 + rnd() * .9) + (rnd() > .965 ? .06 : 0);
    for (let t = 0; t < 60; t += 1) {
      let v = base * (.86 + rnd() * .28);
      if (b === hot) v = t > 18 ? .8 + rnd() * .2 : .1 + t * .02;
      if (Math.abs(b - hot) === 1) v += t > 18 ? .09 : .02;
      if (b === 71 && t % 20 < 3) v += .16;
      if (b > 150 && b < 166 && t > 30 && t < 44) v += .05 + rnd() * .03;
      cells[b * 60 + t] = Math.min(1, v);
    }
  }
  return cells;
}
export const HOT = [["cart:{8841}", 71, 3, 4630], ["cart:{8841}:lines", 9, 0, 590], ["stock:{sku-20117}", 4, 1, 262], ["session:7f3e22c5", 2, 2, 131], ["cart:{5512}", 1, 0, 66]];
const SLOW = [["PUT", 27, "node-4", 184, "sync", "0x8f21c4d0", "4bf92f3577b34da6a3ce929d0e0e4736", 41], ["PUT", 27, "node-4", 142, "queue", "0x8f21c4d0", "00f067aa0ba902b7c21d8e6fa5b31c90", 96], ["ATOMIC", 8, "node-3", 131, "quorum", "0x17a0be42", "a3ce929d0e0e47364bf92f3577b34da6", 160], ["SCAN", 51, "node-1", 118, "read", "0xc0d133f7", "b9c7c989f97918e1d2f0a4e57be6010c", 233], ["PUT", 40, "node-4", 109, "sync", "0xa1b2090e", "1f6c2d8e90ab47f5b3d2c1a09e8f7d6b", 407], ["INCR", 12, "node-3", 103, "quorum", "0x3399fe10", "7d1e5b2c9f8a46d0b1c2d3e4f5a69788", 588]];
const THREADS = [["worker-0", .52, "answers requests"], ["worker-1", .49, "answers requests"], ["worker-2", .55, "answers requests"], ["worker-3", .47, "answers requests"], ["shards", .38, "22 shard actors"], ["journal", .21, "writes and syncs"], ["peers", .17, "QUIC to 5 nodes"], ["compaction", .06, "rate 64 MiB/s"], ["scrub", .02, "rate 8 MiB/s"]];
const CONFIG = [["cluster_id", "0191d1c6-7f3e-7c5a-9b2e-3a4f5b6c7d8e", "file"], ["data_dir", "/var/lib/kvorum", "file"], ["durability", "fsync", "file"], ["client_listen", "0.0.0.0:7400", "default"], ["connections_max", "4096", "environment"], ["election_timeout_ms", "500", "default"], ["journal.file_bytes", "67108864", "default"], ["compaction.rate_mb", "64", "default"], ["disk.headroom_mb", "1024", "default"], ["tls.key", "[redacted]", "file"], ["auth.mode", "required", "file"]];
const FOUND = [["cart:{8841}", 248], ["cart:{8841}:lines", 2210], ["cart:{5512}", 298], ["cart:{1907}", 305], ["cart:{77120}", 291], ["cart:{30455}:lines", 1804], ["cart:{412}", 310], ["cart:{6690}", 287], ["cart:{2048}", 301], ["cart:{91833}", 299], ["cart:{13}:lines", 640], ["cart:{55021}", 320]];
function logOf(state) {
  const base = [["03:41:12.660", "i", "compaction begins  shard=33 garbage=402MiB"], ["03:41:19.204", "i", "compaction done  shard=33 before=806MiB after=404MiB"], ["03:44:50.031", "i", "checkpoint written  shard=12 entry=8812040"], ["03:47:02.518", "i", "client is gone  connection=2219 requests=88120"], ["03:49:33.190", "i", "checkpoint written  shard=27 entry=19220188"], ["03:52:41.006", "w", "slow sync  took=58ms journal=1"], ["03:55:10.447", "i", "ring map  epoch=1184 from=node-1"], ["03:58:02.114", "i", "checked all cold data again  bytes=96.1GiB seconds=12311 damaged=0"], ["03:59:20.300", "i", "token made  by=operator zone=b uses=1"], ["04:01:44.870", "i", "compaction done  shard=19 before=812MiB after=431MiB"], ["04:03:10.021", "i", "leadership taken  shard=8 term=5 from=node-6"], ["04:04:02.007", "i", "checkpoint written  shard=8 entry=9120077"], ["04:05:31.402", "w", "slow sync  took=62ms journal=2"], ["04:06:12.118", "i", "client is gone  connection=2304 requests=1204"], ["04:07:55.310", "i", "certificate reloaded  expires=2027-02-11"]];
  const more = { healing: [["04:11:03.550", "w", "peer is not heard  peer=node-5 for=3s"], ["04:11:03.961", "i", "leadership taken  shard=14 term=6 from=node-5"], ["04:12:00.008", "i", "changing the ring map  epoch=1184 replaces=node-5"]], atrisk: [["04:11:03.550", "w", "peer is not heard  peer=node-5 for=3s"], ["04:12:00.011", "w", "repair is blocked  zone=b free=22GiB needed=26GiB"]], unavailable: [["04:12:39.550", "w", "peer is not heard  peer=node-5 for=3s"], ["04:12:39.610", "w", "peer is not heard  peer=node-6 for=3s"], ["04:12:40.270", "e", "no quorum  shard=2 replicas=node-3,node-5,node-6"]], noquorum: [["04:10:04.200", "w", "no peer is heard  for=3s"], ["04:10:07.120", "e", "leadership given up  shards=11 reason=no_quorum"]], empty: [["04:14:01.020", "i", "starting: the data folder is new"], ["04:14:02.310", "i", "changing the ring map  epoch=1"]] }[state] ?? [["04:11:20.118", "i", "snapshot sent  shard=40 to=node-1 bytes=448MiB"], ["04:12:33.004", "i", "hand-over asked for  shard=40 by=balance"]];
  return state === "empty" ? more : [...base, ...more];
}
export const VALUE = { id: "{8841}", customer: "c-20931", currency: "EUR", lines: [{ sku: "sku-20117", name: "Espresso cup, 80 ml", quantity: 6, price: 7.9 }, { sku: "sku-00412", name: "Saucer", quantity: 6, price: 3.5 }], coupon: null, updated_at: "2026-11-28T04:14:52Z" };

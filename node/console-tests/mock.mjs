// Serves the console's files with the headers of a node, and the sample cluster behind them. For pictures and browser checks.
//   node mock.mjs [PORT]
// The query of the page says what it sees: ?state=healing&nodes=6&shards=64&auth=1&break=heat&slow=security&noread=1&gone=1
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { Sample } from "./contract.mjs";

const FOLDER = process.env.KVORUM_CONSOLE_DIR ?? fileURLToPath(new URL("../console/", import.meta.url));
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'";
const TYPES = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8", svg: "image/svg+xml" };
const samples = new Map(), sessions = new Set();
const b64 = (t) => Buffer.from(t, "base64url");

function sampleOf(request) {
  const from = request.headers.referer ? new URL(request.headers.referer).searchParams : new URLSearchParams();
  const key = ["state", "nodes", "shards", "run"].map((k) => from.get(k)).join();
  if (!samples.has(key)) samples.set(key, new Sample({ state: from.get("state") ?? "healthy", nodes: Number(from.get("nodes") ?? 6), shards: Number(from.get("shards") ?? 64) }));
  return { sample: samples.get(key), from };
}
const body = (request) => new Promise((done) => { const parts = []; request.on("data", (x) => parts.push(x)); request.on("end", () => done(Buffer.concat(parts).toString())); });

export const server = createServer(async (request, response) => {
  const at = new URL(request.url, "http://mock"), { sample: s, from } = sampleOf(request), p = at.pathname, q = at.searchParams;
  const json = (status, value, headers = {}) => { response.writeHead(status, { "content-type": status < 400 ? "application/json" : "application/problem+json", "cache-control": "no-store", ...headers }); response.end(JSON.stringify(value)); };
  const problem = (status, code, detail, more = {}) => json(status, { type: `/problems/${code}`, title: detail, status, detail, code, ...more });
  try {
    // A check lets the node die, and come back.
    if (p === "/mock/stop" || p === "/mock/go") { s.gone = p === "/mock/stop"; if (s.gone) for (const l of s.listeners ?? []) l.destroy(); response.writeHead(204).end(); return; }
    if (s.gone) { request.socket.destroy(); return; }
    const file = p === "/" ? "index.html" : p.match(/^\/console\/([\w/-]+\.(?:html|css|js|svg))$/)?.[1];
    if (file) {
      const text = await readFile(path.join(FOLDER, file));
      response.writeHead(200, { "content-type": TYPES[file.split(".").pop()], "content-security-policy": CSP, "x-content-type-options": "nosniff", "cache-control": "no-cache" });
      response.end(text); return;
    }
    if (from.has("gone") && p.startsWith("/console/") && p !== "/console/who") { request.socket.destroy(); return; }
    const open = !from.has("auth"), cookie = /mock=(\w+)/.exec(request.headers.cookie ?? "")?.[1], inside = open || sessions.has(cookie);
    if (p === "/console/who") return json(200, { required: !open, who: inside ? s.who(open) : null });
    if (p === "/console/login") { const { name, password } = JSON.parse(await body(request)); if (password !== "secret") return problem(401, "unauthenticated", "wrong name or password"); const id = String(Math.random()).slice(2); sessions.add(id); return json(200, { who: { ...s.who(false), name } }, { "set-cookie": `mock=${id}; HttpOnly; SameSite=Strict; Path=/` }); }
    if (p === "/console/logout") { sessions.delete(cookie); response.writeHead(204).end(); return; }
    if (!inside) return problem(401, "unauthenticated", "log in first");
    const name = p.split("/")[2];
    if (p.startsWith("/console/") && from.get("break") === name) return problem(500, "internal", "the sample breaks here");
    if (p.startsWith("/console/") && from.get("slow") === name) return; // never answers
    if (p === "/console/state") return json(200, s.state(open));
    if (p === "/console/events") {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      response.write("retry: 2000\n\n");
      if (from.has("still")) { response.on("close", () => {}); return; }
      // One clock for all listeners of a sample.
      s.listeners ??= new Set(); s.listeners.add(response);
      s.clock ??= setInterval(() => { const f = s.second(), text = `event: second\nid: ${f.seq}\ndata: ${JSON.stringify(f)}\n\n`; for (const l of s.listeners) l.write(text); }, 1000);
      response.on("close", () => s.listeners.delete(response)); return;
    }
    if (p === "/console/history") { const x = s.series(); const long = (l) => Array.from({ length: 2160 }, (_, i) => l[i % l.length]); return json(200, { ...Object.fromEntries(Object.entries(x).map(([k, l]) => [k, Array.isArray(l) ? long(l) : l])), step_ms: 10_000 }); }
    if (p === "/console/node") return json(200, s.process());
    if (p === "/console/log") return json(200, s.log(q.get("after") === null ? null : Number(q.get("after")), q.get("level")));
    if (p === "/console/heat") { const x = s.heat(); if (from.has("noread")) x.top = null; return json(200, x); }
    if (p === "/console/jobs") return json(200, s.jobs());
    if (p === "/console/security") return json(200, s.security(open));
    if (p === "/console/access") return problem(404, "not-found", "there is no such address");
    return await door(s, request, response, { p, q, json, problem });
  } catch (error) { if (error.code === "ENOENT") problem(404, "not-found", "there is no such file"); else { console.error(error); problem(500, "internal", String(error.message)); } }
});

async function door(s, request, response, { p, q, json, problem }) {
  const key = q.get("key") ?? (q.get("key_base64") ? b64(q.get("key_base64")).toString() : null), method = request.method;
  const lost = (k) => s.m.cut || s.m.shards[s.shard(k)].leader < 0;
  if (p === "/explain") { const id = s.shard(key), x = s.m.shards[id], e = lost(key) ? null : s.keys.get(key); return json(200, { key, shard: id, ring_position: "0x6db851eb08ae147a", leader: x.leader >= 0 ? s.m.nodes[x.leader].name : null, replicas: x.replicas.map((r) => s.m.nodes[r.node].name), version: e?.version ?? null, value_bytes: e?.value.length ?? null, expires_at_ms: e?.expires ?? null, segment: e ? 19 : null, offset: e ? 20_977_152 : null, reads_per_second: e ? 4630 : null, writes_per_second: e ? 12 : null }); }
  if (p === "/kv" && method === "GET" && key === null) {
    const prefix = q.get("prefix") ?? "", all = [...s.keys.keys()].filter((k) => k.startsWith(prefix)), start = Number(q.get("cursor") ?? 0), limit = Number(q.get("limit") ?? 100), page = all.slice(start, start + Math.min(limit, 8)), next = start + page.length;
    if (s.m.cut) return problem(503, "unavailable", "shard 0 has no leader that this node knows");
    return json(200, { entries: page.map((k) => ({ key: k, version: s.keys.get(k).version })), cursor: next < all.length ? String(next) : null, scanned: page.length, shards: s.m.shards.length, shards_done: Math.floor((next / Math.max(1, all.length)) * s.m.shards.length) });
  }
  if (p === "/kv" && method === "GET") {
    const e = s.keys.get(key), stale = q.get("consistency") === "stale";
    if (lost(key) && !stale) return problem(503, "unavailable", `shard ${s.shard(key)} has no leader`);
    if (!e) return problem(404, "not-found", "there is no such key");
    const range = /bytes=0-(\d+)/.exec(request.headers.range ?? "");
    if (range && e.value.length === 0) return problem(416, "range-not-satisfiable", "the value is empty");
    const part = range && Number(range[1]) + 1 < e.value.length ? e.value.subarray(0, Number(range[1]) + 1) : e.value;
    response.writeHead(part === e.value ? 200 : 206, { "content-type": "application/octet-stream", etag: `"${e.version}"`, "kvorum-version": e.version, "kvorum-source": "cache", ...(e.expires ? { "kvorum-expires-at": e.expires } : {}), ...(part === e.value ? {} : { "content-range": `bytes 0-${part.length - 1}/${e.value.length}` }) });
    response.end(part); return undefined;
  }
  if (p === "/kv" && (method === "PUT" || method === "DELETE")) {
    const data = method === "PUT" ? JSON.parse(await body(request)).data : null, k = data ? data.key ?? b64(data.key_base64).toString() : key, e = s.keys.get(k), match = request.headers["if-match"]?.replaceAll('"', "");
    if (k === "slow:1") return problem(504, "deadline-exceeded", "no answer within 5 s", { outcome: "unknown" });
    if ((match && String(e?.version ?? 0) !== match) || (request.headers["if-none-match"] === "*" && e)) return problem(412, "precondition-failed", "the key has another version", { key_version: e?.version ?? 0 });
    if (method === "DELETE") { if (!e) return problem(404, "not-found", "there is no such key"); s.keys.delete(k); return json(200, { data: { key: k, deleted: true, version: e.version }, status: "committed" }); }
    const version = s.put(k, Buffer.from(data.value ?? b64(data.value_base64)), data.keep_ttl ? e?.expires ?? null : data.ttl_ms ? Date.now() + data.ttl_ms : null);
    return json(e ? 200 : 201, { data: { key: k, version }, status: "committed", durability: "fsync" });
  }
  const verb = p.match(/^\/nodes\/([^/]+)\/(\w+)$/);
  if (verb && method === "POST") {
    const n = s.m.nodes.find((x) => s.node(x).id === decodeURIComponent(verb[1])); if (!n) return problem(404, "not-found", "the ring map names no such node");
    if (verb[2] === "remove" && q.get("dry_run")) return json(200, { epoch: 1184, moves: s.m.shards.slice(0, n.holds).map((x) => ({ shard: String(x.id) })), leadership_moves: n.leads, paused: false, reasons: [], level: 3 });
    s.turned.set(n.name, { drain: "draining", remove: "removing" }[verb[2]] ?? "up"); return json(verb[2] === "remove" ? 202 : 200, { node: n.name, state: s.turned.get(n.name), epoch: 1185 });
  }
  if (p === "/cluster/pause" || p === "/cluster/resume") { s.paused = p.endsWith("pause"); return json(200, { paused: s.paused }); }
  if (p === "/cluster/rate") { s.rate = q.get("mb") ? Number(q.get("mb")) : null; return json(200, {}); }
  if (p === "/cluster/repair") return json(200, {});
  if (p === "/cluster/tokens") return json(201, { token: "kvj1.6c0c4a4e6f5e4a0b8a538d7f3e0c8b5f.2f6a91.0f3d5a1c", for_ms: 3_600_000 });
  if (p === "/rebalance") return json(q.get("dry_run") ? 200 : 202, { moves: [{ shard: 40, from: "node-1", to: "node-4" }, { shard: 12, from: "node-2", to: "node-3" }], leadership_moves: 2, data_moves: 0 });
  const hand = p.match(/^\/shards\/(\d+)\/leader$/);
  if (hand) { s.moved.set(Number(hand[1]), s.m.nodes.findIndex((n) => n.name === q.get("to"))); return json(202, { shard: Number(hand[1]), from: "node-1", to: q.get("to") }); }
  return problem(404, "not-found", "there is no such address");
}
if (process.argv[1] === fileURLToPath(import.meta.url)) { server.listen(Number(process.argv[2] ?? 8790), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/?state=healing`)); }

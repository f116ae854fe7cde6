// The pages that observe: Overview, Cluster, Shards, Heat, Performance.
import { keyOf, linkTo, shown } from "../data/bytes.js";
import { RANK, STAGES, last, sixHours } from "../data/model.js";
import { bar, chip, empty, facts, glyph, h, head, icon, make, meter, none, note, or, panel, sheet, pick, status } from "../lib/dom.js";
import { ago, bytes, clock, count, many, ms, percent, short, upper } from "../lib/format.js";
import { back, chart, ring, spark } from "../ui/chart.js";
import { command, copy, drawer } from "../ui/layers.js";
import { act, addNode, asked, drain, handOver, keep, nodeWord, rebalance, tile, undrain, verdict, whyNot } from "../ui/parts.js";
import { table } from "../ui/table.js";

const NODES_MAX = 12;
export function overviewPage(ctx) {
  return { view(m) {
    const c = m.cluster, t = m.totals, moves = m.verdict.moves > 0 && !m.old ? ctx.want("/console/jobs", 2000).data?.moves ?? null : null;
    const L = m.line, all = L("get").map((v, i) => v + L("put")[i] + L("other")[i]), failed = L("failed");
    const wide = (name, or2) => { const l = L(name); return l.some((v) => v === v) ? l : or2; }, allOps = wide("all_ops", all), allFailed = wide("all_failed", failed);
    const sum = (a) => a.reduce((x, v) => x + (v === v ? v * 5 : 0), 0), asked = sum(allOps) + sum(allFailed), wrong = sum(allFailed), now = (name) => last(L(name));
    const rate = t.ops === null ? null : t.failed === null ? null : t.ops + t.failed > 0 ? t.failed / (t.ops + t.failed) : null;
    const here = `at ${m.me}`, seen = allOps === all ? here : "at all nodes", full = t.disk;
    const some = (n, worst) => (worst && m.nodes.length > 1 ? `slowest: ${worst.name}` : n);
    const tiles = h("div.tiles",
      tile("Operations per second", "#/performance", t.ops === null ? "—" : short(t.ops), t.ops === null ? (m.cut ? "the others are not heard" : "no node has told yet") : t.told < m.nodes.length ? `told by ${t.told} of ${m.nodes.length} nodes` : !asked ? "no traffic yet" : `GET ${short(now("get"))} · PUT ${short(now("put"))} ${here}`, allOps),
      tile("Read latency, p99", "#/performance", t.read ? ms(t.read.read99) : "—", t.read ? `${some("", t.read)}${now("read_p50") === now("read_p50") ? ` · p50 ${ms(now("read_p50"))} here` : ""}` : "no read now", wide("all_read_p99", L("read_p99")), "c3"),
      tile("Write latency, p99", "#/performance", t.write ? ms(t.write.write99) : "—", t.write ? `${some("", t.write)}${now("write_p50") === now("write_p50") ? ` · p50 ${ms(now("write_p50"))} here` : ""}` : "no write now", wide("all_write_p99", L("write_p99")), "c2"),
      // 2 failures a second of 50,000 are no mountain.
      tile("Failed requests", "#/performance", rate === null ? "—" : percent(rate), asked ? `${short(Math.round(wrong))} of ${short(Math.round(asked))} in 15 min ${seen}` : `no request in 15 min ${seen}`, allFailed, "bad", Math.max(1, ...allOps.filter((v) => v === v)) / 100),
      h("a.panel.tile", { href: full ? `#/node?node=${encodeURIComponent(full.name)}` : "#/node" }, h("div.label", "Fullest node"), h("div.value", full ? Math.round(full.disk * 100) : "—", h("small", full ? `% disk, ${full.name}` : "")),
        h("div.meters", [["Disk", t.disk, "disk", ""], ["Index", t.index, "index", " memory"], ["Queue", t.queue, "queue", ""]].map(([name, n, k, what]) => meter(name, n ? n[k] : null, n ? percent(n[k]) : "", n ? `${what} of ${n.name}` : "")))));

    const many12 = m.nodes.length > NODES_MAX, shown = many12 ? m.nodes.filter((n) => n.level !== "ok").slice(0, 200) : m.nodes;
    const cell = (n, v, how) => (n.fresh ? or(v, how) : none());
    const nodes = shown.length ? table({ label: "Nodes", rows: shown, key: (n) => n.i, sort: many12 ? [1, 1] : [0, 1], height: many12 && shown.length > 12 ? 440 : undefined, onopen: (n) => ctx.go(`#/node?node=${encodeURIComponent(n.name)}`), columns: [
      { name: "Node", head: true, by: (n) => n.i, cell: (n) => n.name },
      { name: "State", by: (n) => RANK[n.level], cell: (n) => status(n.level, nodeWord(n)) },
      m.zoned && { name: "Zone", low: true, by: (n) => n.zone, cell: (n) => n.zone || none() },
      { name: "Leads", right: true, by: (n) => n.leads, cell: (n) => (n.fresh ? count(n.leads) : none()) },
      { name: "Ops/s", right: true, by: (n) => n.ops, cell: (n) => cell(n, n.ops, short) },
      { name: "Sync p99", right: true, low: true, by: (n) => n.sync99, cell: (n) => cell(n, n.sync99, ms) },
      { name: "CPU", right: true, low: true, by: (n) => n.cpu, cell: (n) => cell(n, n.cpu, percent) },
      { name: "Disk", low: true, by: (n) => n.disk, cell: (n) => cell(n, n.disk, (d) => h("span", percent(d), h("span.inbar", bar(d, d > .85 ? "risk" : "")))) }].filter(Boolean) }) : h("div.body", status("ok", "All nodes are well"));
    const alarms = m.alarms.length ? h("ul.list", m.alarms.slice(0, 8).map((a) => h("li", { class: `s-${a.level}` }, glyph(a.level, 14), h("div.grow", h("a", { href: a.href }, a.title), a.text && h("p.dim.small", a.text)), h("time", ago(a.sinceS)))), m.alarms.length > 8 && h("li.dim", `And ${m.alarms.length - 8} more.`)) : h("p.dim", m.old ? "Not known now." : "No alarm.");
    const events = m.events.length ? h("ul.list", m.events.slice(0, 8).map((e) => h("li", { key: e.n }, h("span.grow.small", e.text), h("time", `${ago(e.agoS)} ago`)))) : h("p.dim", `Nothing since ${m.me} started.`);

    const door = m.self?.http ?? location.host, plain = (m.self?.address ?? "").replace(/:\d+$/, ""), resp = m.empty ? ctx.want("/console/node", 0).data?.config?.find(([k]) => k === "resp_listen")?.[1]?.match(/:(\d+)$/)?.[1] : null;
    const first = h("section.panel", { "aria-label": "First steps" }, h("header", h("h2", "Write the first key")), h("div.body.stack",
      h("p.dim", "Any node takes any request. Charts fill as soon as there is traffic."),
      h("div.row.wrap.steps", [["Command line", `kvorum-cli --url kv://${m.self?.address} PUT greeting hello`], ["HTTP", `curl -X PUT ${location.protocol}//${door}/kv/greeting -d hello`], resp && ["Any Redis client", `redis-cli -h ${plain} -p ${resp} SET greeting hello`]].filter(Boolean).map(([name, text]) => h("div.stack.tight", h("h3.small.dim", name), command(text)))),
      h("div.row.wrap", h("a.btn.primary", { href: "#/keys?new=greeting" }, "Open Keys"), h("a.btn", { href: "#/cluster" }, "See where shards live"))));
    const keys = c.keys === null ? "keys not known" : `${short(c.keys)} keys`;
    return h("div", null,
      head("Overview", [many(m.nodes.length, "node"), many(m.shards.length, "shard"), keys, c.bytes === null ? null : bytes(c.bytes)].filter(Boolean).join(", ")),
      verdict(m, moves),
      m.empty && h("div.cols", first),
      tiles,
      h("div", { class: `cols two ${m.old ? "is-stale" : ""}` }, panel("Operations per second", h("span.dim.small", here), chart({ label: `Operations per second of clients ${here}, 15 minutes`, stacked: true, format: short, step: 5, mark: m.mark, series: [["GET", "get", "c1"], ["PUT", "put", "c2"], ["Other", "other", "c7"], ["Failed", "failed", "bad"]].map(([name, k, token]) => ({ name, values: L(k), token })) })),
        panel("Latency", h("span.dim.small", `${here}, logarithmic`), chart({ label: `Latency of clients ${here}, 15 minutes`, log: true, format: ms, step: 5, mark: m.mark, nothing: "Nothing was asked in this window", series: [["Write p99", "write_p99", "c2"], ["Write p50", "write_p50", "c2", "dash"], ["Read p99", "read_p99", "c1"], ["Read p50", "read_p50", "c1", "dash"]].map(([name, k, token, dash]) => ({ name, values: L(k), token, dash })) }))),
      h("div.cols.wide-left",
        h("section", { class: `panel ${m.cut || m.old ? "is-stale" : ""}`, "aria-label": "Nodes" }, h("header", h("h2", "Nodes"), many12 && h("p.dim", `${count(m.nodes.length - m.nodes.filter((n) => n.level !== "ok").length)} of ${count(m.nodes.length)} are well and not listed`), h("div.end", h("a.btn.ghost.slim", { href: "#/cluster" }, "Cluster", icon("arrow", 12)))), nodes),
        h("div.stack", panel("Alarms", m.alarms.length ? h("span", { class: `count s-${m.alarms[0].level}` }, String(m.alarms.length)) : null, alarms), panel("What happened", null, events))));
  } };
}

const LARGE = 12;
const to = (n) => `#/node?node=${encodeURIComponent(n.name)}`;
/** What a card offers: the opposite of what the node is in. */
const acts = (m, n) => n.state === "draining" ? act("Undrain", () => undrain(m, n), { cls: "slim", why: whyNot(m), label: `Undrain ${n.name}` }) : n.state === "removing" ? act("Keep", () => keep(m, n), { cls: "slim", why: whyNot(m), label: `Keep ${n.name}` }) : act("Drain", () => drain(m, n), { cls: "slim", why: whyNot(m), label: `Drain ${n.name}` });

export function clusterPage(ctx) {
  let light = -1;
  const point = (i) => () => { if (light !== i) { light = i; ctx.redraw(); } };
  return { view(m) {
    const large = m.nodes.length > LARGE;
    function card(n) {
      const away = n.level === "bad" || n.level === "quiet", old = !n.fresh && n.told;
      return h("article", { key: n.id, class: `panel card s-${n.level} ${n.level === "quiet" ? "is-stale" : ""}`, "aria-label": n.name, onpointerenter: point(n.i), onpointerleave: point(-1), onfocusin: point(n.i), onfocusout: point(-1) },
        h("header", chip(n), h("a", { href: to(n), class: "clip" }, n.name), status(n.level, n.word)),
        away ? h("div.dim.small", h("p", n.level === "bad" ? (n.silentS !== null ? `Not heard by any node for ${ago(n.silentS)}.` : "It does not answer.") : n.heardS === null ? `Never heard by ${m.me}.` : `Last heard ${ago(n.heardS)} ago.`), h("p", n.address), h("p.gap-top", n.state === "removing" ? `Gives away ${many(n.holds, "replica")}.` : `Holds ${many(n.holds, "replica")}, which wait for it${n.endsS ? `; made anew elsewhere in ${ago(n.endsS)}` : n.endsS === 0 ? "; they are made anew elsewhere" : ""}.`), n.state === "removing" && acts(m, n))
          : [h("div.figures", h("span", h("b.num", count(n.leads)), " leads"), h("span", h("b.num", count(n.holds)), " replicas"), h("span", h("b.num", n.fresh ? short(n.ops) : "—"), " ops/s")),
            spark(ctx.trace(n.i), `c${n.hue}`),
            h("div", meter("Disk", n.disk, percent(n.disk), ` of ${n.name}`), meter("Index", n.index, percent(n.index), ` memory of ${n.name}`)),
            h("div.row", h("span.faint.small.grow.clip", old ? `as of ${ago(n.heardS)} ago` : n.state === "draining" && n.endsS !== null ? `${ago(n.endsS)} left` : n.upS === null ? "" : `up ${ago(n.upS)}`), acts(m, n))]);
    }
    const mini = (n) => h("a", { key: n.id, class: `panel card mini s-${n.level}`, href: to(n), onpointerenter: point(n.i), onpointerleave: point(-1) }, n.level !== "ok" && [h("span.tint", glyph(n.level, 12)), h("span.sr", n.word)], h("span.clip", n.name), h("span.dim.num.grow.right", n.fresh ? short(n.ops) : "—"));
    const cards = m.zones.map((z) => {
      const list = large ? [...z.nodes].sort((a, b) => Number(a.level === "ok") - Number(b.level === "ok") || a.i - b.i) : z.nodes, up = list.filter((n) => n.level !== "bad" && n.level !== "quiet").length;
      return h("section.zone", { key: z.name, "aria-label": z.title }, h("h3", z.title, h("span.dim.small", up === list.length ? many(list.length, "node") : `${up} of ${list.length} ${m.cut ? "heard" : "up"}`)), h("div", { class: `cards ${large ? "dense" : ""}` }, list.map(large ? mini : card)));
    });
    const legend = h("ul.legend", large ? m.zones.map((z) => h("li", h("span", { class: `sw n${z.nodes[0].hue}` }), z.short)) : m.nodes.map((n) => h("li", chip(n), m.zoned ? n.zone : n.name)));

    // Round trips: by node up to 12, by zone beyond.
    const names = large ? m.zones.map((z) => z.short) : m.nodes.map((n) => n.name);
    const middle = (list) => { const ok = list.filter((v) => v !== null && v >= 0).sort((a, b) => a - b); return ok.length ? ok[Math.floor(ok.length / 2)] : list.some((v) => v === -1) ? -1 : null; };
    const trips = large ? ctx.memo("trips", m.raw.rtt_us, () => m.zones.map((a) => m.zones.map((b) => middle(a.nodes.slice(0, 12).flatMap((x) => b.nodes.slice(0, 12).map((y) => (x === y ? null : m.rtt(x.i, y.i)))))))) : null;
    const cell = (a, b) => { const v = large ? trips[a][b] : m.rtt(a, b); if (a === b && !large) return h("td.qs", h("span", { "aria-hidden": "true" }, "·"), h("span.sr", "itself")); if (v === -1) return h("td.qx", "none"); if (v === null) return h("td.qs", "?"); return h("td", { class: `q${v < .5 ? 0 : v < 1 ? 1 : v < 5 ? 2 : 3} num` }, v < 10 ? v.toFixed(2).replace(/(\.\d\d)\d*/, "$1") : v.toFixed(0)); };
    const matrix = h("div.scroll", { tabindex: 0, role: "group", "aria-label": "Round trips" }, h("table.matrix", h("thead", h("tr", h("th", h("span.sr", "From")), names.map((n) => h("th", { scope: "col" }, n)))), h("tbody", names.map((n, a) => h("tr", h("th", { scope: "row" }, n), names.map((_, b) => cell(a, b)))))));

    const rows = [...m.what.nodes.filter((w) => m.nodes[w.i].level !== "bad" && m.nodes[w.i].level !== "quiet"), ...m.what.zones], blocked = m.verdict.level === "bad" || m.cut;
    const losses = table({ label: "What if", rows, key: (r) => r.name, sort: [2, -1], height: rows.length > 12 ? 420 : undefined, columns: [
      { name: "If this goes", head: true, by: (r) => (r.kind === "node" ? r.i : 1e6 + r.i), cell: (r) => r.name },
      { name: "Then", cell: (r) => (r.stop ? status("bad", r.stop === 1 ? "1 shard stops" : "shards stop") : status("ok", "all serve")) },
      { name: "Stop", right: true, first: -1, by: (r) => r.stop * 1e5 + r.bare, cell: (r) => count(r.stop) },
      { name: "No spare", right: true, low: true, first: -1, by: (r) => r.bare, cell: (r) => count(r.bare) },
      { name: "Leaders move", right: true, low: true, first: -1, by: (r) => r.moves, cell: (r) => count(r.moves) }] });
    const c = m.cluster;
    return h("div", null,
      head("Cluster", [c.name, `ring map ${count(c.epoch)}`, many(c.factor, "replica"), `durability ${c.durability}`].join(", "), act("Plan a rebalance", () => rebalance(m), { why: whyNot(m) ?? (blocked ? "Shards without a leader come first." : null) }), act("Add a node", () => addNode(m), { cls: "primary", why: whyNot(m) })),
      h("div", { class: `cols cluster ${large ? "large" : ""} ${m.old ? "is-stale" : ""}` },
        h("div.ringbox", panel("Ring", h("span.dim.small", m.shards.length > 256 ? `${Math.ceil(m.shards.length / 256)} shards a piece` : "leader outside, followers inside"), legend, ring({ m, light, onopen: (x) => openShard(ctx, x.id) }), h("p.faint.small.hint", h("kbd", "←"), " ", h("kbd", "→"), " walk the shards, ", h("kbd", "↵"), " opens one. Point at a node to see what it holds."))),
        h("div", cards)),
      h("div.cols.two", panel("Round trips, ms", h("span.dim.small", large ? "median, by zone" : "row to column"), m.nodes.length < 2 ? empty("cluster", "One node", "There is no one to reach.") : matrix),
        m.cut ? panel("What if", null, empty("inbox", "Can't be told from here", `${m.me} hears no other node. Open this page on one that does.`)) : h("section.panel", { "aria-label": "What if" }, h("header", h("h2", "What if"), h("p.dim.small.end", "shards, besides those that stand already")), losses)));
  } };
}

const HOW = { gone: "gone", faulty: "gone", missing: "new", new: "new", unknown: "dull" };
const SAYS = { gone: "does not answer", faulty: "refused", missing: "not there yet", new: "catches up", unknown: "not known", ok: "follows" };
const chips = (m, x) => h("span.chips", x.replicas.map((r) => { const n = m.nodes[r.node], leads = r.node === x.leader, c = n ? chip(n, HOW[r.state] ?? (leads ? "lead" : "")) : h("span.chip.n0", "?"); c.props.title = `${n?.name ?? "?"}, ${leads ? "leads" : SAYS[r.state]}`; return c; }));
/** Where a shard lies on the ring: the first four digits of its first and last position. */
const span = (id, n) => { const at = (k) => (BigInt(k) * (1n << 64n)) / BigInt(n), hex = (v) => v.toString(16).padStart(16, "0").slice(0, 4); return `${hex(at(id))}… to ${hex(at(id + 1) - 1n)}…`; };

export function openShard(ctx, id, closed) {
  drawer(() => {
    const m = ctx.model, x = m?.shards[id];
    if (!x) return null;
    const why = whyNot(m), ready = x.replicas.filter((r) => r.state === "ok" && r.node !== x.leader);
    return { title: `Shard ${id}`, parts: [status(x.level, upper(x.text)),
      facts([["Leader", x.leader >= 0 ? m.nodes[x.leader].name : x.level === "bad" ? "none" : "unknown"], ["Term", or(x.term, count)], ["Keys", or(x.keys, count)], ["Log", or(x.bytes, bytes)], ["Writes", or(x.writes, (v) => `${short(v)}/s`)], ["Slowest replica", or(x.lag, (v) => (v ? `${many(v, "entry", "entries")} behind` : "has all"))], ["Hashes", h("span.mono", span(id, m.shards.length))]]),
      h("section", h("h3.dim.small", "Replicas"), h("ul.list", x.replicas.map((r) => { const n = m.nodes[r.node]; return h("li", { key: r.node }, chip(n, HOW[r.state] === "gone" ? "gone" : ""), h("div.grow", h("a", { href: `#/node?node=${encodeURIComponent(n.name)}` }, n.name), n.zone && h("span.dim", `, zone ${n.zone}`), r.state === "new" && r.part !== null && h("div.gap-top", bar(r.part, "heal", `${n.name} has caught up`))), h("span.small", r.node === x.leader ? "leads" : r.state === "new" && r.part !== null ? `${Math.round(r.part * 100)} %` : SAYS[r.state])); }))),
      h("section.stack.tight", h("h3.dim.small", "Hand over leadership"), x.leader < 0 ? h("p.dim", "There is no leader that could hand over.") : !ready.length ? h("p.dim", "No other replica is well.") : h("div.row.wrap", ready.map((r) => act(`To ${m.nodes[r.node].name}`, () => handOver(m, x, r.node), { why })))),
      h("section.stack.tight", h("h3.dim.small", "By hand"), command("kvorum-cli CLUSTER SHARDS"), h("div.row.wrap", h("a.btn", { href: `#/heat?shard=${id}` }, "Show heat")))] };
  }, closed);
}

export function shardsPage(ctx) {
  let only = ctx.query.get("only") ?? "all", text = ctx.query.get("filter") ?? "";
  const wanted = ctx.query.get("shard");
  let here = true;
  const show = (id) => { ctx.put({ shard: id }); openShard(ctx, id, () => here && ctx.put({ shard: null })); };
  if (wanted !== null) ctx.soon(() => show(Number(wanted)));
  const keep = () => { ctx.put({ only: only === "all" ? null : only, filter: text || null, shard: null }); ctx.redraw(); };
  const input = make(h("input.field.narrow", { type: "search", "aria-label": "Filter by shard or node", placeholder: "Shard or node", oninput: () => { text = input.value.trim(); keep(); } }));
  input.value = text;
  return { leave: () => { here = false; }, view(m) {
    const bad = m.shards.filter((x) => x.level !== "ok"), most = Math.max(1, ...bad.map(() => 1), m.shards.reduce((a, x) => Math.max(a, x.writes ?? 0), 0)), unknown = bad.length > 0 && bad.every((x) => x.level === "quiet");
    const name = (x) => (x.leader >= 0 ? m.nodes[x.leader].name : h("span.faint", x.level === "bad" ? "none" : "unknown"));
    let rows = only === "bad" ? bad : m.shards;
    if (only === "hot") rows = [...rows].filter((x) => x.writes !== null).sort((a, b) => b.writes - a.writes).slice(0, 10);
    if (text) rows = rows.filter((x) => String(x.id) === text || x.replicas.some((r) => m.nodes[r.node]?.name === text));
    const columns = [
      { name: "State", by: (x) => RANK[x.level] * 1e6 + x.id, cell: (x) => status(x.level, x.word) },
      { name: "Shard", head: true, right: true, by: (x) => x.id, cell: (x) => String(x.id) },
      { name: "Leader", by: (x) => (x.leader >= 0 ? m.nodes[x.leader].name : ""), cell: name },
      { name: "Replicas", low: true, cell: (x) => chips(m, x) },
      { name: "Writes/s", right: true, first: -1, by: (x) => x.writes, cell: (x) => (m.cut ? none() : or(x.writes, (v) => h("span", short(v), h("span.inbar.p2", bar(v / most))))) },
      { name: "Keys", right: true, low: true, first: -1, by: (x) => x.keys, cell: (x) => or(x.keys, count) },
      { name: "Log", right: true, low: true, first: -1, by: (x) => x.bytes, cell: (x) => or(x.bytes, bytes) },
      { name: "Lag", right: true, low: true, first: -1, by: (x) => x.lag, cell: (x) => (m.cut ? none() : or(x.lag, (v) => (v ? count(v) : h("span.faint", "0")))) },
      { name: "Term", right: true, low: true, by: (x) => x.term, cell: (x) => or(x.term, count) },
      bad.length > 0 && { name: "What is wrong", low: true, cell: (x) => h("span.dim", x.level === "ok" ? "" : x.text) }].filter(Boolean);
    const all = () => { only = "all"; text = input.value = ""; keep(); };
    const nothing = h("div.empty", only === "bad" && !text ? [h("span.tint.s-ok", glyph("ok", 28)), h("h2", "Every shard is well"), h("p", "Each has a leader and all of its replicas.")] : only === "hot" && !text ? [icon("shards", 28), h("h2", "No write rates yet"), h("p", "They come with the second look at the leaders, 2 s after the first."), h("button.btn", { type: "button", onclick: all }, "Show all")] : [icon("search", 28), h("h2", "No shard fits"), h("p", "Give a shard's number, such as 12, or a node's whole name, such as ", m.me, "."), h("button.btn", { type: "button", onclick: all }, "Show all")]);
    return h("div", null,
      head("Shards", h("p", m.cut ? `As ${m.me} knows them; who leads is unknown` : unknown ? `${many(bad.length, "shard")} can't be told from here` : bad.length ? `${count(bad.length)} of ${many(m.shards.length, "shard")} ${bad.length === 1 ? "needs" : "need"} a look` : "Problems come first; there are none", h("span.dim", { role: "status" }, rows.length === m.shards.length ? "" : ` · ${count(rows.length)} of ${count(m.shards.length)} shown`)),
        pick("Show", [["all", `All ${count(m.shards.length)}`], ["bad", `Not well ${count(bad.length)}`], ["hot", "10 most written"]], only, (k) => { only = k; keep(); }), input),
      h("section", { class: `panel ${m.cut || m.old ? "is-stale" : ""}`, "aria-label": "Shards" }, rows.length ? table({ label: "Shards", rows, columns, key: (x) => x.id, sort: only === "hot" ? [4, -1] : [0, 1], height: Math.max(320, ctx.high - 148), onopen: (x) => show(x.id) }) : nothing));
  } };
}

const SLICES = 256;
/** Cells in one array, the columns to the right end, and what the hottest step begins under: twice the last but one of its seven. */
function cellsOf(data) {
  const columns = data.steps, cells = new Float32Array(SLICES * columns).fill(NaN);
  let top = 0;
  data.cells.forEach((list, b) => list.forEach((v, k) => { if (v === null) return; cells[b * columns + columns - list.length + k] = v; if (v > top) top = v; }));
  return { cells, columns, top };
}

export function heatPage(ctx) {
  const wanted = ctx.query.get("shard");
  let slice = null, text = "";
  return { view(m) {
    const w = ctx.want("/console/heat", 10_000), n = m.shards.length, of = (b) => m.shards[Math.min(n - 1, Math.floor((b / SLICES) * n))];
    const says = head("Heat", "256 slices of the ring, 10 minutes in steps of 10 s, estimated from samples");
    if (w.data === null) return h("div", says, asked("Operations by ring position", w, m.me, () => null));
    const d = ctx.memo("heat", w.data, () => cellsOf(w.data)), step = w.data.step_ms / 1000;
    if (d.top === 0) return h("div", says, h("section.panel", { "aria-label": "Heat" }, empty("heat", "No traffic in the last 10 minutes", "The map fills by itself, every 10 s, as soon as keys are read or written.")));
    const describe = (b, t, v) => { const x = of(b), leader = x.leader >= 0 ? m.nodes[x.leader].name : x.level === "bad" ? "no leader" : "leader unknown"; return `Slice ${b.toString(16).padStart(2, "0")}, shard ${x.id}, ${leader}, ${back((d.columns - 1 - t) * step)}: ${v === v ? `${short(v)} operations/s` : "not known"}`; };
    const onpick = (b, says2) => { if (b !== slice || says2 !== text) { slice = b; text = says2; ctx.soon(ctx.redraw); } };
    const map = h("kv-heat", { "aria-label": "Heat by ring position and time", set: { data: { cells: d.cells, top: d.top, columns: d.columns, shards: n, step, describe, onpick, at: wanted === null ? null : Math.floor((Number(wanted) / n) * SLICES) } } });
    const x = slice === null ? null : of(slice), rate = (b) => { const list = w.data.cells[b]; return list.length ? list.at(-1) : null; };
    let side = null;
    if (x) {
      const from = Math.floor((x.id * SLICES) / n), to = Math.max(from + 1, Math.floor(((x.id + 1) * SLICES) / n)), all = w.data.cells.reduce((a, list) => a + (list.at(-1) ?? 0), 0);
      let sum = null; for (let b = from; b < to; b += 1) if (rate(b) !== null) sum = (sum ?? 0) + rate(b);
      const top = w.data.top?.filter((k) => k.shard === x.id) ?? [], hot = top[0]?.share >= .4 ? top[0] : null;
      side = [facts([["Leader", x.leader >= 0 ? h("span.row", chip(m.nodes[x.leader]), m.nodes[x.leader].name) : x.level === "bad" ? "none" : "unknown"], [n > SLICES ? "Slice" : "Operations", or(sum, (v) => `${short(v)}/s${all > 0 ? `, ${percent(v / all)} of all` : ""}`)], n <= SLICES && ["Slices", `${to - from} of ${SLICES}`], n > SLICES && ["Shards", `about ${Math.round(n / SLICES)} in this slice`]]),
        hot && note("risk", `One key is ${percent(hot.share)} of this shard.`, h("p.small", "Moving the shard moves the heat along. Split the key, or read it less often.")),
        h("h3.dim.small", "Top keys of the shard"),
        w.data.top === null ? note("", "Keys are hidden", h("p.small.dim", "You need the class read on all keys. Ask whoever holds root for: ROLE SET NAME ON PREFIX read.")) : top.length ? h("ul.list", top.slice(0, 10).map((k) => h("li", { key: shown(keyOf(k)) + k.writes }, h("div.grow", h("a.mono.small", { href: linkTo(keyOf(k)) }, shown(keyOf(k))), h("span.faint.small", k.writes ? " written" : " read"), h("div.gap-top", bar(k.share, k.share > .5 ? "risk" : "", `Share of ${shown(keyOf(k))}`))), h("span.num.small.right", percent(k.share), h("br"), h("span.faint", `${short(k.per_second)}/s`))))) : h("p.dim", "No key stands out."),
        h("a.btn.slim", { href: `#/shards?shard=${x.id}` }, "Open the shard")];
    }
    const age = w.age > 30_000 || m.cut || m.old;
    return h("div", says, h("div.cols.wide-left",
      h("section", { class: `panel ${age ? "is-stale" : ""}`, "aria-label": "Operations by ring position" }, h("header", h("h2", "Operations by ring position"), age && h("span.tag.s-risk", `as of ${ago(w.age / 1000)} ago`), h("div.end", h("span.ramp", "idle", h("span", { "aria-hidden": "true" }, [0, 1, 2, 3, 4, 5, 6].map((k) => h("i", { class: `h${k}` }))), `${short(d.top)}/s, each step doubles`))), h("div.body", h("p.num.heat-at", { "aria-hidden": "true" }, text), map)),
      h("section.panel", { "aria-label": "Shard under the cursor" }, h("header", h("h2", x ? `Shard ${x.id}` : "Shard")), h("div.body.stack", side))));
  } };
}

const TOKEN = ["c7", "c4", "c1", "c2", "c3"], FILL = TOKEN.map((t) => `n${t[1]}`);
const ROWS = [["p50", "p50"], ["p99", "p99"], ["p999", "p99.9"]];
const ANSWERED = [["lease", "Lease", "answered by the leader from memory"], ["confirmed", "Confirmed", "a quorum was asked first"], ["forwarded", "Forwarded", "passed on to another node"], ["stale", "Stale", "asked for as stale"]];

/** Bars of one write at each percentile; a stage that is not measured is said, not drawn as zero. */
function path(m) {
  const rows = ROWS.filter(([k]) => m.paths?.[k]?.some((v) => v !== null));
  if (!rows.length) return empty("performance", m.empty ? "No write yet" : "No write in the last minute", "The next one shows here, split into its stages.");
  const missing = STAGES.filter((_, i) => rows.every(([k]) => m.paths[k][i] === null)).map(([name]) => name);
  return [h("div.path", rows.map(([k, name]) => {
    const parts = m.paths[k], all = parts.reduce((a, b) => a + (b ?? 0), 0), widest = Math.max(...parts.map((v) => v ?? 0));
    return h("div.run", h("b", name), h("div.segs", { role: "img", "aria-label": `${name}: ${parts.map((v, i) => `${STAGES[i][0]} ${v === null ? "not measured" : ms(v)}`).join(", ")}` }, parts.map((v, i) => v !== null && v > 0 && h("span", { key: i, class: `${FILL[i]} ${v / all < .2 ? "thin" : ""}`, css: { flex: `${(v / all).toFixed(4)} 1 0` } }, v / all > .055 ? (v === widest ? ms(v) : ms(v).replace(/ (ms|µs)$/, (u) => (ms(widest).endsWith(u.trim()) ? "" : u))) : ""))), h("b", ms(all)));
  })), h("ul.stages", STAGES.map(([name, what], i) => h("li", h("b", h("span", { class: `sw ${FILL[i]}` }), name, h("span.num", or(m.paths[rows[0][0]][i], ms))), what))), missing.length > 0 && h("p.dim.small.gap-top", `Not measured by this program: ${missing.join(", ")}.`)];
}

export function performancePage(ctx) {
  let wide = ctx.query.get("window") === "6h";
  return { view(m) {
    const w = wide ? ctx.want("/console/history", 60_000) : null, L = w?.data ? ctx.memo("history", w.data, () => { const f = sixHours(w.data), known = new Map(); return (name) => { if (!known.has(name)) known.set(name, f(name)); return known.get(name); }; }) : m.line, step = w?.data ? 60 : 5, span = w?.data ? "6 hours" : "15 minutes";
    const reads = m.reads ? ANSWERED.filter(([k]) => m.reads[k] !== undefined) : [], total = reads.reduce((a, [k]) => a + m.reads[k], 0);
    const has = (name) => L(name).some((v) => v === v), now = (name) => last(m.line(name));
    const lines = { label: `Latency of writes, ${span}`, log: true, format: ms, step, mark: wide ? -1 : m.mark, nothing: "No write in this window", series: [["p50", "write_p50", "c1"], ["p99", "write_p99", "c2", "dash"], ["p99.9", "write_p999", "c7", "dot"]].map(([name, k, token, dash]) => ({ name, values: L(k), token, dash })) };
    const readLines = { label: `Latency of reads, ${span}`, log: true, format: ms, step, mark: wide ? -1 : m.mark, nothing: "No read in this window", series: [["p50", "read_p50", "c1"], ["p99", "read_p99", "c2", "dash"]].map(([name, k, token, dash]) => ({ name, values: L(k), token, dash })) };
    const stages = { label: `Stages of a write, ${span}`, stacked: true, format: ms, step, nothing: "No write in this window", series: STAGES.map(([name], i) => [name, TOKEN[i]]).filter(([name]) => has(name) || name === "queue").map(([name, token]) => ({ name, values: L(name), token })) };
    const slow = m.slow === null ? empty("performance", "Nothing is recorded", "slow_ms is 0 in the configuration of this node.") : m.slow.length ? table({ label: "Slow operations", rows: m.slow, key: (r) => r.n, sort: [1, -1], height: 440, columns: [
      { name: "Operation", head: true, by: (r) => r.operation, cell: (r) => r.operation }, { name: "Took", right: true, first: -1, by: (r) => r.took_us, cell: (r) => ms(r.took_us / 1000) }, { name: "Mostly in", by: (r) => r.mostly, cell: (r) => or(r.mostly, String) }, { name: "Shard", right: true, by: (r) => r.shard, cell: (r) => or(r.shard, String) },
      { name: "Node", low: true, by: (r) => r.node, cell: (r) => or(typeof r.node === "number" ? m.nodes[r.node]?.name : r.node, String) }, { name: "Key's hash", low: true, cell: (r) => or(r.hash, (v) => h("code", v)) }, { name: "Trace", low: true, cell: (r) => or(r.trace, (v) => h("span.row", h("code", v.length > 14 ? `${v.slice(0, 8)}…${v.slice(-4)}` : v), copy(v))) }, { name: "When", right: true, low: true, first: -1, by: (r) => r.at_ms, cell: (r) => h("span", { title: clock(r.at_ms, m.now) }, `${ago((m.now - r.at_ms) / 1000)} ago`) }] }) : empty("performance", "Nothing slow", `Operations of ${ms(m.slowMs)} or more appear here.`);
    const note = w && !w.data ? h("span.dim.small", { role: "status" }, w.error ? w.error.message : `Asking ${m.me} for 6 hours…`) : null;
    return h("div", { class: m.old ? "is-stale" : "" },
      head("Performance", m.cut ? `${m.me} only; it hears no other node` : `Of clients at ${m.me}. Other nodes: open their console`, note, pick("Window", [[false, "15 min"], [true, "6 h"]], wide, (v) => { wide = v; ctx.put({ window: v ? "6h" : null }); ctx.redraw(); })),
      h("div.cols.wide-left.even", panel("Where a write's time goes", h("span.dim.small", "last minute, shares at each percentile"), path(m)),
        panel("How reads were answered", null, total > 0 ? h("ul.list", reads.map(([k, name, what]) => h("li", h("div.grow", h("b", name), h("p.dim.small", what)), h("span.num", percent(m.reads[k] / total))))) : empty("keys", "No read in the last minute"))),
      h("div.cols.two", panel("Write latency", h("span.dim.small", "logarithmic"), chart(lines, 240)), panel("Read latency", h("span.dim.small", "logarithmic"), chart(readLines, 240))),
      h("div.cols", panel("Stages of a write over time", h("span.dim.small", "means, stacked"), chart(stages, 240))),
      h("div.tiles.four",
        tile("Journal rounds per second", "#/node", or2(now("rounds"), short), "each is one sync for all shards", m.line("rounds")),
        tile("Journal sync, p99", "#/node", or2(now("sync_p99"), ms), `disk of ${m.me}`, m.line("sync_p99"), "c2"),
        tile("Requests per entry", "#/performance", or2(now("per_entry"), (v) => v.toFixed(1)), "writes that share one round", m.line("per_entry"), "c3"),
        tile("Refused as Overloaded", "#/performance", or2(now("shed"), (v) => `${short(v)} /s`), m.totals.queue ? `fullest queue ${percent(m.totals.queue.queue)}, ${m.totals.queue.name}` : "queues not known", m.line("shed"), "bad", 1)),
      sheet("Slow operations", `${m.slow ? `${ms(m.slowMs)} or more; ` : ""}keys are never shown, only their hash`, slow));
  } };
}
const or2 = (v, how) => (v === v ? how(v) : "—");

// Shell: routes, navigation, keyboard, theme, clock. A page is a function of the context that gives {view(model), edit?, leave?}.
import { h, fill, icon, glyph, logo, forgetColors } from "./lib/dom.js";
import { ago, clock } from "./lib/format.js";
import { Live, Store, ask, whenLoggedOut } from "./data/node.js";
import { model } from "./data/model.js";
import { palette, keymap, toast, follow, closeAll } from "./ui/layers.js";
import "./ui/chart.js";
import { overviewPage, clusterPage, shardsPage, heatPage, performancePage } from "./pages/observe.js";
import { keysPage, watchPage } from "./pages/keyspace.js";
import { nodePage, jobsPage, securityPage, apiPage, login } from "./pages/operate.js";

/** path, name, letter after g, page */
const PAGES = [["overview", "Overview", "o", overviewPage], ["cluster", "Cluster", "c", clusterPage], ["shards", "Shards", "s", shardsPage], ["heat", "Heat", "h", heatPage], ["performance", "Performance", "p", performancePage], ["keys", "Keys", "k", keysPage], ["watch", "Watch", "w", watchPage], ["node", "Node", "n", nodePage], ["jobs", "Jobs", "j", jobsPage], ["security", "Security", "y", securityPage], ["api", "API", "a", apiPage]];
const GROUPS = [["Observe", 0, 5], ["Data", 5, 7], ["Operate", 7, 11]], BELOW = [0, 1, 2, 5];
const NODES_TRACED = 12, TRACE_MAX = 60, TRACE_MS = 2000;

const root = document.getElementById("app"), html = document.documentElement, params = new URLSearchParams(location.search);
let before = null, page = null, at = 0, routes = 0, timed = null, entered = 0, broken = "";
const after = [], memos = new Map(), traces = [];

// Drawing: at most once a frame, and not while nobody sees the tab.
let due = false;
function redraw() { if (due) return; due = true; requestAnimationFrame(() => { due = false; draw(); }); }
const live = new Live(() => { trace(); redraw(); }), store = new Store(redraw);

/** Operations of single nodes since this tab looks: the state has them only as of now. */
let tracedAt = -Infinity;
function trace() {
  const raw = live.raw, now = performance.now();
  if (!raw || raw.nodes.length > NODES_TRACED || now - tracedAt < TRACE_MS) return;
  tracedAt = now;
  raw.nodes.forEach((n, i) => { const t = (traces[i] ??= []), heard = raw.heard_ms?.[i]; t.push(n.ops == null || heard === null || heard > 5000 ? NaN : n.ops); if (t.length > TRACE_MAX) t.shift(); });
}

const ctx = {
  model: null, query: new URLSearchParams(), store, redraw, high: innerHeight,
  go: (to) => { if (location.hash === to) route(true); else location.hash = to; },
  want: (path, every) => store.want(path, every),
  /** Runs once the page is drawn. */
  soon: (what) => { after.push(what); redraw(); },
  /** `make()`, made anew only if `of` is another one. */
  memo(name, of, make) { const m = memos.get(name); if (m && m.of === of) return m.value; const value = make(); memos.set(name, { of, value }); return value; },
  trace: (i) => traces[i] ?? [],
  /** Says in the address what the page shows; null takes a part out. */
  put(parts) { for (const [k, v] of Object.entries(parts)) if (v === null) ctx.query.delete(k); else ctx.query.set(k, v); const q = ctx.query.toString(); history.replaceState(null, "", `${location.pathname}${location.search}#/${PAGES[at][0]}${q ? `?${q}` : ""}`); },
};

const dark = () => (html.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
function turn(to = dark() ? "light" : "dark") { html.dataset.theme = to; params.set("theme", to); history.replaceState(null, "", `?${params}${location.hash}`); forgetColors(); dispatchEvent(new Event("kv-theme")); }
if (["dark", "light"].includes(params.get("theme"))) html.dataset.theme = params.get("theme");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forgetColors(); dispatchEvent(new Event("kv-theme")); });
/** Somebody else looks, or nobody: what was told to one is not for the next. */
function anew() { store.clear(); live.start(); }
async function signOut() { try { await ask("/console/logout", { method: "POST" }); } catch (error) { toast("bad", error.message); } anew(); }

/** What the palette finds: pages, nodes, a shard by number, a key by its exact name, commands. */
function find(text) {
  const t = text.toLowerCase(), out = [], m = ctx.model;
  for (const [path, name, key] of PAGES) if (!t || name.toLowerCase().includes(t)) out.push({ icon: path, name, hint: `g ${key}`, go: () => ctx.go(`#/${path}`) });
  const digits = t.match(/^(?:shard\s*)?(\d+)$/);
  if (digits && m && Number(digits[1]) < m.shards.length) out.unshift({ icon: "shards", name: `Shard ${Number(digits[1])}`, hint: "shard", go: () => ctx.go(`#/shards?shard=${Number(digits[1])}`) });
  if (t && m) for (const n of m.nodes.filter((x) => x.name.toLowerCase().includes(t)).slice(0, 6)) out.push({ icon: "node", name: n.name, hint: [n.zone && `zone ${n.zone}`, n.word.toLowerCase()].filter(Boolean).join(", "), go: () => ctx.go(`#/node?node=${encodeURIComponent(n.name)}`) });
  if (!t || "theme dark light".includes(t)) out.push({ icon: "theme", name: "Change theme", hint: "t", go: () => turn() });
  if (live.required && (!t || "sign out".includes(t))) out.push({ icon: "security", name: "Sign out", hint: m?.rights.name ?? "", go: signOut });
  if (t) out.push({ icon: "keys", name: `Look up the key ${text}`, hint: "key", go: () => ctx.go(`#/keys?key=${encodeURIComponent(text)}`) });
  return out;
}
const search = () => palette(find);
const help = () => keymap([["/", "Find: page, node, shard, key"], ...PAGES.map(([, name, key]) => [`g ${key}`, name]), ["j k", "Next, last row"], ["↵", "Open the row"], ["← →", "Ring, charts, heat: step"], ["e", "Edit the value shown"], ["t", "Dark or light"], ["esc", "Close"], ["?", "This list"]]);

let form = null;
whenLoggedOut(() => { if (live.phase !== "login") anew(); });

function strips(m) {
  const out = [], strip = (level, ...text) => h("div", { class: `strip s-${level}`, role: "status" }, glyph(level === "quiet" ? "risk" : level, 16), h("span", text));
  if (live.phase === "lost" || m.old) out.push(strip("risk", `${m.me} does not answer this page for ${ago((live.age ?? 0) / 1000)}. What you see is as of then; it is asked again every second or two.`));
  else if (m.cut) out.push(strip("risk", `You see ${m.me}'s own memory: it hears none of the other nodes.`));
  else if (m.said && !m.said.spoken_for) out.push(strip("risk", "Nobody speaks for the ring map: no quorum of its group is heard. What changes the cluster is refused until there is one."));
  return out;
}
function frame(content) {
  const m = ctx.model, v = m.verdict, here = (i) => (i === at ? "page" : null), count = m.alarms.length;
  const age = m.old || live.phase === "lost" ? `${ago(live.age / 1000)} old` : null, seconds = Math.floor((live.age ?? 0) / 1000);
  const links = PAGES.map(([path, name, key], i) => h("a", { href: `#/${path}`, title: name, "aria-current": here(i) }, icon(path), h("span.lbl", name), i === 0 && count > 0 ? h("span", { class: `count s-${m.alarms[0].level}` }, String(count), h("span.sr", count === 1 ? " alarm" : " alarms")) : h("kbd", { "aria-hidden": "true" }, `g ${key}`)));
  return h("div.shell", { key: "shell" },
    h("header.top", h("div.where", h("span.cl.clip", m.cluster.name), h("span.cl.faint", "/"), h("span", PAGES[at][1])), h("button.find", { type: "button", "aria-label": "Find: page, node, shard, key", onclick: search }, icon("search"), h("span.grow.clip", "Page, node, shard, key"), h("kbd", { "aria-hidden": "true" }, "/")),
      h("span", { class: `live ${age ? "stale" : ""}` }, h("i"), age ? h("span", age) : h("span", "live", h("span.long", `, ${seconds} s`))),
      h("a", { class: `pill s-${v.level}`, href: "#/overview", "aria-label": `Verdict: ${v.word}` }, glyph(v.level, 15), v.word), h("button.btn.ghost.icon.desk", { type: "button", "aria-label": "Dark or light", onclick: () => turn() }, icon("theme"))),
    h("nav.side", { "aria-label": "Pages" }, h("a.brand", { href: "#/overview", "aria-label": "Kvorum, overview" }, logo(), h("span.lbl", "Kvorum")), h("div.nav", GROUPS.map(([name, a, b]) => [h("h2", name), links.slice(a, b)])),
      h("footer", h("span.clip", `Seen by ${m.me}`), m.rights.open ? h("span.faint", "open to everybody") : h("span.clip", { title: m.rights.untilMs ? `until ${clock(m.rights.untilMs, m.now)}` : null }, `Signed in as ${m.rights.name ?? "?"}`), !m.rights.open && m.rights.untilMs !== null && h("button.linkish", { type: "button", onclick: signOut }, "Sign out"), h("span.faint", m.cluster.version))),
    h("div.strips", strips(m)),
    h("main", { id: "main", key: `main${routes}`, tabindex: -1 }, content),
    h("nav.tabs", { "aria-label": "Main pages" }, BELOW.map((i) => h("a", { href: `#/${PAGES[i][0]}`, "aria-current": here(i) }, icon(PAGES[i][0], 20), PAGES[i][1])), h("button", { type: "button", onclick: search }, icon("more", 20), "More")));
}
/** What stands there while nothing is known. */
function alone() {
  const slow = performance.now() > 300;
  const box = (...what) => h("main.login", { id: "main", key: "alone", tabindex: -1 }, h("section.panel", { "aria-label": "Kvorum" }, h("div.row", logo(28), h("h1", "Kvorum")), what));
  if (live.phase === "login") { form ??= login(redraw, () => { form = null; anew(); }); return form(); }
  if (live.phase === "refused") return box(h("div.note.s-bad", { role: "alert" }, glyph("bad", 16), h("div.grow", h("b", "You may not see this cluster"), h("p", live.why), h("p.small", "You need the class status. Ask whoever holds root."))), h("button.btn", { type: "button", onclick: signOut }, "Sign out"));
  if (live.phase === "lost") return box(h("div.note.s-bad", { role: "alert" }, glyph("bad", 16), h("div.grow", h("b", `${location.host} does not answer`), h("p", live.why), h("p.small", "It is asked again every second or two. Or open the console of another node."))), h("button.btn", { type: "button", onclick: () => live.start() }, icon("refresh", 13), "Try again"));
  return box(h("p.dim.waiting", { role: "status" }, slow ? `Asking ${location.host}…` : ""));
}
function draw() {
  const began = performance.now();
  ctx.high = innerHeight;
  if (!live.raw || live.phase === "refused") { before = ctx.model = null; page = null; fill(root, [alone()]); document.title = "Kvorum"; return; }
  const m = ctx.model = before = model(live.raw, { ageMs: live.age ?? 0, last: before });
  if (!page) { enter(); entered = began; }
  let content;
  try { content = page.view(m); }
  catch (error) { content = h("section.panel", h("div.empty", { role: "alert" }, h("span.tint.s-bad", glyph("bad", 30)), h("h2", "The console failed"), h("p", failure(error.message)))); if (broken !== error.message) { broken = error.message; console.error(error); } }
  fill(root, [frame(content)]);
  const v = m.verdict;
  document.title = `${v.level === "ok" ? "" : `${v.word}: `}${PAGES[at][1]} · ${m.cluster.name} · Kvorum`;
  follow();
  if (timed) {
    // Drawing happens in a frame; the next task comes after that frame is painted.
    const name = timed, start = entered;
    timed = null;
    setTimeout(() => { performance.measure(`page ${name}`, { start }); html.dataset.took = (performance.now() - start).toFixed(1); html.dataset.page = name; });
  }
  for (const what of after.splice(0)) what();
}
function enter() {
  page?.leave?.();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  at = Math.max(0, PAGES.findIndex((p) => p[0] === path)); ctx.query = new URLSearchParams(query); timed = PAGES[at][0]; entered = performance.now();
  routes += 1; memos.clear(); broken = "";
  page = PAGES[at][3](ctx);
}
function route(moved) {
  closeAll();
  if (!ctx.model) return;
  enter();
  if (moved) after.push(() => { scrollTo(0, 0); document.getElementById("main")?.focus({ preventScroll: true }); });
  redraw();
}
addEventListener("hashchange", () => route(true));
addEventListener("resize", redraw);
document.querySelector(".skip")?.addEventListener("click", (e) => { e.preventDefault(); document.getElementById("main")?.focus(); });
const failure = (text) => `${text}. Reload the page; the cluster is not touched.`;
addEventListener("error", (e) => toast("bad", failure(`The console failed: ${e.message}`)));
addEventListener("unhandledrejection", (e) => toast("bad", failure(`The console failed: ${e.reason?.message ?? e.reason}`)));

let second = 0;
addEventListener("keydown", (e) => {
  const typing = e.target instanceof Element && e.target.closest("input, textarea, select, dialog"), main = document.getElementById("main");
  if (!ctx.model) return;
  if ((e.key === "k" && (e.ctrlKey || e.metaKey)) || (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey)) { e.preventDefault(); if (!document.querySelector("dialog")) search(); return; }
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  if (Date.now() - second < 1200) { second = 0; const p = PAGES.find((x) => x[2] === e.key); if (p) { e.preventDefault(); ctx.go(`#/${p[0]}`); return; } }
  if (e.key === "g") second = Date.now();
  else if (e.key === "?") help();
  else if (e.key === "t") turn();
  else if (e.key === "j" || e.key === "k") [...main.querySelectorAll("kv-table")].find((x) => x.now?.onopen)?.go(e.key === "j" ? 1 : -1);
  else if (e.key === "e" && page?.edit) { e.preventDefault(); page.edit(); }
});

// The clock: what comes by itself is drawn when it comes; what does not come grows old.
setInterval(() => { store.sweep(); if (live.age === null || live.age > 1500 || live.phase !== "live") redraw(); }, 1000);
setTimeout(redraw, 320);
redraw();
live.start();

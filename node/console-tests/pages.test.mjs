// Every page is described in every state of the sample, and changed to every other one, without a browser.
import test from "node:test";
import assert from "node:assert/strict";
import "./little-dom.mjs";
import { Sample, UGLY } from "./contract.mjs";
import { h, s, make, patch, fill } from "../console/lib/dom.js";
import { model } from "../console/data/model.js";
const observe = await import("../console/pages/observe.js"), keyspace = await import("../console/pages/keyspace.js"), operate = await import("../console/pages/operate.js");

const STATES = ["healthy", "healing", "atrisk", "unavailable", "noquorum", "empty"], PAGES = { ...observe, ...keyspace, ...operate }, NAMES = Object.keys(PAGES).filter((n) => n.endsWith("Page"));
const answers = (sample) => ({ "/console/heat": sample.heat(), "/console/jobs": sample.jobs(), "/console/node": sample.process(), "/console/security": sample.security(false), "/console/history": { step_ms: 10_000, to_ms: 1e12, get: [1, null, 2] } });
function context(sample, how = {}) {
  const all = answers(sample);
  return { model: null, query: new URLSearchParams(how.query ?? ""), store: { stale() {} }, redraw() {}, high: 900, go() {}, put() {}, soon() {}, trace: () => [1, NaN, 2], memo: (_, __, f) => f(), want: (path) => how.want?.(path) ?? { data: all[path] ?? null, error: null, age: 10, slow: false, again() {} } };
}
const draw = (page, m) => page.view(m);

test("eleven pages and the login", () => { assert.equal(NAMES.length, 11); assert.equal(typeof PAGES.login, "function"); });
for (const name of NAMES) test(`${name} is drawn in every state, and from one into the next`, () => {
  let el = null;
  for (const state of STATES) for (const how of [{}, { query: "node=node-5&only=bad&window=6h" }, { want: () => ({ data: null, error: null, age: null, slow: true, again() {} }) }, { want: () => ({ data: null, error: Object.assign(new Error("It broke."), { status: 500 }), age: null, slow: false, again() {} }) }]) {
    const sample = new Sample({ state }), ctx = context(sample, how), m = ctx.model = model(sample.state(false), { ageMs: how.query ? 20_000 : 0 }), page = PAGES[name](ctx), v = draw(page, m);
    if (el) patch(el, v); else el = make(v);
    const anew = make(draw(page, m)).textContent.replace(/\d+/g, "0");
    // A log line or a field that keeps its identity is moved to where it was drawn last.
    if (!/nodePage|keysPage|shardsPage|heatPage/.test(name)) assert.equal(el.textContent.replace(/\d+/g, "0"), anew, `${state}: changed and made anew are the same`);
    assert.doesNotMatch(el.textContent, /undefined|NaN|\[object|null\b/, `${name} ${state}`);
    assert.equal(el.all((n) => n.tag === "h1").length, 1);
    page.leave?.();
  }
});
test("many nodes and shards stay below 2,000 elements", () => {
  for (const name of NAMES) { const sample = new Sample({ state: "healing", nodes: 100, shards: 4096 }), ctx = context(sample), m = ctx.model = model(sample.state(true), { ageMs: 0 }), n = make(draw(PAGES[name](ctx), m)).all(() => true).length; assert.ok(n < 2000, `${name}: ${n}`); }
});
test("a key that looks like markup is a text", () => {
  const sample = new Sample({}), ctx = context(sample), raw = sample.state(true);
  raw.nodes[0].name = UGLY; raw.alarms[0].title = UGLY; raw.events[0].text = UGLY;
  const m = ctx.model = model(raw, { ageMs: 0 });
  for (const name of ["overviewPage", "clusterPage", "securityPage", "heatPage"]) { const el = make(draw(PAGES[name](ctx), m)); assert.equal(el.all((n) => n.tag === "img").length, 0); if (name !== "heatPage") assert.ok(el.textContent.includes(UGLY), name); }
});
test("changing keeps elements, their order by key, and the newest listener", () => {
  const said = [], view = (list, word) => h("ul.a", list.map((k) => h("li", { key: k, onclick: () => said.push(word + k) }, h("b", k), " ", word)));
  const el = make(view(["x", "y", "z"], "one")), [x, y, z] = el.children;
  patch(el, view(["z", "x", "w"], "two"));
  assert.equal(el.children[0], z); assert.equal(el.children[1], x); assert.equal(y.parentNode, null); assert.equal(el.textContent, "z twox twow two");
  x.dispatch("click"); assert.deepEqual(said, ["twox"]);
  fill(el, []); assert.equal(el.childNodes.length, 0);
  const box = make(h("div.b", { class: "c", title: "t" }, s("svg.d"), null, false, "", 0)); assert.equal(box.getAttribute("class"), "b c"); assert.equal(box.textContent, "0"); patch(box, h("div.b", "only")); assert.equal(box.getAttribute("title"), null); assert.equal(box.textContent, "only");
});

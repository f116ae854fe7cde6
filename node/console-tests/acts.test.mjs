// The acts of the page Keys, and what a table and a log do, against the mock but without a browser.
import test from "node:test";
import assert from "node:assert/strict";
import { setTimeout as after } from "node:timers/promises";
import "./little-dom.mjs";
import { server } from "./mock.mjs";
import { Sample, UGLY } from "./contract.mjs";
import { make, patch } from "../console/lib/dom.js";
import { model } from "../console/data/model.js";
const { keysPage } = await import("../console/pages/keyspace.js"), { nodePage } = await import("../console/pages/operate.js");

await new Promise((done) => server.listen(0, "127.0.0.1", done));
const base = `http://127.0.0.1:${server.address().port}`, real = globalThis.fetch;
globalThis.fetch = (path, how = {}) => { const { credentials, cache, redirect, ...rest } = how; return real(new URL(path, base), { ...rest, headers: { ...rest.headers, referer: `${base}/?state=healthy&run=${globalThis.run}` } }); };
test.after(() => { server.close(); server.closeAllConnections(); });

/** A page as the shell shows it. */
function show(page, query, run) {
  globalThis.run = run;
  const m = model(new Sample({}).state(true), { ageMs: 0 });
  const ctx = { model: m, query: new URLSearchParams(query), store: { stale() {} }, high: 900, go() {}, put() {}, soon: (f) => f(), trace: () => [], memo: (_, __, f) => f(), want: () => ({ data: null, error: null, age: 1 }), redraw: () => el && patch(el, shown.view(m)) };
  let el = null; const shown = page(ctx); el = make(shown.view(m));
  const words = () => `${el.textContent} ${document.body.textContent}`;
  return { el, words, page: shown,
    async says(text) { for (let i = 0; i < 200; i += 1) { if (words().includes(text)) return; await after(10); } assert.fail(`not said: ${text}\n${words()}`); },
    button: (name, where = el) => where.find((n) => n.tag === "button" && n.textContent === name) ?? assert.fail(`no button ${name}`), press(name) { this.button(name).dispatch("click"); }, submit() { el.find((n) => n.tag === "form" && n.getAttribute("class") === "edit").dispatch("submit"); }, area: () => el.find((n) => n.tag === "textarea") };
}
const put = (key, value) => fetch("/kv", { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify({ data: { key, value } }) });

test("a value is read, edited, and not saved over what someone else wrote", async () => {
  const t = show(keysPage, "key=cart:{8841}", "edit");
  await t.says("version 48,211"); await t.says("from memory, under the lease"); assert.ok(t.words().includes('"Espresso cup, 80 ml"'));
  t.press("Edit"); t.area().value = '{"id":"mine"}'; await put("cart:{8841}", '{"id":"theirs"}'); t.submit();
  await t.says("Not saved: someone was faster."); assert.equal(t.area().value, '{"id":"mine"}', "the text stays");
  t.press("Show the difference"); await t.says('- {"id":"theirs"}'); assert.ok(t.words().includes('+ {"id":"mine"}'));
  t.el.find((n) => n.tag === "button" && n.textContent.startsWith("Save over")).dispatch("click");
  await t.says("Saved as version"); await t.says('"id": "mine"');
});
test("a key that is not there is created, and deleted once its name is typed", async () => {
  const t = show(keysPage, "key=nobody", "create");
  await t.says("No such key"); t.press("Create it"); t.area().value = "new"; t.submit(); await t.says("synced by a quorum"); await t.says("3 B");
  t.press("Delete"); const dialog = document.body.find((n) => n.tag === "dialog"), typed = dialog.find((n) => n.tag === "input"), go = t.button("Delete key", dialog);
  assert.equal(go.getAttribute("disabled"), "");
  typed.value = "nobod"; typed.dispatch("input"); assert.equal(go.disabled, true); typed.value = "nobody"; typed.dispatch("input"); assert.equal(go.disabled, false);
  dialog.find((n) => n.tag === "form").dispatch("submit"); await t.says("nobody is deleted."); await t.says("No such key");
});
test("bytes open as hex, large values in part, empty ones as empty, markup as text", async () => {
  for (const [key, text] of [["photo:1", "00000000  0d"], ["large:1", "The first 64.0 KiB of"], ["blank", "The value is empty."], [UGLY, UGLY]]) { const t = show(keysPage, new URLSearchParams({ key }).toString(), "kinds"); await t.says(text); assert.equal(t.el.all((n) => n.tag === "img").length, 0); if (key === "photo:1") assert.equal(t.button("Edit").getAttribute("aria-disabled"), "true"); }
});
test("a write whose answer does not come is called unknown, and sent again under its name", async () => {
  const t = show(keysPage, "key=slow:1", "unknown");
  await t.says("No such key"); t.press("Create it"); t.area().value = "x"; t.submit(); await t.says("Not known whether it was saved"); t.button("Save again");
});
test("a prefix is looked for page by page, and says how far it is", async () => {
  const t = show(keysPage, "prefix=cart:", "browse");
  t.el.find((n) => n.tag === "form" && n.textContent.includes("Look")).dispatch("submit");
  t.el.all((n) => n.tag === "form").at(-1).dispatch("submit");
  await t.says("Looked at all keys: 12 found."); t.el.find((n) => n.tag === "button" && n.textContent === "cart:{5512}").dispatch("click"); await t.says('"id": "cart:{5512}"'); t.page.leave();
});
test("the log's lines are shown once, by level", async () => {
  const t = show(nodePage, "", "log");
  await t.says("compaction begins"); const n = t.words().split("compaction begins").length; t.press("Warnings"); await t.says("slow sync"); assert.equal(n, 2); assert.ok(!t.words().includes("compaction begins"));
});

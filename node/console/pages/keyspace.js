// The pages of the data: Keys, Watch.
import { ask, url } from "../data/node.js";
import { base64, difference, hexDump, keyOf, layOut, named, pieces, sameKey, shown, sizeOf, tagOf, textOf } from "../data/bytes.js";
import { bar, chip, empty, facts, glyph, h, head, icon, make, note, or, panel, pick, status } from "../lib/dom.js";
import { ago, bytes, clock, count, many, ms, percent, short } from "../lib/format.js";
import { command, confirm, copy, toast } from "../ui/layers.js";
import { act } from "../ui/parts.js";

/** A value up to this is shown whole; of a larger one the first bytes. */
const WHOLE_MAX = 256 * 1024, FIRST = 64 * 1024, VALUE_MAX = 16 * 1024 * 1024;
const FOUND_MAX = 400, PAGE = 100, LOOK_MS = 2000;
const TABS = ["JSON", "Text", "Hex"];
const once = () => base64(crypto.getRandomValues(new Uint8Array(16)));

export function keysPage(ctx) {
  const q = ctx.query, at = q.get("key") !== null ? { text: q.get("key") } : q.get("key64") ? { base64: q.get("key64") } : null;
  let key = null, got = { is: "none" }, explained = null, tab = null, edit = null, mode = q.get("read") === "stale" ? "stale" : "linearizable", run = 0;
  let look = { prefix: q.get("prefix") ?? "", found: [], cursor: null, begun: false, ended: false, busy: false, error: null, shard: null, shards: null };
  const input = make(h("input.field", { name: "key", "aria-label": "Key", placeholder: "Exact key, such as cart:{8841}", autocomplete: "off", spellcheck: "false", autocapitalize: "off" }));
  const prefix = make(h("input.field.mono", { "aria-label": "Prefix", spellcheck: "false", autocomplete: "off", placeholder: "Prefix; empty for all" }));
  prefix.value = look.prefix;
  const put = () => ctx.put({ key: key?.text ?? null, key64: key?.base64 ?? null, prefix: look.prefix || null, read: mode === "stale" ? "stale" : null, new: null });

  /** Reads a key: its bytes with what the headers say of them, and where it lives. */
  async function open(k, how = mode) {
    if (edit && !edit.busy && edit.area.value !== edit.text) { confirm({ title: "Leave your text?", verb: "Leave it", says: h("p", "What you typed is not saved."), run: async () => { edit = null; open(k, how); return ""; } }); return; }
    const mine = run += 1;
    if (!sameKey(k, key)) { tab = null; explained = null; }
    key = k; edit = null; input.value = k.text ?? shown(k); got = { is: "asking" }; put(); ctx.redraw();
    explain(k, mine);
    const began = performance.now();
    try {
      const path = url("/kv", { ...named(k), consistency: how === "stale" ? "stale" : null }), headers = { accept: "application/octet-stream" };
      let r;
      try { r = await ask(path, { raw: true, headers: { ...headers, range: `bytes=0-${WHOLE_MAX - 1}` } }); } catch (error) { if (error.status !== 416) throw error; r = await ask(path, { raw: true, headers }); }
      const data = new Uint8Array(await r.arrayBuffer()), took = performance.now() - began;
      if (mine !== run) return;
      const size = Number(r.headers.get("content-range")?.split("/")[1] ?? data.length), whole = size <= data.length, expires = r.headers.get("kvorum-expires-at");
      const seen = whole ? data : data.subarray(0, FIRST), text = textOf(whole ? data : cut(seen));
      got = { is: "found", bytes: seen, size, whole, text, nice: whole && text !== null ? layOut(text) : null, version: Number(r.headers.get("kvorum-version")), source: r.headers.get("kvorum-source"), expires: expires === null ? null : Number(expires), took, stale: how === "stale" };
      tab = tab && (tab !== "JSON" || got.nice !== null) && (tab !== "Text" || text !== null) ? tab : got.nice !== null && /^\s*[[{]/.test(text) ? "JSON" : text !== null ? "Text" : "Hex";
    } catch (error) {
      if (mine !== run) return;
      got = error.status === 404 && error.code === "not-found" ? { is: "absent", stale: how === "stale" } : { is: error.status === 503 || error.status === 504 || error.status === 0 ? "lost" : "failed", error };
    }
    ctx.redraw();
  }
  /** Up to three bytes of a letter that the end cuts are left out. */
  const cut = (b) => { let n = b.length; while (n > b.length - 3 && (b[n - 1] & 0xc0) === 0x80) n -= 1; if (b[n - 1] >= 0xc0) n -= 1; return textOf(b) !== null ? b : b.subarray(0, n); };
  async function explain(k, mine) {
    let e;
    try { e = await ask(url("/explain", named(k))); }
    catch (error) {
      e = { error };
      if (error.status === 404) try { const where = await ask(url("/mapping", named(k))); e = { shard: where.shard, leader: where.primary, replicas: [where.primary, ...where.replicas].filter(Boolean) }; } catch { /* the first reason is the better one */ }
    }
    if (mine === run) { explained = e; ctx.redraw(); }
  }
  const begin = (text, version) => {
    const area = make(h("textarea.field.mono", { rows: 14, "aria-label": "Value", spellcheck: "false", oninput: () => { edit.size = sizeOf(area.value); edit.unsure = null; ctx.redraw(); } }));
    area.value = text;
    edit = { area, text, began: version, version, crlf: text.includes("\r"), size: sizeOf(text), clash: null, diff: null, error: null, busy: false, name: null, ttl: version ? null : make(h("input.field.narrow", { type: "number", min: 1, step: 1, "aria-label": "Seconds to live", placeholder: "lives on" })) };
    ctx.redraw(); ctx.soon(() => area.focus());
  };
  /** Writes if the version is still `version`; 0: if there is no such key. */
  async function save(version) {
    if (edit.busy || edit.size > VALUE_MAX) return;
    const mine = edit, ttl = Number(mine.ttl?.value);
    Object.assign(mine, { busy: true, error: null, name: mine.unsure ?? once() }); ctx.redraw();
    try {
      const { data } = await ask("/kv", { method: "PUT", wait: 8000, headers: { ...(version ? { "if-match": `"${version}"` } : { "if-none-match": "*" }), "idempotency-key": mine.name }, json: { data: { ...named(key), value: mine.area.value, ...(ttl > 0 ? { ttl_ms: Math.round(ttl * 1000) } : { keep_ttl: true }) } } });
      toast("ok", `Saved as version ${count(data.version)}${ctx.model?.cluster.durability === "fsync" ? ", synced by a quorum" : ", taken by a quorum"}.`);
      if (edit === mine) { edit = null; await open(key, "linearizable"); if (look.begun && !look.found.some((k) => sameKey(k, key)) && key.text?.startsWith(look.prefix)) { look.found.unshift(key); ctx.redraw(); } }
    } catch (error) {
      mine.busy = false;
      if (error.status === 412) Object.assign(mine, { clash: { version: error.keyVersion }, diff: null, unsure: null });
      else { mine.error = error; mine.unsure = error.outcome === "unknown" || error.status === 0 ? mine.name : null; }
      ctx.redraw();
    }
  }
  async function differ() {
    const mine = edit;
    try { const r = await ask(url("/kv", named(key)), { raw: true, headers: { accept: "application/octet-stream" } }), text = textOf(new Uint8Array(await r.arrayBuffer())); mine.clash = { version: Number(r.headers.get("kvorum-version")) }; mine.diff = text === null ? [["=", "The value is not text now."]] : difference(text, mine.area.value); }
    catch (error) { if (error.status === 404) { mine.clash = { version: 0 }; mine.diff = null; } else mine.error = error; }
    ctx.redraw();
  }
  function drop() {
    const k = key, name = shown(k), easy = k.text !== undefined && name.length <= 60 && /^[\x21-\x7e]+( [\x21-\x7e]+)*$/.test(name), version = got.version;
    confirm({ title: "Delete this key?", word: easy ? name : "delete", verb: "Delete key", says: [!easy && h("p.mono.clip", name), h("p", `Only if its version is still ${count(version)}. There is no undo.`)],
      run: async () => {
        try { await ask(url("/kv", named(k)), { method: "DELETE", headers: { "if-match": `"${version}"`, "idempotency-key": once() } }); }
        catch (error) { if (error.status === 412) throw new Error(`Not deleted: the key has version ${count(error.keyVersion)} now. Look at it first.`); throw error; }
        look.found = look.found.filter((x) => !sameKey(x, k)); open(k); return `${name.length > 60 ? "The key" : name} is deleted.`;
      } });
  }
  /** Looks further: until there is a page more, two seconds are over, or nothing is left. */
  async function further(anew) {
    if (anew) { look = { prefix: prefix.value, found: [], cursor: null, begun: true, ended: false, busy: false, error: null, shard: null, shards: null }; put(); }
    const mine = look, until = performance.now() + LOOK_MS, stop = mine.stop = new AbortController(), had = mine.found.length;
    mine.busy = true; mine.error = null; ctx.redraw();
    try {
      do {
        const answer = await ask(url("/kv", { prefix: mine.prefix, limit: PAGE, keys_only: true, cursor: mine.cursor, consistency: mode === "stale" ? "stale" : null }), { signal: stop.signal });
        if (mine !== look) return;
        mine.found.push(...answer.entries.map(keyOf)); mine.cursor = answer.cursor; mine.ended = answer.cursor === null; mine.shard = answer.shards_done ?? null; mine.shards = answer.shards ?? null;
        ctx.redraw();
      } while (!mine.ended && mine.found.length - had < PAGE && performance.now() < until && !stop.signal.aborted);
    } catch (error) { if (!stop.signal.aborted) mine.error = error; }
    mine.busy = false; ctx.redraw();
  }
  async function download() {
    try { const r = await ask(url("/kv", named(key)), { raw: true, wait: 60_000, headers: { accept: "application/octet-stream" } }), a = make(h("a", { href: URL.createObjectURL(await r.blob()), download: (key.text ?? "value").replace(/[^\w.-]+/g, "_").slice(0, 80) || "value" })); a.click(); setTimeout(() => URL.revokeObjectURL(a.href), 10_000); }
    catch (error) { toast("bad", error.message); }
  }

  if (at) open(at);
  else if (q.get("new")) { key = { text: q.get("new") }; input.value = key.text; got = { is: "absent" }; begin("hello", 0); }

  function value(m) {
    if (edit) return h("section.panel", { "aria-label": "Value" }, h("header", h("h2.keyname", shown(key))), editor(m));
    if (!key) return h("section.panel", { "aria-label": "Value" }, m.empty ? empty("keys", "No keys yet", "Write the first one here, or with kvorum-cli PUT greeting hello.", h("button.btn.primary", { type: "button", onclick: () => { key = { text: "greeting" }; input.value = "greeting"; begin("hello", 0); } }, "New key")) : empty("keys", "Look up a key", "An exact key is one read of one shard. A prefix on the left looks through all of them, a bounded number at a time."));
    const name = h("header", h("h2.keyname", shown(key)), copy(shown(key)));
    if (got.is === "asking") return h("section.panel", { "aria-label": "Value" }, name, h("p.body.dim.waiting", { role: "status" }, `Asking ${m.me}…`));
    if (got.is === "lost") {
      const x = explained?.shard !== undefined ? m.shards[explained.shard] : null, none2 = x && x.leader < 0;
      return h("section.panel.s-bad", { "aria-label": "Value" }, name, empty(h("span.tint", glyph("bad", 30)), "This key can't be read now", none2 && m.cut ? `Its shard, ${x.id}, has no leader that ${m.me} hears. Another node may reach it.` : none2 && x.text.includes("needs") ? `Its shard, ${x.id}, has ${x.text}. It answers again as soon as one of them is back.` : got.error.message,
        h("div.row.wrap", h("button.btn", { type: "button", onclick: () => open(key) }, "Try again"), h("button.btn", { type: "button", onclick: () => open(key, "stale") }, `Read stale from ${m.me}`), h("a.btn.ghost", { href: "#/shards?only=bad" }, "Shards without a leader"))));
    }
    if (got.is === "failed") return h("section.panel", { "aria-label": "Value" }, name, empty(h("span.tint.s-bad", glyph("bad", 30)), got.error.status === 403 ? "You may not read this key" : "Not read", got.error.status === 403 ? "You need the class read on it. Ask whoever holds root for: ROLE SET NAME ON PREFIX read." : got.error.message, got.error.status !== 403 && h("button.btn", { type: "button", onclick: () => open(key) }, "Try again")));
    if (got.is === "absent") return h("section.panel", { "aria-label": "Value" }, name, empty("search", "No such key", `It is not there.${explained?.shard !== undefined ? ` Shard ${explained.shard} was asked, ${got.stale ? "stale: it may have come since" : "linearizably"}.` : ""}`, h("button.btn", { type: "button", onclick: () => begin("", 0) }, "Create it")));
    const why = !got.whole ? "Too large to edit here. Use kvorum-cli -x PUT." : got.text === null ? "Not text: a browser's field would change it. Use kvorum-cli -x PUT." : got.stale ? "This is a stale read. Read it linearizably first." : null;
    const may = (t) => (t === "JSON" ? got.nice !== null : t === "Text" ? got.text !== null : true), go = (t) => { tab = t; ctx.redraw(); ctx.soon(() => document.getElementById(`tab-${t}`)?.focus()); };
    const list = TABS.filter(may), tabs = h("div.pick", { role: "tablist", "aria-label": "Show value as" }, list.map((t) => h("button", { type: "button", role: "tab", id: `tab-${t}`, "aria-selected": String(t === tab), "aria-controls": "value", tabindex: t === tab ? 0 : -1, onclick: () => go(t), onkeydown: (e) => { const by = { ArrowRight: 1, ArrowLeft: list.length - 1 }[e.key]; if (by) { e.preventDefault(); go(list[(list.indexOf(tab) + by) % list.length]); } } }, t)));
    const left = got.expires === null ? null : (got.expires - m.now) / 1000;
    const tags = [`version ${count(got.version)}`, bytes(got.size), left === null ? null : left > 0 ? `expires in ${ago(left)}` : "expired", got.stale ? "stale" : got.source === "cache" ? "from memory, under the lease" : got.source === "database" ? "a quorum, another node or the disk was asked" : null, ms(got.took)].filter(Boolean);
    const dump = ctx.memo("dump", got, () => hexDump(got.bytes)), laid = tab === "JSON" ? ctx.memo("json", got, () => got.nice.slice(0, 40_000)) : "";
    // Coloured pieces up to 1,200; beyond that the text as it is: a page stays small.
    const body = tab === "JSON" ? ctx.memo("pieces", got, () => { const all = pieces(laid); return all.length <= 1200 ? all.map(([c, t]) => (c ? h("span", { class: c }, t) : t)) : [got.nice]; }) : tab === "Text" ? [got.text] : [dump];
    return h("section.panel", { "aria-label": "Value" },
      h("header", h("h2.keyname", shown(key)), copy(shown(key)), h("div.end.row.wrap", tabs, act("Edit", () => begin(got.text, got.version), { cls: "slim", why, ic: "edit" }), act("Delete", drop, { cls: "slim warn", why: got.stale ? "This is a stale read. Read it linearizably first." : null, ic: "trash" }))),
      h("div.meta", tags.map((t) => h("span.tag", t))),
      !got.whole && h("div.body", note("quiet", `The first ${bytes(got.bytes.length)} of ${bytes(got.size)}`, h("p.small.dim", "The rest is not loaded."), h("button.btn.slim.gap-top", { type: "button", onclick: download }, "Download all"))),
      h("pre.code", { key: tab, id: "value", role: "tabpanel", tabindex: 0, "aria-labelledby": `tab-${tab}` }, got.size === 0 ? h("span.p", "The value is empty.") : body),
      tab === "Hex" && got.bytes.length > 4096 && h("p.body.dim.small", `The first 4,096 of ${count(got.size)} bytes.`));
  }
  function editor() {
    const e = edit, v = e.clash?.version;
    return h("form.edit", { onsubmit(ev) { ev.preventDefault(); save(e.version); } }, e.area,
      e.crlf && note("quiet", "Line ends change", h("p.small.dim", "The value has CR LF. A browser's field writes LF.")),
      e.clash && h("div", { role: "alert" }, note("risk", "Not saved: someone was faster.", h("p", e.began === 0 ? `You wanted a new key; it has version ${count(v)} now.` : v ? `You began with version ${count(e.began)}; the key has ${count(v)} now.` : `You began with version ${count(e.began)}; the key is gone now.`, " Your text is still here."),
        h("div.row.wrap.gap-top", v > 0 && h("button.btn.slim", { type: "button", onclick: differ }, "Show the difference"), h("button.btn.slim", { type: "button", onclick: () => save(v ?? 0) }, v ? `Save over ${count(v)}` : "Create it anew")),
        e.diff && h("pre.code.diff", { tabindex: 0, "aria-label": "Difference" }, e.diff.slice(0, 300).map(([s, t]) => h("span", { class: s === "+" ? "s" : s === "-" ? "d" : "p" }, `${s === "=" ? " " : s} ${t}\n`)), e.diff.length > 300 && "…"))),
      e.error && h("div", { role: "alert" }, note("bad", e.error.outcome === "unknown" || e.error.status === 0 ? "Not known whether it was saved" : "Not saved", h("p", e.error.message), e.unsure && h("p.small.dim", "Saving again sends the same write under the same name: within 120 s it is done once."))),
      e.ttl && h("label.row", h("span", "Seconds to live"), e.ttl),
      h("div.row.wrap", h("button.btn.primary", { disabled: e.busy || e.size > VALUE_MAX }, e.busy ? "Saving…" : e.unsure ? "Save again" : e.version ? `Save if version is ${count(e.version)}` : "Create if absent"), h("button.btn", { type: "button", onclick: () => { edit = null; if (got.is === "none") key = null; ctx.redraw(); } }, "Cancel"),
        e.version > 0 && layOut(e.area.value) !== null && h("button.btn.ghost", { type: "button", onclick: () => { e.area.value = layOut(e.area.value); e.size = sizeOf(e.area.value); ctx.redraw(); } }, "Lay out"),
        h("span", { class: `small grow ${e.size > VALUE_MAX ? "tint s-bad" : "dim"}` }, `${bytes(e.size)} of 16 MiB${e.version && got.expires ? "; keeps its time to live" : ""}`)));
  }
  function side(m) {
    const e = explained, t = key?.text !== undefined ? tagOf(key.text) : null, node = (name) => m.nodes.find((n) => n.name === name), x = m.shards[e?.shard];
    if (!key) return null;
    if (!e) return panel("Explain", null, h("p.waiting.dim", `Asking ${m.me}…`));
    if (e.error) return panel("Explain", null, h("p.dim", e.error.message));
    const dash = e.version === undefined || (e.version === null && x?.leader < 0), lost = h("span.faint", "unknown"), is = (v, how) => (dash ? lost : or(v, how));
    const heat = m.rights.key("read") && key.text !== undefined ? ctx.want("/console/heat", 10_000).data?.top : null, mine = heat?.find((k) => sameKey(keyOf(k), key));
    return [panel("Explain", null, facts([
      ["Shard", h("a", { href: `#/shards?shard=${e.shard}` }, String(e.shard))], e.ring_position && ["Position", h("span.mono.small", e.ring_position)],
      ["Leader", e.leader ? h("span.row", node(e.leader) && chip(node(e.leader)), e.leader) : "none known"], ["Replicas", (e.replicas ?? []).join(", ")],
      ["Version", dash ? lost : e.version === null ? "absent" : count(e.version)], ["Value", is(e.value_bytes, bytes)], ["Expires", is(e.expires_at_ms, (v) => clock(v, m.now))], ["Segment", is(e.segment, count)], ["Offset", is(e.offset, count)],
      e.reads_per_second !== undefined && ["Reads", is(e.reads_per_second, (v) => `${short(v)}/s`)], e.writes_per_second !== undefined && ["Writes", is(e.writes_per_second, (v) => `${short(v)}/s`)]]),
    t && h("p.dim.small.gap-top", "Keys that share ", h("code", t), " live in this shard, so ATOMIC takes them together.")),
    mine && mine.share >= .2 && panel("Heat", null, status("risk", "Hot key"), h("p.small.dim.gap", `It takes ${short(mine.per_second)} operations/s, ${percent(mine.share)} of shard ${mine.shard}.`), bar(mine.share, "risk", "Share of this key in its shard"), h("a.btn.slim.gap-top", { href: `#/heat?shard=${mine.shard}` }, "Open Heat"))];
  }
  function browse(m) {
    const l = look, many2 = l.found.length, keys = m.cluster.keys;
    const said = !l.begun ? "A prefix looks through all shards, some keys at a time." : l.error ? null : l.ended ? `Looked at all keys: ${count(many2)} found.` : l.shards !== null && l.shard !== null ? `Looked through ${l.shard} of ${l.shards} shards${keys ? `, about ${short(Math.round((keys * l.shard) / l.shards))} of ${short(keys)} keys` : ""}: ${count(many2)} found.` : `${count(many2)} found${keys ? ` so far; the cluster has ${short(keys)} keys` : " so far"}.`;
    return h("section.panel.keylist", { "aria-label": "Browse" }, h("header", h("h2", "Browse")),
      h("form.body.stack.tight", { onsubmit(e) { e.preventDefault(); further(true); } }, h("div.row", h("div.grow", prefix), h("button.btn", "Look")),
        l.begun && l.shards !== null && bar(l.ended ? 1 : l.shard / l.shards, "", "Shards looked through"), said && h("p.dim.small", { role: "status" }, said, l.begun && many2 > 1 ? " In the order of hashes, not of names." : ""), l.error && note("bad", "The look ended", h("p.small", l.error.message))),
      h("ul", l.found.slice(0, FOUND_MAX).map((k) => h("li", { key: shown(k) }, h("button", { type: "button", "aria-current": sameKey(k, key) ? "true" : null, onclick: () => open(k) }, h("span.clip.grow", shown(k)))))),
      l.begun && h("div.body.row.wrap", l.busy ? h("button.btn.slim", { type: "button", onclick: () => l.stop.abort() }, "Stop") : !l.ended && many2 < FOUND_MAX ? h("button.btn.slim", { type: "button", onclick: () => further(false) }, l.error ? "Try again" : "Look further") : many2 >= FOUND_MAX ? h("p.dim.small", `The first ${FOUND_MAX} are shown. A longer prefix finds fewer. `, h("code", "kvorum-cli SCAN"), " lists all.") : !many2 && h("p.dim.small", "No key begins so. Shorten the prefix.")));
  }
  return { edit: () => { if (!edit && got.is === "found" && got.whole && got.text !== null && !got.stale) begin(got.text, got.version); },
    leave: () => look.stop?.abort(),
    view: (m) => h("div", head("Keys", m.cluster.keys === null ? "Any node answers for all" : `${many(m.cluster.keys, "key")}; any node answers for all`),
      h("form.panel.lookup", { onsubmit(e) { e.preventDefault(); if (input.value) open(key && shown(key) === input.value ? key : { text: input.value }); } }, h("div.box", input), pick("Read mode", [["linearizable", "linearizable"], ["stale", "stale"]], mode, (v) => { mode = v; put(); ctx.redraw(); }), h("button.btn.primary", "Get"), h("button.btn", { type: "button", onclick: () => { const text = input.value || "new-key"; key = { text }; input.value = text; got = { is: "none" }; explained = null; explain(key, run += 1); put(); begin("", 0); } }, "New key")),
      h("div.cols.keys", h("div.p-last", browse(m)), h("div.stack", value(m)), h("div.stack", side(m)))) };
}

export function watchPage() {
  return { view: (m) => h("div", head("Watch", "What changes now, under a prefix"),
    h("section.panel", { "aria-label": "Watch" }, h("div.empty", icon("watch", 32), h("h2", "This version of Kvorum can't watch keys yet"), h("p", "The place is kept. Until then, look at what is there:"),
      h("ul.stack.options",
        h("li", h("b", "One key, again and again"), h("p.dim", "A version that has grown says that the key was written."), command(`kvorum-cli --url kv://${m.self?.address} -r 1000 -i 1 GET KEY`)),
        h("li", h("b", "All keys under a prefix"), h("p.dim", "Compare two lists; each entry has its version."), command(`kvorum-cli --url kv://${m.self?.address} SCAN PREFIX`))))) ) };
}

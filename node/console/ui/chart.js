import { RANK } from "../data/model.js";
import { color, fill, h, make, s } from "../lib/dom.js";

// Own charts on canvas: kv-spark (a line without axes), kv-chart (lines or areas with axes, cursor and table view), kv-heat.

const DASH = { solid: [], dash: [6, 4], dot: [2, 3] };
const is = (v) => v != null && v === v;
function sized(canvas, w, hh) {
  const ratio = devicePixelRatio || 1, cw = Math.round(w * ratio), ch = Math.round(hh * ratio);
  if (canvas.width !== cw || canvas.height !== ch) { canvas.width = cw; canvas.height = ch; }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, w, hh);
  return { c, w, hh };
}
let family;
const font = (px) => `500 ${px}px ${(family ??= getComputedStyle(document.body).fontFamily)}`;

/** Draws at most once per frame, and not at all while out of sight. Sizes come from an observer: no layout is read to draw. */
class Drawn extends HTMLElement {
  ready() { if (!this.canvas) { this.canvas = make(h("canvas", { "aria-hidden": "true" })); this.build(); } }
  connectedCallback() {
    this.ready();
    this.watch = new ResizeObserver(([e]) => { this.w = e.contentRect.width; this.hh = e.contentRect.height; this.ask(); }); this.watch.observe(this.measured ?? this);
    this.repaint = () => this.ask(); addEventListener("kv-theme", this.repaint); document.addEventListener("visibilitychange", this.repaint);
  }
  disconnectedCallback() { this.watch.disconnect(); removeEventListener("kv-theme", this.repaint); document.removeEventListener("visibilitychange", this.repaint); }
  build() { this.append(this.canvas); }
  ask() { if (this.asked || document.hidden) return; this.asked = true; requestAnimationFrame(() => { this.asked = false; if (this.isConnected && this.w > 0 && this.hh > 0) this.draw(); }); }
}
customElements.define("kv-spark", class extends Drawn {
  /** {points, token, floor}: floor is the least full height. */
  set data(d) { this.ready(); this.d = d; this.ask(); }
  draw() {
    const { c, w, hh } = sized(this.canvas, this.w, this.hh), { points: list = [], token = "c1", floor = 1e-9 } = this.d ?? {};
    let top = floor; for (const v of list) if (v > top) top = v;
    top *= 1.12;
    if (!list.some((v) => v > 0)) { c.strokeStyle = color("line-control"); c.setLineDash(DASH.dot); c.beginPath(); c.moveTo(0, hh - 1); c.lineTo(w, hh - 1); c.stroke(); c.setLineDash([]); return; }
    const x = (i) => (i / (list.length - 1)) * w, y = (v) => hh - 1.5 - (v / top) * (hh - 4);
    c.strokeStyle = c.fillStyle = color(token); c.lineWidth = 1.5; c.lineJoin = "round";
    // Each stretch that was measured is a line with its own area; a gap stays a gap.
    for (let i = 0; i < list.length; i += 1) {
      if (!is(list[i])) continue;
      let j = i; while (j + 1 < list.length && is(list[j + 1])) j += 1;
      c.beginPath(); for (let k = i; k <= j; k += 1) c.lineTo(x(k), y(list[k])); if (i === j) c.lineTo(x(j) + 1, y(list[j])); c.stroke();
      c.lineTo(x(j), hh); c.lineTo(x(i), hh); c.closePath(); c.globalAlpha = .1; c.fill(); c.globalAlpha = 1;
      i = j;
    }
  }
});
export const spark = (points, token, floor) => h("kv-spark", { "aria-hidden": "true", set: { data: { points, token, floor } } });

/** Seven steps, each twice the one before: what is usual stays visible beside what is hot. */
const warmth = (v) => (v < 1 / 64 ? 0 : Math.min(6, Math.floor(Math.log2(v * 64)) + 1));
const nice = (top) => { const p = 10 ** Math.floor(Math.log10(top || 1)); for (const k of [1, 2, 2.5, 5, 10]) if (k * p * 4 >= top) return k * p; return p * 10; };
/** How long ago, from steps back: "now", "40 s ago", "3 min 20 s ago", "2 h 10 min ago". */
export function back(seconds) {
  if (seconds <= 0) return "now";
  const part = (n, u) => (n ? `${n} ${u} ` : "");
  return seconds < 3600 ? `${part(Math.floor(seconds / 60), "min")}${part(seconds % 60, "s")}ago` : `${part(Math.floor(seconds / 3600), "h")}${part(Math.floor(seconds / 60) % 60, "min")}ago`;
}

/** .data = {label, series:[{name, values, token, dash?}], format, step (s), stacked?, log?, mark? (points since), nothing?} */
customElements.define("kv-chart", class extends Drawn {
  build() {
    this.keys = make(h("ul.legend"));
    this.tip = make(h("div.tip", { hidden: true }));
    this.plot = this.measured = make(h("div.plot", { tabindex: "0", role: "group", "aria-roledescription": "chart", onpointermove: (e) => this.point(e.offsetX), onpointerleave: () => this.at(-1), onblur: () => this.at(-1),
      onkeydown: (e) => { const by = { ArrowLeft: -1, ArrowRight: 1, Home: -9999, End: 9999 }[e.key]; if (!by) { if (e.key === "Escape") this.at(-1); return; } e.preventDefault(); const n = this.n; this.at(Math.max(0, Math.min(n - 1, (this.i >= 0 ? this.i : n - 1) + by)), true); } }, this.canvas, this.tip));
    this.said = make(h("span.sr", { role: "status" }));
    this.sheet = make(h("div.scroll.sheet", { hidden: true, tabindex: "0", role: "group", "aria-label": "The chart's numbers" }));
    this.turn = make(h("button.btn.ghost.slim.turn", { type: "button", "aria-pressed": "false", onclick: () => this.asTable(this.sheet.hidden) }, "Table"));
    this.append(this.turn, make(h("div.top-row", this.keys)), this.plot, this.sheet, this.said);
    this.i = -1;
  }
  get n() { return this.d.series[0]?.values.length ?? 0; }
  /** The same numbers for those who can't or won't read lines: one row a minute, or 10 of them. */
  asTable(on) {
    this.plot.hidden = on; this.sheet.hidden = !on; this.turn.setAttribute("aria-pressed", String(on));
    if (on) this.write(); else { fill(this.sheet, []); this.ask(); }
  }
  write() {
    const { series, step } = this.d, n = this.n, every = Math.max(1, Math.round((n * step > 3600 ? 600 : 60) / step)), rows = [];
    for (let i = n - 1; i >= 0; i -= every) rows.push(h("tr", h("th", { scope: "row" }, back((n - 1 - i) * step)), series.map((d) => h("td.r", this.text(d.values[i])))));
    fill(this.sheet, [h("table.data", h("thead", h("tr", h("th", { scope: "col" }, "When"), series.map((d) => h("th", { scope: "col", class: "r" }, d.name)))), h("tbody", rows))]);
  }
  set data(d) {
    this.ready();
    this.d = d;
    this.items = d.series.map((x, k) => this.items?.[k] ?? { ink: make(h("canvas", { width: 36, height: 16, class: "key", "aria-hidden": "true" })) });
    fill(this.keys, d.series.map((x, k) => h("li", this.items[k].ink, x.name, h("b", this.text(x.values.at(-1))))));
    this.plot.setAttribute("aria-label", `${d.label}. Newest: ${d.series.map((x) => `${x.name} ${this.text(x.values.at(-1))}`).join(", ")}. Arrow keys read older values.`);
    if (!this.sheet.hidden) this.write();
    this.ask();
  }
  text(v) { return is(v) ? this.d.format(v) : "no data"; }
  scale(w) { const n = this.n; return { n, left: 52, right: w - 8, x: (i) => 52 + (i / Math.max(1, n - 1)) * (w - 60) }; }
  point(px) { const { n, left, right } = this.scale(this.w ?? 0); this.at(px < left - 8 || !n ? -1 : Math.round(Math.max(0, Math.min(1, (px - left) / (right - left))) * (n - 1))); }
  at(i, spoken) {
    this.i = i; this.tip.hidden = i < 0; this.ask();
    if (i < 0) return;
    const { series, step } = this.d, { n, x } = this.scale(this.w), when = back((n - 1 - i) * step);
    fill(this.tip, [h("div.dim", when), h("table", { role: "presentation" }, series.map((d) => h("tr", h("td", d.name), h("td.num", this.text(d.values[i])))))]);
    if (spoken) this.said.textContent = `${when}: ${series.map((d) => `${d.name} ${this.text(d.values[i])}`).join(", ")}`;
    const px = x(i), wide = this.tip.offsetWidth;
    this.tip.style.left = `${px + 14 + wide > this.w ? px - wide - 14 : px + 14}px`;
  }
  draw() {
    if (!this.d || this.plot.hidden) return;
    const { series, stacked, format, step, mark, nothing: says } = this.d, { c, w, hh } = sized(this.canvas, this.w, this.hh);
    const { n, left, right, x } = this.scale(w), low = hh - 22, high = 8;
    let top = 0, least = Infinity;
    for (let i = 0; i < n; i += 1) { let sum = 0; for (const d of series) { const v = d.values[i]; if (!is(v)) continue; sum += v; if (v > 0 && v < least) least = v; if (!stacked && v > top) top = v; } if (stacked && sum > top) top = sum; }
    const nothing = top === 0, tick = nice(top * 1.04 || 1);
    // Latencies of reads and writes lie a decade apart: a logarithmic axis, and said so, shows both.
    const log = this.d.log && !nothing, l0 = log ? Math.floor(Math.log10(least) * 2) / 2 : 0, l1 = log ? Math.max(l0 + .5, Math.ceil(Math.log10(top) * 2 + .1) / 2) : 0;
    const max = tick * Math.max(1, Math.ceil((top * 1.02) / tick)), y = log ? (v) => low - ((Math.log10(Math.max(v, 10 ** l0)) - l0) / (l1 - l0)) * (low - high) : (v) => low - (v / max) * (low - high);
    const marks = []; if (log) { for (let e = Math.ceil(l0); e <= l1; e += 1) marks.push(10 ** e); if (marks.length < 2) marks.push(...[2, 5].map((k) => k * 10 ** Math.floor(l0)).filter((v) => Math.log10(v) > l0 && Math.log10(v) < l1)); } else for (let v = 0; v <= max + 1e-9; v += tick) marks.push(v);
    c.font = font(11); c.fillStyle = color("text-3"); c.strokeStyle = color("grid"); c.lineWidth = 1; c.textBaseline = "middle"; c.textAlign = "right";
    if (nothing) marks.length = 1;
    for (const v of marks) { const py = Math.round(y(v)) + .5; c.beginPath(); c.moveTo(left, py); c.lineTo(right, py); c.stroke(); if (!nothing || v === 0) c.fillText(v === 0 ? "0" : format(v).replace(/\.0+(?=\s|$)|(?<=\.\d)0(?=\s)/, ""), left - 8, py); }
    c.textBaseline = "alphabetic";
    const span = ((n - 1) * step) / 60, hours = span > 90, every = hours ? (w < 420 ? 120 : 60) : w < 420 ? 5 : span > 12 ? 3 : 1;
    for (let m = 0; m <= span + .01; m += every) { const px = right - (m / (span || 1)) * (right - left); c.textAlign = m === 0 ? "right" : px < left + 20 ? "left" : "center"; c.fillText(m === 0 ? "now" : hours ? `−${m / 60} h` : `−${m} min`, px, hh - 4); }
    if (nothing) { c.textAlign = "center"; c.fillText(says ?? "No traffic in this window", (left + right) / 2, (low + high) / 2); this.label(); return; }
    const base = new Float64Array(n);
    for (const d of series) {
      const ink = color(d.token);
      c.strokeStyle = c.fillStyle = ink; c.lineJoin = "round";
      if (stacked) {
        const under = base.slice();
        for (let i = 0; i < n; i += 1) base[i] += d.values[i] || 0;
        for (let i = 0; i < n; i += 1) {
          if (!is(d.values[i])) continue;
          let j = i; while (j + 1 < n && is(d.values[j + 1])) j += 1;
          c.beginPath(); for (let k = i; k <= j; k += 1) c.lineTo(x(k), y(base[k])); for (let k = j; k >= i; k -= 1) c.lineTo(x(k), y(under[k])); c.closePath(); c.globalAlpha = .3; c.fill(); c.globalAlpha = 1;
          i = j;
        }
        c.beginPath(); let on = false; for (let i = 0; i < n; i += 1) { if (d.values[i] > max / 250) { if (on) c.lineTo(x(i), y(base[i])); else c.moveTo(x(i), y(base[i])); on = true; } else on = false; } c.lineWidth = 1.5; c.stroke();
        continue;
      }
      c.beginPath(); let open = false;
      for (let i = 0; i < n; i += 1) { const v = d.values[i]; if (!is(v)) { open = false; continue; } if (open) c.lineTo(x(i), y(v)); else { c.moveTo(x(i), y(v)); if (!is(d.values[i + 1])) c.lineTo(x(i) + 2, y(v)); } open = true; }
      c.setLineDash(DASH[d.dash ?? "solid"]); c.lineWidth = 1.75; c.stroke(); c.setLineDash([]);
    }
    if (mark >= 0 && mark < n) { const px = Math.round(x(n - 1 - mark)) + .5; c.strokeStyle = color("bad"); c.lineWidth = 1; c.setLineDash(DASH.dash); c.beginPath(); c.moveTo(px, high); c.lineTo(px, low); c.stroke(); c.setLineDash([]); }
    if (this.i >= 0) { const px = Math.round(x(Math.min(this.i, n - 1))) + .5; c.strokeStyle = color("text-2"); c.lineWidth = 1; c.beginPath(); c.moveTo(px, high); c.lineTo(px, low); c.stroke(); if (!stacked) for (const d of series) { const v = d.values[this.i]; if (is(v)) { c.fillStyle = color(d.token); c.beginPath(); c.arc(px, y(v), 3, 0, 7); c.fill(); } } }
    this.label();
  }
  label() {
    const inks = this.d.series.map((d) => `${color(d.token)}${d.dash}${this.d.stacked}`).join();
    if (inks === this.inks) return;
    this.inks = inks;
    this.d.series.forEach((d, k) => {
      const c = this.items[k].ink.getContext("2d"); c.setTransform(2, 0, 0, 2, 0, 0); c.clearRect(0, 0, 18, 8); c.fillStyle = c.strokeStyle = color(d.token);
      if (this.d.stacked) c.fillRect(4, 0, 10, 8); else { c.lineWidth = 2; c.setLineDash(DASH[d.dash ?? "solid"]); c.beginPath(); c.moveTo(0, 4); c.lineTo(18, 4); c.stroke(); }
    });
  }
});
export const chart = (data, high) => h("kv-chart", { css: high ? { "--h": `${high}px` } : {}, set: { data } });

/**
 * .data = {cells (256 × columns, row by row; NaN: not known), top, columns, shards, format, step, describe(slice, column, value), onpick(slice)}.
 * `top` is what the hottest step begins under. Pointer or arrows move the cursor.
 */
customElements.define("kv-heat", class extends Drawn {
  build() {
    this.tabIndex = 0; this.setAttribute("role", "slider"); this.setAttribute("aria-valuemin", "0"); this.setAttribute("aria-valuemax", "255");
    this.append(this.canvas); this.cy = 0;
    this.picture = document.createElement("canvas");
    this.addEventListener("pointermove", (e) => { const r = this.area(), n = this.d?.columns; if (!n || e.offsetX < r.l || e.offsetX > r.r || e.offsetY < r.t || e.offsetY > r.b) return; this.go(Math.floor(((e.offsetX - r.l) / (r.r - r.l)) * n), Math.floor(((e.offsetY - r.t) / (r.b - r.t)) * 256)); });
    this.addEventListener("keydown", (e) => { const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageUp: [0, -16], PageDown: [0, 16], Home: [-999, 0], End: [999, 0] }[e.key] ?? []; if (dx === undefined) return; e.preventDefault(); this.go(this.cx + dx, this.cy + dy); });
  }
  area() { return { l: 40, r: (this.w ?? 0) - 76, t: 4, b: (this.hh ?? 0) - 22 }; }
  set data(d) {
    this.ready();
    const first = !this.d;
    if (this.d?.cells !== d.cells || this.d?.top !== d.top) this.stale = true;
    this.d = d;
    if (first && d.at != null) { this.cx = d.columns - 1; this.cy = d.at; }
    else if (first) { this.cx = d.columns - 1; let best = -1; for (let y = 0; y < 256; y += 1) { const v = d.cells[y * d.columns + this.cx]; if (v > best) { best = v; this.cy = y; } } }
    this.go(this.cx, this.cy);
  }
  go(x, y) {
    const { columns, cells, describe, onpick } = this.d;
    this.cx = Math.max(0, Math.min(columns - 1, x)); this.cy = Math.max(0, Math.min(255, y));
    const text = describe(this.cy, this.cx, cells[this.cy * columns + this.cx]);
    this.setAttribute("aria-valuenow", String(this.cy)); this.setAttribute("aria-valuetext", text);
    onpick?.(this.cy, text); this.ask();
  }
  draw() {
    if (!this.d) return;
    const { c, w, hh } = sized(this.canvas, this.w, this.hh), { cells, columns, top, shards, step } = this.d, { l, r, t, b } = this.area();
    const inks = [...Array(7).keys()].map((k) => color(`heat-${k}`)), unknown = color("hover"), cw = (r - l) / columns, ch = (b - t) / 256;
    if (this.stale || this.inks !== inks[0]) {
      const p = this.picture; p.width = columns; p.height = 256;
      const pc = p.getContext("2d");
      const rgb = [...inks, unknown].map((k) => { pc.fillStyle = k; pc.fillRect(0, 0, 1, 1); return pc.getImageData(0, 0, 1, 1).data; }), img = pc.createImageData(columns, 256);
      for (let i = 0; i < columns * 256; i += 1) { const q = rgb[is(cells[i]) ? warmth(cells[i] / top) : 7]; img.data.set(q, i * 4); }
      pc.putImageData(img, 0, 0); this.stale = false; this.inks = inks[0];
    }
    c.imageSmoothingEnabled = false; c.drawImage(this.picture, l, t, r - l, b - t);
    c.font = font(10); c.fillStyle = color("text-3"); c.textBaseline = "middle"; c.textAlign = "right";
    for (let y = 0; y <= 256; y += 32) c.fillText(y === 256 ? "ff" : y.toString(16).padStart(2, "0"), l - 6, Math.max(t + 5, Math.min(b - 5, t + y * ch)));
    const span = (columns * step) / 60;
    c.textBaseline = "alphabetic"; for (let m = 0; m <= span; m += w < 500 ? 5 : 2) { c.textAlign = m === 0 ? "right" : m === span ? "left" : "center"; c.fillText(m === 0 ? "now" : `−${m} min`, r - (m / span) * (r - l), hh - 4); }
    const few = Math.max(1, Math.round(180 / step));
    for (let y = 0; y < 256; y += 1) { let a = 0, n = 0; for (let x = Math.max(0, columns - few); x < columns; x += 1) { const v = cells[y * columns + x]; if (is(v)) { a += v; n += 1; } } if (!n) continue; const v = a / n / top, k = warmth(v); c.fillStyle = color(v > .25 ? "heat-5" : "heat-3"); c.fillRect(r + 8, t + y * ch, Math.max(1, Math.min(1, (k + (v * 64) / 2 ** k) / 8) * 62), Math.max(1, ch - .3)); }
    c.fillStyle = color("text-3"); c.textAlign = "left"; c.fillText("3 min mean", r + 8, hh - 4);
    const per = 256 / shards, first = Math.floor(this.cy / per);
    c.strokeStyle = color("text"); c.lineWidth = 1.5; c.strokeRect(l - .5, t + first * per * ch, r - l + 1, Math.max(2, per * ch));
    c.lineWidth = 2; c.strokeRect(l + this.cx * cw - 1, t + this.cy * ch - 1.5, cw + 2, ch + 3);
  }
});

// kv-ring: the hash ring. Outer band = leaders, thin inner bands = the other replicas. One stop for Tab, arrows walk the shards.

const onRing = (r, a) => `${(Math.sin(a) * r).toFixed(2)} ${(-Math.cos(a) * r).toFixed(2)}`;
const arc = (r0, r1, a, to) => { const b = Math.min(to, a + 6.282), big = b - a > Math.PI ? 1 : 0; return `M${onRing(r1, a)}A${r1} ${r1} 0 ${big} 1 ${onRing(r1, b)}L${onRing(r0, b)}A${r0} ${r0} 0 ${big} 0 ${onRing(r0, a)}Z`; };
const MARK = { heal: "M-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z", risk: "M0-4 4.5 4h-9z", bad: "M-3.5-3.5h7v7h-7z" };
const PIECES_MAX = 256, LABELS_MAX = 96;

customElements.define("kv-ring", class extends HTMLElement {
  /** {m, onopen, light}: light is the index of the node to show alone, or −1. */
  set data(d) {
    const first = !this.d, anew = first || this.d.m.placed !== d.m.placed || this.d.m.cut !== d.m.cut || this.d.m.raw !== d.m.raw, lit = first || this.d.light !== d.light;
    this.d = d;
    // Cards and tables come first: the ring is drawn once they stand.
    if (first) { requestAnimationFrame(() => setTimeout(() => this.isConnected && this.build())); return; }
    if (!this.wheel) return;
    if (anew) this.draw();
    if (anew || lit) this.shine();
    this.go(Math.min(this.i, this.pieces.length - 1));
  }
  build() {
    const pick = (e) => { const k = e.target.closest?.("[data-k]")?.dataset.k; if (k !== undefined) this.go(Number(k)); };
    const keys = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -1e6, End: 1e6 };
    this.arcs = make(s("g")); this.cursor = make(s("path.cursor"));
    this.wheel = make(s("g", { role: "slider", tabindex: 0, "aria-label": "Shards on the ring", "aria-valuemin": 0, onpointerover: pick, onclick: () => this.open(),
      onkeydown: (e) => { const by = keys[e.key], n = this.pieces.length; if (by) { e.preventDefault(); this.go(Math.abs(by) > 1e5 ? (by > 0 ? n - 1 : 0) : (this.i + by + n) % n); } else if (e.key === "Enter") { e.preventDefault(); this.open(); } } }, s("circle.frame", { r: 224 }), this.arcs, this.cursor));
    this.texts = [["big", -14], ["mid", 10], ["mid", 30], ["mid", 50]].map(([c, y]) => make(s("text", { class: c, y })));
    const ticks = [[0, "00"], [.25, "40"], [.5, "80"], [.75, "c0"]].map(([p, t]) => s("text.tick", { x: Math.sin(p * 2 * Math.PI) * 124, y: -Math.cos(p * 2 * Math.PI) * 124 }, t));
    fill(this, [s("svg", { viewBox: "-226 -226 452 452" }, this.wheel, ticks, this.texts)]);
    this.draw(); this.shine();
    const worst = this.pieces.reduce((a, x, k) => (RANK[x.level] < RANK[this.pieces[a].level] ? k : a), 0);
    this.go(worst);
  }
  open() { this.d.onopen?.(this.pieces[this.i]); }
  draw() {
    const { m } = this.d, { shards, nodes } = m, size = Math.ceil(shards.length / PIECES_MAX), count = Math.ceil(shards.length / size), labelled = count <= LABELS_MAX && nodes.length <= 8;
    // Beyond 256 shards a piece stands for several: the worst state wins, the first leader gives the colour.
    this.pieces = Array.from({ length: count }, (_, k) => shards.slice(k * size, (k + 1) * size).reduce((a, b) => (RANK[b.level] < RANK[a.level] ? b : a)));
    const step = (2 * Math.PI) / count, gap = count > 128 || count === 1 ? 0 : .006, hue = (n) => `n${nodes[n]?.hue ?? 0}`;
    this.wheel.setAttribute("aria-valuemax", String(shards.length - 1));
    fill(this.arcs, this.pieces.map((x, k) => {
      const a = k * step + gap, b = (k + 1) * step - gap, mid = (a + b) / 2, led = x.leader >= 0;
      const kind = led && x.level !== "quiet" ? hue(x.leader) : x.level === "bad" ? "none" : led ? `${hue(x.leader)} dull` : "unknown";
      const inner = x.replicas.filter((r) => r.node !== x.leader).slice(0, 4).map((r, j) => s("path", { class: `arc ${r.state === "unknown" ? "unknown" : r.state === "gone" || r.state === "faulty" ? "none" : hue(r.node)}`, opacity: r.state === "new" || r.state === "missing" ? .45 : .8, d: arc(155 - j * 11, 163 - j * 11, a, b) }));
      return s("g", { "data-k": k }, s("path", { class: `arc ${kind}`, d: arc(170, 200, a, b) }), inner,
        labelled && (led || x.level === "bad") && s("text", { class: `lab ${led ? hue(x.leader) : "none-lab"}`, x: (Math.sin(mid) * 185).toFixed(1), y: (-Math.cos(mid) * 185).toFixed(1) }, led ? nodes[x.leader].short : "×"),
        MARK[x.level] && s("path", { class: `mark s-${x.level}`, d: MARK[x.level], transform: `translate(${(Math.sin(mid) * 208).toFixed(1)} ${(-Math.cos(mid) * 208).toFixed(1)})` }));
    }));
  }
  /** Shows what one node leads and holds. */
  shine() {
    const { light } = this.d;
    this.pieces.forEach((x, k) => { const g = this.arcs.children[k], others = x.replicas.filter((r) => r.node !== x.leader); [...g.querySelectorAll(".arc")].forEach((p, j) => p.classList.toggle("off", light >= 0 && (j === 0 ? x.leader !== light : others[j - 1]?.node !== light))); });
  }
  go(k) {
    this.i = k;
    const { m } = this.d, x = m.shards[this.pieces[k].id], step = (2 * Math.PI) / this.pieces.length, name = (n) => m.nodes[n]?.name ?? "?";
    this.cursor.setAttribute("d", arc(140, 202, k * step, (k + 1) * step));
    const leader = x.leader >= 0 ? `led by ${name(x.leader)}` : x.level === "quiet" ? "leader unknown" : "no leader", rest = x.replicas.filter((r) => r.node !== x.leader).map((r) => name(r.node)).join(", ");
    const says = x.level === "ok" ? "all replicas well" : x.text.split(";")[0].replace(/^no leader: /, "");
    [`Shard ${x.id}`, leader, rest.length > 34 ? `${rest.slice(0, 33)}…` : rest, says].forEach((t, i) => { if (this.texts[i].textContent !== t) this.texts[i].textContent = t; });
    this.wheel.setAttribute("aria-valuenow", String(x.id)); this.wheel.setAttribute("aria-valuetext", `Shard ${x.id}, ${leader}, replicas ${rest}, ${x.text}`);
  }
});
export const ring = (data) => h("kv-ring", { set: { data } });

// kv-table: sorted, virtual rows; only what can be seen is in the document. j/k, arrows, Home, End, Page keys, Enter.
import { h, make, fill, icon } from "../lib/dom.js";

const compact = matchMedia("(max-width: 760px)");
customElements.define("kv-table", class extends HTMLElement {
  /**
   * What it shows. `by` of a column gives what it is sorted by, `cell` what it shows, `low` leaves it out on small screens.
   * While the pointer or the focus is in the table its order stays: rows do not run away from the one who reads them.
   * @param {{label:string, columns:any[], rows:any[], key:(r:any)=>any, sort?:[number,number], height?:number, onopen?:(r:any)=>void, empty?:any}} now
   */
  set how(now) {
    const first = !this.box, sort = String(now.sort ?? "");
    this.now = now;
    if (first) this.build();
    if (first || sort !== this.asked) { this.asked = sort; this.sorted = now.sort ?? [0, 1]; this.at = now.key && this.at !== undefined ? this.at : null; }
    if (this.sorted[0] >= now.columns.length) this.sorted = [0, 1];
    this.box.style.maxHeight = now.height ? `${now.height}px` : "none";
    this.order(); this.paint();
  }
  build() {
    this.head = make(h("thead")); this.body = make(h("tbody"));
    this.table = make(h("table.data", { role: "grid" }, this.head, this.body));
    this.box = make(h("div.scroll", { onscroll: () => this.paint(), onkeydown: (e) => this.keydown(e) }, this.table));
    this.append(this.box);
  }
  connectedCallback() { compact.addEventListener("change", this.again ??= () => this.paint()); requestAnimationFrame(() => this.now && this.paint()); }
  disconnectedCallback() { compact.removeEventListener("change", this.again); }
  turn(k) { this.sorted = [k, this.sorted[0] === k ? -this.sorted[1] : this.now.columns[k].first ?? 1]; this.order(true); this.paint(); }
  order(anew) {
    const { rows, key, columns } = this.now, [k, way] = this.sorted, by = columns[k].by;
    if (!anew && this.rows && key && (this.matches(":hover") || this.contains(document.activeElement))) {
      const now = new Map(rows.map((r) => [key(r), r]));
      const kept = this.rows.map((r) => now.get(key(r))).filter(Boolean);
      if (kept.length === rows.length) { this.rows = kept; return; }
    }
    const of = (r) => { const v = by(r); return v == null || v !== v ? -Infinity : v; };
    this.rows = by ? [...rows].sort((a, b) => { const x = of(a), y = of(b); return (x < y ? -1 : x > y ? 1 : 0) * way; }) : rows;
  }
  get tall() { return compact.matches ? 44 : 36; }
  paint() {
    const { columns, height, onopen, key, label, empty } = this.now, { rows, box, tall } = this, [sorted, way] = this.sorted;
    const cls = (c) => `${c.right ? "r" : ""} ${c.low ? "p2" : ""}`;
    this.table.setAttribute("aria-label", label); this.table.setAttribute("aria-rowcount", rows.length + 1);
    fill(this.head, [h("tr", { "aria-rowindex": 1 }, columns.map((c, k) => h("th", { scope: "col", class: cls(c), "aria-sort": !c.by ? null : k !== sorted ? "none" : way > 0 ? "ascending" : "descending" }, c.by ? h("button", { type: "button", onclick: () => this.turn(k) }, c.name, k === sorted && icon(way > 0 ? "up" : "down", 12)) : c.name)))]);
    if (!rows.length) { fill(this.body, [h("tr", h("td", { colspan: columns.length }, empty ?? ""))]); return; }
    const seen = height ? Math.ceil(height / tall) + 12 : rows.length, from = height ? Math.max(0, Math.min(rows.length - seen, Math.floor(box.scrollTop / tall) - 6)) : 0, to = Math.min(rows.length, from + seen);
    const gap = (name, n) => n > 0 && h("tr.gap", { key: name, "aria-hidden": "true", role: "presentation" }, h("td", { colspan: columns.length, role: "presentation", css: { height: `${n * tall}px` } }));
    const id = (r, i) => (key ? key(r) : i);
    if (!rows.some((r, i) => id(r, i) === this.at)) this.at = id(rows[0], 0);
    const list = [gap("above", from)];
    for (let i = from; i < to; i += 1) {
      const r = rows[i], k = id(r, i);
      list.push(h("tr", { key: k, "aria-rowindex": i + 2, "data-i": i, tabindex: onopen ? (k === this.at ? 0 : -1) : null, onclick: onopen ? (e) => { if (e.target.closest("a, button")) return; this.at = k; onopen(r); } : null },
        columns.map((c) => h(c.head ? "th" : "td", { scope: c.head ? "row" : null, class: cls(c) }, c.cell(r)))));
    }
    list.push(gap("below", rows.length - to));
    fill(this.body, list.filter(Boolean));
  }
  index() { const { key } = this.now; return Math.max(0, this.rows.findIndex((r, i) => (key ? key(r) : i) === this.at)); }
  row() { return this.body.querySelector(`[data-i="${this.index()}"]`); }
  /** Also called from anywhere on the page by j and k. */
  go(by) {
    if (!this.rows?.length || !this.now.onopen) return;
    const { box, tall } = this, i = Math.max(0, Math.min(this.rows.length - 1, this.body.contains(document.activeElement) ? this.index() + by : this.index())), y = i * tall;
    this.at = this.now.key ? this.now.key(this.rows[i]) : i;
    if (this.now.height) { if (y < box.scrollTop) box.scrollTop = y; else if (y + tall + 40 > box.scrollTop + box.clientHeight) box.scrollTop = y + tall + 40 - box.clientHeight; }
    this.paint(); this.row()?.focus({ preventScroll: Boolean(this.now.height) });
  }
  keydown(e) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[e.key];
    if (by && e.target.matches("tr")) { e.preventDefault(); this.go(by); } else if (e.key === "Enter" && e.target.matches("tr")) { e.preventDefault(); this.now.onopen?.(this.rows[this.index()]); }
  }
});
export const table = (how) => h("kv-table", { set: { how } });

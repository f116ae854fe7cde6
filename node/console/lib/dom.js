// Describing elements, and changing what is shown until it is as described. No markup in strings: text from the cluster
// only ever reaches text nodes and attributes that hold no code.

const SVG = "http://www.w3.org/2000/svg";

/** What an element is to be. Children are descriptions, texts, or elements that keep their identity. */
class Described { constructor(tag, svg, props, kids) { this.tag = tag; this.svg = svg; this.props = props; this.kids = kids; } }
function flat(list, out) {
  for (const x of list) {
    if (x == null || x === false || x === true || x === "") continue;
    if (Array.isArray(x)) flat(x, out); else out.push(x instanceof Described || x instanceof Node ? x : String(x));
  }
  return out;
}
const tags = new Map();
/** "div.panel.card": a tag and its classes. Properties may be left out. */
function describe(svg, name, props, kids) {
  if (props == null || Object.getPrototypeOf(props) !== Object.prototype) { kids.unshift(props); props = {}; }
  let known = tags.get(name);
  if (!known) { const [tag, ...classes] = name.split("."); known = { tag, cls: classes.join(" ") }; tags.set(name, known); }
  if (known.cls) props = { ...props, class: props.class ? `${known.cls} ${props.class}` : known.cls };
  return new Described(known.tag, svg, props, flat(kids, []));
}
/** @returns {any} */
export const h = (name, props, ...kids) => describe(false, name, props, kids);
/** @returns {any} */
export const s = (name, props, ...kids) => describe(true, name, props, kids);

function fire(e) { this.kvOn[e.type]?.call(this, e); }
/** Changes only what differs: no layout for what stays. */
function change(el, old, now) {
  for (const name in old) if (!(name in now) && name !== "set" && name !== "css" && name !== "key" && name !== "ref") { if (name.startsWith("on")) el.kvOn[name.slice(2)] = null; else el.removeAttribute(name); }
  for (const name in now) {
    const v = now[name];
    if (name === "set") { for (const k in v) if (el[k] !== v[k]) el[k] = v[k]; continue; }
    if (name === "css") { for (const k in v) if (old.css?.[k] !== v[k]) el.style.setProperty(k, String(v[k])); continue; }
    if (name === "key" || name === "ref") continue;
    if (name.startsWith("on")) {
      const type = name.slice(2); el.kvOn ??= {};
      if (!(type in el.kvOn)) el.addEventListener(type, fire);
      el.kvOn[type] = v; continue;
    }
    if (old[name] === v) continue;
    if (v == null || v === false) el.removeAttribute(name); else el.setAttribute(name, v === true ? "" : String(v));
  }
}
/** The element that a description describes. */
export function make(v) {
  if (v instanceof Node) return v;
  if (!(v instanceof Described)) return document.createTextNode(String(v));
  const el = v.svg ? document.createElementNS(SVG, v.tag) : document.createElement(v.tag);
  el.kv = v;
  change(el, {}, v.props);
  for (const kid of v.kids) el.append(make(kid));
  v.props.ref?.(el);
  return el;
}
/** Changes `el`, which was made from a description with the same tag. Focus, scroll positions and typed text stay. */
export function patch(el, v) {
  const old = el.kv;
  if (old === v) return;
  el.kv = v;
  change(el, old?.props ?? {}, v.props);
  if (!v.tag.includes("-") || v.kids.length) fill(el, v.kids);
}
/** Makes the children of `el` those that are described; `key` says which one is which when they change places. */
export function fill(el, kids) {
  let keyed = null;
  for (let n = el.firstChild; n; n = n.nextSibling) { const k = n.kv?.props.key; if (k !== undefined) (keyed ??= new Map()).set(k, n); }
  let at = el.firstChild;
  for (const want of kids) {
    let node;
    if (want instanceof Node) node = want;
    else if (!(want instanceof Described)) { if (at?.nodeType === 3) { node = at; if (node.data !== want) node.data = want; } else node = document.createTextNode(want); }
    else {
      const key = want.props.key, near = key !== undefined ? keyed?.get(key) : at?.kv && at.kv.props.key === undefined ? at : null;
      if (near?.kv.tag === want.tag) { patch(near, want); node = near; } else node = make(want);
    }
    if (node === at) at = at.nextSibling; else el.insertBefore(node, at);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

const PATHS = {
  overview: "M2 9.5h3l2-6 3 9 1.6-4H14", cluster: "M8 2.2a5.8 5.8 0 1 1 0 11.6A5.8 5.8 0 0 1 8 2.2M8 2v3.2M3 11l2.7-1.6M13 11l-2.7-1.6",
  shards: "M2.5 4h11M2.5 8h11M2.5 12h11M5.5 4v0M9 8v0", heat: "M2.5 2.5h4v4h-4zM9.5 2.5h4v4h-4zM2.5 9.5h4v4h-4zM9.5 9.5h4v4h-4z",
  performance: "M2.5 13.5v-4M6.2 13.5v-8M9.8 13.5v-6M13.5 13.5v-11", keys: "M10.5 2.5a3 3 0 1 1-2.4 4.8L3 12.5v1h2v-1.6h1.6v-1.6M11 5h0",
  watch: "M1.8 8S4 3.8 8 3.8 14.2 8 14.2 8 12 12.2 8 12.2 1.8 8 1.8 8M8 6.3a1.7 1.7 0 1 1 0 3.4 1.7 1.7 0 0 1 0-3.4", jobs: "M3 5h7a3 3 0 0 1 0 6H5M7 8.8 4.8 11 7 13.2M5 2.8 2.8 5 5 7.2",
  security: "M8 1.8 13 4v4c0 3-2 5-5 6.2C5 13 3 11 3 8V4zM6 8l1.5 1.5L10.2 6.6", node: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h0M5 11h0",
  api: "M5.5 4 2 8l3.5 4M10.5 4 14 8l-3.5 4", search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9M10.4 10.4l3.4 3.4", copy: "M5.5 5.5h8v8h-8zM10.5 3v-.5h-8v8H3",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11", more: "M3 8h.1M8 8h.1M13 8h.1", close: "M3.5 3.5l9 9M12.5 3.5l-9 9", up: "M8 12.5v-9M4.5 7 8 3.5 11.5 7", down: "M8 3.5v9M4.5 9 8 12.5 11.5 9",
  edit: "M3 13l.6-3L10.5 3 13 5.5 6 12.4z", trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5 5 13.5h6l.5-9", refresh: "M13 8a5 5 0 1 1-1.5-3.5M13 2.5v2.5h-2.5", arrow: "M3 8h10M9 4l4 4-4 4", inbox: "M2.5 9l2-6h7l2 6v4h-11zM2.5 9h3l1 2h3l1-2h3",
};
/** @param {keyof typeof PATHS} name */
export const icon = (name, size = 16) => s("svg", { width: size, height: size, viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": size > 20 ? 1.1 : 1.5, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));

/** Each state has a shape of its own, so that none depends on its colour. */
const SHAPES = {
  ok: () => [s("circle.full", { cx: 8, cy: 8, r: 7 }), s("path.hole", { d: "M4.8 8.2 7 10.4 11.2 5.8" })],
  heal: () => [s("circle", { cx: 8, cy: 8, r: 6, opacity: .3 }), s("path.spin", { d: "M8 2a6 6 0 0 1 6 6" }), s("path", { d: "M8 5.5v5M5.5 8h5" })],
  risk: () => [s("path.full", { d: "M8 1.5 15.2 14.2H.8z" }), s("path.hole", { d: "M8 6v3.8M8 12v.2" })],
  bad: () => [s("path.full", { d: "M5 1h6l4 4v6l-4 4H5l-4-4V5z" }), s("path.hole", { d: "M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4" })],
  quiet: () => [s("circle", { cx: 8, cy: 8, r: 6.2, "stroke-width": 1.6, "stroke-dasharray": "2.6 2.27" }), s("path", { d: "M8 8h.05", "stroke-width": 2.4 })],
};
/** @param {keyof typeof SHAPES} level */
export const glyph = (level, size = 14) => s("svg.glyph", { width: size, height: size, viewBox: "0 0 16 16", "aria-hidden": "true" }, SHAPES[level]());
export const logo = (size = 22) => s("svg", { width: size, height: size, viewBox: "0 0 24 24", fill: "none", "stroke-width": 3.8, "stroke-linecap": "round", "aria-hidden": "true" },
  s("path", { stroke: "var(--accent)", d: "M13.7 3.2A9 9 0 0 1 19.6 16.6M16.7 19.7A9 9 0 0 1 7.3 19.7" }), s("path", { stroke: "var(--line-control)", d: "M4.4 16.6A9 9 0 0 1 10.3 3.2" }));


export const status = (level, word) => h("span", { class: `status s-${level}` }, glyph(level), word);
/** A node by its number and colour. */
export const chip = (node, how = "") => h("span", { class: `chip n${node.hue} ${how}` }, node.short);
export const panel = (title, end, ...body) => h("section.panel", { "aria-label": title }, h("header", h("h2", title), end && h("div.end.row.wrap", end)), h("div.body", body));
/** A panel whose contents reach its edges. */
export const sheet = (title, says, ...body) => h("section.panel", { "aria-label": title }, h("header", h("h2", title), says && h("p.dim", says)), body);
export const bar = (part, level = "", label = "") => h("span.bar", { class: level ? `s-${level}` : "plain", ...(label && { role: "meter", "aria-label": label, "aria-valuenow": Math.round(part * 100), "aria-valuemin": 0, "aria-valuemax": 100 }) }, h("i", { css: { width: `${Math.min(100, Math.max(0, part * 100)).toFixed(1)}%` } }));
/** A part of something that is full at 1; `null` is not known. */
export const meter = (name, part, text, of) => h("div.meter", h("span", name), part === null ? h("span.bar.unknown") : bar(part, part > .85 ? "risk" : "", `${name}${of}`), h("b", part === null ? "—" : text));
/** What is not known, or has nothing to say. */
export const none = () => h("span.faint", "—");
/** `v` as `how` writes it, or the dash if it is not known. */
export const or = (v, how) => (v == null || v !== v ? none() : how(v));
export const facts = (rows) => h("dl.facts", rows.filter(Boolean).map(([k, v]) => [h("dt", k), h("dd", v ?? none())]));
export const empty = (ic, title, text, ...acts) => h("div.empty", typeof ic === "string" ? icon(ic, 30) : ic, h("p.et", title), text && h("p", text), acts);
export const note = (level, title, ...body) => h("div", { class: `note ${level ? `s-${level}` : ""}` }, level ? glyph(level, 16) : icon("security"), h("div.grow", h("b", title), body));
export const head = (title, says, ...acts) => h("div.head", h("h1", title), says && (typeof says === "string" ? h("p", says) : says), acts.length > 0 && h("div.acts", acts));
/** One of a few. `options`: [value, text] pairs. */
export const pick = (label, options, now, onpick) => h("div.pick", { role: "group", "aria-label": label }, options.map(([v, t]) => h("button", { type: "button", "aria-pressed": String(v === now), onclick: () => onpick(v) }, t)));

/** A colour token as the canvas wants it; asked once per theme. */
const inks = new Map();
let probe;
export function color(token) {
  if (!inks.has(token)) {
    probe ??= document.body.appendChild(make(h("i", { hidden: true })));
    probe.style.color = `var(--${token})`;
    inks.set(token, getComputedStyle(probe).color);
  }
  return inks.get(token);
}
export const forgetColors = () => inks.clear();

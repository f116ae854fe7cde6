// As much of a browser's document as the pages need to be described and changed: for tests without a browser.

class Node { constructor(type) { this.nodeType = type; this.childNodes = []; this.parentNode = null; } get isConnected() { return true; }
  get firstChild() { return this.childNodes[0] ?? null; } get lastChild() { return this.childNodes.at(-1) ?? null; } get nextSibling() { const l = this.parentNode?.childNodes; return l ? l[l.indexOf(this) + 1] ?? null : null; }
  remove() { if (this.parentNode) { const l = this.parentNode.childNodes; l.splice(l.indexOf(this), 1); this.parentNode = null; } }
  insertBefore(n, at) { n.remove(); const l = this.childNodes; l.splice(at ? l.indexOf(at) : l.length, 0, n); n.parentNode = this; return n; }
  append(...list) { for (const n of list) this.insertBefore(typeof n === "string" ? new Text(n) : n, null); } appendChild(n) { return this.insertBefore(n, null); } replaceChildren(...list) { for (const n of [...this.childNodes]) n.remove(); this.append(...list); }
  get textContent() { return this.nodeType === 3 ? this.data : this.childNodes.map((n) => n.textContent).join(""); } set textContent(t) { this.replaceChildren(new Text(String(t))); } }
class Text extends Node { constructor(data) { super(3); this.data = data; } }
class Element extends Node {
  constructor(tag) { super(1); this.tag = tag ?? "x"; this.attributes = new Map(); this.listeners = {}; this.style = { setProperty() {} }; this.dataset = {}; this.hidden = false; this.classList = { toggle() {}, add() {}, remove() {} }; this.scrollTop = 0; this.value = ""; }
  setAttribute(k, v) { if (k.startsWith("on") || k === "style") throw new Error(`the attribute ${k} would be refused`); this.attributes.set(k, String(v)); } removeAttribute(k) { this.attributes.delete(k); } getAttribute(k) { return this.attributes.get(k) ?? null; }
  addEventListener(type, f) { (this.listeners[type] ??= []).push(f); } removeEventListener() {} dispatch(type, e = {}) { for (const f of this.listeners[type] ?? []) f.call(this, { type, target: this, preventDefault() {}, ...e }); }
  get children() { return this.childNodes.filter((n) => n.nodeType === 1); } matches() { return false; } closest() { return null; } contains(x) { for (let n = x; n; n = n.parentNode) if (n === this) return true; return false; }
  find(test) { for (const n of this.children) { if (test(n)) return n; const found = n.find(test); if (found) return found; } return null; } all(test, out = []) { for (const n of this.children) { if (test(n)) out.push(n); n.all(test, out); } return out; }
  querySelector() { return null; } querySelectorAll() { return []; } focus() {} click() {} getContext() { return null; } showModal() { this.open = true; } close() { this.dispatch("close"); this.remove(); }
}
class Form { constructor(form) { this.fields = form.all((n) => n.getAttribute("name")); } get(name) { return this.fields.find((n) => n.getAttribute("name") === name)?.value ?? null; } }
const defined = new Map(), media = { matches: false, addEventListener() {}, removeEventListener() {} };
const create = (tag) => { const C = defined.get(tag); const el = C ? new C() : new Element(tag); el.tag = tag; return el; };
const document = { createElement: create, createElementNS: (_, tag) => create(tag), createTextNode: (t) => new Text(t), body: new Element("body"), documentElement: new Element("html"), activeElement: null, hidden: false, addEventListener() {}, removeEventListener() {}, querySelectorAll: () => [], querySelector: () => null, getElementById: () => null };
Object.assign(globalThis, { Node, Element, HTMLElement: Element, FormData: Form, document, customElements: { define: (n, c) => defined.set(n, c) }, matchMedia: () => media, requestAnimationFrame: () => 0, ResizeObserver: class { observe() {} disconnect() {} }, addEventListener() {}, removeEventListener() {}, innerHeight: 900, devicePixelRatio: 1, getComputedStyle: () => ({ color: "red", fontFamily: "x" }), location: { host: "127.0.0.1:7421", protocol: "http:", hash: "", pathname: "/", search: "" } });

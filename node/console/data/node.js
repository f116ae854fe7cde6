import { apply } from "./model.js";

// Asking the node. Every failure is a Problem, with a sentence that can be shown as it is.

/** What went wrong. `status` 0: no answer came. `outcome` of a write: not_applied, applied or unknown. */
export class Problem extends Error {
  constructor(status, body, path, method) {
    super(sentence(status, body, path, method));
    this.status = status; this.code = body?.code ?? ""; this.detail = body?.detail ?? "";
    this.outcome = body?.outcome ?? null; this.keyVersion = body?.key_version ?? null;
  }
}
const PRIVATE = /^\/console\/(login|who)/;
function sentence(status, body, path, method) {
  const write = method !== "GET" && /^\/(kv|atomic|batch)/.test(path);
  if (status === 0) return write ? "It may have been written: the answer did not come in time. Look the key up before you try again." : "The node does not answer.";
  const text = body?.detail || body?.title || `The node answers ${status}.`;
  const said = `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
  if (body?.outcome === "unknown") return `It may have been written: ${text}. Look the key up before you try again.`;
  if (status === 401 && !PRIVATE.test(path)) return "You are not signed in any more.";
  return said;
}
let onlogin = () => {};
/** Who wants to know that nobody is logged in. */
export const whenLoggedOut = (what) => { onlogin = what; };

/**
 * A request to the node, with a deadline.
 * @param {string} path
 * @param {{method?:string, json?:any, headers?:Record<string,string>, raw?:boolean, wait?:number, signal?:AbortSignal}} how
 *   `raw`: gives the Response, if its status is below 400. `wait`: milliseconds, 10,000 by default.
 */
export async function ask(path, { method = "GET", json, headers = {}, raw = false, wait = 10_000, signal } = {}) {
  const end = new AbortController(), timer = setTimeout(() => end.abort(), wait);
  signal?.addEventListener("abort", () => end.abort());
  try {
    let response;
    try {
      response = await fetch(path, { method, headers: { accept: "application/json", ...(json === undefined ? {} : { "content-type": "application/json" }), ...headers }, body: json === undefined ? undefined : JSON.stringify(json), signal: end.signal, credentials: "same-origin", cache: "no-store", redirect: "error" });
    } catch { throw new Problem(0, null, path, method); }
    if (response.status >= 400) {
      let body = null;
      try { body = await response.json(); } catch { /* no problem of ours: the status says all there is */ }
      if (response.status === 401 && !PRIVATE.test(path)) onlogin();
      throw new Problem(response.status, body, path, method);
    }
    if (raw) return response;
    if (response.status === 204) return null;
    try { return await response.json(); } catch { throw new Problem(0, null, path, method); }
  } finally { clearTimeout(timer); }
}
export const post = (path, json) => ask(path, { method: "POST", json });
/** A path with parameters; those that are null or undefined are left out. */
export function url(path, params) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v != null) q.set(k, String(v));
  const text = q.toString();
  return text ? `${path}?${text}` : path;
}

// The state of the cluster as one node tells it: asked for once, then followed by one stream of events.

/** Up to this long a tab waits before it asks again, so that many tabs do not come at once. */
const WAIT_MAX_MS = 2000;
/** A tab that nobody sees for so long gives its stream back: a browser has six connections to a node. */
const HIDDEN_MAX_MS = 60_000;

/**
 * Phases: "asking" (nothing is known yet), "login", "live", "lost" (the node does not answer; what was known stays).
 * `on(phase)` is called whenever something has changed. `raw` is what the node told, or null.
 */
export class Live {
  constructor(on, { random = Math.random, now = () => performance.now() } = {}) {
    Object.assign(this, { on, random, now, phase: "asking", raw: null, who: null, required: false, why: "", heardAt: null, run: 0, early: [], rev: 0 });
    addEventListener("online", () => this.phase === "lost" && this.start());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.sleep);
      if (document.hidden) this.sleep = setTimeout(() => { this.asleep = true; this.close(); }, HIDDEN_MAX_MS);
      else if (this.asleep) { this.asleep = false; this.start(); }
    });
  }
  /** Milliseconds since the node was last heard, or null. */
  get age() { return this.heardAt === null ? null : this.now() - this.heardAt; }
  close() { this.run += 1; this.stream?.close(); this.stream = null; clearTimeout(this.timer); this.asked = this.loading = false; this.early = []; }
  set(phase, why = "") { this.phase = phase; this.why = why; this.on(phase); }

  async start() {
    this.close();
    const run = this.run;
    try {
      const { required, who } = await ask("/console/who", { wait: 5000 });
      if (run !== this.run) return;
      this.required = required; this.who = who;
      if (required && !who) { this.raw = null; this.set("login"); return; }
      // First the state: what the stream answers to those who may not have it, or are too many, a page can't read.
      await this.load(run);
      if (run === this.run) this.open(run);
    } catch (error) { if (run === this.run) this.later(error); }
  }
  /** The whole state. Frames that come meanwhile are kept, and applied if they are younger. */
  async load(run) {
    this.loading = true;
    try {
      const raw = await ask("/console/state", { wait: 8000 });
      if (run !== this.run) return;
      for (const frame of this.early) if (frame.seq > raw.seq) apply(raw, frame);
      this.raw = raw; this.who = raw.who ?? this.who; this.rev += 1; this.heardAt = this.now();
      this.set("live");
    } catch (error) {
      if (run !== this.run) return;
      if (error.status === 403) { this.set("refused", error.message); this.close(); return; }
      throw error;
    } finally { if (run === this.run) { this.loading = false; this.early = []; } }
  }
  open(run) {
    const stream = new EventSource("/console/events");
    this.stream = stream;
    stream.addEventListener("second", (e) => { if (run === this.run) this.take(JSON.parse(e.data), run); });
    stream.onerror = () => { if (run === this.run) this.later(null); };
  }
  take(frame, run) {
    this.heardAt = this.now();
    if (this.loading || !this.raw) { if (this.early.length < 60) this.early.push(frame); return; }
    if (frame.seq <= this.raw.seq && frame.shape === this.raw.shape) return;
    if (apply(this.raw, frame)) { this.rev += 1; if (this.phase === "live") this.on("live"); else this.set("live"); return; }
    // Something was missed: the state is asked for, once.
    if (this.asked) return;
    this.asked = true;
    this.timer = setTimeout(() => { this.asked = false; this.load(run).catch((error) => { if (run === this.run) this.later(error); }); }, this.random() * WAIT_MAX_MS);
  }
  /** The node does not answer, or ended the stream: tries again after a random wait. */
  later(error) {
    this.close();
    this.timer = setTimeout(() => this.start(), 200 + this.random() * (WAIT_MAX_MS - 200));
    if (error || this.age === null || this.age > 3000) this.set("lost", error?.status ? error.message : "The node does not answer.");
  }
}

// What single pages ask for beside the state: asked when it is wanted, again when it is old, forgotten when nobody wants it.

const FORGET_MS = 60_000;

export class Store {
  constructor(changed, { get = ask, now = () => performance.now() } = {}) { Object.assign(this, { changed, get, now, all: new Map() }); }
  /**
   * What `path` last answered. Called again at each drawing.
   * @param {string} path @param {number} every milliseconds after which it is asked again; 0: once
   * @returns {{data:any, error:Error|null, since:number|null, age:number|null, slow:boolean, again:()=>void}}
   *   `slow`: nothing came yet and 300 ms are over. `age`: ms since it came.
   */
  want(path, every = 0) {
    let x = this.all.get(path);
    if (!x) { x = { path, data: null, error: null, at: null, began: null, busy: false, triedAt: -Infinity }; this.all.set(path, x); }
    const now = this.now();
    x.wantedAt = now;
    const old = every > 0 && now - x.triedAt >= every;
    if (!x.busy && (x.triedAt === -Infinity || old || (x.error && now - x.triedAt > 5000))) this.fetch(x);
    return { data: x.data, error: x.error, age: x.at === null ? null : now - x.at, slow: x.at === null && x.began !== null && now - x.began > 300, again: () => { x.triedAt = -Infinity; this.fetch(x); } };
  }
  async fetch(x) {
    if (x.busy) return;
    x.busy = true; x.began ??= this.now(); x.triedAt = this.now();
    if (x.at === null) setTimeout(() => { if (x.busy) this.changed(); }, 310);
    try { x.data = await this.get(x.path); x.error = null; x.at = this.now(); }
    catch (error) { x.error = error; if (error.status === 401 || error.status === 403) x.data = x.at = null; }
    x.busy = false;
    this.changed();
  }
  /** Forgets all: somebody else looks. */
  clear() { this.all.clear(); }
  /** Forgets what nobody has wanted for a minute. */
  sweep() { const now = this.now(); for (const [path, x] of this.all) if (!x.busy && now - x.wantedAt > FORGET_MS) this.all.delete(path); }
  /** All that begins with `path` is asked for anew when it is wanted next. */
  stale(path) { for (const [p, x] of this.all) if (p.startsWith(path)) x.triedAt = -Infinity; }
}

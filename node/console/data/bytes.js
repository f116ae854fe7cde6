// Keys and values are bytes. A key is {text} if it is UTF-8, else {base64} (URL alphabet, no padding).

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** The text of bytes, or null if they are not UTF-8. */
export function textOf(bytes) { try { return strict.decode(bytes); } catch { return null; } }
export const bytesOf = (text) => new TextEncoder().encode(text);
export const sizeOf = (text) => bytesOf(text).length;
export function base64(bytes) {
  let out = "";
  for (let i = 0; i < bytes.length; i += 0x8000) out += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(out).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
export const unbase64 = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
/** A key as it stands in an answer: key, or key_base64. */
export const keyOf = (x) => (typeof x.key === "string" ? { text: x.key } : { base64: x.key_base64 });
/** As parameters or members of a request. */
export const named = (key) => (key.text !== undefined ? { key: key.text } : { key_base64: key.base64 });
/** As it is shown: what is not UTF-8 as hex. */
export function shown(key) {
  if (key.text !== undefined) return key.text;
  return `0x${[...unbase64(key.base64)].map((b) => b.toString(16).padStart(2, "0")).join("")}`;
}
export const sameKey = (a, b) => a && b && a.text === b.text && a.base64 === b.base64;
/** Where the page Keys shows it. */
export const linkTo = (key) => `#/keys?${key.text !== undefined ? `key=${encodeURIComponent(key.text)}` : `key64=${key.base64}`}`;
/** What `{tag}` of a key decides on its shard, or null. */
export function tagOf(text) { const a = text.indexOf("{"), b = text.indexOf("}", a + 1); return a >= 0 && b > a + 1 ? text.slice(a, b + 1) : null; }

/** 16 bytes a line: offset, hex, letters. */
export function hexDump(bytes, most = 4096) {
  const lines = [];
  for (let i = 0; i < Math.min(bytes.length, most); i += 16) {
    const part = [...bytes.subarray(i, Math.min(i + 16, bytes.length))];
    lines.push(`${i.toString(16).padStart(8, "0")}  ${part.map((x) => x.toString(16).padStart(2, "0")).join(" ").padEnd(47)}  ${part.map((x) => (x > 31 && x < 127 ? String.fromCharCode(x) : ".")).join("")}`);
  }
  return lines.join("\n");
}

/** JSON, laid out: or null if it is none. Numbers stay as they were written: nothing is parsed into doubles. */
export function layOut(text) {
  try { JSON.parse(text); } catch { return null; }
  let out = "", depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "{" || token === "[") { depth += 1; out += token + line(); }
    else if (token === "}" || token === "]") { depth -= 1; out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token; }
    else if (token === ",") out += token + line();
    else if (token === ":") out += ": ";
    else out += token;
  }
  return out;
}
/** Pieces of JSON with their kind: k name, s string, n number or word, p sign, or "" for what lies between. */
export function pieces(text) {
  const out = [], form = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*|true|false|null)|([{}[\],:])/g;
  let at = 0;
  for (const f of text.matchAll(form)) {
    if (f.index > at) out.push(["", text.slice(at, f.index)]);
    out.push([f[1] ? (f[2] ? "k" : "s") : f[3] ? "n" : "p", f[1] ?? f[0]]);
    if (f[2]) out.push(["p", f[2]]);
    at = f.index + f[0].length;
  }
  if (at < text.length) out.push(["", text.slice(at)]);
  return out;
}

/** Lines of two texts, side by side: ["=", line], ["-", of the old], ["+", of the new]. Beyond `most` lines: whole blocks. */
export function difference(a, b, most = 400) {
  const x = a.split("\n"), y = b.split("\n");
  let head = 0; while (head < x.length && head < y.length && x[head] === y[head]) head += 1;
  let tail = 0; while (tail < x.length - head && tail < y.length - head && x[x.length - 1 - tail] === y[y.length - 1 - tail]) tail += 1;
  const p = x.slice(head, x.length - tail), q = y.slice(head, y.length - tail), out = x.slice(0, head).map((t) => ["=", t]);
  if (p.length > most || q.length > most) out.push(...p.map((t) => ["-", t]), ...q.map((t) => ["+", t]));
  else {
    const n = q.length + 1, len = new Uint16Array((p.length + 1) * n);
    for (let i = p.length - 1; i >= 0; i -= 1) for (let j = q.length - 1; j >= 0; j -= 1) len[i * n + j] = p[i] === q[j] ? len[(i + 1) * n + j + 1] + 1 : Math.max(len[(i + 1) * n + j], len[i * n + j + 1]);
    let i = 0, j = 0;
    while (i < p.length || j < q.length) {
      if (i < p.length && j < q.length && p[i] === q[j]) { out.push(["=", p[i]]); i += 1; j += 1; }
      else if (i < p.length && (j === q.length || len[(i + 1) * n + j] >= len[i * n + j + 1])) { out.push(["-", p[i]]); i += 1; }
      else { out.push(["+", q[j]]); j += 1; }
    }
  }
  return [...out, ...x.slice(x.length - tail, x.length).map((t) => ["=", t])];
}

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

/** What differs in two texts, by lines: ["-", of the old], ["+", of the new], with up to `around` lines of ["=", both] around it. */
export function difference(a, b, around = 3) {
  const x = a.split("\n"), y = b.split("\n"), n = Math.min(x.length, y.length), all = (sign, list) => list.map((t) => [sign, t]);
  let head = 0; while (head < n && x[head] === y[head]) head += 1;
  let tail = 0; while (tail < n - head && x.at(-1 - tail) === y.at(-1 - tail)) tail += 1;
  return [...all("=", x.slice(Math.max(0, head - around), head)), ...all("-", x.slice(head, x.length - tail)), ...all("+", y.slice(head, y.length - tail)), ...all("=", x.slice(x.length - tail).slice(0, around))];
}

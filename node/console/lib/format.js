// How numbers are written. One rule per kind, used everywhere. What is not a number is a dash.
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const un = (n) => n == null || n !== n;
/** 3 significant digits, never more. */
const three = (n) => (n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2));
export const count = (n) => (un(n) ? "—" : whole.format(n));
/** A rate or an amount: 8,469 · 39.6 k · 2.11 M. A rate under 10 keeps one decimal. */
export const short = (n) => (un(n) ? "—" : n >= 1e9 ? `${three(n / 1e9)} G` : n >= 1e6 ? `${three(n / 1e6)} M` : n >= 1e4 ? `${three(n / 1e3)} k` : n > 0 && n < 9.95 && n % 1 !== 0 ? n.toFixed(1) : whole.format(n));
/** Milliseconds. */
export const ms = (n) => (un(n) ? "—" : n >= 1000 ? `${three(n / 1000)} s` : n >= 100 ? `${n.toFixed(0)} ms` : n >= 1 ? `${n.toFixed(1)} ms` : n === 0 ? "0 ms" : n >= .01 ? `${n.toFixed(2)} ms` : `${(n * 1000).toFixed(n >= .001 ? 0 : 1)} µs`);
export const percent = (n) => (un(n) ? "—" : n > 0 && n < .001 ? "< 0.1 %" : n < .1 && n > 0 ? `${(n * 100).toFixed(1)} %` : `${Math.round(n * 100)} %`);
export function bytes(n) {
  if (un(n)) return "—";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < 4) { n /= 1024; i += 1; }
  return `${i === 0 ? whole.format(n) : three(n)} ${units[i]}`;
}
/** Seconds, in at most two units. */
export function ago(seconds) {
  if (un(seconds)) return "—";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const parts = (n, unit, rest, small) => `${whole.format(n)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
  if (seconds < 86400) return parts(Math.floor(seconds / 3600), "h", Math.floor(seconds / 60) % 60, "min");
  return parts(Math.floor(seconds / 86400), "d", seconds < 8_640_000 ? Math.floor(seconds / 3600) % 24 : 0, "h");
}
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;
const two = (n) => String(n).padStart(2, "0");
/** Time of day of a moment in Unix milliseconds; with the date unless it is today. */
export function clock(at, now = Date.now()) {
  if (un(at)) return "—";
  const d = new Date(at), time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return d.toDateString() === new Date(now).toDateString() ? time : `${date(at)} ${time.slice(0, 5)}`;
}
export function date(at) { if (un(at)) return "—"; const d = new Date(at); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; }
/** Names in a row, no more than `most` of them. */
export const list = (names, most = 6) => (names.length <= most + 1 ? (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`) : `${names.slice(0, most).join(", ")} and ${names.length - most} more`);
export const upper = (t) => (t ? t[0].toUpperCase() + t.slice(1) : t);

import { post, url } from "../data/node.js";
import { bar, glyph, h, icon, panel } from "../lib/dom.js";
import { ago, bytes, count, list, many, percent } from "../lib/format.js";
import { spark } from "./chart.js";
import { command, confirm, toast } from "./layers.js";

// Parts that several pages share: the tile, the panel of what is asked for by itself, buttons that may be refused, a node's acts.

/** `value`: "39.6 k" or "—"; the unit is written smaller. */
export function tile(label, href, value, below, points, token = "c1", floor) {
  const i = value.lastIndexOf(" "), [a, b] = value === "—" || i < 0 ? [value, ""] : [value.slice(0, i), value.slice(i + 1)];
  return h("a.panel.tile", { href }, h("div.label", label), h("div.value", a, h("small", b)), h("div.sub", { title: below }, below), points && spark(points, token, floor));
}

/** Frames of what a page asks for by itself: loading after 300 ms, error, old, or `body(data)`. */
export function asked(title, w, me, body, end) {
  if (w.data === null && w.error) return panel(title, end, failed(w));
  if (w.data === null) return panel(title, end, w.slow ? h("p.dim.waiting", { role: "status" }, `Asking ${me}…`) : h("p.waiting"));
  const stale = w.error || w.age > 30_000;
  const made = body(w.data);
  if (!stale) return made;
  made.props = { ...made.props, class: `${made.props.class} is-stale` };
  const note = h("span.tag.s-risk", `as of ${ago(w.age / 1000)} ago`), top = made.kids[0];
  if (top?.tag === "header") top.kids.push(note);
  return made;
}
export const failed = (w) => h("div.empty.small", { role: "alert" }, h("span.tint.s-bad", glyph("bad", 28)), h("p.et", w.error.status === 403 ? "You may not see this" : w.error.status === 404 ? "This node's program does not tell" : "This part did not come"), h("p", w.error.message), w.error.status !== 403 && w.error.status !== 404 && h("button.btn", { type: "button", onclick: () => w.again() }, icon("refresh", 13), "Try again"));

/** A button; where there is a reason against the act, it says the reason instead of acting. */
export function act(name, go, { why = null, cls = "", label, ic } = {}) {
  return h("button", { class: `btn ${cls}`, type: "button", "aria-label": label ?? null, "aria-disabled": why ? "true" : null, title: why || null, onclick: () => (why ? toast("risk", why) : go()) }, ic && icon(ic, 13), name);
}
/** Why somebody may not change the cluster now, or null. */
export const whyNot = (m) => (m.old ? `${m.me} does not answer. Use another node's console.` : !m.rights.has("admin") ? "Your roles lack the class admin. Ask whoever holds root." : m.said && !m.said.spoken_for ? `Nobody speaks for the ring map: ${m.me} hears no quorum of its group.` : null);

const nodeAt = (n, verb) => `/nodes/${encodeURIComponent(n.id)}/${verb}`;
/** Leadership leaves the node for a while; no data moves. */
export function drain(m, n) {
  const lost = m.what.nodes[n.i].stop;
  if (lost > 0) { toast("risk", `Can't drain ${n.name}: ${many(lost, "shard")} would lose quorum. Bring the missing replicas back first.`); return; }
  const minutes = h("div", h("label", { for: "minutes" }, "Minutes until it counts as up again"), h("input.field", { id: "minutes", name: "minutes", type: "number", min: 1, max: 1440, value: 10, required: true }));
  confirm({ title: `Drain ${n.name}?`, word: n.name, verb: "Drain", safe: true, fields: minutes,
    says: [h("p", `Leadership of ${many(n.leads, "shard")} moves away, each in under 1 s. No data moves, no request fails.`), h("p", "Until then the cluster waits for this node, and makes nothing anew elsewhere.")],
    run: async (form) => { const min = Number(form.get("minutes")); await post(url(nodeAt(n, "drain"), { for_ms: Math.round(min * 60_000) })); return `${n.name} drains for ${min} min: leadership moves away.`; } });
}
/** Does at once what takes nothing away, and says so. */
export async function plainly(path, said) { try { await post(path); toast("ok", said); } catch (error) { toast("bad", error.message); } }
export const undrain = (m, n) => plainly(nodeAt(n, "undrain"), `${n.name} is no longer drained.`);
export const keep = (m, n) => plainly(nodeAt(n, "keep"), `${n.name} stays. What it has given away stays where it is.`);
/** Asks first what would move, then wants the name typed. */
export async function remove(m, n) {
  let plan;
  try { plan = await post(`${nodeAt(n, "remove")}?dry_run=true`); }
  catch (error) { toast("bad", `Can't remove ${n.name}. ${error.message}`); return; }
  const moves = plan.moves?.length ?? 0;
  confirm({ title: `Remove ${n.name} for good?`, word: n.name, verb: "Remove node",
    says: [h("p", moves ? `${many(moves, "replica")} ${moves === 1 ? "is" : "are"} copied to other nodes first, one after the other. Then ${n.name} leaves the ring map.` : `${n.name} holds nothing that must move. It leaves the ring map.`), h("p", `Until it has left, Keep ends the removal. After that the node can't come back with this folder.`)],
    run: async () => { await post(nodeAt(n, "remove")); return `${n.name} gives away what it holds. Jobs shows how far it is.`; } });
}
/** A node is stopped on its machine: there is no address for it. */
export function stopping(m, n) {
  confirm({ title: `Stop ${n.name}`, verb: "Close", safe: true, only: true, says: [h("p", `A node is stopped from the command line or by its machine's service manager. It hands over ${many(n.leads, "shard")}, syncs, and exits. Nothing acknowledged is lost. It can't be started from here.`), command(`kvorum-cli --url kv://${n.address} SHUTDOWN ${n.name}`)], run: async () => "" });
}

/** Makes a token by which one machine may join. */
export function addNode(m) {
  confirm({ title: "Add a node", verb: "Make a token", safe: true, says: h("p", "One machine joins by it, once, within the hour. It is a secret: whoever has it can join."),
    fields: h("div.grid2", h("div", h("label", { for: "token-name" }, "Name, if you want to choose it"), h("input.field", { id: "token-name", name: "name", autocomplete: "off", spellcheck: "false", placeholder: `node-${m.nodes.length + 1}` })), h("div", h("label", { for: "token-zone" }, "Zone, if it has one"), h("input.field", { id: "token-zone", name: "zone", autocomplete: "off", spellcheck: "false", placeholder: m.zones.map((z) => z.name).filter(Boolean)[0] ?? "" }))),
    run: async (form) => {
      const zone = String(form.get("zone") || ""), made = await post(url("/cluster/tokens", { name: String(form.get("name") || "") || null, zone: zone || null }));
      const host = (m.self?.address ?? "").replace(/:\d+$/, "");
      setTimeout(() => confirm({ title: "On the new machine", verb: "Done", safe: true, only: true, says: [h("p", `The token is shown once. It is good for ${ago(made.for_ms / 1000)}.`), command(`export KVORUM_JOIN_TOKEN=${made.token}`), command(`kvorum join --to ${host || "NODE"}:7410 --data-dir /var/lib/kvorum${zone ? ` --zone ${zone}` : ""} --run`), h("p.small.dim", "--to names the peers' door (UDP) of any node; 7410 is the usual port.")], run: async () => "" }));
      return "";
    } });
}
/** What moving leadership to where it should be would change, then does it. */
export async function rebalance(m) {
  let plan;
  try { plan = await post("/rebalance?dry_run=true"); } catch (error) { toast("bad", error.message); return; }
  if (!plan.leadership_moves) { toast("ok", "Nothing to move: each shard is led where it should be."); return; }
  confirm({ title: `Move leadership of ${many(plan.leadership_moves, "shard")}?`, verb: "Move leadership", safe: true,
    says: [h("p", "Each shard is led by the first of its replicas that can be reached. Each move takes under 1 s; no data moves."), h("p", plan.moves.slice(0, 8).map((x) => `Shard ${x.shard}: ${x.from} to ${x.to}`).join(" · "), plan.moves.length > 8 ? ` · and ${count(plan.moves.length - 8)} more` : "")],
    run: async () => { await post("/rebalance"); return `${many(plan.leadership_moves, "shard")} move.`; } });
}
/** Hands the leadership of a shard to one of its followers. */
export function handOver(m, x, to) {
  confirm({ title: `Shard ${x.id}: hand over to ${m.nodes[to].name}?`, verb: "Hand over", safe: true, says: h("p", `${m.nodes[x.leader].name} hands over as soon as ${m.nodes[to].name} has all that is committed. Writes of this shard wait for under 1 s.`), run: async () => { await post(url(`/shards/${x.id}/leader`, { to: m.nodes[to].name })); return `Shard ${x.id}: leadership moves to ${m.nodes[to].name}.`; } });
}

/** "Up" with what is said of how long. */
export const nodeWord = (n) => (n.level === "bad" && n.silentS !== null ? `${n.word}, ${ago(n.silentS)}` : (n.level === "quiet" || n.level === "bad") && n.heardS !== null && n.heardS > 5 ? `${n.word}, ${ago(n.heardS)}` : n.endsS !== null && n.state === "draining" ? `${n.word}, ${ago(n.endsS)} left` : n.word);

// The verdict: what a person on call reads first. Word, sentence, what may still be lost; then why, what runs, what to do.

/** A node's shape: what matters is whether it is there. */
const shape = (n) => (n.level === "risk" || n.level === "heal" ? "ok" : n.level);
export const moveName = (mv, m) => {
  const name = (i) => (i == null ? null : typeof i === "string" ? i : m.nodes[i]?.name ?? "?"), from = name(mv.from), to = name(mv.to), what = mv.shard === "meta" ? "Ring map" : `Shard ${mv.shard}`;
  return from && to ? (mv.purpose === "repair" ? `${what}: anew on ${to}, for ${from}` : `${what}: ${from} to ${to}`) : to ? `${what}: one more, on ${to}` : from ? `${what}: leaves ${from}` : what;
};
export const moveSays = (mv) => [mv.part != null && mv.bytes ? `${percent(mv.part)} of ${bytes(mv.bytes)}` : mv.part != null ? percent(mv.part) : mv.bytes ? bytes(mv.bytes) : null, mv.bytes_s ? `${bytes(mv.bytes_s)}/s` : null, mv.left_s != null ? `about ${ago(mv.left_s)} left` : null].filter(Boolean).join(", ");

/** @param {any} m @param {any[]|null} moves what runs, if it is known */
export function verdict(m, moves) {
  const v = m.verdict, row = (name, ...what) => h("div", h("dt", name), h("dd", what));
  const run = (moves ?? []).filter((x) => x.under_way), shown = run.slice(0, 4);
  const zones = h("ul.zones", m.zones.slice(0, 12).map((z) => h("li", z.short === "no zone" && m.zones.length === 1 ? "nodes" : z.short, z.nodes.length <= (m.zones.length > 4 ? 3 : 6)
    ? z.nodes.map((n) => h("span", { class: `row tint s-${m.old ? "quiet" : shape(n)}`, title: `${n.name}: ${n.word}` }, glyph(m.old ? "quiet" : shape(n), 14), h("span", { "aria-hidden": "true" }, n.short), h("span.sr", `${n.name} ${n.word}`)))
    : `${count(z.nodes.filter((n) => n.level !== "bad" && n.level !== "quiet").length)} of ${count(z.nodes.length)} ${m.cut ? "heard" : "up"}`)));
  const why = v.why.slice(0, 6), rest = v.why.length - why.length;
  return h("section", { class: `panel verdict s-${v.level}`, "aria-label": "Verdict" },
    h("div.say", glyph(v.level, 34), h("p.word", v.full), h("p.line", v.line)),
    h("div.tolerance", h("b", v.lose), zones),
    (why.length > 0 || v.moves > 0 || v.next) && h("dl.more",
      why.length > 0 && row("Why", why.map((t) => h("p", t)), rest > 0 && h("p.dim", `And ${count(rest)} more.`)),
      v.moves > 0 && row("Running", shown.map((mv) => h("div.move", h("span", moveName(mv, m)), mv.part == null ? h("span.dim", "copies") : bar(mv.part, "heal", moveName(mv, m)), h("span.dim.num", moveSays(mv)))), h("p.dim", list([run.length > shown.length ? `${count(run.length - shown.length)} more run` : null, `${count(v.running)} under way`, `${count(v.waiting)} to come`].filter(Boolean)), ". ", h("a", { href: "#/jobs" }, "Jobs"))),
      v.next && row("What to do", h("p", v.next), v.command && command(v.command))));
}

// The pages that operate: Node, Jobs, Security, API; and the form of the login.
import { ask, post, url } from "../data/node.js";
import { bar, empty, facts, glyph, h, head, icon, logo, make, meter, none, note, or, panel, sheet, pick, status } from "../lib/dom.js";
import { ago, bytes, clock, count, date, list, many, ms, percent, short, upper } from "../lib/format.js";
import { chart } from "../ui/chart.js";
import { command, confirm, toClipboard } from "../ui/layers.js";
import { act, asked, drain, keep, moveName, moveSays, nodeWord, plainly, rebalance, remove, stopping, undrain, whyNot } from "../ui/parts.js";
import { table } from "../ui/table.js";

const LINES_MAX = 400, POLL_MS = 2000, POLL_LINES = 200;
const LEVELS = { error: "e", warn: "w", info: "i", debug: "i", trace: "i" };

/** The log of the node that is asked: the last lines, then what comes. */
class Log {
  constructor(changed) { Object.assign(this, { changed, lines: [], last: null, lost: 0, error: null, level: "info", begun: false, triedAt: -Infinity, rev: 0 }); }
  turn(level) { Object.assign(this, { level, lines: [], last: null, lost: 0, begun: false, triedAt: -Infinity }); this.changed(); }
  async poll(now) {
    if (this.busy || now - this.triedAt < (this.error ? 10_000 : POLL_MS)) return;
    this.busy = true; this.triedAt = now;
    const level = this.level;
    try {
      const got = await ask(url("/console/log", { after: this.last, limit: POLL_LINES, level }));
      if (level === this.level) {
        this.error = null;
        // The node has begun anew, and counts from 1.
        if (got.next <= this.last) { this.last = null; this.triedAt = -Infinity; }
        else { this.lines.push(...got.lines); this.lines.splice(0, this.lines.length - LINES_MAX); this.last = got.lines.length < POLL_LINES ? got.next - 1 : got.lines.at(-1)[0]; this.lost += this.begun ? got.lost : 0; this.begun = true; }
        if (got.lines.length) { this.rev += 1; this.changed(); }
      }
    } catch (error) { this.error = error; this.changed(); }
    this.busy = false;
  }
}
/** Where the log is read at its end, it stays there; who scrolls up is left in peace. */
const box = (name) => make(h("div.log", { tabindex: 0, role: "log", "aria-label": `Log of ${name}`, "aria-live": "off" }));

export function nodePage(ctx) {
  const log = new Log(ctx.redraw), shown = { el: null }, rate = rates();
  function live(m) {
    if (!m.rights.has("admin")) return h("div.body", h("p.dim", "The log needs the class admin. Ask whoever holds root."));
    log.poll(performance.now());
    shown.el ??= box(m.me);
    const el = shown.el;
    if (shown.rev !== log.rev || shown.level !== log.level) {
      const end = el.scrollHeight - el.scrollTop - el.clientHeight < 24;
      shown.rev = log.rev; shown.level = log.level;
      el.replaceChildren(...log.lines.map(([n, at, level, message, fields, target]) => make(h("div", { title: target }, h("time", clock(at, m.now).slice(-8)), h("span", { class: LEVELS[level] ?? "i" }, level), h("span", message, fields && h("span.faint", `  ${fields}`))))));
      if (end || !shown.once) ctx.soon(() => { el.scrollTop = el.scrollHeight; });
      shown.once = true;
    }
    return [log.error && h("p.body.tint.s-bad.small", log.error.message), log.lost > 0 && h("p.body.dim.small", `${many(log.lost, "line")} came too fast and ${log.lost === 1 ? "is" : "are"} not shown.`), log.begun && !log.lines.length && !log.error && h("p.body.dim", "No line of this level yet."), el];
  }
  return { view(m) {
    const name = ctx.query.get("node") ?? m.me, n = m.nodes.find((x) => x.name === name) ?? m.self;
    if (!n) return h("div", head("Node", "The ring map does not name this node."));
    const away = n.level === "bad" || n.level === "quiet", why = whyNot(m), go = (v) => ctx.go(`#/node?node=${encodeURIComponent(v)}`);
    const choose = h("select.field", { "aria-label": "Node", onchange(e) { go(e.target.value); } }, m.nodes.map((x) => h("option", { value: x.name, selected: x === n }, `${x.name}${x.self ? ", asked" : x.level !== "ok" ? `, ${x.word.toLowerCase()}` : ""}`)));
    const acts = [n.state === "draining" ? act("Undrain", () => undrain(m, n), { why }) : n.state === "up" && !away ? act("Drain", () => drain(m, n), { why }) : null, n.state === "removing" ? act("Keep", () => keep(m, n), { why }) : act("Remove", () => remove(m, n), { why, cls: "warn" }), !away && act("Stop", () => stopping(m, n), {})];
    const top = head(n.name, [status(n.level, nodeWord(n)), h("p", [n.zone && `zone ${n.zone}`, n.address, n.version && `version ${n.version}`].filter(Boolean).join(", "))], choose, acts);
    const next = n.state === "removing" ? "Its replicas are copied to other nodes. Then it leaves the ring map." : m.cut ? "Nothing can be decided from here." : n.endsS === 0 ? "What it held is made anew on other nodes. If it comes back, replicas that are still wanted are kept." : n.endsS !== null ? `The cluster waits for it. Unless it comes back, what it holds is made anew elsewhere in ${ago(n.endsS)}.` : "The cluster waits for it. Nothing is made anew elsewhere yet.";
    const waits = panel("What happens next", null, h("p.dim", next), h("p.small.gap-top", h("a", { href: "#/jobs" }, "Jobs")));
    const site = n.http && `${location.protocol}//${n.http}/#/node`;
    if (away) {
      return h("div", top, h("section", { class: `panel s-${n.level}`, "aria-label": "State" }, h("div.empty", h("span.tint", glyph(n.level, 32)), h("h2", n.level === "quiet" ? `${n.name} is not heard from here` : `${n.name} is down`), h("p", n.level === "quiet" ? (n.heardS === null ? "Nothing is known of it. Its own console may answer:" : `Nothing newer than ${ago(n.heardS)} is known. Its own console may answer:`) : "No node hears it. Its process has ended, its machine is off, or its network is cut. Start it on its machine:"), n.level === "quiet" ? site && h("a", { href: site }, n.http) : command("kvorum start --config kvorum.toml"))),
        h("div.cols.two.below", panel("What it held", n.heardS !== null && h("span.tag", `as of ${ago(n.heardS)} ago`), facts([["Replicas", `${count(n.holds)} of ${many(m.shards.length, "shard")}`], ["Leads", count(n.leads)], ["Disk", n.disk === null ? null : `${percent(n.disk)} of ${bytes(n.diskTotal)}`], ["Version", n.version]])), waits));
    }
    const work = panel("Work", !n.fresh && n.heardS !== null && h("span.tag.s-risk", `as of ${ago(n.heardS)} ago`), facts([["Leads", many(n.leads, "shard")], ["Holds", many(n.holds, "replica")], ["Operations", or(n.ops, (v) => `${short(v)}/s`)], ["Failed", or(n.failed, (v) => `${short(v)}/s`)], ["Connections", or(n.connections, count)], ["Up", or(n.upS, ago)]]));
    const room = (d) => panel("Room", null, h("div.stack.tight", meter("Disk", n.disk, percent(n.disk), ""), meter("Index", n.index, percent(n.index), " memory"), meter("Queue", n.queue, percent(n.queue), ""), facts([["Memory", or(n.memory, bytes)], ["Processors", or(n.cpu, (v) => v.toFixed(2))]]), h("p.dim.small", n.diskFree === null ? "" : `${bytes(n.diskFree)} free${d?.disk?.headroom ? `; writes are refused below ${bytes(d.disk.headroom)}` : ""}`)));
    if (!n.self) {
      return h("div", top, h("div.cols.three.even", work, room(null), panel("Latency", null, facts([["Read p99", or(n.read99, ms)], ["Write p99", or(n.write99, ms)], ["Sync p99", or(n.sync99, ms)], ["Journal", or(n.rounds, (v) => `${short(v)} rounds/s`)], ["Clock", or(n.clockMs, (v) => (v === 0 ? "agrees" : `${Math.abs(v)} ms ${v > 0 ? "ahead" : "behind"}`))]]))),
        n.state !== "up" && h("div.cols", waits),
        h("section.panel", { "aria-label": "Its own console" }, h("div.empty", icon("node", 30), h("h2", `More is in ${n.name}'s own console`), h("p", `Its log, threads, journal and configuration are told by the node itself. This page is told by ${m.me}.`), site ? h("a.btn", { href: site }, `Open ${n.http}`) : h("p.dim", "Its HTTP door is closed."))));
    }
    const w = ctx.want("/console/node", 2000), d = w.data, jobs = ctx.want("/console/jobs", 5000).data, fast = rate(jobs, moved(jobs));
    const L = m.line, ops = { label: `Operations per second of clients at ${n.name}`, stacked: true, format: short, step: 5, mark: m.mark, series: [["GET", "get", "c1"], ["PUT", "put", "c2"], ["Other", "other", "c7"]].map(([name2, k, token]) => ({ name: name2, values: L(k), token })) };
    const speed = (v) => or(v, (b) => (b === 0 ? "idle" : `${bytes(Math.round(b))}/s`));
    return h("div", { class: m.old ? "is-stale" : "" }, top,
      h("div.cols.three.even", work, room(d),
        panel("Disk", null, facts([["Sync p99", or(n.sync99, ms)], ["Journal", or(n.rounds, (v) => `${short(v)} rounds/s`)], ["Log", or(d?.disk?.log_bytes, bytes)], ["Live", or(d?.disk?.live_bytes, bytes)], ["Compaction", speed(fast("read"))], ["Scrub", jobs?.scrub ? h("span", speed(fast("checked")), jobs.scrub.damage > 0 ? h("b.tint.s-bad", `, ${jobs.scrub.damage} damaged`) : jobs.scrub.damage === 0 ? ", no damage" : "") : null], ["Folder", d?.disk?.folder && h("span.mono.small", d.disk.folder)]]))),
      h("div.cols.two.even",
        h("section.panel.logs", { "aria-label": "Live log" }, h("header", h("h2", "Live log"), h("div.end", pick("Levels", [["info", "All"], ["warn", "Warnings"], ["error", "Errors"]], log.level, (v) => log.turn(v)))), live(m)),
        h("div.stack", panel("Operations per second", null, chart(ops, 170)),
          asked("Threads", w, m.me, () => panel("Threads", h("span.dim.small", "share of one processor, last second"), h("ul.stack.tight", (d.threads ?? []).slice(0, 16).map(([name2, many2, cpu]) => h("li.meter.threads", { key: name2 }, h("span.mono.clip", name2), cpu === null ? h("span.bar.unknown") : bar(Math.min(1, cpu / Math.max(1, many2)), "", name2), h("b", cpu === null ? "—" : percent(cpu)), h("span.dim.p2.clip", many2 > 1 ? `${many2} threads` : "")))))),
          d && panel("Process", null, facts([["Process", `${d.process}, ${many(d.workers, "worker")}`], ["Memory", [bytes(d.memory?.resident), d.memory?.of_files ? `${bytes(d.memory.of_files)} of it mapped files` : null, d.memory?.limit ? `limit ${bytes(d.memory.limit)}` : null].filter(Boolean).join(", ")], d.descriptors && ["Descriptors", `${count(d.descriptors[0])}${d.descriptors[1] ? ` of ${count(d.descriptors[1])}` : ""}`], ["Doors", (d.doors ?? []).map(([k, open, waits2]) => `${k} ${count(open)}${waits2 ? ` (${count(waits2)} wait)` : ""}`).join(" · ")]])))),
      asked("Configuration", w, m.me, () => h("section.panel", { "aria-label": "Configuration" }, h("header", h("h2", "Configuration"), h("p.dim", "secrets are never sent to the console"), d.config && h("div.end", h("button.btn.slim", { type: "button", onclick: () => toClipboard(d.config.map(([k, v]) => `${k} = ${v}`).join("\n")) }, "Copy"))),
        d.config ? h("div.scroll", { tabindex: 0, role: "group", "aria-label": "Configuration" }, h("table.data", h("thead", h("tr", h("th", { scope: "col" }, "Field"), h("th", { scope: "col" }, "Value"), h("th", { scope: "col", class: "p2" }, "From"))), h("tbody", d.config.map(([k, v, from]) => h("tr", h("th", { scope: "row", class: "mono" }, k), h("td.mono.clip", v === null ? h("span.faint", "not set") : v === "[redacted]" ? h("span.faint", v) : String(v)), h("td.dim.p2", from)))))) : h("div.body", h("p.dim", "The configuration needs the class admin.")))));
  } };
}

/** Rates out of totals that are asked for again and again: bytes per second between the last two answers, null before. */
function rates() {
  let of = null, at = 0, known = {};
  return (data, totals) => {
    if (data !== of) { const now = performance.now(), next = {}; for (const [k, v] of Object.entries(totals)) next[k] = { v, rate: known[k] && v !== null && known[k].v !== null && v >= known[k].v ? (v - known[k].v) / ((now - at) / 1000) : null }; of = data; at = now; known = next; }
    return (k) => known[k]?.rate ?? null;
  };
}
const moved = (j) => ({ sent: j?.snapshots?.sent_bytes ?? null, read: j?.compaction?.read_bytes ?? null, written: j?.compaction?.written_bytes ?? null, checked: j?.scrub?.bytes ?? null });
const SHOWN = 60;
export function jobsPage(ctx) {
  const after = (what) => async (...a) => { const said = await what(...a); ctx.store.stale("/console/jobs"); return said; };
  const switchMoves = async (verb, said) => { await plainly(`/cluster/${verb}`, said); ctx.store.stale("/console/jobs"); ctx.redraw(); };
  const pause = () => switchMoves("pause", "Moves are paused. Those under way end; repair goes on."), resume = () => switchMoves("resume", "Moves go on.");
  const rate = (m) => confirm({ title: "How fast may a node send?", verb: "Set the rate", safe: true, says: h("p", "Snapshots that a node sends to others, in MiB per second at most. Empty: the default."), fields: h("div", h("label", { for: "rate" }, "MiB per second"), h("input.field", { id: "rate", name: "rate", type: "number", min: 1, max: 100000, value: m.cluster.rateMb ?? "", placeholder: "default" })),
    run: after(async (form) => { const mb = String(form.get("rate") || ""); await post(url("/cluster/rate", { mb: mb || null })); return mb ? `A node sends ${mb} MiB/s at most.` : "The default rate holds again."; }) });
  const repair = () => confirm({ title: "Make anew at once what is missing?", word: "repair", verb: "Repair now", says: [h("p", "All that the nodes that are down hold is made anew elsewhere, without waiting longer for them."), h("p", "If they come back meanwhile, copies that are no longer wanted were made for nothing.")], run: after(async () => { await post("/cluster/repair"); return "Repair begins."; }) });
  const speed = (v) => or(v, (b) => (b === 0 ? "idle" : `${bytes(Math.round(b))}/s`)), rate2 = rates();

  return { view(m) {
    const w = ctx.want("/console/jobs", 2000), j = w.data, fast = rate2(j, moved(j)), why = whyNot(m), c = m.cluster, down = m.nodes.some((n) => n.down);
    const paused = j?.paused ?? c.paused, rateMb = j ? j.rate_mb : c.rateMb, moves = j?.moves ?? [], run = moves.filter((x) => x.under_way), wait = moves.filter((x) => !x.under_way);
    const row = (x, k) => h("li", { key: `${x.shard}.${x.from}.${x.to}.${k}`, class: "job" }, h("div.grow", h("b", moveName(x, m)), x.purpose !== "repair" && h("span.dim", `, for ${x.purpose}`)), x.under_way && (x.part == null ? h("span.dim.small", "begins") : h("div.jobbar", bar(x.part, "heal", moveName(x, m)))), h("span.dim.num.small.right", x.under_way ? moveSays(x) : ["waits", moveSays(x)].filter(Boolean).join(", ")));
    const reasons = (j?.reasons ?? []).map((t) => upper(t));
    const unknown = j && !j.plan_known;
    return h("div", head("Jobs", paused == null ? "What moves, and until when" : `Moves are ${paused ? "paused; repair goes on" : "allowed"}, ${rateMb ? `${rateMb} MiB/s a node at most` : "at the default rate"}`,
      paused ? act("Resume moves", resume, { why, cls: "primary" }) : act("Pause moves", pause, { why }), act("Rate", () => rate(m), { why }), act("Plan a rebalance", () => rebalance(m), { why }), down && act("Repair now", repair, { why, cls: "warn" })),
      asked("Moves of replicas", w, m.me, () => h("section", { class: `panel ${m.old ? "is-stale" : ""}`, "aria-label": "Moves of replicas" }, h("header", h("h2", "Moves of replicas"), h("p.dim", unknown ? "" : `${count(run.length)} run, ${count(wait.length)} wait${m.verdict.endsS ? `, about ${ago(m.verdict.endsS)} left` : ""}`)),
        h("div.body", unknown ? empty("jobs", "The plan can't be told from here", `Nobody speaks for the ring map: ${m.me} hears no quorum of its group.`) : [
          reasons.length > 0 && h("ul.stack.tight.gap-after", reasons.map((t) => h("li", note(/paus/i.test(t) ? "quiet" : "risk", t)))),
          moves.length ? h("ul.list", [...run, ...wait].slice(0, SHOWN).map(row), moves.length > SHOWN && h("li.dim", `And ${count(moves.length - SHOWN)} more wait.`)) : empty("jobs", "Nothing moves", "Each replica is where it should be."),
          j.leadership_moves > 0 && h("p.dim.small.gap-top", `${many(j.leadership_moves, "shard")} ${j.leadership_moves === 1 ? "is" : "are"} to be led by another node once everything has moved.`)]))),
      h("div.cols.three.even.below",
        asked("Snapshots", w, m.me, () => panel("Snapshots", h("span.dim.small", `of ${m.me}`), j.snapshots ? [facts([["Sent", or(j.snapshots.sent, count)], ["Failed", or(j.snapshots.failed, count)], ["Received", or(j.snapshots.received, count)], ["Sends", speed(fast("sent"))]]), (j.snapshots.incoming ?? []).length > 0 && h("ul.list.gap-top", j.snapshots.incoming.slice(0, 8).map((x) => h("li.job", { key: x.shard }, h("span.grow", `Shard ${x.shard}`), x.part !== null && h("div.jobbar", bar(x.part, "heal", `Shard ${x.shard} comes in`)), h("span.dim.small.num", `${bytes(x.bytes)} in ${ago(x.elapsed_ms / 1000)}`))))] : none())),
        asked("Compaction", w, m.me, () => panel("Compaction", h("span.dim.small", `of ${m.me}`), j.compaction ? facts([["Runs", or(j.compaction.runs, (v) => many(v, "run"))], ["Reads", speed(fast("read"))], ["Writes", speed(fast("written"))], ["At most", or(j.compaction.rate_bytes_s, (v) => (v ? `${bytes(v)}/s` : "off"))]]) : none())),
        asked("Scrub", w, m.me, () => panel("Scrub", h("span.dim.small", `of ${m.me}`), j.scrub ? [facts([["Checked", or(j.scrub.bytes, bytes)], ["Checks", speed(fast("checked"))], ["At most", or(j.scrub.rate_bytes_s, (v) => (v ? `${bytes(v)}/s` : "off"))], ["Damage", j.scrub.damage === 0 ? "none" : or(j.scrub.damage, count)]]), j.scrub.damage > 0 && note("bad", "Damage was found", h("p.small", "Damaged replicas are made anew from the others. Check the disk."))] : none()))),
      sheet("Backup", null, h("div.body", h("p.dim", "This version makes no backups yet; the place is kept. To keep a copy elsewhere, read all keys with ", h("code", "kvorum-cli --csv SCAN"), ".")))); 
  } };
}

const DAY = 86_400;
const OPERATIONS = ["get", "put", "delete", "scan", "watch"];
const urgency = (left) => (left === null ? "quiet" : left <= 0 ? "bad" : left < 14 * DAY ? "bad" : left < 30 * DAY ? "risk" : "ok");
const until = (left) => (left === null ? "never" : left <= 0 ? `ended ${ago(-left)} ago` : `in ${ago(left)}`);
const grants = (r) => [...r.grants.map((g) => `${g.classes.join(", ")} on ${g.prefix === "" || (g.prefix === null && !g.prefix_base64) ? "all keys" : g.prefix === null ? `base64 ${g.prefix_base64}` : `${g.prefix}…`}`), r.cluster.length ? `cluster: ${r.cluster.join(", ")}` : null].filter(Boolean);

export function securityPage(ctx) {
  let check = null, tab = "failures";
  async function access(form) {
    const data = new FormData(form), said = { user: data.get("user"), operation: data.get("operation"), key: data.get("key") };
    check = { ...said, busy: true }; ctx.redraw();
    try { check = { ...said, answer: await ask(url("/console/access", said)) }; } catch (error) { check = { ...said, error }; }
    ctx.redraw();
  }
  return { view(m) {
    const w = ctx.want("/console/security", 10_000), s = w.data;
    const says = head("Security", s ? (s.required ? "Clients must log in" : "Open: whoever reaches a door may do everything") : "Who may what");
    if (!s) return h("div", says, asked("Security", w, m.me, () => null));
    const seconds = (ms) => (ms == null ? null : (ms - m.now) / 1000);
    // What ends soonest stands first, whatever it is.
    const ends = [...(s.certificates ?? []).map((c) => ({ kind: c.kind === "ca" ? "Authority" : `Certificate, ${c.kind}`, name: c.subject || c.file, more: c.file, left: seconds(c.not_after_ms), at: c.not_after_ms })), ...(s.tokens ?? []).map((t) => ({ kind: "Token", name: `${t.id} of ${t.user}`, more: t.roles ? `roles ${t.roles.join(", ")}` : "all roles of its user", left: seconds(t.expires_at_ms), at: t.expires_at_ms }))].sort((a, b) => (a.left ?? Infinity) - (b.left ?? Infinity));
    const tokens = (user) => (s.tokens ?? []).filter((t) => t.user === user).length;
    const audit = s.audit ?? { on: false }, lines = audit.lines ?? [], bad = (l) => /fail|denied|refus/.test(l.event), seen = tab === "failures" && lines.some(bad) ? lines.filter(bad) : lines;
    const e = s.encryption;
    return h("div", { class: m.old ? "is-stale" : "" }, says,
      !s.required && h("div.cols", note("risk", "No login is asked for.", h("p.small", "Set auth.mode = \"required\" on each node, and make the first user with kvorum init or KVORUM_BOOTSTRAP_ADMIN_PASSWORD_FILE."))),
      asked("What ends next", w, m.me, () => sheet("What ends next", "certificates and tokens, soonest first",
        table({ label: "Certificates and tokens", rows: ends, key: (x) => x.kind + x.name, sort: [0, 1], height: 320, empty: h("p.dim.pad", "There is no certificate and no token."), columns: [
          { name: "Ends", by: (x) => x.left ?? Infinity, cell: (x) => (x.left === null ? h("span.dim", "never") : h("span", { title: date(x.at) }, status(urgency(x.left), until(x.left)))) }, { name: "What", by: (x) => x.kind, cell: (x) => upper(x.kind) }, { name: "Name", head: true, by: (x) => x.name, cell: (x) => h("span.mono.small.clip.block", x.name) }, { name: "More", low: true, cell: (x) => h("span.dim.small", x.more) }] }))),
      h("div.cols.two.below",
        sheet("Users", `table ${count(s.epoch)}`, (s.users ?? []).length ? table({ label: "Users", rows: s.users, key: (u) => u.name, height: 360, columns: [
          { name: "User", head: true, by: (u) => u.name, cell: (u) => u.name }, { name: "State", by: (u) => Number(u.disabled), cell: (u) => (u.disabled ? status("quiet", "Disabled") : status("ok", "Active")) }, { name: "Roles", by: (u) => u.roles.join(), cell: (u) => u.roles.join(", ") || none() }, { name: "Logs in by", low: true, cell: (u) => list([u.has_password ? "password" : null, tokens(u.name) ? many(tokens(u.name), "token") : null].filter(Boolean)) || "certificate" },
          { name: "Limits", low: true, cell: (u) => [u.requests_per_s ? `${count(u.requests_per_s)}/s` : null, u.bytes_per_s ? `${bytes(u.bytes_per_s)}/s` : null, u.connections ? many(u.connections, "connection") : null].filter(Boolean).join(", ") || "none" }] }) : empty("security", "No users", s.required ? "The table is empty." : "An open cluster needs none."), h("div.body", command("kvorum-cli USER ADD NAME"))),
        sheet("Roles", null, (s.roles ?? []).length ? table({ label: "Roles", rows: s.roles, key: (r) => r.name, height: 360, columns: [
          { name: "Role", head: true, by: (r) => r.name, cell: (r) => r.name }, { name: "May", cell: (r) => h("span.small.lines", grants(r).join(" · ") || "nothing") }, { name: "Kind", low: true, cell: (r) => (r.built_in ? h("span.tag", "built in") : "") }] }) : empty("security", "No roles", "The built-in ones are root, readwrite, readonly and monitor."), h("div.body", command("kvorum-cli ROLE SET NAME ON PREFIX read")))),
      h("div.cols.three.even",
        panel("May somebody?", null, h("form.stack.tight", { onsubmit(ev) { ev.preventDefault(); access(ev.target); } }, h("div", h("label", { for: "acl-user" }, "User"), h("input.field", { id: "acl-user", name: "user", required: true, autocomplete: "off", spellcheck: "false", list: "acl-users" }), h("datalist", { id: "acl-users" }, (s.users ?? []).slice(0, 100).map((u) => h("option", { value: u.name })))), h("div", h("label", { for: "acl-op" }, "Operation"), h("select.field.wide", { id: "acl-op", name: "operation" }, OPERATIONS.map((o) => h("option", { value: o }, o)))), h("div", h("label", { for: "acl-key" }, "Key or prefix"), h("input.field.mono", { id: "acl-key", name: "key", autocomplete: "off", spellcheck: "false" })), h("div", h("button.btn", "Check"))),
          check && h("div.gap-top", { role: "status" }, check.busy ? h("p.dim", `Asking ${m.me}…`) : check.error ? (check.error.status === 404 ? [h("p.dim.small", "This program does not answer that here. The command line does:"), command(`kvorum-cli ACL CHECK ${check.user} ${check.operation} ${check.key}`)] : note("bad", check.error.message)) : check.answer.allowed ? status("ok", `${check.user} may`) : [status("bad", `${check.user} may not`), check.answer.why && h("p.small.dim", upper(check.answer.why), ".")])),
        panel("Doors", null, h("ul.list", (s.doors ?? []).map((d) => h("li", h("span.grow", upper(d.name)), d.tls ? status("ok", "TLS") : status(s.required ? "risk" : "quiet", "Plain")))), (s.denied ?? []).length > 0 && h("p.small.dim.gap-top", `${many(s.denied.length, "certificate")} denied: ${list(s.denied.map((d) => d))}`)),
        panel("Encryption at rest", null, e == null ? [status("quiet", "Off"), h("p.dim.small.gap-top", "What the cluster stores is plain. Set encryption.key on each node, then:"), command("kvorum-cli ENCRYPTION ON")] : [status(e.waits_for?.length ? "heal" : "ok", e.sealed ? "Sealed" : "Being switched on"), h("div.gap-top", facts([["Data key", or(e.active_key, (v) => `number ${v}`)], ["Keys kept", or(e.keys, count)], ["Wrapped", or(e.wrapped, (v) => (v ? "yes" : "no"))], ["Older keys", e.old_key_bytes ? `${bytes(e.old_key_bytes)} on ${m.me} still to seal anew` : e.old_key_bytes === 0 ? `nothing left on ${m.me}` : null], e.waits_for?.length > 0 && ["Waits for", list(e.waits_for.map((i) => (typeof i === "number" ? m.nodes[i]?.name ?? "?" : i)))]]))])),
      h("section.panel", { "aria-label": "Audit" }, h("header", h("h2", "Audit"), h("p.dim", audit.on ? `of ${m.me} since it started, newest first` : ""), audit.on && lines.length > 0 && h("div.end", pick("Lines", [["failures", `Failures ${count(lines.filter(bad).length)}`], ["all", `All ${count(lines.length)}`]], lines.some(bad) ? tab : "all", (v) => { tab = v; ctx.redraw(); }))),
        !audit.on ? empty("security", "No audit log is kept here", "Set audit.file on each node: logins, refusals and what operators change are written there.") : [(audit.failing || audit.dropped > 0) && h("div.body", note("bad", audit.failing ? "The audit log can't be written." : "Lines were dropped.", h("p.small", audit.failing ? "Admin commands are refused until it can." : `${many(audit.dropped, "line")} since the node started.`))),
          table({ label: "Audit", rows: seen, key: (l) => `${l.at_ms}${l.event}${l.from}${l.what}`, sort: [0, -1], height: 400, empty: h("p.dim.pad", "Nothing since the node started."), columns: [
            { name: "When", first: -1, by: (l) => l.at_ms, cell: (l) => `${ago((m.now - l.at_ms) / 1000)} ago` }, { name: "What", head: true, by: (l) => l.event, cell: (l) => (bad(l) ? status("risk", upper(l.event.replaceAll("_", " "))) : upper(l.event.replaceAll("_", " "))) }, { name: "User", by: (l) => l.user, cell: (l) => or(l.user, String) }, { name: "From", low: true, by: (l) => l.from, cell: (l) => or(l.from, (v) => h("span.mono.small", v)) }, { name: "Door", low: true, by: (l) => l.door, cell: (l) => or(l.door, String) }, { name: "Detail", low: true, cell: (l) => h("span.dim.small.lines", l.what ?? "", l.repeats > 0 ? ` ×${count(l.repeats + 1)}` : "") }] })]));
  } };
}

export function apiPage() {
  return { view(m) {
    const door = `${location.protocol}//${location.host}`, auth = m.rights.open ? "" : " -u USER";
    return h("div", head("API", `Any node answers for all keys; this is ${m.me}`, h("a.btn.primary", { href: "/docs" }, "Open /docs")),
      h("div.cols",
        panel("Descriptions", null, facts([["/docs", [h("a", { href: "/docs" }, "All addresses"), ", to try out"]], ["/openapi.json", [h("a", { href: "/openapi.json" }, "OpenAPI 3.1"), ", for programs"]], ["/metrics", [h("a", { href: "/metrics" }, "Prometheus"), ", figures of this node"]], ["/health", [h("a", { href: "/health" }, "Health"), ", with /health/live and /health/ready for probes"]]]))),
      panel("Try it", null, h("div.stack", [["Write", `curl${auth} -X PUT ${door}/kv/greeting -d hello`], ["Read", `curl${auth} ${door}/kv/greeting`], ["Only if nobody was faster", `curl${auth} -X PUT ${door}/kv/greeting -H 'If-Match: "VERSION"' -d hi`], ["All under a prefix", `curl${auth} '${door}/kv?prefix=gre&limit=10'`], ["How the cluster is", `curl${auth} ${door}/cluster`]].map(([name, text]) => h("div.try", h("h3.small.dim", name), command(text))))));
  } };
}

/** The form of the login. `onin` is called once the node has given a cookie. */
export function login(redraw, onin) {
  let error = null, busy = false;
  const name = make(h("input.field", { id: "user", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "off" })), password = make(h("input.field", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true }));
  async function go() {
    if (busy) return;
    busy = true; error = null; redraw();
    try {
      await ask("/console/login", { method: "POST", json: { name: name.value, password: password.value }, wait: 15_000 });
      password.value = "";
      const { required, who } = await ask("/console/who");
      if (required && !who) error = "This browser keeps a login over https only. Open the console by https, or on the node's own machine.";
      else onin();
    } catch (e) {
      error = e.status === 401 ? "Wrong name or password." : e.status === 429 ? "Too many passwords wait to be checked. Try again in a few seconds." : e.status === 503 ? "This node has not heard lately who may log in. Try another node." : e.message;
      if (e.status === 401) { password.value = ""; password.focus(); }
    }
    busy = false; redraw();
  }
  return () => h("main.login", { id: "main", tabindex: -1 }, h("form.panel", { onsubmit(e) { e.preventDefault(); go(); } }, h("div.row", logo(28), h("h1", "Kvorum")), h("p.dim", `Sign in at ${location.host}`),
    h("div", h("label", { for: "user" }, "User"), name), h("div", h("label", { for: "password" }, "Password"), password),
    h("div", { role: "alert" }, error && h("div.note.s-bad", glyph("bad", 16), h("p.grow", error))), h("button.btn.primary", { disabled: busy }, busy ? "Signing in…" : "Sign in"), h("p.small.faint", "Users are made with kvorum-cli USER ADD.")));
}

// What lies above the page: toasts, dialogs, the drawer, the command palette, the keyboard map.
import { h, make, fill, patch, icon, glyph } from "../lib/dom.js";

let toasts;
/** Good news goes by itself after 5 s; bad news stays until it is closed. */
export function toast(level, ...text) {
  toasts ??= document.body.appendChild(make(h("div.toasts", { popover: "manual", role: "status", "aria-label": "Messages" })));
  const el = make(h("div", { class: `toast s-${level}` }, glyph(level, 16), h("div.grow", text), h("button.btn.ghost.icon.slim", { type: "button", "aria-label": "Close message", onclick: () => el.remove() }, icon("close", 12))));
  toasts.append(el);
  // The newest layer is the topmost: messages stand above an open dialog.
  toasts.hidePopover?.(); toasts.showPopover?.();
  while (toasts.children.length > 3) toasts.firstChild.remove();
  if (level === "ok") setTimeout(() => el.remove(), 5000);
}
/** Shows a dialog; Esc or a click beside it closes it and puts the focus back. */
function open(dialog, closed) {
  const before = document.activeElement;
  dialog.addEventListener("close", () => { dialog.remove(); closed?.(); if (before?.isConnected && document.activeElement === document.body) before.focus(); });
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  document.body.append(dialog); dialog.showModal();
  return dialog;
}
const closer = () => h("button.btn.ghost.icon", { type: "button", "aria-label": "Close", onclick(e) { e.target.closest("dialog").close(); } }, icon("close"));

/**
 * Asks before something is done. `word`: what must be typed first; without one the button is enough. `fields`: further
 * parts of the form. `run` gets the form's data and does it; what it throws is said in the dialog, which stays open.
 * What it returns is told as good news. `only`: there is nothing to cancel.
 * @param {{title:string, says:any, word?:string, verb:string, safe?:boolean, only?:boolean, fields?:any, run:(data:FormData)=>Promise<any>}} how
 */
export function confirm({ title, says, word, verb, safe, fields, run, only }) {
  let busy = false;
  const go = make(h("button", { class: `btn ${safe ? "primary" : "danger"}`, disabled: Boolean(word) }, verb)), said = make(h("div", { role: "alert" }));
  const input = word && make(h("input.field.mono", { id: "typed", autocomplete: "off", spellcheck: "false", autocapitalize: "off", "aria-describedby": "ask-why", oninput: () => { go.disabled = busy || input.value !== word; } }));
  const form = make(h("form", { method: "dialog", async onsubmit(e) {
    e.preventDefault();
    if (busy || (word && input.value !== word)) return;
    busy = go.disabled = true; go.textContent = "Wait…"; fill(said, []);
    try { const text = await run(new FormData(form)); if (text) toast("ok", text); busy = false; d.close(); }
    catch (error) { fill(said, [h("div.note.s-bad", glyph("bad", 16), h("p.grow", error.message))]); busy = go.disabled = false; go.textContent = verb; }
  } }, h("h2", { id: "ask-title" }, title), h("div", { id: "ask-why", class: "dim says" }, says), fields,
  word && h("div", h("label", { for: "typed" }, "Type ", h("code", word), " to go on"), input), said,
  h("div.acts", !only && h("button.btn", { type: "button", onclick: () => d.close() }, "Cancel"), go)));
  const d = make(h("dialog", { "aria-labelledby": "ask-title", oncancel(e) { if (busy) e.preventDefault(); } }, form));
  open(d); (input ?? form.querySelector("input, select, textarea") ?? go).focus();
}

let drawn = null;
/** Detail over the list. `view` gives the title and the parts, and is asked again whenever the state changes; null closes it. */
export function drawer(view, closed) {
  if (!view()) return null;
  const paint = () => { const now = view(); if (!now) { d.close(); return; } d.setAttribute("aria-label", now.title); patch(body, h("div", h("div.row", h("h2.grow", now.title), closer()), now.parts)); };
  const body = make(h("div")), d = make(h("dialog.drawer", body));
  paint(); open(d, () => { drawn = null; closed?.(); }); drawn = paint;
  return d;
}
/** The state has changed: what is open follows. */
export const follow = () => drawn?.();
export const closeAll = () => { for (const d of document.querySelectorAll("dialog")) d.close(); };

export async function toClipboard(text) {
  try { await navigator.clipboard.writeText(text); toast("ok", "Copied."); }
  catch { toast("risk", "The browser does not let this page copy. It does so over HTTPS or at 127.0.0.1 only."); }
}
export const copy = (text) => h("button.btn.ghost.icon.slim", { type: "button", "aria-label": `Copy ${text.length > 80 ? "the text" : text}`, onclick: () => toClipboard(text) }, icon("copy", 14));
export const command = (text) => h("div.cmd", h("code", { tabindex: 0 }, text), copy(text.replace(/\s+#.*/, "")));

/** @param {(text:string)=>{icon:string,name:string,hint:string,go:()=>void}[]} find */
export function palette(find) {
  let items = [], i = 0;
  const list = make(h("ul", { role: "listbox", id: "palette-list", "aria-label": "Results" })), said = make(h("span.sr", { role: "status" }));
  const mark = () => { [...list.children].forEach((li, k) => { li.setAttribute("aria-selected", String(k === i)); if (k === i) li.scrollIntoView({ block: "nearest" }); }); if (items.length) input.setAttribute("aria-activedescendant", `palette-${i}`); else input.removeAttribute("aria-activedescendant"); };
  const look = () => { items = find(input.value.trim()); i = 0; said.textContent = `${items.length} results`; fill(list, items.map((x, k) => h("li", { role: "option", id: `palette-${k}`, onclick: () => { i = k; run(); } }, icon(x.icon), h("span.clip", x.name), h("span.dim", x.hint)))); mark(); };
  const run = () => { const x = items[i]; d.close(); x?.go(); };
  const input = make(h("input", { role: "combobox", "aria-label": "Go to a page, node, shard or key", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list", placeholder: "Page, node, shard 12, or an exact key", autocomplete: "off", spellcheck: "false", oninput: look,
    onkeydown: (e) => { if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); i = (i + (e.key === "ArrowDown" ? 1 : items.length - 1)) % Math.max(1, items.length); mark(); } else if (e.key === "Enter" && !e.isComposing) { e.preventDefault(); run(); } } }));
  const d = make(h("dialog.palette", { "aria-label": "Find" }, input, list, said, h("footer", [["↑ ↓", "choose"], ["↵", "go"], ["esc", "close"]].map(([k, t]) => h("span", k.split(" ").map((x) => [h("kbd", x), " "]), t)))));
  open(d); look(); input.focus();
}
export function keymap(rows) {
  open(make(h("dialog", { "aria-labelledby": "keys-title" }, h("div.row.keyhead", h("h2", { id: "keys-title", class: "grow" }, "Keyboard"), closer()), h("dl.keymap", rows.map(([keys, what]) => [h("dt", keys.split(" ").map((k) => [h("kbd", k), " "])), h("dd", what)])))));
}

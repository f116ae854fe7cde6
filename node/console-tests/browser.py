"""Looks at the web console with a real browser.

    python browser.py MOCK_URL            all checks against the sample cluster of mock.mjs
    python browser.py --real URL          walks every page of a running node; --pages a,b: these; --read-only: writes no key

Pictures go to --out. Exit code 1: something is not as it should be; each finding is a line.
"""
import argparse, json, os, sys, time, urllib.request
from playwright.sync_api import sync_playwright
from axe_playwright_python.sync_playwright import Axe

PAGES = "overview cluster shards heat performance keys watch node jobs security api".split()
STATES = "healthy healing atrisk unavailable noquorum empty".split()
UGLY = "<img src=x onerror=alert(1)>"
PAINT_MS, ELEMENTS = 100, 2000

args = argparse.ArgumentParser()
args.add_argument("url"); args.add_argument("--real", action="store_true"); args.add_argument("--out", default="/tmp/console-pictures"); args.add_argument("--only", default=""); args.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium")); args.add_argument("--pages", default=""); args.add_argument("--read-only", action="store_true"); args.add_argument("--user", default=""); args.add_argument("--password", default="")
args = args.parse_args()
URL = args.url.rstrip("/"); os.makedirs(args.out, exist_ok=True)
found = []


def wrong(where, what):
    found.append(f"{where}: {what}"); print("WRONG", where, "-", what, flush=True)


class Tab:
    """A page of the browser that remembers what went wrong in it."""

    def __init__(self, browser, width=1440, height=900, query="", where="", **how):
        how.setdefault("reduced_motion", "reduce"); self.c = browser.new_context(viewport={"width": width, "height": height}, ignore_https_errors=True, **how)
        self.g = self.c.new_page(); self.where = where; self.errors = []; self.query = query
        self.g.on("console", lambda m: self.errors.append(m.text) if m.type == "error" and not self.expected(m) else None)
        self.g.on("pageerror", lambda e: self.errors.append(f"uncaught: {e}"))
        self.g.on("dialog", lambda d: (wrong(self.where, f"a dialog of the browser: {d.message}"), d.dismiss()))

    def expected(self, message):
        # The browser writes a line for each answer from 400 on: the page shows those itself.
        return "Failed to load resource" in message.text

    def open(self, page, part=""):
        at = f"#/{page}{part}"
        if self.g.url.startswith(URL): self.g.evaluate("(at) => { delete document.documentElement.dataset.page; location.hash === at ? dispatchEvent(new HashChangeEvent('hashchange')) : (location.hash = at); }", at)
        else: self.g.goto(f"{URL}/?{self.query}{at}")
        self.g.wait_for_selector(f"html[data-page={page}]", timeout=15_000, state="attached"); self.settle()

    def settle(self):
        self.g.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))")

    def wait(self, what, timeout=8000):
        # Playwright's own waiting evaluates strings in the page, which the console's policy refuses.
        end = time.monotonic() + timeout / 1000
        while time.monotonic() < end:
            if self.g.evaluate(f"() => Boolean({what})"): return True
            self.g.wait_for_timeout(40)
        wrong(self.where, f"not seen within {timeout} ms: {what}"); self.shot(f"missed-{len(found)}"); return False

    def text(self, what, timeout=8000): return self.wait(f"document.body.innerText.includes({json.dumps(what)})", timeout)
    def shot(self, name, full=False): self.g.screenshot(path=f"{args.out}/{name}.png", full_page=full)

    def sane(self, where):
        for e in self.errors: wrong(where, f"console: {e[:300]}")
        self.errors.clear()
        if self.g.evaluate("document.documentElement.scrollWidth > innerWidth"): wrong(where, "the page scrolls sideways")
        n = self.g.evaluate("document.querySelectorAll('*').length")
        if n > ELEMENTS: wrong(where, f"{n} elements")
        if self.g.evaluate("document.querySelectorAll('img,iframe,object,script:not([src])').length"): wrong(where, "an element that was not described")
        if self.g.evaluate("localStorage.length + sessionStorage.length"): wrong(where, "something is stored in the browser")
        if self.g.evaluate("document.querySelectorAll('h1').length") != 1: wrong(where, "not one h1")
        return n

    def axe(self, where):
        r = Axe().run(self.g, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).response
        for v in r["violations"]:
            for n in v["nodes"][:3]: wrong(where, f"axe {v['id']}: {n['html'][:160]} | {n.get('failureSummary', '').splitlines()[1:2]}")
        return len(r["violations"])

    def close(self): self.c.close()


def looks(b):
    """Every page, both themes, four widths."""
    for theme in ("light", "dark"):
        for width, height in ((1440, 900), (390, 844)) + (((2560, 1440), (900, 1100)) if theme == "light" else ()):
            t = Tab(b, width, height, f"state=healthy&theme={theme}", f"{theme} {width}", color_scheme=theme)
            for page in PAGES:
                where = f"{page} {theme} {width}"
                t.open(page, "?key=cart:{8841}&prefix=cart:" if page == "keys" else "")
                if page == "keys": t.g.get_by_role("button", name="Look", exact=True).click(); t.text("found")
                if page in ("heat", "security", "node", "jobs"): t.g.wait_for_timeout(250)
                t.settle(); t.sane(where)
                if width in (1440, 390): t.shot(f"{page}-{theme}-{width}"); t.axe(where)
                elif page in ("overview", "cluster", "keys", "performance", "security"): t.shot(f"{page}-{theme}-{width}")
            t.close()


def states(b):
    for i, state in enumerate(STATES):
        theme = "dark" if i % 2 else "light"
        for width in (1440, 390):
            t = Tab(b, width, 900, f"state={state}&theme={theme}", f"state {state}")
            for page in PAGES:
                t.open(page, "?key=cart:{8841}" if page == "keys" and state != "empty" else ""); t.g.wait_for_timeout(150); t.sane(f"{page} {state} {width}")
                if width == 1440 and page in ("overview", "cluster", "shards", "keys", "jobs", "node") or page == "overview": t.shot(f"state-{state}-{page}-{width}")
                if width == 1440 and page in ("overview", "cluster", "shards"): t.axe(f"{page} {state}")
            if width == 1440:
                t.open("node", "?node=node-5"); t.sane(f"node-5 {state}"); t.shot(f"state-{state}-node5")
            t.close()


def ugly(b):
    t = Tab(b, query="state=healthy&run=ugly", where="ugly key")
    t.open("keys", "?prefix=%3C"); t.g.get_by_role("button", name="Look", exact=True).click(); t.text(UGLY)
    t.g.locator(".keylist li button").first.click(); t.text("version"); t.settle()
    if t.g.locator("h2.keyname").inner_text() != UGLY: wrong("ugly key", "the title is another text")
    t.shot("ugly-keys"); t.sane("ugly key, Keys")
    t.g.get_by_role("tab", name="Text").click(); t.g.get_by_role("button", name="Edit", exact=True).click(); t.sane("ugly key, edit"); t.g.get_by_role("button", name="Cancel").click()
    t.g.get_by_role("button", name="Delete", exact=True).click(); t.text("Delete this key?"); t.sane("ugly key, delete"); t.g.keyboard.press("Escape")
    for page, text in (("heat", UGLY), ("security", UGLY)):
        t.open(page); t.g.wait_for_timeout(300); t.sane(f"ugly key, {page}")
        if not t.g.evaluate("(x) => document.body.innerText.includes(x)", text): wrong("ugly key", f"not on {page}")
    t.g.keyboard.press("/"); t.g.keyboard.type(UGLY); t.text(f"Look up the key {UGLY}"); t.sane("ugly key, palette"); t.close()


def keyboard(b):
    t = Tab(b, query="state=healing&run=keyboard", where="keyboard"); t.open("overview"); g = t.g
    focus = lambda: g.evaluate("document.activeElement.tagName + '.' + document.activeElement.className")
    g.keyboard.press("/"); t.wait("document.querySelector('dialog.palette')?.open"); g.keyboard.type("shard 12"); g.keyboard.press("Enter"); t.wait("document.querySelector('dialog.drawer')?.innerText.includes('Shard 12')")
    t.axe("drawer"); t.shot("drawer"); g.keyboard.press("Escape"); t.wait("!document.querySelector('dialog')")
    g.keyboard.press("g"); g.keyboard.press("s"); t.wait("document.documentElement.dataset.page === 'shards'"); t.settle(); g.keyboard.press("j"); t.wait("document.activeElement.matches('kv-table tr')"); g.keyboard.press("j"); g.keyboard.press("End"); g.keyboard.press("Home"); g.keyboard.press("Enter"); t.wait("document.querySelector('dialog.drawer')?.open"); g.keyboard.press("Escape")
    t.wait("document.activeElement.matches('kv-table tr')")
    g.keyboard.press("g"); g.keyboard.press("c"); t.wait("document.querySelector('kv-ring [role=slider]')"); g.locator("kv-ring [role=slider]").focus(); a = g.evaluate("document.activeElement.getAttribute('aria-valuetext')"); g.keyboard.press("ArrowRight")
    if a == g.evaluate("document.activeElement.getAttribute('aria-valuetext')"): wrong("keyboard", "arrows do not walk the ring")
    g.keyboard.press("Enter"); t.wait("document.querySelector('dialog.drawer')?.open"); g.keyboard.press("Escape")
    g.keyboard.press("g"); g.keyboard.press("h"); t.wait("document.querySelector('kv-heat')"); g.locator("kv-heat").focus(); g.keyboard.press("ArrowDown"); g.keyboard.press("PageUp"); t.sane("heat by keys")
    g.keyboard.press("?"); t.text("Keyboard"); t.axe("keyboard map"); g.keyboard.press("Escape")
    before = g.evaluate("document.documentElement.dataset.theme ?? ''"); g.keyboard.press("t")
    if before == g.evaluate("document.documentElement.dataset.theme ?? ''"): wrong("keyboard", "t does not change the theme")
    g.keyboard.press("g"); g.keyboard.press("k"); t.wait("document.documentElement.dataset.page === 'keys'"); box = g.get_by_role("textbox", name="Key", exact=True); box.fill("cart:{8841}"); box.press("Enter"); t.text("version 48,211"); g.evaluate("document.activeElement.blur()"); g.keyboard.press("e"); t.wait("document.activeElement.tagName === 'TEXTAREA'"); g.keyboard.type("gt?/")
    if g.evaluate("document.documentElement.dataset.page") != "keys" or g.locator("dialog").count(): wrong("keyboard", "single keys act while a field has the focus")
    # Everything that takes the focus shows that it has it.
    t.open("overview"); seen = set()
    for _ in range(60):
        g.keyboard.press("Tab"); seen.add(focus())
        if not g.evaluate("(() => { const e = document.activeElement; if (e === document.body) return true; const s = getComputedStyle(e); return s.outlineStyle !== 'none' || e.matches('.palette input, kv-ring [role=slider]'); })()"): wrong("keyboard", f"no focus ring on {focus()}")
    if len(seen) < 8: wrong("keyboard", f"Tab reaches only {seen}")
    t.sane("keyboard"); t.close()


def out_of_band(query, key, value):
    request = urllib.request.Request(f"{URL}/kv", data=json.dumps({"data": {"key": key, "value": value}}).encode(), method="PUT", headers={"content-type": "application/json", "referer": f"{URL}/?{query}"})
    return json.load(urllib.request.urlopen(request))


def acts(b):
    q = "state=healthy&run=acts"; t = Tab(b, query=q, where="acts"); g = t.g
    t.open("keys", "?key=cart:{8841}"); t.text("version 48,211"); g.get_by_role("button", name="Edit", exact=True).click()
    g.locator("textarea").fill('{"id":"mine"}'); out_of_band(q, "cart:{8841}", '{"id":"theirs"}'); g.get_by_role("button", name="Save if version is 48,211").click(); t.text("Not saved: someone was faster.")
    g.get_by_role("button", name="Show the difference").click(); t.text('- {"id":"theirs"}'); t.text('+ {"id":"mine"}'); t.axe("clash"); t.shot("keys-clash"); g.get_by_role("button", name="Save over").click(); t.text("Saved as version"); t.text('"mine"')
    for key, tab in (("photo:1", "Hex"), ("large:1", "Text"), ("text:plain", "Text"), ("blank", "Text")):
        t.open("keys", f"?key={key}"); t.text("version"); t.settle(); t.shot(f"keys-{key.split(':')[0]}"); t.axe(f"keys {key}"); t.sane(f"keys {key}")
        if t.g.locator(f"[role=tab][aria-selected=true]").inner_text() != tab: wrong("acts", f"{key} does not open as {tab}")
    t.open("keys", "?key=nobody"); t.text("No such key"); g.get_by_role("button", name="Create it").click(); g.locator("textarea").fill("new"); g.get_by_role("button", name="Create if absent").click(); t.text("Saved as version")
    g.get_by_role("button", name="Delete", exact=True).click(); go = g.get_by_role("button", name="Delete key")
    if go.is_enabled(): wrong("acts", "a key can be deleted before its name is typed")
    g.locator("#typed").fill("nobody"); t.axe("confirm"); t.shot("confirm"); go.click(); t.text("nobody is deleted."); t.text("No such key")
    t.open("keys", "?key=slow:1"); g.get_by_role("button", name="Create it").click(); g.locator("textarea").fill("x"); g.get_by_role("button", name="Create if absent").click(); t.text("Not known whether it was saved"); t.shot("keys-unknown")
    t.open("node", "?node=node-2"); g.get_by_role("button", name="Drain", exact=True).click(); g.locator("#typed").fill("node-2"); g.get_by_role("button", name="Drain", exact=True).last.click(); t.text("node-2 drains for 10 min"); t.text("Draining"); g.get_by_role("button", name="Undrain", exact=True).click(); t.text("node-2 is no longer drained.")
    t.wait("[...document.querySelectorAll('main button')].some((b) => b.textContent === 'Remove')"); g.get_by_role("button", name="Remove", exact=True).click(); t.text("Remove node-2 for good?"); t.shot("remove"); g.locator("#typed").fill("node-2"); g.get_by_role("button", name="Remove node").click(); t.text("gives away what it holds"); g.get_by_role("button", name="Keep", exact=True).click(); t.text("node-2 stays.")
    t.open("shards", "?shard=12"); t.wait("document.querySelector('dialog.drawer')?.open"); g.locator("dialog.drawer").get_by_role("button", name="To node").first.click(); g.get_by_role("button", name="Hand over", exact=True).click(); t.text("leadership moves to")
    t.open("jobs"); g.get_by_role("button", name="Pause moves").click(); t.text("Moves are paused"); g.get_by_role("button", name="Rate", exact=True).click(); g.locator("#rate").fill("16"); g.get_by_role("button", name="Set the rate").click(); t.text("16 MiB/s a node at most"); g.get_by_role("button", name="Resume moves").click(); t.text("Moves go on")
    t.open("cluster"); g.get_by_role("button", name="Plan a rebalance").click(); t.text("Move leadership of 2 shards?"); g.get_by_role("button", name="Move leadership").click(); t.text("2 shards move"); g.get_by_role("button", name="Add a node").click(); g.get_by_role("button", name="Make a token").click(); t.text("KVORUM_JOIN_TOKEN"); t.shot("token"); t.axe("token"); g.keyboard.press("Escape")
    t.sane("acts"); t.close()


def troubles(b):
    t = Tab(b, query="state=healthy&break=heat", where="error of a panel"); t.open("heat"); t.text("This part did not come"); t.axe("error of a panel"); t.shot("panel-error"); t.close()
    t = Tab(b, query="state=healthy&slow=security", where="loading"); t.open("security"); t.text("Asking node-3…", 2000); t.shot("panel-loading"); t.close()
    t = Tab(b, query="state=healthy&noread=1", where="hidden keys"); t.open("heat"); t.text("Keys are hidden"); t.axe("hidden keys"); t.close()
    t = Tab(b, query="state=healthy&run=offline", where="lost node"); t.open("overview"); t.text("live")
    tell = lambda what: urllib.request.urlopen(urllib.request.Request(f"{URL}/mock/{what}", method="POST", headers={"referer": f"{URL}/?{t.query}"}))
    tell("stop"); t.text("does not answer this page", 12_000); t.text("NO CONTACT", 15_000); t.settle(); t.axe("lost node"); t.shot("lost-node")
    tell("go"); t.wait("!document.body.innerText.includes('does not answer this page')", 12_000); t.errors.clear(); t.close()
    t = Tab(b, query="state=healthy&gone=1", where="node is gone"); t.g.goto(f"{URL}/?{t.query}"); t.text("does not answer"); t.axe("node is gone"); t.shot("node-gone"); t.errors.clear(); t.close()
    t = Tab(b, query="state=healthy&auth=1&run=login", where="login"); t.g.goto(f"{URL}/?{t.query}#/shards"); t.text("Sign in"); t.axe("login"); t.shot("login"); t.sane("login")
    t.g.get_by_label("User").fill("ada"); t.g.get_by_label("Password").fill("wrong"); t.g.keyboard.press("Enter"); t.text("Wrong name or password."); t.g.get_by_label("Password").fill("secret"); t.g.keyboard.press("Enter"); t.wait("document.documentElement.dataset.page === 'shards'"); t.text("Signed in as"); t.sane("signed in"); t.g.get_by_role("button", name="Sign out").click(); t.wait("document.querySelector('#password')"); t.close()
    t = Tab(b, query="state=healing", where="forced colours", forced_colors="active", reduced_motion="reduce"); t.open("overview"); t.shot("forced-colours"); t.sane("forced colours"); t.close()


def large(b):
    """First paint and size of each page at 4,096 shards and 100 nodes: the best of five, the machine may be busy."""
    print(f"{'page':<12} {'first paint':>12} {'elements':>9}")
    for page in PAGES:
        best, n = 1e9, 0
        for _ in range(5):
            t = Tab(b, query="state=healing&nodes=100&shards=4096", where=f"large {page}")
            t.open(page, "?key=cart:{8841}" if page == "keys" else ""); best = min(best, float(t.g.evaluate("document.documentElement.dataset.took"))); t.g.wait_for_timeout(300); n = t.sane(f"large {page}")
            if _ == 0 and page in ("overview", "cluster", "shards", "heat"): t.shot(f"large-{page}")
            t.close()
            if best <= PAINT_MS / 2: break
        print(f"{page:<12} {best:>9.1f} ms {n:>9}", flush=True)
        # The goal is PAINT_MS on a quiet machine; a busy one shows only whether something is broken.
        if best > 10 * PAINT_MS: wrong(f"large {page}", f"first paint {best} ms")


def real(b):
    """A running node: nothing is assumed of what it holds."""
    for theme, width in (("light", 1440), ("dark", 390)):
        t = Tab(b, width, 900, f"theme={theme}", f"real {theme}"); g = t.g
        if args.user:
            g.goto(f"{URL}/?theme={theme}"); t.text("Sign in"); g.get_by_label("User").fill(args.user); g.get_by_label("Password").fill(args.password); g.keyboard.press("Enter"); t.wait("document.documentElement.dataset.page === 'overview'")
        for page in args.pages.split(",") if args.pages else PAGES:
            t.open(page); g.wait_for_timeout(2600); t.sane(f"real {page}"); t.shot(f"real-{page}-{theme}-{width}"); t.axe(f"real {page}")
            if "The console failed" in g.inner_text("body"): wrong(f"real {page}", "the page failed")
        if width == 1440 and not args.read_only:
            t.open("keys", "?key=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"); t.wait("document.querySelector('main').innerText.includes('No such key') || document.querySelector('main .meta')")
            if g.get_by_role("button", name="Create it").count(): g.get_by_role("button", name="Create it").click(); g.locator("textarea").fill('{"a":[1,2,{"b":"<b>"}]}'); g.get_by_role("button", name="Create if absent").click(); t.text("Saved as version")
            t.sane("real ugly key"); t.shot("real-ugly"); t.axe("real key"); version = g.locator(".meta .tag").first.inner_text()
            g.get_by_role("button", name="Edit", exact=True).click(); g.locator("textarea").fill('{"a":2}'); g.get_by_role("button", name="Save if").click(); t.text("Saved as version"); t.wait(f"!document.querySelector('.meta').innerText.includes({json.dumps(version)})")
            g.get_by_role("button", name="Delete", exact=True).click(); g.locator("#typed").fill(UGLY); g.get_by_role("button", name="Delete key").click(); t.text("is deleted."); t.sane("real acts")
            g.get_by_role("button", name="Look", exact=True).click(); t.wait("/found/.test(document.querySelector('.keylist').innerText)", 10_000); t.shot("real-browse")
        t.close()


with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
    began = time.time()
    for part in ([real] if args.real else [acts, keyboard, ugly, troubles, looks, large, states]):
        if args.only and part.__name__ not in args.only.split(","): continue
        try: part(browser)
        except Exception as error: wrong(part.__name__, f"stopped: {str(error)[:600]}")
        print(f"-- {part.__name__}: {time.time() - began:.0f} s, {len(found)} findings", flush=True)
    browser.close()
print("all well" if not found else f"{len(found)} findings"); sys.exit(bool(found))

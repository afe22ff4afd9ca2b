"""The emulator's page in headless Chromium: `page_checks.py URL CHROMIUM FOLDER`. The browser is spoken to
by its debugging protocol; it opens the page once and must see later changes by itself."""

import json
import re
import subprocess
import sys
import time

import oss2
import websocket

from ecs_clients import code_of
from ledger import Ledger

URL, CHROMIUM, FOLDER = sys.argv[1:4]
ledger = Ledger("Chromium", URL, code_of)
does = ledger.does
store = oss2.Bucket(oss2.AuthV4("emulator-id", "emulator-secret"), URL, "demo", region="cn-hangzhou")
PATIENCE = 20


class Page:
    """One page of a browser of its own."""

    def __init__(self):
        self.browser = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
             "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={FOLDER}/profile", "about:blank"],
            stderr=subprocess.PIPE, text=True)
        for line in self.browser.stderr:
            if "DevTools listening on" in line:
                break
        self.socket = websocket.create_connection(line.split(" on ")[1].strip(), timeout=PATIENCE, suppress_origin=True)
        self.number, self.session, self.thrown = 0, None, []
        targets = self.ask("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Runtime.enable")
        self.ask("Page.enable")
        self.ask("Log.enable")

    def ask(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps({**message, "sessionId": self.session} if self.session else message))
        while True:
            answer = json.loads(self.socket.recv())
            is_entry = answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error"
            if is_entry or answer.get("method") == "Runtime.exceptionThrown":
                self.thrown.append(answer["params"])
            if answer.get("id") == self.number:
                return answer.get("result", {})

    def value(self, expression):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True).get("result", {}).get("value")

    def shows(self, expression, want):
        """Whether the expression has this value before patience is at an end."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.value(expression) == want:
                return True
            time.sleep(0.1)
        return False

    def close(self):
        self.socket.close()
        self.browser.terminate()
        self.browser.wait(timeout=PATIENCE)


def cells(section):
    return f"Array.from(document.querySelectorAll('#{section} td')).map(cell => cell.textContent)"


def has(section, text):
    return f"{cells(section)}.includes({json.dumps(text)})"


def looks(width, scheme):
    """Whether nothing is cut off at this width, and the colour of the background and of text."""
    page.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    style = "getComputedStyle(document.body)"
    return page.value(f"[document.documentElement.scrollWidth <= {width}, {style}.backgroundColor, {style}.color]")


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


HOSTILE = "<script>window.broken = 1</script><b>"
SETTLED = "new Promise(done => setTimeout(() => done(true), 2500))"
page = Page()
try:
    page.ask("Page.navigate", url=URL + "/")
    does("web page", "is where a browser is sent", lambda: page.shows("location.pathname", "/_emulator/"), True)
    does("web page", "has a title", lambda: page.shows("document.title", "Alibaba emulator"), True)
    does("web page", "has six sections", lambda: page.shows("document.querySelectorAll('section').length", 6), True)
    does("web page", "names the buckets", lambda: page.shows(has("buckets", "demo"), True), True)
    does("web page", "has no objects", lambda: page.shows("document.querySelector('#objects .none') !== null", True), True)
    page.value("window.first = document.querySelector('h1')")
    store.put_object("seen/later", b"12345")
    does("web page", "shows a new object by itself", lambda: page.shows(has("objects", "seen/later"), True), True)
    upload = store.init_multipart_upload("in-parts").upload_id
    does("web page", "shows an upload by itself", lambda: page.shows(has("uploads", "in-parts"), True), True)
    for number in (1, 2):
        store.upload_part("in-parts", upload, number, bytes(102400))
    does("web page", "shows what an upload received", lambda: page.shows(has("uploads", "200.0 KiB"), True), True)
    store.put_object(HOSTILE, b"x")
    does("web page", "shows a hostile key as text", lambda: page.shows(has("objects", HOSTILE), True), True)
    does("web page", "runs no key", lambda: page.value("[typeof window.broken, document.scripts.length]"), ["undefined", 1])
    does("web page", "shows the requests", lambda: page.shows(has("requests", "InitiateMultipartUpload"), True), True)
    does("web page", "was never loaded again", lambda: page.value("window.first === document.querySelector('h1')"), True)

    # What is selected stays, and what is not selected goes on.
    page.value("getSelection().selectAllChildren(document.querySelector('#objects td'))")
    store.put_object("while-selected", b"x")
    does("web page", "goes on beside a selection", lambda: page.shows(cells("requests") + ".filter(text => text === 'PutObject').length", 3), True)
    does("web page", "keeps a selection", lambda: page.value("[getSelection().toString(), " + has("objects", "while-selected") + "]"), ["demo", False])
    page.value("getSelection().removeAllRanges()")
    does("web page", "shows the rest after it", lambda: page.shows(has("objects", "while-selected"), True), True)

    page.value("document.getElementById('pause').click()")
    store.put_object("while-paused", b"x")
    page.ask("Runtime.evaluate", expression=SETTLED, awaitPromise=True)
    does("web page", "stops at Pause", lambda: page.value("[document.getElementById('pause').textContent, " + has("objects", "while-paused") + "]"), ["Resume", False])
    page.value("document.getElementById('pause').click()")
    does("web page", "resumes", lambda: page.shows(has("objects", "while-paused"), True), True)

    page.value("window.scrollTo(0, 40)")
    store.delete_object("seen/later")
    does("web page", "forgets what is deleted", lambda: page.shows(has("objects", "seen/later"), False), True)
    does("web page", "keeps its place", lambda: page.value("window.scrollY"), 40)

    def enter(expression):
        page.value(expression + "; document.querySelector('form').dispatchEvent(new Event('input'))")

    operations = "[...new Set(" + cells("requests") + ".filter((_, index) => index % 9 === 2))]"
    enter("document.querySelector('[name=operation]').value = 'uploadpart'")
    does("web page", "filters by operation", lambda: page.shows(operations + ".join()", "UploadPart"), True)
    does("web page", "keeps filters in its address", lambda: page.value("location.search"), "?operation=uploadpart")
    enter("document.querySelector('[name=operation]').value = ''; document.querySelector('[name=failed]').checked = true")
    does("web page", "has no failure yet", lambda: page.shows("document.querySelector('#requests .none') !== null", True), True)
    try:
        store.get_object("gone")
    except oss2.exceptions.NoSuchKey:
        pass
    does("web page", "shows failures", lambda: page.shows(has("requests", "404 NoSuchKey"), True), True)
    enter("document.querySelector('[name=failed]').checked = false")

    store.put_object("long/" + "name-" * 100, b"x")
    does("web page", "shows a long key", lambda: page.shows(has("objects", "long/" + "name-" * 100), True), True)
    for width in (1280, 420):
        for scheme, is_dark in (("light", False), ("dark", True)):
            fits, back, text = looks(width, scheme)
            does("web page", f"fits {width} pixels, {scheme}", lambda: fits, True)
            does("web page", f"is {scheme}", lambda: brightness(back) < brightness(text), is_dark)
    # A part that was wider than the window may only scroll in its place at the greater width.
    does("web page", "shows all of a row when narrow", lambda: page.value("Array.from(document.querySelectorAll('.wrap')).every(it => it.scrollWidth <= it.clientWidth)"), True)
    does("web page", "throws nothing, and breaks no policy", lambda: page.thrown, [])
finally:
    page.close()

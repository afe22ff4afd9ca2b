"""The emulator's page in headless Chromium: `page_checks.py URL CHROMIUM FOLDER`. The browser is spoken to
by its debugging protocol; it opens the page once and must see later changes by itself."""

import json
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

    def ask(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps({**message, "sessionId": self.session} if self.session else message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("method") == "Runtime.exceptionThrown":
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


HOSTILE = "<script>window.broken = 1</script><b>"
page = Page()
try:
    page.ask("Page.navigate", url=URL + "/_emulator/")
    does("web page", "has a title", lambda: page.shows("document.title", "Alibaba emulator"), True)
    does("web page", "has six sections", lambda: page.shows("document.querySelectorAll('section').length", 6), True)
    does("web page", "names the buckets", lambda: page.shows(cells("buckets") + ".includes('demo')", True), True)
    does("web page", "has no objects", lambda: page.shows("document.querySelector('#objects .none') !== null", True), True)
    store.put_object("seen/later", b"12345")
    does("web page", "shows a new object by itself", lambda: page.shows(cells("objects") + ".includes('seen/later')", True), True)
    store.init_multipart_upload("in-parts")
    does("web page", "shows an upload by itself", lambda: page.shows(cells("uploads") + ".includes('in-parts')", True), True)
    store.put_object(HOSTILE, b"x")
    does("web page", "shows a hostile key as text", lambda: page.shows(cells("objects") + f".includes({json.dumps(HOSTILE)})", True), True)
    does("web page", "runs no key", lambda: page.value("[typeof window.broken, document.scripts.length]"), ["undefined", 0])
    does("web page", "shows the requests", lambda: page.shows(cells("requests") + ".includes('InitiateMultipartUpload')", True), True)
    store.delete_object("seen/later")
    does("web page", "forgets what is deleted", lambda: page.shows(cells("objects") + ".includes('seen/later')", False), True)
    does("web page", "throws nothing", lambda: page.thrown, [])
finally:
    page.close()

"""A headless Chromium, driven through its DevTools protocol over a websocket; nothing to install but Chromium.

WebGL is drawn in software. Without Chromium a test skips, saying so, unless OVSEG3D_REQUIRE_BROWSER=1.

A machine may be slow and busy, so nothing here counts on how long something takes: what is to be clicked is waited for
until it stands still and nothing lies over it, and every wait has `PATIENCE`, which only a failure uses up.
"""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars",
    "--disable-extensions", "--disable-background-networking", "--no-first-run", "--disable-gpu-vsync",
    "--remote-debugging-port=0", "--disable-dev-shm-usage",
)  # fmt: skip
PATIENCE = 150.0
"""Seconds after which something is taken to be broken."""
THROTTLE = 0.15
"""Seconds, of the page's own clock, after which viser's page has sent what was typed: of several inputs within 0.05 s
it sends the first and the last."""


def find_chromium() -> str:
    """The program; skips the test, or fails it where a browser is required."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("OVSEG3D_REQUIRE_BROWSER") == "1":
        pytest.fail("OVSEG3D_REQUIRE_BROWSER=1, but there is no chromium on the PATH")
    pytest.skip("needs chromium on the PATH")


class Browser:
    """One running Chromium."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1000, 700)) -> None:
        self.size = size
        command = [find_chromium(), *FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        port_file = folder / "DevToolsActivePort"
        wait_for(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1, "chromium to start")
        self.port = int(port_file.read_text().split("\n")[0])
        self.pages: list[Page] = []

    def open(self, url: str) -> "Page":
        """A new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        target = json.loads(urllib.request.urlopen(request, timeout=PATIENCE).read())
        page = Page(target["webSocketDebuggerUrl"], self.size)
        self.pages.append(page)
        page.go(url)
        return page

    def close(self) -> None:
        """End it."""
        for page in self.pages:
            page.close()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)


class Page:
    """One tab."""

    def __init__(self, url: str, size: tuple[int, int]) -> None:
        self._socket = connect(url, max_size=None)
        self._number = 0
        self.console: list[str] = []
        self.call("Runtime.enable")
        self.call("Page.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def call(self, method: str, **parameters: Any) -> dict:
        """One DevTools command."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=PATIENCE))
            if told.get("method") == "Runtime.exceptionThrown":
                self.console.append(json.dumps(told["params"])[:500])
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return told["result"]

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise RuntimeError(json.dumps(told["exceptionDetails"])[:500])
        return told["result"].get("value")

    def text(self) -> str:
        """All that can be read."""
        return self.js("document.body ? document.body.innerText : ''") or ""

    def wait_text(self, words: str) -> None:
        wait_for(lambda: words in self.text(), f"the page to say {words!r}", self.text)

    def pass_time(self, seconds: float) -> None:
        """Wait by the clock of the page: what it put off for less than this is done."""
        self.js(f"new Promise(done => setTimeout(done, {1000 * seconds:.0f}))")

    def middle(self, expression: str) -> tuple[float, float]:
        """The middle of an element, after it was scrolled into view; waits until it can be clicked: it is there, stands
        still from one frame to the next, and nothing lies over it."""
        script = f"""(async () => {{
            const e = {expression};
            if (!e) return null;
            e.scrollIntoView({{block: "center", behavior: "instant"}});
            const middle = () => {{
                const b = e.getBoundingClientRect();
                return b.width && b.height ? [b.x + b.width / 2, b.y + b.height / 2] : null;
            }};
            // In a tab behind another there are no frames.
            const frame = () => new Promise(done => {{ requestAnimationFrame(done); setTimeout(done, 300); }});
            const before = middle();
            await frame();
            await frame();
            const after = middle();
            if (!before || !after || before.join() !== after.join()) return null;
            return e.contains(document.elementFromPoint(...after)) ? after : null;
        }})()"""
        seen: list = [None]

        def still() -> bool:
            seen.append(self.js(script))
            return seen[-1] is not None and seen[-1] == seen[-2]

        wait_for(still, f"the element {expression}", lambda: f"{seen[-3:]} {self.text()}")
        return seen[-1][0], seen[-1][1]

    def mouse(self, x: float, y: float) -> None:
        """A click at a place."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            extra = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **extra)
            time.sleep(0.05)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """Move with the left button down."""
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], button="left", clickCount=1)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
            time.sleep(0.05)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left", clickCount=1)

    def press(self, words: str) -> None:
        """Click on the button or tab that says this."""
        # What is innermost stands last in the document; what a list offers is there, without a size, before it opens.
        self.mouse(
            *self.middle(
                "[...document.querySelectorAll('button, [role=tab], label, [role=option]')]"
                f".filter(e => e.offsetWidth && e.innerText.trim().startsWith({json.dumps(words)})).pop()"
            )
        )

    def type_into(self, label: str, text: str, enter: bool = True) -> None:
        """Type into the text field with a label, in place of what is there."""
        field = (
            "(() => { const rows = [...document.querySelectorAll('input, textarea')];"
            " const above = e => [1, 2, 3, 4, 5].map(n => { while (n-- && e) e = e.parentElement; return e; });"
            " const says = p => p && p.innerText && p.innerText.trim().startsWith(" + json.dumps(label) + ");"
            " return rows.find(e => above(e).some(says)); })()"
        )
        self.mouse(*self.middle(field))
        wait_for(lambda: self.js(f"document.activeElement === {field}"), f"the field {label!r} to have the focus")
        self.pass_time(THROTTLE)
        self.js(f"{field}.select()")
        self.call("Input.insertText", text=text)
        wait_for(lambda: self.js(f"{field}.value") == text, f"{text!r} to stand in the field {label!r}")
        self.pass_time(THROTTLE)
        if enter:
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
                )

    def dismiss_notices(self) -> None:
        """Close what lies over the image, such as the remark that WebGL is drawn in software."""

        def none_left() -> bool:
            notices = "document.querySelectorAll('[role=alert]')"
            self.js(f"{notices}.forEach(notice => notice.querySelectorAll('button').forEach(e => e.click()))")
            return self.js(f"{notices}.length") == 0

        wait_for(none_left, "the notices to be gone")

    def screenshot(self, path: Path | None = None) -> bytes:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        return data

    def leave(self) -> None:
        """Close the tab."""
        self.call("Page.close")
        self.close()

    def close(self) -> None:
        self._socket.close()


def wait_for(true: Any, what: str, seen: Any = None) -> None:
    """Wait until `true()` is; `seen()` says what was there instead."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            more = f"; seen: {seen()[:2000]}" if seen is not None else ""
            raise AssertionError(f"waited {PATIENCE:g} s for {what}{more}")
        time.sleep(0.1)

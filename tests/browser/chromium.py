"""A headless Chromium that does what a user does, over its debugging pipe. One thread, nothing to install.

Messages are JSON with a zero byte behind each: commands out on descriptor 3, answers and events in on 4.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

__all__ = ["Browser", "Tab", "executable"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--lang=en",
    "--remote-debugging-pipe",
    "about:blank",
)
#: Chromium wants its pipe on 3 and 4, whatever numbers it got here.
_PIPES_THEN_EXEC = (
    "import fcntl, os, sys;"
    "r, w = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]);"
    "os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
_KEYS = {"Escape": 27, "Enter": 13, "Tab": 9, " ": 32}
_TEXT = {"Enter": "\r", " ": " "}
PATIENCE_S = 40.0


def executable() -> str | None:
    """Chromium on this computer; None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """A Chromium of its own, without a history; ``with`` ends it with all its processes."""

    def __init__(self, program: str) -> None:
        self._folder = TemporaryDirectory(prefix="parfocal-browser-", ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [sys.executable, "-c", _PIPES_THEN_EXEC, str(theirs_in), str(theirs_out)]
        self._process = subprocess.Popen(
            [*command, program, *_OPTIONS, f"--user-data-dir={self._folder.name}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number = b"", 0
        self._events: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it; a second call does nothing. BLOCKS for 10 s at most."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError, AssertionError):
                self.call("Browser.close", patience_s=5.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._in = -1
        self._folder.cleanup()

    @contextlib.contextmanager
    def tab(self, *, width: int = 1280, height: int = 900, **features: str) -> Iterator[Tab]:
        """A tab with cookies and storage of its own. ``features``: as ``prefers_color_scheme="dark"``."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        try:
            for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
                tab.call(f"{domain}.enable")
            tab.resize(width, height)
            tab.call("Emulation.setScrollbarsHidden", hidden=True)
            wanted = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
            tab.call("Emulation.setEmulatedMedia", features=wanted)
            yield tab
        finally:
            self._events.pop(session, None)
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def events(self, session: str) -> list[dict[str, Any]]:
        """What was told of ``session`` so far."""
        return self._events.setdefault(session, [])

    def call(
        self, method: str, session: str | None = None, patience_s: float = PATIENCE_S, **parameters: Any
    ) -> dict[str, Any]:
        """Carry out a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(
            self._out, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        until_s = time.monotonic() + patience_s
        while True:
            answer = self._next(until_s - time.monotonic(), method)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            if "method" in answer and "sessionId" in answer:
                self.events(answer["sessionId"]).append(answer)

    def _next(self, patience_s: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, patience_s))
            assert ready, f"the browser does not answer {method}"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))


class Tab:
    """One page as its user has it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command for this tab."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go there, and wait until the page has loaded."""
        self.call("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url[:20])})")

    def resize(self, width: int, height: int) -> None:
        """Give it a window of this size, in CSS pixels; a narrow one is a phone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression, or the promise it gives, comes to."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, condition: str, patience_s: float = 30.0) -> None:
        """Wait until a JavaScript expression is true."""
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            with contextlib.suppress(AssertionError):  # a page that is just being left
                if self.value(
                    f"new Promise(done => {{ const t = Date.now(); const look = () => ({condition})"
                    " ? done(true) : Date.now() - t > 1000 ? done(false) : setTimeout(look, 20); look(); })"
                ):
                    return
        raise AssertionError(
            f"never came true: {condition}\nThe page: {self.value('document.body.innerText')}"
        )

    def text(self, selector: str) -> str:
        """What stands in an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    def click(self, selector: str, times: int = 1) -> None:
        """Click in the middle of an element, once all scrolling has ended. ``times`` 2: a double click."""
        place = self.value(
            f"new Promise(done => {{ const e = document.querySelector({json.dumps(selector)});"
            " let last = ''; const look = () => { e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const b = e.getBoundingClientRect(), now = [b.x + b.width / 2, b.y + b.height / 2];"
            " if (`${now}` === last) return done(now); last = `${now}`; setTimeout(look, 50); }; look(); })"
        )
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call(
                    "Input.dispatchMouseEvent",
                    type=kind,
                    x=place[0],
                    y=place[1],
                    button="left",
                    clickCount=count,
                )

    def key(self, key: str, times: int = 1) -> None:
        """Press a key and let go of it. ``times`` more than 1: held down, it repeats itself."""
        code = _KEYS.get(key, ord(key[-1].upper()))
        name = {" ": "Space"}.get(key, key if len(key) > 1 else f"Key{key.upper()}")
        text = _TEXT.get(key, key if len(key) == 1 else None)
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        for count, extra in enumerate([*([down] * times), {"type": "keyUp"}]):
            repeats = {"autoRepeat": 0 < count < times}
            self.call(
                "Input.dispatchKeyEvent", **extra, **repeats, key=key, code=name, windowsVirtualKeyCode=code
            )

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        picture = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def requests(self) -> list[str]:
        """Addresses of all that was asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events(self._session)
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and what the security policy kept out."""
        found = []
        for event in self._browser.events(self._session):
            parameters = event["params"]
            match event["method"]:
                case "Runtime.exceptionThrown":
                    details = parameters["exceptionDetails"]
                    found.append(str(details.get("exception", {}).get("description", details["text"])))
                case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                    found.append(str([part.get("value") for part in parameters["args"]]))
                case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                    entry = parameters["entry"]
                    found.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        return found

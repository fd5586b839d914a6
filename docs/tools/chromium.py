"""A headless Chromium driven over a pipe by the DevTools protocol, for tests of pages: no package
is needed beyond the browser itself."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "/": 191,
}  # fmt: skip
"""Virtual key codes by the DOM's names."""


def chromium() -> str | None:
    """Where the browser is: $CHROMIUM, or by its usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A context: one process, ended on leaving. Raises: TimeoutError, the browser does not answer
    in `patience` seconds."""

    def __init__(self, profile: Path, patience: float = 60.0) -> None:
        self.patience = patience
        inward, self._out = os.pipe()
        self._in, outward = os.pipe()
        # The browser reads commands at descriptor 3 and writes answers to 4; bash moves our pipes
        # there.
        line = f'exec "$@" 3<&{inward} 4>&{outward}'
        command = ["bash", "-c", line, "bash", str(chromium()), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command,
            pass_fds=(inward, outward),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
            start_new_session=True,
        )
        os.close(inward)
        os.close(outward)
        self._asked = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command's result; events that come meanwhile are kept in `events`. Raises:
        RuntimeError, it is refused; TimeoutError."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self.patience
        while True:
            answer = self.read(deadline)
            if answer.get("id") == self._asked:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def read(self, deadline: float) -> dict[str, Any]:
        """The next message. Raises: TimeoutError, none by `deadline`; ConnectionError, the browser
        has gone."""
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError(f"Chromium did not answer in {self.patience:g} seconds")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise ConnectionError("Chromium ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def page(self, width: int = 1280, height: int = 800, **emulated: Any) -> "Page":
        return Page(self, width, height, **emulated)


class Page:
    """A tab. `dark`, `still` (prefers-reduced-motion) and `touch` say what it pretends to be."""

    def __init__(self, browser: Browser, width: int, height: int, dark: bool = False, still: bool = False, touch: bool = False) -> None:
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.target, self.session = target, browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if touch else 1, mobile=touch)
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce" if still else "no-preference"}
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in wishes.items()])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)

    def parameters_of(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of one kind so far."""
        self.js("0")
        return [event["params"] for event in self.browser.events if event.get("sessionId") == self.session and event["method"] == method]

    def goto(self, url: str) -> float:
        """Open `url`; return the seconds until it was loaded."""
        began = time.monotonic()
        before = len(self.parameters_of("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        deadline = began + self.browser.patience
        while len(self.parameters_of("Page.loadEventFired")) == before:
            self.browser.events.append(self.browser.read(deadline))
        return time.monotonic() - began

    def js(self, expression: str) -> Any:
        """The expression's value, awaited. Raises: RuntimeError, it threw."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", expression))
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Until the condition holds. Raises: TimeoutError."""
        deadline = time.monotonic() + seconds
        while not self.js(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never came true in {seconds:g} seconds: {condition}")
            time.sleep(0.02)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of the first element's first line box, scrolled into view."""
        middle = self.js(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); if (!one) return null; "
            "one.scrollIntoView({block: 'nearest', behavior: 'instant'}); const box = one.getClientRects()[0]; "
            "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        if middle is None:
            raise LookupError(f"nothing on the page is {selector}")
        return middle[0], middle[1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def hover(self, selector: str) -> None:
        self.mouse("mouseMoved", *self.middle(selector))

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def tap(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, name: str, shift: bool = False) -> None:
        code = KEYS[name]
        text = {"Enter": "\r", " ": " ", "/": "/"}.get(name)
        common = {"key": name, "code": "Space" if name == " " else name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and what was thrown."""
        thrown = [
            event["exceptionDetails"].get("exception", {}).get("description", "?")
            for event in self.parameters_of("Runtime.exceptionThrown")
        ]
        console = [
            str(event["args"])
            for event in self.parameters_of("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        logged = [
            event["entry"]["text"] for event in self.parameters_of("Log.entryAdded") if event["entry"]["level"] in ("error", "warning")
        ]
        return thrown + console + logged

    def requests(self) -> list[str]:
        return [event["request"]["url"] for event in self.parameters_of("Network.requestWillBeSent")]

    def screenshot(self) -> bytes:
        """The viewport as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

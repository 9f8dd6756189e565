"""A headless Chromium, driven over a pipe by its own protocol: no package, no port.

``SRFAST_REQUIRE_BROWSER=1`` makes tests fail that would skip for want of a browser or of the page's packages.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 120.0  # for one answer: a busy machine is no failure


def find() -> str | None:
    """The browser's path, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


REQUIRED = os.environ.get("SRFAST_REQUIRE_BROWSER") == "1"
# Quiet: nothing is asked of the network but what a test opens.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
needs_browser = pytest.mark.skipif(
    find() is None and not REQUIRED, reason="no Chromium or Chrome is installed; .ci/browser installs one"
)


def package(name: str) -> Any:
    """A package that only ``make page`` installs; without it the tests of a module skip, or fail where they are required."""
    return importlib.import_module(name) if REQUIRED else pytest.importorskip(name, reason="'make page' installs it")


def path() -> str:
    """The browser's path.

    Raises:
        AssertionError: there is none.
    """
    found = find()
    assert found, "no Chromium or Chrome is installed; .ci/browser installs one"
    return found


class Page:
    """A page of a running browser.

    Attributes:
        requests: addresses that the page asked for, in their order.
        problems: what its scripts threw and what its policy refused.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._number = write, read, b"", 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self._notice(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            assert data, "the browser does not answer"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _notice(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(values["exceptionDetails"].get("exception", {}).get("description")))
        elif event.get("method") == "Log.entryAdded":
            self.problems.append(values["entry"]["text"])

    def size(self, width: int, height: int, phone: bool = False) -> None:
        """Sets the size of the window in CSS pixels."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def open(self, address: str, ready: str) -> None:
        """Opens an address and waits until an expression of JavaScript is true."""
        self.send("Page.navigate", url=address)
        self.wait(ready)

    def wait(self, ready: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({ready})"):
            assert time.monotonic() < end, f"{ready} does not become true; {self.problems}"
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def frame(self) -> None:
        """Waits until what was changed has been drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Moves the mouse with its button down."""
        for kind, (x, y) in (("mousePressed", begin), ("mouseMoved", end), ("mouseReleased", end)):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        self.frame()

    def key(self, key: str) -> None:
        """Presses a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.frame()

    def screenshot(self, path: Path | None = None) -> bytes:
        """The page as PNG."""
        data = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(data)
        return data


@contextlib.contextmanager
def page() -> Iterator[Page]:
    """Starts a browser with a page and ends it."""
    program = path()
    to_browser, from_browser = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        # Chromium reads its commands from descriptor 3 and answers on 4.
        shell = ["bash", "-c", f'exec 3<&{to_browser[0]} 4>&{from_browser[1]} "$@"', "browser"]
        process = subprocess.Popen(
            [*shell, *command],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Page(to_browser[1], from_browser[0])
        finally:
            os.close(to_browser[1])
            os.close(from_browser[0])
            process.terminate()
            process.wait(60)
            shutil.rmtree(folder, ignore_errors=True)  # its children may still write
            os.makedirs(folder, exist_ok=True)

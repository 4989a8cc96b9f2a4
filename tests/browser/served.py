"""`parfocal serve` on the simulated rig, in a process, with a port and a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SLOW", "Served", "serve"]

#: A motor so slow that a run takes seconds.
SLOW = "[stage]\nstart_rate_steps_s = 100.0\nmax_rate_steps_s = 150.0\nbacklash_steps = 20\n"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Served:
    """A service that answers."""

    port: int
    token: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str) -> Any:
        """The answer to a GET, from JSON."""
        return self._ask(urllib.request.Request(self.url + path))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a POST, from JSON."""
        head = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(self.url + path, json.dumps(body or {}).encode(), head))

    def jpeg(self) -> bytes:
        """The next picture."""
        return self._read(urllib.request.Request(self.url + "api/frame.jpg"))

    def _ask(self, request: urllib.request.Request) -> Any:
        return json.loads(self._read(request))

    def _read(self, request: urllib.request.Request) -> bytes:
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def serve(
    folder: Path, more: str = "", *, api: str = "", token: str | None = None, port: int | None = None
) -> Iterator[Served]:
    """Start it in ``folder``, wait until it answers, and end it. ``more``: further sections of its
    configuration, ``api``: further keys of ``[api]``, ``port``: else a free one."""
    folder.mkdir(parents=True, exist_ok=True)
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    key = "none"
    if token is not None:
        key = str(folder / "token")
        Path(key).write_text(token + "\n")
    config = folder / "parfocal.toml"
    config.write_text(f"[api]\nport = {port}\ntoken_file = {json.dumps(key)}\n{api}\n{more}")
    command = [str(Path(sys.executable).with_name("parfocal")), "serve", "--config", str(config)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"STATE_DIRECTORY": str(folder / "state")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            served = Served(port, token)
            _wait(served, process, folder / "log")
            yield served
            assert process.poll() is None, f"the service ended by itself: {(folder / 'log').read_text()}"
        finally:
            _end(process)
    assert process.returncode == 0, f"exit code {process.returncode}: {(folder / 'log').read_text()}"


def _wait(served: Served, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        assert process.poll() is None, f"the service ended at once: {log.read_text()}"
        try:
            served.get("api/status")
        except (ConnectionError, urllib.error.URLError):
            assert time.monotonic() < until_s, f"the service never answered: {log.read_text()}"
            time.sleep(0.01)
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20.0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""What a job asks of the service that runs in the machine. Root, in the machine."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PINS = (17, 18, 27, 22)
LED = 24
LIMIT_S = 400.0
ASKED_EVERY_S = 1.0
"""An emulated processor has nothing to spare for questions; every one takes some of what it asks about."""
_CHIP = next(Path("/sys/devices/platform").glob("gpio-sim*/gpiochip*"), Path("/"))


def ask(path: str, body: object = None, *, post: bool = False, host: str = "localhost") -> tuple[int, Any]:
    """Status and parsed reply. URLError where nobody answers."""
    data = json.dumps(body).encode() if body is not None else (b"" if post else None)
    headers = {"content-type": "application/json", "host": host}
    request = urllib.request.Request(f"http://127.0.0.1:8080{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(*states: str, after: int = 0) -> dict[str, Any]:
    """The status once it is one of ``states``, the last run a later one than number ``after``."""
    deadline_s = time.monotonic() + LIMIT_S
    found: dict[str, Any] = {}
    while time.monotonic() < deadline_s:
        try:
            found = ask("/api/status")[1]
        except (OSError, http.client.HTTPException):  # it may be killed while it answers
            if shown("ActiveState") == "failed":
                break
            time.sleep(ASKED_EVERY_S)
            continue
        if found["state"] in states and ((found["last"] or {}).get("run") or 0) > after:
            return found
        time.sleep(ASKED_EVERY_S)
    words = ["journalctl", "-b", "--no-pager", "-n", "40", "-o", "short-monotonic"]
    said = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True).stdout
    raise TimeoutError(f"never {states}: {found}\n{said}")


def jog(um: float) -> float:
    """Begin a move and wait until it is well under way; where it then was, in µm."""
    began_um = float(until("in_focus", "ready", "failed")["stage"]["position_um"])
    status, reply = ask("/api/jog", {"um": um})
    assert status == 202, reply
    while True:
        here_um = float(ask("/api/status")[1]["stage"]["position_um"])
        if abs(here_um - began_um) > 3.0:
            return here_um


def levels() -> list[int]:
    """The coils, as the kernel has them."""
    return [int((_CHIP / f"sim_gpio{pin}" / "value").read_text()) for pin in PINS]


def press() -> None:
    """The push button, for a quarter of a second."""
    pull = _CHIP / "sim_gpio23" / "pull"
    pull.write_text("pull-down")
    time.sleep(0.25)
    pull.write_text("pull-up")


def shown(name: str) -> str:
    """A property of the unit."""
    words = ["systemctl", "show", "--value", "--property", name, "parfocal.service"]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def logged(event: str) -> list[dict[str, Any]]:
    """Entries of the journal of this boot with this PARFOCAL_EVENT."""
    words = ["journalctl", "-b", "-o", "json", "--no-pager", f"PARFOCAL_EVENT={event}"]
    text = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def since_boot() -> dict[str, float]:
    """Seconds from the kernel's start to the service's, to READY, and to the end of the first focus."""
    started_s = int(shown("ExecMainStartTimestampMonotonic")) / 1e6
    ready_s = int(shown("ActiveEnterTimestampMonotonic")) / 1e6
    (first, *_) = logged("run")
    return {"started_s": started_s, "ready_s": ready_s, "focus_s": int(first["__MONOTONIC_TIMESTAMP"]) / 1e6}


def traces() -> list[int]:
    """Numbers of the runs that are kept and can be read."""
    found = Path("/var/lib/parfocal/runs").glob("run-*.json")
    return sorted(json.loads(path.read_text())["run"] for path in found)

"""Memory of `parfocal serve` over many focus runs, each from another place.

    python tests/service/endurance.py [RUNS]

The real command on the simulated rig with its page, asked over HTTP. The rig's motor and camera are fast, so
that a thousand runs take minutes; the model and the rest are as always.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ports import free_port

PORT = free_port()
CONFIG = f"""
[stage]
max_rate_steps_s = 100000.0
start_rate_steps_s = 100000.0
acceleration_steps_s2 = 100000000.0
settle_s = 0.0
[camera]
frame_period_s = 0.002
[simulator]
specimen = "debris"
latency_frames = 0
[api]
port = {PORT}
"""
_LIMIT_S = 60.0


def ask(path: str, body: object = None, *, post: bool = False) -> Any:
    """The reply, parsed."""
    data = json.dumps(body).encode() if body is not None else (b"" if post else None)
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", data, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as reply:
        return json.load(reply)


def until(*states: str, run: int | None = None) -> dict[str, Any]:
    """Wait for one of ``states``, after run number ``run``."""
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline:
        try:
            found: dict[str, Any] = ask("/api/status")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
            continue
        if found["state"] in states and (run is None or (found["last"] or {}).get("run") == run):
            return found
        time.sleep(0.005)
    raise TimeoutError(f"never {states}")


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory of the process in MB: all of it, its own, and that of mapped files."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssFile")}


def main(argv: Sequence[str]) -> int:
    """Print the memory after 1, 10, 100 … runs."""
    runs = int(argv[0]) if argv else 1000
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scope.toml").write_text(CONFIG)
        command = [sys.executable, "-m", "edge.cli", "serve", "--config", str(folder / "scope.toml")]
        environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        shown = {1, 10, *range(100, runs + 1, max(100, runs // 5))} | {runs}
        results: dict[str, int] = {}
        try:
            state = until("in_focus", "failed", run=1)
            home = state["stage"]["position_um"]
            for number in range(1, runs + 1):
                if number > 1:
                    target = home + chance.uniform(-30, 30)
                    ask("/api/jog", {"um": target - state["stage"]["position_um"]}, post=True)
                    until("ready")
                    ask("/api/focus", post=True)
                    state = until("in_focus", "failed", run=number)
                result = state["last"]["result"]["result"]
                results[result] = results.get(result, 0) + 1
                if number in shown:
                    found = memory_mb(process.pid)
                    text = ", ".join(f"{key} {value:.1f} MB" for key, value in found.items())
                    print(f"after {number:5d} runs: {text}", flush=True)
        finally:
            process.terminate()
            process.wait(_LIMIT_S)
        print(f"results: {results}; traces kept: {len(list((folder / 'state' / 'runs').iterdir()))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Start-up of `parfocal serve`: process start to the first frame judged, against a bare interpreter.

    python tests/service/startup.py [ROUNDS]

The bare interpreter only imports NumPy and the TFLite runtime. In turns, medians, and their ratio. The
simulated rig's field is in the cache, and nothing moves before the first frame (no slack, no settling): what
is left is the program. Both have their bytecode, as an installed program has: it is written if need be.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ports import free_port

CONFIG = f"""
[stage]
backlash_steps = 0
settle_s = 0.0
[camera]
frame_period_s = 0.005
[simulator]
backlash_steps = 0
latency_frames = 0
[api]
port = {free_port()}
"""
BARE = "import numpy, ai_edge_litert.interpreter"
_AS_USUAL = {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
_LIMIT_S = 120


def bare_s() -> float:
    """Seconds that the bare interpreter takes, start to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE], env=_AS_USUAL, check=True, timeout=_LIMIT_S)
    return time.perf_counter() - began


def judged_s(folder: Path) -> float:
    """Seconds from the start of `parfocal serve` to the first frame judged, as it tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = folder / "notify"
        address.unlink(missing_ok=True)
        listening.bind(str(address))
        listening.settimeout(_LIMIT_S)
        environment = {
            **_AS_USUAL,
            "NOTIFY_SOCKET": str(address),
            "STATE_DIRECTORY": str(folder / "state"),
        }
        command = [sys.executable, "-m", "edge.cli", "serve", "--config", str(folder / "scope.toml")]
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            while b"first frame is judged" not in listening.recv(4096):
                pass
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(_LIMIT_S)


def main(argv: Sequence[str]) -> int:
    """Print both medians and the ratio."""
    rounds = int(argv[0]) if argv else 31
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scope.toml").write_text(CONFIG)
        bare_s(), judged_s(folder)  # fills the cache of fields, and writes bytecode
        pairs = [(bare_s(), judged_s(folder)) for _ in range(rounds)]
    bare, judged = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"bare interpreter with NumPy and the TFLite runtime   {bare:.2f} s")
    print(f"parfocal serve, start to first frame judged          {judged:.2f} s   {judged / bare:.2f} times")
    print(f"the ratio in each of {rounds} rounds: {', '.join(f'{b / a:.2f}' for a, b in pairs)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""`parfocal` itself on kernel lines: a move, ended by SIGTERM, by SIGKILL, and what comes after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from motor_process import PINS
from sim_lines import SimLines, made, tell

from firmware_iface.uln2003 import HALF_STEPS

CONFIG = """
[stage]
driver = "uln2003"
um_per_step = 1.0
limit_low_um = -20000
limit_high_um = 20000
backlash_steps = 10
max_rate_steps_s = 500
start_rate_steps_s = 500
uncertain_travel_um = 30
[gpio]
in1_pin = 17
in2_pin = 18
in3_pin = 27
in4_pin = 22
"""


def parfocal(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge.cli", *words, "--config", "scope.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def half_steps(lines: SimLines, main_thread: int) -> int:
    """Half steps up less half steps down since the trace was cleared, from the coils alone.

    Steps are made by a thread of their own. What the main thread does is switching coils on and off, one
    after the other and not at once on a busy machine: only where that ends can be a phase to step from.
    """
    on, rows, was_main = dict.fromkeys(PINS, 0), [], True
    for event in lines.events():
        if event.kind == "set" and event.pin in on:
            by_main = event.thread == main_thread
            if not by_main and was_main:
                rows.append(tuple(on.values()))
            was_main = by_main
            on[event.pin] = event.level
            if not by_main:
                rows.append(tuple(on.values()))
    phases = [HALF_STEPS.index(row) for row in rows if row in HALF_STEPS]
    return sum((b - a + 4) % 8 - 4 for a, b in pairwise(phases))


def run(lines: SimLines, way: str, *words: str, ended_by: signal.Signals | None = None) -> None:
    lines.clear_trace()
    process = parfocal(*words)
    if ended_by is not None:
        while not any(lines.levels(PINS)):
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(ended_by)
    out, err = process.communicate(timeout=100)
    steps, levels = half_steps(lines, process.pid), lines.levels(PINS)
    tell(way=way, code=process.returncode, out=out, err=err, half_steps=steps, levels=levels)


Path("scope.toml").write_text(CONFIG)
os.environ["STATE_DIRECTORY"] = str(Path.cwd() / "state")
with made() as all_lines:
    run(all_lines, "move", "move", "+40")
    run(all_lines, "SIGTERM", "move", "+9000", "--yes", ended_by=signal.SIGTERM)
    run(all_lines, "where", "move", "+0")
    run(all_lines, "SIGKILL", "move", "-9000", "--yes", ended_by=signal.SIGKILL)
    run(all_lines, "too far", "move", "+31", "--yes")
    run(all_lines, "next start", "move", "+5")

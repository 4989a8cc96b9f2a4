"""`parfocal` itself on kernel lines: a move, ended by SIGTERM, by SIGKILL, and what comes after it."""

from __future__ import annotations

import math
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

SHORTEST_STEP_S = 0.8e-3
"""At 500 steps/s none is shorter than 1.6 ms, also when the motor catches up."""


def parfocal(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge.cli", *words, "--config", "scope.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def half_steps(lines: SimLines) -> int:
    """Half steps up less half steps down since the trace was cleared, from the coils alone.

    Two coils go on or off one after the other, by way of a row that lasts for microseconds and is no step.
    """
    on, rows = dict.fromkeys(PINS, 0), []
    for event in lines.events():
        if event.kind == "set" and event.pin in on:
            on[event.pin] = event.level
            rows.append((event.at_s, tuple(on.values())))
    ends_s = [at_s for at_s, _ in rows[1:]] + [math.inf]
    stood = [row for (at_s, row), end_s in zip(rows, ends_s, strict=True) if end_s - at_s > SHORTEST_STEP_S]
    phases = [HALF_STEPS.index(row) for row in stood if row in HALF_STEPS]
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
    steps, levels = half_steps(lines), lines.levels(PINS)
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

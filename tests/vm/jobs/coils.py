"""The coils after every end that a process with a running motor can come to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from motor_process import PINS, RATES
from sim_lines import SimLines, made, tell

from firmware_iface.clock import RealClock
from firmware_iface.uln2003 import Uln2003Axis

ENDS = {
    "exit": None,
    "exit, left open": None,
    "exception": None,
    "exception, left open": None,
    "SIGTERM": signal.SIGTERM,
    "SIGTERM, unhandled": signal.SIGTERM,
    "SIGKILL": signal.SIGKILL,
}
_PROCESS = Path(__file__).parents[1] / "motor_process.py"


def _end(lines: SimLines, way: str, number: signal.Signals | None) -> None:
    lines.clear_trace()
    process = subprocess.Popen(
        [sys.executable, _PROCESS, way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "moving\n"
    asked_s = time.monotonic()
    if number is not None:
        time.sleep(0.3)
        asked_s = time.monotonic()
        process.send_signal(number)
    code = process.wait()
    writes = [event for event in lines.events() if event.kind == "set"]
    driven = {event.pin: event.level for event in writes}
    tell(
        way=way,
        code=code,
        writes=len(writes),
        last_driven=[driven[pin] for pin in PINS],
        last_write_ms=(writes[-1].at_s - asked_s) * 1e3,
        levels=lines.levels(PINS),
    )


def main() -> None:
    with made() as lines:
        for way, number in ENDS.items():
            _end(lines, way, number)
        # A chip that keeps the last level of a line that nobody has: at its worst, all four coils on.
        for pin in PINS:
            lines.pull(pin, True)
        before = lines.levels(PINS)
        axis = Uln2003Axis(RealClock(), PINS, rates=RATES)
        tell(way="next start", before=before, levels=lines.levels(PINS))
        axis.close()


main()

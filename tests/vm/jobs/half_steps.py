"""10,000 half steps up and 10,000 down, observed twice: by the chip's levels and in the kernel's trace."""

from __future__ import annotations

import importlib.metadata
import time

from sim_lines import SimLines, made, rest, tell

from firmware_iface import gpio
from firmware_iface.clock import RealClock
from firmware_iface.stepper import Rates
from firmware_iface.uln2003 import Uln2003Axis

PINS = (17, 18, 27, 22)
STEPS = 10_000
RATES = Rates(start_rate_steps_s=500.0, max_rate_steps_s=1000.0, acceleration_steps_s2=5000.0)


class Watched:
    """The board's own library; after each write, what the chip shows is noted."""

    def __init__(self, lines: SimLines) -> None:
        self._library = gpio.load()
        self._lines = lines
        self.seen: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._library, name)

    def output(self, pins: int | list[int], levels: int | list[int]) -> None:
        self._library.output(pins, levels)
        self.seen.append(_row(self._lines.levels(PINS)))


def _row(levels: list[int]) -> str:
    """IN1 to IN4 as one hexadecimal digit, IN1 first."""
    return f"{int(''.join(map(str, levels)), 2):x}"


def _traced(lines: SimLines, first: list[int]) -> str:
    """The coils after each write in the trace, from ``first`` on."""
    levels, rows = dict(zip(PINS, first, strict=True)), []
    for event in lines.events():
        assert event.kind == "set", event
        levels[event.pin] = event.level
        rows.append(_row(list(levels.values())))
    return "".join(rows)


def main() -> None:
    with made() as lines:
        watched = Watched(lines)
        tell(
            library=watched.__getattr__("__file__"),
            rpi_lgpio=importlib.metadata.version("rpi-lgpio"),
            at_import=lines.levels(PINS),
        )
        with Uln2003Axis(RealClock(), PINS, rates=RATES, hold_s=None, gpio=watched) as axis:
            for steps in (STEPS, -STEPS):
                lines.clear_trace()
                watched.seen.clear()
                first = lines.levels(PINS)
                begun_s = time.monotonic()
                axis.start_move(steps)
                rest(axis)
                took_s = time.monotonic() - begun_s
                tell(
                    steps=steps,
                    position_steps=axis.position_steps,
                    took_s=took_s,
                    first=_row(first),
                    last=_row(lines.levels(PINS)),
                    sampled="".join(watched.seen),
                    traced=_traced(lines, first),
                )
        tell(at_end=lines.levels(PINS))


main()

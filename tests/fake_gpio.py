"""A GPIO library that has only what RPi.GPIO, rpi-lgpio and Jetson.GPIO share, and forgives nothing.

What one of the three does not have, or does otherwise, is not here: no ``pull_up_down``, no edge events, no
PWM, no ``cleanup`` of everything, no tuple where one wants a list, no output without a first level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from firmware_iface.clock import Clock, VirtualClock


@dataclass(frozen=True)
class Edge:
    """One write of one output."""

    at_s: float
    real_ns: int
    pin: int
    level: int


class FakeGpio:
    """Levels of pins, with a record of every write. ``pull[pin]`` is asked for the level at an input."""

    BCM = 11
    OUT = 0
    IN = 1

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = VirtualClock() if clock is None else clock
        self._mode: object = None
        self.directions: dict[int, object] = {}
        self.levels: dict[int, int] = {}
        self.edges: list[Edge] = []
        self.pull: dict[int, Callable[[], int]] = {}
        self.reads: list[tuple[float, int]] = []
        self.refused: set[int] = set()
        self.fail_after: int | None = None
        """Writes until ``output`` fails once and for all but one; None: it never does."""

    def setmode(self, mode: object, /) -> None:
        assert mode == self.BCM
        self._mode = mode

    def setwarnings(self, on: bool, /) -> None:
        assert isinstance(on, bool)

    def setup(self, pin: int, direction: object, /, *, initial: int | None = None) -> None:
        assert type(pin) is int
        assert self._mode is not None, "setup before setmode"
        if pin in self.refused:
            raise RuntimeError("GPIO busy")
        if direction == self.OUT:
            assert initial in (0, 1), "an output without a first level"
            self._drive(pin, initial)
        else:
            assert initial is None, "initial parameter is not valid for inputs"
        self.directions[pin] = direction

    def output(self, pins: int | list[int], levels: int | list[int], /) -> None:
        if isinstance(pins, int):
            assert isinstance(levels, int)
            pins, levels = [pins], [levels]
        assert isinstance(pins, list)
        assert isinstance(levels, list)
        if self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after == 0:
                raise RuntimeError("the chip is gone")
        for pin, level in zip(pins, levels, strict=True):
            assert self.directions.get(pin) == self.OUT, f"pin {pin} is not set up as an output"
            assert level in (0, 1)
            self._drive(pin, level)

    def input(self, pin: int, /) -> int:
        assert pin in self.directions, f"pin {pin} is not set up"
        self.reads.append((self._clock.now_s(), pin))
        return self.pull[pin]() if self.directions[pin] == self.IN else self.levels[pin]

    def cleanup(self, pins: list[int], /) -> None:
        assert isinstance(pins, list)
        for pin in pins:
            assert pin in self.directions, f"pin {pin} was never set up"
            del self.directions[pin]

    def _drive(self, pin: int, level: int) -> None:
        self.levels[pin] = level
        self.edges.append(Edge(self._clock.now_s(), time.perf_counter_ns(), pin, level))

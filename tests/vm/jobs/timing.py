"""When each half step reached the line, by the kernel's clock, in a quiet process and beside busy threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
from sim_lines import SimLines, made, rest, tell

from firmware_iface import stepper
from firmware_iface.clock import RealClock
from firmware_iface.stepper import Rates
from firmware_iface.uln2003 import Uln2003Axis

PINS = (17, 18, 27, 22)
STEPS = 1000


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Two threads that compute, one in Python alone and one mostly in NumPy."""
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            sum(range(100))

    def multiply() -> None:
        matrix = np.eye(100)
        while not over.is_set():
            matrix = matrix @ matrix

    threads = [threading.Thread(target=work) for work in (count, multiply)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _run(
    lines: SimLines, rate: float, others: Callable[[], contextlib.AbstractContextManager[None]]
) -> list[int]:
    """Times (us) at which the kernel saw the steps of one motion."""
    rates = Rates(start_rate_steps_s=rate, max_rate_steps_s=rate, acceleration_steps_s2=1.0)
    with Uln2003Axis(RealClock(), PINS, rates=rates, hold_s=None) as axis, others():
        lines.clear_trace()
        axis.start_move(STEPS)
        rest(axis)
        return [round(event.at_s * 1e6) for event in lines.events()]


def main() -> None:
    urgent = stepper.urgent
    with made() as lines:
        for rate in (500, 1000):
            for others in (contextlib.nullcontext, _busy):
                for first in (True, False):
                    stepper.urgent = urgent if first else contextlib.nullcontext
                    at_us = _run(lines, rate, others)
                    tell(rate=rate, busy=others is _busy, urgent=first, steps=STEPS, at_us=at_us)


main()

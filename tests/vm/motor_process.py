"""A process with a running motor that ends in the way its argument says. Prints "moving" once it does."""

from __future__ import annotations

import sys
import time

from sim_lines import rest

from edge import cli
from firmware_iface.clock import RealClock
from firmware_iface.stepper import Rates
from firmware_iface.uln2003 import Uln2003Axis

PINS = (17, 18, 27, 22)
RATES = Rates(start_rate_steps_s=500.0, max_rate_steps_s=500.0, acceleration_steps_s2=1.0)


def _moving(steps: int) -> Uln2003Axis:
    axis = Uln2003Axis(RealClock(), PINS, rates=RATES, hold_s=None)
    axis.enable()
    axis.start_move(steps)
    print("moving", flush=True)
    return axis


def _wait_to_be_ended() -> None:
    with _moving(30_000) as axis:
        rest(axis)


def main(way: str) -> None:
    if way == "exit":
        with _moving(5000):
            time.sleep(0.3)
    elif way == "exit, left open":
        _moving(100)
    elif way == "exception":
        with _moving(5000):
            time.sleep(0.3)
            raise ZeroDivisionError
    elif way == "exception, left open":
        _moving(100)
        raise ZeroDivisionError
    elif way == "SIGTERM":
        with cli._terminated_as_interrupted():
            _wait_to_be_ended()
    else:
        _wait_to_be_ended()


if __name__ == "__main__":
    main(sys.argv[1])

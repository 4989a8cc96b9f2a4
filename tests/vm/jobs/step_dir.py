"""A step/direction driver: every edge of its three pins, from the kernel's trace."""

from __future__ import annotations

from sim_lines import made, rest, tell

from firmware_iface.clock import RealClock
from firmware_iface.step_dir import StepDirAxis
from firmware_iface.stepper import Rates

STEP, DIR, ENABLE = 20, 21, 16
RATES = Rates(start_rate_steps_s=400.0, max_rate_steps_s=1000.0, acceleration_steps_s2=4000.0)


def main() -> None:
    with made() as lines:
        for pin in (STEP, DIR, ENABLE):
            lines.pull(pin, True)
        axis = StepDirAxis(
            RealClock(), "drv8825", step_pin=STEP, dir_pin=DIR, enable_pin=ENABLE, rates=RATES, hold_s=None
        )
        tell(constructed=lines.levels((STEP, DIR, ENABLE)))
        lines.clear_trace()
        with axis:
            for steps in (3000, -2000):
                axis.start_move(steps)
                rest(axis)
                tell(position_steps=axis.position_steps, standing=lines.levels((STEP, DIR, ENABLE)))
            tell(edges=[(event.kind, event.pin, event.level) for event in lines.events()])


main()

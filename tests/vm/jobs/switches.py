"""A switch pulled at the wire while the motor runs: what the kernel saw of the steps after it."""

from __future__ import annotations

from sim_lines import made, mark_and_pull_later, rest, tell

from firmware_iface.clock import RealClock
from firmware_iface.errors import MotorError
from firmware_iface.stepper import Rates, Switches
from firmware_iface.uln2003 import Uln2003Axis

PINS = (17, 18, 27, 22)
LOW, HIGH, BUTTON = 5, 6, 13
RATES = Rates(start_rate_steps_s=500.0, max_rate_steps_s=500.0, acceleration_steps_s2=1.0)
TRIALS = ((HIGH, 1), (LOW, -1), (BUTTON, 1), (BUTTON, -1)) * 3


def main() -> None:
    clock = RealClock()
    switches = Switches(low_limit=LOW, high_limit=HIGH, stop_button=BUTTON)
    with (
        made() as lines,
        Uln2003Axis(clock, PINS, rates=RATES, hold_s=None, switches=switches) as axis,
    ):
        for pin, way in TRIALS:
            before = axis.position_steps
            lines.clear_trace()
            axis.start_move(way * 3000)
            presser = mark_and_pull_later(lines, pin, 0.3)
            rest(axis)
            presser.wait()
            ended, events, refused = axis.why_ended, lines.events(), ""
            try:
                axis.start_move(way)
            except MotorError as error:
                refused = str(error)
            lines.pull(pin, False)
            tell(
                pin=pin,
                way=way,
                ended=ended,
                counted=axis.position_steps - before,
                refused=refused,
                events=[(round(event.at_s * 1e6), event.kind) for event in events],
            )


main()

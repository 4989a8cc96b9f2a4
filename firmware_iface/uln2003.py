"""A unipolar motor on a ULN2003 board: four coils switched by hand. Usually the geared 28BYJ-48.

The chip is seven switches without a mind of its own: which coils are on is the rotor's position within one
electrical turn, and this module's to remember::

    half step   0   1   2   3   4   5   6   7         full step (two coils on)   0   1   2   3
    IN1         #   #   .   .   .   .   .   #         IN1                        #   .   .   #
    IN2         .   #   #   #   .   .   .   .         IN2                        #   #   .   .
    IN3         .   .   .   #   #   #   .   .         IN3                        .   #   #   .
    IN4         .   .   .   .   .   #   #   #         IN4                        .   .   #   #

The place in the table outlives moves and switched-off coils: a motor that comes back on finds the pattern
it stood at. Starting over at column 0 would lose up to four half steps each time.

A 28BYJ-48 has 64 half steps a motor turn and a gear of 63.68395:1, so 4075.77 half steps a turn; some
units have 64:1. It starts at about 500 half steps/s and reaches about 1000 with a ramp, at 5 V, unloaded.
"""

from __future__ import annotations

from firmware_iface.clock import Clock
from firmware_iface.gpio import Gpio, Lines
from firmware_iface.stepper import Rates, StepperAxis, Switches

HALF_STEPS: tuple[tuple[int, int, int, int], ...] = (
    (1, 0, 0, 0),
    (1, 1, 0, 0),
    (0, 1, 0, 0),
    (0, 1, 1, 0),
    (0, 0, 1, 0),
    (0, 0, 1, 1),
    (0, 0, 0, 1),
    (1, 0, 0, 1),
)
"""Levels at IN1 to IN4, one row a half step upwards. From row to row one coil changes."""
FULL_STEPS = HALF_STEPS[1::2]
"""The rows with two coils on: the stronger of the two ways to take full steps."""


class Uln2003Axis(StepperAxis):
    """An axis of four coils. Making one claims its pins, with all coils off, and moves nothing.

    ``pins`` are the BCM numbers of IN1 to IN4; ``half_steps`` False takes full steps, half as many a turn;
    ``inverted`` swaps the directions. The rest is as in ``StepperAxis``. Pins in use, or no GPIO library:
    MotorError.
    """

    def __init__(
        self,
        clock: Clock,
        pins: tuple[int, int, int, int],
        *,
        rates: Rates,
        half_steps: bool = True,
        inverted: bool = False,
        hold_s: float | None = 0.5,
        switches: Switches | None = None,
        name: str = "z",
        gpio: Gpio | None = None,
    ) -> None:
        if len(pins) != 4 or len(set(pins)) != 4:
            raise ValueError(f"{name}: pins = {pins}: a ULN2003 needs four different ones")
        switches = Switches() if switches is None else switches
        super().__init__(clock, rates=rates, hold_s=hold_s, switches=switches, name=name)
        rows = HALF_STEPS if half_steps else FULL_STEPS
        self._patterns = tuple(dict(zip(pins, row, strict=True)) for row in rows)
        self._phase_per_step = -1 if inverted else 1
        self._phase = 0
        self._attach(
            Lines(f"ULN2003 of {name}", outputs=dict.fromkeys(pins, 0), inputs=switches.pins, gpio=gpio)
        )

    def _switch_on(self) -> None:
        self._lines.write(self._patterns[self._phase])

    def _switch_off(self) -> None:
        self._lines.write(dict.fromkeys(self._patterns[0], 0))

    def _step(self, direction: int) -> None:
        phase = (self._phase + direction * self._phase_per_step) % len(self._patterns)
        self._lines.write(self._patterns[phase])
        self._phase = phase

r"""A bipolar motor on a step/direction driver: A4988, DRV8825, or TMC2209 standing alone (without its UART).

A rising edge at STEP is one (micro)step in the direction that DIR shows::

    DIR   ____/~~~~~~~~~~~~~~~~~~~~~~~~~
    STEP  __________/~~~~\________/~~~~\
              |set-up| high| low  |

ENABLE is active low on all three: low is current in the coils. Their carriers pull it low or leave it to
the chip, so an open pin means coils on: a resistor (10 kohm) from ENABLE to the logic supply keeps them off
while no program holds the pin. Switched off, the chips keep their place in the microstep table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_iface.clock import Clock
from firmware_iface.gpio import Gpio, Lines
from firmware_iface.stepper import Rates, StepperAxis, Switches


@dataclass(frozen=True)
class Chip:
    """What a driver's data sheet says. Times are minima in ns."""

    name: str
    high_ns: int
    """STEP high."""
    low_ns: int
    """STEP low."""
    set_up_ns: int
    """From a change of DIR, ENABLE or a microstep pin to the rising edge at STEP."""
    microstep_pins: tuple[str, ...]
    """The names of the pins that choose the microstep."""
    microsteps: Mapping[int, tuple[int, ...]]
    """Microsteps per full step, and the levels at those pins that choose them."""


CHIPS: Mapping[str, Chip] = {
    # Allegro A4988 data sheet: Figure 1, logic interface timing (t_A, t_B, t_C), and Table 1, resolution.
    "a4988": Chip(
        name="A4988",
        high_ns=1000,
        low_ns=1000,
        set_up_ns=200,
        microstep_pins=("MS1", "MS2", "MS3"),
        microsteps={1: (0, 0, 0), 2: (1, 0, 0), 4: (0, 1, 0), 8: (1, 1, 0), 16: (1, 1, 1)},
    ),
    # Texas Instruments SLVSA73, timing requirements (t_WH, t_WL, t_SU of STEP), and the stepping format.
    "drv8825": Chip(
        name="DRV8825",
        high_ns=1900,
        low_ns=1900,
        set_up_ns=650,
        microstep_pins=("MODE0", "MODE1", "MODE2"),
        microsteps={
            1: (0, 0, 0),
            2: (1, 0, 0),
            4: (0, 1, 0),
            8: (1, 1, 0),
            16: (0, 0, 1),
            32: (1, 1, 1),
        },
    ),
    # Trinamic TMC2209 data sheet: STEP/DIR timing (t_SH, t_SL: a clock period at 12 MHz and 20 ns, with
    # room for a slow oscillator; t_DSU),
    # and the table of MS1, MS2. 32 and 64 are not as on the TMC2208, and there are no full steps.
    "tmc2209": Chip(
        name="TMC2209",
        high_ns=120,
        low_ns=120,
        set_up_ns=20,
        microstep_pins=("MS1", "MS2"),
        microsteps={8: (0, 0), 16: (1, 1), 32: (1, 0), 64: (0, 1)},
    ),
}


class StepDirAxis(StepperAxis):
    """An axis whose driver counts phases itself. Making one claims its pins, coils off, and moves nothing.

    ``chip`` is a key of ``CHIPS``; the pins are BCM numbers. With ``microstep_pins``, in the order of the
    chip's, the resolution is set to ``microsteps`` per full step; without, it is as the board is wired and
    ``microsteps`` must be None. ``inverted`` swaps the directions. The rest is as in ``StepperAxis``: its
    steps are microsteps. What does not fit together: ValueError. Pins in use, or no library: MotorError.
    """

    def __init__(
        self,
        clock: Clock,
        chip: str,
        *,
        step_pin: int,
        dir_pin: int,
        enable_pin: int,
        rates: Rates,
        microstep_pins: tuple[int, ...] = (),
        microsteps: int | None = None,
        inverted: bool = False,
        hold_s: float | None = 0.5,
        switches: Switches | None = None,
        name: str = "z",
        gpio: Gpio | None = None,
    ) -> None:
        if chip not in CHIPS:
            raise ValueError(f"{name}: chip = {chip!r}: need one of {', '.join(CHIPS)}")
        switches = Switches() if switches is None else switches
        super().__init__(clock, rates=rates, hold_s=hold_s, switches=switches, name=name)
        self._chip = CHIPS[chip]
        self._step_pin = step_pin
        self._dir_pin = dir_pin
        self._enable_pin = enable_pin
        self._up_level = 0 if inverted else 1
        self._dir_level = 0
        # Spelt out one by one: a pin named twice must reach Lines, and a dict would swallow it.
        pins = (step_pin, dir_pin, enable_pin, *microstep_pins)
        levels = (0, self._dir_level, 1, *_microstep_levels(self._chip, microstep_pins, microsteps, name))
        if len(set(pins)) != len(pins):
            raise ValueError(f"{name}: one pin is given twice in {pins}")
        self._attach(
            Lines(
                f"{self._chip.name} of {name}",
                outputs=dict(zip(pins, levels, strict=True)),
                inputs=switches.pins,
                gpio=gpio,
            )
        )

    def _switch_on(self) -> None:
        self._lines.write({self._enable_pin: 0})
        _spend(self._chip.set_up_ns)

    def _switch_off(self) -> None:
        self._lines.write({self._step_pin: 0, self._enable_pin: 1})

    def _step(self, direction: int) -> None:
        level = self._up_level if direction > 0 else 1 - self._up_level
        if level != self._dir_level:
            self._lines.write({self._dir_pin: level})
            self._dir_level = level
            _spend(self._chip.set_up_ns)
        self._lines.write({self._step_pin: 1})
        _spend(self._chip.high_ns)
        self._lines.write({self._step_pin: 0})
        _spend(self._chip.low_ns)


def _microstep_levels(
    chip: Chip, pins: tuple[int, ...], microsteps: int | None, name: str
) -> tuple[int, ...]:
    """Levels at ``pins`` that choose ``microsteps``; ValueError where the chip cannot."""
    if not pins:
        if microsteps is not None:
            raise ValueError(f"{name}: microsteps = {microsteps} without microstep_pins to choose them with")
        return ()
    if len(pins) != len(chip.microstep_pins):
        raise ValueError(
            f"{name}: microstep_pins = {pins}: a {chip.name} has {', '.join(chip.microstep_pins)}"
        )
    if microsteps is None or microsteps not in chip.microsteps:
        allowed = ", ".join(str(number) for number in chip.microsteps)
        raise ValueError(f"{name}: microsteps = {microsteps}: a {chip.name} has {allowed}")
    return chip.microsteps[microsteps]


def _spend(duration_ns: int) -> None:
    """Let at least ``duration_ns`` ns pass. Busy: the shortest sleep of the system is 50 times as long.

    On the processor's own time, not on the axis' clock: the chip does not know about virtual time.
    """
    until_ns = time.perf_counter_ns() + duration_ns
    while time.perf_counter_ns() < until_ns:
        pass

"""A Sangaboard with firmware 1.0.1: its commands match by their beginning, and it checks no argument."""

from __future__ import annotations

import re

from emulators.board import Board
from firmware_iface.clock import Clock

VERSION = "Sangaboard Firmware v1.0.1"


class Sangaboard(Board):
    def __init__(self, clock: Clock, *, step_delay_us: int = 1000, ramp_time_us: int = 0, z: int = 0) -> None:
        super().__init__(clock)
        self.version = VERSION
        self.step_delay_us, self.ramp_time_us = step_delay_us, ramp_time_us
        self.blocking = True
        self.released = True
        self._notify = False
        self.put(z)

    def boot(self) -> None:
        # The count comes back from EEPROM, where it was written last: long ago.
        self.put(0)
        self._notify = False
        self.released = True
        self.say(self.version)

    def tick(self) -> None:
        if self._notify and not self.running:
            self._notify = False
            self.halt()
            self.say("stopped")

    def command(self, line: str) -> None:
        argument = line.partition(" ")[2]
        if re.fullmatch(r"mr -?\d+ -?\d+ -?\d+", line):
            self._move(_c_long(argument.split()[2]))
        elif re.fullmatch(r"mrz -?\d+", line):
            self._move(_c_int16(argument))
        elif line == "release":
            self.released = True
            self.say("done")
        elif line == "p?":
            self.say(f"0 0 {self.z}")
        elif line == "dt?":
            self.say(f"minimum step delay {self.step_delay_us}")
        elif line == "ramp_time?":
            self.say(f"ramp_time {self.ramp_time_us}")
        elif line == "blocking_moves?":
            self.say(f"blocking_moves {'true' if self.blocking else 'false'}")
        elif line in ("blocking_moves true", "blocking_moves false"):
            self.blocking = line.endswith("true")
            self.say("done.")
        elif line == "moving?":
            self.say("true" if self.running else "false")
        elif line == "stop":
            self.halt()
            self._notify = False
            self.say("Move aborted")
        elif line == "version":
            self.say(self.version)
        else:
            self.say("Type 'help' for a list of commands.")

    def _move(self, steps: int) -> None:
        count, sign = abs(steps), (steps > 0) - (steps < 0)
        delay_s, ramp_s = self.step_delay_us * 1e-6, self.ramp_time_us * 1e-6
        full_s = count * delay_s
        total_s = full_s + ramp_s if count else 0.0

        def course(t_s: float) -> int:
            # The firmware's scaled time: a parabola up, a line, a parabola down.
            left_s = total_s - t_s
            if t_s >= total_s:
                return steps
            if ramp_s and t_s < ramp_s and left_s > t_s:
                scaled_s = t_s * t_s / (2 * ramp_s)
            elif ramp_s and left_s < ramp_s:
                # In a short move this falls short of what was gone; a step once made stays made.
                up_s = min(total_s / 2, ramp_s)
                scaled_s = max(full_s - left_s * left_s / (2 * ramp_s), up_s * up_s / (2 * ramp_s))
            else:
                scaled_s = t_s - ramp_s / 2
            return sign * min(count, max(0, int(scaled_s / delay_s + 0.5)))

        self.released = False
        self.go(course, total_s)
        if self.blocking:
            self._notify = True
        else:
            self.say("done.")


def _c_long(text: str) -> int:
    return (int(text) + 2**31) % 2**32 - 2**31


def _c_int16(text: str) -> int:
    return (int(text) + 2**15) % 2**16 - 2**15

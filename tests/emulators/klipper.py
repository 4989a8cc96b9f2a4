"""Klipper's virtual port, as far as one stepper_z goes: one queue of commands, and a motion planned ahead."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from emulators.board import Board
from emulators.gcode import trapezoid
from firmware_iface.clock import Clock

AHEAD_S, TICK_S = 0.25, 0.1


class Klipper(Board):
    """Host and board as one: ``z`` is the motor's count, which ``GET_POSITION`` tells as Klipper plans it."""

    def __init__(
        self, clock: Clock, *, steps_per_mm: float = 400.0, force_move: bool = True, z: int = 0
    ) -> None:
        super().__init__(clock)
        self.steps_per_mm, self.force_move = steps_per_mm, force_move
        self.max_z_velocity, self.max_z_accel = 5.0, 100.0
        self.position_mm = (-200.0, 200.0)
        self.homed, self.released, self.relative = False, True, False
        self.steppers = "stepper_x:0 stepper_y:0 stepper_z:{z} stepper_z1:{z}"
        self.state = ""
        """Why it is not ready, in its words; empty while it is."""
        self._mm, self._offset_mm = 0.0, 0.0
        self._waiting: deque[str] = deque()
        self._busy_until_s = -math.inf
        self._acknowledge = False
        self.put(z)

    def put(self, z: int) -> None:
        super().put(z)
        self._offset_mm = z / self.steps_per_mm - self._mm
        self._stands_s = -math.inf

    # The wire: line feeds only, and one command after the other ----------------------------------------

    def say(self, text: str) -> None:
        self._out += text.encode() + b"\n"

    def command(self, line: str) -> None:
        assert not line.strip().upper().startswith("M112"), "M112 shuts the machine down"
        self._waiting.append(line.strip())
        self.tick()

    def tick(self) -> None:
        while self.clock.now_s() >= self._busy_until_s:
            if self._acknowledge:
                self.say("ok")
                self._acknowledge = False
            if not self._waiting:
                return
            self._acknowledge = True
            refusal = self._obey(self._waiting.popleft())
            if refusal:
                lines = refusal.split("\n")
                for text in lines if len(lines) > 1 else []:
                    self.say(f"// {text}")
                self.say(f"!! {lines[0]}")

    def busy(self, duration_s: float) -> None:
        """As while a macro of another client runs."""
        self._busy_until_s = self.clock.now_s() + duration_s

    def shut_down(self, why: str = "Lost communication with MCU 'mcu'") -> None:
        self.halt()
        self.state, self._busy_until_s = f"{why}\nOnce the underlying issue is corrected, use the", -math.inf
        self.say("// Klipper state: Shutdown")

    def boot(self) -> None:
        """FIRMWARE_RESTART."""
        self._mm = 0.0
        self.put(0)
        self.homed, self.relative, self.released = False, False, True
        self._busy_until_s = -math.inf
        self._waiting.clear()
        self._acknowledge = False
        self.say("// Klipper state: Disconnect")
        self.say("// Klipper state: Ready")

    # Commands ------------------------------------------------------------------------------------------

    def _obey(self, line: str) -> str:
        """Carry out ``line``; the error it ends with, or nothing."""
        code, *words = line.split()
        obey: Callable[[list[str]], str] | None = getattr(self, f"_{code.upper()}", None)
        if code in ("ECHO", "STATUS", "GET_POSITION", "SET_KINEMATIC_POSITION"):
            if not all("=" in word for word in words):
                return f"Malformed command '{line}'"
            if code == "ECHO":
                self.say(f"// {line}")
                return ""
        if self.state and code not in ("STATUS", "GET_POSITION", "M114", "M115"):
            return self.state
        if obey is None or (code == "SET_KINEMATIC_POSITION" and not self.force_move):
            self.say(f'// Unknown command:"{code}"')
            return ""
        return obey(words)

    def _STATUS(self, words: list[str]) -> str:
        if self.state:
            return f"{self.state}\nKlipper state: Not ready"
        self.say("// Klipper state: Ready")
        return ""

    def _M114(self, words: list[str]) -> str:
        self.say(f"X:0.000 Y:0.000 Z:{self._mm:.3f} E:0.000")
        return ""

    def _GET_POSITION(self, words: list[str]) -> str:
        place = f"X:0.000000 Y:0.000000 Z:{self._mm:.6f}"
        self.say(f"// mcu: {self.steppers.format(z=self._planned())}")
        self.say(f"// stepper: stepper_x:0.000000 stepper_y:0.000000 stepper_z:{self._mm:.6f}")
        for what in ("kinematic", "toolhead", "gcode", "gcode base", "gcode homing"):
            self.say(f"// {what}: {place}")
        return ""

    def _SET_KINEMATIC_POSITION(self, words: list[str]) -> str:
        assert words == ["SET_HOMED=Z"], "where it stands, and z alone"
        self._offset_mm += self._planned() / self.steps_per_mm - (self._mm + self._offset_mm)
        self.homed = True
        return ""

    def _G90(self, words: list[str]) -> str:
        self.relative = False
        return ""

    def _G91(self, words: list[str]) -> str:
        self.relative = True
        return ""

    def _G1(self, words: list[str]) -> str:
        values = {word[0]: float(word[1:]) for word in words}
        assert values.keys() == {"Z", "F"}, f"not what a focus axis sends: {words}"
        assert self.clock.now_s() >= self._stands_s, "a second piece while the first goes on"
        if values["F"] <= 0.0:
            return f"Invalid speed in 'G1 {' '.join(words)}'"
        target_mm = values["Z"] + (self._mm if self.relative else 0.0)
        place = f"0.000 0.000 {target_mm:.3f} [0.000]"
        if not self.homed:
            return f"Must home axis first: {place}"
        if not self.position_mm[0] <= target_mm <= self.position_mm[1]:
            return f"Move out of range: {place}"
        self._mm = target_mm
        self.released = False
        rate = min(values["F"] / 60.0, self.max_z_velocity) * self.steps_per_mm
        course, moving_s = trapezoid(self._planned() - self.z, rate, self.max_z_accel * self.steps_per_mm)
        self.go(lambda t_s: course(t_s - AHEAD_S) if t_s > AHEAD_S else 0, AHEAD_S + moving_s)
        self._stands_s = self.clock.now_s() + self._duration_s
        return ""

    def _M400(self, words: list[str]) -> str:
        left_s = self._stands_s - self.clock.now_s()
        if left_s >= 0.0:
            self.busy(math.floor(left_s / TICK_S + 1.0) * TICK_S)
        return ""

    def _M18(self, words: list[str]) -> str:
        self.released, self.homed = True, False
        return ""

    def _planned(self) -> int:
        """The count at the end of all motion, rounded as Klipper does: halves away from zero."""
        steps = (self._mm + self._offset_mm) * self.steps_per_mm
        return int(math.copysign(math.floor(abs(steps) + 0.5), steps))

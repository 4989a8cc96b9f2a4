"""GRBL 1.1h and Marlin 2, as far as one Z axis goes; anything else is refused as they refuse it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from emulators.board import Board
from firmware_iface.clock import Clock


def trapezoid(steps: int, rate: float, acceleration: float) -> tuple[Callable[[float], int], float]:
    """From rest to rest: steps done at t, and the duration (s)."""
    distance = abs(steps)
    peak = min(rate, math.sqrt(acceleration * distance))
    ramp_s = peak / acceleration
    total_s = distance / peak + ramp_s if distance else 0.0

    def course(t_s: float) -> int:
        if t_s >= total_s:
            return steps
        if t_s < ramp_s:
            gone = acceleration * t_s**2 / 2
        elif total_s - t_s < ramp_s:
            gone = distance - acceleration * (total_s - t_s) ** 2 / 2
        else:
            gone = peak * (t_s - ramp_s / 2)
        return int(math.copysign(min(distance, int(gone)), steps))

    return course, total_s


class Machine(Board):
    """A Z axis with a rate and an acceleration in mm."""

    def __init__(
        self, clock: Clock, *, steps_per_mm: float = 400.0, rate_mm_min: float = 150.0, z: int = 0
    ) -> None:
        super().__init__(clock)
        self.steps_per_mm, self.rate_mm_min, self.acceleration_mm_s2 = steps_per_mm, rate_mm_min, 20.0
        self.put(z)

    def move_by(self, steps: int, feed_mm_min: float) -> None:
        rate = min(feed_mm_min, self.rate_mm_min) / 60 * self.steps_per_mm
        self.go(*trapezoid(steps, rate, self.acceleration_mm_s2 * self.steps_per_mm))


class Grbl(Machine):
    def __init__(self, clock: Clock, **options: float) -> None:
        super().__init__(clock, **options)  # type: ignore[arg-type]
        self.alarm = False
        self.travel_mm = 100.0
        self.settings = {10: "1", 13: "0", 102: f"{self.steps_per_mm:.3f}"}
        self.settings |= {112: f"{self.rate_mm_min:.3f}", 122: f"{self.acceleration_mm_s2:.3f}"}

    def boot(self) -> None:
        self.put(0)
        self.say("")
        self.say("Grbl 1.1h ['$' for help]")

    def raise_alarm(self, number: int) -> None:
        self.halt()
        self.alarm = True
        self.say(f"ALARM:{number}")

    def realtime(self, byte: int) -> bool:
        if byte == ord("?"):
            state = "Alarm" if self.alarm else "Jog" if self.running else "Idle"
            self.say(f"<{state}|MPos:0.000,0.000,{self.z / self.steps_per_mm:.3f}|FS:0,0>")
        elif byte == 0x85:
            if self.running:
                here, on = self.z, self._course(1e9)
                # Decelerate, from the full rate at most: the distance left may be shorter still.
                rate = self.rate_mm_min / 60 * self.steps_per_mm
                brake = int(rate**2 / (2 * self.acceleration_mm_s2 * self.steps_per_mm))
                gone = min(brake, abs(self._base + on - here)) * (1 if on > 0 else -1)
                duration_s = 2 * abs(gone) / rate
                self.go(lambda t_s: gone if t_s >= duration_s else int(gone * t_s / duration_s), duration_s)
        elif byte == 0x18:
            self.halt()
            self.say("Grbl 1.1h ['$' for help]")
        else:
            return byte in b"!~" or byte > 0x7F
        return True

    def command(self, line: str) -> None:
        line = line.replace(" ", "").replace("\r", "").upper()
        if len(line) > 79:
            self.say("error:11")
        elif line == "":
            self.say("ok")
        elif line.startswith("$J="):
            self._jog(line[3:])
        elif line == "$I" or line == "$$":
            if self.running:
                self.say("error:8")
                return
            if line == "$I":
                self.say("[VER:1.1h.20190830:]")
                self.say("[OPT:V,15,128]")
            else:
                for key, value in self.settings.items():
                    self.say(f"${key}={value}")
            self.say("ok")
        elif line.startswith("$"):
            self.say("error:3")
        else:
            self.say("error:9" if self.alarm else "error:20")

    def _jog(self, text: str) -> None:
        if self.alarm:
            self.say("error:9")
            return
        if not re.fullmatch(r"(?:[A-Z]-?\d+(?:\.\d*)?)+", text):
            self.say("error:2")
            return
        words = re.findall(r"([A-Z])(-?\d+(?:\.\d*)?)", text)
        codes = {value for letter, value in words if letter == "G"}
        values = {letter: float(value) for letter, value in words if letter != "G"}
        if not codes <= {"20", "21", "90", "91", "53"} or not values.keys() <= set("XYZF"):
            self.say("error:16")
        elif values.get("F", 0.0) <= 0.0:
            self.say("error:22")
        elif not values.keys() & set("XYZ"):
            self.say("error:26")
        elif "20" in codes or "X" in values or "Y" in values:
            raise AssertionError(f"not what a focus axis sends: {text}")
        else:
            target = round(values["Z"] * self.steps_per_mm) + (self.z if "91" in codes else 0)
            if abs(target / self.steps_per_mm) > self.travel_mm:
                self.say("error:15")
                return
            self.move_by(target - self.z, values["F"])
            self.say("ok")


class Marlin(Machine):
    def __init__(self, clock: Clock, **options: float) -> None:
        super().__init__(clock, **options)  # type: ignore[arg-type]
        self.relative = False
        self.klipper = False
        self.dead = False
        self.released = True

    def put(self, z: int) -> None:
        super().put(z)
        self._mm = z / self.steps_per_mm

    def boot(self) -> None:
        self.put(0)
        self.relative, self.released = False, True
        self.say("start")
        self.say("echo:Marlin 2.1.2")

    def kill(self) -> None:
        self.halt()
        self.dead = True
        self.say("Error:Printer halted. kill() called!")

    def command(self, line: str) -> None:
        if self.dead:
            return
        code, *words = line.strip().split(" ")
        if code == "M114":
            place = f"X:0.00 Y:0.00 Z:{self._mm:.2f} E:0.00"
            self.say(place if self.klipper else f"{place} Count X:0 Y:0 Z:{self.z}")
        elif code == "M115":
            self.say("FIRMWARE_NAME:Marlin 2.1.2 (Nov 12 2023) SOURCE_CODE_URL:x PROTOCOL_VERSION:1.0")
        elif code == "M92":
            self.say(f"echo:  M92 X80.00 Y80.00 Z{self.steps_per_mm:.2f} E93.00")
        elif code in ("G90", "G91"):
            self.relative = code == "G91"
        elif code == "G1":
            self._go(dict(re.findall(r"([ZF])(-?\d+(?:\.\d+)?)", " ".join(words))))
        elif code == "M410":
            self.halt()
            self._mm = self.z / self.steps_per_mm
        elif code in ("M18", "M84"):
            self.released = True
        elif code:
            self.say(f'echo:Unknown command: "{line}"')
        self.say("ok")

    def _go(self, words: dict[str, str]) -> None:
        assert not self.running or self.z == round(self._mm * self.steps_per_mm), (
            "a second move while the first goes on"
        )
        self._mm = float(words["Z"]) + (self._mm if self.relative else 0.0)
        self.released = False
        self.move_by(round(self._mm * self.steps_per_mm) - self.z, float(words["F"]))

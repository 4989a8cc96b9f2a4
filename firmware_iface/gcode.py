"""G-code boards as one focus axis: GRBL 1.1 and Marlin 2, its Z axis, with a count of whole steps.

The board speaks mm, the axis steps; ``steps_per_mm`` is exact and the only factor between them.

GRBL     position  ``?``  <Jog|MPos:0.000,0.000,1.250|FS:500,0>    motion  ``$J=G90 G53 G21 Z.. F..``
         stop      0x85 (jog cancel: decelerates, keeps the count)  refusal ``error:n``, ``ALARM:n``
         To 0.001 mm, so no more than 1000 steps to the mm. Moves go to an absolute place, so that rounding
         never adds up. The coils follow the board's own $1: there is no command that switches them off.
Marlin   position  ``M114``  X:0.00 .. Z:1.25 E:0.00 Count X:0 Y:0 Z:500    motion  ``G91``, ``G1 Z.. F..``
         stop      M410 (dead; the count stays)     release ``M18 Z``    refusal ``Error:..``, ``echo:..``
         ``Count`` is the stepper's own count, also in mid-move. ``M400`` is not used: nothing, not even a
         stop, is obeyed while it waits.

Klipper's virtual port has neither a ``Count`` nor M410: see ``firmware_iface.klipper``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

from firmware_iface.board_axis import REPLY_S, BoardAxis, BoardState
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.line_port import BoardReset, LinkError, NoReply, SerialLike, open_serial

BAUD = 115200
DIALECTS = ("grbl", "marlin")
MOST_STEPS = 2**31 - 1
_GRBL_RESOLUTION_MM = Fraction(1, 1000)
_GRBL_STANDING = ("Idle", "Alarm", "Check", "Sleep")
_GRBL_HINTS = {
    "error:8": " (it moves: wait until it stands)",
    "error:9": " (locked: home it with $H, or unlock it with $X)",
    "error:15": " (beyond the board's own travel, $132)",
}
_STOP_S = 2.0
_STILL_S = 0.5
"""A Marlin board short of its target counts as standing after this long (s) beyond the planned time."""
_BETWEEN_TRIES_S = 0.5
_JOG_CANCEL = b"\x85"

_GRBL_STATUS = re.compile(
    r"<([A-Z][a-z]{2,5})(?::\d)?\|MPos:-?\d{1,7}\.\d{3},-?\d{1,7}\.\d{3},(-?\d{1,7}\.\d{3})(?:,[\d.,-]*)?(?:\|[^<>]*)?>"
)
_GRBL_SETTING = re.compile(r"\$(\d{1,3})=(-?\d{1,9}(?:\.\d{1,6})?)")
_GRBL_BANNER = re.compile(r"Grbl \d\S* \[.*\]")
_MARLIN_PLACE = re.compile(r"X:\s*-?[\d.]+ Y:.* Count X:.* Z:\s*(-?\d{1,10})(?: .*)?")
_MARLIN_PLACE_OTHER = re.compile(r"X:\s*-?[\d.]+ Y:\s*-?[\d.]+ Z:\s*-?[\d.]+ E:\s*-?[\d.]+")
_MARLIN_STEPS = re.compile(r"(?:echo:)?\s*M92 .*\bZ(\d+(?:\.\d+)?)\b.*")
_T = TypeVar("_T")


def parse_grbl_status(line: str) -> tuple[str, Fraction] | None:
    """(state, machine Z in mm) of a status report; None when it is none."""
    match = _GRBL_STATUS.fullmatch(line)
    return (match[1], Fraction(match[2])) if match else None


def parse_grbl_setting(line: str) -> tuple[int, Fraction] | None:
    """(n, value) of ``$n=value``; None when it is none."""
    match = _GRBL_SETTING.fullmatch(line)
    return (int(match[1]), Fraction(match[2])) if match else None


def parse_marlin_count(line: str) -> int | None:
    """The stepper's Z count of a reply to M114; None when it is none, or no 32-bit number."""
    match = _MARLIN_PLACE.fullmatch(line)
    count = int(match[1]) if match else None
    return count if count is not None and abs(count) <= MOST_STEPS else None


class GcodeAxis(BoardAxis):
    """The Z axis of a G-code board. See ``BoardAxis`` and the dialects above; ``open`` takes a device's name.

    ``dialect`` grbl or marlin. ``steps_per_mm`` (steps/mm, > 0; exact: an int, a Fraction or a decimal
    string) must be the board's own ($102, M92), else MotorError. ``feed_mm_min`` (mm/min, > 0) is the speed;
    ``acceleration_mm_s2`` (mm/s^2, > 0) the board's. A GRBL board's own $112 and $122 have the last word.
    """

    def __init__(
        self,
        serial: SerialLike,
        clock: Clock,
        *,
        dialect: str,
        steps_per_mm: int | Fraction | str,
        feed_mm_min: float,
        acceleration_mm_s2: float = 100.0,
        name: str = "",
    ) -> None:
        factor = Fraction(steps_per_mm)
        if dialect not in DIALECTS:
            raise ValueError(f"dialect = {dialect!r}: need one of {', '.join(DIALECTS)}")
        if factor <= 0 or (dialect == "grbl" and factor > 1 / _GRBL_RESOLUTION_MM):
            raise ValueError(f"steps_per_mm = {steps_per_mm}: need a number above 0, and for grbl up to 1000")
        for key, value in (("feed_mm_min", feed_mm_min), ("acceleration_mm_s2", acceleration_mm_s2)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{key} = {value!r}: need a finite number above 0")
        self._grbl = dialect == "grbl"
        self._steps_per_mm = factor
        self._feed_mm_min = float(feed_mm_min)
        self._acceleration_mm_s2 = float(acceleration_mm_s2)
        self._greeting = True
        # Marlin: where this motion goes, and when it must be over; None at rest.
        self._target_steps: int | None = None
        self._over_s = 0.0
        self._sent_mm: Fraction | None = None
        super().__init__(serial, clock, name=name or f"{dialect} board")

    @classmethod
    def open(
        cls,
        device: str,
        clock: Clock,
        *,
        dialect: str,
        steps_per_mm: int | Fraction | str,
        feed_mm_min: float,
        acceleration_mm_s2: float = 100.0,
        baud: int = BAUD,
    ) -> GcodeAxis:
        """The board on ``device``, for example /dev/ttyUSB0. Raises MotorError; moves nothing."""
        return cls(
            open_serial(device, baud),
            clock,
            dialect=dialect,
            steps_per_mm=steps_per_mm,
            feed_mm_min=feed_mm_min,
            acceleration_mm_s2=acceleration_mm_s2,
            name=f"{dialect} board on {device}",
        )

    def _hello(self, deadline_s: float) -> None:
        question = "$I" if self._grbl else "M115"
        sign = "[VER:1." if self._grbl else "FIRMWARE_NAME:"
        while True:
            try:
                identity = self._report(question, lambda line: line if line.startswith(sign) else None)
                break
            except NoReply:
                if self._clock.now_s() >= deadline_s:
                    raise
                self._port.quiet(0.05, _BETWEEN_TRIES_S)
        if identity is None:
            raise MotorError(f"{self.name}: answers {question} with something else than {sign!r}")
        self._port.quiet(0.1, 1.0)
        self._greeting = False
        if self._grbl:
            self._read_grbl_settings()
        else:
            self._check_factor(self._report("M92", _marlin_steps_per_mm), "M92")

    def _read_grbl_settings(self) -> None:
        settings: dict[int, Fraction] = {}

        def setting(line: str) -> None:
            settings.update([found] if (found := parse_grbl_setting(line)) else [])

        self._report("$$", setting)
        if settings.get(13):
            raise MotorError(f"{self.name}: reports inches ($13=1); set $13=0")
        if not int(settings.get(10, Fraction(1))) & 1:
            raise MotorError(f"{self.name}: reports no machine position ($10={settings[10]}); set $10=1")
        self._check_factor(settings.get(102), "$102")
        self._feed_mm_min = min(self._feed_mm_min, float(settings.get(112) or self._feed_mm_min))
        self._acceleration_mm_s2 = float(settings.get(122) or self._acceleration_mm_s2)

    def _check_factor(self, reported: Fraction | None, source: str) -> None:
        """MotorError where the board says a factor, and it is another than ours (to its few decimals)."""
        if reported is not None and abs(reported - self._steps_per_mm) > Fraction(1, 100):
            raise MotorError(
                f"{self.name}: the board has {float(reported):g} steps/mm ({source}) and "
                f"{float(self._steps_per_mm):g} are configured"
            )

    def _state(self) -> BoardState:
        if self._grbl:
            name, z_mm = self._port.ask("?", parse_grbl_status, timeout_s=REPLY_S, end=False)
            return BoardState(name not in _GRBL_STANDING, round(z_mm * self._steps_per_mm))
        count = self._report("M114", self._marlin_place)
        if count is None:
            # "ok" alone: the report was lost on the way.
            raise NoReply(f"{self.name}: no position in the answer to M114")
        if count == self._target_steps or self._clock.now_s() > self._over_s + _STILL_S:
            self._target_steps = None
        return BoardState(self._target_steps is not None, count)

    def _marlin_place(self, line: str) -> int | None:
        if _MARLIN_PLACE_OTHER.fullmatch(line):
            raise MotorError(f"{self.name}: tells no step count ({line}): no Marlin; perhaps Klipper?")
        return parse_marlin_count(line)

    def _planned_s(self, steps: int) -> float:
        distance_mm = float(abs(steps) / self._steps_per_mm)
        return trapezoid_s(distance_mm, self._feed_mm_min / 60.0, self._acceleration_mm_s2)

    def _send_move(self, start: int, steps: int, planned_s: float) -> None:
        if abs(start + steps) > MOST_STEPS:
            raise MotorError(f"{self.name}: {steps} steps from {start} are more than the board can count")
        target_mm = (start + steps) / self._steps_per_mm
        if self._grbl:
            self._acknowledged(f"$J=G90 G53 G21 Z{decimal(target_mm)} F{self._feed_mm_min:.3f}")
            return
        # What was sent so far, as written: the next distance makes up for the rounding of the last.
        sent_mm = start / self._steps_per_mm if self._sent_mm is None else self._sent_mm
        distance = decimal(target_mm - sent_mm)
        self._acknowledged("G91")
        self._target_steps = start + steps
        self._over_s = self._clock.now_s() + planned_s
        try:
            self._acknowledged(f"G1 Z{distance} F{self._feed_mm_min:.3f}")
        except NoReply:
            raise
        except MotorError:
            self._target_steps = None
            raise
        self._sent_mm = sent_mm + Fraction(distance)

    def _send_stop(self) -> None:
        if self._grbl:
            self._port.write(_JOG_CANCEL)
            return
        # Its ok comes once the motor stands, and the board then starts anew from its count.
        self._sent_mm = None
        self._acknowledged("M410", _STOP_S)
        self._target_steps = None

    def _send_release(self) -> None:
        if not self._grbl:
            self._acknowledged("M18 Z")

    def _unexpected(self, line: str) -> None:
        banner = _GRBL_BANNER.fullmatch(line) if self._grbl else line == "start"
        if banner and not self._greeting:
            raise BoardReset(f"{self.name}: the board has restarted ({line}): the position is uncertain")
        halted = line.startswith(
            "ALARM:" if self._grbl else ("Error:Printer halted", "Error:Printer stopped")
        )
        if halted and not self._greeting:
            raise LinkError(f"{self.name}: the board says {line}: the position is uncertain")

    def _acknowledged(self, text: str, timeout_s: float = REPLY_S) -> None:
        self._report(text, lambda line: None, timeout_s)

    def _report(self, text: str, item: Callable[[str], _T | None], timeout_s: float = REPLY_S) -> _T | None:
        """Ask, and read to the final ok: the last ``item`` before it. A refusal is a MotorError."""
        found: _T | None = None
        refusal = ""

        def until_ok(line: str) -> bool | None:
            nonlocal found, refusal
            if line == "ok" or (not self._grbl and line.startswith("ok ")):
                return True
            if self._grbl and re.fullmatch(r"error:\d{1,3}", line):
                refusal = line
                return True
            # A halted Marlin says Error and no ok; any other error is followed by its ok.
            if not self._grbl and re.match(r"Error:(?!Printer )|echo:Unknown command|!! ", line):
                refusal = line
            if (new := item(line)) is not None:
                found = new
            return None

        try:
            self._port.ask(text, until_ok, timeout_s=timeout_s)
        except NoReply:
            if not refusal:
                raise
        if refusal:
            hint = _GRBL_HINTS.get(refusal, "")
            raise MotorError(f"{self.name}: the board refuses {text!r}: {refusal}{hint}")
        return found


def _marlin_steps_per_mm(line: str) -> Fraction | None:
    match = _MARLIN_STEPS.fullmatch(line)
    return Fraction(match[1]) if match else None


def trapezoid_s(distance_mm: float, speed_mm_s: float, acceleration_mm_s2: float) -> float:
    """Seconds from rest to rest: d / v + v / a, or those of a triangle, 2 sqrt(d / a), too short for v."""
    if distance_mm * acceleration_mm_s2 < speed_mm_s**2:
        return 2.0 * math.sqrt(distance_mm / acceleration_mm_s2)
    return distance_mm / speed_mm_s + speed_mm_s / acceleration_mm_s2


def decimal(mm: Fraction) -> str:
    """``mm`` with six decimals: a nanometre, well below a step."""
    micro = round(mm * 1_000_000)
    sign = "-" if micro < 0 else ""
    return f"{sign}{abs(micro) // 1_000_000}.{abs(micro) % 1_000_000:06d}"

"""The Sangaboard of the OpenFlexure microscope: lines of ASCII at 115200 bit/s, firmware 1.0 and later.

    mr X Y Z         steps, relative              done.            (at once, with blocking_moves false)
    p?               position                     X Y Z
    moving?                                       true | false
    stop             dead, without a ramp         Move aborted
    release          all coils off                done
    dt?              us between two steps         minimum step delay N
    ramp_time?       us                           ramp_time N
    blocking_moves?                               blocking_moves true | false
    version          also sent when it starts     Sangaboard Firmware v1.0.1

``mrz N`` is not used: the firmware reads its N with ``atoi``, 16 bits on an AVR, and so turns 40000 steps up
into 25536 down. ``mr`` reads 32 bits. The firmware checks nothing, and a second move overwrites the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from firmware_iface.board_axis import REPLY_S, BoardAxis, BoardState
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.line_port import BoardReset, NoReply, SerialLike, open_serial

BAUD = 115200
MOST_STEPS = 2**31 - 1
"""The firmware counts in 32 bits."""
_VERSION = re.compile(r"Sangaboard Firmware v(\d+)\.(\d+)\S*")
_POSITION = re.compile(r"-?\d{1,10} -?\d{1,10} (-?\d{1,10})")
_REFUSALS = ("Type 'help'", "Invalid command", "Command not recognised", "Error")
_BETWEEN_TRIES_S = 0.5
_T = TypeVar("_T")


def parse_position(line: str) -> int | None:
    """The z count of a reply to ``p?``; None when it is none, or no 32-bit number."""
    match = _POSITION.fullmatch(line)
    z = int(match[1]) if match else None
    return z if z is not None and abs(z) <= MOST_STEPS else None


def parse_number(line: str, key: str) -> int | None:
    """N of ``key N`` (0 to 2^31 - 1); None when it is none."""
    match = re.fullmatch(re.escape(key) + r":? (\d{1,10})", line)
    number = int(match[1]) if match else None
    return number if number is not None and number <= MOST_STEPS else None


def parse_bool(line: str, key: str = "") -> bool | None:
    """True or False of ``key true`` or ``key false``; None when it is neither."""
    return {f"{key} true".strip(): True, f"{key} false".strip(): False}.get(line)


class SangaboardAxis(BoardAxis):
    """The z motor of a Sangaboard. See ``BoardAxis``; ``open`` takes a device's name.

    Stops dead, at any speed. ``release`` switches all three motors off. ``blocking_moves`` is switched off
    on the board, which keeps it. Firmware that cannot be stopped in mid-move is refused with MotorError.
    """

    def __init__(self, serial: SerialLike, clock: Clock, *, name: str = "sangaboard") -> None:
        self._step_delay_us = 0
        self._ramp_time_us = 0
        self._greeting = True
        super().__init__(serial, clock, name=name)

    @classmethod
    def open(cls, device: str, clock: Clock) -> SangaboardAxis:
        """The board on ``device``, for example /dev/ttyACM0. Raises MotorError; moves nothing."""
        return cls(open_serial(device, BAUD), clock, name=f"sangaboard on {device}")

    def _hello(self, deadline_s: float) -> None:
        while True:
            try:
                version = self._port.ask("version", _VERSION.fullmatch, timeout_s=_BETWEEN_TRIES_S)
                break
            except NoReply:
                if self._clock.now_s() >= deadline_s:
                    raise
        if int(version[1]) < 1:
            raise MotorError(f"{self.name}: {version[0]} cannot stop in mid-move; version 1.0 is needed")
        # A board that was starting says its version twice: as a banner, and when asked.
        self._port.quiet(0.1, 1.0)
        self._greeting = False
        self._step_delay_us = self._ask("dt?", lambda line: parse_number(line, "minimum step delay"))
        self._ramp_time_us = self._ask("ramp_time?", lambda line: parse_number(line, "ramp_time"))
        if self._ask("blocking_moves?", lambda line: parse_bool(line, "blocking_moves")):
            self._ask("blocking_moves false", _acknowledged)

    def _state(self) -> BoardState:
        # In this order: a motion that ends in between is seen as moving still, at its end.
        moving = self._ask("moving?", parse_bool)
        return BoardState(moving, self._ask("p?", parse_position))

    def _planned_s(self, steps: int) -> float:
        # The firmware's own timetable: one delay for each step, and the ramp time on top.
        return (abs(steps) * self._step_delay_us + self._ramp_time_us) * 1e-6

    def _send_move(self, start: int, steps: int, planned_s: float) -> None:
        if abs(start + steps) > MOST_STEPS or abs(steps) > MOST_STEPS:
            raise MotorError(f"{self.name}: {steps} steps from {start} are more than the board can count")
        self._ask(f"mr 0 0 {steps}", _acknowledged)

    def _send_stop(self) -> None:
        self._ask("stop", lambda line: True if line == "Move aborted" else None)

    def _send_release(self) -> None:
        self._ask("release", _acknowledged)

    def _unexpected(self, line: str) -> None:
        if _VERSION.fullmatch(line) and not self._greeting:
            raise BoardReset(f"{self.name}: the board has restarted ({line}): the position is uncertain")

    def _ask(self, text: str, answer: Callable[[str], _T | None]) -> _T:
        """The reply to ``text``; a refusal is a MotorError with the board's words."""

        def answer_or_refusal(line: str) -> _T | None:
            if line.startswith(_REFUSALS):
                raise MotorError(f"{self.name}: the board refuses {text!r}: {line}")
            return answer(line)

        return self._port.ask(text, answer_or_refusal, timeout_s=REPLY_S)


def _acknowledged(line: str) -> bool | None:
    return True if line in ("done.", "done") else None

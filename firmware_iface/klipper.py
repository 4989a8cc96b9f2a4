"""Klipper's virtual port as one focus axis: its ``stepper_z``, in whole steps, over /tmp/printer.

    motion     ``G91``, ``G1 Z.. F..``, then ``M400``     its end is the answer to what follows the M400
    position   ``GET_POSITION``                           // mcu: stepper_x:0 stepper_y:0 stepper_z:500
    release    ``M18`` (all motors)                       ok; the next move is refused: not homed
    unhomed    ``SET_KINEMATIC_POSITION SET_HOMED=Z``     only with [force_move] enable_force_move: True
    refusal                                               !! Must home axis first: .. and then ok
    health     ``STATUS``                                 // Klipper state: Ready | Shutdown | Disconnect

There is no stop in mid-move: M112 shuts the whole machine down, and is never sent. So a motion goes in short
pieces, each sent once the one before it stands; a stop sends no more of them. Klipper plans a quarter of a
second ahead and looks every tenth whether it has come to rest: each piece costs that on top of its motion::

    G1, M400 |--- 0.25 s ahead ---|--- up to 0.25 s of motion ---|- 0..0.1 s -| over: the next piece, or rest

Positions are known between pieces, and counted by them. What ``M114`` says is where Klipper is going, in mm,
and no count.

All clients share one stream of answers: a web interface's errors arrive here too, and an ``ok`` has no
number. So every question stands between two marks, ``ECHO PARFOCAL=n``, which come back in order: what lies
between them is its answer.
"""

from __future__ import annotations

import math
import re
from collections import deque
from fractions import Fraction

from firmware_iface.board_axis import REPLY_S, BoardAxis, BoardState
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.gcode import MOST_STEPS, decimal, trapezoid_s
from firmware_iface.line_port import BoardReset, LinkError, NoReply, SerialLike, open_serial

PORT = "/tmp/printer"
"""Where Klipper puts its virtual port unless told otherwise (``klippy.py -I``)."""
PIECE_S = 0.25
"""A piece lasts no longer than this at full speed (s): as long as what each one costs anyway."""
_AHEAD_S = 0.25
"""Klipper's BUFFER_TIME_START: from the command to the first step, at rest."""
_TICK_S = 0.1
"""How often ``M400`` looks whether the motion is over."""
_BUSY_S = 2.0
"""How long a command may wait (s) for those of other clients, a macro for example."""
_LATE_S = 1.0
_BETWEEN_TRIES_S = 0.5
_MOST_LINES = 64
_BAUD = 250000  # a pseudo-terminal has none, but pyserial wants one

_COUNT = re.compile(r"// mcu: (?:\S+ )*?stepper_z:(-?\d{1,10})(?: .*)?")
_STOPPED = re.compile(r"// Klipper state: (Shutdown|Disconnect)")
_HERE_IT_IS = "SET_KINEMATIC_POSITION SET_HOMED=Z"
_NOT_HOMED = "!! Must home axis first"
_ADVICE = {
    _NOT_HOMED: "home it, or have it move as it stands: [force_move] enable_force_move: True in printer.cfg",
    "!! Move out of range": "set position_min and position_max of [stepper_z] in printer.cfg",
}


def parse_count(line: str) -> int | None:
    """stepper_z's count in an answer to GET_POSITION; None when it has none, or no 32-bit number."""
    match = _COUNT.fullmatch(line)
    count = int(match[1]) if match else None
    return count if count is not None and abs(count) <= MOST_STEPS else None


class KlipperAxis(BoardAxis):
    """Klipper's ``stepper_z``. See ``BoardAxis``; ``open`` takes the virtual port's name.

    ``steps_per_mm`` (steps/mm, > 0; exact: an int, a Fraction or a decimal string) must follow from
    printer.cfg: full_steps_per_rotation x microsteps x gear_ratio / rotation_distance. Klipper does not tell
    it: the first piece of a motion shows whether it is right, and ends a motion with LinkError where it is
    not. ``feed_mm_min`` (mm/min, > 0) is the speed; ``acceleration_mm_s2`` (mm/s^2, > 0) Klipper's own
    max_z_accel. Out of range: ValueError.

    ``stop`` acts at the end of the piece under way, within about 0.6 s. A machine that is not homed moves
    only where printer.cfg allows it ([force_move]). A release switches all its motors off.
    """

    def __init__(
        self,
        serial: SerialLike,
        clock: Clock,
        *,
        steps_per_mm: int | Fraction | str,
        feed_mm_min: float,
        acceleration_mm_s2: float = 100.0,
        name: str = "klipper",
    ) -> None:
        self._steps_per_mm = Fraction(steps_per_mm)
        for key, value in (
            ("steps_per_mm", float(self._steps_per_mm)),
            ("feed_mm_min", feed_mm_min),
            ("acceleration_mm_s2", acceleration_mm_s2),
        ):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{key} = {value!r}: need a finite number above 0")
        self._speed_mm_s = feed_mm_min / 60.0
        self._acceleration_mm_s2 = float(acceleration_mm_s2)
        self._piece_steps = max(1, int(self._speed_mm_s * PIECE_S * self._steps_per_mm))
        self._greeting = True
        # Marks never repeat, not even in the next session: an answer that comes late is nobody's.
        self._mark = int(1000.0 * clock.now_s())
        self._count = 0
        # Where the motion goes, or None once no further piece is to be sent.
        self._target: int | None = None
        self._why_ended: str | None = None
        # Of the piece under way: the mark that ends it, the latest time for that, and where it ends.
        self._awaited: str | None = None
        self._due_s = 0.0
        self._expected: int | None = None
        # Exact and as written, since the first piece: each distance makes up for the last one's rounding.
        self._origin: int | None = None
        self._sent_mm = Fraction(0)
        super().__init__(serial, clock, name=name)

    @classmethod
    def open(
        cls,
        device: str,
        clock: Clock,
        *,
        steps_per_mm: int | Fraction | str,
        feed_mm_min: float,
        acceleration_mm_s2: float = 100.0,
    ) -> KlipperAxis:
        """Klipper on its virtual port ``device``, most often /tmp/printer. MotorError; moves nothing."""
        return cls(
            open_serial(device, _BAUD),
            clock,
            steps_per_mm=steps_per_mm,
            feed_mm_min=feed_mm_min,
            acceleration_mm_s2=acceleration_mm_s2,
            name=f"klipper on {device}",
        )

    @property
    def why_ended(self) -> str | None:
        """ "board's refusal (..)" where it refused a piece after the first; the count is true. Else None."""
        return self._why_ended

    def _hello(self, deadline_s: float) -> None:
        while True:
            try:
                refusal = self._refusal("STATUS", timeout_s=_BETWEEN_TRIES_S)
            except NoReply:
                if self._clock.now_s() >= deadline_s:
                    raise
                continue
            if refusal is None:
                break
            if self._clock.now_s() >= deadline_s:
                raise MotorError(f"{self.name}: not ready: {refusal}; see klippy.log")
            self._clock.sleep_s(_BETWEEN_TRIES_S)
        self._greeting = False

    def _state(self) -> BoardState:
        if self._awaited is not None:
            awaited = self._awaited
            if self._port.poll(lambda line: line.endswith(awaited) or None) is None:
                self._check_time()
                return BoardState(True, self._count)
            self._awaited = None
        self._count = self._ask_count()
        if self._target is None or self._count == self._target:
            self._target = None
            return BoardState(False, self._count)
        try:
            self._send_piece(self._target)
        except LinkError:
            raise
        except MotorError as error:
            # Some pieces are done, this one is not begun: it stands, and where is known.
            self._target, self._why_ended = None, f"board's refusal ({error})"
            return BoardState(False, self._count)
        return BoardState(True, self._count)

    def _planned_s(self, steps: int) -> float:
        whole, rest = divmod(abs(steps), self._piece_steps)
        return whole * self._piece_planned_s(self._piece_steps) + (self._piece_planned_s(rest) if rest else 0)

    def _piece_planned_s(self, steps: int) -> float:
        distance_mm = float(steps / self._steps_per_mm)
        moving_s = trapezoid_s(distance_mm, self._speed_mm_s, self._acceleration_mm_s2)
        return math.ceil((_AHEAD_S + moving_s) / _TICK_S) * _TICK_S

    def _send_move(self, start: int, steps: int, planned_s: float) -> None:
        if abs(start + steps) > MOST_STEPS:
            raise MotorError(f"{self.name}: {steps} steps from {start} are more than the board can count")
        self._count, self._target, self._why_ended = start, start + steps, None
        try:
            self._send_piece(start + steps)
        except MotorError:
            self._target = None
            raise

    def _send_stop(self) -> None:
        self._target = None

    def _send_release(self) -> None:
        refusal = self._refusal("M18")
        if refusal:
            raise self._refused("M18", refusal)

    def _unexpected(self, line: str) -> None:
        stopped = _STOPPED.fullmatch(line)
        if stopped and not self._greeting:
            what = "has restarted" if stopped[1] == "Disconnect" else "has shut down"
            raise BoardReset(f"{self.name}: the board {what} ({line}): the position is uncertain")

    # Pieces ------------------------------------------------------------------------------------------

    def _send_piece(self, target: int) -> None:
        """The next piece of the way from ``_count`` to ``target``; MOVES. It is over when its mark comes."""
        steps = max(-self._piece_steps, min(self._piece_steps, target - self._count))
        expected = self._count + steps
        if self._origin is None:
            self._origin = self._count
        distance = decimal((expected - self._origin) / self._steps_per_mm - self._sent_mm)
        try:
            self._go("G91", f"G1 Z{distance} F{60.0 * self._speed_mm_s:.3f}")
        except NoReply as error:
            # Not a NoReply: the piece may still be done, and must not be sent twice.
            raise LinkError(f"{error}: whether it moves is not known, the position is uncertain") from error
        self._sent_mm += Fraction(distance)
        self._expected = expected
        self._awaited = self._next_mark()
        self._due_s = self._clock.now_s() + 1.5 * self._piece_planned_s(abs(steps)) + _LATE_S
        self._port.write(f"M400\n{self._awaited}\n".encode())

    def _go(self, *move: str) -> None:
        """Send ``move``; where Klipper does not know its place and allows that, tell it first."""
        refusal = self._refusal(*move)
        if refusal and refusal.startswith(_NOT_HOMED) and not self._refusal(_HERE_IT_IS):
            refusal = self._refusal(*move)
        if refusal:
            raise self._refused(move[-1], refusal)

    def _check_time(self) -> None:
        if self._clock.now_s() > self._due_s:
            raise LinkError(
                f"{self.name}: no answer to M400, long overdue: the position is uncertain (is max_z_velocity"
                f" in printer.cfg less than {self._speed_mm_s:g} mm/s?)"
            )

    # Questions ---------------------------------------------------------------------------------------

    def _next_mark(self) -> str:
        self._mark += 1
        return f"ECHO PARFOCAL={self._mark}"

    def _say(self, *commands: str, timeout_s: float = _BUSY_S) -> list[str]:
        """Send ``commands`` at once, and return the lines that answer them."""
        begin, end = self._next_mark(), self._next_mark()
        heard: deque[str] = deque(maxlen=_MOST_LINES)

        def until_end(line: str) -> bool | None:
            if line.endswith(end):
                return True
            if line.endswith(begin):
                heard.clear()
            elif line.startswith("echo:Unknown command"):
                raise MotorError(f"{self.name}: no Klipper: it answers {line}")
            heard.append(line)
            return None

        try:
            self._port.ask("\n".join((begin, *commands, end)), until_end, timeout_s=timeout_s)
        except NoReply as error:
            raise NoReply(f"{self.name}: no answer to {commands[-1]!r} within {timeout_s:g} s") from error
        return list(heard)

    def _refusal(self, *commands: str, timeout_s: float = _BUSY_S) -> str | None:
        """What Klipper says against ``commands``; None when it obeys."""
        for line in self._say(*commands, timeout_s=timeout_s):
            if line.startswith(("!! ", '// Unknown command:"')):
                return line
        return None

    def _refused(self, command: str, refusal: str) -> MotorError:
        advice = next((text for start, text in _ADVICE.items() if refusal.startswith(start)), "")
        return MotorError(f"{self.name}: the board refuses {command!r}: {refusal}{advice and '; '}{advice}")

    def _ask_count(self) -> int:
        lines = self._say("GET_POSITION", timeout_s=REPLY_S)
        for line in lines:
            count = parse_count(line)
            if count is not None:
                self._check_factor(count)
                return count
        if any(line.startswith("// mcu: ") and "stepper_z:" not in line for line in lines):
            raise MotorError(f"{self.name}: it has no stepper_z; name the focus motor so in printer.cfg")
        raise NoReply(f"{self.name}: no position in the answer to GET_POSITION")

    def _check_factor(self, count: int) -> None:
        """LinkError where the piece just done came to another count than it was sent for."""
        expected, self._expected = self._expected, None
        if expected is not None and count != expected:
            sent, made = expected - self._count, count - self._count
            raise LinkError(
                f"{self.name}: {sent} steps were sent for and the count went on by {made}: the position is"
                f" uncertain (does printer.cfg make {float(self._steps_per_mm):g} steps/mm?)"
            )

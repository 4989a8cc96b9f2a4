"""What all motor boards on a serial line have in common: a count that is the board's own, and doubt.

The board counts the steps; the axis believes it only as far as it makes sense. During a motion a position
must lie between the last one seen and the target. At rest it must be read twice the same. Before a motion
it must be where the last one ended. Where that fails, or the link does, or the board starts anew, the
position is said to be uncertain (``uncertain``), once as a MotorError and from then on by refusing to move.
"""

from __future__ import annotations

import operator
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from firmware_iface.axis import Axis
from firmware_iface.clock import Clock
from firmware_iface.errors import MotorError
from firmware_iface.line_port import LinePort, LinkError, NoReply, SerialLike

REPLY_S = 0.5
"""How long (s) a board may take for an answer that needs no motion."""
_TRIES = 3
"""How often a question without consequences is asked before its board counts as lost."""
_BOOT_S = 6.0
"""How long (s) a board may take to start after its port was opened (an Arduino resets, and waits 2 s)."""
_GRACE_S = 2.0
"""A motion may last half as long again as planned, and this much (s)."""
_STANDSTILL_S = 2.0
"""How long (s) a stop may take, before the motor counts as lost."""
_TURN_S = 5.0
_LOOK_AGAIN_S = 0.1
_NOT_OURS = "it moves, set in motion by others: the position is uncertain"


@dataclass(frozen=True)
class BoardState:
    """What the board says of itself: whether it moves, and its count of steps."""

    moving: bool
    position_steps: int


@dataclass
class _Motion:
    start_steps: int
    target_steps: int
    deadline_s: float

    def allows(self, position_steps: int, seen_steps: int) -> bool:
        """Whether the motor can be there, having been at ``seen_steps`` on its way."""
        low, high = sorted((seen_steps, self.target_steps))
        return low <= position_steps <= high


class BoardAxis(Axis):
    """A motor on a serial board. ``serial`` is an open port, which the axis owns and closes.

    The constructor talks to the board, for up to 6 s while it starts, and moves nothing. ``stop`` may be
    called from a signal handler: where the line is busy, whoever uses it sends the stop right after.

    A descendant MUST provide the hooks below, none of which waits for a motion to end. They raise
    MotorError with the board's own words for a refusal, and LinkError where the position is in doubt.
    """

    def __init__(self, serial: SerialLike, clock: Clock, *, name: str, end: str = "\n") -> None:
        self.name = name
        self._clock = clock
        self._port = LinePort(serial, clock, name=name, unexpected=self._unexpected, end=end)
        self._turn = threading.Lock()
        self._stop_wanted = False
        self._motion: _Motion | None = None
        self._fault: MotorError | None = None
        self._fault_told = True
        self._enabled = False
        self._closed = False
        self._position_steps = 0
        try:
            self._greet(clock.now_s() + _BOOT_S)
            self._position_steps = self._at_rest()
            clock.sleep_s(_LOOK_AGAIN_S)
            if self._at_rest() != self._position_steps:
                raise LinkError(f"{self.name}: {_NOT_OURS}")
        except BaseException:
            self._closed = True
            self._port.close()
            raise

    @property
    def uncertain(self) -> str | None:
        """Why the position can no longer be trusted; None while it can. Only a new axis starts afresh."""
        return None if self._fault is None else str(self._fault)

    @property
    def position_steps(self) -> int:
        """The board's count; where ``uncertain``, the last one believed. In a motion, BLOCKS for a reply.

        Never raises: a fault found here is raised by the next ``moving`` or ``start_move``.
        """
        if self._motion is not None:
            with suppress(MotorError), self._line():
                self._look()
        return self._position_steps

    @property
    def moving(self) -> bool:
        """As in ``Axis``; BLOCKS for a reply. A fault found since is raised once, as MotorError."""
        if self._motion is not None:
            with self._line():
                self._look()
        self._tell_fault()
        return self._under_way()

    def start_move(self, steps: int) -> float:
        """As in ``Axis``; BLOCKS for the board's acknowledgement. A refusal is a MotorError in its words."""
        steps = operator.index(steps)
        with self._line():
            self._check_usable()
            if not self._enabled:
                raise MotorError(f"{self.name}: its coils are off; enable it first")
            self._look()
            if self._under_way():
                raise MotorError(f"{self.name}: still moving; wait for the motion to end or stop it")
            self._check_usable()
            if steps == 0:
                return 0.0
            planned_s = self._planned_s(steps)
            with self._faults():
                self._check_place()
                self._stop_wanted = False
                start, latest_s = self._position_steps, self._clock.now_s() + 1.5 * planned_s + _GRACE_S
                self._motion = _Motion(start, start + steps, latest_s)
                try:
                    self._send_move(start, steps, planned_s)
                except NoReply as error:
                    self._look()
                    self._tell_fault()
                    if not self._under_way() and self._position_steps == start:
                        raise MotorError(f"{error}; nothing has moved") from error
                except LinkError:
                    raise
                except MotorError:
                    self._motion = None
                    raise
            return planned_s

    def stop(self) -> None:
        self._stop_wanted = True
        self._serve_stop()

    def enable(self) -> None:
        with self._line():
            self._check_usable()
            with self._faults():
                self._send_enable()
            self._enabled = True

    def release(self) -> None:
        """As in ``Axis``, but a moving motor is stopped as ``stop`` does and BLOCKS until it stands."""
        with self._line():
            if not self._closed:
                self._come_to_rest()
                self._enabled = False
                try:
                    self._send_release()
                except MotorError as error:
                    self._note(error)

    def close(self) -> None:
        if not self._closed:
            try:
                self.release()
            finally:
                self._closed = True
                self._port.close()

    # Hooks -------------------------------------------------------------------------------------------

    @abstractmethod
    def _hello(self, deadline_s: float) -> None:
        """Find out whether this is the right board, and its settings; until ``deadline_s``. Moves nothing."""

    @abstractmethod
    def _state(self) -> BoardState:
        """Ask the board where it is. NoReply when there is no answer."""

    @abstractmethod
    def _planned_s(self, steps: int) -> float:
        """Seconds that a motion of ``steps`` takes, from its distance and speed."""

    @abstractmethod
    def _send_move(self, start: int, steps: int, planned_s: float) -> None:
        """Start a motion from ``start``; MOVES."""

    @abstractmethod
    def _send_stop(self) -> None:
        """Make the motor stop where it can."""

    def _send_enable(self) -> None:
        """Energise the coils; by default left to the board, which does it with the first step."""

    def _send_release(self) -> None:
        """Switch the coils off; by default nothing, for boards that cannot."""

    @abstractmethod
    def _unexpected(self, line: str) -> None:
        """A line that answers nothing: raise BoardReset or LinkError where it means that."""

    # The rest ----------------------------------------------------------------------------------------

    def _greet(self, deadline_s: float) -> None:
        try:
            self._hello(deadline_s)
        except NoReply as error:
            raise MotorError(
                f"{error}, asked for {_BOOT_S:g} s: is this the board's port, is it on?"
            ) from error

    @contextmanager
    def _line(self) -> Iterator[None]:
        """Have the line to oneself; afterwards send the stop that somebody asked for meanwhile."""
        if not self._turn.acquire(timeout=_TURN_S):
            raise MotorError(f"{self.name}: another thread has used the line for {_TURN_S:g} s")
        try:
            yield
        finally:
            self._turn.release()
            self._serve_stop()

    def _serve_stop(self) -> None:
        # Whoever finds the line busy leaves the wish; whoever gives the line back looks for one.
        while self._stop_wanted and self._turn.acquire(blocking=False):
            try:
                self._stop_wanted = False
                if self._motion is not None:
                    try:
                        self._send_stop()
                    except MotorError as error:
                        self._note(error)
            finally:
                self._turn.release()

    def _look(self) -> None:
        """Bring position and motion up to date. Notes a fault instead of raising it."""
        motion = self._motion
        if motion is None or self._fault is not None:
            return
        try:
            for _ in range(_TRIES):
                state = self._state_again()
                position = state.position_steps if state.moving else self._at_rest()
                if motion.allows(position, self._position_steps):
                    break
            else:
                raise LinkError(
                    f"{self.name}: the board says {position} steps on its way from {motion.start_steps} "
                    f"to {motion.target_steps}: the position is uncertain"
                )
            self._position_steps = position
            if not state.moving:
                self._motion = None
            elif self._clock.now_s() > motion.deadline_s:
                raise LinkError(f"{self.name}: still moving, long overdue: the position is uncertain")
        except MotorError as error:
            self._lose(error)

    def _come_to_rest(self) -> None:
        """Stop a motion under way and wait for standstill. Notes faults."""
        deadline_s = self._clock.now_s() + _STANDSTILL_S
        try:
            if self._motion is not None:
                self._send_stop()
            self._look()
            while self._motion is not None:
                if self._clock.now_s() > deadline_s:
                    raise LinkError(f"{self.name}: does not stop: the position is uncertain")
                self._clock.sleep_s(0.002)
                self._look()
        except MotorError as error:
            self._lose(error)

    def _state_again(self) -> BoardState:
        """``_state``, asked up to three times: the question has no consequences."""
        for _ in range(_TRIES - 1):
            try:
                return self._state()
            except NoReply:
                self._port.quiet(0.05, REPLY_S)
        return self._state()

    def _at_rest(self) -> int:
        """The count of a standing motor: the same one twice in a row, or LinkError."""
        last: BoardState | None = None
        for _ in range(2 * _TRIES):
            state = self._state_again()
            if state == last and not state.moving:
                return state.position_steps
            last = state
        twice = "the board does not say the same position twice: it is uncertain"
        raise LinkError(f"{self.name}: {_NOT_OURS if last is not None and last.moving else twice}")

    def _check_place(self) -> None:
        """LinkError unless the board stands where it was left."""
        for _ in range(2):
            place = self._at_rest()
            if place == self._position_steps:
                return
        raise LinkError(
            f"{self.name}: the board says {place} steps and was left at {self._position_steps}: "
            "it was reset or moved by others; the position is uncertain"
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Note a LinkError on its way to the caller."""
        try:
            yield
        except LinkError as error:
            self._lose(error)
            self._fault_told = True
            raise

    def _lose(self, error: MotorError) -> None:
        """Note ``error``; a motor that may be running yet is told to stop, where the board still listens."""
        if self._motion is not None:
            with suppress(MotorError):
                self._send_stop()
        self._note(error)

    def _note(self, error: MotorError) -> None:
        """From here on the position is uncertain, and nothing is known to move."""
        if self._fault is None:
            self._fault = error
            self._fault_told = False
        self._motion = None

    def _under_way(self) -> bool:
        return self._motion is not None

    def _tell_fault(self) -> None:
        if self._fault is not None and not self._fault_told:
            self._fault_told = True
            raise self._fault

    def _check_usable(self) -> None:
        if self._closed:
            raise MotorError(f"{self.name}: closed")
        if self._fault is not None:
            self._fault_told = True
            raise MotorError(f"no move until it is opened anew, its position is uncertain: {self._fault}")

"""One motor, in whole steps: what every back end must do, from a simulation to a serial board."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

_A = TypeVar("_A", bound="Axis")


class Axis(ABC):
    """A motor that counts integer steps. Limits, micrometres and backlash belong to ``Stage``.

    An axis has three states: released (coils off, as constructed), enabled (holding, able to move) and
    closed (for good). ``with axis:`` enables it and, whatever happens, releases and closes it.

    A descendant MUST

    * move nothing and energise nothing in its constructor;
    * count in ``position_steps`` every step it commands, and no other, also when stopped in mid-move;
    * let ``stop``, ``release`` and ``close`` be called at any time, any number of times, and from another
      thread than the one that moves.

    It MAY take time to be constructed or closed (a serial port, a GPIO chip), and nowhere else.
    """

    @property
    @abstractmethod
    def position_steps(self) -> int:
        """Steps commanded so far, up minus down; 0 at construction unless the board remembers better.

        During a motion: the steps made up to now. Does not block.
        """

    @property
    @abstractmethod
    def moving(self) -> bool:
        """Whether a motion is under way. Once False after a motion, all its steps have been commanded."""

    @property
    def why_ended(self) -> str | None:
        """What ended the last motion before its time, in words; None: nothing did, or nobody knows.

        "upper limit switch", "lower limit switch" or "stop button": the count is true. "error: ...": it may
        not be.
        """
        return None

    @property
    def uncertain(self) -> str | None:
        """Why ``position_steps`` can no longer be trusted; None while it can, as it always can by default."""
        return None

    def switch(self, direction: int) -> str | None:
        """Name, as in ``why_ended``, of the limit switch that ends motion in ``direction`` (+1 or -1).

        None: there is none at that end, as by default.
        """
        return None

    def pressed(self, direction: int) -> str | None:
        """Name of the pressed switch or button that bars motion in ``direction`` now. Moves nothing.

        None: there is none, as by default. MotorError where it cannot be read.
        """
        return None

    @abstractmethod
    def start_move(self, steps: int) -> float:
        """Start a motion by ``steps`` (signed, relative) and return at once; MOVES.

        Returns the planned duration in s; 0 steps are a motion that is over already. Raises MotorError,
        with nothing moved, when a motion is under way, or the axis is released or closed; SwitchPressed
        when a switch bars that direction. TypeError when ``steps`` is no integer. There are no limits here:
        ``Stage`` has checked them.
        """

    @abstractmethod
    def stop(self) -> None:
        """Bring the motor to rest as fast as its acceleration allows. Does not block, never raises.

        ``moving`` stays True until the last step. Without a motion under way it does nothing.
        """

    @abstractmethod
    def enable(self) -> None:
        """Energise the coils, so that the motor holds and may move. Moves nothing. Closed: MotorError."""

    @abstractmethod
    def release(self) -> None:
        """Switch the coils off. A motion under way ends at once, without a ramp; its count stays true."""

    @abstractmethod
    def close(self) -> None:
        """Release, and give back what the axis holds. Final; a second call does nothing."""

    def __enter__(self: _A) -> _A:
        try:
            self.enable()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        finally:
            self.close()

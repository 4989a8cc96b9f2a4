"""Everything that can go wrong between a wish to move and the motion itself."""

from __future__ import annotations


class MotionError(Exception):
    """Base of every error of this package. Catch it to catch them all."""


class LimitError(MotionError, ValueError):
    """A target, or a leg on the way to it, lies outside the allowed range. Nothing has moved.

    ``axis`` is the axis' name, ``asked`` the position asked for and ``allowed`` the range (low, high),
    both in ``unit``; ``detail`` says in a few words why a position inside the range was refused.
    """

    def __init__(
        self, axis: str, asked: float, allowed: tuple[float, float], unit: str, detail: str = ""
    ) -> None:
        self.axis = axis
        self.asked = asked
        self.allowed = allowed
        self.unit = unit
        self.detail = detail
        why = f" ({detail})" if detail else ""
        super().__init__(
            f"{axis}: asked for {asked:g} {unit}{why}; allowed is {allowed[0]:g} to {allowed[1]:g} {unit}"
        )

    def __reduce__(self) -> tuple[type[LimitError], tuple[object, ...]]:
        """Let the error cross a process boundary: the message alone cannot rebuild it."""
        return type(self), (self.axis, self.asked, self.allowed, self.unit, self.detail)


class MotorError(MotionError, OSError):
    """The motor or its driver cannot do what was asked: busy, switched off, closed, or not answering."""


class SwitchPressed(MotorError):
    """A limit switch or the stop button bars the motion asked for. Nothing has moved."""


class MoveCancelled(MotionError):
    """A motion was stopped on request before its end. The motor stands and its position is known."""

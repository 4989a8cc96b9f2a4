"""What holding the focus and its caller say to each other: states, events in, requests out, what is allowed.

All positions and lengths are in depths of field along the stage. `edge.hold` draws the states; the events
and requests that it has in common with a focus run are in `edge.dialogue`.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from edge.dialogue import Arrived, Begin, Cancelled, Look, Move, Seen


class Holding(enum.Enum):
    """Where holding stands; see the drawing above."""

    READY = "ready"
    REFERRING = "taking the reference"
    HOLDING = "holding"
    WAITING = "waiting"
    MOVING = "moving"
    PROVING = "proving a move"
    RETURNING = "going back"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Unusable:
    """A frame at ``position`` that says nothing of the focus, and why, for a person to read."""

    position: float
    reason: str


@dataclass(frozen=True)
class Wait:
    """Leave everything as it is for this ``share`` (0 to 1) of an interval; then capture a frame, infer, and
    answer with `Seen`.
    """

    share: float = 1.0


@dataclass(frozen=True)
class Stopped:
    """Holding is over, where the stage stands; ``reason`` says why and what to do."""

    reason: str


Event = Begin | Seen | Unusable | Arrived | Cancelled
Request = Look | Wait | Move | Stopped


@dataclass(frozen=True)
class HoldSettings:
    """What holding may do, in depths of field.

    ``low``, ``high``: where the stage may be sent. ``drift``: how far the focus wanders in one interval (one
    standard deviation), above 0. ``dead_band``: a drift up to this is left alone, above 0. ``confidence``:
    how sure of more than that a move must be, 0.5 to 1. ``least_move``: the stage makes no smaller one, 0 or
    more. ValueError outside these ranges.
    """

    low: float
    high: float
    drift: float = 0.1
    dead_band: float = 0.2
    confidence: float = 0.9
    least_move: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"limits {self.low} to {self.high}: a finite range that rises is needed")
        if not 0 <= self.least_move < math.inf:
            raise ValueError("a least move of 0 or more is allowed")
        if not (0 < self.drift < math.inf and 0 < self.dead_band < math.inf and 0.5 <= self.confidence < 1):
            raise ValueError("drift and dead band above 0 and a confidence from 0.5 to 1 are allowed")

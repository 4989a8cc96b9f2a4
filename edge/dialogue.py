"""What the focus loop and its caller say to each other: states, events in, requests out, and what is allowed.

All positions and lengths are in depths of field along the stage. `edge.autofocus` draws the states.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct  # made in a tenth of the time of a dataclass, and there are many

from edge.belief import KNOWN, Array, Gains

Outcome = Literal["focused", "no_specimen", "failed"]


class State(enum.Enum):
    """Where a run stands; see the drawing above."""

    READY = "ready"
    LOOKING = "looking"
    MOVING = "moving"
    STEPPING = "stepping"
    GLANCING = "glancing"
    APPROACHING = "approaching"
    CONFIRMING = "confirming"
    RETURNING = "returning"
    DONE = "done"


class Begin(Struct, frozen=True):
    """The run starts at ``position``."""

    position: float


class Seen(Struct, frozen=True):
    """A frame at ``position``; ``log_likelihood``: of all ``bin_centres`` (dof), None for a blank frame.
    ``contrast``: natural log of what can be seen in it, as a blank frame has, too; nan where not measured.
    """

    position: float
    sharpness: float
    log_likelihood: Array | None
    bin_centres: Array
    contrast: float = math.nan


class Glanced(Struct, frozen=True):
    """A frame at ``position`` of which only the ``sharpness`` was taken."""

    position: float
    sharpness: float


class Arrived(Struct, frozen=True):
    """The stage stands at ``position``."""

    position: float


class Cancelled(Struct, frozen=True):
    """Somebody stopped the run; the stage stands at ``position``, None: where it stood before."""

    reason: str = "stopped"
    position: float | None = None


Event = Begin | Seen | Glanced | Arrived | Cancelled


class Look(Struct, frozen=True):
    """Capture a frame, infer, and answer with `Seen`."""


class Glance(Struct, frozen=True):
    """Capture a frame, measure its sharpness, and answer with `Glanced`."""


class Move(Struct, frozen=True):
    """Move to ``to`` and answer with `Arrived`."""

    to: float


class Done(Struct, frozen=True):
    """The run is over, where the stage stands. ``confidence``: mass within tolerance there; ``defocus``: the
    belief's mean there, in dof; both None when no look was informative.
    """

    result: Outcome
    reason: str
    method: Literal["network", "sweep"]
    confidence: float | None
    defocus: float | None


Request = Look | Glance | Move | Done


@dataclass(frozen=True)
class Settings:
    """What a run may do. Positions and lengths in depths of field.

    ``low``, ``high``: where the stage may be sent, and where the focus can be. ``sweep_low``, ``sweep_high``:
    the part of that which a sweep searches. ``move_sigma``, ``move_sigma_share``: uncertainty of a motion,
    and what each dof travelled adds to it. ``assumed``: pitch or optics are guesses: believe in other gains,
    and bracket. ``absorbing``: contrast is highest in focus for sure. ``phase``: it is not. Neither: the loop
    notices. ``onward``: a move in this direction, +1 or -1, crosses no slack; 0: one in the direction of the
    move before; None: there is none to cross.
    """

    low: float
    high: float
    tolerance: float = 1.0
    confidence: float = 0.9
    max_looks: int = 5
    sweep: bool = True
    sweep_low: float = -math.inf
    sweep_high: float = math.inf
    sweep_step: float = 1.0
    assumed: bool = False
    absorbing: bool = False
    phase: bool = False
    gains: Gains = KNOWN
    onward: int | None = None
    move_sigma: float = 0.1
    move_sigma_share: float = 0.03

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"limits {self.low} to {self.high}: a finite range that rises is needed")
        if not max(self.low, self.sweep_low) <= min(self.high, self.sweep_high):
            raise ValueError(f"sweep from {self.sweep_low} to {self.sweep_high}: outside the limits")
        if not (
            self.tolerance > 0 and self.sweep_step > 0 and 0 < self.confidence < 1 and self.max_looks > 0
        ):
            raise ValueError(
                "tolerance, sweep step and looks above 0 and a confidence between 0 and 1 are allowed"
            )

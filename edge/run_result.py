"""What a run came to, and what happened in it frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Entry", "Result", "Trace"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One frame of a run: ``image`` made small, ``belief`` ``(defocus_dof, probability)`` after it."""

    time_s: float
    state: str
    position_um: float
    sharpness: float
    tiles: int | None
    within: float | None
    surprise: float | None
    true_defocus_um: float | None
    image: NDArray[np.uint8]
    belief: tuple[NDArray[np.float64], NDArray[np.float64]] | None


@dataclass
class Trace:
    """What happened in a run, frame by frame."""

    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a run came to; `as_dict` gives the keys of ``parfocal focus --json``."""

    result: str
    reason: str
    method: str
    captures: int
    moves: int
    travel_um: float
    seconds: float
    position_um: float
    defocus_estimate_dof: float | None
    confidence: float | None
    sharpness_start: float
    sharpness_end: float
    true_defocus_um: float | None = None
    true_defocus_dof: float | None = None
    true_defocus_start_um: float | None = None
    plane: int | None = None
    plane_file: str | None = None
    assumptions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the keys that this rig cannot know."""
        optional = ("true_defocus_um", "true_defocus_dof", "true_defocus_start_um", "plane", "plane_file")
        out = {k: v for k, v in vars(self).items() if not (k in optional and v is None)}
        return {**out, "assumptions": list(self.assumptions)}

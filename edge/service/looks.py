"""A frame of a run as the page is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge import trace
from edge.run_result import Entry

__all__ = ["look"]

#: Bars of a belief that the page is sent at the most, and how small, against the highest, none is sent.
_BELIEF_POINTS, _WORTH_SHOWING = 121, 1e-3


def look(entry: Entry) -> dict[str, Any]:
    """Plain values of ``entry``: where its belief is, in `_BELIEF_POINTS` bars at most."""
    belief = None
    if entry.belief is not None:
        defocus, probability = entry.belief
        worth = np.flatnonzero(probability > _WORTH_SHOWING * probability.max())
        shown_part = slice(worth[0], worth[-1] + 1)
        defocus, probability = defocus[shown_part], probability[shown_part]
        step = -(-len(defocus) // _BELIEF_POINTS)
        belief = {
            "defocus_dof": [float(defocus[k : k + step].mean()) for k in range(0, len(defocus), step)],
            "probability": [float(probability[k : k + step].sum()) for k in range(0, len(defocus), step)],
        }
    numbers = ("time_s", "position_um", "sharpness", "tiles", "within")
    shown = {name: getattr(entry, name) for name in numbers}
    found: dict[str, Any] = trace.plain({"state": entry.state, **shown, "belief": belief})
    return found

"""What log-probabilities over bins of defocus come to: one number, and how probable the truth was."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.belief import OUTLIER_SHARE

__all__ = ["TOLERANCE_DOF", "at_truth", "between", "estimate", "surprise"]

Array = NDArray[np.float64]

#: A prediction's confidence is the probability within this of it.
TOLERANCE_DOF = 1.0


def estimate(log_p: Array, centres: Array, tolerance: float = TOLERANCE_DOF) -> tuple[Array, Array]:
    """Defocus ``(N,)``, the mean about the best window, and the probability near it, both float64.

    ``centres`` and ``tolerance`` in one unit. The window is as wide as the tolerance, and reaches one bin to
    either side at least; so two distant peaks give one of them, never the middle.
    """
    p = np.exp(log_p)
    reach = max(tolerance, float(np.diff(centres).max())) * (1 + 1e-9)
    near = np.abs(centres[:, None] - centres[None, :]) <= reach
    best = (p @ near.T).argmax(axis=1)
    weight = np.where(near[best], p, 0)
    guess = (weight * centres).sum(axis=1) / weight.sum(axis=1)
    within = np.where(np.abs(centres[None] - guess[:, None]) <= reach, p, 0).sum(axis=1)
    return guess, np.minimum(within, 1.0)


def at_truth(p: Array, centres: Array, x: Array) -> Array:
    """``p`` ``(N, B)`` at one place ``x`` ``(N,)`` a row, between bins too."""
    low, share = between(centres, x)
    rows = np.arange(len(p))
    return np.asarray(p[rows, low] * (1 - share) + p[rows, low + 1] * share)


def between(centres: Array, x: Array) -> tuple[NDArray[np.intp], Array]:
    """The bin below each ``x``, and how far ``x`` is on the way to the next one."""
    low = np.clip(np.searchsorted(centres, x, side="right") - 1, 0, len(centres) - 2)
    return low, (x - centres[low]) / (centres[low + 1] - centres[low])


def surprise(log_p: Array, centres: Array, truth: Array) -> float:
    """Mean negative log-probability ``(N, B)`` at the truth ``(N,)``, between bins too, floored as in
    `edge.belief`.
    """
    value = at_truth(np.exp(log_p), centres, truth)
    floor = 2 * OUTLIER_SHARE
    return float(-np.log((1 - floor) * value + floor / len(centres)).mean())

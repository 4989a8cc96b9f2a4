"""How far the focus has drifted since a reference, from readings whose scale is only roughly known.

Theory of operation
-------------------
The unknown is ``x``, the defocus that has come about since a reference was taken, in depths of field of the
stage. A reading ``y`` is what the network says now less what it said at the reference. On one field that
is repeatable to a few hundredths of a depth of field, but its scale is not: near focus a field answers with
a third to three times the true change, and the odd one with the wrong sign. So::

    y = g · x + noise        x wanders between looks and follows each move exactly
                             g one of a few responses, told apart by moves alone

For each ``g`` this is a Kalman filter of one number; the filters share the readings and have weights. What
drift looks like is an assumption, so looks between moves must not teach the response (small changes would
always speak for the least of them). A move of known length does::

    reading before  ├──── y                  after a move by -d:   y - g · d
                                             0 was expected of g = y / d; the wrong way of g < 0

No clock, no chance, no input or output; float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Responses near the focus and about how often simulated fields had them.
RESPONSES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, -1.0)
WEIGHTS = (0.04, 0.1, 0.2, 0.32, 0.2, 0.1, 0.02, 0.02)
#: The response is not the same everywhere: by this share of a move its answer may differ.
CURVE_SHARE = 0.25
#: And by so many dof in any case: a short move teaches little.
LESSON_NOISE = 0.1
#: In an interval this share of what was learned is forgotten: the focus wanders to where it differs.
FORGOTTEN = 0.01


@dataclass(frozen=True)
class Estimate:
    """``defocus`` and ``sigma``: mean and standard deviation of ``x`` in dof. ``reading``, ``reading_sigma``:
    the same of the next reading, noise apart.
    """

    defocus: float
    sigma: float
    reading: float
    reading_sigma: float


class Drift:
    """Begins at 0 dof with certainty; `wait`, `move`, `see` change it in place, the others never do."""

    def __init__(self) -> None:
        self._responses = np.asarray(RESPONSES, np.float64)
        self._first = self._weights = np.asarray(WEIGHTS, np.float64) / sum(WEIGHTS)
        self._mean = np.zeros(len(RESPONSES))
        self._variance = np.zeros(len(RESPONSES))

    def wait(self, sigma: float) -> None:
        """Time passed in which the focus wandered by ``sigma`` dof (standard deviation, 0 or more)."""
        self._variance = self._variance + sigma**2
        self._weights = (1 - FORGOTTEN) * self._weights + FORGOTTEN * self._first

    def move(self, distance: float, sigma: float) -> None:
        """The stage went by ``distance`` dof, uncertain by ``sigma`` dof."""
        self._mean = self._mean + distance
        self._variance = self._variance + sigma**2

    def see(self, reading: float, sigma: float, *, moved: float = 0.0) -> None:
        """Take in a ``reading`` (dof, ``sigma`` > 0 its noise); the first after a move by ``moved`` dof
        teaches the response.
        """
        expected = self._responses * self._mean
        variance = self._responses**2 * self._variance + sigma**2
        if moved:
            spread = variance + LESSON_NOISE**2 + (CURVE_SHARE * moved) ** 2
            log_p = -0.5 * ((reading - expected) ** 2 / spread + np.log(spread))
            weights = self._weights * np.exp(log_p - log_p.max())
            self._weights = weights / weights.sum()
        gain = self._responses * self._variance / variance
        self._mean = self._mean + gain * (reading - expected)
        self._variance = self._variance * (1 - gain * self._responses)

    def estimate(self) -> Estimate:
        """What is believed now."""
        w, g = self._weights, self._responses
        defocus, reading = float(w @ self._mean), float(w @ (g * self._mean))
        return Estimate(
            defocus,
            math.sqrt(float(w @ (self._variance + (self._mean - defocus) ** 2))),
            reading,
            math.sqrt(float(w @ (g**2 * self._variance + (g * self._mean - reading) ** 2))),
        )

    def beyond(self, band: float) -> tuple[float, float]:
        """Probability that ``x`` lies below ``-band`` and above ``band`` (dof, 0 or more)."""
        sigma = np.sqrt(self._variance) + 1e-9
        below = sum(
            w * _normal((-band - m) / s) for w, m, s in zip(self._weights, self._mean, sigma, strict=True)
        )
        above = sum(
            w * _normal((m - band) / s) for w, m, s in zip(self._weights, self._mean, sigma, strict=True)
        )
        return float(below), float(above)

    @property
    def wrong_way(self) -> float:
        """Probability that the field answers with the wrong sign."""
        return float(self._weights[self._responses < 0].sum())


def _normal(x: float) -> float:
    """The normal distribution up to ``x`` standard deviations."""
    return 0.5 * math.erfc(-x / math.sqrt(2))

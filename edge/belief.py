"""A histogram Bayes filter over where the focus is.

Theory of operation
-------------------
The unknown is the focal position ``p`` on the stage, in depths of field; signed defocus at the stage
position ``z`` is ``x = z - p``. Kept over ``p``, a motion shifts the histogram of ``x`` exactly, with nothing
lost at its ends, and what is left of a motion is its uncertainty: a blur.

What a frame says is a likelihood over bins of defocus. It may lie in a systematic way: a stage whose pitch
is not known makes defocus look ``g`` times as large as it is, a stage (or camera) the other way round has a
negative ``g``, and once in a while a frame says nothing true at all. So the belief is joint over ``p`` and
a few gains ``g``, and every likelihood is mixed with a little of a uniform one. A second look after a known
motion then tells the gains apart: with the right one both looks point at one ``p``::

        look 1 at z1                       look 2 at z2
    g=1  ----|---p?---------------------------|----p?--      two places: unlikely
    g=-1 --------------p?---|-----|--p?--------                two places: unlikely
    g=2  ----|------------p?---------------p?-|-------       the same place: this it is

All numbers are float64; nothing here knows time, chance or hardware.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Share of a look's likelihood that is uniform: the chance that a frame says nothing true.
OUTLIER_SHARE = 0.01
#: Where all that is known is "at least this far", a look says most within this share of the network's reach.
FAR_SHARE = 0.3
#: The log of the contrast of a view is ``CONTRAST_FALL * log(1 + (defocus / CONTRAST_DOF)**4)`` less than in
#: focus: nearer than some four dof that of a refracting specimen may even rise ...
CONTRAST_FALL, CONTRAST_DOF = 0.65, 6.5
#: ... give or take so much, and so much of how it changes (Student's t, 3 degrees of freedom) ...
CONTRAST_SIGMA, CONTRAST_SHARE = 0.4, 0.3
#: ... but for this share of looks, whose contrast says nothing and changes by as much as it likes.
CONTRAST_OUTLIERS, CONTRAST_SPAN = 0.1, 5.0
#: Half of the runs begin nearer to focus than this, in dof; the prior's width.
NEAR_DOF = 10.0
_STEP_DOF = 0.1
_MOST_CELLS = 2001


@dataclass(frozen=True)
class Gains:
    """Hypotheses on how the network's defocus relates to the stage's: values (not 0) and prior weights."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.weights) or not self.values:
            raise ValueError("gains: as many weights as values are needed, at least one")
        if any(g == 0 or not math.isfinite(g) for g in self.values) or any(not w > 0 for w in self.weights):
            raise ValueError("gains: finite values other than 0 and weights above 0 are allowed")


#: Pitch, objective and direction are known; a little doubt keeps a wrong one from costing the focus.
KNOWN = Gains((1.0, 0.7, 1.4, -1.0), (0.91, 0.03, 0.03, 0.03))
#: A microscope that nobody has calibrated: the pitch is right within a factor of 2, the direction a guess.
LEARNED = Gains(
    (1.0, 0.8, 0.63, 0.5, 1.25, 1.6, 2.0, -1.0, -0.8, -0.63, -0.5, -1.25, -1.6, -2.0),
    (0.18, 0.13, 0.09, 0.04, 0.11, 0.08, 0.03, 0.09, 0.065, 0.045, 0.02, 0.055, 0.04, 0.015),
)
#: Nothing is known of the pitch, little of the direction, as with a z-stack that came without micrometres.
UNKNOWN = Gains(
    (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, -0.25, -0.4, -0.63, -1.0, -1.6, -2.5, -4.0),
    (0.07, 0.08, 0.1, 0.2, 0.1, 0.08, 0.07, 0.03, 0.04, 0.05, 0.06, 0.05, 0.04, 0.03),
)


@dataclass(frozen=True)
class Reading:
    """What the belief says at one stage position; all in depths of field of the network.

    ``defocus``: mean. ``sigma``: standard deviation. ``within``: mass within the tolerance. ``target``: the
    stage position with the most mass within tolerance of focus. ``target_within``: that mass. ``second``:
    mass at the best place elsewhere, for "could be +5 or -5". ``outermost``: mass in the network's end
    bins, for "at least this far".
    """

    defocus: float
    sigma: float
    within: float
    target: float
    target_within: float
    second: float
    outermost: float


class Belief:
    """Probability over focal position and gain; `see` and `move` change it in place, `read` never does.

    ``low``, ``high``: where the focus can be, in dof of stage travel; ``low < high`` or ValueError.
    ``start``: where the stage stands; the focus is likelier near than far, by a Cauchy distribution
    `NEAR_DOF` wide, which leaves the far ends possible. None: every place is as likely.
    """

    def __init__(self, low: float, high: float, gains: Gains = KNOWN, *, start: float | None = None) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"belief from {low} to {high}: a finite range that rises is needed")
        cells = int(min(_MOST_CELLS, max(3, math.ceil((high - low) / _STEP_DOF) + 1)))
        self.places = np.asarray(low + (high - low) / (cells - 1) * np.arange(cells), np.float64)
        self.gains = np.asarray(gains.values, np.float64)
        weights = np.asarray(gains.weights, np.float64)
        near = np.ones(cells) if start is None else 1 / (1 + ((self.places - start) / NEAR_DOF) ** 2)
        self.mass = (weights / weights.sum())[:, None] * (near / near.sum())
        self._ends = (-math.inf, math.inf)

    @property
    def step(self) -> float:
        """Distance of two places in dof."""
        return float(self.places[1] - self.places[0])

    def see(self, position: float, log_likelihood: Array, bin_centres: Array) -> float:
        """Take in one frame at stage ``position`` (dof): log-probabilities ``(bins,)`` over rising
        ``bin_centres`` (dof).

        Defocus beyond the outermost bins counts as those bins. Returns the surprise: the log of how much
        less likely the belief made this frame than one chance in as many as there are bins; above 0 when it
        contradicts what was believed. Raises ValueError, and changes nothing, unless every log-probability
        is a number (or -inf) with a bin of its own.
        """
        if log_likelihood.shape != bin_centres.shape or not math.isfinite(log_likelihood.max()):
            raise ValueError(
                f"a likelihood {log_likelihood.shape} of {bin_centres.shape} bins with numbers is needed"
            )
        p = np.exp(log_likelihood - log_likelihood.max())
        p = (1 - OUTLIER_SHARE) * p / p.sum() + OUTLIER_SHARE / len(p)
        likelihood = np.interp(self._defocus(position), bin_centres, p)
        posterior = self.mass * likelihood
        evidence = float(posterior.sum())
        self.mass = posterior / evidence
        self._ends = (float(bin_centres[0]), float(bin_centres[-1]))
        return -math.log(evidence * len(p))

    def compare(self, before: float, now: float, change: float, *, blank: bool = False) -> None:
        """Take in that the log of the contrast changed by ``change`` from the stage position ``before`` to
        ``now`` (dof). ``blank``: there is nothing to be seen any more: it fell by that, or more.
        The model of contrast: docs/decisions/0021.
        """
        expected = self._paled(before) - self._paled(now)
        sigma = CONTRAST_SIGMA + CONTRAST_SHARE * np.abs(expected)
        t = (change - expected) / sigma / math.sqrt(3)
        if blank:
            likely, chance = 0.5 + (np.arctan(t) + t / (1 + t**2)) / math.pi, 0.5
        else:
            likely, chance = 2 / (math.sqrt(3) * math.pi * sigma * (1 + t**2) ** 2), 1 / CONTRAST_SPAN
        posterior = self.mass * ((1 - CONTRAST_OUTLIERS) * likely + CONTRAST_OUTLIERS * chance)
        self.mass = posterior / posterior.sum()

    def move(self, sigma: float) -> None:
        """A motion (or a wait) ended with an uncertainty of ``sigma`` dof, 0 or more: a blur, mirrored at the
        ends.
        """
        if not (math.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"sigma = {sigma}: 0 or more is allowed")
        reach = math.ceil(4 * sigma / self.step)
        if sigma < 0.1 * self.step or reach == 0:
            return
        reach = min(reach, len(self.places) - 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * self.step / sigma) ** 2)
        kernel /= kernel.sum()
        padded = np.pad(self.mass, ((0, 0), (reach, reach)), mode="symmetric")
        self.mass = np.stack([np.convolve(row, kernel, mode="valid") for row in padded])

    def read(self, position: float, tolerance: float, low: float, high: float) -> Reading:
        """What is believed at stage ``position`` (dof); ``target`` is looked for from ``low`` to ``high``."""
        defocus = self._defocus(position)
        mean = float(np.vdot(self.mass, defocus))
        sigma = math.sqrt(max(0.0, float(np.vdot(self.mass, (defocus - mean) ** 2))))
        outermost = float(np.vdot(self.mass, (defocus <= self._ends[0]) | (defocus >= self._ends[1])))
        reach = self.around(tolerance)
        # Where all that is known is "at least this far", go where the next look says most.
        seen_from = (
            reach
            if outermost < 0.5
            else self.around(max(tolerance, FAR_SHARE * min(-self._ends[0], self._ends[1])))
        )
        allowed = (self.places >= low - 1e-9) & (self.places <= high + 1e-9)
        if not allowed.any():
            allowed = np.abs(self.places - min(max(position, low), high)) <= self.step
        best = self._nearest_best(np.where(allowed, seen_from, -1.0), position)
        elsewhere = np.abs(self.places - self.places[best]) > 3 * tolerance
        return Reading(
            defocus=mean,
            sigma=sigma,
            within=self.near(position, tolerance),
            target=self._centre(best, tolerance, low, high),
            target_within=float(reach[best]),
            second=float(reach[elsewhere].max()) if elsewhere.any() else 0.0,
            outermost=outermost,
        )

    def around(self, tolerance: float) -> Array:
        """For each place, ``(cells,)``: the mass within ``tolerance`` dof (of the network) of it; a cell that
        lies partly within counts in part.
        """
        cells = len(self.places)
        out = np.zeros(cells)
        for gain, up_to in zip(self.gains.tolist(), np.cumsum(self.mass, axis=1), strict=True):
            # From the middle of a cell to the end of what is near: so many whole cells, and a part of one.
            half = min(tolerance / abs(gain) / self.step, cells) + 0.5
            whole = int(half)
            below = np.concatenate((np.zeros(whole + 1), up_to, np.full(whole + 1, up_to[-1])))
            inner = below[2 * whole : 2 * whole + cells] - below[1 : 1 + cells]
            outer = below[2 * whole + 1 : 2 * whole + 1 + cells] - below[:cells]
            out += inner + (half - whole) * (outer - inner)
        return np.clip(out, 0.0, 1.0)

    def near(self, place: float, tolerance: float) -> float:
        """The mass within ``tolerance`` dof (of the network) of ``place``.

        A cell that lies partly within counts in part.
        """
        half = tolerance / np.abs(self.gains)[:, None]
        reach = float(half.max()) + self.step
        some = slice(*np.searchsorted(self.places, (place - reach, place + reach)).tolist())
        distance = np.abs(self.places[some] - place)[None, :]
        within = np.clip((half - distance) / self.step + 0.5, 0.0, np.minimum(1.0, 2 * half / self.step))
        return min(1.0, float((self.mass[:, some] * within).sum()))

    def spread(self, place: float, reach: float) -> float:
        """Standard deviation, in dof, of the mass within ``reach`` (dof, more than a step) of ``place``."""
        near = np.abs(self.places - place) <= reach
        places, mass = self.places[near], self.mass[:, near].sum(axis=0)
        mean = (mass * places).sum() / mass.sum()
        return math.sqrt(float((mass * (places - mean) ** 2).sum() / mass.sum()))

    def gain_weights(self) -> tuple[float, ...]:
        """Probability of each gain, in their order."""
        return tuple(float(weight) for weight in self.mass.sum(axis=1) / self.mass.sum())

    def gain(self) -> float:
        """The most probable gain."""
        return float(self.gains[int(np.argmax(self.mass.sum(axis=1)))])

    def defocus_histogram(self, position: float) -> tuple[Array, Array]:
        """Defocus ``z - p`` in stage dof ``(cells,)`` and its probability ``(cells,)``, for drawing."""
        return position - self.places, self.mass.sum(axis=0)

    def _defocus(self, position: float) -> Array:
        return self.gains[:, None] * (position - self.places)[None, :]

    def _paled(self, position: float) -> Array:
        """How much less the log of the contrast is at ``position`` than in focus, for all foci and gains."""
        return CONTRAST_FALL * np.log1p((self._defocus(position) / CONTRAST_DOF) ** 4)

    def _nearest_best(self, score: Array, position: float) -> int:
        """The cell of the highest score; of a flat top the one nearest ``position``, not rounding's."""
        top = np.flatnonzero(score >= score.max() - 1e-6)
        return int(top[np.argmin(np.abs(self.places[top] - position))])

    def _centre(self, best: int, tolerance: float, low: float, high: float) -> float:
        """The mean place of the mass about ``best``: finer than the grid, and central in a flat top."""
        gain = self.gains[int(np.argmax(self.mass[:, best]))]
        near = np.abs(self.places - self.places[best]) <= max(tolerance / abs(gain), self.step)
        weight = self.mass[:, near].sum(axis=0)
        mean = (
            float((weight * self.places[near]).sum() / weight.sum())
            if weight.sum() > 0
            else float(self.places[best])
        )
        return min(max(mean, low), high)

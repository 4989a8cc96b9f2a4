"""How long a stage rings after a motion, from frame after frame behind it. Pure numbers.

Where the curve of sharpness over the place is steep, a frame's sharpness tells where the stage was. The
motions end at places beside each other, so their last frames tell how steep it is just there. After a motion
the stage swings about where it comes to rest by an amount that decays as ``exp(-t / decay)``. It may swing
alike after each of them, since they are alike: then all frames together lie on one damped sine. Or frames see
it at chance phases: then their deviations are Gaussian, of that width, and noise. Both are weighed by how
likely they make what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.calibration_fit import Curve

__all__ = ["SETTLED_DOF", "Flank", "Settling", "fit_settling", "settling_of"]

Array = NDArray[np.float64]

#: A stage that rings by less than this many depths of field has settled.
SETTLED_DOF = 0.1
#: What is left of a deviation when all has settled: drift and what the curve does not know, in dof.
LEAST_NOISE_DOF = 0.02
#: Later than this share of the time that was watched all is settled.
SETTLED_SHARE = 0.7
#: A line through what was seen later than this share tells what is drift and not ringing; then, so many times
#: again, through all that is later than twice the settling found, but no earlier than this.
LINE_SHARE, AGAIN, LINE_EARLIEST_S = 0.5, 2, 0.05
_DECAYS = np.exp(np.linspace(math.log(0.003), math.log(0.4), 70))
#: Frequencies of a swing in Hz, below half of the rate at which six motions sample it at 30 frames/s; its
#: width in dof, and how much of it is not alike.
_HZ, _WIDTH, _CHANCE_DOF = np.arange(5.0, 80.0, 0.4), 1.0, (0.0, 0.05, 0.15, 0.4)
#: A flank is steep for so far to both sides, and within so far of the focus, in dof.
FLANK_DOF, NEAR_DOF = 0.4, 3.5
#: Mended, a flank holds at least this share of the way between the motions' ends.
LEAST_LEFT = 0.5
#: Sharpness of which about half is noise: below, its logarithm is steep and tells nothing.
HALF_NOISE = 5e-6


@dataclass(frozen=True)
class Settling:
    """Seconds until the stage rings by less than `SETTLED_DOF`, 0 where it rings by no more; ``sigma_s``."""

    settle_s: float
    sigma_s: float


class Flank:
    """Where the curve is steepest over its noise. ``place``: in the middle of that, in steps."""

    def __init__(self, curve: Curve, focus: float, step_dof: float) -> None:
        """``focus`` in steps; ``step_dof``: dof of a step, above 0. ValueError: no curve about the focus."""
        reach = NEAR_DOF / step_dof
        low, high = max(curve.low, focus - reach), min(curve.high, focus + reach)
        if (high - low) * step_dof < 3 * FLANK_DOF:
            raise ValueError("the curve does not reach to both sides of the focus")
        within = np.linspace(low, high, 400)
        values = curve.spline(within)
        slopes = np.gradient(values, within)
        telling = slopes / (1 + HALF_NOISE * np.exp(-values))
        beside = max(1, round(FLANK_DOF / step_dof / (within[1] - within[0])))
        windows = np.lib.stride_tricks.sliding_window_view(telling, 2 * beside + 1)
        k = int(np.maximum(windows.min(axis=1), -windows.max(axis=1)).argmax()) + beside
        order = 1 if slopes[k] > 0 else -1
        turns = np.flatnonzero(slopes * order <= 0)
        first = int(max(turns[turns < k], default=-1)) + 1
        last = int(min(turns[turns > k], default=len(within)))
        self.place = float(within[k])
        self._order, self._middle = order, k - first
        self._places, self._values = within[first:last], values[first:last]

    def deviations(
        self,
        ends: Array,
        since_s: Sequence[Array],
        log_sharpness: Sequence[Array],
        creep: float,
        rest_s: float,
    ) -> tuple[Array, Array]:
        """Times ``(N,)`` after a motion and how far from its place of rest the stage then was, in steps
        ``(N,)``: of all frames of motions that ended ``ends`` ``(M,)`` steps from `place`, while it crept by
        ``creep`` steps/s. A line through the frames later than ``rest_s`` is taken off each motion.
        """
        late = [at > SETTLED_SHARE * at.max() for at in since_s]
        rest = [float(np.median(seen[k])) for seen, k in zip(log_sharpness, late, strict=True)]
        crept = [creep * float(np.median(at[k])) for at, k in zip(since_s, late, strict=True)]
        self._mend(self.place + ends + np.array(crept), np.array(rest))
        beside = [
            _beside_rest(at, self.places(seen) - creep * at, rest_s)
            for at, seen in zip(since_s, log_sharpness, strict=True)
        ]
        after = np.concatenate(since_s) > 0
        return np.concatenate(since_s)[after], np.concatenate(beside)[after]

    def _mend(self, places: Array, log_sharpness: Array) -> None:
        """Mend the curve by what was seen at ``places`` ``(N,)`` near the middle, when all was settled.

        Where noise of neighbours turns the curve round, so that little is left of the flank, by a line.
        """
        order = np.argsort(places)
        off = log_sharpness - np.interp(places, self._places, self._values)
        first, last, values = self._rising(np.interp(self._places, places[order], off[order]))
        if np.ptp(self._places[first:last]) < LEAST_LEFT * np.ptp(places):
            line = np.polyfit(places - self.place, off, 1)
            within = np.clip(self._places, places.min(), places.max())
            first, last, values = self._rising(np.asarray(np.polyval(line, within - self.place), np.float64))
        self._places, self._values = self._places[first:last], values[first:last]
        self._middle -= first

    def _rising(self, off: Array) -> tuple[int, int, Array]:
        """Between which places about the middle the curve never turns, ``off`` ``(K,)`` added; and it."""
        values = self._values + off
        wrong = np.flatnonzero(np.diff(values) * self._order <= 0)
        first = int(max(wrong[wrong < self._middle], default=-1)) + 1
        last = int(min(wrong[wrong >= self._middle], default=len(values) - 1)) + 1
        return first, last, values

    def places(self, log_sharpness: Array) -> Array:
        """Where frames of this sharpness were, ``(N,)`` steps; the flank's ends for all beyond."""
        way = slice(None, None, self._order)
        return np.asarray(np.interp(log_sharpness, self._values[way], self._places[way]))


def settling_of(
    flank: Flank,
    ends: Array,
    since_s: Sequence[Array],
    log_sharpness: Sequence[Array],
    creep: float,
    step_dof: float,
) -> tuple[Settling, tuple[Array, Array]]:
    """What `Flank.deviations` takes, and dof of a step; the settling, and times and deviations in dof."""
    latest = LINE_SHARE * max(float(at.max()) for at in since_s)
    rest_s = latest
    for _ in range(1 + AGAIN):
        times, steps = flank.deviations(ends, since_s, log_sharpness, creep, rest_s)
        found = fit_settling(times, steps * step_dof, len(ends), rest_s)
        rest_s = min(latest, max(LINE_EARLIEST_S, 2 * (found.settle_s + found.sigma_s)))
    return found, (times, steps * step_dof)


def _beside_rest(since_s: Array, places: Array, rest_s: float) -> Array:
    """``places`` ``(N,)`` beside a line through the later ones: what is left of drift is no ringing."""
    late = since_s > rest_s
    return np.asarray(places - np.polyval(np.polyfit(since_s[late], places[late], 1), since_s))


def fit_settling(since_s: Array, deviation_dof: Array, motions: int, rest_s: float) -> Settling:
    """From ``deviation_dof`` ``(N,)`` of frames ``since_s`` ``(N,)`` seconds after a motion ended, 10 or
    more, those of ``motions`` motions together, each beside a line through those later than
    ``rest_s``.
    """
    late = since_s > 0.75 * since_s.max()
    noise = max(LEAST_NOISE_DOF, float(np.sqrt(np.mean(deviation_dof[late] ** 2))))
    # The line has an error, which grows towards the first frames.
    lined = since_s[since_s > rest_s]
    beyond = ((since_s - lined.mean()) / lined.std()) ** 2
    variance = noise**2 * (1 + (1 + beyond) * motions / len(lined))
    both = (_by_chance(since_s, deviation_dof, variance), _alike(since_s, deviation_dof, variance))
    says, times = (np.concatenate([np.ravel(part[k]) for part in both]) for k in (0, 1))
    weight = np.exp(says - says.max())
    weight /= weight.sum()
    mean = float((weight * times).sum())
    return Settling(mean, math.sqrt(float((weight * (times - mean) ** 2).sum())))


def _by_chance(since_s: Array, deviation: Array, variance: Array) -> tuple[Array, Array]:
    """Where each frame sees the swing at another phase: log evidence and settling time in s, of all widths
    and decays.
    """
    widths = np.exp(np.linspace(math.log(0.02), math.log(8.0), 60))
    swing = widths[:, None, None] * np.exp(-since_s[None, None, :] / _DECAYS[None, :, None])
    total = swing**2 / 2 + variance
    says = -0.5 * (deviation**2 / total + np.log(total)).sum(axis=2)
    times = np.maximum(0.0, _DECAYS[None, :] * np.log(widths[:, None] / SETTLED_DOF))
    return says - math.log(says.size), times


def _alike(since_s: Array, deviation: Array, variance: Array) -> tuple[Array, Array]:
    """Where the stage swings alike after each motion: log evidence and settling time in s, of all decays,
    frequencies and shares that are by chance. The amplitudes of cosine and sine are linear, each with a
    spread of `_WIDTH` dof, and are integrated out.
    """
    decay = np.exp(-since_s[None, :] / _DECAYS[:, None])
    angle = 2 * math.pi * _HZ[:, None] * since_s[None, :]
    cosine, sine = np.cos(angle), np.sin(angle)
    all_says, all_times = [], []
    for share in _CHANCE_DOF:
        total = variance + (share * decay) ** 2
        seen, twice = decay * deviation / total, decay**2 / total
        cc = twice @ (cosine**2).T + _WIDTH**-2
        ss = twice @ (sine**2).T + _WIDTH**-2
        cs, c, s = twice @ (cosine * sine).T, seen @ cosine.T, seen @ sine.T
        det = cc * ss - cs**2
        a, b = (ss * c - cs * s) / det, (cc * s - cs * c) / det
        alone = (deviation**2 / total + np.log(total)).sum(axis=1)
        all_says.append(0.5 * (a * c + b * s - np.log(det) - 4 * math.log(_WIDTH) - alone[:, None]))
        width = np.sqrt(a**2 + b**2 + (cc + ss) / det)
        all_times.append(np.maximum(0.0, _DECAYS[:, None] * np.log(width / SETTLED_DOF)))
    says = np.array(all_says)
    return says - math.log(says.size), np.array(all_times)

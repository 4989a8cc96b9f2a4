"""What a calibration's looks say: scale and direction, slack and drift. Pure numbers.

Lengths are steps of the screw, counted in the direction of approach, unless the name says otherwise. Theory::

    going on in the approach   nut = screw                    place = screw + slack * (it goes back)
    going back                 nut = screw + slack                    + creep * time
    drift                      seen from the optics, the nut creeps

*Slack and creep*: at one place the picture is the same whichever way the stage came, and whenever. So the
sharpness, a smooth curve of unknown shape over the place, must fall on one curve for all passes. Its shape is
a spline, which drops out of the fit (variable projection: Golub & Pereyra, SIAM J. Numer. Anal. 10, 1973).

*Scale and direction*: the network's likelihoods of all looks, at defocus ``scale * (place - focus)``, for
each scale and focus. A scale of the wrong sign mirrors what each look says of its side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.optimize import least_squares

from edge.belief import OUTLIER_SHARE

__all__ = ["Curve", "Fingerprints", "Offset", "Pass", "Scale", "fit_curve", "fit_offset", "fit_scale"]

Array = NDArray[np.float64]

#: The spline's knots are so many depths of field apart.
KNOTS_DOF = 0.6
#: Stiffness of the spline where looks are few.
STIFFNESS = 0.03
#: By so much do two looks at one place differ: dof that the network says, logarithm of the sharpness.
READING_SIGMA, SHARPNESS_SIGMA = 0.5, 0.15
#: Stands for a look that says nothing: unlike any other.
BLANK_READING = 30.0
#: Searches begin where looks were recognised and so far beside it, and no drift is taken for faster.
NEAR_DOF, MOST_DRIFT_DOF_S = 0.4, 0.2
#: A search goes so far from where it began, in dof and dof/s.
MOST_OFF_DOF, MOST_CREEP_DOF_S = 1.0, 0.05
#: Scales are tried from that of the guess divided by this to that times this, in steps of 2 %.
SCALE_SPAN, SCALE_STEP = 3.0, 0.02
#: What the network says in focus is read from looks within so many dof of it, of which it takes so many, and
#: is not believed beyond this.
OFFSET_WITHIN_DOF, OFFSET_FEWEST, OFFSET_MOST_DOF = 1.5, 6, 1.5
#: Of that this share is the microscope's and the rest the specimen's; another specimen differs by so many dof
#: (rms; 32 simulated microscopes, three specimens each, where the wave theory missed the focus by 0.14 rms).
OFFSET_SHARE, OFFSET_SIGMA = 0.85, 0.22


@dataclass(frozen=True)
class Pass:
    """The looks of one pass: screw ``(N,)`` steps, ``time_s`` ``(N,)``, ``log_sharpness`` ``(N,)``; ``back``:
    against the approach.
    """

    screw: Array
    time_s: Array
    log_sharpness: Array
    back: bool


@dataclass(frozen=True)
class Curve:
    """Slack in steps and creep in steps/s with their standard deviations; ``noise`` of the logarithm of the
    sharpness about the curve, and ``swing``, from its lowest to its highest. ``spline``: log sharpness over
    the place; ``low``, ``high``: where it holds.
    """

    slack: float
    slack_sigma: float
    creep: float
    creep_sigma: float
    noise: float
    swing: float
    spline: BSpline
    low: float
    high: float
    origin_s: float

    def places(self, of: Pass) -> Array:
        """Where the nut was at each look, ``(N,)`` steps."""
        return of.screw + self.slack * of.back + self.creep * (of.time_s - self.origin_s)


@dataclass(frozen=True)
class Scale:
    """``scale``: signed dof of the network for one step; ``sigma`` of it; ``focus``: place of the focus;
    ``odds``: log of how much more likely this direction is than the other; ``changes``: the same against a
    picture that does not change.
    """

    scale: float
    sigma: float
    focus: float
    odds: float
    changes: float


class Fingerprints:
    """The looks of a pass by which later looks are recognised: what the network said, right or wrong, and how
    sharp it was, over the place.
    """

    def __init__(self, of: Pass, readings: Array, step_dof: float) -> None:
        """``readings``: what the network said of each look, ``(N,)`` dof, nan for nothing; ``step_dof``: dof
        of a step, about.
        """
        order = np.argsort(of.screw)
        screw = of.screw[order]
        self._step_dof = step_dof
        self._places = np.linspace(screw[0], screw[-1], 8 * len(screw))
        self._time_s = np.interp(self._places, screw, of.time_s[order])
        told = np.nan_to_num(readings[order], nan=BLANK_READING)
        self._readings = np.interp(self._places, screw, told)
        self._sharpness = np.interp(self._places, screw, of.log_sharpness[order])

    def place(self, reading: float, log_sharpness: float) -> float:
        """The place, in steps, whose look was most like this one."""
        reading = BLANK_READING if math.isnan(reading) else reading
        unlike = ((self._readings - reading) / READING_SIGMA) ** 2
        unlike += ((self._sharpness - log_sharpness) / SHARPNESS_SIGMA) ** 2
        return float(self._places[int(unlike.argmin())])

    def slack_and_creep(self, passes: Sequence[Pass], places: Array, slack: float) -> tuple[float, float]:
        """Both, about, from the ``places`` ``(N,)`` at which all looks of ``passes`` were recognised;
        ``slack`` where too few were.
        """
        screw, time_s, back = (np.concatenate(parts) for parts in zip(*map(_columns, passes), strict=True))
        margin = 1.0 / self._step_dof
        known = (places > self._places[0] + margin) & (places < self._places[-1] - margin)
        # A place was seen at its own time; since then it has crept.
        since_s = time_s - np.interp(places, self._places, self._time_s)
        if known.sum() < 8 or not (known & (back > 0)).any():
            return slack, 0.0
        columns = np.stack([back[known], since_s[known] / 10], axis=1) * self._step_dof
        off = (places - screw - slack * back)[known] * self._step_dof
        found = least_squares(lambda x: columns @ x - off, [0.0, 0.0], loss="soft_l1", f_scale=0.2).x
        most = MOST_DRIFT_DOF_S / self._step_dof
        return slack + float(found[0]), float(np.clip(found[1] / 10, -most, most))


def _columns(of: Pass) -> tuple[Array, Array, Array]:
    return of.screw, of.time_s, np.full(len(of.screw), float(of.back))


def fit_curve(passes: Sequence[Pass], step_dof: float, *, slack: float, creep: float = 0.0) -> Curve:
    """Slack and creep from ``passes`` in both directions. ``step_dof``: dof of a step, about (above 0);
    ``slack`` in steps and ``creep`` in steps/s, both about. ValueError for passes in one direction only.
    """
    if len({one.back for one in passes}) != 2:
        raise ValueError("passes in both directions are needed")
    reach = NEAR_DOF / step_dof
    tries = [_Alignment(passes, step_dof, start, creep) for start in (slack - reach, slack, slack + reach)]
    return min((one.fitted() for one in tries), key=lambda curve: curve.noise)


class _Alignment:
    """The search for the slack and creep that put all looks onto one curve, from about ``slack``, ``creep``.

    The curve is fitted over the places that both directions have seen, and a little beyond.
    """

    def __init__(self, passes: Sequence[Pass], step_dof: float, slack: float, creep: float) -> None:
        self._screw, self._time_s, self._back = (
            np.concatenate(parts) for parts in zip(*map(_columns, passes), strict=True)
        )
        self._values = np.concatenate([one.log_sharpness for one in passes])
        self._origin_s = float(self._time_s.mean())
        self._slack, self._creep, self._step_dof = slack, creep, step_dof
        at = self._places(slack, creep)
        ends = [(at[self._back == back].min(), at[self._back == back].max()) for back in (0.0, 1.0)]
        self._low, self._high = float(max(low for low, _ in ends)), float(min(high for _, high in ends))
        margin = 1.0 / step_dof
        self._from, self._to = self._low - margin, self._high + margin

    def fitted(self) -> Curve:
        """The best from here; endless noise where the two directions have seen too little in common."""
        if (self._high - self._low) * self._step_dof < 3:
            return self._curve(self._slack, math.inf, 0.0, math.inf, _spline(np.zeros(5), 0, 1), math.inf)
        # A hundredth of a dof, and the same per second, are the small units here.
        unit = 0.01 / self._step_dof
        found = least_squares(
            lambda y: self._shape(self._slack + y[0] * unit, self._creep + y[1] * unit)[1],
            np.zeros(2),
            bounds=(
                [-MOST_OFF_DOF / 0.01, -MOST_CREEP_DOF_S / 0.01],
                [MOST_OFF_DOF / 0.01, MOST_CREEP_DOF_S / 0.01],
            ),
            loss="soft_l1",
            f_scale=0.03,
            diff_step=0.02,
            x_scale=np.array([100.0, 3.0]),
        )
        slack, creep = self._slack + found.x[0] * unit, self._creep + found.x[1] * unit
        spline, residual = self._shape(slack, creep)
        noise = float(np.sqrt(np.mean(residual**2)))
        spread = np.linalg.pinv(found.jac.T @ found.jac) * max(noise, 1e-4) ** 2
        slack_sigma, creep_sigma = np.sqrt(np.maximum(np.diag(spread), 0.0)) * unit
        return self._curve(slack, slack_sigma, creep, creep_sigma, spline, noise)

    def _places(self, slack: float, creep: float) -> Array:
        return self._screw + slack * self._back + creep * (self._time_s - self._origin_s)

    def _shape(self, slack: float, creep: float) -> tuple[BSpline, Array]:
        """The curve through the looks at their places, and what they deviate from it; 0 for those outside."""
        places = self._places(slack, creep)
        inside = (places >= self._from) & (places <= self._to)
        count = max(6, round((self._to - self._from) * self._step_dof / KNOTS_DOF))
        knots = _knots(count, self._from, self._to)
        design = BSpline.design_matrix(places[inside], knots, 3).toarray()
        stiff = STIFFNESS * np.diff(np.eye(count), n=2, axis=0)
        wanted = np.concatenate([self._values[inside], np.zeros(len(stiff))])
        coefficients = np.linalg.lstsq(np.concatenate([design, stiff]), wanted, rcond=None)[0]
        residual = np.zeros(len(places))
        residual[inside] = design @ coefficients - self._values[inside]
        return BSpline(knots, coefficients, 3), residual

    def _curve(
        self,
        slack: float,
        slack_sigma: float,
        creep: float,
        creep_sigma: float,
        spline: BSpline,
        noise: float,
    ) -> Curve:
        swing = float(np.ptp(spline(np.linspace(self._low, self._high, 200)))) if noise < math.inf else 0.0
        return Curve(
            float(slack), float(slack_sigma), float(creep), float(creep_sigma), noise, swing, spline,
            self._low, self._high, self._origin_s,
        )  # fmt: skip


def _knots(count: int, low: float, high: float) -> Array:
    """Of ``count`` cubic splines, 4 or more."""
    return np.concatenate([[low] * 3, np.linspace(low, high, count - 2), [high] * 3])


def _spline(coefficients: Array, low: float, high: float) -> BSpline:
    return BSpline(_knots(len(coefficients), low, high), coefficients, 3)


def fit_scale(
    places: Array, log_likelihoods: Sequence[Array | None], bin_centres: Array, *, guess: float
) -> Scale:
    """Scale, direction and focus from looks at ``places`` ``(N,)``: ``log_likelihoods`` N of ``(bins,)`` over
    ``bin_centres`` (dof), None for a blank one. ``guess``: dof of a step, about, above 0. ValueError where
    fewer than three looks say anything.
    """
    seen = [(z, lik) for z, lik in zip(places, log_likelihoods, strict=True) if lik is not None]
    if len(seen) < 3:
        raise ValueError("at least three looks are needed")
    half = math.log(SCALE_SPAN)
    logs = np.linspace(-half, half, 2 * round(half / SCALE_STEP) + 1)
    foci = np.arange(places.min(), places.max(), 0.1 / guess)
    magnitudes = guess * np.exp(logs)
    totals = {sign: np.zeros((len(logs), len(foci))) for sign in (1.0, -1.0)}
    still = np.zeros(len(bin_centres))
    for z, log_likelihood in seen:
        p = np.exp(log_likelihood - log_likelihood.max())
        p = (1 - OUTLIER_SHARE) * p / p.sum() + OUTLIER_SHARE / len(p)
        still += np.log(p)
        for sign, total in totals.items():
            defocus = sign * magnitudes[:, None] * (z - foci)[None, :]
            total += np.log(np.interp(defocus, bin_centres, p))
    sign = max(totals, key=lambda s: float(totals[s].max()))
    best, other = totals[sign], totals[-sign]
    row, column = np.unravel_index(int(best.argmax()), best.shape)
    profile = best.max(axis=1)
    middle, width = _vertex(logs, profile, int(row))
    return Scale(
        scale=sign * guess * math.exp(middle),
        sigma=guess * math.exp(middle) * width,
        focus=float(foci[column]),
        odds=float(best.max() - other.max()),
        changes=float(best.max() - still.max()),
    )


@dataclass(frozen=True)
class Offset:
    """What the network says in focus of any specimen, in dof as it counts them, and its uncertainty."""

    dof: float
    sigma: float


def fit_offset(defocus: Array, readings: Array) -> Offset | None:
    """From what the network said, ``readings`` ``(N,)`` dof with nan for nothing, at ``defocus`` ``(N,)`` dof
    by the wave theory. None where too few looks are near focus, or they say that it is far from it.
    """
    near = (np.abs(defocus) <= OFFSET_WITHIN_DOF) & np.isfinite(readings)
    if near.sum() < OFFSET_FEWEST:
        return None
    columns = np.stack([np.ones(int(near.sum())), defocus[near]], axis=1)
    found = least_squares(lambda x: columns @ x - readings[near], [0.0, 1.0], loss="soft_l1", f_scale=0.3)
    offset = float(found.x[0])
    noise = float(np.sqrt(np.mean(found.fun**2) / near.sum()))
    if abs(offset) > OFFSET_MOST_DOF:
        return None
    return Offset(OFFSET_SHARE * offset, math.hypot(noise, OFFSET_SIGMA))


def _vertex(x: Array, y: Array, k: int) -> tuple[float, float]:
    """Top of the parabola through three points about ``k``, and the standard deviation that it means."""
    if k in (0, len(x) - 1):
        return float(x[k]), math.inf
    step = float(x[1] - x[0])
    curve = float(y[k - 1] - 2 * y[k] + y[k + 1])
    if curve >= 0:
        return float(x[k]), math.inf
    return float(x[k] + 0.5 * step * (y[k - 1] - y[k + 1]) / curve), step / math.sqrt(-curve)

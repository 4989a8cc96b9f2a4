"""What a calibration's looks say: scale and direction, slack and drift, settling. Pure numbers.

Lengths are steps of the screw, counted in the direction of approach, unless the name says otherwise. Theory::

    going on in the approach   nut = screw                    place = screw + slack * (it goes back)
    going back                 nut = screw + slack                    + creep * time
    drift                      seen from the optics, the nut creeps

*Slack and creep*: at one place the picture is the same whichever way the stage came, and whenever. So the
sharpness, a smooth curve of unknown shape over the place, must fall on one curve for all passes. Its shape is
a spline, which drops out of the fit (variable projection: Golub & Pereyra, SIAM J. Numer. Anal. 10, 1973).

*Scale and direction*: the network's likelihoods of all looks, at defocus ``scale * (place - focus)``, for
each scale and focus. A scale of the wrong sign mirrors what each look says of its side.

*Settling*: after a motion the place swings about where it comes to rest by an amount that decays as
``exp(-t / decay)``. Frames see the swing at chance phases, so their deviations are taken as Gaussian, of that
width, and noise.
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

__all__ = ["Curve", "Pass", "Scale", "Settling", "fit_curve", "fit_scale", "fit_settling"]

Array = NDArray[np.float64]

#: The spline's knots are so many depths of field apart.
KNOTS_DOF = 0.6
#: Scales are tried from that of the guess divided by this to that times this, in steps of 2 %.
SCALE_SPAN, SCALE_STEP = 3.0, 0.02
#: A stage that rings by less than this many depths of field has settled.
SETTLED_DOF = 0.1


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
        return _places(of, self.slack, self.creep, self.origin_s)


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


@dataclass(frozen=True)
class Settling:
    """Seconds until the stage rings by less than `SETTLED_DOF`, 0 where it rings by no more; ``sigma_s``."""

    settle_s: float
    sigma_s: float


def fit_curve(passes: Sequence[Pass], step_dof: float, *, slack: float, reach: float) -> Curve:
    """Slack and creep from ``passes`` in both directions. ``step_dof``: dof of a step, about (above 0);
    ``slack``: steps, right within ``reach``. ValueError for passes in one direction only.
    """
    if len({one.back for one in passes}) != 2:
        raise ValueError("passes in both directions are needed")
    origin = float(np.mean([t for one in passes for t in one.time_s]))
    tries = [
        _aligned(passes, step_dof, start, origin) for start in np.linspace(slack - reach, slack + reach, 7)
    ]
    return min(tries, key=lambda curve: curve.noise)


def _places(of: Pass, slack: float, creep: float, origin_s: float) -> Array:
    return of.screw + (slack if of.back else 0.0) + creep * (of.time_s - origin_s)


def _common(passes: Sequence[Pass], slack: float) -> tuple[float, float]:
    """The places that passes in both directions have seen."""
    ends = [
        (float(one.screw.min()) + slack * one.back, float(one.screw.max()) + slack * one.back)
        for one in passes
    ]
    return max(low for low, _ in ends), min(high for _, high in ends)


def _aligned(passes: Sequence[Pass], step_dof: float, slack: float, origin_s: float) -> Curve:
    """The fit that begins at ``slack``."""
    low, high = _common(passes, slack)
    margin = 1.0 / step_dof
    if high - low < 3 * margin:
        return Curve(
            slack, math.inf, 0.0, math.inf, math.inf, 0.0, _spline(np.zeros(5), 0, 1), 0, 1, origin_s
        )
    count = max(5, round((high - low + 2 * margin) * step_dof / KNOTS_DOF))

    def looked(x: Array) -> tuple[Array, Array]:
        places = np.concatenate([_places(one, x[0], x[1], origin_s) for one in passes])
        values = np.concatenate([one.log_sharpness for one in passes])
        inside = (places >= low - margin) & (places <= high + margin)
        # What lies outside must not leave the sum: it would be cheap to push looks out.
        return np.clip(places, low - margin, high + margin), np.where(inside, values, np.nan)

    def shape(x: Array) -> tuple[BSpline, Array]:
        places, values = looked(x)
        kept = np.isfinite(values)
        kept[:1] |= not kept.any()
        design = BSpline.design_matrix(places[kept], _knots(count, low - margin, high + margin), 3).toarray()
        smooth = 0.03 * np.diff(np.eye(design.shape[1]), n=2, axis=0)
        matrix = np.concatenate([design, smooth])
        wanted = np.concatenate([values[kept], np.zeros(len(smooth))])
        coefficients = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        residual = np.zeros(len(values))
        residual[kept] = design @ coefficients - values[kept]
        return _spline(coefficients, low - margin, high + margin), residual

    # A hundredth of a dof, and the same per second, are the small units here.
    unit = 0.01 / step_dof
    found = least_squares(
        lambda y: shape(np.array([slack + y[0] * unit, y[1] * unit]))[1],
        np.zeros(2),
        loss="soft_l1",
        f_scale=0.03,
        diff_step=0.5,
        x_scale=np.array([100.0, 3.0]),
    )
    best = np.array([slack + found.x[0] * unit, found.x[1] * unit])
    spline, residual = shape(best)
    noise = float(np.sqrt(np.mean(residual**2)))
    spread = np.linalg.pinv(found.jac.T @ found.jac) * max(noise, 1e-4) ** 2
    sigmas = np.sqrt(np.maximum(np.diag(spread), 0.0)) * unit
    shown = spline(np.linspace(low, high, 200))
    return Curve(
        float(best[0]), float(sigmas[0]), float(best[1]), float(sigmas[1]),
        noise, float(np.ptp(shown)), spline, low, high, origin_s,
    )  # fmt: skip


def _knots(count: int, low: float, high: float) -> Array:
    inner = np.linspace(low, high, count - 2)
    return np.concatenate([[low] * 3, inner, [high] * 3])


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


def _vertex(x: Array, y: Array, k: int) -> tuple[float, float]:
    """Top of the parabola through three points about ``k``, and the standard deviation that it means."""
    if k in (0, len(x) - 1):
        return float(x[k]), math.inf
    step = float(x[1] - x[0])
    curve = float(y[k - 1] - 2 * y[k] + y[k + 1])
    if curve >= 0:
        return float(x[k]), math.inf
    return float(x[k] + 0.5 * step * (y[k - 1] - y[k + 1]) / curve), step / math.sqrt(-curve)


def fit_settling(since_s: Array, deviation_dof: Array) -> Settling:
    """From ``deviation_dof`` ``(N,)`` of frames ``since_s`` ``(N,)`` seconds after a motion ended, 10 or
    more, those of several motions together.
    """
    late = since_s > 0.75 * since_s.max()
    noise = max(1e-3, float(np.sqrt(np.mean(deviation_dof[late] ** 2))))
    widths = np.exp(np.linspace(math.log(0.02), math.log(8.0), 60))
    decays = np.exp(np.linspace(math.log(0.003), math.log(0.4), 70))
    swing = widths[:, None, None] * np.exp(-since_s[None, None, :] / decays[None, :, None])
    variance = swing**2 / 2 + noise**2
    says = -0.5 * (deviation_dof**2 / variance + np.log(variance)).sum(axis=2)
    weight = np.exp(says - says.max())
    weight /= weight.sum()
    times = np.maximum(0.0, decays[None, :] * np.log(widths[:, None] / SETTLED_DOF))
    mean = float((weight * times).sum())
    return Settling(mean, math.sqrt(float((weight * (times - mean) ** 2).sum())))

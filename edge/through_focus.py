"""How many depths of field one motor step is, from frames through the focus at known relative places.

The unknown pitch of a stage is measured with the wave theory of the objective, whose aperture, wavelength and
pixels are known: how fast the phase of each spatial frequency turns with defocus depends on nothing else that
is so well known.

Theory of operation
-------------------
A weak object of absorption and phase has, at a spatial frequency ``f``, the image spectrum
``a(f) E+(f, z) + b(f) E-(f, z)`` with unknown complex ``a`` and ``b``, where
``E+-(f, z) = mean over the condenser's points s of P(s +- f) P*(s) exp(+-i z [sag(s +- f) - sag(s)])``: the
beam diffracted to either side beats with the direct one. (Streibl, J. Opt. Soc. Am. A 2, 121, 1985; Sheppard
& Mao, J. Mod. Opt. 35, 1169, 1988; Goodman, Introduction to Fourier Optics, ch. 7.) ``sag`` is the exact
defocus phase of `edge.simulator.formation`. A thick specimen is two layers, whose sum and difference are
columns too.

A monochrome camera sees the images of all colours as one. Each has its own focus, and the specimen decides
which is how strong. So columns of red and blue stand beside those of green; which wavelength prevails stays
uncertain, and with it the scale.

A strong object scatters light that beats with light that it scatters, from all pairs of directions ``q`` and
``q + f`` in the pupil: ``c(f) mean over q of w(q) P(q + f) P*(q) exp(i z [sag(q + f) - sag(q)])``. How its
spectrum weighs them is unknown. Two columns stand for it: all of the pupil alike, which is the transfer of
incoherent light, and its inner disc (`edge.weak_object`).

Whatever the specimen is, its spectra through the focus must lie in the space that these columns span. The fit
(variable projection, Levenberg-Marquardt, several starts) turns scale, focus, condenser ratio, tilt,
aberrations and thickness until they do, with a robust weight for each patch of frequencies. Phases of the
spectra matter, so contrast reversals and image shift through a tilted lamp count; powers alone would lose
them. Frames must not shift sideways among each other by more than about ``wavelength / (10 NA)``.

What refracts very strongly (thick blood cells) is beyond that, at high frequencies most. So there are two
fits: one of low frequencies, and one of all that begins where the first ended and counts the less, the larger
its misfit is. The stated uncertainty grows with the misfit, too.

Frequencies are in ``NA / wavelength_ref``, the pupil in units of NA, z in depths of field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.optics import Optics
from edge.ring_power import RingPower, patches_of
from edge.weak_object import COLOURS, COMA, FOCUS, RATIO, SCALE, SPHERICAL, THICKNESS, TILT, columns_of

__all__ = ["Fitted", "fit"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex64]

#: Fewest frames for a fit.
FEWEST = 12
_LEAST_SIGNAL = 0.3  # power over noise, of the low patches' stronger tenth
_STEP_DOF, _TURNING = 0.5, 4.6  # of the places that many are merged to; the fastest turn in rad per dof
_VECTORS = 3  # of each patch's cross spectra through the focus that are kept
#: Of the columns that begin the fit, and end it: sum and difference of layers to either side, scattered light
#: among itself; in white light red and blue as well.
_RIDGES = {2: (1e-3, 1e-3), 6: (1e-3, 1e-2, 1e-3, 1e-2, 1e-4, 1e-4)}
_RIDGES[10] = (*_RIDGES[6], *[1e-3] * 4)
_FLOOR = 0.02  # share of a patch's power below which misfit no longer counts
_MEAN = np.array([0, 0, 0.52, 0, 0, 0.04, 0, 0, 0.4, 0.25, -0.35])
_SPREAD = np.array([math.nan, math.nan, 0.25, 0.11, 0.11, 0.08, 0.06, 0.06, 0.6, 0.15, 0.2])
_LOW = np.array([-0.7, -2, 0.1, -0.5, -0.5, -0.3, -0.3, -0.3, 0, -1.2, -1.2])
_HIGH = np.array([0.7, 2, 0.98, 0.5, 0.5, 0.3, 0.3, 0.3, 2.2, 1.2, 1.2])
#: Of the logarithm of a pitch that nobody has measured.
PITCH_SIGMA = 0.17
_START_RATIOS = (0.3, 0.55, 0.8)
#: The logarithm's bias, and how misfit tells its uncertainty (decisions 0019 and 0020).
_BIAS, _BIAS_IN_WHITE = 0.012, -0.015
_SIGMA_AT_BEST, _SIGMA_IN_WHITE, _SIGMA_PER_MISFIT, _MISFIT_AT_BEST = 0.02, 0.04, 0.03, 1.2
#: How the two fits are weighed: error of the one by low frequencies, and of the other by its misfit.
_LOW_SIGMA, _WIDE_SIGMA, _WIDE_PER_MISFIT = 0.028, 0.018, 0.07
_MISFIT_MOST = 3.5


@dataclass(frozen=True)
class Fitted:
    """``scale``: depths of field per step, above 0. ``sigma``: of its logarithm. ``focus``: place in steps.

    ``condenser_ratio``, ``tilt`` (NA), ``spherical_waves``, ``coma_waves``, ``thickness_dof``: as in
    `edge.simulator.formation.Imaging`. ``misfit``: mean logarithm of the patches' misfit over their floor.
    ``trusted``: False where nothing was to be seen or the theory does not hold; ``scale`` is then the guess.
    """

    scale: float
    sigma: float
    focus: float
    condenser_ratio: float
    tilt: tuple[float, float]
    spherical_waves: float
    coma_waves: tuple[float, float]
    thickness_dof: float
    misfit: float
    trusted: bool


def fit(
    places: Sequence[float] | Array,
    spectra: Sequence[RingPower],
    optics: Optics,
    *,
    guess: float,
    sigma: float = PITCH_SIGMA,
    focus: float = 0.0,
    focus_sigma_dof: float = 0.5,
    progress: Callable[[], None] = lambda: None,
) -> Fitted:
    """The scale of a stage from ``spectra`` of frames at ``places`` ``(N,)`` in steps, N at least `FEWEST`.

    ``guess``: depths of field per step, below 0 where a step lowers defocus (which matters to grey frames
    alone, and little), with ``sigma`` of its logarithm; ``focus``: about where the focus is, in steps, with
    ``focus_sigma_dof``. Best within 6 depths of field to either side of focus, in steps of half a depth of
    field or less; frames beyond 6.2 by the guess are left out. The guess is weighed in by inverse variance.
    ``progress`` is called now and then. Raises ValueError where the numbers do not match or the guess is 0.
    """
    if len(places) != len(spectra) or not (math.isfinite(guess) and guess != 0 and sigma > 0):
        raise ValueError(f"{len(places)} places, {len(spectra)} spectra, guess {guess}, sigma {sigma}")
    x = (np.asarray(places, np.float64) - focus) * guess
    near = [int(k) for k in np.flatnonzero(np.abs(x) <= 6.2)]
    if len(near) < FEWEST or len({spectra[k].size_px for k in near}) != 1:
        return _untrusted(guess, sigma, focus)
    # The guess is weighed in by `_judged`: here it only keeps the fit from running away.
    signal, low, wide = _problems(x[near], [spectra[k] for k in near], optics, 3 * sigma, focus_sigma_dof)
    if signal < _LEAST_SIGNAL:
        return _untrusted(guess, sigma, focus)
    by_low = low.descend(_begun(low, progress), 6, 15, 0.1)[0]
    white = all(spectra[k].grey for k in near)
    if white:
        by_low = low.descend(np.r_[by_low, _MEAN[COLOURS:]], 10, 25, 0.1)[0]
        progress()
    columns = 10 if white else 6
    by_all = wide.descend(by_low, columns, 15, 0.1)[0]
    misfit = wide.misfit(by_all, columns)
    excess = max(0.0, misfit - _MISFIT_AT_BEST)
    share = _LOW_SIGMA**2 / (_LOW_SIGMA**2 + (_WIDE_SIGMA + _WIDE_PER_MISFIT * excess) ** 2)
    own = (_SIGMA_IN_WHITE if white else _SIGMA_AT_BEST) + _SIGMA_PER_MISFIT * excess
    p = share * by_all + (1 - share) * by_low
    p[SCALE] -= _BIAS_IN_WHITE if white else _BIAS
    return _judged(p, misfit, own, guess, sigma, focus)


def _begun(low: _Problem, progress: Callable[[], None]) -> Array:
    """The parameters of the weak object that fits best."""
    found = []
    for ratio in _START_RATIOS:
        start = _MEAN[:COLOURS].copy()
        start[RATIO] = ratio
        found.append(low.descend(start, 2, 12, 0.3))
        progress()
    return min(found, key=lambda each: each[1])[0]


def _judged(p: Array, misfit: float, own: float, guess: float, sigma: float, focus: float) -> Fitted:
    """Parameters ``p``, whose scale has the uncertainty ``own``, with the guess weighed in."""
    share = sigma**2 / (sigma**2 + own**2)
    stuck = abs(p[SCALE]) > 0.69 or abs(p[FOCUS]) > 1.95
    if stuck or misfit > _MISFIT_MOST:
        return _untrusted(guess, sigma, focus)
    return Fitted(
        scale=abs(guess) * math.exp(share * p[SCALE]),
        sigma=own * math.sqrt(share),
        focus=focus + float(p[FOCUS]) / guess,
        condenser_ratio=float(p[RATIO]),
        tilt=(float(p[TILT]), float(p[TILT + 1])),
        spherical_waves=float(p[SPHERICAL]),
        coma_waves=(float(p[COMA]), float(p[COMA + 1])),
        thickness_dof=float(p[THICKNESS]),
        misfit=misfit,
        trusted=True,
    )


def _untrusted(guess: float, sigma: float, focus: float) -> Fitted:
    return Fitted(abs(guess), sigma, focus, math.nan, (0.0, 0.0), 0.0, (0.0, 0.0), 0.0, math.inf, False)


def _evenly(x: Array) -> tuple[Array, Array]:
    """Places every half a depth of field, and ``(K, N)`` weights of what was seen at ``x`` ``(N,)`` for each.

    Regression on what turns by `_TURNING` or less, so that many frames cost no more than few: all that a
    place between others tells goes to its neighbours. Few frames stay as they are.
    """
    count = int((x.max() - x.min()) / _STEP_DOF) + 1
    if len(x) < 1.4 * count:
        return x, np.eye(len(x))
    even: Array = (x.min() + x.max()) / 2 + _STEP_DOF * (np.arange(count) - (count - 1) / 2)

    def alike(one: Array, other: Array) -> Array:
        return np.asarray(np.sinc((one[:, None] - other[None, :]) * _TURNING / math.pi), np.float64)

    weights = np.linalg.solve(alike(x, x) + 0.1 * np.eye(len(x)), alike(x, even)).T
    return even, np.asarray(weights, np.float64)


def _problems(
    x: Array, spectra: Sequence[RingPower], optics: Optics, sigma: float, focus_sigma_dof: float
) -> tuple[float, _Problem, _Problem]:
    """Power over a frame's noise of the low patches' stronger tenth; the fit of low frequencies, and of all.

    ``x``: the guessed defoci.
    """
    patches = patches_of(spectra[0].size_px)
    even_x, mix = _evenly(x)
    of_a_frame = float(np.median([each.noise for each in spectra]))
    noise = of_a_frame * (mix @ mix.T)
    all_modes = np.asarray(mix @ np.stack([each.spectrum for each in spectra]), np.complex64)
    vectors, power = [], []
    for a, b in pairwise(patches.first):
        cross = all_modes[:, a:b] @ all_modes[:, a:b].conj().T / (b - a) - noise
        values, columns = np.linalg.eigh(cross)
        strong = np.sqrt(np.maximum(values[-_VECTORS:], 0))
        vectors.append(columns[:, -_VECTORS:] * strong)
        power.append(max(float(np.trace(cross).real) / len(cross), 0.0))
    powers = np.array(power)
    floor = 0.3 * float(np.trace(noise)) / len(noise) + _FLOOR * powers + 1e-12
    signal = float(np.percentile(powers[patches.low], 90)) / max(of_a_frame, 1e-12)
    spread = np.r_[sigma, focus_sigma_dof, _SPREAD[2:]]
    s2 = np.float32((optics.objective.na / optics.objective.immersion_index) ** 2)
    freq = patches.freq.astype(np.float32)
    weight = np.sqrt(np.diff(patches.first))

    def of(part: NDArray[np.bool_]) -> _Problem:
        kept = np.asarray(vectors, np.complex64)[part]
        return _Problem(even_x, freq[part], s2, kept, floor[part], weight[part], spread)

    return signal, of(patches.low), of(patches.even)


@dataclass(frozen=True)
class _Problem:
    """A fit's data: of each patch its strongest ``vectors`` through the focus, ``(C, N, K)``, at the guessed
    defoci ``x`` ``(N,)``.
    """

    x: Array
    freq: NDArray[np.float32]
    s2: np.float32
    vectors: Complex
    floor: Array
    weight: Array
    spread: Array

    def residual(self, p: Array, columns: int, slopes: bool) -> tuple[Complex, Complex]:
        """What the columns cannot explain, ``(C, N, K)``, and its derivatives ``(P, C, N, K)``."""
        span, moves = columns_of(p, self.x, self.freq, self.s2, columns, slopes)
        adjoint = span.conj().transpose(0, 2, 1)
        ridge = np.diag(_RIDGES[columns]).astype(np.complex64) * len(self.x)
        inverse = np.linalg.inv(adjoint @ span + ridge)
        shares = inverse @ (adjoint @ self.vectors)
        out = self.vectors - span @ shares
        moved = moves @ shares  # after Kaufman: the shares' own change is left out
        return out, span @ (inverse @ (adjoint @ moved)) - moved

    def power(self, residual: Complex) -> Array:
        """``(C,)`` misfit of each patch."""
        return np.asarray((np.abs(residual) ** 2).sum((1, 2)) / len(self.x), np.float64)

    def misfit(self, p: Array, columns: int) -> float:
        """Mean logarithm of misfit over floor."""
        return float(np.log1p(self.power(self.residual(p, columns, False)[0]) / self.floor).mean())

    def cost(self, p: Array, residual: Complex) -> float:
        prior = (((p - _MEAN[: len(p)]) / self.spread[: len(p)]) ** 2).sum()
        return float((self.weight * np.log1p(self.power(residual) / self.floor)).sum() + prior)

    def descend(self, p: Array, columns: int, steps: int, least: float) -> tuple[Array, float]:
        """Levenberg-Marquardt with weights renewed at each step; the parameters and their cost."""
        damping = 1e-2
        mean, spread, lowest, highest = (a[: len(p)] for a in (_MEAN, self.spread, _LOW, _HIGH))
        residual, slopes = self.residual(p, columns, True)
        cost = self.cost(p, residual)
        for _ in range(steps):
            weight = np.sqrt(self.weight / (self.power(residual) + self.floor) / len(self.x))
            jacobian = (slopes * weight[:, None, None].astype(np.float32)).reshape(len(p), -1)
            target = (residual * weight[:, None, None].astype(np.float32)).ravel()
            hessian = (jacobian @ jacobian.conj().T).real + np.diag(1 / spread**2)
            gradient = (jacobian.conj() @ target).real + (p - mean) / spread**2
            for _ in range(5):
                step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
                trial = np.clip(p - step, lowest, highest)
                trial_cost = self.cost(trial, self.residual(trial, columns, False)[0])
                if trial_cost < cost:
                    break
                damping = max(damping * 10, 1e-2)
            else:
                return p, cost
            gain, p, cost, damping = cost - trial_cost, trial, trial_cost, damping / 5
            if gain < least:
                break
            residual, slopes = self.residual(p, columns, True)
        return p, cost

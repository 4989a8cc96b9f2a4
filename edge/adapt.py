"""Refit the last layer of a network to the tiles of a few fields, and judge that on fields left out. Pure.

Theory of operation
-------------------
The parent's logits over its temperature are an offset; what is fitted is a correction, linear in the features
before the last layer (along their principal axes, ``Z``)::

    logits(b) = parent(b) / T  +  Z @ D  +  c        minimise  sum_frames cross-entropy + strength / 2 |D|^2

so that a strong pull leaves the parent as it is, and a weak one is softmax regression anew. The cross-entropy
is convex. Labels are soft, a Gaussian about the true defocus; each frame weighs
the same, however many tiles it has.

A stage (or camera) the other way round turns the signs of all defocus. Then the parent's own logits in
reverse order are the better offset; whichever of the two makes the tiles more likely is taken.

Each field is left out in turn, for each strength; the strength whose frames left out are the most likely is
taken, and temperature and tile weight are those that make them so. The figures before and after are of the
same frames; strength and calibration, three numbers, were chosen on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.estimate import TOLERANCE_DOF, estimate, surprise
from edge.head import Head
from edge.model import combine, log_softmax

__all__ = [
    "STRENGTHS",
    "Adaptation",
    "Calibration",
    "Tiles",
    "adapt",
    "calibrate",
    "figures",
    "frame_errors",
    "not_better",
]

Array = NDArray[np.float64]

#: Pulls towards the parent that are tried, the strongest first: each fit begins where the last one ended.
STRENGTHS = (300.0, 60.0, 12.0, 2.5, 0.5)
#: Standard deviation of a label, in widths of a bin ...
LABEL_SIGMA_BINS = 0.5
#: ... and at least in distances between planes: bins that lie between two planes are learned, too.
LABEL_SIGMA_PLANES = 0.4
#: The features are taken along the axes of their greatest variance, so many at most.
MOST_AXES = 64
#: A field left out is worse where its mean error is so many times what it was ...
FIELD_MARGIN = 1.1
#: ... and of so many fields one may be.
FIELDS_TO_ONE_WORSE = 5
_ITERATIONS = 100
_BIAS_PULL = 1e-3
_ROWS = 64
_TEMPERATURES = tuple(float(t) for t in np.geomspace(0.4, 4, 25))
_WEIGHTS = tuple(float(w) for w in np.linspace(0.02, 1.0, 25))


@dataclass(frozen=True)
class Tiles:
    """Tiles with their truth, N of them.

    ``features`` ``(N, F)`` float32; ``logits`` ``(N, B)`` float32, the parent's; ``truth`` ``(N,)`` float64,
    signed defocus in the bins' unit; ``dof``, ``apart`` ``(N,)`` float64, one depth of field and the distance
    from plane to plane in that unit; ``frame`` and ``field`` ``(N,)`` int64 group numbers; ``judged``
    ``(N,)`` bool: among the tiles that a look would take.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    truth: Array
    dof: Array
    apart: Array
    frame: NDArray[np.int64]
    field: NDArray[np.int64]
    judged: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.truth)

    def at(self, index: NDArray[np.bool_]) -> Tiles:
        """Some of them."""
        return Tiles(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Calibration:
    """``temperature`` (above 0) and ``tile_weight`` (above 0, to 1) as in a model's card."""

    temperature: float
    tile_weight: float


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` found. ``before``, ``after``: `figures` of the frames left out; ``reason``: why it is not
    better than the parent, empty where it is.
    """

    head: Head
    calibration: Calibration
    strength: float
    before: dict[str, float]
    after: dict[str, float]
    reason: str


@dataclass(frozen=True)
class _Correction:
    """``weights`` ``(F, B)`` of the features as they are, ``bias`` ``(B,)``; of logits over temperature."""

    weights: Array
    bias: Array

    def of(self, features: NDArray[np.float32]) -> Array:
        return features.astype(np.float64) @ self.weights + self.bias


def adapt(
    tiles: Tiles, centres: Array, parent: Calibration, *, progress: Callable[[], None] = lambda: None
) -> Adaptation:
    """Fit, choose and judge, as the module says. ``tiles`` of two fields or more; ``centres`` ``(B,)`` rise.

    Blocks for seconds to minutes; ``progress`` is called after each of the fits, of which there are
    ``len(STRENGTHS)`` times one more than fields.
    """
    mirrored = _mirrored(tiles, centres, parent)
    offset = tiles.logits.astype(np.float64)[:, :: -1 if mirrored else 1] / parent.temperature
    left_out = _left_out(tiles, offset, centres, progress)
    calibrations = {strength: calibrate(of, tiles, centres) for strength, of in left_out.items()}
    strength = min(STRENGTHS, key=lambda s: frame_surprise(left_out[s], tiles, centres, calibrations[s]))
    whole = _path(tiles, offset, centres, progress)[STRENGTHS.index(strength)]
    chosen = calibrations[strength]
    before = frame_errors(tiles.logits.astype(np.float64), tiles, centres, parent)
    after = frame_errors(left_out[strength], tiles, centres, chosen)
    fields = tiles.field[_frames(left_out[strength], tiles, chosen)[1]]
    weights, bias = ((of * parent.temperature).astype(np.float32) for of in (whole.weights, whole.bias))
    return Adaptation(
        Head.of(weights, bias, mirrored=mirrored),
        replace(chosen, temperature=chosen.temperature * parent.temperature),
        strength,
        figures(*before),
        figures(*after),
        not_better(before, after, fields),
    )


def _left_out(
    tiles: Tiles, offset: Array, centres: Array, progress: Callable[[], None]
) -> dict[float, Array]:
    """Logits over temperature ``(N, B)`` by strength, each tile's from a fit without its field."""
    out = {strength: offset.copy() for strength in STRENGTHS}
    for field in np.unique(tiles.field):
        own = tiles.field == field
        path = _path(tiles.at(~own), offset[~own], centres, progress)
        for strength, found in zip(STRENGTHS, path, strict=True):
            out[strength][own] += found.of(tiles.features[own])
    return out


def _mirrored(tiles: Tiles, centres: Array, parent: Calibration) -> bool:
    """Whether the parent's logits in reverse order of the bins fit the tiles better; needs even bins."""
    if not np.allclose(centres, -centres[::-1]):
        return False
    logits = tiles.logits.astype(np.float64) / parent.temperature
    truth = np.clip(tiles.truth, centres[0], centres[-1])
    as_is, turned = (surprise(log_softmax(of), centres, truth) for of in (logits, logits[:, ::-1]))
    return turned < as_is


def _path(tiles: Tiles, offset: Array, centres: Array, progress: Callable[[], None]) -> list[_Correction]:
    """The correction of each of `STRENGTHS`; ``offset`` ``(N, B)``."""
    labels = _labels(tiles.truth, centres, tiles.apart)
    _, frame, counts = np.unique(tiles.frame, return_inverse=True, return_counts=True)
    weight = 1 / counts[frame]
    mean, axes = _principal(tiles.features)
    inputs = np.concatenate([(tiles.features - mean) @ axes, np.ones((len(tiles), 1))], axis=1)
    correction = np.zeros((inputs.shape[1], len(centres)))
    found = []
    for strength in STRENGTHS:
        correction = _fit(inputs, offset, labels, weight, strength, correction)
        weights = axes @ correction[:-1]
        found.append(_Correction(weights, correction[-1] - mean @ weights))
        progress()
    return found


def _principal(features: NDArray[np.float32]) -> tuple[Array, Array]:
    """Mean ``(F,)`` of ``features`` ``(N, F)``, and the axes ``(F, K)`` along which they vary most.

    All axes have one length, which brings the mean variance of all features to 1: those that hardly vary are
    not blown up.
    """
    own = features.astype(np.float64)
    mean = own.mean(axis=0)
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(own - mean, rowvar=False)))
    unit = math.sqrt(max(float(variance.sum()) / len(variance), 1e-12))
    return mean, axes[:, ::-1][:, :MOST_AXES] / unit


def _fit(inputs: Array, offset: Array, labels: Array, weight: Array, strength: float, start: Array) -> Array:
    """The correction ``(I, B)`` of ``inputs`` ``(N, I)``, the last of which is 1, from ``start``.

    Least of cross-entropy (rows weigh ``weight`` ``(N,)``) and pull; the bias is all but free. The
    second derivatives are nowhere above ``X^T W X / 2`` (Böhning, Ann. Inst. Stat. Math. 44, 1992), so a step
    by that bound never overshoots and needs no search along it. Nesterov's momentum, begun anew where it
    points uphill (O'Donoghue & Candès, Found. Comput. Math. 15, 2015).
    """
    pull = np.full(inputs.shape[1], strength)
    pull[-1] = _BIAS_PULL
    step = np.linalg.inv(0.5 * inputs.T @ (weight[:, None] * inputs) + np.diag(pull))
    at = ahead = start
    momentum = 1.0
    for _ in range(_ITERATIONS):
        slope = _slope(inputs, offset, labels, weight, ahead) + pull[:, None] * ahead
        last, at = at, ahead - step @ slope
        if float((slope * (at - last)).sum()) > 0:
            momentum = 1.0
        after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = at + (momentum - 1) / after * (at - last)
        momentum = after
    return at


def _slope(inputs: Array, offset: Array, labels: Array, weight: Array, correction: Array) -> Array:
    """Of the cross-entropy in ``correction``, of the same shape.

    In blocks so small that the linear algebra wakes no second thread for them: where other work runs beside,
    threads that wait for one another cost ten times what they bring.
    """
    out = np.zeros_like(correction)
    for first in range(0, len(inputs), _ROWS):
        rows = slice(first, first + _ROWS)
        p = np.exp(log_softmax(offset[rows] + inputs[rows] @ correction))
        out += inputs[rows].T @ (weight[rows, None] * (p - labels[rows]))
    return out


def _labels(truth: Array, centres: Array, apart: Array) -> Array:
    """``(N, B)`` label distributions; a truth beyond the outermost bins counts as those."""
    clipped = np.clip(truth, centres[0], centres[-1])
    sigma = np.maximum(LABEL_SIGMA_BINS * float(np.diff(centres).max()), LABEL_SIGMA_PLANES * apart)
    weights = np.exp(-0.5 * ((centres[None] - clipped[:, None]) / sigma[:, None]) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def calibrate(logits: Array, tiles: Tiles, centres: Array) -> Calibration:
    """Temperature and tile weight that make the judged tiles and frames most likely, each the best of 25."""
    own = tiles.at(tiles.judged)
    judged = logits[tiles.judged]
    truth = np.clip(own.truth, centres[0], centres[-1])
    temperature = min(_TEMPERATURES, key=lambda t: surprise(log_softmax(judged / t), centres, truth))
    weighed = (Calibration(temperature, weight) for weight in _WEIGHTS)
    return min(weighed, key=lambda of: frame_surprise(logits, tiles, centres, of))


def _frames(logits: Array, tiles: Tiles, calibration: Calibration) -> tuple[Array, NDArray[np.intp]]:
    """Log-probabilities ``(M, B)`` of each frame, from its judged tiles, and the first tile of each."""
    judged = np.flatnonzero(tiles.judged)
    log_p = log_softmax(logits[judged] / calibration.temperature)
    _, first, counts = np.unique(tiles.frame[judged], return_index=True, return_counts=True)
    order = np.argsort(tiles.frame[judged], kind="stable")
    members = np.split(order, np.cumsum(counts)[:-1])
    joint = np.stack([combine(log_p[of], calibration.tile_weight) for of in members])
    return joint, judged[first]


def frame_surprise(logits: Array, tiles: Tiles, centres: Array, calibration: Calibration) -> float:
    """`edge.estimate.surprise` of the frames of ``logits`` ``(N, B)``."""
    joint, first = _frames(logits, tiles, calibration)
    return surprise(joint, centres, np.clip(tiles.truth[first], centres[0], centres[-1]))


def frame_errors(
    logits: Array, tiles: Tiles, centres: Array, calibration: Calibration
) -> tuple[Array, Array]:
    """Estimated and true defocus ``(M,)`` of each frame in dof, from ``logits`` ``(N, B)``."""
    joint, first = _frames(logits, tiles, calibration)
    dof = tiles.dof[first]
    guess, _ = estimate(joint, centres, TOLERANCE_DOF * float(np.median(dof)))
    return guess / dof, np.clip(tiles.truth[first], centres[0], centres[-1]) / dof


def _wrong_way(guess: Array, truth: Array) -> NDArray[np.bool_]:
    return np.asarray((np.sign(guess) != np.sign(truth)) & (np.abs(truth) >= 1))


def figures(guess: Array, truth: Array) -> dict[str, float]:
    """Of frames ``(M,)`` in dof: ``median_dof``, ``mae_dof`` (error), ``wrong_direction`` (share at |defocus|
    of 1 dof or more whose sign is wrong; 0 where there is none), ``n``.
    """
    error, far = np.abs(guess - truth), np.abs(truth) >= 1
    return {
        "median_dof": float(np.median(error)),
        "mae_dof": float(error.mean()),
        "wrong_direction": float(_wrong_way(guess, truth)[far].mean()) if far.any() else 0.0,
        "n": float(len(truth)),
    }


def not_better(before: tuple[Array, Array], after: tuple[Array, Array], field: NDArray[np.int64]) -> str:
    """Why ``after`` is not better than ``before``, both estimates and truths of the same frames; else empty.

    The median error must fall, no more frames turn to the wrong direction than chance would have, and the
    mean error of no field (``field`` ``(M,)``) rise by more than chance, but of one in `FIELDS_TO_ONE_WORSE`.
    """
    medians = [figures(*of)["median_dof"] for of in (before, after)]
    if not medians[1] < medians[0]:
        return f"median error {medians[0]:.2f} depths of field before, {medians[1]:.2f} after"
    was, became = (_wrong_way(*of) for of in (before, after))
    lost, won = int((became & ~was).sum()), int((was & ~became).sum())
    if lost - won > math.sqrt(lost + won):
        return f"wrong direction in {was.sum()} of {len(was)} frames before, in {became.sum()} after"
    numbers = np.unique(field)
    means = [
        tuple(float(np.abs(guess - truth)[field == number].mean()) for guess, truth in (before, after))
        for number in numbers
    ]
    worse = [of for of in means if of[1] > FIELD_MARGIN * of[0]]
    if len(worse) > len(numbers) // FIELDS_TO_ONE_WORSE:
        was_dof, became_dof = max(worse, key=lambda of: of[1] - of[0])
        return (
            f"{len(worse)} of {len(numbers)} fields are worse, one with a mean error of {was_dof:.2f} depths"
            f" of field before, {became_dof:.2f} after"
        )
    return ""

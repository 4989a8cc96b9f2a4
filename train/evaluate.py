"""Held-out figures of a model, for tiles and for whole frames. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import Model, combine, log_softmax
from train.synthetic import TileData

Array = NDArray[np.float64]

#: A prediction's confidence is the probability within this of it.
TOLERANCE_DOF = 1.0
_TILES_AT_ONCE = 256


@dataclass(frozen=True)
class Predictions:
    """What a model said and what was so.

    ``log_p`` ``(N, bins)`` log-probabilities; ``truth_dof`` ``(N,)``, clipped to the outermost bins;
    ``centres_dof`` ``(bins,)``, evenly spaced; ``kind`` ``(N,)`` as in `TileData`.
    """

    log_p: Array
    truth_dof: Array
    centres_dof: Array
    kind: NDArray[np.int16]


def infer(model: Model, data: TileData, *, progress: Callable[[float], None] | None = None) -> Array:
    """Logits ``(N, bins)`` float64 of every tile. Blocks; ``progress`` is told the tiles done since."""
    parts = [np.zeros((0, len(model.bin_centres)), np.float32)]
    for start in range(0, len(data), _TILES_AT_ONCE):
        pixels = data.pixels[start : start + _TILES_AT_ONCE].astype(np.float32) / np.float32(127)
        parts.append(model.infer(pixels)[0])
        if progress is not None:
            progress(len(pixels))
    return np.concatenate(parts).astype(np.float64)


def of_tiles(logits: Array, data: TileData, centres: Array, temperature: float) -> Predictions:
    """Each tile by itself."""
    truth = np.clip(data.defocus_dof.astype(np.float64), centres[0], centres[-1])
    return Predictions(log_softmax(logits / temperature), truth, centres, data.kind)


def of_frames(
    logits: Array, data: TileData, centres: Array, temperature: float, tile_weight: float
) -> Predictions:
    """The tiles of each frame combined, as on the device."""
    log_p = log_softmax(logits / temperature)
    _, first, counts = np.unique(data.frame, return_index=True, return_counts=True)
    members = np.split(np.argsort(data.frame, kind="stable"), np.cumsum(counts)[:-1])
    joint = np.stack([combine(log_p[of], tile_weight) for of in members])
    truth = np.clip(data.defocus_dof[first].astype(np.float64), centres[0], centres[-1])
    return Predictions(joint, truth, centres, data.kind[first])


def estimate(log_p: Array, centres: Array) -> tuple[Array, Array]:
    """Defocus ``(N,)`` in dof, the mean about the best window, and the probability near it, both float64.

    The window is as wide as the tolerance, so two distant peaks give one of them, never the middle.
    """
    p = np.exp(log_p)
    half = max(1, round(TOLERANCE_DOF / (centres[1] - centres[0])))
    padded = np.pad(p, ((0, 0), (half, half)))
    window = np.stack([padded[:, k : k + p.shape[1]] for k in range(2 * half + 1)]).sum(axis=0)
    best = window.argmax(axis=1)
    near = np.abs(np.arange(p.shape[1])[None] - best[:, None]) <= half
    weight = np.where(near, p, 0)
    guess = (weight * centres).sum(axis=1) / weight.sum(axis=1)
    within = np.where(np.abs(centres[None] - guess[:, None]) <= TOLERANCE_DOF + 1e-9, p, 0).sum(axis=1)
    return guess, np.minimum(within, 1.0)


def figures(predictions: Predictions) -> dict[str, float]:
    """What `parfocal evaluate` prints. Errors in dof.

    ``mae_dof``, ``median_dof``, ``p95_dof``, ``median_dof_within_3``, ``median_abs_dof_within_3`` (error of
    |defocus|), ``wrong_direction`` (share at |defocus| ≥ 1 dof whose sign is wrong), ``ece`` (see
    `expected_calibration_error`), ``n``. A figure that nothing counts towards is 0.
    """
    truth = predictions.truth_dof
    guess, confidence = estimate(predictions.log_p, predictions.centres_dof)
    error = np.abs(guess - truth)
    near, far = np.abs(truth) <= 3, np.abs(truth) >= 1
    return {
        "mae_dof": float(error.mean()),
        "median_dof": float(np.median(error)),
        "p95_dof": float(np.percentile(error, 95)),
        "median_dof_within_3": _median(error[near]),
        "median_abs_dof_within_3": _median(np.abs(np.abs(guess) - np.abs(truth))[near]),
        "wrong_direction": float((np.sign(guess) != np.sign(truth))[far].mean()) if far.any() else 0.0,
        "ece": expected_calibration_error(confidence, error <= TOLERANCE_DOF),
        "n": len(truth),
    }


def expected_calibration_error(confidence: Array, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of confidence and share of right answers over ``bins`` equal slices (Guo et al. 2017)."""
    which = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = [abs(confidence[which == k].sum() - right[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(1, len(confidence)))


def by_kind(predictions: Predictions, kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """`figures` of each kind of specimen."""
    out = {}
    for number, name in enumerate(kinds):
        of = predictions.kind == number
        if of.any():
            log_p, truth = predictions.log_p[of], predictions.truth_dof[of]
            out[name] = figures(Predictions(log_p, truth, predictions.centres_dof, predictions.kind[of]))
    return out


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0


def fit_calibration(logits: Array, data: TileData, centres: Array) -> tuple[float, float]:
    """Temperature and tile weight that make held-out data most likely.

    First the temperature on single tiles, then the weight on frames, each the best of 25 values.
    """
    truth = np.clip(data.defocus_dof.astype(np.float64), centres[0], centres[-1])
    temperatures = np.geomspace(0.4, 4, 25)
    temperature = float(min(temperatures, key=lambda t: _nll(log_softmax(logits / t), truth, centres)))
    weights = np.linspace(0.02, 1.0, 25)

    def frame_nll(weight: float) -> float:
        frames = of_frames(logits, data, centres, temperature, weight)
        return _nll(frames.log_p, frames.truth_dof, centres)

    return temperature, float(min(weights, key=frame_nll))


def _nll(log_p: Array, truth: Array, centres: Array) -> float:
    """Mean negative log-probability at the truth, interpolated between bins, floored as in `edge.belief`."""
    position = (truth - centres[0]) / (centres[1] - centres[0])
    low = np.clip(position.astype(int), 0, len(centres) - 2)
    share = position - low
    rows = np.arange(len(truth))
    p = np.exp(log_p)
    value = p[rows, low] * (1 - share) + p[rows, low + 1] * share
    return float(-np.log(0.98 * value + 0.02 / len(centres)).mean())

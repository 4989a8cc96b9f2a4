"""Held-out figures of a model, for tiles and for whole frames. Needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.model import Model, combine, log_softmax
from train.synthetic import TileData

Array = NDArray[np.float64]

#: A prediction's confidence is the probability within this of it.
TOLERANCE_DOF = 1.0


@dataclass(frozen=True)
class Predictions:
    """Log-probabilities ``(N, bins)`` with the truth ``(N,)`` in dof, clipped to the outermost bins."""

    log_p: Array
    truth_dof: Array
    centres_dof: Array
    kind: NDArray[np.int16]


def infer(model: Model, data: TileData) -> Array:
    """Logits ``(N, bins)`` float64 of every tile."""
    parts = [model.infer(data.pixels[k : k + 256].astype(np.float32) / np.float32(127))[0] for k in range(0, len(data), 256)]
    return np.concatenate(parts).astype(np.float64)


def of_tiles(logits: Array, data: TileData, centres: Array, temperature: float) -> Predictions:
    """Each tile by itself."""
    truth = np.clip(data.defocus_dof.astype(np.float64), centres[0], centres[-1])
    return Predictions(log_softmax(logits / temperature), truth, centres, data.kind)


def of_frames(logits: Array, data: TileData, centres: Array, temperature: float, tile_weight: float) -> Predictions:
    """The tiles of each frame combined, as on the device."""
    log_p = log_softmax(logits / temperature)
    frames, first = np.unique(data.frame, return_index=True)
    joint = np.stack([combine(log_p[data.frame == f], tile_weight) for f in frames])
    truth = np.clip(data.defocus_dof[first].astype(np.float64), centres[0], centres[-1])
    return Predictions(joint, truth, centres, data.kind[first])


def estimate(log_p: Array, centres: Array) -> tuple[Array, Array]:
    """Defocus ``(N,)`` in dof, the mean about the best window, and the probability ``(N,)`` within the tolerance of it."""
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
    """``mae_dof``, ``median_dof``, ``p95_dof``, ``median_dof_within_3``, ``median_abs_dof_within_3`` (error of
    |defocus|), ``wrong_direction`` (share at |defocus| ≥ 1 dof whose sign is wrong), ``ece``, ``n``."""
    truth = predictions.truth_dof
    guess, confidence = estimate(predictions.log_p, predictions.centres_dof)
    error = np.abs(guess - truth)
    near, far = np.abs(truth) <= 3, np.abs(truth) >= 1
    out = {
        "mae_dof": float(error.mean()),
        "median_dof": float(np.median(error)),
        "p95_dof": float(np.percentile(error, 95)),
        "median_dof_within_3": _median(error[near]),
        "median_abs_dof_within_3": _median(np.abs(np.abs(guess) - np.abs(truth))[near]),
        "wrong_direction": float((np.sign(guess) != np.sign(truth))[far].mean()) if far.any() else 0.0,
        "ece": expected_calibration_error(confidence, error <= TOLERANCE_DOF),
        "n": float(len(truth)),
    }
    return out


def expected_calibration_error(confidence: Array, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of confidence and share of right answers over ``bins`` equal slices (Guo et al. 2017)."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == k].sum() - right[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(1, len(confidence)))


def by_kind(predictions: Predictions, kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """`figures` of each kind of specimen."""
    out = {}
    for number, name in enumerate(kinds):
        of = predictions.kind == number
        if of.any():
            part = Predictions(predictions.log_p[of], predictions.truth_dof[of], predictions.centres_dof, predictions.kind[of])
            out[name] = figures(part)
    return out


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0


def fit_calibration(logits: Array, data: TileData, centres: Array) -> tuple[float, float]:
    """Temperature and tile weight that make held-out frames most likely (a grid of each, then finer).

    First the temperature on single tiles, then the weight on frames.
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
    """Mean negative log-probability density at the truth, interpolated between the bins, floored as the belief does."""
    position = (truth - centres[0]) / (centres[1] - centres[0])
    low = np.clip(position.astype(int), 0, len(centres) - 2)
    share = position - low
    rows = np.arange(len(truth))
    p = np.exp(log_p)
    value = p[rows, low] * (1 - share) + p[rows, low + 1] * share
    return float(-np.log(0.98 * value + 0.02 / len(centres)).mean())

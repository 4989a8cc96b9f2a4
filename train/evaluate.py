"""Held-out figures of a model, for tiles and for whole frames. Needs no TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.belief import OUTLIER_SHARE
from edge.estimate import TOLERANCE_DOF, at_truth, between, estimate, surprise
from edge.model import Model, combine, log_softmax
from train.labels import Bins
from train.tile_data import TileData, floats

Array = NDArray[np.float64]

#: Tiles of one frame err together: a cautious weight where it cannot be fitted.
UNFITTED_TILE_WEIGHT = 0.1
#: A credible interval of this mass is asked to hold the truth as often.
INTERVAL = 0.9
#: Bands of |defocus| in dof; the last reaches beyond the outermost bins.
DISTANCES = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.5)
_TILES_AT_ONCE, _FINER = 256, 10


@dataclass(frozen=True)
class Predictions:
    """What a model said and what was so, tile by tile or frame by frame.

    ``log_p`` ``(N, B)`` log-probabilities over ``bins``; ``truth`` ``(N,)`` in the bins' unit, clipped to the
    outermost bins; ``dof`` ``(N,)``: one depth of field in the bins' unit; ``in_um``: whether µm are known;
    ``dof_um`` ``(N,)`` then one depth of field in µm; ``kind`` ``(N,)`` as in `TileData`; ``first`` ``(N,)``:
    the index of (the first of) its tiles.
    """

    log_p: Array
    truth: Array
    bins: Bins
    dof: Array
    dof_um: Array | None
    kind: NDArray[np.int16]
    first: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.truth)

    def at(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Predictions:
        """Some of them."""
        um = None if self.dof_um is None else self.dof_um[index]
        return replace(
            self, log_p=self.log_p[index], truth=self.truth[index], dof=self.dof[index], dof_um=um,
            kind=self.kind[index], first=self.first[index],
        )  # fmt: skip

    def estimates(self) -> tuple[Array, Array]:
        """`estimate` of each: signed defocus in the bins' unit, and the probability of being within 1 dof."""
        return estimate(self.log_p, self.bins.centres, TOLERANCE_DOF * float(np.median(self.dof)))

    def right_class(self) -> NDArray[np.bool_]:
        """``(N,)``: whether the most probable bin is that of the truth."""
        return np.asarray(self.log_p.argmax(axis=1) == self.bins.classes(self.truth))


def infer(model: Model, data: TileData, *, progress: Callable[[float], None] | None = None) -> Array:
    """Logits ``(N, bins)`` float64 of every tile. Blocks; ``progress`` is told the tiles done since."""
    parts = [np.zeros((0, len(model.bin_centres)), np.float32)]
    for start in range(0, len(data), _TILES_AT_ONCE):
        pixels = floats(data.pixels[start : start + _TILES_AT_ONCE])
        parts.append(model.infer(pixels)[0])
        if progress is not None:
            progress(len(pixels))
    return np.concatenate(parts).astype(np.float64)


def of_tiles(logits: Array, data: TileData, bins: Bins, temperature: float) -> Predictions:
    """Each tile by itself."""
    return _predictions(log_softmax(logits / temperature), data, bins, np.arange(len(data)))


def of_frames(
    logits: Array, data: TileData, bins: Bins, temperature: float, tile_weight: float
) -> Predictions:
    """The tiles of each frame combined, as on the device."""
    log_p = log_softmax(logits / temperature)
    _, first, counts = np.unique(data.frame, return_index=True, return_counts=True)
    members = np.split(np.argsort(data.frame, kind="stable"), np.cumsum(counts)[:-1])
    joint = np.stack([combine(log_p[of], tile_weight) for of in members])
    return _predictions(joint, data, bins, first)


def _predictions(log_p: Array, data: TileData, bins: Bins, first: NDArray[np.intp]) -> Predictions:
    truth = np.clip(data.truth(bins.unit)[first], bins.centres[0], bins.centres[-1])
    dof_um = None if data.dof_um is None else data.dof_um[first]
    return Predictions(log_p, truth, bins, data.dof_in(bins.unit)[first], dof_um, data.kind[first], first)


def likelier(log_p: Array, centres: Array, truth: Array) -> Array:
    """Mass of the places likelier than the truth, ``(N,)``: spread evenly over 0 to 1 where beliefs are true.

    The smallest credible region of mass m holds the truth where this is at most m. Between bins, and for the
    frames that say nothing true, as `edge.belief` has it.
    """
    p = np.exp(log_p)
    p = (1 - OUTLIER_SHARE) * p + OUTLIER_SHARE / p.shape[1]
    likely = at_truth(p, centres, truth)
    fine = np.linspace(centres[0], centres[-1], _FINER * (len(centres) - 1) + 1)
    low, share = between(centres, fine)
    dense = p[:, low] * (1 - share) + p[:, low + 1] * share
    return np.asarray(np.where(dense > likely[:, None], dense, 0).sum(axis=1) / dense.sum(axis=1))


def figures(predictions: Predictions) -> dict[str, float]:
    """What `parfocal evaluate` prints. Errors in dof, and in µm where µm are known.

    ``accuracy`` (share whose most probable bin is the true one), ``mae_dof``, ``mae_um``, ``median_dof``,
    ``p95_dof``, ``median_dof_within_3``, ``median_abs_dof_within_3`` (error of |defocus|),
    ``wrong_direction`` (share at |defocus| ≥ 1 dof whose sign is wrong), ``ece`` (see
    `expected_calibration_error`), ``interval_90`` (share whose 90 % credible region holds the truth), ``n``.
    A figure that nothing counts towards is 0.
    """
    dof = predictions.dof
    guess, confidence = predictions.estimates()
    guess, truth = guess / dof, predictions.truth / dof
    error = np.abs(guess - truth)
    near, far = np.abs(truth) <= 3, np.abs(truth) >= 1
    out = {
        "accuracy": float(predictions.right_class().mean()),
        "mae_dof": float(error.mean()),
        "median_dof": float(np.median(error)),
        "p95_dof": float(np.percentile(error, 95)),
        "median_dof_within_3": _median(error[near]),
        "median_abs_dof_within_3": _median(np.abs(np.abs(guess) - np.abs(truth))[near]),
        "wrong_direction": float((np.sign(guess) != np.sign(truth))[far].mean()) if far.any() else 0.0,
        "ece": expected_calibration_error(confidence, error <= TOLERANCE_DOF),
        "interval_90": float(
            (likelier(predictions.log_p, predictions.bins.centres, predictions.truth) <= INTERVAL).mean()
        ),
        "n": len(truth),
    }
    return out if predictions.dof_um is None else out | {"mae_um": float((error * predictions.dof_um).mean())}


def expected_calibration_error(confidence: Array, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean distance of confidence and share of right answers over ``bins`` equal slices (Guo et al. 2017)."""
    which = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = [abs(confidence[which == k].sum() - right[which == k].sum()) for k in range(bins)]
    return float(sum(gaps) / max(1, len(confidence)))


def by_kind(predictions: Predictions, kinds: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """`figures` of each kind of specimen, the one of largest mean error first."""
    shares = {name: predictions.kind == number for number, name in enumerate(kinds)}
    found = {name: figures(predictions.at(of)) for name, of in shares.items() if of.any()}
    return dict(sorted(found.items(), key=lambda item: -item[1]["mae_dof"]))


def by_distance(predictions: Predictions) -> list[dict[str, float]]:
    """``from``, ``to`` (|defocus| in dof), ``n``, ``median_dof`` (error), ``wrong_direction`` of bands."""
    guess = predictions.estimates()[0] / predictions.dof
    truth = predictions.truth / predictions.dof
    error, wrong = np.abs(guess - truth), np.sign(guess) != np.sign(truth)
    out = []
    for low, high in itertools.pairwise(DISTANCES):
        band = (np.abs(truth) >= low) & (np.abs(truth) < high)
        if band.any():
            shares = {
                "median_dof": float(np.median(error[band])),
                "wrong_direction": float(wrong[band].mean()),
            }
            out.append({"from": low, "to": high, "n": int(band.sum()), **shares})
    return out


def reliability(predictions: Predictions, slices: int = 10) -> list[dict[str, float]]:
    """``confidence`` (mean), ``right`` (share within `TOLERANCE_DOF`), ``n`` of each slice of confidence."""
    guess, confidence = predictions.estimates()
    right = np.abs(guess - predictions.truth) / predictions.dof <= TOLERANCE_DOF
    which = np.clip((confidence * slices).astype(int), 0, slices - 1)
    return [
        {"confidence": float(confidence[of].mean()), "right": float(right[of].mean()), "n": int(of.sum())}
        for of in (which == k for k in range(slices))
        if of.any()
    ]


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0


def fit_calibration(logits: Array, data: TileData, bins: Bins) -> tuple[float, float]:
    """Temperature and tile weight that make held-out data most likely.

    First the temperature on single tiles, then the weight on frames, each the best of 25 values. Where no
    frame has two tiles nothing tells the weight, and it is `UNFITTED_TILE_WEIGHT`.
    """
    temperatures = np.geomspace(0.4, 4, 25)
    temperature = float(min(temperatures, key=lambda t: _nll(of_tiles(logits, data, bins, float(t)))))
    if len(np.unique(data.frame)) == len(data):
        return temperature, UNFITTED_TILE_WEIGHT
    weights = np.linspace(0.02, 1.0, 25)
    weight = min(weights, key=lambda w: _nll(of_frames(logits, data, bins, temperature, float(w))))
    return temperature, float(weight)


def _nll(predictions: Predictions) -> float:
    return surprise(predictions.log_p, predictions.bins.centres, predictions.truth)

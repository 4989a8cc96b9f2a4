"""A trained network judged: what it says of every held-out tile, and of every image.

An image is one frame: its tiles are put together as on the device, with the temperature and the tile weight
that make the validation side most likely. The test side takes no part in that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.progress import Bar
from train import evaluate, saved_network
from train.evaluate import Array, Predictions
from train.labels import Bins, bins_of
from train.run_folder import Run
from train.tile_data import TileData


@dataclass(frozen=True)
class Side:
    """One held-out set: its tiles, what is predicted for each, and for each image.

    ``tiles_per_image`` ``(images,)``.
    """

    data: TileData
    tiles: Predictions
    images: Predictions
    tiles_per_image: NDArray[np.intp]

    @property
    def beyond(self) -> int:
        """Images whose truth lies outside the outermost bins; each counts as if it lay in the last one."""
        centres = self.images.bins.centres
        low, high = 1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]
        truth = self.data.truth(self.images.bins.unit)[self.images.first]
        return int(((truth < low - 1e-6) | (truth > high + 1e-6)).sum())


@dataclass(frozen=True)
class Judged:
    """``sides``: ``val``, ``test`` and any further test sets, by name."""

    bins: Bins
    temperature: float
    tile_weight: float
    sides: dict[str, Side]

    @property
    def test(self) -> Side:
        """The test side of the split."""
        return self.sides["test"]

    @property
    def weight_was_fitted(self) -> bool:
        """Whether any validation image has several tiles; else nothing tells how to weigh them."""
        return bool((self.sides["val"].tiles_per_image > 1).any())


def held_out(run: Run) -> dict[str, TileData]:
    """The tiles to judge on: ``val``, ``test``, and further test sets."""
    return {"val": run.val, **run.tests}


def predict(run: Run, network: Any) -> dict[str, Array]:
    """Logits of the Keras ``network`` for each of `held_out`, with a progress bar. Blocks.

    Raises InputError, before anything else, for labels in µm where those are not known.
    """
    data = held_out(run)
    for of in data.values():
        of.truth(bins_of(run.recipe.network).unit)
    with Bar("tiles", sum(len(of) for of in data.values())) as bar:
        return {name: saved_network.logits_of(network, of, progress=bar.advance) for name, of in data.items()}


def judge(run: Run, logits: Mapping[str, Array]) -> Judged:
    """Calibrate on the logits of ``val``, and predict every side. Raises InputError as `predict`."""
    bins, data = bins_of(run.recipe.network), held_out(run)
    temperature, weight = evaluate.fit_calibration(logits["val"], run.val, bins)
    sides = {name: side_of(logits[name], data[name], bins, temperature, weight) for name in data}
    return Judged(bins, temperature, weight, sides)


def side_of(logits: Array, data: TileData, bins: Bins, temperature: float, tile_weight: float) -> Side:
    """Predictions for the tiles of ``data`` and for its images, from ``logits`` ``(N, bins)``."""
    return Side(
        data,
        evaluate.of_tiles(logits, data, bins, temperature),
        evaluate.of_frames(logits, data, bins, temperature, tile_weight),
        np.unique(data.frame, return_counts=True)[1],
    )

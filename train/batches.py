"""Batches for fitting: shuffled, augmented, and made ahead of time by threads.

The order and every augmentation depend on seed, epoch and index alone, so that a run that was killed goes on
as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from train.labels import bins_of, label_rows
from train.recipe import Recipe
from train.tile_data import TileData, floats

Array = NDArray[np.float32]
Batch = tuple[Array, Array]
_AHEAD, _THREADS = 6, 2


class Batches:
    """Batches of ``(N, S, S, 3)`` float32 tiles and ``(N, bins)`` float32 labels.

    ``train``: shuffled and augmented. ``share``: (rank, of) of a machine among several, which takes every
    ``of``-th tile of each batch. ``lesson``: what teachers say of each tile (`train.teacher`).
    """

    def __init__(
        self,
        data: TileData,
        recipe: Recipe,
        seed: int,
        *,
        train: bool,
        share: tuple[int, int] = (0, 1),
        lesson: Array | None = None,
    ) -> None:
        self._data, self._recipe, self._seed, self._train = data, recipe, seed, train
        self._rank, self._of = share
        bins = bins_of(recipe.network)
        self._labels = label_rows(data.truth(bins.unit), bins, recipe.fit, data.dof_in(bins.unit))
        if lesson is not None:
            self._labels += np.float32(recipe.fit.teacher_share) * (lesson - self._labels)

    def __len__(self) -> int:
        """Batches in an epoch; on several machines without a last partial one, which some may lack."""
        count, batch = len(self._data), self._recipe.fit.batch
        return max(1, count // batch) if self._train and self._of > 1 else math.ceil(count / batch)

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch ``index`` of ``epoch``, both from 0."""
        size = self._recipe.fit.batch
        order = self._order(epoch)[index * size : (index + 1) * size][self._rank :: self._of]
        x = floats(self._data.pixels[order])
        if self._train:
            rng = np.random.default_rng((self._seed, epoch, index, self._rank))
            x = augmented(x, rng, self._recipe)
        return x, self._labels[order]

    def epoch(self, epoch: int, clock: Waiting) -> Iterator[Batch]:
        """The batches of an epoch, the next ones made while one is used. ``clock`` counts the waiting."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="batches") as threads:
            ahead: deque[Future[Batch]] = deque()
            for index in range(len(self)):
                while len(ahead) < _AHEAD and index + len(ahead) < len(self):
                    ahead.append(threads.submit(self.batch, epoch, index + len(ahead)))
                started = time.perf_counter()
                made = ahead.popleft().result()
                clock.seconds += time.perf_counter() - started
                yield made

    def _order(self, epoch: int) -> NDArray[np.intp]:
        if not self._train:
            return np.arange(len(self._data))
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._data))


@dataclass
class Waiting:
    """Seconds spent waiting for data."""

    seconds: float = 0.0


def augmented(x: Array, rng: np.random.Generator, recipe: Recipe) -> Array:
    """``x`` as the recipe's ``augment`` says: a new array, or ``x`` itself for ``none``."""
    fit = recipe.fit
    if fit.augment == "none":
        return x
    if fit.augment == "paper":
        return paper_augmented(x, rng)
    return augment(x, rng, flips=bool(fit.flips))


def augment(x: Array, rng: np.random.Generator, *, flips: bool) -> Array:
    """Other contrast, colour balance, tone curve and noise for ``(N, S, S, 3)`` float32 tiles; new, -1 to 1.

    Nothing here changes the defocus: no zoom, no blur. Flips and quarter turns only where ``flips``.
    """
    count = len(x)
    gain = rng.uniform(0.75, 1.25, (count, 1, 1, 1)) * rng.uniform(0.9, 1.1, (count, 1, 1, 3))
    x = x * gain.astype(np.float32)
    # A tile has lost its background, so of another gamma only the curvature of the tone curve is left.
    curve = rng.uniform(-0.3, 0.3, (count, 1, 1, 1)).astype(np.float32)
    square = np.square(x)
    x += curve * (square - square.mean(axis=(1, 2), keepdims=True))
    noisy = np.flatnonzero(rng.random(count) < 0.25)
    x[noisy] += np.float32(rng.uniform(0.01, 0.06)) * rng.standard_normal(x[noisy].shape, dtype=np.float32)
    if flips:
        quarters, mirrored = rng.integers(0, 4, count), rng.random(count) < 0.5
        for k in range(count):
            turned = np.rot90(x[k], int(quarters[k]))
            x[k] = (turned[::-1] if mirrored[k] else turned).copy()
    return np.clip(x, -1, 1)


def paper_augmented(x: Array, rng: np.random.Generator) -> Array:
    """Flips, zoom and rotation, as the paper names them; their spans (20 %, 20°) are ours.

    ``(N, S, S, 3)`` float32, a new array; what comes from outside is mirrored. Zoom changes how a defocus
    looks, and turning where the light comes from: that is the paper's recipe, not ours.
    """
    out = np.empty_like(x)
    size = x.shape[1]
    for k, tile in enumerate(x):
        matrix = cv2.getRotationMatrix2D(
            ((size - 1) / 2, (size - 1) / 2), rng.uniform(-20, 20), rng.uniform(0.8, 1.2)
        )
        turned = np.asarray(
            cv2.warpAffine(
                tile, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
        )
        turned = turned[:, ::-1] if rng.random() < 0.5 else turned
        out[k] = turned[::-1] if rng.random() < 0.5 else turned
    return out

"""Fitting: tiles in, weights and a log out. Keras 3; the truth is a soft ordinal label over the bins."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.files import atomic_write_text
from train.network import bin_centres_dof
from train.recipe import Fit, Network, Recipe
from train.synthetic import TileData

Array = NDArray[np.float32]


def soft_labels(defocus_dof: Array, network: Network, fit: Fit) -> Array:
    """``(N, bins)`` float32: a Gaussian about the truth, wider far from focus, where an error matters less.

    Truths beyond the outermost bins count as those bins ("at least this far").
    """
    centres = bin_centres_dof(network)
    clipped = np.clip(defocus_dof, centres[0], centres[-1])[:, None]
    sigma = fit.label_sigma_dof + fit.label_sigma_slope * np.abs(clipped)
    weights = np.exp(-0.5 * ((centres[None] - clipped) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled, augmented batches of ``(N, S, S, 3)`` float32 tiles and ``(N, bins)`` float32 labels.

    Without ``train`` neither shuffled nor augmented.
    """

    def __init__(self, data: TileData, recipe: Recipe, seed: int, *, train: bool) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._data, self._recipe, self._train = data, recipe, train
        self._labels = soft_labels(data.defocus_dof, recipe.network, recipe.fit)
        self._seed, self._epoch = seed, 0
        self._order = np.arange(len(data))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._data) / self._recipe.fit.batch)

    def on_epoch_end(self) -> None:
        """Shuffle anew; the order depends on seed and epoch alone."""
        if self._train:
            self._order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._data))
        self._epoch += 1

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        batch = self._recipe.fit.batch
        chosen = self._order[index * batch : (index + 1) * batch]
        x = self._data.pixels[chosen].astype(np.float32) / np.float32(127)
        if self._train:
            rng = np.random.default_rng((self._seed, self._epoch, index))
            x = augment(x, rng, flips=self._recipe.fit.flips)
        return x, self._labels[chosen]


def augment(x: Array, rng: np.random.Generator, *, flips: bool) -> Array:
    """Other contrast, colour balance and noise for ``(N, S, S, 3)`` float32 tiles; a new array, -1 to 1.

    Nothing here changes the defocus. Flips and quarter turns only where ``flips``.
    """
    count = len(x)
    gain = rng.uniform(0.75, 1.25, (count, 1, 1, 1)) * rng.uniform(0.9, 1.1, (count, 1, 1, 3))
    x = x * gain.astype(np.float32)
    noisy = np.flatnonzero(rng.random(count) < 0.25)
    x[noisy] += np.float32(rng.uniform(0.01, 0.06)) * rng.standard_normal(x[noisy].shape, dtype=np.float32)
    if flips:
        quarters, mirrored = rng.integers(0, 4, count), rng.random(count) < 0.5
        for k in range(count):
            turned = np.rot90(x[k], int(quarters[k]))
            x[k] = (turned[::-1] if mirrored[k] else turned).copy()
    return np.clip(x, -1, 1)


def fit(
    model: keras.Model,
    train: TileData,
    val: TileData,
    recipe: Recipe,
    run: Path,
    *,
    seed: int,
    verbose: int = 2,
) -> None:
    """Train ``model`` in place and keep its best epoch. Blocks, for hours where the data is large.

    ``run``, a folder that exists, gets ``log.csv``, ``best.weights.h5`` and ``model.keras``. ``verbose`` as
    in Keras. Raises InputError when the loss diverges.
    """
    settings = recipe.fit
    batches = Batches(train, recipe, seed, train=True)
    steps = len(batches) * settings.epochs
    warmup = max(1, round(settings.warmup_share * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 20,
        max(1, steps - warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # The features are an output for the device, not something to fit; the layers are shared.
    trained = keras.Model(model.input, model.output["logits"])
    trained.compile(
        optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["categorical_accuracy"],
    )
    best = run / "best.weights.h5"
    callbacks = [
        keras.callbacks.CSVLogger(str(run / "log.csv")),
        keras.callbacks.ModelCheckpoint(
            str(best), monitor="val_loss", mode="min", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.TerminateOnNaN(),
    ]
    validation = Batches(val, recipe, seed, train=False)
    history = trained.fit(
        batches, validation_data=validation, epochs=settings.epochs, callbacks=callbacks, verbose=verbose
    )
    if not np.isfinite([*history.history["loss"], *history.history["val_loss"]]).all():
        raise InputError(
            f"the loss diverged: a [fit] learning_rate below {settings.learning_rate:g} is needed"
        )
    trained.load_weights(best)
    model.save(run / "model.keras")


def calibration_tiles(data: TileData, count: int, bins: int, seed: int) -> NDArray[np.int8]:
    """``(about count, S, S, 3)`` int8 tiles, the same number from each of ``bins`` slices of defocus."""
    rng = np.random.default_rng(seed)
    low, high = float(data.defocus_dof.min()), float(data.defocus_dof.max())
    which = np.clip(np.digitize(data.defocus_dof, np.linspace(low, high + 1e-6, bins + 1)) - 1, 0, bins - 1)
    picks: list[NDArray[np.intp]] = []
    for k in range(bins):
        members = np.flatnonzero(which == k)
        picks.append(rng.permutation(members)[: math.ceil(count / bins)])
    return data.pixels[np.concatenate(picks)]


def write_json(path: Path, value: object) -> None:
    """Write ``value`` atomically, keys in the order given."""
    atomic_write_text(path, json.dumps(value, indent=1, default=float) + "\n")

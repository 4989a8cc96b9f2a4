"""Fitting: tiles in, weights and a log out. Keras 3 on TensorFlow, JAX or PyTorch, one machine or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.model import log_softmax
from train.batches import Batches, Waiting
from train.checkpoint import Keeper, Row
from train.cluster import Cluster, ClusterSteps
from train.evaluate import figures, of_tiles
from train.labels import bins_of
from train.recipe import Fit, Recipe
from train.tile_data import TileData

Array = NDArray[np.float32]


class _Steps(Protocol):
    def train(self, x: Array, y: Array) -> tuple[float, float]: ...

    def logits(self, x: Array) -> Array: ...


class _OwnSteps:
    """Steps of a compiled model on this machine."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def train(self, x: Array, y: Array) -> tuple[float, float]:
        # Keras' running means start anew, so that these are the batch's own.
        self._model.reset_metrics()
        found = self._model.train_on_batch(x, y, return_dict=True)
        return float(found["loss"]), float(found["categorical_accuracy"])

    def logits(self, x: Array) -> Array:
        return np.asarray(self._model.predict_on_batch(x), np.float32)


class Fitting:
    """A model with its optimizer, ready to be fitted to ``train`` and judged on ``val`` after each epoch.

    ``model`` is `train.network.build`'s, made in the cluster's scope. ``lesson`` ``(N, bins)``: what teachers
    say of the training tiles. Nothing is computed or written yet.
    """

    def __init__(
        self,
        model: keras.Model,
        train: TileData,
        val: TileData,
        recipe: Recipe,
        *,
        seed: int,
        cluster: Cluster | None = None,
        lesson: Array | None = None,
    ) -> None:
        self._recipe, self._val, self._cluster = recipe, val, cluster or Cluster()
        share = (self._cluster.rank, self._cluster.size)
        self._batches = Batches(train, recipe, seed, train=True, share=share, lesson=lesson)
        self._held_out = Batches(val, recipe, seed, train=False)
        with self._cluster.scope():
            # The features are an output for the device, not something to fit; the layers are shared.
            self.model = keras.Model(model.input, model.output["logits"])
            self.optimizer = optimizer(recipe.fit, len(self._batches))
            self.optimizer.build(self.model.trainable_variables)
        self._steps: _Steps
        if self._cluster.strategy is None:
            self.model.compile(
                self.optimizer,
                loss=keras.losses.CategoricalCrossentropy(from_logits=True),
                metrics=["categorical_accuracy"],
            )
            self._steps = _OwnSteps(self.model)
        else:
            self._steps = ClusterSteps(self._cluster, self.model, self.optimizer)

    def run(
        self,
        folder: Path,
        identity: str,
        *,
        resume: bool = False,
        on_epoch: Callable[[Row], None] = lambda row: None,
        on_batch: Callable[[int, int], None] = lambda done, of: None,
    ) -> list[Row]:
        """Fit until the epochs are done or patience ends, and leave the best epoch in the model.

        After every epoch ``folder`` holds a checkpoint and ``log.csv``, written by the chief alone; with
        ``resume`` the run goes on from there. Blocks, for hours where the data is large. Raises InputError
        when the loss diverges, the disk is full, or the checkpoint is of another run.
        """
        keeper = Keeper(folder, self.model, self.optimizer, identity)
        rows = keeper.restore() if resume else []
        settings = self._recipe.fit
        while len(rows) < settings.epochs and not _tired(rows, settings.patience):
            row = self._epoch(len(rows), on_batch)
            if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
                raise InputError(
                    f"the loss diverged: a [fit] learning_rate below {settings.learning_rate:g} is needed"
                )
            rows.append(row)
            if self._cluster.chief:
                keeper.save(rows)
            on_epoch(row)
        if self._cluster.chief:
            keeper.best()
        return rows

    def _epoch(self, epoch: int, on_batch: Callable[[int, int], None]) -> Row:
        started, waiting = time.perf_counter(), Waiting()
        losses: list[tuple[float, float]] = []
        for x, y in self._batches.epoch(epoch, waiting):
            losses.append(self._steps.train(x, y))
            on_batch(len(losses), len(self._batches))
            if not math.isfinite(losses[-1][0]):
                break
        seconds = time.perf_counter() - started
        loss, accuracy = np.mean(losses, axis=0).tolist()
        size = self._recipe.fit.batch
        return {
            "epoch": epoch,
            "loss": loss,
            "accuracy": accuracy,
            **self._judged(),
            "learning_rate": float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
            "seconds": seconds,
            "images_per_s": len(losses) * size / seconds,
            "wait_share": waiting.seconds / seconds,
        }

    def _judged(self) -> Row:
        """Validation: the loss, and accuracy and error of single tiles."""
        parts = [self._held_out.batch(0, k) for k in range(len(self._held_out))]
        logits = np.concatenate([self._steps.logits(x) for x, _ in parts]).astype(np.float64)
        labels = np.concatenate([y for _, y in parts])
        loss = float(-(labels * log_softmax(logits)).sum(axis=1).mean())
        if not math.isfinite(loss):
            return {"val_loss": loss, "val_accuracy": 0.0, "val_mae_dof": math.nan}
        found = figures(of_tiles(logits, self._val, bins_of(self._recipe.network), 1.0))
        return {"val_loss": loss, "val_accuracy": found["accuracy"], "val_mae_dof": found["mae_dof"]}


def _tired(rows: list[Row], patience: int) -> bool:
    losses = [row["val_loss"] for row in rows]
    return bool(patience and losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def optimizer(settings: Fit, batches: int) -> Any:
    """AdamW for epochs of so many ``batches``, at the rate that ``settings`` say."""
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        steps = batches * settings.epochs
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
    return optimizer


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

"""Run folders made by hand: tiles whose defocus is plain to see, and a network that reads it untrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train import tile_data
from train.labels import Bins, bins_of
from train.recipe import Network, Recipe, parse_recipe
from train.run_folder import write_json, write_log
from train.tile_data import TileData

TILE_PX = 32
DOF_UM = 0.978
GROUPS = {"train": {"s1": "a", "s2": "b"}, "val": {"s3": "c"}, "test": {"s4": "d", "s5": "e"}}
_RAMP = np.linspace(-1, 1, TILE_PX)


def recipe(name: str = "tiny", **network: Any) -> Recipe:
    """Small tiles and the paper's 41 classes; then ``network``."""
    keys = {"tile_px": TILE_PX, "labels": "jiang41", "input": "raw", "tiles_per_frame": 4}
    return parse_recipe({"name": name, "network": keys | network, "fit": {"epochs": 3}}, source="tiny")


def ramps(
    defocus_um: Sequence[float], *, tiles: int = 1, kinds: tuple[str, ...] = ("s4", "s5"), in_um: bool = True
) -> TileData:
    """``tiles`` tiles of each image, each a ramp from left to right whose slope is its defocus over 13 µm."""
    um = np.repeat(np.asarray(defocus_um, np.float64), tiles)
    count = len(um)
    pixels = (um / 13)[:, None, None, None] * np.ones((1, TILE_PX, 1, 3)) * _RAMP[None, None, :, None]
    frame = np.repeat(np.arange(len(defocus_um)), tiles).astype(np.int32)
    return TileData(
        tile_data.stored(pixels.astype(np.float32)),
        (um / DOF_UM).astype(np.float32),
        frame,
        frame,
        (frame % len(kinds)).astype(np.int16),
        kinds,
        um if in_um else None,
        np.full(count, DOF_UM) if in_um else None,
    )


def spread(count: int, *, seed: int = 0, reach_um: float = 12.0) -> list[float]:
    """Defoci in µm, evenly over the range, shuffled."""
    rng = np.random.default_rng(seed)
    return [float(um) for um in rng.permutation(np.linspace(-reach_um, reach_um, count))]


def reader(network: Network, *, mistake_um: float = 0.0, sharpness: float = 2.0) -> Any:
    """A Keras network that reads a ramp's slope exactly, but for ``mistake_um``.

    Its logits are ``-sharpness * (centre - defocus)²`` up to a constant, which a linear layer gives. Its
    parameters are (32 + 1) * 1 + (1 + 1) * bins, and so are its multiply-adds but for the biases.
    """
    import keras

    bins = bins_of(network)
    per_um = 1.0 if bins.unit == "um" else 1 / DOF_UM
    size = (network.tile_px, network.tile_px, 3)
    inputs = keras.layers.Input(size)
    columns = keras.layers.AveragePooling2D((network.tile_px, 1))(inputs)
    red = keras.layers.Conv2D(1, 1, use_bias=False, name="grey")(columns)
    slope = keras.layers.Dense(1, name="features")(keras.layers.Flatten()(red))
    logits = keras.layers.Dense(len(bins), name="logits")(slope)
    model = keras.Model(inputs, {"logits": logits, "features": slope})
    model.get_layer("grey").set_weights([np.full((1, 1, 3, 1), 1 / 3, np.float32)])
    kernel = (13 * per_um * _RAMP / (_RAMP**2).sum()).astype(np.float32)[:, None]
    model.get_layer("features").set_weights([kernel, np.array([mistake_um * per_um], np.float32)])
    centres = bins.centres.astype(np.float32)
    model.get_layer("logits").set_weights([2 * sharpness * centres[None], -sharpness * centres**2])
    return model


def logits_at(guesses: Sequence[float], bins: Bins, sharpness: float = 40.0) -> NDArray[np.float64]:
    """Logits ``(N, B)`` that peak at each guess, in the bins' unit."""
    return np.asarray(-sharpness * (bins.centres[None] - np.asarray(guesses)[:, None]) ** 2)


def write_run(
    folder: Path,
    *,
    recipe: Recipe,
    val: TileData,
    test: TileData,
    network: Any = None,
    more: Mapping[str, TileData] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    weights: str = "imagenet",
    log: Sequence[Mapping[str, float]] = (),
    counts: Mapping[str, int] | None = None,
) -> Path:
    """A finished run folder; without ``network`` it has no model.keras. Returns ``folder``."""
    folder.mkdir(parents=True)
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    split = {"by": "slide", "seed": 1, "groups": GROUPS if groups is None else groups}
    write_json(folder / "split.json", split)
    np.save(folder / "calibration.npy", test.pixels[:64])
    for name, data in {"val": val, "test": test, **(more or {})}.items():
        tile_data.save(folder / f"{name}.npz", data)
    if log:
        write_log(folder, [dict(row) for row in log])
    if network is not None:
        network.save(folder / "model.keras")
    record = {
        "sources": ["jiang"],
        "weights": weights,
        "seed": 7,
        "finished": "2026-01-02T03:04:05",
        "counts": {"train": 30} if counts is None else dict(counts),
        "wait_share": 0.125,
    }
    write_json(folder / "run.json", record)
    return folder


def log_rows(epochs: int, *, start: float = 3.7) -> list[dict[str, float]]:
    """A log as `parfocal train` writes it; the validation loss is lowest at the last but one epoch."""
    rows = []
    for k in range(1, epochs + 1):
        fallen = start * float(np.exp(-0.15 * k))
        rows.append(
            {
                "epoch": k - 1, "loss": fallen, "accuracy": 0.5 - fallen / 8,
                "val_loss": 1 + fallen + (0.4 if k == epochs else 0), "val_accuracy": 0.42 - fallen / 9,
                "val_mae_dof": fallen, "learning_rate": 1e-3, "seconds": 60.0, "images_per_s": 100.0,
                "wait_share": 0.1,
            }
        )  # fmt: skip
    return rows

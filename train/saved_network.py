"""The network of a run folder: opened safely, held against the recipe, run over tiles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, one_line
from train import options
from train.labels import bins_of
from train.recipe import Network
from train.tile_data import TileData, floats

_FILE = "model.keras"
#: VGG16 keeps 100 MB of activations for each eight tiles of 224 x 224.
_TILES_AT_ONCE = 32
# What Keras lets through from zipfile, h5py and its own reading of the configuration.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    ImportError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(folder: Path, recipe: Network) -> Any:
    """The Keras model in the run ``folder``, whose shapes are those of ``recipe``. Imports Keras.

    Raises InputError where there is none, it is damaged, or its input or logits have other shapes.
    """
    path = folder / _FILE
    if not path.is_file():
        raise InputError(f"{folder}: no {_FILE} in it; is it a folder that `parfocal train` wrote?")
    return load_file(path, recipe)


def load_file(path: Path, recipe: Network) -> Any:
    """The Keras model in ``path``, whose shapes are those of ``recipe``. Imports Keras; raises InputError."""
    options.require_keras()
    import keras

    try:
        # Keras does not look at the checksums of the weights.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        network = keras.saving.load_model(path, compile=False)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable Keras model: {one_line(error)}") from error
    outputs = network.output if isinstance(network.output, dict) else {}
    found = tuple(network.input_shape[1:]), outputs["logits"].shape[-1] if "logits" in outputs else None
    wanted = (recipe.tile_px, recipe.tile_px, 3), len(bins_of(recipe))
    if found != wanted:
        raise InputError(
            f"{path}: input {found[0]}, {found[1]} logits: the recipe asks for {wanted[0]} and {wanted[1]}"
        )
    return network


def logits_of(
    network: Any, data: TileData, *, progress: Callable[[float], None] | None = None
) -> NDArray[np.float64]:
    """Logits ``(N, bins)`` float64 of every tile. Blocks; ``progress`` is told the tiles done since."""
    parts = []
    for start in range(0, len(data), _TILES_AT_ONCE):
        pixels = floats(data.pixels[start : start + _TILES_AT_ONCE])
        parts.append(np.asarray(network.predict_on_batch(pixels)["logits"], np.float64))
        if progress is not None:
            progress(len(pixels))
    return np.concatenate(parts)

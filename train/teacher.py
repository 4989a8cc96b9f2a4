"""Trained networks as teachers: what they say of a tile is part of its label.

A tile's truth is one number, but a tile alone does not tell it: of many alike some lie here and some there.
What a network says that has seen many is nearer to what can be known (Hinton et al., Distilling the knowledge
in a neural network, 2015), so that each tile teaches more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError
from edge.model import log_softmax
from train import saved_network
from train.recipe import Recipe
from train.tile_data import TileData


def check(files: Sequence[Path], recipe: Recipe) -> None:
    """Raise InputError for a missing file, teachers without a share of the label, and a share alone."""
    share = recipe.fit.teacher_share
    if files and share == 0:
        raise InputError("--teacher: [fit] teacher_share is 0 in this recipe: above 0, to 1, is needed")
    if share and not files:
        raise InputError(
            f"[fit] teacher_share = {share:g}: --teacher with the model.keras of a run is needed"
        )
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file; --teacher needs the model.keras of a run")


def lesson(
    teachers: Sequence[Any], data: TileData, *, progress: Callable[[float], None] | None = None
) -> NDArray[np.float32]:
    """What Keras models, at least one, say of each tile: ``(N, bins)`` probabilities, their geometric mean.

    The tiles are as they were stored, not augmented. Blocks for minutes; ``progress`` is told the tiles done
    since.
    """
    said = [log_softmax(saved_network.logits_of(teacher, data, progress=progress)) for teacher in teachers]
    return np.asarray(np.exp(log_softmax(np.mean(said, axis=0))), np.float32)

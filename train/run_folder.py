"""The run folder: fit a network and leave everything that convert, evaluate and a reader of next year need.

recipe.json        the recipe as it was used
split.json         counts and a hash of each split
calibration.npy    int8 tiles spread over defocus, to quantize with
val.npz, test.npz  held-out tiles with their truth
log.csv            the loss of every epoch
model.keras        the network at its best epoch
run.json           sources, weights, seed, versions; written last: a folder without it did not finish
"""

from __future__ import annotations

import datetime
import hashlib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from train import data as datasets
from train.fit import calibration_tiles, fit, write_json
from train.recipe import Recipe
from train.synthetic import Split, TileData

CALIBRATION_TILES = 400


def write(
    out: Path,
    model: keras.Model,
    splits: dict[Split, TileData],
    recipe: Recipe,
    *,
    sources: Sequence[str],
    weights: str,
    seed: int,
) -> None:
    """Fit ``model`` and fill the folder ``out``, made where it is not there. Blocks while training."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    write_json(out / "split.json", {name: summary(data) for name, data in splits.items()})
    np.save(out / "calibration.npy", calibration_tiles(splits["train"], CALIBRATION_TILES, 20, seed))
    for name in ("val", "test"):
        datasets.save(out / f"{name}.npz", splits[name])
    # A bar on a terminal, a line an epoch in a log.
    verbose = 1 if sys.stdout.isatty() else 2
    fit(model, splits["train"], splits["val"], recipe, out, seed=seed, verbose=verbose)
    write_json(
        out / "run.json",
        {
            "recipe": recipe.name,
            "sources": list(sources),
            "weights": Path(weights).name,
            "seed": seed,
            "parameters": model.count_params(),
            "finished": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "python": platform.python_version(),
            "keras": keras.version(),
            "backend": keras.backend.backend(),
        },
    )
    (out / "best.weights.h5").unlink(missing_ok=True)


def summary(data: TileData) -> dict[str, object]:
    """Counts and a hash of one split, so that a later run can tell whether it saw the same tiles."""
    digest = hashlib.sha256(data.defocus_dof.tobytes() + data.field.tobytes())
    digest.update(np.ascontiguousarray(data.pixels[:: max(1, len(data) // 64)]).tobytes())
    return {
        "fields": len(np.unique(data.field)),
        "frames": len(np.unique(data.frame)),
        "tiles": len(data),
        "kinds": {name: int((data.kind == k).sum()) for k, name in enumerate(data.kinds)},
        "sha256": digest.hexdigest(),
    }

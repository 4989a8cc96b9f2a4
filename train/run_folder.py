"""The run folder: what a training run leaves for convert, report, evaluate and a reader of next year.

recipe.json        the recipe as it was used
split.json         which groups are on which side, with a hash of each
data.json, .png    what each side holds
calibration.npy    int8 tiles spread over defocus, to quantize with
val.npz, test.npz  held-out tiles with their truth; further test sets as test_<name>.npz
log.csv            every epoch
checkpoint.npz     the last epoch, to resume from; best.npz the best one; both gone once the run is finished
model.keras        the network at its best epoch
run.json           sources, weights, seed, versions; written last: a folder without it did not finish
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from edge.errors import InputError, one_line
from edge.files import atomic_write_bytes, atomic_write_text
from train import tile_data
from train.arrays import read_npy
from train.recipe import Recipe, parse_recipe
from train.tile_data import TileData

CALIBRATION_TILES = 400
#: What a run goes on from while it is not finished.
TO_RESUME = ("checkpoint.npz", "best.npz")
_UNFINISHED = "did the training run finish?"


class Record(BaseModel):
    """``run.json``: where a run came from and what it took."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    sources: tuple[str, ...]
    """DATA of the command line."""
    weights: str
    """Where it started from."""
    seed: int
    finished: str
    """Date, ISO 8601."""
    parameters: int = 0
    counts: dict[str, int] = {}
    """Frames of each side: ``train``, ``val``, ``test`` and further test sets."""
    pixels_per_resolution: float | None = None
    """Sampling of the tiles in pixels per λ/NA, where it is the same for all and not `edge.optics`'."""
    wait_share: float | None = None
    """Share of the training time spent waiting for data."""


@dataclass(frozen=True)
class Run:
    """A run folder as read, but for the network."""

    folder: Path
    recipe: Recipe
    record: Record
    calibration: NDArray[np.int8]
    val: TileData
    tests: dict[str, TileData]
    """``test``, and further test sets by their names."""
    groups: dict[str, tuple[str, ...]]
    """The groups (slides, else fields) of ``train``, ``val``, ``test``; empty for synthetic data."""
    log: tuple[dict[str, float], ...]
    """A row for each epoch, keyed by the header of log.csv."""

    @property
    def test(self) -> TileData:
        """The test side of the split."""
        return self.tests["test"]


def read_run(folder: Path) -> Run:
    """Read everything but the network, and see that it fits together. Raises InputError naming the file."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    try:
        record = Record.model_validate_json(json.dumps(read_json(folder / "run.json")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / 'run.json'}: {where}: {one_line(first['msg'])}") from error
    recipe = parse_recipe(read_json(folder / "recipe.json"), source=str(folder / "recipe.json"))
    tile_px = recipe.network.tile_px
    calibration = read_npy(folder / "calibration.npy", f"readable calibration tiles; {_UNFINISHED}")
    wanted = (len(calibration) if calibration.ndim else 0, tile_px, tile_px, 3)
    if calibration.shape != wanted or calibration.dtype != np.int8 or wanted[0] == 0:
        raise InputError(f"{folder / 'calibration.npy'}: int8 tiles of {tile_px} x {tile_px} are needed")
    val = tile_data.load(folder / "val.npz", tile_px=tile_px)
    names = ["test", *sorted(path.stem for path in folder.glob("test_*.npz"))]
    tests = {name: tile_data.load(folder / f"{name}.npz", tile_px=tile_px) for name in names}
    return Run(folder, recipe, record, calibration, val, tests, _groups(folder), read_log(folder))


def read_json(path: Path, *, otherwise: str = _UNFINISHED) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError where there is none; ``otherwise`` ends its line."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be read: {why}; {otherwise}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)}; {otherwise}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not an object; {otherwise}")
    return value


def write_json(path: Path, value: object) -> None:
    """Write ``value`` atomically, keys in the order given."""
    atomic_write_text(path, json.dumps(value, indent=1, default=float) + "\n")


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an ``.npz`` atomically: what was there stays whole where the disk is full (OSError)."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write_bytes(path, buffer.getvalue())


def read_log(folder: Path) -> tuple[dict[str, float], ...]:
    """The rows of ``log.csv``, empty where there is none. Raises InputError where it is damaged."""
    path = folder / "log.csv"
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple({key: float(value) for key, value in row.items()} for row in csv.DictReader(file))
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable log: {one_line(error)}") from error


def write_log(folder: Path, rows: list[dict[str, float]]) -> None:
    """Write ``log.csv`` anew, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(folder / "log.csv", text.getvalue())


def _groups(folder: Path) -> dict[str, tuple[str, ...]]:
    groups = read_json(folder / "split.json").get("groups")
    if not isinstance(groups, dict):
        return {}
    return {str(side): tuple(str(name) for name in names) for side, names in groups.items()}


def summary(data: TileData) -> dict[str, object]:
    """Counts and a hash of one side, so that a later run can tell whether it saw the same tiles."""
    digest = hashlib.sha256(data.defocus_dof.tobytes() + data.field.tobytes())
    digest.update(np.ascontiguousarray(data.pixels[:: max(1, len(data) // 64)]).tobytes())
    return {
        "fields": len(np.unique(data.field)),
        "frames": len(np.unique(data.frame)),
        "tiles": len(data),
        "kinds": {name: int((data.kind == k).sum()) for k, name in enumerate(data.kinds)},
        "sha256": digest.hexdigest(),
    }

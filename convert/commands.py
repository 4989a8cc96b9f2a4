"""`parfocal convert`: run folder in, one verified int8 .tflite with its card out."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from edge import card as cards
from edge import model as models
from edge.errors import InputError, one_line
from edge.files import atomic_write_bytes
from edge.optics import PIXELS_PER_RESOLUTION
from edge.progress import Bar
from train import data as datasets
from train import evaluate
from train.arrays import read_npy
from train.recipe import Recipe, parse_recipe
from train.synthetic import TileData

_TILES_COMPARED = 1500
_UNFINISHED = "did the training run finish?"


class Record(BaseModel):
    """What the card takes from ``run.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    sources: tuple[str, ...]
    """DATA of the command line."""
    weights: str
    """Where it started from."""
    seed: int
    finished: str
    """Date, ISO 8601."""


@dataclass(frozen=True)
class Run:
    """A run folder as read, but for the network."""

    recipe: Recipe
    record: Record
    calibration: NDArray[np.int8]
    val: TileData
    test: TileData


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parfocal convert``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `parfocal train` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.tflite")


def run(name: str, args: argparse.Namespace) -> int:
    """Convert, verify, calibrate, write. Raises InputError or ModelError; then nothing is written."""
    out: Path = args.out
    if not out.parent.is_dir():
        raise InputError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; the name of a file is needed")
    read = read_run(args.run)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    data, metrics = convert(read, args.run, name=str(out))
    atomic_write_bytes(out, data)
    card = models.load(out).card
    fitted = f"temperature {card.temperature:.2f}, tile weight {card.tile_weight:.2f}"
    print(f"{out}: {len(data) / 1000:.0f} kB, {fitted}")
    for kind, row in metrics.items():
        print(f"  {kind:5}", *(f"{key} {value:.3f}" for key, value in row.items()))
    return 0


def read_run(folder: Path) -> Run:
    """Read everything but the network, and see that it fits together. Raises InputError naming the file."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder")
    try:
        record = Record.model_validate_json(json.dumps(_read_json(folder / "run.json")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / 'run.json'}: {where}: {one_line(first['msg'])}") from error
    recipe = parse_recipe(_read_json(folder / "recipe.json"), source=str(folder / "recipe.json"))
    tile_px = recipe.network.tile_px
    calibration = read_npy(folder / "calibration.npy", f"readable calibration tiles; {_UNFINISHED}")
    wanted = (len(calibration) if calibration.ndim else 0, tile_px, tile_px, 3)
    if calibration.shape != wanted or calibration.dtype != np.int8 or wanted[0] == 0:
        raise InputError(f"{folder / 'calibration.npy'}: int8 tiles of {tile_px} x {tile_px} are needed")
    val, test = (datasets.load(folder / f"{name}.npz", tile_px=tile_px) for name in ("val", "test"))
    return Run(recipe, record, calibration, val, test)


def convert(read: Run, folder: Path, *, name: str) -> tuple[bytes, dict[str, dict[str, float]]]:
    """The bytes of the model file and the held-out figures in its card. Blocks for minutes, writes nothing.

    ``name`` is what errors call the file. Raises InputError for an unreadable network, ModelError where the
    result is not integer all through or too far from the float network.
    """
    from convert import quantize, verify  # TensorFlow: only now, when everything else was right
    from train.network import bin_centres_dof

    centres = bin_centres_dof(read.recipe.network)
    network = quantize.load_keras(folder)
    flatbuffer, reference = (quantize.to_tflite(network, sample) for sample in (read.calibration, None))
    verify.check_integer(flatbuffer)
    card = _card(flatbuffer, read, centres)
    int8 = models.Model(flatbuffer, card, name=name)
    float32 = models.Model(reference, card, name="float reference")
    part = _first(read.val, _TILES_COMPARED)
    with Bar("tiles", len(read.val) + len(part) + 2 * len(read.test)) as bar:
        val_logits = evaluate.infer(int8, read.val, progress=bar.advance)
        part_logits = evaluate.infer(float32, part, progress=bar.advance)
        apart = verify.difference(val_logits[: len(part)], part_logits, centres)
        test_logits = {
            kind: evaluate.infer(model, read.test, progress=bar.advance)
            for kind, model in (("float", float32), ("int8", int8))
        }
    temperature, weight = evaluate.fit_calibration(val_logits, read.val, centres)
    metrics = {
        kind: _metrics(logits, read.test, centres, temperature, weight)
        for kind, logits in test_logits.items()
    }
    metrics["int8"] |= {"median_from_float_dof": apart.median_dof, "p95_from_float_dof": apart.p95_dof}
    fitted = {"temperature": temperature, "tile_weight": weight, "metrics": metrics}
    return cards.attach(flatbuffer, card.model_copy(update=fitted)), metrics


def _card(flatbuffer: bytes, read: Run, centres: NDArray[np.float64]) -> cards.Card:
    record, network = read.record, read.recipe.network
    return cards.Card(
        schema_version=cards.SCHEMA,
        name=read.recipe.name,
        tile_px=network.tile_px,
        pixels_per_resolution=PIXELS_PER_RESOLUTION,
        bin_centres=tuple(centres.tolist()),
        unit="dof",
        temperature=1.0,
        tile_weight=1.0,
        trained_on=f"{', '.join(record.sources)} (seed {record.seed}), starting from {record.weights}",
        trained_at=record.finished,
        recipe=read.recipe.model_dump(mode="json"),
        metrics={},
        flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest(),
    )


def _metrics(
    logits: evaluate.Array, data: TileData, centres: evaluate.Array, temperature: float, weight: float
) -> dict[str, float]:
    tiles = evaluate.figures(evaluate.of_tiles(logits, data, centres, temperature))
    frames = evaluate.figures(evaluate.of_frames(logits, data, centres, temperature, weight))
    return {f"tile_{k}": v for k, v in tiles.items()} | {f"frame_{k}": v for k, v in frames.items()}


def _first(data: TileData, count: int) -> TileData:
    k = slice(count)
    return TileData(
        data.pixels[k], data.defocus_dof[k], data.frame[k], data.field[k], data.kind[k], data.kinds
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read; {_UNFINISHED}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not an object; {_UNFINISHED}")
    return value

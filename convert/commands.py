"""`parfocal convert`: run folder in, one verified int8 .tflite with its card out."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np

from edge import card as cards
from edge import model as models
from edge.errors import InputError
from edge.files import atomic_write_bytes
from edge.optics import PIXELS_PER_RESOLUTION
from edge.progress import Bar
from train import evaluate, saved_network
from train.labels import Bins, bins_of
from train.run_folder import Run, read_run
from train.tile_data import TileData

_TILES_COMPARED = 1500


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
    data, metrics = convert(read, name=str(out))
    atomic_write_bytes(out, data)
    card = models.load(out).card
    fitted = f"temperature {card.temperature:.2f}, tile weight {card.tile_weight:.2f}"
    print(f"{out}: {len(data) / 1000:.0f} kB, {fitted}")
    for kind, row in metrics.items():
        print(f"  {kind:5}", *(f"{key} {value:.3f}" for key, value in row.items()))
    return 0


def convert(read: Run, *, name: str) -> tuple[bytes, dict[str, dict[str, float]]]:
    """The bytes of the model file and the held-out figures in its card. Blocks for minutes, writes nothing.

    ``name`` is what errors call the file. Raises InputError for an unreadable network, ModelError where the
    result is not integer all through or too far from the float network.
    """
    from convert import quantize, verify  # TensorFlow: only now, when everything else was right

    bins = bins_of(read.recipe.network)
    network = saved_network.load(read.folder, read.recipe.network)
    flatbuffer, reference = (quantize.to_tflite(network, sample) for sample in (read.calibration, None))
    verify.check_integer(flatbuffer)
    card = card_of(flatbuffer, read, bins)
    int8 = models.Model(flatbuffer, card, name=name)
    float32 = models.Model(reference, card, name="float reference")
    part = read.val.at(slice(_TILES_COMPARED))
    dof = float(np.median(part.dof_in(bins.unit)))
    with Bar("tiles", len(read.val) + len(part) + 2 * len(read.test)) as bar:
        val_logits = evaluate.infer(int8, read.val, progress=bar.advance)
        part_logits = evaluate.infer(float32, part, progress=bar.advance)
        apart = verify.difference(val_logits[: len(part)], part_logits, bins, dof)
        test_logits = {
            kind: evaluate.infer(model, read.test, progress=bar.advance)
            for kind, model in (("float", float32), ("int8", int8))
        }
    temperature, weight = evaluate.fit_calibration(val_logits, read.val, bins)
    metrics = {
        kind: _metrics(logits, read.test, bins, temperature, weight) for kind, logits in test_logits.items()
    }
    metrics["int8"] |= {"median_from_float_dof": apart.median_dof, "p95_from_float_dof": apart.p95_dof}
    fitted = {"temperature": temperature, "tile_weight": weight, "metrics": metrics}
    return cards.attach(flatbuffer, card.model_copy(update=fitted)), metrics


def card_of(flatbuffer: bytes, read: Run, bins: Bins) -> cards.Card:
    """The card of a run's int8 file, without what is fitted and measured later."""
    record, network = read.record, read.recipe.network
    return cards.Card(
        schema_version=cards.SCHEMA,
        name=read.recipe.name,
        tile_px=network.tile_px,
        pixels_per_resolution=record.pixels_per_resolution or PIXELS_PER_RESOLUTION,
        input=network.input,
        bin_centres=tuple(bins.centres.tolist()),
        unit=bins.unit,
        temperature=1.0,
        tile_weight=1.0,
        trained_on=f"{', '.join(record.sources)} (seed {record.seed}), starting from {record.weights}",
        trained_at=record.finished,
        recipe=read.recipe.model_dump(mode="json"),
        metrics={},
        flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest(),
    )


def _metrics(
    logits: evaluate.Array, data: TileData, bins: Bins, temperature: float, weight: float
) -> dict[str, float]:
    tiles = evaluate.figures(evaluate.of_tiles(logits, data, bins, temperature))
    frames = evaluate.figures(evaluate.of_frames(logits, data, bins, temperature, weight))
    return {f"tile_{k}": v for k, v in tiles.items()} | {f"frame_{k}": v for k, v in frames.items()}

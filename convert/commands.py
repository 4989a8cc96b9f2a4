"""`parfocal convert`: run folder in, one verified int8 .tflite with its card out."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge import card as cards
from edge import console
from edge import model as models
from edge.errors import InputError, ModelError
from edge.files import atomic_write_bytes
from edge.optics import PIXELS_PER_RESOLUTION
from edge.progress import Bar
from train import evaluate, saved_network
from train.labels import Bins, bins_of
from train.run_folder import Run, read_run
from train.tile_data import TileData

if TYPE_CHECKING:
    from convert.verify import Verified

Metrics = dict[str, dict[str, float]]

#: The mean error of int8 is to be no more than this share above that of float.
ALLOWED_LOSS = 0.05


@dataclass(frozen=True)
class Converted:
    """``content``: of the model file, card and all. ``metrics``: held-out figures, as in the card."""

    content: bytes
    card: cards.Card
    metrics: Metrics
    verified: Verified


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parfocal convert``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `parfocal train` wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FILE.tflite", help="convert, verify, and only then write")
    text = "hold this file against the network of RUN with every TFLite runtime here; write nothing"
    what.add_argument("--verify", type=Path, metavar="FILE.tflite", help=text)


def run(name: str, args: argparse.Namespace) -> int:
    """Convert or verify. Raises InputError or ModelError; then nothing is written."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return _convert(args.run, args.out) if args.verify is None else _verify(args.run, args.verify)


def _convert(folder: Path, out: Path) -> int:
    if not out.parent.is_dir():
        raise InputError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; the name of a file is needed")
    made = convert(read_run(folder), name=str(out))
    atomic_write_bytes(out, made.content)
    _print(out, made.content, made.card, made.verified)
    rows = [key for key in made.metrics["float"] if not key.endswith("_n")]
    print(f"{'held out':30} {'float':>8} {'int8':>8}")
    for key in rows:
        print(f"{key:30} {made.metrics['float'][key]:8.3f} {made.metrics['int8'][key]:8.3f}")
    loss = made.metrics["int8"]["frame_mae_dof"] / max(1e-9, made.metrics["float"]["frame_mae_dof"]) - 1
    print(f"int8 costs {100 * loss:+.1f} % of the frames' mean error")
    if loss > ALLOWED_LOSS:
        console.note(f"that is more than {100 * ALLOWED_LOSS:.0f} %: train longer, or another head")
    return 0


def _verify(folder: Path, path: Path) -> int:
    """An existing file: its card is believed for nothing but how to read its logits."""
    from convert import quantize, verify

    flatbuffer, card = cards.read(path)
    read = read_run(folder)
    wanted, bins = read.recipe.network, bins_of(read.recipe.network)
    of_run = (wanted.tile_px, wanted.input, tuple(bins.centres.tolist()), bins.unit)
    if (card.tile_px, card.input, card.bin_centres, card.unit) != of_run:
        raise ModelError(f"{path}: tiles or bins are not those of {folder}: it was made from another run")
    network = saved_network.load(folder, wanted)
    with Bar("tiles", verify.work(len(read.test))) as bar:
        reference = quantize.to_tflite(network, None)
        found = verify.verify(flatbuffer, reference, card, read.test, progress=bar.advance)
    _print(path, path.read_bytes(), card, found)
    return 0


def _print(path: Path, content: bytes, card: cards.Card, found: Verified) -> None:
    fitted = f"temperature {card.temperature:.2f}, tile weight {card.tile_weight:.2f}"
    print(f"{path}: verified, {len(content) / 1000:.0f} kB, {fitted}")
    for line in found.lines():
        print(line)


def convert(read: Run, *, name: str) -> Converted:
    """The model file of a run, its held-out figures, and what `verify` found. Blocks for minutes, writes
    nothing.

    ``name`` is what errors call the file. Raises InputError for an unreadable network, ModelError where the
    result is not integer all through or too far from the float network.
    """
    from convert import quantize, rounding, verify  # TensorFlow: only now, when everything else was right

    bins = bins_of(read.recipe.network)
    network = saved_network.load(read.folder, read.recipe.network)
    reference = quantize.to_tflite(network, None)
    with Bar("layers", len(rounding.plan(network))) as bar:
        flatbuffer = quantize.int8_of(read, network, progress=bar.advance)
    card = card_of(flatbuffer, read, bins)
    int8 = models.Model(flatbuffer, card, name=name)
    float32 = models.Model(reference, card, name="float reference")
    with Bar("tiles", verify.work(len(read.test)) + len(read.val) + 2 * len(read.test)) as bar:
        found = verify.verify(flatbuffer, reference, card, read.test, progress=bar.advance)
        val_logits = evaluate.infer(int8, read.val, progress=bar.advance)
        test_logits = {
            kind: evaluate.infer(model, read.test, progress=bar.advance)
            for kind, model in (("float", float32), ("int8", int8))
        }
    temperature, weight = evaluate.fit_calibration(val_logits, read.val, bins)
    metrics = {
        kind: _metrics(logits, read.test, bins, temperature, weight) for kind, logits in test_logits.items()
    }
    apart = next(iter(found.apart.values()))
    metrics["int8"] |= {"median_from_float_dof": apart.median_dof, "p95_from_float_dof": apart.p95_dof}
    fitted: dict[str, Any] = {"temperature": temperature, "tile_weight": weight, "metrics": metrics}
    card = msgspec.structs.replace(card, **fitted)
    return Converted(cards.attach(flatbuffer, card), card, metrics, found)


def card_of(flatbuffer: bytes, read: Run, bins: Bins) -> cards.Card:
    """The card of a run's int8 file, without what is fitted and measured later."""
    record, network = read.record, read.recipe.network
    return cards.Card(
        schema_version=cards.PLAIN_SCHEMA,
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

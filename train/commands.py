"""`parfocal data` and `parfocal evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge import console
from edge import model as models
from edge.errors import InputError
from edge.files import atomic_write_bytes
from edge.progress import Bar
from train import data as datasets
from train import data_summary, evaluate, options, pool
from train.labels import Bins, bins_of
from train.tile_data import TileData


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of command ``name``."""
    add = parser.add_argument
    if name == "data":
        options.add_data_arguments(parser, synthetic=False)
        options.add_split_arguments(parser)
        add("--plot", type=Path, metavar="FILE.png", help="draw images by defocus and by class")
    else:
        add("model", metavar="MODEL", help="a .tflite with its card, or 'default'")
        options.add_data_arguments(parser)
        runtimes = [module for module, _ in models.RUNTIMES]
        text = "judge the test side of this split (RUN/split.json) alone, and not every image of DATA"
        add("--split", type=Path, metavar="FILE", help=text)
        text = (
            "synthetic data: the same microscope for every field, or another for each; default the recipe's"
        )
        add("--optics", choices=["fixed", "random"], help=text)
        add("--runtime", choices=runtimes, help="TFLite runtime; default the best here")
        add("--scheduler", metavar="ADDRESS", help="a Dask scheduler to prepare the data on; default: here")
    add("--json", action="store_true")


def run(name: str, args: argparse.Namespace) -> int:
    """Carry out command ``name``; returns the exit code. Raises InputError for bad input."""
    return {"data": _data, "evaluate": _evaluate}[name](args)


def _data(args: argparse.Namespace) -> int:
    """What DATA holds and how it would be split, from names and tables alone."""
    recipe = options.chosen_recipe(args)
    if datasets.is_synthetic(args.data):
        raise InputError("synthetic data is made when it is trained on: RUN/data.json of a run describes it")
    found = datasets.read_collection(args.data, options.assumed(args))
    bins = bins_of(recipe.network)
    fields = {shot.field for shot in found.shots}
    few = args.split is None and 0 < len(fields) < 3
    division = None
    groups = {"all": found.shots} if few else {}
    if not few:
        division, groups = datasets.divided(found, recipe.data.seed, args.split)
    sides = {side: data_summary.of_shots(shots, bins) for side, shots in groups.items()}
    if args.plot is not None:
        atomic_write_bytes(args.plot, data_summary.draw(sides, bins))
    if args.json:
        out = {name: side.as_dict() for name, side in sides.items()}
        print(json.dumps({"split": None if division is None else division.as_dict(), **out}, indent=1))
        return 0
    for text in found.notes:
        console.note(text)
    if division is None:
        print("too few fields of view to split: training, validation and test need one each")
    else:
        print(f"split by {division.by}: ", end="")
        print("; ".join(f"{side} {', '.join(names)}" for side, names in division.groups.items()))
    for line in data_summary.lines(sides, bins):
        print(line)
    empty = data_summary.empty_classes(next(iter(sides.values())), bins)
    if empty:
        print(f"no image for {empty}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    recipe = datasets.named_recipe(args.recipe)
    model = models.load(args.model, runtime=args.runtime)
    card = model.card
    network = recipe.network.model_copy(update={"tile_px": card.tile_px, "input": card.input})
    optics = {} if args.optics is None else {"optics": args.optics}
    if optics and not datasets.is_synthetic(args.data):
        raise InputError("--optics has a meaning for synthetic data only: images have theirs")
    recipe = recipe.model_copy(update={"network": network, "data": recipe.data.model_copy(update=optics)})
    with pool.opened(args.scheduler) as processes, options.bars() as progress:
        data = datasets.held_out(
            args.data,
            recipe,
            processes,
            assumed=options.assumed(args),
            split_file=args.split,
            progress=progress,
        )
    out = report(model, data)
    if args.json:
        print(json.dumps({"model": args.model, "runtime": model.runtime, **out}, indent=1))
        return 0
    print(f"{model.name} ({model.runtime}), {len(data)} tiles of {out['frames']['n']} frames")
    _table({"tiles": out["tiles"], "frames": out["frames"], **out["frames_by_kind"]})
    return 0


def report(model: models.Model, data: TileData) -> dict[str, Any]:
    """``tiles`` and ``frames``, each `evaluate.figures`; and of the frames `evaluate.by_kind`,
    `evaluate.by_distance` and `evaluate.reliability`.
    """
    card = model.card
    bins = Bins.of_centres(model.bin_centres, card.unit)
    data.truth(bins.unit)
    with Bar("tiles", len(data)) as bar:
        logits = evaluate.infer(model, data, progress=bar.advance)
    tiles = evaluate.of_tiles(logits, data, bins, card.temperature)
    frames = evaluate.of_frames(logits, data, bins, card.temperature, card.tile_weight)
    return {
        "tiles": evaluate.figures(tiles),
        "frames": evaluate.figures(frames),
        "frames_by_kind": evaluate.by_kind(frames, data.kinds),
        "frames_by_distance": evaluate.by_distance(frames),
        "reliability": evaluate.reliability(frames),
    }


def _table(rows: dict[str, dict[str, float]]) -> None:
    columns = list(rows["tiles"])
    width = max(len(name) for name in rows)
    print(" " * width, *(f"{c:>5}" for c in columns))
    for name, row in rows.items():
        cells = (f"{row[c]:{max(5, len(c))}.{0 if c == 'n' else 3}f}" for c in columns)
        print(f"{name:{width}}", *cells)

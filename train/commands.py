"""`parfocal train` and `parfocal evaluate`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from edge import model as models
from edge.errors import InputError, ModelError
from edge.optics import PIXELS_PER_RESOLUTION
from edge.progress import Bar
from train import data as datasets
from train import evaluate
from train.recipe import LARGEST_SEED, MOST_EPOCHS, Recipe
from train.synthetic import Split, TileData

_WEIGHTS_HELP = "imagenet (Keras fetches them), scratch, or an .npz of MobileNetV2 1.00 without top"
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of command ``name``."""
    add = parser.add_argument
    if name == "train":
        add("data", nargs="+", metavar="DATA", help="'synthetic', or z-stack folders (or folders of them)")
        add("--out", type=Path, required=True, metavar="RUN", help="run folder; must not exist, or be empty")
        add("--network", choices=["mobilenetv2"], default="mobilenetv2")
        add("--recipe", default="parfocal", help="a shipped recipe, or the path of a .toml")
        add("--labels", choices=["dof"], default="dof", help="bins in depths of field")
        add("--weights", default="imagenet", help=_WEIGHTS_HELP)
        add("--epochs", type=int, metavar="N", help="instead of the recipe's")
        add("--seed", type=int, metavar="N", help="instead of the recipe's")
    else:
        add("model", metavar="MODEL", help="a .tflite with its card, or 'default'")
        add("data", nargs="+", metavar="DATA", help="z-stacks (all of them), or 'synthetic': the test split")
        add("--recipe", default="parfocal", help="whose test split 'synthetic' means")
        runtimes = [module for module, _ in models.RUNTIMES]
        add("--runtime", choices=runtimes, help="TFLite runtime; default the best here")
        add("--json", action="store_true")
    add("--step-um", type=float, default=1.0, help="µm of a plane where a stack has plane numbers")


def run(name: str, args: argparse.Namespace) -> int:
    """Carry out command ``name``; returns the exit code. Raises InputError for bad input."""
    return _train(args) if name == "train" else _evaluate(args)


def load_with_bar(sources: list[str], recipe: Recipe, split: Split, step_um: float) -> TileData:
    """`train.data.load_split` on all processors, with a progress bar."""
    with Bar(f"{split} fields", datasets.field_count(sources, recipe, split)) as bar:
        return datasets.load_split(
            sources, recipe, split, processes=os.cpu_count() or 1, step_um=step_um, progress=bar.advance
        )


def _train(args: argparse.Namespace) -> int:
    recipe = _chosen_recipe(args)
    _check_out(args.out)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from train import network, run_folder  # TensorFlow: only now, when everything else was right

    seed = recipe.data.seed
    model = network.build(recipe.network, args.weights, seed=seed)
    splits = {split: load_with_bar(args.data, recipe, split, args.step_um) for split in _SPLITS}
    run_folder.write(args.out, model, splits, recipe, sources=args.data, weights=args.weights, seed=seed)
    print(f"{args.out}: trained; now: parfocal convert {args.out} --out model.tflite")
    return 0


def _chosen_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says instead. Raises InputError."""
    recipe = datasets.named_recipe(args.recipe)
    epochs = recipe.fit.epochs if args.epochs is None else args.epochs
    if not 1 <= epochs <= MOST_EPOCHS:
        raise InputError(f"--epochs {epochs}: 1 to {MOST_EPOCHS} is allowed")
    seed = recipe.data.seed if args.seed is None else args.seed
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed}: 0 to {LARGEST_SEED} is allowed")
    fit, data = (
        recipe.fit.model_copy(update={"epochs": epochs}),
        recipe.data.model_copy(update={"seed": seed}),
    )
    return recipe.model_copy(update={"fit": fit, "data": data})


def _check_out(out: Path) -> None:
    """Raise InputError where ``out`` holds something or cannot be a folder: now, and not after the data."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an empty folder; nothing was overwritten")
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{out}: cannot be created: {above} is not a folder that can be written to")


def _evaluate(args: argparse.Namespace) -> int:
    recipe = datasets.named_recipe(args.recipe)
    model = models.load(args.model, runtime=args.runtime)
    card = model.card
    if card.unit != "dof" or card.pixels_per_resolution != PIXELS_PER_RESOLUTION:
        raise ModelError(
            f"{model.name}: only models with bins in dof and {PIXELS_PER_RESOLUTION:g} pixels per resolution"
            " can be evaluated so far"
        )
    network = recipe.network.model_copy(update={"tile_px": card.tile_px})
    recipe = recipe.model_copy(update={"network": network})
    if datasets.SYNTHETIC in args.data:
        data = load_with_bar(args.data, recipe, "test", args.step_um)
    else:
        with Bar("stacks", None) as bar:
            sources = [Path(source) for source in args.data]
            data = datasets.all_stacks(sources, recipe, step_um=args.step_um, progress=bar.advance)
    out = report(model, data)
    if args.json:
        print(json.dumps({"model": model.name, "runtime": model.runtime, **out}, indent=1))
        return 0
    print(f"{model.name} ({model.runtime}), {len(data)} tiles of {out['frames']['n']} frames")
    _table({"tiles": out["tiles"], "frames": out["frames"], **out["frames_by_kind"]})
    return 0


def report(model: models.Model, data: TileData) -> dict[str, Any]:
    """``tiles`` and ``frames``, each `evaluate.figures`, and ``frames_by_kind``: those of each specimen."""
    with Bar("tiles", len(data)) as bar:
        logits = evaluate.infer(model, data, progress=bar.advance)
    card, centres = model.card, model.bin_centres
    tiles = evaluate.of_tiles(logits, data, centres, card.temperature)
    frames = evaluate.of_frames(logits, data, centres, card.temperature, card.tile_weight)
    return {
        "tiles": evaluate.figures(tiles),
        "frames": evaluate.figures(frames),
        "frames_by_kind": evaluate.by_kind(frames, data.kinds),
    }


def _table(rows: dict[str, dict[str, float]]) -> None:
    columns = list(rows["tiles"])
    width = max(len(name) for name in rows)
    print(" " * width, *(f"{c:>5}" for c in columns))
    for name, row in rows.items():
        cells = (f"{row[c]:{max(5, len(c))}.{0 if c == 'n' else 3}f}" for c in columns)
        print(f"{name:{width}}", *cells)

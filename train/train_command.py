"""`parfocal train`: from data to a run folder."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import console
from edge.errors import InputError, one_line
from edge.progress import Bar
from train import data as datasets
from train import data_summary, options, pool, run_folder, teacher, tile_data
from train.data import Material, Plan
from train.data_summary import SideSummary
from train.labels import bins_of
from train.recipe import Recipe
from train.tile_data import TileData

_NETWORKS = ("mobilenetv2", "resnet50", "vgg16")
_WEIGHTS_HELP = (
    "imagenet (Keras fetches them), scratch, a file (.npz, .h5) of the network without its top, or the"
    " model.keras of an earlier run, to go on from"
)
_TEACHER_HELP = (
    "model.keras of trained runs: what they say of a tile makes up [fit] teacher_share of its label"
)


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    options.add_data_arguments(parser)
    options.add_split_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="RUN", help="run folder; must not exist, or be empty")
    add("--network", choices=_NETWORKS, help="instead of the recipe's")
    add("--size", type=int, metavar="PX", help="width of a tile, instead of the recipe's")
    add("--weights", default="imagenet", help=_WEIGHTS_HELP)
    add("--teacher", type=Path, nargs="+", default=[], metavar="FILE", help=_TEACHER_HELP)
    add("--epochs", type=int, metavar="N", help="instead of the recipe's")
    add("--resume", action="store_true", help="go on with RUN after its last whole epoch")
    add("--skip-bad", action="store_true", help="leave out images that cannot be read, naming each")
    add("--allow-empty-classes", action="store_true", help="go on where no image trains some class")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler to prepare the data on; default: here")


def run(name: str, args: argparse.Namespace) -> int:
    """Train and fill the run folder; returns the exit code. Raises InputError for bad input. Takes hours."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    recipe = options.chosen_recipe(args)
    if args.resume and (args.out / "run.json").is_file():
        print(f"{args.out}: is trained already; now: parfocal report {args.out}")
        return 0
    from train import cluster as clusters

    cluster = clusters.from_environment()
    if cluster.chief:
        _check_out(args.out, resume=args.resume)
    planned = datasets.plan(args.data, recipe, assumed=options.assumed(args), split_file=args.split)
    for text in planned.notes:
        console.note(text)
    if args.weights not in ("imagenet", "scratch") and not Path(args.weights).is_file():
        raise InputError(f"{args.weights}: no such weights file; imagenet, scratch or a file is allowed")
    teacher.check(args.teacher, recipe)
    # Keras, on TensorFlow or another: only now, when everything else was right.
    options.require_keras()
    from train import fit, network, saved_network
    from train.checkpoint import identity

    teachers = [saved_network.load_file(file, recipe.network) for file in args.teacher]
    with cluster.scope():
        model = network.build(recipe.network, args.weights, seed=recipe.data.seed, frozen=recipe.fit.frozen)
    material = _prepared(args, recipe, planned)
    sides = _described(material, planned, recipe, strict=not args.allow_empty_classes)
    train, val = material.sides["train"], material.sides["val"]
    lesson = _lesson(teachers, train)
    fitting = fit.Fitting(model, train, val, recipe, seed=recipe.data.seed, cluster=cluster, lesson=lesson)
    taught_by = [hashlib.sha256(file.read_bytes()).hexdigest() for file in args.teacher]
    known = identity(recipe.model_dump(mode="json"), args.weights, _hashes(material), *taught_by)
    if cluster.chief:
        with _disk_full(args.out):
            _begin(args.out, recipe, planned, material, sides)
    with Bar("batches", None) as bar:
        rows = fitting.run(
            args.out,
            known,
            resume=args.resume,
            on_epoch=lambda row: print(_epoch_line(row, recipe.fit.epochs), flush=True),
            on_batch=bar.of,
        )
    if cluster.chief:
        with _disk_full(args.out):
            model.save(args.out / "model.keras")
            _finish(args, recipe, planned, material, sides, rows, model.count_params(), taught_by)
        print(f"{args.out}: trained; now: parfocal report {args.out}")
        print(f"  or a model for the device: parfocal convert {args.out} --out model.tflite")
    return 0


def _prepared(args: argparse.Namespace, recipe: Recipe, planned: Plan) -> Material:
    """The sides of the split as tiles, each image that was left out named."""
    with pool.opened(args.scheduler) as processes, options.bars() as progress:
        material = datasets.prepare(planned, recipe, processes, skip_bad=args.skip_bad, progress=progress)
    for name in material.bad:
        console.note(f"left out: {name}: cannot be read")
    return material


def _described(material: Material, planned: Plan, recipe: Recipe, *, strict: bool) -> dict[str, SideSummary]:
    """Print what each side holds. Raises InputError for classes that nothing would train where ``strict``."""
    bins = bins_of(recipe.network)
    sides = {
        side: data_summary.of_tiles(data, bins, planned.shots.get(side))
        for side, data in material.sides.items()
    }
    for line in data_summary.lines(sides, bins):
        print(line)
    empty = data_summary.empty_classes(sides["train"], bins)
    if empty and strict and (recipe.network.labels == "jiang41" or recipe.fit.label_sigma_dof == 0):
        raise InputError(f"no image would train {empty}: other --labels, or --allow-empty-classes")
    if empty:
        console.note(f"no image trains {empty}")
    return sides


def _lesson(teachers: list[Any], train: TileData) -> NDArray[np.float32] | None:
    """What ``teachers``, where there are any, say of the training tiles. Blocks for minutes."""
    if not teachers:
        return None
    with Bar("tiles taught", len(teachers) * len(train)) as bar:
        return teacher.lesson(teachers, train, progress=bar.advance)


def _hashes(material: Material) -> object:
    return {side: run_folder.summary(data)["sha256"] for side, data in material.sides.items()}


def _begin(
    out: Path, recipe: Recipe, planned: Plan, material: Material, summaries: dict[str, SideSummary]
) -> None:
    """Everything of the run folder that is known before fitting."""
    from train.fit import calibration_tiles

    out.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(out / "recipe.json", recipe.model_dump(mode="json"))
    by_specimen = {"by": "specimen", "seed": recipe.data.seed, "hashes": _hashes(material)}
    division = planned.division
    run_folder.write_json(out / "split.json", by_specimen if division is None else division.as_dict())
    data_summary.write(out, summaries, bins_of(recipe.network))
    sample = calibration_tiles(material.sides["train"], run_folder.CALIBRATION_TILES, 20, recipe.data.seed)
    np.save(out / "calibration.npy", sample)
    for side, data in material.sides.items():
        if side != "train":
            tile_data.save(out / f"{side}.npz", data)


def _finish(
    args: argparse.Namespace,
    recipe: Recipe,
    planned: Plan,
    material: Material,
    summaries: dict[str, SideSummary],
    rows: list[dict[str, float]],
    parameters: int,
    taught_by: list[str],
) -> None:
    """``run.json``, last; then what the run would have been resumed from goes."""
    import keras

    seconds = sum(row["seconds"] for row in rows)
    record = {
        "recipe": recipe.name,
        "sources": args.data,
        "weights": Path(args.weights).name,
        "taught_by": taught_by,
        "seed": recipe.data.seed,
        "parameters": parameters,
        "counts": {side: summary.images for side, summary in summaries.items()},
        "pixels_per_resolution": material.pixels_per_resolution,
        "wait_share": sum(row["wait_share"] * row["seconds"] for row in rows) / seconds,
        "left_out": material.bad,
        "notes": planned.notes,
        "finished": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        "keras": keras.version(),
        "backend": keras.backend.backend(),
    }
    run_folder.write_json(args.out / "run.json", record)
    for name in run_folder.TO_RESUME:
        (args.out / name).unlink(missing_ok=True)


def _epoch_line(row: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {row['epoch'] + 1:.0f}/{epochs}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f};"
        f" validation: loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f},"
        f" mean error {row['val_mae_dof']:.2f} dof; {row['images_per_s']:.0f} tiles/s,"
        f" {100 * row['wait_share']:.1f} % waiting for data"
    )


@contextlib.contextmanager
def _disk_full(out: Path) -> Iterator[None]:
    """A full disk is one line that says what is kept, whatever a library makes of it."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py has errors of its own
        raise InputError(
            f"{out}: cannot be written: {one_line(error)}; the checkpoint, if there is one, is kept: make"
            " room, then --resume"
        ) from error


def _check_out(out: Path, *, resume: bool) -> None:
    """Raise InputError where ``out`` holds something or cannot be a folder: now, and not after the data."""
    if resume:
        if not (out / "recipe.json").is_file():
            raise InputError(f"{out}: no run to resume: it has no recipe.json")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        begun = " (a run that was begun goes on with --resume)" if (out / "recipe.json").is_file() else ""
        raise InputError(f"{out}: exists and is not an empty folder; nothing was overwritten{begun}")
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{out}: cannot be created: {above} is not a folder that can be written to")

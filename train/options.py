"""What the desktop commands share: options about data and recipe, and bars while data is read."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.errors import InputError, one_line
from edge.progress import Bar
from train import data as datasets
from train.assumed import Assumed
from train.recipe import LARGEST_SEED, MOST_EPOCHS, Recipe, parse_recipe

IMAGES_HELP = "a folder in the layout of the Jiang 2018 data, or z-stacks (or folders of them)"


def add_data_arguments(parser: argparse.ArgumentParser, *, synthetic: bool = True) -> None:
    """DATA, and what stands in where it does not say something."""
    add = parser.add_argument
    add("data", nargs="+", metavar="DATA", help="'synthetic', " + IMAGES_HELP if synthetic else IMAGES_HELP)
    text = "a shipped recipe (parfocal, default, drawn, paper), or the path of a .toml"
    add("--recipe", default="parfocal", help=text)
    add("--step-um", type=float, default=1.0, help="µm of a plane where a stack has plane numbers")
    add("--objective", metavar="MxNA", help="where the data does not state it")
    add("--pixel-um", type=float, metavar="U", help="object-side pixel, where the data does not state it")


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Which labels, and which side an image is on."""
    add = parser.add_argument
    add("--labels", choices=["jiang41", "um", "dof"], help="instead of the recipe's")
    add("--seed", type=int, metavar="N", help="instead of the recipe's")
    add("--split", type=Path, metavar="FILE", help="the split.json of another run, or one of your own")


def require_keras() -> None:
    """Import Keras and the backend that the environment names. Raises InputError where that is not there.

    A missing TensorFlow or Keras stays an ImportError, which `edge.cli` explains.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    try:
        import keras  # noqa: F401
    except ImportError as error:
        if backend == "tensorflow" or error.name == "keras":
            raise
        raise InputError(f"KERAS_BACKEND={backend}: {error.name} is not installed here") from error
    except ValueError as error:
        raise InputError(f"KERAS_BACKEND={one_line(backend)}: tensorflow, jax or torch is allowed") from error


def assumed(args: argparse.Namespace) -> Assumed:
    """The command line's stand-ins. Raises InputError for an objective that cannot be read."""
    return Assumed(args.step_um, args.objective, args.pixel_um)


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A progress bar for each side, one after the other."""
    with contextlib.ExitStack() as shown:

        def begin(side: str, count: int) -> Callable[[], None]:
            shown.close()
            return shown.enter_context(Bar(f"{side} fields", count)).advance

        yield begin


def chosen_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says instead. Raises InputError."""
    recipe = datasets.named_recipe(args.recipe)
    given = vars(args)
    seed, epochs = given.get("seed"), given.get("epochs")
    if epochs is not None and not 1 <= epochs <= MOST_EPOCHS:
        raise InputError(f"--epochs {epochs}: 1 to {MOST_EPOCHS} is allowed")
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed}: 0 to {LARGEST_SEED} is allowed")
    values = recipe.model_dump(mode="json")
    instead = {
        ("data", "seed"): seed,
        ("fit", "epochs"): epochs,
        ("network", "base"): given.get("network"),
        ("network", "tile_px"): given.get("size"),
        ("network", "labels"): given.get("labels"),
    }
    for (section, key), value in instead.items():
        if value is not None:
            values[section][key] = value
    if given.get("network") not in (None, recipe.network.base):
        values["network"]["cut"] = None  # a block of another network
    if recipe.fit.flips is None:
        varied = datasets.is_synthetic(args.data) and recipe.data.optics == "random"
        values["fit"]["flips"] = varied
    return parse_recipe(values, source="command line")

"""Other first blocks for a trained network: fitted to give what its own gave, before all of it is trained on.

    python -m train.graft synthetic --recipe default-graft --onto RUN/model.keras --out GRAFT.keras

Layers of the same name and shapes are taken over as they are. What comes before the first of the later blocks
is fitted to what the trained network gives there, place by place and channel by channel (Romero et al.,
FitNets: Hints for thin deep nets, ICLR 2015): the many places of a tile teach more than its one
defocus. `parfocal train --weights GRAFT.keras` then goes on with the labels.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, one_line
from train import data as datasets
from train import options, pool, saved_network
from train.batches import Batches, Waiting
from train.recipe import Recipe
from train.tile_data import TileData, floats

Array = NDArray[np.float32]
_JUDGED = 2000


def take_over(new: Any, trained: Any) -> list[str]:
    """Give ``new`` the weights of ``trained`` where layers have the same name and shapes.

    Both are `train.network.build`'s. Returns the names of the layers that keep what they were drawn with.
    """
    theirs = {layer.name: layer.get_weights() for layer in _layers(trained)}
    drawn = []
    for layer in _layers(new):
        ours, given = layer.get_weights(), theirs.get(layer.name)
        if given is not None and [w.shape for w in ours] == [w.shape for w in given]:
            layer.set_weights(given)
        elif ours:
            drawn.append(layer.name)
    return drawn


def _layers(network: Any) -> list[Any]:
    found: list[Any] = []
    for layer in network.layers:
        found += _layers(layer) if hasattr(layer, "layers") else [layer]
    return found


def fronts(new: Any, trained: Any, blocks: int) -> tuple[Any, Any]:
    """Both networks from the tile to what their first ``blocks`` blocks give; layers shared with them."""
    import keras

    found = []
    for network in (new, trained):
        [body] = [layer for layer in network.layers if hasattr(layer, "layers")]
        names = {layer.name for layer in body.layers}
        ends = [name for name in (f"block_{blocks}_add", f"block_{blocks}_project_BN") if name in names]
        if not ends:
            raise InputError(f"--onto: it has no block {blocks}, which the recipe's fused blocks end with")
        found.append(keras.Model(body.input, body.get_layer(ends[0]).output))
    if found[0].output_shape != found[1].output_shape:
        raise InputError(
            f"--onto: its first {blocks} blocks give {found[1].output_shape[1:]}: the recipe's,"
            f" {found[0].output_shape[1:]}, must be the same"
        )
    return found[0], found[1]


def fit(front: Any, wanted: Any, train: TileData, val: TileData, recipe: Recipe) -> list[float]:
    """Fit ``front`` to what ``wanted`` gives for the training tiles, as the recipe's [fit] says.

    Returns, after each epoch, the share of the variance of ``wanted``'s channels on ``val`` that is not
    explained: 0 is a copy. Prints a line for each. Blocks for minutes.
    """
    import keras

    from train.fit import optimizer

    batches = Batches(train, recipe, recipe.data.seed, train=True)
    held_out = floats(val.pixels[:: max(1, len(val) // _JUDGED)])
    targets = _run(wanted, held_out)
    deviation = targets.std(axis=(0, 1, 2)) + 1e-6
    wanted.trainable = False

    def apart(target: Any, given: Any) -> Any:
        return keras.ops.mean(keras.ops.square((given - target) / deviation))

    front.compile(optimizer(recipe.fit, len(batches)), loss=apart)
    left = []
    for epoch in range(recipe.fit.epochs):
        for x, _ in batches.epoch(epoch, Waiting()):
            front.train_on_batch(x, wanted.predict_on_batch(x))
        left.append(float(np.square((_run(front, held_out) - targets) / deviation).mean()))
        print(f"epoch {epoch + 1}/{recipe.fit.epochs}: {100 * left[-1]:.1f} % not explained", flush=True)
    return left


def _run(network: Any, x: Array) -> Array:
    parts = [np.asarray(network.predict_on_batch(x[k : k + 64]), np.float32) for k in range(0, len(x), 64)]
    return np.concatenate(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and write; for bad input one line, and return 2. Takes as long as the data and its epochs."""
    parser = argparse.ArgumentParser(prog="python -m train.graft", description=__doc__)
    options.add_data_arguments(parser)
    options.add_split_arguments(parser)
    parser.add_argument(
        "--onto", type=Path, required=True, metavar="FILE", help="model.keras of a trained run"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .keras file, not there yet"
    )
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _graft(args)
    except InputError as error:
        print(f"graft: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _graft(args: argparse.Namespace) -> None:
    recipe = options.chosen_recipe(args)
    if not recipe.network.fused:
        raise InputError(f"--recipe {args.recipe}: one whose [network] has fused blocks is needed")
    if args.out.suffix != ".keras" or args.out.exists() or not args.out.absolute().parent.is_dir():
        raise InputError(
            f"--out {args.out}: a .keras file in a folder that is there, and not itself, is allowed"
        )
    planned = datasets.plan(args.data, recipe, assumed=options.assumed(args), split_file=args.split)
    trained = saved_network.load_file(args.onto, recipe.network)
    from train.network import build

    new = build(recipe.network, "scratch", seed=recipe.data.seed)
    drawn = take_over(new, trained)
    blocks = sum(row[2] for row in recipe.network.blocks[: recipe.network.fused])
    front, wanted = fronts(new, trained, blocks)
    unfitted = set(drawn) - {layer.name for layer in front.layers}
    if unfitted:
        raise InputError(
            f"--onto {args.onto}: {', '.join(sorted(unfitted))}: of other shapes than the recipe's; only the"
            " fused blocks may differ"
        )
    print(f"drawn, and fitted now: {', '.join(drawn)}")
    with pool.opened(None) as processes, options.bars() as progress:
        material = datasets.prepare(planned, recipe, processes, progress=progress)
    fit(front, wanted, material.sides["train"], material.sides["val"], recipe)
    new.save(args.out)
    print(f"{args.out}: written; now: parfocal train … --weights {args.out}")


if __name__ == "__main__":
    raise SystemExit(main())

"""How fast a model is, beside what people know: all tiles of a frame against one stock MobileNetV2.

    python -m convert.speed default

The stock network is Keras' MobileNetV2 1.0 for 224 px and 1000 classes, in int8 by the same converter. Its
weights are drawn, not trained: they change nothing about the time. Everything runs on one thread, in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge import card as cards
from edge import model as models
from edge.bench.timing import interleaved, machine
from edge.errors import InputError, one_line
from edge.optics import Objective, Optics, natural_pixel_um
from edge.simulator.recording import exposures, microscope
from edge.simulator.specimens import make

STOCK_PX, STOCK_CLASSES = 224, 1000


def stock(seed: int = 0) -> tuple[models.Model, models.Model]:
    """Stock MobileNetV2 1.0 at 224 px in int8 and in float32, behind a card that fits. Takes a minute."""
    import keras

    from convert import quantize

    keras.utils.set_random_seed(seed)
    network = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    noise = np.random.default_rng(seed).integers(-127, 128, (8, STOCK_PX, STOCK_PX, 3)).astype(np.int8)
    flatbuffer, reference = (quantize.to_tflite(network, sample) for sample in (noise, None))
    card = cards.Card(
        schema_version=cards.PLAIN_SCHEMA,
        name="stock",
        tile_px=STOCK_PX,
        pixels_per_resolution=4.0,
        bin_centres=tuple(float(k) for k in range(STOCK_CLASSES)),
        unit="dof",
        temperature=1.0,
        tile_weight=1.0,
        trained_on="nothing",
        trained_at="never",
        recipe={},
        metrics={},
        flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest(),
    )
    return models.Model(flatbuffer, card, name="stock, int8"), models.Model(reference, card, name="stock")


def measure(
    model: models.Model, reference: models.Model, reference_float: models.Model, *, rounds: int = 40
) -> dict[str, Any]:
    """Median ms and ratios of ``model``'s tiles of one frame, and of a whole look, to one ``reference``.

    How much faster ``reference`` is than itself in float tells what this machine makes of int8.

    The frame is 384 x 384 px of a simulated stained tissue, 2 dof out of focus, which gives as many tiles as
    the recipe allows a frame, or InputError. Blocks for seconds.
    """
    objective = Objective(20, 0.4)
    optics = Optics(objective, natural_pixel_um(objective))
    rng = np.random.default_rng(1)
    imaging, sensor = microscope(objective, None)
    [frame] = exposures(make("tissue", (384, 384), 1), imaging, sensor, [2.0], rng)
    most = int(model.card.recipe.get("network", {}).get("tiles_per_frame", 9))
    tiles = model.look(frame, optics, most_tiles=most).tiles
    if tiles < most:
        raise InputError(f"{model.name}: {tiles} of {most} tiles of the frame tell something: all are needed")
    pixels = rng.uniform(-1, 1, (tiles, model.card.tile_px, model.card.tile_px, 3)).astype(np.float32)
    picture = rng.uniform(-1, 1, (1, STOCK_PX, STOCK_PX, 3)).astype(np.float32)
    work: dict[str, Callable[[], object]] = {
        "stock": lambda: reference.infer(picture),
        "stock_float": lambda: reference_float.infer(picture),
        "tiles": lambda: model.infer(pixels),
        "look": lambda: model.look(frame, optics, most_tiles=most),
    }
    took = interleaved(work, rounds=rounds)
    return {
        "machine": machine(),
        "runtime": model.runtime,
        "tiles": tiles,
        "ms": {name: timing.as_dict() for name, timing in took.items()},
        "tiles_over_stock": took["tiles"].median_ms / took["stock"].median_ms,
        "look_over_stock": took["look"].median_ms / took["stock"].median_ms,
        "stock_speedup": took["stock_float"].median_ms / took["stock"].median_ms,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; for bad input one line, and return 2."""
    parser = argparse.ArgumentParser(prog="python -m convert.speed", description=__doc__)
    parser.add_argument("model", help="a .tflite with its card, or 'default'")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        found = measure(models.load(args.model), *stock())
    except InputError as error:
        print(f"speed: {one_line(error)}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{found['machine']}, {found['runtime']}, one thread")
    ms = {name: timing["median_ms"] for name, timing in found["ms"].items()}
    speedup = found["stock_speedup"]
    print(
        f"stock MobileNetV2 1.0, 224 px, int8: {ms['stock']:.2f} ms, {speedup:.2f} times as fast as in float"
    )
    print(f"{found['tiles']} tiles of a frame: {ms['tiles']:.2f} ms, {found['tiles_over_stock']:.2f} of it")
    print(f"cut, inferred and combined: {ms['look']:.2f} ms, {found['look_over_stock']:.2f} of it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

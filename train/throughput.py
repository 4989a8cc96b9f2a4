"""How many images a second a training takes, with one and with more processor threads.

    python -m train.throughput [--json]

The shipped recipe's network on tiles of noise, whose values change nothing about the time. Each number of
threads runs in a process of its own, since TensorFlow takes it at its start; in turns, and twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.bench.timing import machine

_RECIPE = Path(__file__).parent / "recipes" / "parfocal.toml"
WARM_UP, STEPS, ROUNDS = 3, 12, 2


def images_per_s(threads: int, *, steps: int = STEPS) -> float:
    """Images a second in this process, which has not computed anything yet. Blocks."""
    import keras
    import tensorflow as tf

    from train.labels import bins_of
    from train.network import build
    from train.recipe import load_recipe

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    recipe = load_recipe(_RECIPE)
    model = build(recipe.network, "scratch", seed=0)
    logits = keras.Model(model.input, model.output["logits"])
    logits.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    rng, size = np.random.default_rng(0), recipe.fit.batch
    side = recipe.network.tile_px
    x = rng.uniform(-1, 1, (size, side, side, 3)).astype(np.float32)
    bins = len(bins_of(recipe.network))
    y = np.eye(bins, dtype=np.float32)[rng.integers(0, bins, size)]
    for _ in range(WARM_UP):
        logits.train_on_batch(x, y)
    began_s = time.perf_counter()
    for _ in range(steps):
        logits.train_on_batch(x, y)
    return steps * size / (time.perf_counter() - began_s)


def measure(counts: Sequence[int]) -> dict[str, float]:
    """Images a second by number of threads, the best of `ROUNDS` processes each."""
    best = dict.fromkeys(map(str, counts), 0.0)
    for _ in range(ROUNDS):
        for count in counts:
            command = [sys.executable, "-m", "train.throughput", "--threads", str(count)]
            done = subprocess.run(
                command,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )
            best[str(count)] = max(best[str(count)], float(done.stdout.split()[-1]))
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; with ``--threads`` those of this process alone."""
    parser = argparse.ArgumentParser(prog="python -m train.throughput", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, help="measure in this process with so many threads")
    args = parser.parse_args(argv)
    if args.threads is not None:
        print(images_per_s(args.threads))
        return 0
    most = os.cpu_count() or 1
    found = measure(sorted({1, most, *(2**k for k in range(1, most.bit_length()) if 2**k <= most)}))
    if args.json:
        print(json.dumps({"machine": machine(), "recipe": _RECIPE.name, "images_per_s": found}, indent=1))
    else:
        for count, rate in found.items():
            print(f"{count} threads: {rate:.0f} images/s, {rate / found['1']:.2f} times one")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""One run on trial for a comparison: its float network judged, its int8 file made, judged and timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from convert.commands import card_of
from edge import card as cards
from edge.bench.timing import ROUNDS, WARM_UP, Timing, interleaved
from edge.model import Model
from edge.progress import Bar
from train import evaluate, metrics, saved_network
from train.judge import Judged, judge, predict, side_of
from train.network_size import size_of
from train.recipe import Fit
from train.run_folder import Run
from train.tile_data import floats


@dataclass(frozen=True)
class Trial:
    """``found``: `train.metrics.of_run` of the float network; ``int8``: `train.metrics.figures` of the file.

    ``flatbuffer``: the int8 file without its card. ``image`` ``(N, S, S, 3)`` float32: the tiles of a test
    image that has as many as the median one.
    """

    name: str
    folder: Path
    found: dict[str, Any]
    int8: dict[str, Any]
    flatbuffer: bytes
    card: cards.Card
    image: NDArray[np.float32]
    log: tuple[dict[str, float], ...]
    fit: Fit


def put_to_trial(read: Run, name: str) -> Trial:
    """Judge the network of ``read`` and its int8 file. Imports TensorFlow; blocks for minutes.

    The int8 file is judged with the temperature and the tile weight of the float network. Raises InputError
    for an unreadable network, ModelError where the file is not integer all through.
    """
    from convert import quantize, verify

    network = saved_network.load(read.folder, read.recipe.network)
    judged = judge(read, predict(read, network))
    found = metrics.of_run(read, judged, size_of(network))
    flatbuffer = quantize.int8_of(read, network)
    verify.check_integer(flatbuffer)
    fitted = {"temperature": judged.temperature, "tile_weight": judged.tile_weight}
    card = msgspec.structs.replace(card_of(flatbuffer, read, judged.bins), **fitted)
    model = Model(flatbuffer, card, name=f"{name} (int8)", threads=os.cpu_count() or 1)
    with Bar("int8 tiles", len(read.test)) as bar:
        logits = evaluate.infer(model, read.test, progress=bar.advance)
    int8 = side_of(logits, read.test, judged.bins, judged.temperature, judged.tile_weight)
    return Trial(
        name,
        read.folder,
        found,
        metrics.figures(int8.images),
        flatbuffer,
        card,
        _median_image(judged),
        read.log,
        read.recipe.fit,
    )


def time_all(
    trials: Sequence[Trial], *, rounds: int = ROUNDS, warm_up: int = WARM_UP
) -> tuple[dict[str, dict[str, Timing]], str]:
    """Latency of one ``tile`` and one ``image`` of every trial by name, in turns, on one thread; the runtime.

    A latency is from float tiles in memory to logits in memory: quantizing is in it, cutting the frame into
    tiles is not. Blocks.
    """
    models = {trial.name: Model(trial.flatbuffer, trial.card, name=trial.name, threads=1) for trial in trials}
    work: dict[str, Callable[[], object]] = {}
    for trial in trials:
        work[f"{trial.name} tile"] = _look(models[trial.name], trial.image[:1])
        if len(trial.image) > 1:
            work[f"{trial.name} image"] = _look(models[trial.name], trial.image)
    with Bar("rounds of timing", rounds + warm_up) as bar:
        taken = interleaved(work, rounds=rounds, warm_up=warm_up, progress=bar.advance)
    timings = {}
    for trial in trials:
        tile = taken[f"{trial.name} tile"]
        timings[trial.name] = {"tile": tile, "image": taken.get(f"{trial.name} image", tile)}
    return timings, next(iter(models.values())).runtime


def _look(model: Model, tiles: NDArray[np.float32]) -> Callable[[], object]:
    return lambda: model.infer(tiles)


def _median_image(judged: Judged) -> NDArray[np.float32]:
    data, per_image = judged.test.data, judged.test.tiles_per_image
    middle = int(np.abs(per_image - np.median(per_image)).argmin())
    frames = np.unique(data.frame)
    return floats(data.pixels[data.frame == frames[middle]])


def as_json(trial: Trial, timings: Mapping[str, Timing]) -> dict[str, Any]:
    """What compare.json says of one run: its metrics, and those of its int8 file under "int8"."""
    int8 = trial.int8 | {
        "file_bytes": len(trial.flatbuffer),
        "latency_tile_ms": timings["tile"].as_dict(),
        "latency_image_ms": timings["image"].as_dict(),
        "tiles_in_image": len(trial.image),
    }
    return {"name": trial.name, "folder": str(trial.folder), **trial.found, "int8": int8}

"""`parfocal bench latency`: what a look and a move cost on this machine, stage by stage.

On the simulated rig the camera's and the motor's stages are what they are told to take; computing is real.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge import card as cards
from edge import model as models
from edge.bench import board, stages
from edge.bench.figures import network_of
from edge.bench.float_twin import float_twin
from edge.bench.timing import WARM_UP, percentiles_ms
from edge.config import Config
from edge.doctor.machine import Machine
from edge.errors import InputError, ModelError
from edge.rig import Rig

__all__ = ["Plan", "measure"]

#: A point of the sustained run is the median over so long.
_POINT_S = 1.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    looks: int = 200
    warm_up: int = 10
    step_um: float = 5.0
    threads: tuple[int, ...] = (1, 2, 4)
    rounds: int = 40
    """Frames inferred by each number of threads, int8 and float, in turns."""
    sustained_s: float = 30.0


def measure(
    rig: Rig, config: Config, plan: Plan, *, progress: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """The document of ``--json``. ``rig`` is entered, on the real clock; MOVES its stage to and fro.

    Raises InputError, with nothing moved, where the frame shows nothing: without tiles nothing is timed.
    """
    machine = Machine()
    before = board.health(machine)
    model = models.load(config.model.path, threads=config.model.threads)
    frame = rig.camera.capture(rig.clock.now_s()).image

    def look(at_it: models.Model) -> models.Look:
        return at_it.look(frame, rig.optics, most_tiles=config.model.tiles)

    tiles = look(model).tiles
    if not tiles:
        raise InputError("the frame shows no specimen: there are no tiles to infer, and nothing to time")
    progress("stages of a look")
    taken = stages.measure(rig, model, config, looks=plan.looks, warm_up=plan.warm_up, step_um=plan.step_um)
    around = np.sum([taken[name] for name in stages.AROUND], axis=0) / taken["inference"]
    progress("threads, int8 and float")
    networks = _networks(config.model.path, plan, look)
    progress("sustained")
    sustained = _sustained(lambda: look(model), plan.sustained_s, machine)
    return {
        "simulated": rig.name == "simulated" or bool(rig.assumptions),
        "rig": rig.name,
        "machine": board.about(machine),
        "model": {
            **network_of(config.model.path),
            "runtime": model.runtime,
            "threads": config.model.threads,
            "tiles": tiles,
            "frame": list(frame.shape[:2]),
        },
        "looks": plan.looks,
        "warm_up": plan.warm_up,
        "step_um": plan.step_um,
        "stages_ms": {name: percentiles_ms(times) for name, times in taken.items()},
        "look_ms": percentiles_ms(np.sum([taken[name] for name in stages.LOOK], axis=0).tolist()),
        "around_invoke": {"median": float(np.median(around)), "p95": float(np.percentile(around, 95))},
        "networks": networks,
        "sustained": sustained,
        "health": {"before": before, "after": board.health(machine)},
        "memory_mb": board.memory_mb(machine),
    }


def _networks(
    path: str, plan: Plan, look: Callable[[models.Model], object]
) -> dict[str, dict[str, dict[str, Any]] | None]:
    """Milliseconds for all tiles of a frame by kind and threads, in turns; a kind that cannot be is None."""
    flatbuffer, card = cards.read(models.file_of(path))
    made: dict[tuple[str, int], stages.TimedModel] = {}
    for kind, bytes_ in (("int8", flatbuffer), ("float", _float_twin(flatbuffer))):
        if bytes_ is None:
            continue
        for threads in plan.threads:
            model = models.Model(bytes_, card, name=f"{kind}, {threads} threads", threads=threads)
            made[kind, threads] = stages.TimedModel(model, defaultdict(float))
    keys = list(made)
    taken: dict[tuple[str, int], tuple[list[float], list[float]]] = {key: ([], []) for key in made}
    for number in range(WARM_UP + plan.rounds):
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            model = made[key]
            model.lap.clear()
            look(model)
            if number >= WARM_UP:
                for times, name in zip(taken[key], ("inference", "tiles"), strict=True):
                    times.append(model.lap[name])
    out: dict[str, dict[str, dict[str, Any]] | None] = {"int8": None, "float": None}
    for (kind, threads), (inference, tiles) in taken.items():
        figures = {"inference_ms": percentiles_ms(inference), "tiles_ms": percentiles_ms(tiles)}
        out[kind] = {**(out[kind] or {}), str(threads): figures}
    return out


def _float_twin(flatbuffer: bytes) -> bytes | None:
    try:
        return float_twin(flatbuffer)
    except ModelError:
        return None


def _sustained(look: Callable[[], object], seconds: float, machine: Machine) -> dict[str, Any] | None:
    """Looks one after the other without a rest: does the board slow down as it gets warm?"""
    if seconds <= 0:
        return None
    began_s = time.perf_counter()
    points: list[dict[str, Any]] = []
    while (at_s := time.perf_counter() - began_s) < seconds:
        times: list[float] = []
        while time.perf_counter() - began_s < min(at_s + _POINT_S, seconds) or not times:
            start_s = time.perf_counter()
            look()
            times.append(time.perf_counter() - start_s)
        points.append({"at_s": at_s, "look_ms": 1000 * float(np.median(times)), **board.health(machine)})
    share = max(1, len(points) // 5)
    first, last = (float(np.median([p["look_ms"] for p in of])) for of in (points[:share], points[-share:]))
    return {
        "seconds": seconds,
        "first_fifth_ms": first,
        "last_fifth_ms": last,
        "slower": last / first,
        "points": points,
    }

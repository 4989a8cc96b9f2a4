"""How cost grows: with the distance of the start, with the range searched, with tiles, with processors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edge import model as models
from edge.bench import focus
from edge.bench.figures import network_of, summary
from edge.bench.timing import percentiles_ms, taken_s
from edge.config import Config
from edge.optics import Objective, Optics, natural_pixel_um
from edge.simulator.recording import exposures, microscope
from edge.simulator.specimens import make
from edge.simulator.workers import spread

__all__ = ["STARTS_DOF", "STRATEGIES", "measure"]

STRATEGIES = ("parfocal", "openflexure-fast", "brent", "oracle")
#: Starts at these distances; and one start, searched over these ranges.
STARTS_DOF = (1.0, 2.0, 4.0, 8.0, 16.0)
RANGES_DOF, START_OF_RANGES_DOF = (6.0, 12.0, 24.0, 48.0), 4.0
_FRAMES_A_JOB, _JOBS = 24, 8
#: A frame of the usual camera of 1640 x 1232 px holds more tiles than are looked at.
_FRAME_PX, _ROUNDS = 768, 15


def measure(
    config: Config, plan: focus.Plan, *, workers: int | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The document of ``--json``; ``plan``: runs of each point, seed, strategies. Takes minutes."""

    def point(of: focus.Plan) -> dict[str, Any]:
        found = focus.runs(of, config, workers=workers)
        return {name: summary([r for r in found if r.strategy == name]) for name in of.strategies}

    progress("start distance")
    by_start = {
        f"{dof:g}": point(replace(plan, start_dof=dof, range_dof=focus.RANGE_OVER_START * dof, exactly=True))
        for dof in STARTS_DOF
    }
    progress("search range")
    near = replace(plan, start_dof=START_OF_RANGES_DOF, exactly=True)
    by_range = {f"{dof:g}": point(replace(near, range_dof=dof)) for dof in RANGES_DOF}
    progress("tiles")
    tiles = _by_tiles(models.load(config.model.path, threads=config.model.threads))
    progress("processors")
    return {
        "simulated": True,
        "model": network_of(config.model.path),
        "runs": plan.count,
        "seed": plan.seed,
        "strategies": list(plan.strategies),
        "by_start_dof": by_start,
        "by_range_dof": by_range,
        "start_of_ranges_dof": START_OF_RANGES_DOF,
        "inference_by_tiles": tiles,
        "simulator_by_processes": _by_processes(plan.seed),
    }


def _by_tiles(model: models.Model) -> dict[str, dict[str, float]]:
    """Milliseconds to infer so many tiles of a large frame, one after the other, in turns."""
    objective = Objective(20, 0.4)
    optics = Optics(objective, natural_pixel_um(objective))
    imaging, sensor = microscope(objective, None)
    specimen = make("tissue", (_FRAME_PX, _FRAME_PX), 1)
    [frame] = exposures(specimen, imaging, sensor, [2.0], np.random.default_rng(1))
    most = model.look(frame, optics, most_tiles=1024).tiles
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= most]

    def looker(count: int) -> Callable[[], object]:
        return lambda: model.look(frame, optics, most_tiles=count)

    taken = taken_s({str(count): looker(count) for count in counts}, rounds=_ROUNDS)
    return {count: percentiles_ms(times) for count, times in taken.items()}


def _by_processes(seed: int) -> dict[str, dict[str, float]]:
    """Frames that the simulator renders in a second with 1, 2, 4 … processes, and against one."""
    most = os.cpu_count() or 1
    counts = sorted({1, most, *(2**k for k in range(1, most.bit_length()) if 2**k <= most)})
    out: dict[str, dict[str, float]] = {}
    for count in counts:
        began_s = time.perf_counter()
        frames = sum(spread(_render, [seed + k for k in range(_JOBS)], count))
        per_s = frames / (time.perf_counter() - began_s)
        out[str(count)] = {
            "frames_per_s": per_s,
            "against_one": per_s / out["1"]["frames_per_s"] if out else 1.0,
        }
    return out


def _render(seed: int) -> int:
    """Frames of one drawn field, its optics included, as a training takes them."""
    imaging, sensor = microscope(Objective(20, 0.4), np.random.default_rng(seed))
    depths: Sequence[float] = np.linspace(-10, 10, _FRAMES_A_JOB).tolist()
    specimen = make("tissue", (384, 384), seed)
    return sum(1 for _ in exposures(specimen, imaging, sensor, depths, np.random.default_rng(seed)))
